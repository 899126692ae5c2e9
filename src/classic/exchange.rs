//! One request and its answer, from its head to what is said of it at the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::Method;
use tiny_http::Request;

use super::agents::Agents;
use super::answer::{head_of, throw_away};
use super::client::Client;
use crate::access_log::Lines;
use crate::balance::BackendGuard;
use crate::error::Cause;
use crate::exchange::authenticate;
use crate::exchange::client_address::client_address;
use crate::exchange::decision::{admit, route_of};
use crate::exchange::ending::Ending;
use crate::exchange::gateway::Gateway;
use crate::exchange::last_hop;
use crate::exchange::record::{Phase, Record};
use crate::exchange::refusal::OwnAnswer;
use crate::exchange::view::View;
use crate::http::head::RequestHead;
use crate::passwords::PATIENCE;
use crate::route::Route;
use crate::rules::forward_auth::{cause_of_failure, lets_in};
use crate::rules::{BasicAuth, ForwardAuth};
use crate::snapshot::Snapshot;

/// What one request needs, and how far it has come.
pub(super) struct Exchange<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) snapshot: &'a Snapshot,
    pub(super) agents: &'a Agents,
    pub(super) head: RequestHead,
    pub(super) client: Client,
    /// Who it is from, as far as trusted proxies tell.
    pub(super) address: IpAddr,
    pub(super) record: Record,
    pub(super) route: Option<Arc<Route>>,
    /// On the backend of the last try.
    pub(super) guard: Option<BackendGuard>,
    /// That is of the service of `forward_auth`.
    pub(super) asking: bool,
    /// Tries count from here on: what came before was spent on whether it may come.
    pub(super) tries_from: Instant,
    /// The status of the answer, once some of it may have been sent.
    pub(super) answered: Option<u16>,
}

impl<'a> Exchange<'a> {
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
        Self {
            gateway,
            snapshot,
            agents,
            head,
            client,
            address,
            tries_from: record.started,
            record,
            route: None,
            guard: None,
            asking: false,
            answered: None,
        }
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
    pub(super) fn view(&self) -> View<'_> {
        View {
            head: &self.head,
            record: &self.record,
            snapshot: self.snapshot,
            route: self.route.as_ref(),
            client: self.address,
            peer: self.client.address(),
            forwarded_for: self.client.forwarded_for(),
            secured: false,
            client_cert: None,
            port: None,
        }
    }

    /// Answers with what the proxy has made itself. tiny_http decides by the request alone what becomes of the connection.
    pub(super) fn answer_itself(&mut self, status: u16, answer: &OwnAnswer) {
        self.answered = Some(status);
        self.record.head_sent(answer.head.len());
        self.client.answer(&answer.head, &answer.content);
    }

    pub(super) fn enter(&mut self, phase: Phase) {
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
        let response = self.try_backends(&route)?;
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
        self.tries_from = Instant::now();
        Ok(())
    }

    /// Asks the service of `forward_auth`. Whether it lets the request in; if not, the client has its answer.
    fn ask(&mut self, rule: &ForwardAuth, route: &Arc<Route>) -> Result<bool, Cause> {
        let service = route.auth().ok_or(Cause::Internal)?;
        let _guard = route.enter().ok_or(Cause::RouteFull)?;
        self.asking = true;
        self.tries_from = Instant::now();
        let response = self.try_backends(service)?;
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
        self.tries_from = Instant::now();
        self.enter(Phase::Receive);
        Ok(true)
    }
}
