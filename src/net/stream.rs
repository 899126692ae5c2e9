//! [`Stream`]: a connection as bytes, plain or with TLS, towards a client or a backend. It never waits.
//!
//! It remembers what the poller said last: a read is only tried where bytes may be, a write only where there may be room.
//! So a connection that is idle costs no system call to find that out.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::Socket;

use super::pipe::Pipe;
use super::poller::Event;
use super::tls::Session;
use crate::http::client_cert::ClientCert;

/// So many reads in a row may bring bytes of TLS and none for us. Whoever sends records with nothing in them could else keep a
/// worker for as long as it likes.
const EMPTY: usize = 64;

/// A connection. Dropping it closes it, with a `close_notify` where there is TLS, unless it is cut.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    session: Option<Box<Session>>,
    /// What was read past TLS and belongs to it: it is taken before the socket is asked.
    early: Vec<u8>,
    may_read: bool,
    may_write: bool,
    hung_up: bool,
    broken: bool,
    sent: u64,
    /// Bytes the kernel has taken, those of TLS included.
    moved: u64,
    /// That the connection ends must not look like the end of what was sent on it.
    is_cut: bool,
}

impl Stream {
    /// A connection that stands, and of which nothing is known yet: the first read and write are tried. The handshake is
    /// still to come where there is a session.
    pub(crate) fn established(socket: Socket, session: Option<Session>) -> Self {
        let mut stream = Self::connecting(socket, session);
        (stream.may_read, stream.may_write) = (true, true);
        stream
    }

    /// A connection that is being made; the handshake still to come where there is a session.
    pub(crate) fn connecting(socket: Socket, session: Option<Session>) -> Self {
        let session = session.map(Box::new);
        Self {
            socket,
            session,
            early: Vec::new(),
            may_read: false,
            may_write: false,
            hung_up: false,
            broken: false,
            sent: 0,
            moved: 0,
            is_cut: false,
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Bytes that were taken so far, before TLS.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes that have left so far, with what TLS adds: by how many more there are, one sees whether the other side takes any.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// The version of TLS that is spoken; `None`: none is.
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        self.session.as_ref().and_then(|session| session.version())
    }

    /// Takes in what the poller says.
    pub(crate) fn note(&mut self, event: Event) {
        self.may_read |= event.readable;
        self.may_write |= event.writable;
        self.hung_up |= event.hung_up;
        self.broken |= event.broken;
    }

    /// The other side has closed its sending half, or the connection is gone. Bytes it sent before may still be unread.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.hung_up
    }

    /// The connection is gone in both directions.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Something may be there to read: bytes, the end, or an error.
    pub(crate) fn may_read(&mut self) -> bool {
        self.may_read
            || !self.early.is_empty()
            || self.session.as_mut().is_some_and(|session| session.has_input())
    }

    /// There is no TLS: what comes from the socket is what the other side sends.
    pub(crate) fn is_plain(&self) -> bool {
        self.session.is_none()
    }

    /// The result of a connect that was under way, once the socket is writable. `None`: still under way.
    pub(crate) fn connected(&mut self) -> Option<io::Result<()>> {
        if !self.may_write {
            return None;
        }
        Some(match self.socket.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(error),
        })
    }

    /// Goes on with the TLS handshake; whether it is through, or there is none to make.
    pub(crate) fn handshake(&mut self) -> io::Result<bool> {
        let Self { socket, session, early, may_read, may_write, hung_up, moved, .. } = self;
        let Some(session) = session else { return Ok(true) };
        session.handshake(
            |buf| recv_early(early, buf).unwrap_or_else(|| recv_from(socket, buf, may_read, *hung_up)),
            |buf| send_to(socket, buf, may_write, moved, false),
        )
    }

    /// Reads into `buf`. `WouldBlock` when nothing is there. 0 at the end of the stream; with TLS, an end that nobody
    /// announced is `UnexpectedEof`.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Self { socket, session, early, may_read, hung_up, .. } = self;
        for _ in 0..EMPTY {
            let read = match session {
                None => recv_from(socket, buf, may_read, *hung_up),
                Some(session) => session.recv(buf, |buf| {
                    recv_early(early, buf).unwrap_or_else(|| recv_from(socket, buf, may_read, *hung_up))
                }),
            };
            match read {
                // A part of a TLS record, which is no byte yet; or a signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "too many records without a byte in them"))
    }

    /// [`read`](Self::read) of what comes before TLS.
    pub(crate) fn read_before_tls(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        recv_from(&self.socket, buf, &mut self.may_read, self.hung_up)
    }

    /// Gives TLS what came behind that.
    pub(crate) fn give_to_tls(&mut self, bytes: Vec<u8>) {
        self.early = bytes;
    }

    /// [`write`](Self::write) of what comes before TLS. More follows at once.
    pub(crate) fn write_before_tls(&mut self, buf: &[u8]) -> io::Result<usize> {
        send_to(&self.socket, buf, &mut self.may_write, &mut self.moved, true)
    }

    /// Takes what can be taken of `buf`; `WouldBlock` when that is nothing. `more`: the rest follows at once, so the
    /// kernel may wait for it to fill a packet.
    pub(crate) fn write(&mut self, buf: &[u8], more: bool) -> io::Result<usize> {
        let Self { socket, session, may_write, sent, moved, .. } = self;
        loop {
            let written = match session {
                None => send_to(socket, buf, may_write, moved, more),
                Some(session) => session.send(buf, |buf| send_to(socket, buf, may_write, moved, more)),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    *sent += done.as_ref().map_or(0, |n| *n as u64);
                    return done;
                }
            }
        }
    }

    /// Sends what was taken and has not left yet; whether all of it has.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if !self.has_unsent() {
            return Ok(true);
        }
        match self.write(&[], false) {
            Ok(_) => Ok(!self.has_unsent()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The name a client has asked for in the handshake.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.session.as_ref()?.server_name()
    }

    /// Who the client is by the certificate it has shown in the handshake.
    pub(crate) fn client_cert(&self) -> Option<ClientCert> {
        self.session.as_ref()?.client_cert()
    }

    /// Gives up TLS after a handshake that has failed: says why, as far as that can be said at once. What comes from the
    /// other side is no more than bytes from here on.
    pub(crate) fn give_up_tls(&mut self) {
        let Self { socket, session, may_write, moved, .. } = self;
        if let Some(mut session) = session.take() {
            session.send_alert(|buf| send_to(socket, buf, may_write, moved, false));
        }
    }

    /// Bytes were taken that the kernel has not got yet.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.is_cut && self.session.as_ref().is_some_and(|session| session.has_unsent())
    }

    /// Takes up to `most` bytes into an empty pipe, as [`read`](Self::read) would. For a plain connection.
    pub(crate) fn fill(&mut self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        if !self.may_read {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let filled = pipe.fill(&self.socket, most);
        if is_would_block(&filled) {
            self.may_read = false;
        }
        filled
    }

    /// Gives what the pipe holds to the connection, as far as it takes it. For a plain connection.
    pub(crate) fn pour(&mut self, pipe: &mut Pipe) -> io::Result<usize> {
        if !self.may_write {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let poured = pipe.pour(&self.socket);
        if is_would_block(&poured) {
            self.may_write = false;
        }
        let n = poured.as_ref().map_or(0, |n| *n as u64);
        self.sent += n;
        self.moved += n;
        poured
    }

    /// Looks past what the poller has said so far whether nothing has come: no byte, no end, no error. What TLS says for
    /// itself (session tickets come after the handshake) is nothing.
    pub(crate) fn is_quiet(&mut self) -> bool {
        if self.hung_up {
            return false;
        }
        let socket = &self.socket;
        let peeked = match &mut self.session {
            None => recv(socket, &mut [0_u8; 1][..], RecvFlags::DONTWAIT | RecvFlags::PEEK)
                .map(|(n, _)| n)
                .map_err(io::Error::from),
            Some(session) => session.peek(&mut [0; 1], |buf| Ok(recv(socket, buf, RecvFlags::DONTWAIT)?.0)),
        };
        let is_quiet = is_would_block(&peeked);
        self.may_read = !is_quiet;
        is_quiet
    }

    /// Tells the other side that no more bytes come; reading goes on. `WouldBlock`: call it again.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let Self { socket, session, may_write, moved, is_cut, .. } = self;
        if let Some(session) = session
            && !*is_cut
        {
            session.close(|buf| send_to(socket, buf, may_write, moved, false))?;
        }
        socket.shutdown(Shutdown::Write)
    }

    /// Gives up what has not left yet, and does not announce the end: whatever the other side has got is not whole.
    pub(crate) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// [Cuts](Self::cut) it, and makes closing it a reset: the one way to tell some clients that what they have is not whole.
    pub(crate) fn reset_on_close(&mut self) {
        self.cut();
        // Fails only on a connection that is gone.
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }

    /// Acknowledges what has come at once. A backend that writes head and body apart, with Nagle's algorithm on, keeps the
    /// body back until its head is acknowledged, and without this that takes 40 ms.
    pub(crate) fn acknowledge(&self) {
        // Only TCP knows it; elsewhere there is nothing to acknowledge.
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.socket, true);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Self { socket, session, may_write, moved, is_cut, .. } = self;
        if let Some(session) = session
            && !*is_cut
        {
            // What does not fit now is not worth waiting for.
            let _ = session.close(|buf| send_to(socket, buf, may_write, moved, false));
        }
    }
}

fn is_would_block<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Some of `early`, if there is any.
fn recv_early(early: &mut Vec<u8>, buf: &mut [u8]) -> Option<io::Result<usize>> {
    if early.is_empty() {
        return None;
    }
    let n = buf.len().min(early.len());
    if let (Some(to), Some(from)) = (buf.get_mut(..n), early.get(..n)) {
        to.copy_from_slice(from);
    }
    if n == early.len() {
        *early = Vec::new();
    } else {
        early.drain(..n);
    }
    Some(Ok(n))
}

fn recv_from(socket: &Socket, buf: &mut [u8], may_read: &mut bool, hung_up: bool) -> io::Result<usize> {
    if !*may_read {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let wanted = buf.len();
    match recv(socket, buf, RecvFlags::DONTWAIT) {
        Ok((n, _)) => {
            // Less than was asked for means that the socket was emptied, and what comes next is reported (epoll(7)). The end
            // of the stream is reported only once.
            *may_read = n == wanted || hung_up || n == 0;
            Ok(n)
        }
        Err(rustix::io::Errno::AGAIN) => {
            *may_read = false;
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn send_to(
    socket: &Socket,
    buf: &[u8],
    may_write: &mut bool,
    moved: &mut u64,
    more: bool,
) -> io::Result<usize> {
    if !*may_write {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let flags = if more { flags | SendFlags::MORE } else { flags };
    match send(socket, buf, flags) {
        Ok(n) => {
            *may_write = n == buf.len();
            *moved += n as u64;
            Ok(n)
        }
        Err(rustix::io::Errno::AGAIN) => {
            *may_write = false;
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(error) => Err(error.into()),
    }
}
