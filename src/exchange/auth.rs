//! Asking the service of `forward_auth` who may come, before anything else becomes of a request.
//!
//! The service is a route of its own, and the exchange goes through the stages [queued](super::queued),
//! [connect](super::connect) and [await head](super::await_head) with it as with any backend: what is sent is another
//! request, and what is done with the answer is decided here. An answer that lets the request in is taken in, and the exchange
//! goes on as if it had just begun. Any other one goes to the client through the stage [relay](super::relay).
//!
//! Nothing of the request's body is read meanwhile, and the client is not told to go on with it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use http::Method;

use super::context::{Buffers, Context};
use super::queued::Queued;
use super::relay::Relay;
use super::send::Upload;
use super::tries::{Failed, Tries};
use super::{Due, Exchange, Next, Stage};
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::http::fields::Fields;
use crate::http::head::Version;
use crate::http::response_head::{ResponseFraming, ResponseHead};
use crate::route::{Route, RouteGuard};
use crate::upstream::fault;

/// A longer body of an answer that lets in costs its connection, and is not waited for.
const MOST_WAITED_FOR: usize = 64 * 1024;

/// Whom the exchange is with just now: its route, or the service that is asked for it.
pub(super) fn other_side(
    route: Option<&(Arc<Route>, Option<RouteGuard>)>,
    asking: Option<Instant>,
) -> Option<&Arc<Route>> {
    let (route, _) = route?;
    if asking.is_some() { route.auth() } else { Some(route) }
}

/// An answer that lets the request in, while its body comes.
#[derive(Debug)]
pub(super) struct LetIn {
    relay: Relay,
    /// Bytes of the body so far, with what delimits them.
    taken: usize,
    fields: Fields,
}

impl LetIn {
    /// Throws away what has come.
    fn take_in(
        &mut self,
        bytes: &[u8],
        decoded: &mut [u8],
        out: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), Cause> {
        self.taken += bytes.len();
        out.clear();
        self.relay.receive(bytes, decoded, out, now)
    }

    /// Whether the rest of the body is waited for. Without it the connection would be closed, one for each request.
    fn is_worth_it(&self) -> bool {
        !self.relay.is_received() && self.relay.backend_stays && self.taken < MOST_WAITED_FOR
    }
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
        let timeout = route.auth()?.config().response_timeout;
        // So many requests of a route as it may carry wait for the service at once, and no more.
        match route.enter() {
            Some(entered) => *guard = Some(entered),
            None => return Some(Next::Failed(Cause::RouteFull)),
        }
        self.half_closed = client.stream.has_hung_up();
        self.asking = Some(cx.now + timeout);
        self.tries_from = cx.now;
        Some(Next::Stage(Stage::Queued(Queued::new(cx.now))))
    }

    /// The head of the answer lets the request in. Its body is nobody's, but the connection can be used again when it has come.
    pub(super) fn begin_to_let_in(&mut self, answer: ResponseHead, cx: &mut Context<'_>) -> Next {
        let Some(backend) = &mut self.backend else { return Next::Failed(Cause::Internal) };
        let relay = Relay::new(&answer, Version::Http11, true, None, cx.now);
        let mut rest = LetIn { relay, taken: 0, fields: answer.fields };
        let first = std::mem::take(&mut backend.input);
        let Buffers { decoded, out, .. } = &mut *cx.buffers;
        match rest.take_in(&first, decoded, out, cx.now) {
            Ok(()) => Next::Stage(Stage::LetIn(Box::new(rest))),
            Err(cause) => Next::TryFailed(Failed { cause, is_ours: false }),
        }
    }

    /// Waits for what there is of the body, and lets the request in, which goes on from here.
    pub(super) fn let_in(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        let (Stage::LetIn(rest), Some(backend)) = (&mut self.stage, &mut self.backend) else {
            return Next::Failed(Cause::Internal);
        };
        while rest.is_worth_it() {
            let Buffers { read, decoded, out } = &mut *cx.buffers;
            let failed = match backend.stream.read(read) {
                Ok(0) => Cause::BackendClosed,
                Ok(n) => {
                    backend.received += n as u64;
                    let bytes = read.get(..n).unwrap_or_default();
                    match rest.take_in(bytes, decoded, out, cx.now) {
                        Ok(()) => continue,
                        Err(cause) => cause,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let Some(until) = self.asking else { return Next::Failed(Cause::Internal) };
                    return Next::Wait(Due::fails(until, Cause::AuthTimeout));
                }
                Err(error) => fault::read_cause(&error),
            };
            return Next::TryFailed(Failed { cause: failed, is_ours: false });
        }
        let is_clean = rest.relay.is_received() && rest.relay.backend_stays && self.upload.is_done();
        let fields = std::mem::take(&mut rest.fields);
        self.accuse_suspects();
        self.note_success();
        if let (Some(connection), Some(guard)) = (self.backend.take(), self.guard.take()) {
            if is_clean {
                cx.upstreams.keep(connection, guard.upstream(), cx.now);
            } else {
                cx.upstreams.close(connection);
            }
        }
        let Some((route, place)) = &mut self.route else { return Next::Failed(Cause::Internal) };
        let Some(rule) = &route.config().rules.forward_auth else { return Next::Failed(Cause::Internal) };
        rule.admit(&mut self.head, &fields);
        // A client that is slow to send its body takes none from others.
        *place = None;
        self.asking = None;
        self.upload = Upload::new(cx.now);
        self.tries = Tries::default();
        (self.failed_on, self.interim) = (None, 0);
        self.go_on(client, cx)
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
