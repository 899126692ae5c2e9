//! Asking the service of `forward_auth` who may come, before anything else becomes of a request.
//!
//! The service is a route of its own, and the exchange goes through the stages [queued](super::queued),
//! [connect](super::connect) and [await head](super::await_head) with it as with any backend: what is sent is another
//! request, and what is done with the answer is decided here. An answer that lets the request in is taken in, and the exchange
//! goes on as if it had just begun. Any other one goes to the client through the stage [relay](super::relay).
//!
//! Nothing of the request's body is read meanwhile, and the client is not told to go on with it.

use std::sync::Arc;
use std::time::Instant;

use http::Method;

use super::context::Context;
use super::queued::Queued;
use super::relay::Relay;
use super::send::Upload;
use super::{Exchange, Next, Stage};
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::http::head::Version;
use crate::http::response_head::{ResponseFraming, ResponseHead};
use crate::route::{Route, RouteGuard};

/// Whom the exchange is with just now: its route, or the service that is asked for it.
pub(super) fn other_side(
    route: Option<&(Arc<Route>, Option<RouteGuard>)>,
    asking: Option<Instant>,
) -> Option<&Arc<Route>> {
    let (route, _) = route?;
    if asking.is_some() { route.auth() } else { Some(route) }
}

impl Exchange {
    /// Whom the exchange is with just now.
    pub(super) fn other_side(&self) -> Option<&Arc<Route>> {
        other_side(self.route.as_ref(), self.asking)
    }

    /// The method of what is sent to it.
    pub(super) fn sent_method(&self) -> &Method {
        if self.asking.is_some() { &Method::GET } else { &self.head.method }
    }

    /// The service has to be asked: how that begins. `None`: the route has no such service.
    pub(super) fn begin_to_ask(&mut self, client: &Connection, cx: &Context<'_>) -> Option<Next> {
        let (route, guard) = self.route.as_mut()?;
        let timeout = route.config().rules.forward_auth.as_ref()?.timeout();
        // So many requests of a route as it may carry wait for the service at once, and no more.
        match route.enter() {
            Some(entered) => *guard = Some(entered),
            None => return Some(Next::Failed(Cause::RouteFull)),
        }
        self.half_closed = client.stream.has_hung_up();
        self.asking = Some(cx.now + timeout);
        Some(Next::Stage(Stage::Queued(Queued::new(cx.now))))
    }

    /// The answer lets the request in, which goes on from here.
    pub(super) fn let_in(
        &mut self,
        answer: &ResponseHead,
        client: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Next {
        self.accuse_suspects();
        self.note_success();
        let is_clean = self.throw_body_away(answer, cx);
        if let (Some(connection), Some(guard)) = (self.backend.take(), self.guard.take()) {
            if is_clean {
                cx.upstreams.keep(connection, guard.upstream(), cx.now);
            } else {
                cx.upstreams.close(connection);
            }
        }
        let Some((route, place)) = &mut self.route else { return Next::Failed(Cause::Internal) };
        let Some(rule) = &route.config().rules.forward_auth else { return Next::Failed(Cause::Internal) };
        rule.admit(&mut self.head, &answer.fields);
        // A client that is slow to send its body takes none from others.
        *place = None;
        self.asking = None;
        self.upload = Upload::new(cx.now);
        self.tried.clear();
        (self.last, self.held_until, self.failed_on, self.interim) = (None, None, None, 0);
        self.body.pace.resume(cx.now);
        self.go_on(client, cx)
    }

    /// The body of an answer that lets in is nobody's. It has come with the head as a rule, and then the connection can be used
    /// again. Nobody waits for one that has not.
    fn throw_body_away(&mut self, answer: &ResponseHead, cx: &mut Context<'_>) -> bool {
        let Some(backend) = &mut self.backend else { return false };
        let mut relay = Relay::new(answer, Version::Http11, true, cx.now);
        let mut out = cx.buffers.take_out();
        let first = std::mem::take(&mut backend.input);
        let mut is_sound = relay.receive(&first, &mut cx.buffers.decoded, &mut out, cx.now).is_ok();
        if is_sound && !relay.is_received() {
            let read = backend.stream.read(&mut cx.buffers.read).unwrap_or(0);
            let rest = cx.buffers.read.get(..read).unwrap_or_default();
            is_sound = relay.receive(rest, &mut cx.buffers.decoded, &mut out, cx.now).is_ok();
        }
        cx.buffers.keep(out);
        is_sound && relay.is_received() && relay.backend_stays && self.upload.is_done()
    }

    /// The answer keeps the request out, and is the client's. To a HEAD it has no body, although the service was asked by GET:
    /// what there is of one ends with the service's connection.
    pub(super) fn fit_refusal(&self, answer: &mut ResponseHead) {
        if self.head.method == Method::HEAD && answer.framing != ResponseFraming::None {
            answer.framing = ResponseFraming::None;
            answer.keep_alive = false;
        }
    }
}
