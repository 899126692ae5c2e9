//! Our own connector and transport under ureq.
//!
//! What they make possible, and ureq's own do not: a request without a `setsockopt` and with one `recv` of liveness
//! probe; a wait that ends when the client leaves; an answer that comes before the upload is through; knowing whether
//! a connection was reused and whether a byte was sent or received; Unix-domain sockets; a reset told from an end;
//! the socket itself after a 101.

use std::cell::RefCell;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::call::{Call, SLICE, with_current};
use super::pool::IdlePool;
use crate::error::Cause;
use crate::socket::{Ready, recv_now, send_now, wait};

/// Largest response head; ureq is told the same.
pub(super) const MAX_RESPONSE_HEAD: usize = 64 * 1024;
/// The input buffer begins with this many bytes. 16 KiB was the fastest for large bodies: it stays in the first
/// level cache.
const INPUT_START: usize = 16 * 1024;
/// It grows to hold a response head that is still allowed, and one read more: a head beyond the limit must be seen
/// as one that is too large, not as a lost connection.
const INPUT_MAX: usize = 2 * MAX_RESPONSE_HEAD;
const OUTPUT_START: usize = 16 * 1024;

/// A connection to a backend, in use or idle.
#[derive(Debug)]
pub(crate) struct Conn {
    socket: Arc<Socket>,
    /// What `SO_RCVTIMEO` is set to.
    read_slice: Duration,
}

impl Conn {
    pub(crate) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }
}

/// Where to connect to.
#[derive(Debug)]
pub(super) enum Destination {
    /// `None`: nobody knows where.
    Tcp(Option<SocketAddr>),
    Unix(PathBuf),
}

/// ureq wants addresses; the connector has its own.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

#[derive(Debug)]
pub(super) struct BackendConnector {
    pub(super) destination: Arc<Destination>,
    pub(super) idle: Arc<IdlePool>,
}

impl Connector for BackendConnector {
    type Out = BackendTransport;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<BackendTransport>, ureq::Error> {
        let (fresh, connect, longest_line, deadline) = with_current(|call| {
            let limits = call.limits;
            (call.fresh, limits.connect, call.longest_line, limits.deadline)
        })
        .ok_or(ureq::Error::ConnectionFailed)?;
        let reused = if fresh { None } else { self.idle.take() };
        let is_reused = reused.is_some();
        let conn = match reused {
            Some(conn) => conn,
            None => {
                let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
                let limit = left.map_or(connect, |left| left.min(connect));
                self.destination.connect(limit).map_err(|error| {
                    let cause = match error.kind() {
                        io::ErrorKind::ConnectionRefused => Cause::ConnectRefused,
                        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Cause::ConnectTimeout,
                        io::ErrorKind::NotFound if self.destination.is_unresolved() => Cause::NameNotResolved,
                        _ => Cause::ConnectFailed,
                    };
                    with_current(|call| call.failure = Some(cause));
                    ureq::Error::Io(error)
                })?
            }
        };
        with_current(|call| {
            call.reused = is_reused;
            call.socket = Some(Arc::clone(&conn.socket));
        });
        Ok(Some(BackendTransport {
            conn: Some(conn),
            idle: Arc::clone(&self.idle),
            buffers: IoBuffers::take(longest_line),
            reusable: false,
        }))
    }
}

impl Destination {
    fn is_unresolved(&self) -> bool {
        matches!(self, Self::Tcp(None))
    }

    fn connect(&self, limit: Duration) -> io::Result<Conn> {
        // A zero limit would mean "invalid" to the socket layer, not "at once".
        let limit = limit.max(Duration::from_millis(1));
        let socket = match self {
            Self::Tcp(addr) => {
                let addr =
                    addr.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
                let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
                socket.connect_timeout(&SockAddr::from(addr), limit)?;
                socket.set_tcp_nodelay(true)?;
                socket
            }
            Self::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.connect_timeout(&SockAddr::unix(path)?, limit)?;
                socket
            }
        };
        socket.set_read_timeout(Some(SLICE))?;
        Ok(Conn { socket: Arc::new(socket), read_slice: SLICE })
    }
}

/// One connection while ureq uses it.
#[derive(Debug)]
pub(super) struct BackendTransport {
    /// `None` only inside `drop`.
    conn: Option<Conn>,
    idle: Arc<IdlePool>,
    buffers: IoBuffers,
    /// ureq has read the answer to its end and would use the connection again.
    reusable: bool,
}

impl Transport for BackendTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let Some(conn) = &self.conn else { return Err(ureq::Error::ConnectionFailed) };
        let output = self.buffers.output.get(..amount).unwrap_or_default();
        let sent = with_current(|call| transmit(call, &conn.socket, output));
        sent.unwrap_or(Err(ureq::Error::ConnectionFailed))
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let Some(conn) = &mut self.conn else { return Err(ureq::Error::ConnectionFailed) };
        let space = self.buffers.input_append_buf();
        let received = with_current(|call| receive(call, conn, space));
        let received = received.unwrap_or(Err(ureq::Error::ConnectionFailed))?;
        self.buffers.input_appended(received);
        Ok(received > 0)
    }

    /// ureq asks when an answer is read to its end. Whether the backend has hung up since is asked when the connection
    /// is taken from the pool again, where the answer still holds.
    fn is_open(&mut self) -> bool {
        let broken = with_current(|call| call.send_broken).unwrap_or(true);
        self.reusable = !broken;
        self.reusable
    }
}

impl Drop for BackendTransport {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        let leftover = self.buffers.input();
        let mut conn = Some(conn);
        with_current(|call| {
            call.socket = None;
            if call.upgrade {
                call.upgraded = conn.take().map(|conn| (conn, leftover.to_vec()));
            }
        });
        // ureq has looked for left-over bytes before it asked whether the connection is open.
        if let Some(conn) = conn.filter(|_| self.reusable) {
            self.idle.put(conn);
        }
        self.buffers.give_back();
    }
}

/// Sends all of `output`, unless the backend has stopped taking it.
fn transmit(call: &mut Call, socket: &Socket, output: &[u8]) -> Result<(), ureq::Error> {
    let more = std::mem::take(&mut call.body_follows);
    let mut rest = output;
    let mut progress_at = None;
    while !rest.is_empty() && !call.send_broken {
        match send_now(socket, rest, more) {
            Ok(n) => {
                call.sent += n as u64;
                progress_at = None;
                rest = rest.get(n..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let now = Instant::now();
                let since = *progress_at.get_or_insert(now);
                if let Some(cause) = call.must_end(now) {
                    return Err(fail(call, cause));
                }
                if now.duration_since(since) >= call.limits.response {
                    return Err(fail(call, Cause::ResponseTimeout));
                }
                let limit = SLICE.min(call.limits.response);
                let wanted = Ready { readable: !call.only_interim, writable: true, hung_up: false };
                let mut state = [(socket, wanted)];
                wait(&mut state, limit).map_err(ureq::Error::Io)?;
                let [(_, ready)] = state;
                // An answer, and no room for the rest of the request: the backend has heard enough.
                if ready.readable && !ready.writable {
                    notice_early_answer(call, socket);
                }
            }
            // Linux delivers what had been received before the reset: let ureq read it, it may be the answer.
            Err(_) => call.send_broken = true,
        }
    }
    call.sent_at = Some(Instant::now());
    Ok(())
}

/// The backend has spoken before it has the whole request. A final answer ends the upload, an interim one doesn't.
pub(super) fn notice_early_answer(call: &mut Call, socket: &Socket) {
    let mut start = [0; 10];
    match crate::socket::peek_now(socket, &mut start) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Ok(n) if start.get(..n).is_some_and(|start| start.starts_with(b"HTTP/1.1 1")) => {
            call.only_interim = true;
        }
        _ => call.send_broken = true,
    }
}

/// Reads into `space`; 0 at the end of the stream.
fn receive(call: &mut Call, conn: &mut Conn, space: &mut [u8]) -> Result<usize, ureq::Error> {
    if call.no_wait {
        return match recv_now(&conn.socket, space) {
            Ok(n) => {
                call.received += n as u64;
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ureq::Error::Io(error)),
            Err(_) => Err(fail(call, Cause::BackendClosed)),
        };
    }
    let (since, limit) = match call.sent_at {
        // The whole head, however many reads it takes.
        Some(sent_at) if !call.head_complete => (sent_at, call.limits.response),
        _ => (Instant::now(), call.limits.idle),
    };
    loop {
        let now = Instant::now();
        let left = limit.saturating_sub(now.duration_since(since));
        let left = call.limits.deadline.map_or(left, |at| left.min(at.saturating_duration_since(now)));
        if left.is_zero() {
            let cause = call.must_end(now).unwrap_or(Cause::ResponseTimeout);
            return Err(fail(call, cause));
        }
        let slice = left.min(SLICE);
        if slice != conn.read_slice {
            conn.socket.set_read_timeout(Some(slice)).map_err(ureq::Error::Io)?;
            conn.read_slice = slice;
        }
        match (&mut &*conn.socket).read(space) {
            Ok(n) => {
                call.received += n as u64;
                return Ok(n);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if let Some(cause) = call.must_end(Instant::now()) {
                    return Err(fail(call, cause));
                }
            }
            Err(_) => return Err(fail(call, Cause::BackendClosed)),
        }
    }
}

/// Notes the cause. `Error::Other` is the one kind that ureq never takes for the end of a body.
fn fail(call: &mut Call, cause: Cause) -> ureq::Error {
    call.failure = Some(cause);
    ureq::Error::Other(Box::from(cause.word()))
}

thread_local! {
    /// The buffers of this thread's last call, for its next.
    static SPARE: RefCell<Option<IoBuffers>> = const { RefCell::new(None) };
}

/// The buffers ureq reads into and writes from. They belong to the thread, not to the connection: an idle connection
/// costs no memory of ours.
#[derive(Debug, Default)]
struct IoBuffers {
    input: Vec<u8>,
    /// `input[start..end]` is received and not consumed.
    start: usize,
    end: usize,
    output: Vec<u8>,
    /// The last `input_consume` consumed something.
    progress: bool,
}

impl IoBuffers {
    fn take(longest_line: usize) -> Self {
        let mut buffers = SPARE.with_borrow_mut(Option::take).unwrap_or_default();
        let output = OUTPUT_START.max(longest_line + 64);
        if buffers.output.len() < output {
            buffers.output.resize(output, 0);
        }
        if buffers.input.is_empty() {
            buffers.input.resize(INPUT_START, 0);
        }
        buffers
    }

    fn give_back(&mut self) {
        let mut buffers = std::mem::take(self);
        if buffers.input.len() > INPUT_START || buffers.output.len() > OUTPUT_START {
            return;
        }
        (buffers.start, buffers.end, buffers.progress) = (0, 0, false);
        SPARE.with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut() {
                *spare = Some(buffers);
            }
        });
    }

    fn free(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.input.len() && self.input.len() < INPUT_MAX {
            self.input.resize(self.input.len() * 2, 0);
        }
        self.input.get_mut(self.end..).unwrap_or_default()
    }
}

impl Buffers for IoBuffers {
    fn output(&mut self) -> &mut [u8] {
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        self.input.get(self.start..self.end).unwrap_or_default()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.free()
    }

    fn input_appended(&mut self, amount: usize) {
        self.end = (self.end + amount).min(self.input.len());
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.start = (self.start + amount).min(self.end);
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        (self.input.get_mut(self.end..).unwrap_or_default(), &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        self.start < self.end && self.progress
    }
}
