//! Stands in for `tls_server.rs` in a build without the cargo feature `tls`. A configuration that asks for TLS is refused.

use std::io;

use super::tls::Session;
use crate::config::{CertificateConfig, FrontConfig};

#[derive(Clone, Debug)]
pub(crate) enum TlsServer {}

impl TlsServer {
    pub(crate) fn new(_: &FrontConfig, _: Option<&Self>) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no TLS"))
    }

    pub(crate) fn session(&self) -> io::Result<Session> {
        match *self {}
    }

    pub(crate) fn show(&self, _: &[CertificateConfig]) {
        match *self {}
    }

    pub(crate) fn are_different(&self, _: &str, _: &str) -> bool {
        match *self {}
    }
}
