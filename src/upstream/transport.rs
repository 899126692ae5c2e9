//! Our own connector and transport under ureq.
//!
//! What they make possible, and ureq's own do not: a request without a `setsockopt` and with one `recv` of liveness
//! probe; a wait that ends when the client leaves; an answer that comes before the upload is through; knowing whether
//! a connection was reused and whether a byte was sent or received; Unix-domain sockets; a reset told from an end;
//! the socket itself after a 101.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::call::{Call, SLICE, with_current};
use super::conn::Conn;
use super::pool::IdlePool;
use super::tls::{self, TlsClient};
use crate::error::Cause;
use crate::socket::{Pipe, Ready, wait};

/// Largest response head; ureq is told the same.
pub(super) const MAX_RESPONSE_HEAD: usize = 64 * 1024;
/// The input buffer begins with this many bytes: one read of a large body.
const INPUT_START: usize = 32 * 1024;
/// It grows to hold a response head that is still allowed, and one read more: a head beyond the limit must be seen
/// as one that is too large, not as a lost connection.
const INPUT_MAX: usize = 2 * MAX_RESPONSE_HEAD;
/// And the output buffer: one read of a large upload, and every line of a request that is not unusual.
const OUTPUT_START: usize = 32 * 1024;

/// A backend that sends its head by itself sends the body right after it, as a rule. Both reach the client in one packet
/// if the head waits for so long at most.
const FIRST_BYTES: Duration = Duration::from_millis(5);

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
    /// `None` for a plain connection.
    pub(super) tls: Option<TlsClient>,
    pub(super) idle: Arc<IdlePool>,
}

impl Connector for BackendConnector {
    type Out = BackendTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<BackendTransport>, ureq::Error> {
        let (fresh, connect, longest_line, deadline) = with_current(|call| {
            let limits = call.limits;
            (call.fresh, limits.connect, call.longest_line, limits.deadline)
        })
        .ok_or_else(|| ureq::Error::ConnectionFailed)?;
        let now = match details.now {
            ureq::unversioned::transport::time::Instant::Exact(now) => now,
            _ => Instant::now(),
        };
        let reused = if fresh { None } else { self.idle.take(now) };
        let is_reused = reused.is_some();
        let conn = match reused {
            Some(conn) => conn,
            None => {
                let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
                let limit = left.map_or(connect, |left| left.min(connect));
                self.open(limit).map_err(|(cause, error)| {
                    // Where less time was left than a connection may take, the backend is not to blame.
                    let cause = match cause {
                        Cause::ConnectTimeout if limit < connect => Cause::DeadlineExceeded,
                        cause => cause,
                    };
                    with_current(|call| {
                        note(call, cause, &error);
                        call.is_ours = crate::socket::is_shortage(&error);
                    });
                    ureq::Error::Io(error)
                })?
            }
        };
        with_current(|call| {
            call.reused = is_reused;
            call.conn = Some(conn);
            call.idle = Some(Arc::clone(&self.idle));
        });
        Ok(Some(BackendTransport { buffers: IoBuffers::take(longest_line) }))
    }
}

impl BackendConnector {
    /// A new connection, ready for a request.
    fn open(&self, limit: Duration) -> Result<Conn, (Cause, io::Error)> {
        let started = Instant::now();
        let opened = self.destination.connect(limit).and_then(|socket| {
            let session = self.tls.as_ref().map(TlsClient::session).transpose()?;
            Conn::new(socket, session)
        });
        let mut conn = opened.map_err(|error| {
            let cause = match error.kind() {
                io::ErrorKind::ConnectionRefused => Cause::ConnectRefused,
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Cause::ConnectTimeout,
                io::ErrorKind::NotFound if self.destination.is_unresolved() => Cause::NameNotResolved,
                _ => Cause::ConnectFailed,
            };
            (cause, error)
        })?;
        handshake(&mut conn, started, limit)?;
        Ok(conn)
    }
}

/// Sees the TLS handshake through, if there is one to make.
fn handshake(conn: &mut Conn, started: Instant, limit: Duration) -> Result<(), (Cause, io::Error)> {
    loop {
        match conn.handshake_now() {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => {
                let fault = tls::fault(&error).map(|(fault, _)| fault).unwrap_or_default();
                return Err((Cause::TlsFailed(fault), error));
            }
        }
        let now = Instant::now();
        let left = limit.saturating_sub(now.duration_since(started));
        let must_end = with_current(|call| call.must_end(now)).flatten();
        if let Some(cause) = must_end.or(left.is_zero().then_some(Cause::ConnectTimeout)) {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake was not over in time");
            return Err((cause, error));
        }
        let wanted = Ready { readable: true, writable: conn.has_unsent(), hung_up: false };
        let waited = wait(&mut [(conn.socket(), wanted)], left.min(SLICE));
        waited.map_err(|error| (Cause::ConnectFailed, error))?;
    }
}

impl Destination {
    fn is_unresolved(&self) -> bool {
        matches!(self, Self::Tcp(None))
    }

    fn connect(&self, limit: Duration) -> io::Result<Socket> {
        // A zero limit would mean "invalid" to the socket layer, not "at once".
        let limit = limit.max(Duration::from_millis(1));
        match self {
            Self::Tcp(addr) => {
                let addr =
                    addr.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
                let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
                socket.connect_timeout(&SockAddr::from(addr), limit)?;
                socket.set_tcp_nodelay(true)?;
                Ok(socket)
            }
            Self::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.connect_timeout(&SockAddr::unix(path)?, limit)?;
                Ok(socket)
            }
        }
    }
}

/// The connection of the current call while ureq uses it.
#[derive(Debug)]
pub(super) struct BackendTransport {
    buffers: IoBuffers,
}

impl Transport for BackendTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let output = self.buffers.output.get(..amount).unwrap_or_default();
        with_conn(|call, conn| {
            let past = amount.min(call.sent_past);
            call.sent_past -= past;
            match output.get(past..) {
                Some([]) if past > 0 => Ok(()),
                output => transmit(call, conn, output.unwrap_or_default()),
            }
        })
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let is_empty = self.buffers.input().is_empty();
        if with_current(|call| call.holds_back(is_empty)).unwrap_or(false) {
            return Err(ureq::Error::Io(io::ErrorKind::WouldBlock.into()));
        }
        let space = self.buffers.input_append_buf();
        let received = with_conn(|call, conn| receive(call, conn, space))?;
        self.buffers.input_appended(received);
        Ok(received > 0)
    }

    /// ureq asks when an answer is read to its end and it would use the connection again. Whether the backend has hung up
    /// since is asked when the connection is taken from the pool again, where the answer still holds. It is always told
    /// no, and so drops the transport at once: else it would put it into a pool without places, under a lock, first.
    fn is_open(&mut self) -> bool {
        let_go(true);
        false
    }
}

impl Drop for BackendTransport {
    fn drop(&mut self) {
        let leftover = self.buffers.input();
        let conn = with_current(|call| {
            let conn = call.conn.take();
            if !call.upgrade {
                return conn;
            }
            call.upgraded = conn.map(|conn| (conn, leftover.to_vec()));
            None
        });
        // ureq has not let go of it: it is closed.
        drop(conn);
        self.buffers.give_back();
    }
}

/// Lets go of the connection of the current call, whose answer was read to its end. Who needs it next gets it, if the
/// backend `stays`, has sent no more than the answer and took the whole request; else it is closed now, not when the
/// client has taken all.
pub(super) fn let_go(stays: bool) {
    let taken = with_current(|call| {
        if call.upgrade {
            return (None, None);
        }
        let keeps = stays && !call.unused && !call.send_broken;
        (call.conn.take(), call.idle.take().filter(|_| keeps))
    });
    if let Some((Some(conn), Some(idle))) = taken {
        idle.put(conn);
    }
}

/// Does `work` for the current call with its connection.
fn with_conn<R>(work: impl FnOnce(&mut Call, &mut Conn) -> Result<R, ureq::Error>) -> Result<R, ureq::Error> {
    let done = with_current(|call| {
        // Made only where it is wanted: an error of ureq takes some time to drop.
        let mut conn = call.conn.take().ok_or_else(|| ureq::Error::ConnectionFailed)?;
        let result = work(call, &mut conn);
        call.conn = Some(conn);
        result
    });
    done.unwrap_or_else(|| Err(ureq::Error::ConnectionFailed))
}

/// Sends all of `output`, unless the backend has stopped taking it.
fn transmit(call: &mut Call, conn: &mut Conn, output: &[u8]) -> Result<(), ureq::Error> {
    let more = std::mem::take(&mut call.body_follows);
    let mut rest = output;
    transmit_by(call, conn, |conn| {
        if rest.is_empty() && !conn.has_unsent() {
            return Ok(None);
        }
        let n = conn.send_now(rest, more)?;
        rest = rest.get(n..).unwrap_or_default();
        Ok(Some(n))
    })
}

/// Calls `send`, which does not wait, until it has nothing left or the backend has stopped taking it.
fn transmit_by(
    call: &mut Call,
    conn: &mut Conn,
    mut send: impl FnMut(&mut Conn) -> io::Result<Option<usize>>,
) -> Result<(), ureq::Error> {
    let mut progress_at = None;
    while !call.send_broken {
        match send(conn) {
            Ok(None) => break,
            Ok(Some(n)) => {
                call.sent += n as u64;
                progress_at = None;
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
                let mut state = [(&**conn.socket(), wanted)];
                wait(&mut state, limit).map_err(ureq::Error::Io)?;
                let [(_, ready)] = state;
                // An answer, and no room for the rest of the request: the backend has heard enough.
                if ready.readable && !ready.writable {
                    notice_early_answer(call, conn);
                }
            }
            // Linux delivers what had been received before the reset: let ureq read it, it may be the answer.
            Err(_) => call.send_broken = true,
        }
    }
    call.sent_at = Some(Instant::now());
    Ok(())
}

/// Sends bytes of the request body past ureq, which is told only how many.
pub(super) fn send_past(bytes: &[u8]) -> Result<(), ureq::Error> {
    with_conn(|call, conn| {
        call.sent_past += bytes.len();
        transmit(call, conn, bytes)
    })
}

/// Sends what `pipe` holds of the request body past ureq, as [`send_past`] does.
pub(super) fn pour_past(pipe: &mut Pipe, held: usize) -> Result<(), ureq::Error> {
    with_conn(|call, conn| {
        call.sent_past += held;
        transmit_by(call, conn, |conn| if pipe.is_empty() { Ok(None) } else { conn.pour_now(pipe).map(Some) })
    })
}

/// The backend has spoken before it has the whole request. A final answer ends the upload, an interim one doesn't.
fn notice_early_answer(call: &mut Call, conn: &mut Conn) {
    let mut start = [0; 10];
    match conn.peek_now(&mut start) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Ok(n) if start.get(..n).is_some_and(|start| start.starts_with(b"HTTP/1.1 1")) => {
            call.only_interim = true;
        }
        _ => call.send_broken = true,
    }
}

/// Looks whether the current call's backend, which has been heard, has answered before it has the whole request.
pub(super) fn look_for_early_answer() {
    drop(with_conn(|call, conn| {
        notice_early_answer(call, conn);
        Ok(())
    }));
}

/// Reads into `space`; 0 at the end of the stream.
fn receive(call: &mut Call, conn: &mut Conn, space: &mut [u8]) -> Result<usize, ureq::Error> {
    if call.no_wait {
        loop {
            match conn.recv_now(space) {
                Ok(n) => return Ok(received(call, n)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let wanted = Ready { readable: true, ..Ready::default() };
                    if !std::mem::take(&mut call.body_is_due)
                        || wait(&mut [(conn.socket(), wanted)], FIRST_BYTES).is_err()
                    {
                        return Err(ureq::Error::Io(error));
                    }
                }
                Err(error) => return Err(lost(call, &error)),
            }
        }
    }
    receive_within_limits(call, conn, |conn, slice| conn.recv(space, slice))
}

/// Calls `read`, which waits for the time it is given, until it has read something or a time limit is over.
fn receive_within_limits(
    call: &mut Call,
    conn: &mut Conn,
    mut read: impl FnMut(&mut Conn, Duration) -> io::Result<usize>,
) -> Result<usize, ureq::Error> {
    let awaits_head = call.sent_at.filter(|_| !call.head_complete);
    let limit = if awaits_head.is_some() { call.limits.response } else { call.limits.idle };
    // The first wait for a head begins as soon as the request is sent.
    let mut now = awaits_head.filter(|_| call.received == 0).unwrap_or_else(Instant::now);
    // The whole head, however many reads it takes; of a body each.
    let mut since = awaits_head.unwrap_or(now);
    loop {
        let left = limit.saturating_sub(now.duration_since(since));
        let left = call.limits.deadline.map_or(left, |at| left.min(at.saturating_duration_since(now)));
        if left.is_zero() {
            let cause = call.must_end(now).unwrap_or(Cause::ResponseTimeout);
            return Err(fail(call, cause));
        }
        match read(conn, left.min(SLICE)) {
            Ok(n) => return Ok(received(call, n)),
            // A part of a TLS record counts as a byte of the body would without TLS.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                now = Instant::now();
                if awaits_head.is_none() {
                    since = now;
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                now = Instant::now();
                if let Some(cause) = call.must_end(now) {
                    return Err(fail(call, cause));
                }
            }
            Err(error) => return Err(lost(call, &error)),
        }
    }
}

/// Reads up to `most` bytes of the answer into `pipe`, past ureq. 0 at the end of the stream.
pub(super) fn fill(pipe: &mut Pipe, most: usize) -> Result<usize, ureq::Error> {
    with_conn(|call, conn| receive_within_limits(call, conn, |conn, slice| conn.fill(pipe, most, slice)))
}

/// Counts what has come.
fn received(call: &mut Call, n: usize) -> usize {
    call.received += n as u64;
    call.ended |= n == 0;
    n
}

/// The connection broke.
fn lost(call: &mut Call, error: &io::Error) -> ureq::Error {
    let cause = tls::fault(error).map_or(Cause::BackendClosed, |(fault, _)| Cause::TlsFailed(fault));
    note(call, cause, error);
    fail(call, cause)
}

/// Keeps what is known about a failure.
fn note(call: &mut Call, cause: Cause, error: &io::Error) {
    call.failure = Some(cause);
    call.reason = Some(tls::fault(error).map_or_else(|| error.to_string(), |(_, reason)| reason));
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
        with_current(|call| call.unused = self.start < self.end);
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.start = (self.start + amount).min(self.end);
        with_current(|call| call.unused = self.start < self.end);
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
