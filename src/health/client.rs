//! The client of the probes: one request on a connection of its own, on a thread that waits for it.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::Cause;
use crate::http::chunked::LAST_CHUNK;
use crate::http::response_head::{ResponseError, ResponseFraming, ResponseHead, ResponseScan, scan};
use crate::net::poller::Event;
use crate::net::proxy_protocol;
use crate::net::stream::Stream;
use crate::upstream::address::Upstream;
use crate::upstream::{fault, shortage};

/// Why a probe brought no answer, as a phrase for the log.
#[derive(Debug)]
pub enum ProbeError {
    /// Refused, timed out, not HTTP.
    Failed(String),
    /// There was no descriptor or no memory left to ask with. That says nothing about the backend.
    NotAsked(String),
}

/// A Unix-domain socket whose backlog is full is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_millis(10);
/// So much of a body is read before the connection is closed: closing one with unread bytes resets it, and the backend
/// would log an error at each probe.
const BODY: usize = 256 * 1024;
/// And it is waited for so long: the answer is known already.
const BODY_PATIENCE: Duration = Duration::from_millis(250);

/// Sends `GET path` on a connection of its own and returns the status of the answer. Ends within `timeout`.
///
/// # Errors
/// See [`ProbeError`].
pub(super) fn probe(upstream: &Upstream, path: &str, timeout: Duration) -> Result<StatusCode, ProbeError> {
    let deadline = Instant::now() + timeout;
    let timed_out = || ProbeError::Failed(format!("timed out after {} s", timeout.as_secs_f64()));
    let mut stream = connect(upstream, deadline).map_err(|error| {
        if shortage::is_ours(&error) {
            return ProbeError::NotAsked(error.to_string());
        }
        match fault::connect_cause(&error, upstream.is_unresolved()) {
            Cause::ConnectRefused => ProbeError::Failed("connection refused".to_owned()),
            Cause::ConnectTimeout => timed_out(),
            Cause::NameNotResolved => ProbeError::Failed("its name has no address".to_owned()),
            Cause::TlsFailed(_) => ProbeError::Failed(format!("TLS failed: {}", fault::reason(&error))),
            _ => ProbeError::Failed(fault::reason(&error)),
        }
    })?;
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: ").into_bytes();
    request.extend_from_slice(upstream.host().as_bytes());
    request.extend_from_slice(b"\r\nconnection: close\r\nuser-agent: reverse-proxy health check\r\n\r\n");
    let answer = ask(&mut stream, &request, deadline);
    answer.map_err(|error| match error {
        Fault::Io(error) if error.kind() == io::ErrorKind::TimedOut => timed_out(),
        Fault::Io(error) => match fault::read_cause(&error) {
            Cause::BackendClosed => ProbeError::Failed("closed the connection without an answer".to_owned()),
            _ => ProbeError::Failed(format!("TLS failed: {}", fault::reason(&error))),
        },
        Fault::Response(error) => ProbeError::Failed(format!("its answer is not valid: {error}")),
    })
}

enum Fault {
    Io(io::Error),
    Response(ResponseError),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn connect(upstream: &Upstream, deadline: Instant) -> io::Result<Stream> {
    let mut stream = loop {
        match upstream.connect() {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && Instant::now() + TRY_AGAIN < deadline =>
            {
                std::thread::park_timeout(TRY_AGAIN);
            }
            connected => break connected?,
        }
    };
    loop {
        match stream.connected() {
            Some(result) => break result?,
            None => wait(&mut stream, PollFlags::OUT, deadline)?,
        }
    }
    if upstream.sends_proxy() {
        // The probe is the proxy's own: there is nobody on whose behalf it is made.
        write_before_tls(&mut stream, &proxy_protocol::header(None), deadline)?;
    }
    while !stream.handshake()? {
        let flags = if stream.has_unsent() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        wait(&mut stream, flags, deadline)?;
    }
    Ok(stream)
}

fn write_before_tls(stream: &mut Stream, bytes: &[u8], deadline: Instant) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match stream.write_before_tls(rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(stream, PollFlags::OUT, deadline)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn ask(stream: &mut Stream, request: &[u8], deadline: Instant) -> Result<StatusCode, Fault> {
    let mut rest = request;
    while !rest.is_empty() || stream.has_unsent() {
        match stream.write(rest, false) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(stream, PollFlags::OUT, deadline)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut input = Vec::new();
    let mut scanned = 0;
    let (status, framing) = loop {
        match scan(&input, scanned) {
            ResponseScan::Incomplete { scanned: so_far } => scanned = so_far,
            ResponseScan::Bad(error) => return Err(Fault::Response(error)),
            ResponseScan::Complete { len } => {
                let rest = input.split_off(len);
                let head = ResponseHead::parse(&Bytes::from(input), &Method::GET).map_err(Fault::Response)?;
                input = rest;
                scanned = 0;
                if !head.status.is_informational() {
                    break (head.status, head.framing);
                }
                continue;
            }
        }
        if read(stream, &mut input, deadline)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    };
    // The answer is known, whatever comes of its body.
    let body = match framing {
        ResponseFraming::None => 0,
        ResponseFraming::Length(length) => usize::try_from(length).unwrap_or(BODY).min(BODY),
        ResponseFraming::Chunked | ResponseFraming::UntilClose => BODY,
    };
    let patience = deadline.min(Instant::now() + BODY_PATIENCE);
    while input.len() < body
        && !(framing == ResponseFraming::Chunked && input.ends_with(LAST_CHUNK))
        && matches!(read(stream, &mut input, patience), Ok(1..))
    {}
    Ok(status)
}

fn read(stream: &mut Stream, input: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
    let mut buf = [0; 16 * 1024];
    loop {
        match stream.read(&mut buf) {
            Ok(n) => {
                input.extend_from_slice(buf.get(..n).unwrap_or_default());
                return Ok(n);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(stream, PollFlags::IN, deadline)?,
            Err(error) => return Err(error),
        }
    }
}

/// Waits until the socket is ready, or says that it took too long.
fn wait(stream: &mut Stream, flags: PollFlags, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        let mut fds = [PollFd::new(stream.socket(), flags)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => {
                let seen = fds.first().map_or(PollFlags::empty(), PollFd::revents);
                let broken = seen.intersects(PollFlags::HUP | PollFlags::ERR);
                stream.note(Event {
                    token: 0,
                    readable: broken || seen.contains(PollFlags::IN),
                    writable: broken || seen.contains(PollFlags::OUT),
                    hung_up: false,
                    broken,
                });
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}
