//! One request on its way: a route, a backend, a try with ureq and perhaps another, and the answer.

use std::borrow::Cow;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::response::Parts;
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use ureq::{Body, SendBody, Timeout};

use super::agents::{Agents, agent};
use super::client::Client;
use crate::access_log::{Entry, RequestLine};
use crate::balance::{Backend, BackendGuard, PickRequest};
use crate::config::{Engine, RouteConfig};
use crate::counters::tally::Ended;
use crate::error::Cause;
use crate::exchange::answer_here;
use crate::exchange::client_address::client_address;
use crate::exchange::coding::{Coder, code};
use crate::exchange::decision::{Outgoing, admit, amend_answer, is_sent_by, route_of, scheme};
use crate::exchange::gateway::Gateway;
use crate::exchange::record::{Phase, Record};
use crate::exchange::refusal::{OwnAnswer, Pages, Refused};
use crate::exchange::retry::{self, Progress};
use crate::http::chunked::{LAST_CHUNK, write_chunk};
use crate::http::fields::Fields;
use crate::http::head::{RequestHead, Version};
use crate::http::request_id::RequestId;
use crate::http::response_head::{ResponseError, ResponseFraming, ResponseHead};
use crate::http::response_out::{Added, Delimited, write_response_head};
use crate::passwords::{PATIENCE, Said};
use crate::route::Route;
use crate::rules::forward_auth::{cause_of_failure, lets_in};
use crate::rules::{BasicAuth, Credentials, Facts, ForwardAuth};
use crate::snapshot::Snapshot;
use crate::upstream::shortage;

/// After all tries have failed, a held request tries again this much later.
const PAUSE: Duration = Duration::from_millis(100);

/// What one request needs, and how far it has come.
pub(super) struct Forward<'a> {
    gateway: &'a Gateway,
    snapshot: &'a Snapshot,
    agents: &'a Agents,
    /// As it came; where the service of `forward_auth` has a say in it, with that.
    head: Cow<'a, RequestHead>,
    record: Record,
    route: Option<Arc<Route>>,
    guard: Option<BackendGuard>,
    /// That is of the service of `forward_auth`.
    asking: bool,
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
        let head = Cow::Borrowed(head);
        Self {
            gateway,
            snapshot,
            agents,
            head,
            record,
            route: None,
            guard: None,
            asking: false,
            answered: None,
        }
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
        self.record.head_sent(answer.head.len());
        client.answer_whole(answer);
    }

    /// What an answer of ours depends on, in place of that of a backend. tiny_http decides by the request alone what becomes
    /// of the connection.
    pub(super) fn refused(&self) -> Refused<'_> {
        let of_route = self.route.as_ref().and_then(|route| route.config().rules.error_pages.as_ref());
        let pages = Pages { of_route, of_all: self.snapshot.error_pages.as_ref() };
        let challenge = self.route.as_ref().and_then(|route| route.config().challenge());
        Refused { challenge, ..Refused::new(&self.head, &self.record.id, self.head.keep_alive, pages) }
    }

    /// Says in the logs what became of it.
    pub(super) fn note_end(&self, result: Result<StatusCode, Cause>, client: &Client) {
        let (head, cause) = (&*self.head, result.err());
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
                // What the service of `forward_auth` answers is no answer of a backend.
                let guard = self.guard.as_ref().filter(|_| !self.asking);
                route.count(&ended, guard.map(|guard| &**guard.backend()));
            }
            None => self.gateway.counters.unrouted.count(status),
        }
        let Some(log) = &self.snapshot.access_log else { return };
        let field = |name| head.fields.get(&name).map_or(&b""[..], HeaderValue::as_bytes);
        let (method, target) = (head.method.as_str(), head.target.as_str());
        let entry = Entry {
            request_id: self.record.id.as_str(),
            client: client_address(client.address(), &head.fields, &self.snapshot.trusted),
            user: self.record.user.as_deref(),
            request: Some(RequestLine { method, target, version: head.version }),
            tls: None,
            host: head.host.as_bytes(),
            referer: field(header::REFERER),
            user_agent: field(header::USER_AGENT),
            route: self.route.as_ref().map(|route| route.label()),
            pool: self.route.as_ref().and_then(|route| route.share_of(self.guard.as_ref()?.backend())),
            backend: self.backend(),
            status,
            cause,
            stage: self.record.phase.word(),
            bytes_received: received,
            bytes_sent: sent,
            retries,
            asked: self.record.asked(self.record.started + whole),
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
        let found = route_of(&self.head, &self.gateway.via, routes)?;
        let (route, other_methods) = (Arc::clone(found.route), found.other_methods);
        self.route = Some(Arc::clone(&route));
        let address = self.address(client);
        admit(&self.head, address, route.config(), other_methods)?;
        route.take(address, &self.head.fields, Instant::now())?;
        if let Some(auth) = &route.config().rules.basic_auth {
            self.authenticate(auth)?;
        }
        if let Some(rule) = &route.config().rules.forward_auth
            && let Some(status) = self.ask(rule, &route, address, client)?
        {
            return Ok(status);
        }
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
        let response = self.try_backends(&route, None, address, client)?;
        let status = self.answer(response, Some(route.config()), client)?;
        if let Some(guard) = &self.guard {
            route.note_success(guard);
        }
        Ok(status)
    }

    /// Asks the service of `forward_auth`. The status of its answer, if that keeps the request out and was passed on.
    fn ask(
        &mut self,
        rule: &ForwardAuth,
        route: &Arc<Route>,
        address: IpAddr,
        client: &mut Client,
    ) -> Result<Option<StatusCode>, Cause> {
        let service = route.auth().ok_or(Cause::Internal)?;
        let _guard = route.enter().ok_or(Cause::RouteFull)?;
        self.asking = true;
        let asked = self.try_backends(service, Some(rule), address, client);
        let response = asked.map_err(cause_of_failure)?;
        if let Some(guard) = &self.guard {
            service.note_success(guard);
        }
        if !lets_in(response.status()) {
            return self.answer(response, None, client).map(Some).map_err(cause_of_failure);
        }
        let (parts, body) = response.into_parts();
        let answer = head_of(&parts, &Method::GET).map_err(cause_of_failure)?;
        throw_away(body, answer.framing).map_err(|error| cause_of_failure(body_cause(&error)))?;
        rule.admit(self.head.to_mut(), &answer.fields);
        (self.guard, self.asking) = (None, false);
        self.record.enter(Phase::Receive, Instant::now());
        Ok(None)
    }

    /// Whether the request brings the name and the password of a user. Takes a while, and this thread has the time.
    fn authenticate(&mut self, auth: &BasicAuth) -> Result<(), Cause> {
        let credentials = Credentials::of(&self.head.fields).ok_or(Cause::Unauthorized)?;
        self.record.user = Some(credentials.user.as_str().into());
        let now = Instant::now();
        self.record.enter(Phase::Admit, now);
        let is_right = match self.gateway.passwords.ask(&auth.users, credentials, now, None) {
            Said::Known(is_right) => is_right,
            Said::Wait(ticket) => ticket.wait(PATIENCE).ok_or(Cause::AuthBusy)?,
            Said::Busy => return Err(Cause::AuthBusy),
        };
        self.record.enter(Phase::Receive, Instant::now());
        if is_right { Ok(()) } else { Err(Cause::Unauthorized) }
    }

    /// Who the request is from, as far as trusted proxies tell.
    fn address(&self, client: &Client) -> IpAddr {
        client_address(client.address(), &self.head.fields, &self.snapshot.trusted)
    }

    /// What placeholders of rules stand for.
    fn facts<'f>(&'f self, route: &'f RouteConfig, client: &Client) -> Facts<'f> {
        Facts {
            head: &self.head,
            route,
            client: self.address(client),
            scheme: self.scheme(client),
            client_cert: None,
            request_id: self.record.id.as_bytes(),
            user: self.record.user.as_deref(),
        }
    }

    /// `https` or `http`: how the client speaks to the proxy before this one, or to this one.
    fn scheme(&self, client: &Client) -> &'static str {
        scheme(&self.head, client.address(), &self.snapshot.trusted, false)
    }

    /// Tries backends as long as another try is safe, allowed and in time. With a `rule`, they are the service of that, and
    /// are asked whether the request is let in.
    fn try_backends(
        &mut self,
        route: &Route,
        rule: Option<&ForwardAuth>,
        address: IpAddr,
        client: &mut Client,
    ) -> Result<Response<Body>, Cause> {
        let config = route.config();
        let method = if rule.is_some() { Method::GET } else { self.head.method.clone() };
        let phase = |phase| if rule.is_some() { Phase::Auth } else { phase };
        let turn = route.take_turn(&self.head.fields);
        let mut tried: Vec<Arc<Backend>> = Vec::new();
        let mut suspects: Vec<Arc<Backend>> = Vec::new();
        let mut last = None;
        // Begins when all tries have failed.
        let mut held_until = None;
        loop {
            self.guard = None;
            self.record.enter(phase(Phase::Queue), Instant::now());
            let request = PickRequest { client: address, fields: &self.head.fields, turn };
            let guard = route.find_backend(&request, &tried, None).map_err(|cause| last.unwrap_or(cause))?;
            client.rewind();
            self.record.enter(phase(Phase::Await), Instant::now());
            let response = self.send(&guard, last.is_none(), route, rule, client);
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
            let progress = Progress {
                sent: sent.into(),
                received: 0,
                replayable: rule.is_some() || client.replayable(),
            };
            let now = Instant::now();
            let is_held = held_until.is_some_and(|until| now < until);
            let in_time = is_held || now.duration_since(self.record.started) < config.response_timeout;
            if !in_time || !retry::may_retry(&method, cause, progress) {
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
            if rule.is_none() {
                self.gateway.counters.retries.fetch_add(1, Ordering::Relaxed);
                self.record.retries += 1;
            }
        }
    }

    /// One try.
    fn send(
        &self,
        guard: &BackendGuard,
        is_first: bool,
        route: &Route,
        rule: Option<&ForwardAuth>,
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
            client_cert: None,
            tells_client_cert: false,
            port: None,
            upgrade: false,
            via: &self.gateway.via,
            request_id: self.record.id.as_bytes(),
            user: self.record.user.as_deref(),
        };
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = addr.to_string().parse().ok();
        uri.path_and_query = match (rule, outgoing.target(&self.head)) {
            (Some(rule), _) => rule.path.parse().ok(),
            (None, Cow::Borrowed(_)) => Some(self.head.target.path_and_query().clone()),
            (None, Cow::Owned(target)) => target.parse().ok(),
        };
        // Of these three parts a URI is complete; another would be refused.
        let uri = Uri::from_parts(uri).unwrap_or_default();
        let method = if rule.is_some() { Method::GET } else { self.head.method.clone() };
        let mut request = Request::builder().method(method).uri(uri);
        let mut put = |name: &[u8], value: &[u8]| {
            if is_sent_by(Engine::TinyHttp, name) {
                let builder = std::mem::take(&mut request);
                request = builder.header(name, value);
            }
        };
        match self.route.as_ref().filter(|_| rule.is_some()) {
            Some(route) => outgoing.put_question(&self.head, &route.config().rules, &mut put),
            None => outgoing.put_fields(&self.head, &mut put),
        }
        // After a failure a new connection: the backend may have closed all that are kept.
        let pool = route.pool_of(guard).config();
        let agent = if is_first { self.agents.of(guard, config, pool) } else { agent(config, pool) };
        let max = config.max_body_bytes;
        let result = if rule.is_none() && self.head.framing.has_body() {
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

    /// Passes the answer on: of a backend as the rules of the `route` have it, that of the service of `forward_auth` as it is.
    fn answer(
        &mut self,
        response: Response<Body>,
        route: Option<&RouteConfig>,
        client: &mut Client,
    ) -> Result<StatusCode, Cause> {
        let (parts, body) = response.into_parts();
        let mut head = head_of(&parts, &self.head.method)?;
        // `None`: it is the answer of the service of `forward_auth`.
        let of_route = route.and(self.route.as_ref()).zip(self.guard.as_ref());
        if let Some((route, guard)) = of_route {
            route.note_answer(guard, head.status.as_u16(), self.record.in_phase(Instant::now()));
        }
        let intercept = route.and_then(|route| route.rules.intercept.as_ref());
        if intercept.is_some_and(|intercept| intercept.has(head.status.as_u16())) {
            // To read the body to its end would be to wait for it: ureq closes the connection.
            drop(body);
            self.answered = Some(head.status);
            self.record.answer_begins(Instant::now());
            self.answer_itself(&self.refused().intercepted(&head), client);
            return Ok(head.status);
        }
        if let (Some(guard), Some(route)) = (&self.guard, route) {
            let host = guard.upstream().host();
            amend_answer(&mut head, &self.head, route, host, || self.facts(route, client));
        }
        let coder = route
            .and_then(|route| route.rules.compress.as_ref())
            .and_then(|rule| code(rule, &self.head, &mut head, &self.gateway.compressing));
        let to = match head.framing {
            _ if coder.is_some() => Delimited::Chunked,
            ResponseFraming::None => Delimited::NoBody,
            ResponseFraming::Length(length) => Delimited::Length(length),
            ResponseFraming::Chunked | ResponseFraming::UntilClose
                if self.head.version == Version::Http10 =>
            {
                Delimited::UntilClose
            }
            ResponseFraming::Chunked | ResponseFraming::UntilClose => Delimited::Chunked,
        };
        let scheme = self.scheme(client);
        let of_route = route.and(self.route.as_ref()).zip(self.guard.as_ref());
        let cookie = of_route.and_then(|(route, guard)| route.set_cookie(&self.head.fields, guard, scheme));
        let mut out = Vec::with_capacity(4 * 1024);
        let keep_alive = self.head.keep_alive && to != Delimited::UntilClose && !self.gateway.is_draining();
        let added = Added { request_id: self.record.id.as_bytes(), cookie: cookie.as_ref(), hsts: None };
        write_response_head(&mut out, &head, to, self.head.version, keep_alive, &added);
        self.answered = Some(head.status);
        let now = Instant::now();
        self.record.enter(Phase::Relay, now);
        self.record.answer_begins(now);
        self.record.head_sent(out.len());
        if !client.answer(&out) {
            return Err(Cause::ClientLeft);
        }
        pass_on(body, to, coder, client)?;
        Ok(head.status)
    }
}

/// The head of an answer to this method, by the rules that both engines have.
fn head_of(parts: &Parts, method: &Method) -> Result<ResponseHead, Cause> {
    let version = if parts.version == http::Version::HTTP_10 { Version::Http10 } else { Version::Http11 };
    let reason = Bytes::from_static(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    let fields: Fields = parts.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let head = ResponseHead::build(version, parts.status, reason, fields, method);
    let head = head.map_err(|error| match error {
        ResponseError::Malformed(_) => Cause::BadResponse,
        ResponseError::TooLarge => Cause::ResponseHeadTooLarge,
    })?;
    // A switch of protocols that nobody has asked for.
    if head.status.is_informational() { Err(Cause::BadResponse) } else { Ok(head) }
}

/// Passes the body on.
fn pass_on(body: Body, to: Delimited, mut coder: Option<Coder>, client: &mut Client) -> Result<(), Cause> {
    if to == Delimited::NoBody {
        return Ok(());
    }
    let mut reader = body.into_reader();
    let mut out = Vec::new();
    let mut buf = vec![0; 16 * 1024];
    loop {
        let read = reader.read(&mut buf);
        let data = buf.get(..read.as_ref().map_or(0, |n| *n)).unwrap_or_default();
        let is_end = data.is_empty();
        let is_whole = is_end && read.is_ok();
        match (to, &mut coder) {
            (_, Some(_)) if is_whole => {
                if let Some(coder) = coder.take() {
                    coder.finish(&mut |piece| write_chunk(piece, &mut out))?;
                }
            }
            (_, Some(coder)) => {
                let mut put = |piece: &[u8]| write_chunk(piece, &mut out);
                coder.push(data, &mut put)?;
                coder.flush(&mut put)?;
            }
            (Delimited::Chunked, None) if !is_end => write_chunk(data, &mut out),
            (_, None) => out.extend_from_slice(data),
        }
        if to == Delimited::Chunked && is_whole {
            out.extend_from_slice(LAST_CHUNK);
        }
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

/// Reads what is nobody's, so that the connection can be used again: not more than is worth it.
fn throw_away(body: Body, framing: ResponseFraming) -> io::Result<()> {
    if framing != ResponseFraming::UntilClose {
        io::copy(&mut body.into_reader().take(64 * 1024), &mut io::sink())?;
    }
    Ok(())
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
