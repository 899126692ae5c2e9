//! Stands in for `tls_server.rs` in a build without the cargo feature `tls`. A configuration that asks for TLS is refused.

use std::convert::Infallible;
use std::io;

use super::shown::ShownCertificate;
use super::tls::Session;
use crate::config::{CertificateConfig, FrontConfig};

/// There is none. That it can't be stays in here, so that code which would use one needs no variant of its own.
#[derive(Clone, Debug)]
pub(crate) struct TlsServer(Infallible);

impl TlsServer {
    pub(crate) fn new(_: &FrontConfig, _: Option<&Self>) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no TLS"))
    }

    pub(crate) fn session(&self) -> io::Result<Session> {
        match self.0 {}
    }

    pub(crate) fn show(&self, _: &[CertificateConfig]) {
        match self.0 {}
    }

    pub(crate) fn shown(&self) -> Vec<ShownCertificate> {
        match self.0 {}
    }

    pub(crate) fn are_different(&self, _: &str, _: &str) -> bool {
        match self.0 {}
    }
}
