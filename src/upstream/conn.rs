//! [`Conn`]: a connection as bytes, with TLS on it or without. Everything above it is the same for both.

use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use super::call::SLICE;
use super::tls::Session;
use crate::socket::{self, Pipe};

/// A connection to a backend, in use or idle. Dropping it closes it, with a `close_notify` where there is TLS.
///
/// Two things are different with TLS, and every caller knows them: `Interrupted` can also mean that a part of a record
/// came, which is no byte yet; and bytes can be here although the socket is quiet ([`has_input`](Self::has_input)), or
/// still have to go although they were taken ([`has_unsent`](Self::has_unsent)).
#[derive(Debug)]
pub(crate) struct Conn {
    socket: Arc<Socket>,
    session: Option<Box<Session>>,
    /// What `SO_RCVTIMEO` is set to; `None` = never set by us.
    read_slice: Option<Duration>,
}

impl Conn {
    /// A connection without TLS.
    pub(crate) fn plain(socket: Arc<Socket>) -> Self {
        Self { socket, session: None, read_slice: None }
    }

    /// A connection to a backend, the handshake still to be made where there is a session.
    pub(super) fn new(socket: Socket, session: Option<Session>) -> io::Result<Self> {
        socket.set_read_timeout(Some(SLICE))?;
        Ok(Self { socket: Arc::new(socket), session: session.map(Box::new), read_slice: Some(SLICE) })
    }

    pub(crate) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Goes on with the TLS handshake without waiting; whether it is through, or there is none to make.
    pub(super) fn handshake_now(&mut self) -> io::Result<bool> {
        let socket = &*self.socket;
        let Some(session) = &mut self.session else { return Ok(true) };
        session.handshake(|buf| socket::recv_now(socket, buf), |buf| socket::send_now(socket, buf, false))
    }

    /// Reads into `buf`, waiting up to `slice` for a byte: `WouldBlock` or `TimedOut` after that. 0 at the end of the
    /// stream; with TLS, an end that nobody announced is `UnexpectedEof`.
    pub(super) fn recv(&mut self, buf: &mut [u8], slice: Duration) -> io::Result<usize> {
        self.let_reads_wait(slice)?;
        let mut socket = &*self.socket;
        match &mut self.session {
            None => socket.read(buf),
            Some(session) => session.recv(buf, |buf| socket.read(buf)),
        }
    }

    /// Like [`recv`](Self::recv), up to `most` bytes into an empty pipe. For a connection [without
    /// TLS](Self::is_plain).
    pub(super) fn fill(&mut self, pipe: &mut Pipe, most: usize, slice: Duration) -> io::Result<usize> {
        self.let_reads_wait(slice)?;
        pipe.fill(&self.socket, most)
    }

    /// There is no TLS: what comes from the socket is what the backend sends.
    pub(super) fn is_plain(&self) -> bool {
        self.session.is_none()
    }

    /// Makes a read wait up to `slice`.
    fn let_reads_wait(&mut self, slice: Duration) -> io::Result<()> {
        // What is less than a microsecond would be set as 0, and that means "for ever".
        let slice = slice.max(Duration::from_millis(1));
        if self.read_slice != Some(slice) {
            self.socket.set_read_timeout(Some(slice))?;
            self.read_slice = Some(slice);
        }
        Ok(())
    }

    /// Like [`recv`](Self::recv) without waiting.
    pub(crate) fn recv_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let socket = &*self.socket;
        match &mut self.session {
            None => socket::recv_now(socket, buf),
            Some(session) => session.recv(buf, |buf| socket::recv_now(socket, buf)),
        }
    }

    /// Looks at what is here without taking it. `WouldBlock` when nothing is.
    pub(super) fn peek_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let socket = &*self.socket;
        match &mut self.session {
            None => socket::peek_now(socket, buf),
            Some(session) => session.peek(buf, |buf| socket::recv_now(socket, buf)),
        }
    }

    /// Whether nothing has come on an idle connection: no byte, no end, no error. What TLS says for itself (session
    /// tickets come after the handshake) is nothing.
    pub(super) fn is_quiet(&mut self) -> bool {
        matches!(self.peek_now(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Takes what can be taken of `buf` without waiting; of an empty one it only sends what was taken before.
    /// `more`: the rest follows at once. `WouldBlock` when nothing moved.
    pub(crate) fn send_now(&mut self, buf: &[u8], more: bool) -> io::Result<usize> {
        let socket = &*self.socket;
        match &mut self.session {
            None => socket::send_now(socket, buf, more),
            Some(session) => session.send(buf, |buf| socket::send_now(socket, buf, more)),
        }
    }

    /// Takes what can be taken from `pipe` without waiting. For a connection [without TLS](Self::is_plain).
    pub(super) fn pour_now(&mut self, pipe: &mut Pipe) -> io::Result<usize> {
        pipe.pour_now(&self.socket)
    }

    /// Bytes were taken that the kernel has not got yet.
    pub(crate) fn has_unsent(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.has_unsent())
    }

    /// Bytes, or the end, can be received without the socket being readable.
    pub(crate) fn has_input(&mut self) -> bool {
        self.session.as_mut().is_some_and(|session| session.has_input())
    }

    /// Tells the other side that no more bytes come; reading goes on. `WouldBlock`: call it again.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let socket = &*self.socket;
        if let Some(session) = &mut self.session {
            session.close(|buf| socket::send_now(socket, buf, false))?;
        }
        socket.shutdown(Shutdown::Write)
    }

    /// Ends the connection, whoever else holds the socket.
    pub(crate) fn shut_down(&mut self) {
        drop(self.finish());
        drop(self.socket.shutdown(Shutdown::Both));
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let socket = &*self.socket;
        if let Some(session) = &mut self.session {
            // What does not fit now is not worth waiting for.
            drop(session.close(|buf| socket::send_now(socket, buf, false)));
        }
    }
}
