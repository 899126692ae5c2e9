//! Stage: the request is being sent, or was, and the head of the answer is waited for.

use std::io;

use bytes::Bytes;
use http::StatusCode;

use super::coding::code;
use super::context::Context;
use super::relay::Relay;
use super::tries::Failed;
use super::{Due, Exchange, Next, Stage};
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::http::head::Version;
use crate::http::response_head::{ResponseError, ResponseHead, ResponseScan, scan};
use crate::http::response_out::{Added, write_interim};
use crate::rules::forward_auth::lets_in;
use crate::upstream::fault;

/// Interim responses that one exchange may bring. A backend that sends more is taken for broken: it could keep both of us
/// busy for ever.
const MAX_INTERIM: u32 = 256;

impl Exchange {
    pub(super) fn await_head(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        let waits_for = match self.send(client, cx) {
            Ok(waits_for) => waits_for,
            Err(cause) => return Next::Failed(cause),
        };
        loop {
            let Some(backend) = &mut self.backend else { return Next::Failed(Cause::Internal) };
            match backend.stream.read(&mut cx.buffers.read) {
                Ok(0) => return self.no_head(Cause::BackendClosed, None),
                Ok(n) => {
                    backend.received += n as u64;
                    backend.input.extend_from_slice(cx.buffers.read.get(..n).unwrap_or_default());
                    if let Some(next) = self.find_response(client, cx) {
                        return next;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return self.no_head(fault::read_cause(&error), Some(&error)),
            }
        }
        // What an interim response left unsent.
        if !client.send_owed(cx.now) {
            return Next::Failed(Cause::ClientLeft);
        }
        if let Some(due) = self.send_due(waits_for, cx) {
            return if waits_for == super::send::WaitsFor::Turn { Next::Again } else { Next::Wait(due) };
        }
        let Some(route) = self.other_side() else { return Next::Failed(Cause::Internal) };
        let at = self.upload.progress + route.config().response_timeout;
        Next::Wait(Due::fails(at, Cause::ResponseTimeout))
    }

    /// The connection ended before there was an answer.
    fn no_head(&self, cause: Cause, error: Option<&io::Error>) -> Next {
        if let (Some(guard), Some(error)) = (&self.guard, error) {
            let reason = fault::reason(error);
            log::debug!("try failed backend={} cause={cause} reason={reason:?}", guard.label());
        }
        Next::TryFailed(Failed { cause, is_ours: false })
    }

    /// Looks for heads in what has come: interim ones are passed on, the final one begins the relay.
    fn find_response(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Option<Next> {
        loop {
            let backend = self.backend.as_mut()?;
            let len = match scan(&backend.input, backend.scanned) {
                ResponseScan::Incomplete { scanned } => {
                    backend.scanned = scanned;
                    return None;
                }
                ResponseScan::Complete { len } => len,
                ResponseScan::Bad(error) => return Some(self.bad_response(error)),
            };
            backend.scanned = 0;
            let rest = if backend.input.len() > len { backend.input.split_off(len) } else { Vec::new() };
            let bytes = Bytes::from(std::mem::replace(&mut backend.input, rest));
            let mut head = match ResponseHead::parse(&bytes, self.sent_method()) {
                Ok(head) => head,
                Err(error) => return Some(self.bad_response(error)),
            };
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                // Nobody has asked for it: it is not HTTP any more.
                let Some(permit) = self.permit.take() else {
                    return Some(self.bad_response(ResponseError::Malformed("101 without being asked")));
                };
                return Some(self.begin_tunnel(&head, permit, client, cx));
            }
            if self.asking.is_some() && !head.status.is_informational() {
                if lets_in(head.status) {
                    return Some(self.begin_to_let_in(head, cx));
                }
                self.fit_refusal(&mut head);
                return Some(self.begin_relay(head, client, cx));
            }
            if !head.status.is_informational() {
                self.permit = None;
                if let Some(next) = self.intercept(&head, client, cx) {
                    return Some(next);
                }
                if let Some(guard) = &self.guard {
                    self.view(client).amend(&mut head, guard);
                }
                return Some(self.begin_relay(head, client, cx));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Some(self.bad_response(ResponseError::Malformed("too many interim responses")));
            }
            // 100 is answered by the proxy itself, and an HTTP/1.0 client knows none of them (RFC 9110 §15.2). A client that
            // has not taken what it was sent before goes without: they must not pile up.
            let is_for_client = head.status != StatusCode::CONTINUE
                && self.head.version == Version::Http11
                && self.asking.is_none();
            if is_for_client && client.unsent.is_empty() {
                let mut out = cx.buffers.take_out();
                write_interim(&mut out, &head);
                self.record.head_sent(out.len());
                let sent = client.unsent.send(&mut client.stream, &out);
                cx.buffers.keep(out);
                if sent.is_err() {
                    return Some(Next::Failed(Cause::ClientLeft));
                }
            }
        }
    }

    fn bad_response(&self, error: ResponseError) -> Next {
        let cause = Cause::from(error);
        if let Some(guard) = &self.guard {
            log::debug!("try failed backend={} cause={cause} reason=\"{error}\"", guard.label());
        }
        Next::TryFailed(Failed { cause, is_ours: false })
    }

    /// The stage that passes the answer on, with what has come of its body.
    fn begin_relay(&mut self, mut head: ResponseHead, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        let Some(backend) = &mut self.backend else { return Next::Failed(Cause::Internal) };
        let mut first = std::mem::take(&mut backend.input);
        let keep_alive = self.head.keep_alive && !cx.gateway.is_draining() && self.body.is_all_received();
        // Rules about answers of backends are not about those of the service of `forward_auth`.
        let route = self.route.as_ref().filter(|_| self.asking.is_none());
        let rules = route.map(|(route, _)| &route.config().rules);
        let coder = rules
            .and_then(|rules| rules.compress.as_ref())
            .and_then(|rule| code(rule, &self.head, &mut head, &cx.gateway.compressing));
        let mut relay = Relay::new(&head, self.head.version, keep_alive, coder, cx.now);
        if let Some(rules) = rules.and_then(|rules| rules.response_headers.as_ref()) {
            // Nor do they come behind the body.
            rules.replaced().for_each(|name| relay.body.options.hide(name));
        }
        // The rest of it waits for another turn.
        backend.input = first.split_off(relay.fits(first.len(), cx.budget));
        let more = backend.may_read_on();
        if first.is_empty() && !relay.is_received() && !more {
            backend.stream.acknowledge();
        }
        let guard = self.guard.as_ref().filter(|_| self.asking.is_none());
        let cookie = guard.and_then(|guard| self.view(client).sticky_cookie(guard));
        let mut out = cx.buffers.take_out();
        let added =
            Added { request_id: self.record.id.as_bytes(), cookie: cookie.as_ref(), hsts: self.hsts(client) };
        relay.write_head(&head, self.head.version, &added, &mut out);
        let head_len = out.len();
        let received = relay.receive(&first, &mut cx.buffers.decoded, &mut out, cx.now);
        cx.budget = cx.budget.saturating_sub(relay.cost(first.len()));
        let flushed = if more { Ok(()) } else { relay.flush(&mut out) };
        if let Err(cause) = received.and(flushed) {
            cx.buffers.keep(out);
            return Next::TryFailed(Failed { cause, is_ours: false });
        }
        self.accuse_suspects();
        self.body.release();
        self.record.answer_begins(cx.now);
        self.note_answer(head.status.as_u16(), cx);
        self.record.head_sent(head_len);
        self.answered = Some(head.status.as_u16());
        let sent = client.unsent.send(&mut client.stream, &out);
        cx.buffers.keep(out);
        match sent {
            Ok(_) => Next::Stage(Stage::Relay(Box::new(relay))),
            Err(_) => Next::Failed(Cause::ClientLeft),
        }
    }
}
