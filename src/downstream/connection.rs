//! One client connection between its exchanges: what has been received and not used, what is owed, and what it waits for.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use socket2::Socket;

use super::listener::Entrance;
use crate::error::Cause;
use crate::http::client_cert::ClientCert;
use crate::http::head::{HeadError, HeadLimits, RequestHead, Scan, scan};
use crate::http::headers::forwarded_for;
use crate::net::proxy_protocol::{self, Ends, Fault, Found};
use crate::net::stream::Stream;
use crate::net::tls::{self, Session};
use crate::net::unsent::Unsent;

/// A connection that is closed by us is read from as long as the client sends, so that it gets to read the answer: closing
/// a socket with unread bytes resets the connection, and a reset discards what was sent. It ends when nothing has come for
/// so long…
const LINGER_SILENCE: Duration = Duration::from_secs(5);
/// …after so long in all…
const LINGER_WHOLE: Duration = Duration::from_secs(30);
/// …and after so many bytes.
const LINGER_BYTES: usize = 1024 * 1024 * 1024;
/// Bytes that are read at once while a head is waited for. What comes with it of a body has to be copied once more than what is
/// read as a body.
const HEAD_READ: usize = 8 * 1024;
/// While draining, an idle connection gets this long since its last answer, because its next request may be on the way;
/// and so does one that lingers.
const DRAIN_GRACE: Duration = Duration::from_millis(250);
/// The same for a TLS handshake, which takes more than one way there and back.
const HANDSHAKE_DRAIN_GRACE: Duration = Duration::from_secs(1);

/// What a client is told that speaks plain HTTP where TLS is spoken.
const PLAIN_HTTP: HeadError =
    HeadError::new(400, "bad_request", "this is plain HTTP, and TLS is spoken on this port: write https://");

/// Limits that hold for every connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub head: HeadLimits,
    pub handshake_timeout: Duration,
    pub header_timeout: Duration,
    pub keepalive_timeout: Duration,
    pub read_timeout: Duration,
    pub write_timeout: Duration,
    pub min_body_rate: u64,
    pub min_answer_rate: u64,
}

/// What a connection without an exchange is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The PROXY header.
    ProxyHeader { since: Instant },
    /// TLS to be agreed upon.
    Handshake { since: Instant },
    /// The first byte of a request.
    Idle { since: Instant },
    /// The rest of a head.
    Head { since: Instant },
    /// The client's end of the stream, after an answer that closes the connection.
    Linger { last: Instant, until: Instant, bytes: usize },
}

/// What can be done with a connection now.
#[derive(Debug)]
pub(crate) enum Step {
    /// More has to come.
    Wait,
    /// More is here, but others have waited long enough.
    Again,
    /// A request.
    Request(Box<RequestHead>),
    /// What came is no request: answer so and close.
    Refuse(Cause),
    /// There will be no PROXY header: close without a word.
    NoProxyHeader(Fault),
    /// There will be no TLS; the client has been told what can be told.
    HandshakeFailed,
    /// The client is gone, or has nothing more to say.
    Close,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    /// Whose it is: who has connected, or whom the PROXY header names.
    peer: SocketAddr,
    /// Where the client has connected to, if the PROXY header says so.
    destination: Option<SocketAddr>,
    forwarded_for: HeaderValue,
    /// By where it came in.
    entrance: Entrance,
    /// The name it has asked for in the handshake.
    server_name: Option<Box<str>>,
    /// Who it is by the certificate it has shown in the handshake.
    client_cert: Option<Box<ClientCert>>,
    /// Received and not used. Empty while the connection is idle: 10,000 of those cost no buffers.
    pub(crate) input: Vec<u8>,
    /// What the client is owed and has not taken.
    pub(crate) unsent: Unsent,
    scanned: usize,
    /// The client has said that it will send no further request.
    is_last: bool,
    phase: Phase,
}

impl Connection {
    pub(crate) fn new(
        socket: Socket,
        peer: SocketAddr,
        entrance: Entrance,
        session: Option<Session>,
        now: Instant,
    ) -> Self {
        let peer = proxy_protocol::canonical(peer);
        let phase = match &session {
            _ if entrance.proxy_protocol => Phase::ProxyHeader { since: now },
            Some(_) => Phase::Handshake { since: now },
            None => Phase::Idle { since: now },
        };
        Self {
            stream: Stream::established(socket, session),
            peer,
            destination: None,
            entrance,
            server_name: None,
            client_cert: None,
            forwarded_for: forwarded_for(peer.ip()),
            input: Vec::new(),
            unsent: Unsent::default(),
            scanned: 0,
            is_last: false,
            phase,
        }
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.peer.ip()
    }

    /// Both ends of it, as the client sees them; `None`: it is not one of TCP.
    pub(crate) fn ends(&self) -> Option<Ends> {
        if self.peer.ip().is_unspecified() {
            return None;
        }
        let own = || self.stream.socket().local_addr().ok()?.as_socket();
        let destination = self.destination.or_else(own).map(proxy_protocol::canonical)?;
        Some(Ends { source: self.peer, destination })
    }

    /// No PROXY header is waited for.
    pub(crate) fn knows_whose_it_is(&self) -> bool {
        !matches!(self.phase, Phase::ProxyHeader { .. })
    }

    /// Whose it is, for the log.
    pub(crate) fn who(&self) -> &str {
        if self.peer.ip().is_unspecified() { "unix" } else { self.forwarded_for.to_str().unwrap_or_default() }
    }

    pub(crate) fn forwarded_for(&self) -> &HeaderValue {
        &self.forwarded_for
    }

    /// By where it came in.
    pub(crate) fn entrance(&self) -> Entrance {
        self.entrance
    }

    /// The name it has asked for in the TLS handshake, if it has asked for one.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Who it is by the certificate it has shown in the TLS handshake, if it has shown one.
    pub(crate) fn client_cert(&self) -> Option<&ClientCert> {
        self.client_cert.as_deref()
    }

    /// TLS is still to be agreed upon.
    pub(crate) fn is_in_handshake(&self) -> bool {
        match self.phase {
            Phase::Handshake { .. } => true,
            Phase::ProxyHeader { .. } => !self.stream.is_plain(),
            Phase::Idle { .. } | Phase::Head { .. } | Phase::Linger { .. } => false,
        }
    }

    /// The client has not been given all that was sent to it.
    pub(crate) fn is_owed_bytes(&self) -> bool {
        !self.unsent.is_empty() || self.stream.has_unsent()
    }

    /// Takes bytes from what has been received: how many.
    pub(super) fn take_input(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.input.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), self.input.get(..n)) {
            to.copy_from_slice(from);
        }
        self.consume(n);
        n
    }

    /// The first `n` bytes of what has been received were used.
    pub(super) fn consume(&mut self, n: usize) {
        if n >= self.input.len() {
            self.input = Vec::new();
        } else {
            self.input.drain(..n);
        }
    }

    /// Reads what is here until there is a request. `budget`: bytes that may be read before others get a turn.
    pub(crate) fn receive(
        &mut self,
        scratch: &mut [u8],
        limits: &Limits,
        now: Instant,
        budget: &mut usize,
    ) -> Step {
        if let Phase::ProxyHeader { since } = self.phase
            && let Some(step) = self.receive_proxy_header(scratch, since, now, budget)
        {
            return step;
        }
        if let Phase::Handshake { .. } = self.phase {
            match self.stream.handshake() {
                Ok(true) => {
                    self.server_name = self.stream.server_name().map(Box::from);
                    self.client_cert = self.stream.client_cert().map(Box::new);
                    self.phase = Phase::Idle { since: now };
                }
                Ok(false) => return Step::Wait,
                Err(error) => return self.handshake_failed(&error),
            }
        }
        if !matches!(self.phase, Phase::Linger { .. })
            && !self.input.is_empty()
            && let Some(step) = self.find_head(limits, now)
        {
            return step;
        }
        let is_thrown_away = matches!(self.phase, Phase::Linger { .. });
        let most = if is_thrown_away { scratch.len() } else { scratch.len().min(HEAD_READ) };
        let scratch = scratch.get_mut(..most).unwrap_or_default();
        loop {
            if *budget == 0 {
                return Step::Again;
            }
            let n = match self.stream.read(scratch) {
                Ok(0) => return Step::Close,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Wait,
                Err(_) => return Step::Close,
            };
            *budget = budget.saturating_sub(n);
            if let Phase::Linger { last, bytes, .. } = &mut self.phase {
                // Read so that the kernel need not reset the connection, and thrown away.
                *last = now;
                match bytes.checked_sub(n) {
                    Some(left) => *bytes = left,
                    None => return Step::Close,
                }
                continue;
            }
            self.input.extend_from_slice(scratch.get(..n).unwrap_or_default());
            if let Some(step) = self.find_head(limits, now) {
                return step;
            }
        }
    }

    /// Reads until the PROXY header is here; what follows it belongs to TLS, or is a request.
    fn receive_proxy_header(
        &mut self,
        scratch: &mut [u8],
        since: Instant,
        now: Instant,
        budget: &mut usize,
    ) -> Option<Step> {
        loop {
            match proxy_protocol::find(&self.input) {
                Found::Part => {}
                Found::Whole { len, ends } => {
                    if let Some(Ends { source, destination }) = ends {
                        self.peer = source;
                        self.forwarded_for = forwarded_for(source.ip());
                        self.destination = Some(destination);
                    }
                    self.consume(len);
                    self.phase = if self.stream.is_plain() {
                        Phase::Idle { since: now }
                    } else {
                        self.stream.give_to_tls(std::mem::take(&mut self.input));
                        Phase::Handshake { since }
                    };
                    return None;
                }
                Found::Bad(fault) => return Some(Step::NoProxyHeader(fault)),
            }
            if *budget == 0 {
                return Some(Step::Again);
            }
            let n = match self.stream.read_before_tls(scratch) {
                // Some look in this way whether the port is open.
                Ok(0) if self.input.is_empty() => return Some(Step::Close),
                Ok(0) => return Some(Step::NoProxyHeader(Fault::Cut)),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(Step::Wait),
                Err(_) => return Some(Step::Close),
            };
            *budget = budget.saturating_sub(n);
            self.input.extend_from_slice(scratch.get(..n).unwrap_or_default());
        }
    }

    fn handshake_failed(&mut self, error: &io::Error) -> Step {
        log::debug!("no TLS client={} reason={:?}", self.who(), error.to_string());
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Step::Close;
        }
        self.stream.give_up_tls();
        if tls::is_plain_http(error) { Step::Refuse(Cause::Head(PLAIN_HTTP)) } else { Step::HandshakeFailed }
    }

    /// A request, or why there can't be one, if what is in `input` says so.
    fn find_head(&mut self, limits: &Limits, now: Instant) -> Option<Step> {
        match scan(&self.input, self.scanned, &limits.head) {
            Scan::Incomplete { scanned } => {
                self.scanned = scanned;
                // Some clients end a body with a line that is no part of anything (RFC 9112 §2.2).
                let has_begun = self.input.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
                if let Phase::Idle { .. } = self.phase
                    && has_begun
                {
                    self.phase = Phase::Head { since: now };
                }
                None
            }
            Scan::Bad(error) => Some(Step::Refuse(Cause::Head(error))),
            Scan::Complete { len } => {
                self.scanned = 0;
                // As a rule the head is all there is, and its values become slices of the very buffer it came in.
                let rest = if self.input.len() > len { self.input.split_off(len) } else { Vec::new() };
                let bytes = Bytes::from(std::mem::replace(&mut self.input, rest));
                Some(match RequestHead::parse_scanned(&bytes, &limits.head, self.entrance.tls) {
                    Ok(head) => {
                        self.is_last = !head.keep_alive;
                        Step::Request(Box::new(head))
                    }
                    Err(error) => Step::Refuse(Cause::Head(error)),
                })
            }
        }
    }

    /// Nothing more will come, and all that came was read: closing can't reset the connection. `body_is_read`: that of the
    /// last request.
    pub(crate) fn can_close_at_once(&self, body_is_read: bool) -> bool {
        self.is_last && body_is_read && self.input.is_empty() && !self.is_owed_bytes()
    }

    /// Waits for the next request.
    pub(crate) fn next_request(&mut self, now: Instant) {
        self.phase = Phase::Idle { since: now };
    }

    /// Says that nothing more will be sent, and waits for the client to say the same.
    pub(crate) fn begin_linger(&mut self, now: Instant) {
        self.input = Vec::new();
        self.phase = Phase::Linger { last: now, until: now + LINGER_WHOLE, bytes: LINGER_BYTES };
        // Where something is owed, the end follows it.
        if !self.is_owed_bytes() {
            self.finish();
        }
    }

    /// Fails when the client is gone; then the next read says so.
    fn finish(&mut self) {
        let _ = self.stream.finish();
    }

    /// Goes on sending what is owed; ends the stream behind it where the connection only waits to be closed. `false`: the
    /// client is gone.
    pub(crate) fn send_owed(&mut self, now: Instant) -> bool {
        if !self.is_owed_bytes() {
            return true;
        }
        let before = self.stream.moved();
        let flushed = self.unsent.flush(&mut self.stream);
        if let Phase::Linger { last, .. } = &mut self.phase
            && self.stream.moved() > before
        {
            // Who takes an answer is not silent.
            *last = now;
        }
        match flushed {
            Ok(true) => {
                if let Phase::Linger { .. } = self.phase {
                    self.finish();
                }
                true
            }
            Ok(false) => true,
            Err(_) => false,
        }
    }

    /// When it has waited long enough.
    pub(crate) fn due(&self, limits: &Limits, is_draining: bool) -> Instant {
        match self.phase {
            Phase::ProxyHeader { since } if is_draining => since + limits.header_timeout.min(DRAIN_GRACE),
            Phase::ProxyHeader { since } => since + limits.header_timeout,
            Phase::Handshake { since } if is_draining => {
                since + limits.handshake_timeout.min(HANDSHAKE_DRAIN_GRACE)
            }
            Phase::Handshake { since } => since + limits.handshake_timeout,
            Phase::Idle { since } if is_draining => since + limits.keepalive_timeout.min(DRAIN_GRACE),
            Phase::Idle { since } => since + limits.keepalive_timeout,
            Phase::Head { since } => since + limits.header_timeout,
            Phase::Linger { last, .. } if is_draining && !self.is_owed_bytes() => last + DRAIN_GRACE,
            Phase::Linger { last, until, .. } => until.min(last + LINGER_SILENCE),
        }
    }

    /// What becomes of it when it is due.
    pub(crate) fn expire(&self) -> Step {
        match self.phase {
            Phase::ProxyHeader { .. } => Step::NoProxyHeader(Fault::Late),
            Phase::Handshake { .. } | Phase::Idle { .. } | Phase::Linger { .. } => Step::Close,
            Phase::Head { .. } => Step::Refuse(Cause::HEAD_TIMEOUT),
        }
    }

    /// Bytes of a request have come, but not all of its head.
    pub(crate) fn has_part_of_request(&self) -> bool {
        matches!(self.phase, Phase::Head { .. })
    }

    /// Ends the connection in both directions, whoever else holds the socket.
    pub(crate) fn shut_down(&mut self) {
        self.finish();
        let _ = self.stream.socket().shutdown(Shutdown::Both);
    }
}
