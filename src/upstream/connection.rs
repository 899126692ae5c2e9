//! [`UpstreamConnection`]: a connection to a backend while an exchange uses it.

use std::io;

use crate::net::poller::Token;
use crate::net::stream::Stream;
use crate::net::unsent::Unsent;

/// A connection to a backend, and what belongs to the exchange that is on it.
#[derive(Debug)]
pub(crate) struct UpstreamConnection {
    pub(crate) stream: Stream,
    /// By what name the poller knows it.
    pub(crate) token: Token,
    /// It has carried an exchange before.
    pub(crate) is_reused: bool,
    /// What the backend is owed and has not taken.
    pub(crate) unsent: Unsent,
    /// What has come of a head that is not whole yet; or, behind that, of a body, and was not taken.
    pub(crate) input: Vec<u8>,
    /// How much of it need not be looked at again.
    pub(crate) scanned: usize,
    /// Bytes that were sent, and that came, in this exchange.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl UpstreamConnection {
    pub(crate) fn new(stream: Stream, token: Token, is_reused: bool) -> Self {
        Self {
            stream,
            token,
            is_reused,
            unsent: Unsent::default(),
            input: Vec::new(),
            scanned: 0,
            sent: 0,
            received: 0,
        }
    }

    /// Reads of the body of an answer: first what came with its head.
    pub(crate) fn read_on(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            let n = self.stream.read(buf)?;
            self.received += n as u64;
            return Ok(n);
        }
        let n = buf.len().min(self.input.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), self.input.get(..n)) {
            to.copy_from_slice(from);
        }
        self.input.drain(..n);
        Ok(n)
    }

    /// Whether [`read_on`](Self::read_on) may bring something: bytes, the end, or an error.
    pub(crate) fn may_read_on(&mut self) -> bool {
        !self.input.is_empty() || self.stream.may_read()
    }
}
