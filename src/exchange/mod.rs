//! One exchange: a request and its response, as a value that goes from stage to stage.
//!
//! | stage | file | waits for |
//! |---|---|---|
//! | challenge | `at_the_door.rs` | the file that answers the challenge of an ACME server |
//! | authenticate | `authenticate.rs` | whether it is the password of who says that he is it |
//! | auth | `auth.rs` | the service of `forward_auth`, if the route has one: the next three stages, with it in place of a backend |
//! | collect | `downstream/body.rs` | the beginning of the request body, so that a slow sender holds no backend |
//! | queued | `queued.rs` | a backend, while all are full |
//! | connect | `connect.rs` | the backend's connection, TLS included |
//! | await head | `send.rs`, `await_head.rs` | room to send the request in, its body, and the head of the answer |
//! | relay | `relay.rs` | the body of the answer, or room to pass it on in, compressed or not (`coding.rs`); `send.rs` goes on beside it |
//! | tunnel | `tunnel.rs` | either side, after a 101 |
//! | tell | `tell.rs` | room to send the rest of an answer of ours in |
//!
//! What does not depend on how an engine waits is for both, and in files of its own: what a request's head decides
//! (`decision.rs`, `authenticate.rs`), which tries there are (`tries.rs`, `retry.rs`), what the client gets of a body
//! (`framed.rs`, `coding.rs`) or in place of it (`refusal.rs`, `answer_here.rs`, `last_hop.rs`), and what is said at the end
//! (`record.rs`, `ending.rs`). `view.rs` is what these are lent of an exchange.
//!
//! [`Exchange::advance`] does everything that can be done without waiting, and says until when it can wait. Nobody else
//! touches an exchange meanwhile: it belongs to the worker that has its client's connection.

pub(crate) mod answer_here;
pub(crate) mod at_the_door;
mod auth;
pub(crate) mod authenticate;
mod await_head;
pub(crate) mod client_address;
pub(crate) mod coding;
mod connect;
pub(crate) mod context;
pub(crate) mod decision;
pub(crate) mod ending;
mod finish;
pub(crate) mod framed;
pub(crate) mod gateway;
#[cfg(any(test, fuzzing))]
pub mod header_checks;
mod intercept;
pub(crate) mod last_hop;
pub(crate) mod queued;
pub(crate) mod record;
pub(crate) mod refusal;
mod relay;
pub(crate) mod retry;
mod send;
pub(crate) mod sight;
mod tell;
pub(crate) mod tries;
mod tunnel;
pub(crate) mod view;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::{Backend, BackendGuard};
use crate::counters::InFlight;
use crate::downstream::body::RequestBody;
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::http::head::RequestHead;
use crate::route::{Route, RouteGuard};
use crate::snapshot::Snapshot;
use crate::upstream::connection::UpstreamConnection;
use at_the_door::Challenge;
use auth::LetIn;
use authenticate::Authenticate;
use client_address::client_address;
use connect::Connect;
use context::Context;
use gateway::Place;
use queued::Queued;
use record::{Phase, Record};
use refusal::OwnAnswer;
use relay::Relay;
use send::Upload;
use tell::Tell;
use tries::{Again, Failed, Tries};
use tunnel::Tunnel;
use view::View;

/// What a client waits for that sent `Expect: 100-continue`.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Where an exchange is.
#[derive(Debug)]
enum Stage {
    Begin,
    Challenge(Challenge),
    Authenticate(Authenticate),
    Collect,
    Queued(Queued),
    Connect(Connect),
    AwaitHead,
    LetIn(Box<LetIn>),
    Relay(Box<Relay>),
    Tunnel(Box<Tunnel>),
    Tell(Tell),
}

impl Stage {
    fn phase(&self) -> Phase {
        match self {
            Self::Begin | Self::Challenge(_) | Self::Collect => Phase::Receive,
            Self::Authenticate(_) => Phase::Admit,
            Self::Queued(_) => Phase::Queue,
            Self::Connect(_) => Phase::Connect,
            Self::AwaitHead => Phase::Await,
            Self::LetIn(_) => Phase::Auth,
            Self::Relay(_) | Self::Tell(_) => Phase::Relay,
            Self::Tunnel(_) => Phase::Tunnel,
        }
    }
}

/// What a stage says when it can't go on by itself, or is over.
#[derive(Debug)]
enum Next {
    /// This one now.
    Stage(Stage),
    /// Something has to happen first; until then, what [`Due`] says.
    Wait(Due),
    /// There is more to do, but others have waited long enough.
    Again,
    /// The try has failed; another may follow.
    TryFailed(Failed),
    /// The exchange has failed.
    Failed(Cause),
    /// It ends here, with this status and this answer.
    Answer(u16, OwnAnswer),
    /// The answer is whole.
    Whole,
    /// The tunnel is over.
    TunnelEnded,
    /// The client has an answer of ours, whole. What becomes of its connection, and why there was one.
    Told(End, Option<Cause>),
}

/// Until when a stage waits.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// Why the exchange fails then; `None`: the stage has to look again.
    cause: Option<Cause>,
}

impl Due {
    fn fails(at: Instant, cause: Cause) -> Self {
        Self { at, cause: Some(cause) }
    }

    fn look(at: Instant) -> Self {
        Self { at, cause: None }
    }

    /// Whichever comes first.
    fn or(self, other: impl Into<Option<Self>>) -> Self {
        match other.into() {
            Some(other) if other.at < self.at => other,
            _ => self,
        }
    }
}

/// What becomes of the client's connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It can carry the next request.
    KeepAlive,
    /// The answer is complete and said that the connection closes.
    Close,
    /// The answer broke off, or there is nobody to answer: close so that the client sees it.
    Broken,
}

/// What [`Exchange::advance`] says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Progress {
    /// Something has to happen first, or this moment to come.
    Wait(Instant),
    /// There is more to do, but others have waited long enough.
    Again,
    /// It is over. `body_is_read`: that of the request, so that the next one can follow it.
    Ended { end: End, body_is_read: bool },
}

/// An exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    head: Box<RequestHead>,
    body: RequestBody,
    upload: Upload,
    record: Record,
    stage: Stage,
    /// The client may be told to go on with its body, and was not yet.
    owes_continue: bool,
    /// The client had ended its side before a backend was asked: it waits for the answer all the same.
    half_closed: bool,
    /// What it began under.
    snapshot: Arc<Snapshot>,
    route: Option<(Arc<Route>, Option<RouteGuard>)>,
    /// The service of the route's `forward_auth` is asked, or its answer is passed on. Until then the head of that has to be here.
    asking: Option<Instant>,
    /// The end of the whole exchange.
    deadline: Option<Instant>,
    /// Tries count from here on: what came before was spent on whether it may come.
    tries_from: Instant,
    tries: Tries,
    /// Who it is from, for the balancer.
    client: IpAddr,
    /// Its turn, where several pools take turns.
    turn: Option<usize>,
    guard: Option<BackendGuard>,
    /// The backend of the last try, when no other follows.
    failed_on: Option<Arc<Backend>>,
    backend: Option<Box<UpstreamConnection>>,
    /// A place for the tunnel that the request asks for.
    permit: Option<Place>,
    /// Interim responses passed on or dropped.
    interim: u32,
    /// The status of the answer, once the client has been sent some of it.
    answered: Option<u16>,
    in_flight: Option<InFlight>,
    _place: Option<Place>,
}

impl Exchange {
    /// The exchange of a request that has just come in.
    pub(crate) fn new(head: Box<RequestHead>, client: &Connection, cx: &Context<'_>) -> Self {
        // That at work now: it may have become another one since the turn began, and before the request was sent.
        let (gateway, snapshot, now) = (cx.gateway, cx.gateway.snapshot(), cx.now);
        let place = gateway.exchanges.take();
        Self {
            body: RequestBody::new(head.framing, now),
            upload: Upload::new(now),
            record: Record::new(&head.fields, client.stream.sent() + client.unsent.len() as u64, now),
            stage: Stage::Begin,
            owes_continue: head.expect_continue,
            half_closed: false,
            route: None,
            asking: None,
            deadline: None,
            tries_from: now,
            tries: Tries::default(),
            client: client_address(client.address(), &head.fields, &snapshot.trusted),
            snapshot,
            turn: None,
            guard: None,
            failed_on: None,
            backend: None,
            permit: None,
            interim: 0,
            answered: None,
            in_flight: Some(InFlight::enter(&gateway.counters)),
            _place: place,
            head,
        }
    }

    /// The connection to the backend, for what the poller says of it.
    pub(crate) fn backend_mut(&mut self) -> Option<&mut UpstreamConnection> {
        self.backend.as_deref_mut()
    }

    /// How long it has lasted.
    pub(crate) fn age(&self) -> Duration {
        self.record.started.elapsed()
    }

    /// A 101 was passed on.
    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self.stage, Stage::Tunnel(_))
    }

    /// Does all that can be done without waiting.
    pub(crate) fn advance(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Progress {
        loop {
            if self.client_left(client) {
                return self.fail(Cause::ClientLeft, client, cx);
            }
            match self.step(client, cx) {
                Next::Stage(stage) => self.enter(stage, cx.now),
                Next::Again => return Progress::Again,
                Next::TryFailed(failed) => match self.after_failed_try(failed, cx) {
                    Ok(stage) => self.enter(stage, cx.now),
                    Err(cause) => return self.fail(cause, client, cx),
                },
                Next::Failed(cause) => return self.fail(cause, client, cx),
                Next::Answer(status, answer) => {
                    let keep_alive = self.may_keep_alive(cx);
                    return self.answer(answer, keep_alive, status, None, client, cx);
                }
                Next::Whole => return self.finish(client, cx),
                Next::TunnelEnded => return self.ended(End::Broken, None, client, cx),
                Next::Told(end, cause) => return self.ended(end, cause, client, cx),
                Next::Wait(due) => {
                    let deadline = self.deadline.filter(|_| !self.is_tunnel());
                    let due = due.or(deadline.map(|at| Due::fails(at, Cause::DeadlineExceeded)));
                    let asked = self.asking.filter(|_| self.answered.is_none());
                    let due = due.or(asked.map(|at| Due::fails(at, Cause::AuthTimeout)));
                    if cx.now < due.at {
                        return Progress::Wait(due.at);
                    }
                    match due.cause {
                        None => return Progress::Wait(cx.now + Duration::from_millis(1)),
                        Some(cause) => {
                            if let Some(progress) = self.expire(cause, client, cx) {
                                return progress;
                            }
                        }
                    }
                }
            }
        }
    }

    fn enter(&mut self, stage: Stage, now: Instant) {
        let phase = match stage.phase() {
            Phase::Queue | Phase::Connect | Phase::Await if self.asking.is_some() => Phase::Auth,
            phase => phase,
        };
        self.record.enter(phase, now);
        self.stage = stage;
    }

    fn step(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        match &self.stage {
            Stage::Begin => self.begin(client, cx),
            Stage::Challenge(_) => self.await_challenge(cx),
            Stage::Authenticate(_) => self.await_password(client, cx),
            Stage::Collect => self.collect(client, cx),
            Stage::Queued(_) => self.queue(cx),
            Stage::Connect(_) => self.connect(client, cx),
            Stage::AwaitHead => self.await_head(client, cx),
            Stage::LetIn(_) => self.let_in(client, cx),
            Stage::Relay(_) => self.relay(client, cx),
            Stage::Tunnel(_) => self.tunnel(client, cx),
            Stage::Tell(_) => self.tell(client, cx),
        }
    }

    /// The client is gone. Its end together with its request is none: it may wait for the answer with its side closed.
    fn client_left(&self, client: &Connection) -> bool {
        match self.stage {
            Stage::Tunnel(_) => return false,
            // It has asked for all that it wants, and gets it.
            Stage::Challenge(_) | Stage::Tell(_) => return client.stream.is_broken(),
            _ => {}
        }
        client.stream.is_broken()
            || (client.stream.has_hung_up() && !self.half_closed && self.body.is_all_received())
    }

    /// Finds the route and decides what can be decided by the head alone.
    fn begin(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        if self._place.is_none() {
            return Next::Failed(Cause::Overloaded);
        }
        let keep_alive = self.may_keep_alive(cx);
        let front = &self.snapshot.front;
        if let Some(next) = at_the_door::answer(&self.head, &self.record.id, client, front, keep_alive, cx) {
            return next;
        }
        if last_hop::ends_here(&self.head) {
            return Next::Answer(200, last_hop::answer(&self.head, &self.record.id, keep_alive));
        }
        let routes = &self.snapshot.routes;
        let (route, other_methods) = match decision::route_of(&self.head, &cx.gateway.via, routes) {
            Ok(found) => (Arc::clone(found.route), found.other_methods),
            Err(cause) => return Next::Failed(cause),
        };
        let admitted = decision::admit(&self.head, self.client, route.config(), other_methods)
            .and_then(|()| route.take(self.client, &self.head.fields, cx.now));
        self.deadline = route.config().deadline.and_then(|limit| self.record.started.checked_add(limit));
        let asks = route.config().rules.basic_auth.is_some();
        self.route = Some((route, None));
        if let Err(cause) = admitted {
            return Next::Failed(cause);
        }
        if asks { self.authenticate(client, cx) } else { self.authenticated(client, cx) }
    }

    /// Goes on with a request that may come as far as this proxy knows.
    fn authenticated(&mut self, client: &mut Connection, cx: &Context<'_>) -> Next {
        match self.begin_to_ask(client, cx) {
            Some(next) => next,
            None => self.go_on(client, cx),
        }
    }

    /// The request is let in.
    fn go_on(&mut self, client: &mut Connection, cx: &Context<'_>) -> Next {
        match self.view(client).answer_here(self.may_keep_alive(cx)) {
            Some(Ok((status, answer))) => return Next::Answer(status, answer),
            Some(Err(cause)) => return Next::Failed(cause),
            None => {}
        }
        // Whether it may come at all has taken a while, maybe.
        self.body.resume(cx.now);
        self.tries_from = cx.now;
        // A client that asks is told to go on only if somebody is there to take it.
        let may_continue = self.route.as_ref().is_some_and(|(route, _)| route.has_healthy());
        if self.owes_continue && may_continue && self.body.is_untouched() && client.input.is_empty() {
            self.owes_continue = false;
            self.record.head_sent(CONTINUE.len());
            if client.unsent.send(&mut client.stream, CONTINUE).is_err() {
                return Next::Failed(Cause::ClientLeft);
            }
        }
        Next::Stage(Stage::Collect)
    }

    /// What both engines have of it.
    fn view<'a>(&'a self, client: &'a Connection) -> View<'a> {
        let entrance = client.entrance();
        View {
            head: &self.head,
            record: &self.record,
            snapshot: &self.snapshot,
            route: self.route.as_ref().map(|(route, _)| route),
            client: self.client,
            peer: client.address(),
            forwarded_for: client.forwarded_for(),
            secured: entrance.tls,
            client_cert: client.client_cert(),
            port: entrance.port,
        }
    }

    /// Takes in the beginning of the body.
    fn collect(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        // A client that was not told to go on sends nothing; looking for a backend finds out why.
        let is_ready = if self.owes_continue && self.body.is_untouched() {
            Ok(true)
        } else {
            self.body.collect(client, cx.now)
        };
        match is_ready {
            Ok(true) => {
                self.half_closed = client.stream.has_hung_up();
                match self.take_places(cx) {
                    Ok(()) => Next::Stage(Stage::Queued(Queued::new(cx.now))),
                    Err(cause) => Next::Failed(cause),
                }
            }
            Ok(false) => {
                let due = self.body_due();
                Next::Wait(due.or(self.body.collect_due(cx.now).map(Due::look)))
            }
            Err(cause) => Next::Failed(cause),
        }
    }

    /// Takes the places that the exchange needs from here on. Not before: a client that is slow to send its request takes
    /// none away from others.
    fn take_places(&mut self, cx: &Context<'_>) -> Result<(), Cause> {
        let Some((route, guard)) = &mut self.route else { return Err(Cause::Internal) };
        *guard = Some(route.enter().ok_or(Cause::RouteFull)?);
        self.turn = route.take_turn(&self.head.fields);
        if self.head.upgrade && cx.gateway.tunnels.may_take() {
            self.permit = Some(cx.gateway.tunnels.take().ok_or(Cause::TunnelsFull)?);
        }
        Ok(())
    }

    /// When the client is too slow with its body.
    fn body_due(&self) -> Due {
        let limits = &self.snapshot.limits;
        let at = self.body.pace.due(limits.read_timeout, limits.min_body_rate);
        Due::fails(at, Cause::BodyTimeout)
    }

    /// A time is over. `None`: it was not, after all.
    fn expire(&mut self, cause: Cause, client: &mut Connection, cx: &mut Context<'_>) -> Option<Progress> {
        let limits = &self.snapshot.limits;
        let is_over = match (cause, &mut self.stage) {
            (Cause::BodyTimeout, _) => {
                self.body.pace.is_too_slow(cx.now, limits.read_timeout, limits.min_body_rate)
            }
            (Cause::WriteTimeout, Stage::Relay(relay)) => relay.client_is_too_slow(limits, cx.now),
            (Cause::WriteTimeout, Stage::Tell(tell)) => tell.client_is_too_slow(limits, cx.now),
            _ => true,
        };
        if !is_over {
            return None;
        }
        match (cause, &self.stage) {
            (Cause::ResponseTimeout, Stage::Tunnel(_)) => Some(self.end_idle_tunnel(client, cx)),
            (Cause::ConnectTimeout, Stage::Connect(_)) => {
                match self.after_failed_try(Failed { cause, is_ours: false }, cx) {
                    Ok(stage) => {
                        self.enter(stage, cx.now);
                        None
                    }
                    Err(cause) => Some(self.fail(cause, client, cx)),
                }
            }
            _ => Some(self.fail(cause, client, cx)),
        }
    }

    /// Whether the client's connection can carry another request after an answer now.
    fn may_keep_alive(&self, cx: &Context<'_>) -> bool {
        self.head.keep_alive && !cx.gateway.is_draining() && self.body.is_all_received()
    }

    /// A backend has answered.
    fn accuse_suspects(&mut self) {
        let route = auth::other_side(self.route.as_ref(), self.asking);
        if let (Some(route), Some(guard)) = (route, &self.guard) {
            self.tries.answered(route, guard);
        }
    }

    /// The backend has begun to answer. What counts is the time since it had the request, not what its client took to send it.
    fn note_answer(&self, status: u16, cx: &Context<'_>) {
        if let (Some(route), Some(guard)) = (self.other_side(), &self.guard) {
            route.note_answer(guard, status, cx.now.saturating_duration_since(self.upload.progress));
        }
    }

    fn note_success(&self) {
        if let (Some(route), Some(guard)) = (self.other_side(), &self.guard) {
            route.note_success(guard);
        }
    }

    /// Lets go of the backend that failed, and says with what the next try begins, if there may be one.
    fn after_failed_try(&mut self, failed: Failed, cx: &mut Context<'_>) -> Result<Stage, Cause> {
        let cause = failed.cause;
        let (sent, received, is_new) =
            self.backend.as_ref().map_or((0, 0, false), |one| (one.sent, one.received, !one.is_reused));
        self.drop_backend(cx);
        let (Some(route), Some(guard)) = (self.other_side().map(Arc::clone), self.guard.take()) else {
            return Err(cause);
        };
        let backend = guard.backend();
        self.tries.blame(&route, backend, failed, is_new && received == 0);
        let replayable = self.asking.is_some() || self.body.rewind();
        let method = self.sent_method().clone();
        let what = (&method, cause, retry::Progress { sent, received, replayable });
        let again = self.tries.again(route.config(), backend, what, (self.tries_from, cx.now));
        if again != Some(Again::AtOnce) {
            self.failed_on = Some(Arc::clone(backend));
        }
        let again = again.ok_or(cause)?;
        self.upload = Upload::new(cx.now);
        match again {
            Again::AfterPause => Ok(Stage::Queued(Queued::after_pause(cx.now))),
            Again::AtOnce => {
                // That the service is asked again is no other try of the request.
                if self.asking.is_none() {
                    cx.gateway.counters.retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    self.record.retries += 1;
                }
                Ok(Stage::Queued(Queued::new(cx.now)))
            }
        }
    }

    /// No other try follows on it.
    fn give_up_backend(&mut self) {
        if let Some(guard) = self.guard.take() {
            self.failed_on = Some(Arc::clone(guard.backend()));
        }
    }

    /// The backend that has it, or had it last.
    fn last_backend(&self) -> Option<&Backend> {
        self.guard.as_ref().map(|guard| &**guard.backend()).or(self.failed_on.as_deref())
    }

    /// Closes the connection to the backend, if there is one.
    fn drop_backend(&mut self, cx: &mut Context<'_>) {
        if let Some(backend) = self.backend.take() {
            cx.upstreams.close(backend);
        }
    }
}
