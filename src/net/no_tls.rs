//! Stands in for `tls.rs` in a build without the cargo feature `tls`: sessions and clients that can't exist. A
//! configuration that asks for them is refused.

use std::io;

use crate::config::TlsConfig;
use crate::error::TlsFault;
use crate::http::client_cert::ClientCert;

#[derive(Clone, Debug)]
pub(crate) enum TlsClient {}

impl TlsClient {
    pub(crate) fn new(_: &str, _: &TlsConfig) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no TLS"))
    }

    pub(crate) fn session(&self) -> io::Result<Session> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Session {}

impl Session {
    pub(crate) fn handshake(
        &mut self,
        _: impl FnMut(&mut [u8]) -> io::Result<usize>,
        _: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn recv(
        &mut self,
        _: &mut [u8],
        _: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn peek(
        &mut self,
        _: &mut [u8],
        _: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn send(&mut self, _: &[u8], _: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn close(&mut self, _: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn version(&self) -> Option<&'static str> {
        match *self {}
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        match *self {}
    }

    pub(crate) fn client_cert(&self) -> Option<ClientCert> {
        match *self {}
    }

    pub(crate) fn send_alert(&mut self, _: impl FnMut(&[u8]) -> io::Result<usize>) {
        match *self {}
    }

    pub(crate) fn has_unsent(&self) -> bool {
        match *self {}
    }

    pub(crate) fn has_input(&mut self) -> bool {
        match *self {}
    }
}

pub(crate) fn fault(_: &io::Error) -> Option<(TlsFault, String)> {
    None
}

pub(crate) fn is_plain_http(_: &io::Error) -> bool {
    false
}
