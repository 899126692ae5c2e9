//! One client connection: its socket, what has been received and not used, and what it is waiting for.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use socket2::Socket;

use super::answer;
use super::body::Body;
use super::room::Place;
use crate::error::Cause;
use crate::http::framing::BodyFraming;
use crate::http::head::{HeadError, HeadLimits, RequestHead, Scan, Version, scan};
use crate::socket::{RECV_ONTO, recv_now, recv_onto, send_now};

/// A connection that is closed by us is read from for so long, so that the client gets to read the answer: closing a
/// socket with unread bytes resets the connection, and a reset discards what was sent.
const LINGER: Duration = Duration::from_secs(2);
/// And for no more than so many bytes.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// While draining, an idle connection gets this long since its last answer, because its next request may be on the way;
/// and so does one that lingers.
const DRAIN_GRACE: Duration = Duration::from_millis(250);
/// A chunked body that is not complete after this long is handed on as it comes: its sender may be waiting for an
/// answer to the part it has sent.
const CHUNKED_GRACE: Duration = Duration::from_millis(200);

/// The first read of a request: as a rule all of it, and of a body only the beginning. The rest of that is read where it
/// stays.
const FIRST_READ: usize = 16 * 1024;

/// What a client waits for that sent `Expect: 100-continue`.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Limits that hold for every connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub head: HeadLimits,
    pub header_timeout: Duration,
    pub keepalive_timeout: Duration,
    pub read_timeout: Duration,
    pub min_body_rate: u64,
}

/// What a connection that no worker holds is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first byte of a request.
    Idle { since: Instant },
    /// The rest of a head.
    Head { since: Instant },
    /// The rest of a body, or 64 KiB of it.
    Body { since: Instant },
    /// The client's end of the stream, after an answer that closes the connection.
    Linger { until: Instant, bytes: usize },
}

/// What can be done with a connection after bytes came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More has to come.
    Wait,
    /// A request is complete enough for a worker.
    Ready,
    /// What came is no request: answer so and close.
    Refuse(Cause),
    /// The client is gone, or has nothing more to say.
    Close,
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: Arc<Socket>,
    address: IpAddr,
    forwarded_for: HeaderValue,
    /// Received and not used. Empty while the connection is idle: 10,000 of those cost no buffers.
    pub(super) input: Vec<u8>,
    scanned: usize,
    /// The length of a complete head at the beginning of `input`, not parsed yet.
    head_len: Option<usize>,
    /// A head that was parsed because a body follows it.
    head: Option<RequestHead>,
    pub(super) body: Body,
    /// The request will be refused, whatever its body is.
    is_unwanted: bool,
    /// `100 Continue` was sent for the body that is coming.
    pub(super) told_to_continue: bool,
    /// The client has said that it will send no further request.
    is_last: bool,
    pub(super) phase: Phase,
    /// When it was last handed to the workers.
    pub(super) queued_at: Instant,
    /// epoll knows the socket.
    pub(super) registered: bool,
    /// Where it is parked. Declared last: its place is given up when all else is gone.
    pub(super) place: Place,
}

impl Connection {
    pub(super) fn new(socket: Socket, peer: SocketAddr, place: Place, now: Instant) -> Self {
        let address = peer.ip().to_canonical();
        Self {
            socket: Arc::new(socket),
            address,
            forwarded_for: HeaderValue::from_str(&address.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            input: Vec::new(),
            scanned: 0,
            head_len: None,
            head: None,
            body: Body::new(BodyFraming::None, now),
            is_unwanted: false,
            told_to_continue: false,
            is_last: false,
            phase: Phase::Idle { since: now },
            queued_at: now,
            registered: false,
            place,
        }
    }

    pub(super) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    pub(super) fn forwarded_for(&self) -> &HeaderValue {
        &self.forwarded_for
    }

    /// Reads what is there, without waiting, and says what can be done now. `scratch` is the caller's buffer.
    pub(super) fn receive(&mut self, scratch: &mut [u8], limits: &Limits, now: Instant) -> Step {
        if self.can_receive_body() {
            return self.receive_body(now);
        }
        let begins = matches!(self.phase, Phase::Idle { .. } | Phase::Head { .. });
        let most = if begins { scratch.len().min(FIRST_READ) } else { scratch.len() };
        let scratch = scratch.get_mut(..most).unwrap_or_default();
        match recv_now(&self.socket, scratch) {
            Ok(0) => Step::Close,
            Ok(n) => {
                let step = self.received(scratch.get(..n).unwrap_or_default(), limits, now);
                self.go_on(step, n == most, now)
            }
            Err(error) => nothing_received(&error),
        }
    }

    /// After a read that led to `step`: another one where a body follows, if that one was `full`, so that more is there.
    fn go_on(&mut self, step: Step, full: bool, now: Instant) -> Step {
        if step == Step::Wait && full && self.can_receive_body() { self.receive_body(now) } else { step }
    }

    /// Says what can be done with what is in `input`, and goes on reading where a body follows that is not all there.
    pub(super) fn advance_on(&mut self, limits: &Limits, now: Instant) -> Step {
        let full = self.input.len() >= RECV_ONTO;
        let step = self.advance(limits, now);
        self.go_on(step, full, now)
    }

    /// The body is what comes next, byte for byte.
    fn can_receive_body(&self) -> bool {
        matches!(self.phase, Phase::Body { .. }) && self.input.is_empty() && self.body.room() > 0
    }

    fn receive_body(&mut self, now: Instant) -> Step {
        match self.body.receive(&self.socket, &mut self.input, now) {
            Ok(0) => Step::Close,
            Ok(_) => self.advance_body(now),
            Err(error) => nothing_received(&error),
        }
    }

    /// Takes in what comes, waiting as long as the socket does: how many bytes. For a connection that waits for its next
    /// request and has nothing of it yet.
    pub(super) fn await_bytes(&mut self) -> io::Result<usize> {
        // It may have held a good part of a body.
        self.input = Vec::new();
        recv_onto(&self.socket, &mut self.input)
    }

    /// Takes in `bytes` and says what can be done now.
    fn received(&mut self, bytes: &[u8], limits: &Limits, now: Instant) -> Step {
        if let Phase::Linger { until, bytes: left } = self.phase {
            // Read so that the kernel need not reset the connection, and thrown away.
            return match left.checked_sub(bytes.len()) {
                Some(left) => {
                    self.phase = Phase::Linger { until, bytes: left };
                    Step::Wait
                }
                None => Step::Close,
            };
        }
        self.input.extend_from_slice(bytes);
        self.advance(limits, now)
    }

    /// Says what can be done with what is in `input`.
    pub(super) fn advance(&mut self, limits: &Limits, now: Instant) -> Step {
        if self.head.is_some() {
            return self.advance_body(now);
        }
        match scan(&self.input, self.scanned, &limits.head) {
            Scan::Incomplete { scanned } => {
                self.scanned = scanned;
                if let Phase::Idle { .. } | Phase::Body { .. } = self.phase
                    && !self.input.is_empty()
                {
                    self.phase = Phase::Head { since: now };
                }
                Step::Wait
            }
            Scan::Bad(error) => Step::Refuse(Cause::Head(error)),
            Scan::Complete { len, may_have_body } => {
                self.head_len = Some(len);
                if !may_have_body {
                    // To take it apart, and to refuse it if need be, is the worker's.
                    return Step::Ready;
                }
                match self.parse_head(&limits.head) {
                    Ok(head) => {
                        self.body = Body::new(head.framing, now);
                        self.body.lend(|| self.place.room().spare_buffer());
                        let gateway = &self.place.room().gateway;
                        self.is_unwanted = !gateway.wants_body(&head);
                        let may_continue = head.expect_continue && gateway.may_continue(&head);
                        self.head = Some(head);
                        self.phase = Phase::Body { since: now };
                        let step = self.advance_body(now);
                        if step == Step::Ready && may_continue && self.body.is_untouched() {
                            return self.say_continue();
                        }
                        step
                    }
                    Err(error) => Step::Refuse(Cause::Head(error)),
                }
            }
        }
    }

    fn advance_body(&mut self, now: Instant) -> Step {
        if let Err(cause) = self.body.collect(&mut self.input, now) {
            return Step::Refuse(cause);
        }
        // A client that waits for 100 sends nothing before. Where it did not get one, the worker finds out why.
        let waits_for_100 = !self.told_to_continue
            && self.body.is_untouched()
            && self.head.as_ref().is_some_and(|head| head.expect_continue);
        if self.body.is_all_received() || self.body.is_full() || waits_for_100 || self.is_unwanted {
            Step::Ready
        } else {
            Step::Wait
        }
    }

    /// Asks for the body, so that waiting for it costs no worker.
    fn say_continue(&mut self) -> Step {
        match send_now(&self.socket, CONTINUE, false) {
            Ok(n) if n == CONTINUE.len() => {
                self.told_to_continue = true;
                Step::Wait
            }
            // It has not read its last answer yet: a worker can wait for that.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::Ready,
            _ => Step::Close,
        }
    }

    /// Takes the complete head out of `input`.
    fn parse_head(&mut self, limits: &HeadLimits) -> Result<RequestHead, HeadError> {
        let len = self.head_len.take().unwrap_or(0);
        self.scanned = 0;
        // As a rule the head is all there is, and its values become slices of the very buffer it came in.
        let rest = if self.input.len() > len { self.input.split_off(len) } else { Vec::new() };
        let bytes = Bytes::from(std::mem::replace(&mut self.input, rest));
        RequestHead::parse_scanned(&bytes, limits)
    }

    /// The head of a request that is ready. Its body, if it has one, is in `body`.
    pub(super) fn take_head(&mut self, limits: &HeadLimits, now: Instant) -> Result<RequestHead, HeadError> {
        let head = match self.head.take() {
            Some(head) => head,
            None => {
                let head = self.parse_head(limits)?;
                self.body = Body::new(head.framing, now);
                head
            }
        };
        self.is_last = !head.keep_alive;
        Ok(head)
    }

    /// The client will send nothing more, and all it sent was read: closing can't reset the connection.
    pub(super) fn can_close_at_once(&self) -> bool {
        self.is_last && self.body.is_all_received() && self.input.is_empty()
    }

    /// Makes room for the next request. The last one's body must have been received whole.
    pub(super) fn next_request(&mut self, now: Instant) {
        if let Some(buffer) = self.body.take_buffer() {
            self.place.room().keep_buffer(buffer);
        }
        self.body = Body::new(BodyFraming::None, now);
        if self.input.is_empty() {
            // It may have held a good part of a body.
            self.input = Vec::new();
        }
        self.told_to_continue = false;
        self.phase = Phase::Idle { since: now };
    }

    /// When it has waited long enough for what it is waiting for.
    pub(super) fn due(&self, limits: &Limits, is_draining: bool) -> Instant {
        match self.phase {
            Phase::Idle { since } if is_draining => since + limits.keepalive_timeout.min(DRAIN_GRACE),
            Phase::Linger { until, .. } if is_draining => until - (LINGER - DRAIN_GRACE),
            Phase::Idle { since } => since + limits.keepalive_timeout,
            Phase::Head { since } => since + limits.header_timeout,
            Phase::Body { since } => {
                let due = self.body.pace.due(limits.read_timeout, limits.min_body_rate);
                // Looked at once more when the grace is over; from then on only the pace counts.
                if self.body.is_chunked() && self.place.chunked_grace_pending() {
                    due.min(since + CHUNKED_GRACE)
                } else {
                    due
                }
            }
            Phase::Linger { until, .. } => until,
        }
    }

    /// What becomes of it when it is due.
    pub(super) fn expire(&mut self, limits: &Limits, now: Instant) -> Step {
        match self.phase {
            Phase::Idle { .. } | Phase::Linger { .. } => Step::Close,
            Phase::Head { .. } => Step::Refuse(Cause::HEAD_TIMEOUT),
            Phase::Body { since } => {
                if self.body.pace.is_too_slow(now, limits.read_timeout, limits.min_body_rate) {
                    return Step::Refuse(Cause::BodyTimeout);
                }
                if self.body.is_chunked() && now >= since + CHUNKED_GRACE && self.place.may_stream() {
                    return Step::Ready;
                }
                Step::Wait
            }
        }
    }

    /// Answers in place of a worker, as far as the socket takes it at once, and lingers.
    pub(super) fn refuse(&mut self, cause: Cause, now: Instant) {
        let bytes = answer::refusal(cause, Version::Http11, false, false);
        drop(send_now(&self.socket, &bytes, false));
        self.begin_linger(now);
    }

    /// Says that nothing more will be sent, and waits for the client to say the same.
    pub(super) fn begin_linger(&mut self, now: Instant) {
        // Fails when the client is gone; then the next read says so.
        drop(self.socket.shutdown(Shutdown::Write));
        self.input = Vec::new();
        self.head = None;
        self.head_len = None;
        self.phase = Phase::Linger { until: now + LINGER, bytes: LINGER_BYTES };
    }
}

/// What follows from a read that has failed.
fn nothing_received(error: &io::Error) -> Step {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Step::Wait,
        _ => Step::Close,
    }
}
