//! One request on its way: a route, a backend, a try with ureq and perhaps another, and the answer.

use std::borrow::Cow;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use ureq::{Body, SendBody, Timeout};

use super::agents::{Agents, agent};
use super::client::Client;
use crate::access_log::{Entry, RequestLine};
use crate::balance::sticky_cookie::set_cookie;
use crate::balance::{Backend, BackendGuard, PickRequest};
use crate::config::{Engine, RouteConfig};
use crate::counters::tally::Ended;
use crate::error::Cause;
use crate::exchange::answer_here;
use crate::exchange::client_address::client_address;
use crate::exchange::decision::{Outgoing, admit, amend_answer, is_sent_by, route_of, scheme};
use crate::exchange::gateway::Gateway;
use crate::exchange::record::{Phase, Record};
use crate::exchange::refusal::OwnAnswer;
use crate::exchange::retry::{self, Progress};
use crate::http::chunked::{LAST_CHUNK, write_chunk};
use crate::http::fields::Fields;
use crate::http::head::{RequestHead, Version};
use crate::http::request_id::RequestId;
use crate::http::response_head::{ResponseError, ResponseFraming, ResponseHead};
use crate::http::response_out::{Added, Delimited, write_response_head};
use crate::route::Route;
use crate::rules::Facts;
use crate::snapshot::Snapshot;
use crate::upstream::shortage;

/// After all tries have failed, a held request tries again this much later.
const PAUSE: Duration = Duration::from_millis(100);

/// What one request needs, and how far it has come.
pub(super) struct Forward<'a> {
    gateway: &'a Gateway,
    snapshot: &'a Snapshot,
    agents: &'a Agents,
    head: &'a RequestHead,
    record: Record,
    route: Option<Arc<Route>>,
    guard: Option<BackendGuard>,
    /// The status of the answer, once some of it may have been sent.
    answered: Option<StatusCode>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(
        gateway: &'a Gateway,
        snapshot: &'a Snapshot,
        agents: &'a Agents,
        head: &'a RequestHead,
    ) -> Self {
        let record = Record::new(&head.fields, 0, Instant::now());
        Self { gateway, snapshot, agents, head, record, route: None, guard: None, answered: None }
    }

    pub(super) fn id(&self) -> &RequestId {
        &self.record.id
    }

    pub(super) fn has_begun(&self) -> bool {
        self.answered.is_some()
    }

    /// The backend of the last try.
    fn backend(&self) -> Option<&str> {
        self.guard.as_ref().map(|guard| guard.label())
    }

    /// Answers with what the proxy has made itself.
    pub(super) fn answer_itself(&mut self, answer: &OwnAnswer, client: &mut Client) {
        self.record.head_sent(answer.head_len);
        client.answer(&answer.bytes);
    }

    /// Says in the logs what became of it.
    pub(super) fn note_end(&self, result: Result<StatusCode, Cause>, client: &Client) {
        let (head, cause) = (self.head, result.err());
        let status = self
            .answered
            .or(result.ok())
            .map_or_else(|| cause.map_or(0, Cause::status), |status| status.as_u16());
        let whole = self.record.started.elapsed();
        log::debug!(
            "exchange client={} method={} target={:?} status={status} cause={} backend={} ms={}",
            client.address(),
            head.method,
            head.target.as_str(),
            cause.map_or("-", Cause::word),
            self.backend().unwrap_or("-"),
            whole.as_millis(),
        );
        let (received, sent) = (client.received(), self.record.body_sent(client.sent()));
        let Record { first_byte, retries, queued, connecting, .. } = self.record;
        match &self.route {
            Some(route) => {
                let ended = Ended { status, cause, first_byte, whole, received, sent, retries };
                route.tally().count(&ended, self.guard.as_ref().map(|guard| guard.answers()));
            }
            None => self.gateway.counters.unrouted.count(status),
        }
        let Some(log) = &self.snapshot.access_log else { return };
        let field = |name| head.fields.get(&name).map_or(&b""[..], HeaderValue::as_bytes);
        let (method, target) = (head.method.as_str(), head.target.as_str());
        let entry = Entry {
            request_id: self.record.id.as_str(),
            client: client_address(client.address(), &head.fields, &self.snapshot.trusted),
            request: Some(RequestLine { method, target, version: head.version }),
            tls: None,
            host: head.host.as_bytes(),
            referer: field(header::REFERER),
            user_agent: field(header::USER_AGENT),
            route: self.route.as_ref().map(|route| route.label()),
            backend: self.backend(),
            status,
            cause,
            stage: self.record.phase.word(),
            bytes_received: received,
            bytes_sent: sent,
            retries,
            queued,
            connecting,
            first_byte,
            whole,
        };
        let mut line = Vec::new();
        log.write(&entry, &mut line);
        log.send(line);
    }

    /// Forwards the request and its answer. The status of that.
    pub(super) fn run(&mut self, client: &mut Client) -> Result<StatusCode, Cause> {
        let routes = &self.snapshot.routes;
        let route = Arc::clone(route_of(self.head, &self.gateway.via, routes)?);
        self.route = Some(Arc::clone(&route));
        let address = self.address(client);
        admit(self.head, address, route.config())?;
        route.take(address, Instant::now())?;
        if let Some(rule) = &route.config().rules.answer {
            let facts = self.facts(route.config(), client);
            answer_here::check(rule, &facts)?;
            let answer = answer_here::answer(rule, &facts, &self.record.id, self.head.keep_alive);
            self.answer_itself(&answer, client);
            return Ok(StatusCode::from_u16(rule.status()).unwrap_or_default());
        }
        client.collect()?;
        // Only now: a client that is slow to send its request takes no place away from others.
        let _guard = route.enter().ok_or(Cause::RouteFull)?;
        let response = self.try_backends(&route, address, client)?;
        let status = self.answer(response, &route, client)?;
        if let Some(guard) = &self.guard {
            route.note_success(guard);
        }
        Ok(status)
    }

    /// Who the request is from, as far as trusted proxies tell.
    fn address(&self, client: &Client) -> IpAddr {
        client_address(client.address(), &self.head.fields, &self.snapshot.trusted)
    }

    /// What placeholders of rules stand for.
    fn facts<'f>(&'f self, route: &'f RouteConfig, client: &Client) -> Facts<'f> {
        Facts {
            head: self.head,
            route,
            client: self.address(client),
            scheme: scheme(self.head, client.address(), &self.snapshot.trusted, false),
            request_id: self.record.id.as_bytes(),
        }
    }

    /// Tries backends as long as another try is safe, allowed and in time.
    fn try_backends(
        &mut self,
        route: &Route,
        address: IpAddr,
        client: &mut Client,
    ) -> Result<Response<Body>, Cause> {
        let config = route.config();
        let request = PickRequest { client: address, fields: &self.head.fields };
        let mut tried: Vec<Arc<Backend>> = Vec::new();
        let mut suspects: Vec<Arc<Backend>> = Vec::new();
        let mut last = None;
        // Begins when all tries have failed.
        let mut held_until = None;
        loop {
            self.guard = None;
            self.record.enter(Phase::Queue, Instant::now());
            let guard = route.find_backend(&request, &tried, None).map_err(|cause| last.unwrap_or(cause))?;
            client.rewind();
            self.record.enter(Phase::Await, Instant::now());
            let response = self.send(&guard, last.is_none(), route, client);
            let backend = Arc::clone(guard.backend());
            self.guard = Some(guard);
            let failed = match response {
                Ok(response) => {
                    for suspect in suspects.iter().filter(|suspect| suspect.id() != backend.id()) {
                        route.note_failure(suspect, Cause::BackendClosed);
                    }
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            let Failed { cause, is_ours, sent } = failed;
            if cause == Cause::BackendClosed {
                suspects.push(Arc::clone(&backend));
            } else if !is_ours {
                route.note_failure(&backend, cause);
            }
            let progress = Progress { sent: sent.into(), received: 0, replayable: client.replayable() };
            let now = Instant::now();
            let is_held = held_until.is_some_and(|until| now < until);
            let in_time = is_held || now.duration_since(self.record.started) < config.response_timeout;
            if !in_time || !retry::may_retry(&self.head.method, cause, progress) {
                return Err(cause);
            }
            if tried.len() < config.retries as usize {
                tried.push(backend);
            } else if now < *held_until.get_or_insert(now + config.hold) {
                tried.clear();
                thread::sleep(PAUSE);
            } else {
                return Err(cause);
            }
            last = Some(cause);
            log::debug!(
                "trying again backend={} cause={cause} sent={}",
                self.backend().unwrap_or("-"),
                u8::from(sent)
            );
            self.gateway.counters.retries.fetch_add(1, Ordering::Relaxed);
            self.record.retries += 1;
        }
    }

    /// One try.
    fn send(
        &self,
        guard: &BackendGuard,
        is_first: bool,
        route: &Route,
        client: &mut Client,
    ) -> Result<Response<Body>, Failed> {
        let not_sent = |cause| Failed { cause, is_ours: false, sent: false };
        let config = route.config();
        let addr = guard.resolved().ok_or(not_sent(Cause::NameNotResolved))?;
        let forwarded_for = client.forwarded_for().clone();
        let outgoing = Outgoing {
            route: config,
            backend: guard.upstream().host(),
            peer: client.address(),
            client: self.address(client),
            forwarded_for: &forwarded_for,
            trusted: &self.snapshot.trusted,
            secured: false,
            port: None,
            upgrade: false,
            via: &self.gateway.via,
            request_id: self.record.id.as_bytes(),
        };
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = addr.to_string().parse().ok();
        uri.path_and_query = match outgoing.target(self.head) {
            Cow::Borrowed(_) => Some(self.head.target.path_and_query().clone()),
            Cow::Owned(target) => target.parse().ok(),
        };
        // Of these three parts a URI is complete; another would be refused.
        let uri = Uri::from_parts(uri).unwrap_or_default();
        let mut request = Request::builder().method(self.head.method.clone()).uri(uri);
        outgoing.put_fields(self.head, &mut |name, value| {
            if is_sent_by(Engine::TinyHttp, name) {
                let builder = std::mem::take(&mut request);
                request = builder.header(name, value);
            }
        });
        // After a failure a new connection: the backend may have closed all that are kept.
        let agent = if is_first { self.agents.of(guard, config) } else { agent(config) };
        let max = config.max_body_bytes;
        let result = if self.head.framing.has_body() {
            let mut reader = Limited { client, max };
            let body = SendBody::from_reader(&mut reader);
            request.body(body).map_err(ureq::Error::from).and_then(|request| agent.run(request))
        } else {
            request.body(()).map_err(ureq::Error::from).and_then(|request| agent.run(request))
        };
        result.map_err(|error| {
            let failed = Failed::of(&error);
            log::debug!("try failed backend={} cause={} reason=\"{error}\"", guard.label(), failed.cause);
            if max.is_some_and(|max| client.received() > max) {
                return Failed { cause: Cause::BodyTooLarge, is_ours: true, sent: true };
            }
            client.fault().map_or(failed, |cause| Failed { cause, is_ours: true, sent: true })
        })
    }

    /// Passes the answer on.
    fn answer(
        &mut self,
        response: Response<Body>,
        route: &Route,
        client: &mut Client,
    ) -> Result<StatusCode, Cause> {
        let (parts, body) = response.into_parts();
        let version = if parts.version == http::Version::HTTP_10 { Version::Http10 } else { Version::Http11 };
        let reason = Bytes::from_static(parts.status.canonical_reason().unwrap_or_default().as_bytes());
        let fields: Fields =
            parts.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let head = ResponseHead::build(version, parts.status, reason, fields, &self.head.method);
        let mut head = head.map_err(|error| match error {
            ResponseError::Malformed(_) => Cause::BadResponse,
            ResponseError::TooLarge => Cause::ResponseHeadTooLarge,
        })?;
        if head.status.is_informational() {
            // A switch of protocols that nobody has asked for.
            return Err(Cause::BadResponse);
        }
        if let Some(guard) = &self.guard {
            let host = guard.upstream().host();
            amend_answer(&mut head, self.head, route.config(), host, || self.facts(route.config(), client));
        }
        let to = match head.framing {
            ResponseFraming::None => Delimited::NoBody,
            ResponseFraming::Length(length) => Delimited::Length(length),
            ResponseFraming::Chunked | ResponseFraming::UntilClose
                if self.head.version == Version::Http10 =>
            {
                Delimited::UntilClose
            }
            ResponseFraming::Chunked | ResponseFraming::UntilClose => Delimited::Chunked,
        };
        let cookie = self
            .guard
            .as_ref()
            .and_then(|guard| set_cookie(route.config(), &self.head.fields, guard, &|id| route.can_use(id)));
        let mut out = Vec::with_capacity(4 * 1024);
        let keep_alive = self.head.keep_alive && to != Delimited::UntilClose && !self.gateway.is_draining();
        let added = Added { request_id: self.record.id.as_bytes(), cookie: cookie.as_ref(), hsts: None };
        write_response_head(&mut out, &head, to, self.head.version, keep_alive, &added);
        self.answered = Some(head.status);
        let now = Instant::now();
        if let Some(guard) = &self.guard {
            route.note_answer(guard, head.status.as_u16(), self.record.in_phase(now));
        }
        self.record.enter(Phase::Relay, now);
        self.record.answer_begins(now);
        self.record.head_sent(out.len());
        if !client.answer(&out) {
            return Err(Cause::ClientLeft);
        }
        pass_on(body, to, client)?;
        Ok(head.status)
    }
}

/// Passes the body on.
fn pass_on(body: Body, to: Delimited, client: &mut Client) -> Result<(), Cause> {
    if to == Delimited::NoBody {
        return Ok(());
    }
    let mut reader = body.into_reader();
    let mut out = Vec::new();
    let mut buf = vec![0; 16 * 1024];
    loop {
        let read = reader.read(&mut buf);
        let data = buf.get(..read.as_ref().map_or(0, |n| *n)).unwrap_or_default();
        match to {
            Delimited::Chunked if !data.is_empty() => write_chunk(data, &mut out),
            Delimited::Chunked if read.is_ok() => out.extend_from_slice(LAST_CHUNK),
            _ => out.extend_from_slice(data),
        }
        let is_end = data.is_empty();
        // Also what came before a fault: the missing end shows that it is not whole.
        if !client.answer(&out) {
            return Err(Cause::ClientLeft);
        }
        out.clear();
        read.map_err(|error| body_cause(&error))?;
        if is_end {
            return Ok(());
        }
    }
}

/// Why the body of an answer broke off.
fn body_cause(error: &io::Error) -> Cause {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        Some(ureq::Error::Timeout(_)) => Cause::ResponseTimeout,
        Some(ureq::Error::Protocol(_)) => Cause::BadResponse,
        _ => Cause::BackendClosed,
    }
}

/// Why a try failed.
#[derive(Clone, Copy, Debug)]
struct Failed {
    cause: Cause,
    /// Not the backend's doing: it is not held against it.
    is_ours: bool,
    /// The backend may have some of the request. ureq does not say.
    sent: bool,
}

impl Failed {
    fn of(error: &ureq::Error) -> Self {
        let (cause, sent) = match error {
            ureq::Error::Timeout(Timeout::Connect) => (Cause::ConnectTimeout, false),
            ureq::Error::Timeout(_) => (Cause::ResponseTimeout, true),
            ureq::Error::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => (Cause::ConnectRefused, false),
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => (Cause::BackendClosed, true),
                _ => (Cause::ConnectFailed, false),
            },
            ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => (Cause::ConnectFailed, false),
            ureq::Error::LargeResponseHeader(..) => (Cause::ResponseHeadTooLarge, true),
            ureq::Error::Protocol(error) if error.to_string().contains("too many headers") => {
                (Cause::ResponseHeadTooLarge, true)
            }
            _ => (Cause::BadResponse, true),
        };
        let is_ours = matches!(error, ureq::Error::Io(error) if shortage::is_ours(error));
        Self { cause, is_ours, sent }
    }
}

/// The body of a request, up to the route's `max_body_bytes`.
struct Limited<'c> {
    client: &'c mut Client,
    max: Option<u64>,
}

impl Read for Limited<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.client.read(buf)?;
        if self.max.is_some_and(|max| self.client.received() > max) {
            return Err(io::Error::other("the body is larger than the route accepts"));
        }
        Ok(n)
    }
}
