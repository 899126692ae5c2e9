//! Stands in for `tls.rs` in a build without the cargo feature `tls`: sessions and clients that can't exist. A
//! configuration that asks for them is refused.

use std::io;

use crate::config::TlsConfig;
use crate::error::TlsFault;

#[derive(Clone, Debug)]
pub(super) enum TlsClient {}

impl TlsClient {
    pub(super) fn new(_: &str, _: &TlsConfig) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no TLS"))
    }

    pub(super) fn session(&self) -> io::Result<Session> {
        match *self {}
    }
}

#[derive(Debug)]
pub(super) enum Session {}

impl Session {
    pub(super) fn handshake(
        &mut self,
        _: impl FnMut(&mut [u8]) -> io::Result<usize>,
        _: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn recv(
        &mut self,
        _: &mut [u8],
        _: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn peek(
        &mut self,
        _: &mut [u8],
        _: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn send(&mut self, _: &[u8], _: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn close(&mut self, _: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn has_unsent(&self) -> bool {
        match *self {}
    }

    pub(super) fn has_input(&mut self) -> bool {
        match *self {}
    }
}

pub(super) fn fault(_: &io::Error) -> Option<(TlsFault, String)> {
    None
}
