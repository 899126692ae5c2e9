//! Forwarding a request with ureq: a backend, a try, and perhaps another one.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use http::request::Builder;
use http::uri::Scheme;
use http::{Method, Request, Response, Uri};
use ureq::{Body, SendBody};

use super::agents::agent;
use super::exchange::Exchange;
use super::fault;
use crate::balance::{BackendGuard, PickRequest};
use crate::config::Engine;
use crate::error::Cause;
use crate::exchange::decision::{Outgoing, is_sent_by};
use crate::exchange::record::Phase;
use crate::exchange::retry::{Progress, is_unconnected};
use crate::exchange::tries::{Again, Failed, PAUSE, Tries};
use crate::http::head::RequestHead;
use crate::route::Route;
use crate::rules::Rules;

impl Exchange<'_> {
    /// Tries backends of `route` as long as another try follows. That may be the service of `forward_auth`.
    pub(super) fn try_backends(&mut self, route: &Route) -> Result<Response<Body>, Cause> {
        let method = if self.asking { Method::GET } else { self.head.method.clone() };
        let turn = route.take_turn(&self.head.fields);
        let mut tries = Tries::default();
        loop {
            self.guard = None;
            self.enter(Phase::Queue);
            let request = PickRequest { client: self.address, fields: &self.head.fields, turn };
            let found = route.find_backend(&request, tries.tried(), None);
            let guard = found.map_err(|none| tries.why(none))?;
            self.enter(Phase::Await);
            let result = self.send(&guard, tries.is_first(), route);
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
            let replayable = self.asking || self.client.replayable();
            let progress = Progress { sent: u64::from(!is_unconnected(cause)), received: 0, replayable };
            let times = (self.tries_from, Instant::now());
            let again = tries.again(route.config(), backend, (&method, cause, progress), times);
            if again.ok_or(cause)? == Again::AfterPause {
                thread::sleep(PAUSE);
            }
            // That the service is asked again is no other try of the request.
            if !self.asking {
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
    ) -> Result<Response<Body>, Failed> {
        let (config, pool) = (route.config(), route.pool_of(guard).config());
        let unresolved = Failed { cause: Cause::NameNotResolved, is_ours: false };
        let addr = guard.resolved().ok_or(unresolved)?;
        let outgoing = self.view().outgoing(config, guard, false, &self.gateway.via);
        let asking = self.route.as_ref().filter(|_| self.asking).map(|route| &route.config().rules);
        let request = request(&outgoing, &self.head, asking, addr);
        // After a failure a new connection: the backend may have closed all that are kept.
        let agent = if is_first { self.agents.of(guard, config, pool) } else { agent(config, pool) };
        self.client.rewind(config.max_body_bytes);
        let result = if !self.asking && self.head.framing.has_body() {
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
}

/// What goes to the backend at `addr` but for its body; or with the rules of an `asking` route, what its service is asked. What is
/// wrong with it, the builder says at its end.
fn request(outgoing: &Outgoing<'_>, head: &RequestHead, asking: Option<&Rules>, addr: SocketAddr) -> Builder {
    let target = match (asking.and_then(|rules| rules.forward_auth.as_ref()), outgoing.target(head)) {
        (Some(rule), _) => rule.path.parse().ok(),
        (None, Cow::Borrowed(_)) => Some(head.target.path_and_query().clone()),
        (None, Cow::Owned(target)) => target.parse().ok(),
    };
    let mut uri = http::uri::Parts::default();
    (uri.scheme, uri.authority) = (Some(Scheme::HTTP), addr.to_string().parse().ok());
    uri.path_and_query = target;
    // Of these three parts a URI is complete; another would be refused.
    let uri = Uri::from_parts(uri).unwrap_or_default();
    let method = if asking.is_some() { Method::GET } else { head.method.clone() };
    let mut request = Request::builder().method(method).uri(uri);
    let mut put = |name: &[u8], value: &[u8]| {
        if is_sent_by(Engine::TinyHttp, name) {
            request = std::mem::take(&mut request).header(name, value);
        }
    };
    match asking {
        Some(rules) => outgoing.put_question(head, rules, &mut put),
        None => outgoing.put_fields(head, &mut put),
    }
    request
}
