//! One request on its way: a route, a backend, a try with ureq and perhaps another, and the answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use http::{Method, Response};
use tiny_http::Request;
use ureq::{Body, SendBody};

use super::agents::{Agents, agent};
use super::answer::{head_of, pass_on, throw_away};
use super::client::Client;
use super::fault;
use super::request::request;
use crate::access_log::Lines;
use crate::balance::{BackendGuard, PickRequest};
use crate::error::Cause;
use crate::exchange::authenticate;
use crate::exchange::client_address::client_address;
use crate::exchange::coding::code;
use crate::exchange::decision::{admit, route_of};
use crate::exchange::ending::Ending;
use crate::exchange::framed::Framed;
use crate::exchange::gateway::Gateway;
use crate::exchange::last_hop;
use crate::exchange::record::{Phase, Record};
use crate::exchange::refusal::OwnAnswer;
use crate::exchange::retry::{Progress, is_unconnected};
use crate::exchange::tries::{Again, Failed, PAUSE, Tries};
use crate::exchange::view::View;
use crate::http::head::RequestHead;
use crate::http::response_out::{Added, Delimited, write_response_head};
use crate::passwords::PATIENCE;
use crate::route::Route;
use crate::rules::forward_auth::{cause_of_failure, lets_in};
use crate::rules::{BasicAuth, ForwardAuth};
use crate::snapshot::Snapshot;

/// What one request needs, and how far it has come.
pub(super) struct Forward<'a> {
    gateway: &'a Gateway,
    snapshot: &'a Snapshot,
    agents: &'a Agents,
    head: RequestHead,
    client: Client,
    /// Who it is from, as far as trusted proxies tell.
    address: IpAddr,
    record: Record,
    route: Option<Arc<Route>>,
    /// On the backend of the last try.
    guard: Option<BackendGuard>,
    /// That is of the service of `forward_auth`.
    asking: bool,
    /// The status of the answer, once some of it may have been sent.
    answered: Option<u16>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(
        gateway: &'a Gateway,
        snapshot: &'a Snapshot,
        agents: &'a Agents,
        head: RequestHead,
        request: Request,
    ) -> Self {
        let client = Client::new(request, head.framing);
        let address = client_address(client.address(), &head.fields, &snapshot.trusted);
        let record = Record::new(&head.fields, 0, Instant::now());
        let (route, guard, asking, answered) = (None, None, false, None);
        Self { gateway, snapshot, agents, head, client, address, record, route, guard, asking, answered }
    }

    /// Answers the request, one way or another, and says in the logs what became of it.
    pub(super) fn serve(mut self) {
        let result = self.run();
        let cause = result.err().map(|cause| if self.asking { cause_of_failure(cause) } else { cause });
        if let Some(cause) = cause {
            self.gateway.counters.count(cause);
            if self.answered.is_none() {
                let answer = self.view().refused(self.head.keep_alive).answer(cause);
                self.answer_itself(cause.status(), &answer);
            }
        }
        let ending = Ending {
            view: self.view(),
            backend: self.guard.as_deref(),
            asking: self.asking,
            status: self.answered.unwrap_or(0),
            cause,
            received: self.client.received(),
            sent: self.record.body_sent(self.client.sent()),
            whole: self.record.started.elapsed(),
            tls: None,
        };
        ending.log(self.client.who());
        let mut lines = Lines::default();
        ending.note(&self.gateway.counters, &mut lines);
        lines.hand_over();
    }

    /// What both engines have of it.
    fn view(&self) -> View<'_> {
        View {
            head: &self.head,
            record: &self.record,
            snapshot: self.snapshot,
            route: self.route.as_ref(),
            client: self.address,
            peer: self.client.address(),
            forwarded_for: self.client.forwarded_for(),
            secured: false,
            port: None,
        }
    }

    /// Answers with what the proxy has made itself. tiny_http decides by the request alone what becomes of the connection.
    fn answer_itself(&mut self, status: u16, answer: &OwnAnswer) {
        self.answered = Some(status);
        self.record.head_sent(answer.head.len());
        self.client.answer_whole(answer);
    }

    fn enter(&mut self, phase: Phase) {
        self.record.enter(if self.asking { Phase::Auth } else { phase }, Instant::now());
    }

    /// From the head to the end of the answer.
    fn run(&mut self) -> Result<(), Cause> {
        if last_hop::ends_here(&self.head) {
            let answer = last_hop::answer(&self.head, &self.record.id, self.head.keep_alive);
            self.answer_itself(200, &answer);
            return Ok(());
        }
        let found = route_of(&self.head, &self.gateway.via, &self.snapshot.routes)?;
        let route = Arc::clone(found.route);
        self.route = Some(Arc::clone(&route));
        admit(&self.head, self.address, route.config(), found.other_methods)?;
        route.take(self.address, &self.head.fields, Instant::now())?;
        if let Some(auth) = &route.config().rules.basic_auth {
            self.authenticate(auth)?;
        }
        if let Some(rule) = &route.config().rules.forward_auth
            && !self.ask(rule, &route)?
        {
            return Ok(());
        }
        if let Some(answer) = self.view().answer_here(self.head.keep_alive) {
            let (status, answer) = answer?;
            self.answer_itself(status, &answer);
            return Ok(());
        }
        self.client.collect()?;
        // Only now: a client that is slow to send its request takes no place away from others.
        let _guard = route.enter().ok_or(Cause::RouteFull)?;
        let response = self.try_backends(&route, None)?;
        self.answer(response)?;
        if let Some(guard) = &self.guard {
            route.note_success(guard);
        }
        Ok(())
    }

    /// Whether the request brings the name and the password of a user. Takes a while, and this thread has the time.
    fn authenticate(&mut self, auth: &BasicAuth) -> Result<(), Cause> {
        let (passwords, now) = (&self.gateway.passwords, Instant::now());
        let ticket = authenticate::ask(auth, &self.head.fields, &mut self.record, passwords, now, None)?;
        if let Some(ticket) = ticket {
            self.enter(Phase::Admit);
            if !ticket.wait(PATIENCE).ok_or(Cause::AuthBusy)? {
                return Err(Cause::Unauthorized);
            }
            self.enter(Phase::Receive);
        }
        Ok(())
    }

    /// Asks the service of `forward_auth`. Whether it lets the request in; if not, the client has its answer.
    fn ask(&mut self, rule: &ForwardAuth, route: &Arc<Route>) -> Result<bool, Cause> {
        let service = route.auth().ok_or(Cause::Internal)?;
        let _guard = route.enter().ok_or(Cause::RouteFull)?;
        self.asking = true;
        let response = self.try_backends(service, Some(rule))?;
        if let Some(guard) = &self.guard {
            service.note_success(guard);
        }
        if !lets_in(response.status()) {
            self.answer(response)?;
            return Ok(false);
        }
        let (parts, body) = response.into_parts();
        let answer = head_of(&parts, &Method::GET)?;
        throw_away(body, answer.framing)?;
        rule.admit(&mut self.head, &answer.fields);
        (self.guard, self.asking) = (None, false);
        self.enter(Phase::Receive);
        Ok(true)
    }

    /// Tries backends of `route` as long as another try follows. With a `rule`, they are the service of that, and are asked
    /// whether the request is let in.
    fn try_backends(&mut self, route: &Route, rule: Option<&ForwardAuth>) -> Result<Response<Body>, Cause> {
        let method = if rule.is_some() { Method::GET } else { self.head.method.clone() };
        let turn = route.take_turn(&self.head.fields);
        let mut tries = Tries::default();
        loop {
            self.guard = None;
            self.enter(Phase::Queue);
            let request = PickRequest { client: self.address, fields: &self.head.fields, turn };
            let found = route.find_backend(&request, tries.tried(), None);
            let guard = found.map_err(|none| tries.why(none))?;
            self.enter(Phase::Await);
            let result = self.send(&guard, tries.is_first(), route, rule);
            let backend = self.guard.insert(guard).backend();
            let failed = match result {
                Ok(response) => {
                    tries.answered(route, backend);
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            // ureq says neither whether the connection was new nor how far the request had come.
            tries.blame(route, backend, failed, true);
            let cause = failed.cause;
            let replayable = rule.is_some() || self.client.replayable();
            let progress = Progress { sent: u64::from(!is_unconnected(cause)), received: 0, replayable };
            let times = (self.record.started, Instant::now());
            let again = tries.again(route.config(), backend, (&method, cause, progress), times);
            if again.ok_or(cause)? == Again::AfterPause {
                thread::sleep(PAUSE);
            }
            if rule.is_none() {
                self.gateway.counters.retries.fetch_add(1, Ordering::Relaxed);
                self.record.retries += 1;
            }
        }
    }

    /// One try.
    fn send(
        &mut self,
        guard: &BackendGuard,
        is_first: bool,
        route: &Route,
        rule: Option<&ForwardAuth>,
    ) -> Result<Response<Body>, Failed> {
        let (config, pool) = (route.config(), route.pool_of(guard).config());
        let unresolved = Failed { cause: Cause::NameNotResolved, is_ours: false };
        let addr = guard.resolved().ok_or(unresolved)?;
        let outgoing = self.view().outgoing(config, guard, false, &self.gateway.via);
        let request = request(&outgoing, &self.head, rule, addr);
        // After a failure a new connection: the backend may have closed all that are kept.
        let agent = if is_first { self.agents.of(guard, config, pool) } else { agent(config, pool) };
        self.client.rewind(config.max_body_bytes);
        let result = if rule.is_none() && self.head.framing.has_body() {
            request.body(SendBody::from_reader(&mut self.client)).map(|request| agent.run(request))
        } else {
            request.body(()).map(|request| agent.run(request))
        };
        result.map_err(ureq::Error::from).flatten().map_err(|error| {
            let failed = fault::of_try(&error);
            log::debug!("try failed backend={} cause={} reason=\"{error}\"", guard.label(), failed.cause);
            self.client.fault().map_or(failed, |cause| Failed { cause, is_ours: true })
        })
    }

    /// Passes the answer on: that of a backend as the rules of the route have it, that of the service of `forward_auth` as it is.
    fn answer(&mut self, response: Response<Body>) -> Result<(), Cause> {
        let (parts, body) = response.into_parts();
        let mut head = head_of(&parts, &self.head.method)?;
        let (status, now) = (head.status.as_u16(), Instant::now());
        let (mut coder, mut cookie) = (None, None);
        if let (Some(route), Some(guard), false) = (&self.route, &self.guard, self.asking) {
            route.note_answer(guard, status, self.record.in_phase(now));
            let rules = &route.config().rules;
            if rules.intercept.as_ref().is_some_and(|intercept| intercept.has(status)) {
                // To read the body to its end would be to wait for it: ureq closes the connection.
                drop(body);
                let answer = self.view().refused(self.head.keep_alive).intercepted(&head);
                self.record.answer_begins(now);
                self.answer_itself(status, &answer);
                return Ok(());
            }
            self.view().amend(&mut head, guard);
            let compress = rules.compress.as_ref();
            coder = compress.and_then(|rule| code(rule, &self.head, &mut head, &self.gateway.compressing));
            cookie = route.set_cookie(&self.head.fields, guard);
        }
        let framed = Framed::new(&head, self.head.version, coder);
        let may_stay = framed.to != Delimited::UntilClose && !self.gateway.is_draining();
        let keep_alive = self.head.keep_alive && may_stay;
        let mut out = Vec::with_capacity(4 * 1024);
        let added = Added { request_id: self.record.id.as_bytes(), cookie: cookie.as_ref(), hsts: None };
        write_response_head(&mut out, &head, framed.to, self.head.version, keep_alive, &added);
        self.answered = Some(status);
        self.record.enter(Phase::Relay, now);
        self.record.answer_begins(now);
        self.record.head_sent(out.len());
        if !self.client.answer(&out) {
            return Err(Cause::ClientLeft);
        }
        pass_on(body, framed, &mut self.client)
    }
}
