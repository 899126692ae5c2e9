//! What the proxy does with one exchange: route, pick a backend, forward, try again where that is safe, answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use crate::balance::sticky_cookie::set_cookie;
use crate::balance::{Backend, BackendGuard, PickRequest};
use crate::config::IpNetwork;
use crate::counters::{Counters, InFlight};
use crate::downstream::answer::{self, Relayed};
use crate::downstream::exchange::{Client, End};
use crate::error::{Blame, Cause};
use crate::http::framing::BodyFraming;
use crate::http::head::RequestHead;
use crate::route::Route;
use crate::routing::RouteTable;
use crate::upstream::forward::{self, Answer, Failed, Try};
use crate::upstream::retry::may_retry;
use crate::upstream::tunnel::{Permit, Tunnel, Tunnels};

/// Everything an exchange needs, shared by all workers and never changed while they run.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub routes: RouteTable<Arc<Route>>,
    pub trusted: Vec<IpNetwork>,
    pub counters: Arc<Counters>,
    pub tunnels: Tunnels,
    /// Set once, when the drain begins: answers say `Connection: close` from then on. A hint, so `Relaxed`.
    pub draining: AtomicBool,
}

/// How an exchange ended, for the log.
struct Outcome {
    end: End,
    status: u16,
    cause: Option<Cause>,
    /// See [`for_the_log`].
    backend: Option<Arc<Backend>>,
}

impl Gateway {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether the body of a request is of any use: it has a route, and one that takes a body of that length.
    pub(crate) fn wants_body(&self, head: &RequestHead) -> bool {
        self.route(head).is_ok()
    }

    /// Whether a client that asks before it sends its body may be told to go on: somebody is there to take it.
    pub(crate) fn may_continue(&self, head: &RequestHead) -> bool {
        self.route(head).is_ok_and(|route| route.has_healthy())
    }

    fn route(&self, head: &RequestHead) -> Result<&Arc<Route>, Cause> {
        let route = self.routes.find(head.target.routing_path()).ok_or(Cause::NoRoute)?;
        match (head.framing, route.config().max_body_bytes) {
            (BodyFraming::Length(length), Some(max)) if length > max => Err(Cause::BodyTooLarge),
            _ => Ok(route),
        }
    }

    /// Carries one exchange from its head, which came at `started`, to the end of its answer.
    pub(crate) fn serve<C: Client>(&self, head: &RequestHead, client: &mut C, started: Instant) -> End {
        let _in_flight = InFlight::enter(&self.counters);
        let outcome = match self.forward(head, client, started) {
            Ok(outcome) => outcome,
            Err(cause) => self.refuse(cause, head, client),
        };
        if let Some(cause) = outcome.cause {
            self.counters.count(cause);
        }
        log_exchange(head, client, &outcome, started);
        outcome.end
    }

    fn forward<C: Client>(
        &self,
        head: &RequestHead,
        client: &mut C,
        started: Instant,
    ) -> Result<Outcome, Cause> {
        let route = self.route(head)?;
        let config = route.config();
        let _held = route.enter().ok_or(Cause::RouteFull)?;
        let deadline = config.deadline.and_then(|limit| started.checked_add(limit));
        let trusted = self.trusted.iter().any(|network| network.contains(client.address()));

        // An engine that keeps its sockets to itself can't join them.
        let mut permit = None;
        let upgrade = head.upgrade && client.socket().is_some();
        if upgrade {
            permit = Some(self.tunnels.permit().ok_or(Cause::TunnelsFull)?);
        }

        let request = PickRequest { client: client.address(), fields: &head.fields };
        let mut tried: Vec<Arc<Backend>> = Vec::new();
        let mut last = None;
        loop {
            let fresh = !tried.is_empty();
            let guard =
                route.find_backend(&request, &tried, deadline).map_err(|cause| last.unwrap_or(cause))?;
            let upstream = guard.upstream();
            let one = Try { head, route: config, upstream, fresh, deadline, trusted, upgrade };
            let failed = match forward::send(one, client) {
                Ok(mut answer) => {
                    if let Some(cookie) = set_cookie(config, &head.fields, &guard) {
                        answer.add_cookie(cookie);
                    }
                    if upgrade && answer.head().status() == StatusCode::SWITCHING_PROTOCOLS {
                        // How long the tunnel lasts is its own affair: that it stands says that the backend is in order.
                        route.note_success(&guard);
                        return switch(answer, guard, permit.take(), config.idle_timeout, client);
                    }
                    let outcome = self.relay(&mut answer, &guard, head, client);
                    match outcome.as_ref().map_or_else(|cause| Some(*cause), |outcome| outcome.cause) {
                        None => route.note_success(&guard),
                        // It has answered. How long it is silent then may be what the client asked for: an event
                        // stream without events.
                        Some(Cause::ResponseTimeout) => {}
                        Some(cause) => route.note_failure(&guard, cause),
                    }
                    return outcome;
                }
                Err(failed) => failed,
            };
            if !failed.is_ours {
                route.note_failure(&guard, failed.cause);
            }
            let tries_left = (config.retries as usize).saturating_sub(tried.len());
            let in_time =
                started.elapsed() < config.response_timeout && deadline.is_none_or(|at| Instant::now() < at);
            let Failed { cause, progress, .. } = failed;
            if tries_left == 0 || !in_time || !may_retry(&head.method, cause, progress) {
                return Err(cause);
            }
            log::debug!("trying again backend={} cause={cause} sent={}", guard.label(), progress.sent);
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
            tried.push(Arc::clone(guard.backend()));
            last = Some(cause);
        }
    }

    fn relay<C: Client>(
        &self,
        answer: &mut Answer,
        guard: &BackendGuard,
        head: &RequestHead,
        client: &mut C,
    ) -> Result<Outcome, Cause> {
        let status = answer.head().status().as_u16();
        let keep_alive = head.keep_alive && !self.is_draining();
        let backend = for_the_log(guard);
        match answer::relay(answer, head, client, keep_alive) {
            Relayed::Whole(end) => Ok(Outcome { end, status, cause: None, backend }),
            Relayed::Unsent(cause) => Err(cause),
            Relayed::Broken(cause) => Ok(Outcome { end: End::Broken, status, cause: Some(cause), backend }),
        }
    }

    /// Answers in place of a backend.
    fn refuse<C: Client>(&self, cause: Cause, head: &RequestHead, client: &mut C) -> Outcome {
        let keep_alive = head.keep_alive && !self.is_draining() && client.can_keep_alive();
        // Whoever sent something wrong or too slowly has left it unclear where the next request begins.
        let keep_alive = keep_alive && cause.blame() != Blame::Downstream;
        let bytes = answer::refusal(cause, head.version, head.method == Method::HEAD, keep_alive);
        let end = match client.write(&bytes) {
            _ if cause == Cause::ClientLeft => End::Broken,
            Ok(()) if keep_alive => End::KeepAlive,
            Ok(()) => End::Close,
            Err(_) => End::Broken,
        };
        Outcome { end, status: cause.status(), cause: Some(cause), backend: None }
    }
}

/// Joins the client and the backend that has agreed to switch protocols.
fn switch<C: Client>(
    answer: Answer,
    guard: BackendGuard,
    permit: Option<Permit>,
    idle: Duration,
    client: &mut C,
) -> Result<Outcome, Cause> {
    let backend = for_the_log(&guard);
    let told = answer::switch_protocols(&answer, client);
    let broken = |cause, backend| Outcome { end: End::Broken, status: 101, cause: Some(cause), backend };
    if told.is_err() {
        return Ok(broken(Cause::ClientLeft, backend));
    }
    match (answer.into_upgraded(), permit) {
        (Some((conn, early)), Some(permit)) => {
            let tunnel = Tunnel { backend: conn, early, idle, guard, permit };
            Ok(Outcome { end: End::Tunnel(Box::new(tunnel)), status: 101, cause: None, backend })
        }
        _ => Ok(broken(Cause::Internal, backend)),
    }
}

/// A reference more to the backend is not free: all workers count in one place.
fn for_the_log(guard: &BackendGuard) -> Option<Arc<Backend>> {
    log::log_enabled!(log::Level::Debug).then(|| Arc::clone(guard.backend()))
}

fn log_exchange<C: Client>(head: &RequestHead, client: &C, outcome: &Outcome, started: Instant) {
    if !log::log_enabled!(log::Level::Debug) {
        return;
    }
    let backend = outcome.backend.as_ref().map_or("-".to_owned(), |backend| backend.label().to_owned());
    let cause = outcome.cause.map_or("-", Cause::word);
    log::debug!(
        "exchange client={} method={} target={:?} status={} cause={cause} backend={backend} ms={}",
        client.address(),
        head.method,
        head.target.as_str(),
        outcome.status,
        started.elapsed().as_millis(),
    );
}
