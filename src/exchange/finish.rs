//! How an exchange ends: with a whole answer, with a refusal, or broken off. And what is said and counted then.

use super::context::Context;
use super::ending::Ending;
use super::refusal::{OwnAnswer, Pages, Refused};
use super::tell::Tell;
use super::{End, Exchange, Progress, Stage};
use crate::downstream::connection::Connection;
use crate::error::{Blame, Cause};
use crate::rules::forward_auth::cause_of_failure;

impl Exchange {
    /// The client has its answer, or is owed the last of it.
    pub(super) fn finish(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Progress {
        self.note_success();
        let Stage::Relay(relay) = &self.stage else { return self.fail(Cause::Internal, client, cx) };
        let end = if relay.keep_alive { End::KeepAlive } else { End::Close };
        self.ended(end, None, client, cx)
    }

    /// The answer has come whole: lets go of the backend's connection, however long the client takes. Kept for another
    /// exchange, if both sides left it clean.
    pub(super) fn release_backend(&mut self, cx: &mut Context<'_>) {
        let Stage::Relay(relay) = &self.stage else { return };
        if let (Some(backend), Some(guard)) = (self.backend.take(), &self.guard) {
            // What came beyond the answer may not even have been looked at.
            let is_clean = relay.backend_stays && backend.input.is_empty();
            if is_clean && self.upload.is_done() {
                cx.upstreams.keep(backend, guard.upstream(), cx.now);
            } else {
                cx.upstreams.close(backend);
            }
        }
    }

    /// Answers in place of a backend, or breaks off an answer that has begun.
    pub(super) fn fail(&mut self, cause: Cause, client: &mut Connection, cx: &mut Context<'_>) -> Progress {
        self.drop_backend(cx);
        let cause = if self.asking.is_some() { cause_of_failure(cause) } else { cause };
        if self.answered.is_some() {
            if let Stage::Relay(relay) = &self.stage
                && relay.ends_with_connection()
            {
                client.unsent.clear();
                client.stream.reset_on_close();
            } else if cause.blame() == Blame::Downstream {
                client.unsent.clear();
                client.stream.cut();
            }
            // Why there is an answer of ours is why the exchange has failed, whatever becomes of that answer.
            let first = if let Stage::Tell(tell) = &self.stage { tell.cause } else { None };
            return self.ended(End::Broken, Some(first.unwrap_or(cause)), client, cx);
        }
        // Whoever sent something wrong or too slowly has left it unclear where the next request begins.
        let keep_alive = self.may_keep_alive(cx) && cause.blame() != Blame::Downstream;
        let answer = self.view(client).refused(keep_alive).answer(cause);
        self.answer(answer, keep_alive, cause.status(), Some(cause), client, cx)
    }

    /// For how long its answer tells browsers to come by TLS alone.
    pub(super) fn hsts(&self, client: &Connection) -> Option<u64> {
        let (route, _) = self.route.as_ref().filter(|_| client.entrance().tls)?;
        route.config().hsts
    }

    /// Answers with what the proxy has made itself.
    pub(super) fn answer(
        &mut self,
        answer: OwnAnswer,
        keep_alive: bool,
        status: u16,
        cause: Option<Cause>,
        client: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Progress {
        let answer = match self.hsts(client) {
            Some(seconds) => answer.with_hsts(seconds),
            None => answer,
        };
        self.answered = Some(status);
        self.record.head_sent(answer.head.len());
        let end = match client.unsent.send_shared(&mut client.stream, &answer.head, &answer.content) {
            _ if cause == Some(Cause::ClientLeft) => End::Broken,
            Ok(_) if keep_alive => End::KeepAlive,
            Ok(_) => End::Close,
            Err(_) => End::Broken,
        };
        if end != End::Broken && client.is_owed_bytes() && self.body.is_all_received() {
            return self.begin_tell(Tell::new(cause, end, cx.now));
        }
        self.ended(end, cause, client, cx)
    }

    /// What the client is told after a panic, unless it has been sent some of an answer. No page: it may take more than a
    /// moment to send, and there will be none.
    pub(crate) fn panic_answer(&mut self) -> Option<OwnAnswer> {
        if self.answered.is_some() {
            return None;
        }
        let refused = Refused::new(&self.head, &self.record.id, false, Pages::default());
        let answer = refused.answer(Cause::Internal);
        self.answered = Some(Cause::Internal.status());
        self.record.head_sent(answer.head.len());
        Some(answer)
    }

    /// Counts and logs the end, and lets go of everything.
    pub(super) fn ended(
        &mut self,
        end: End,
        cause: Option<Cause>,
        client: &Connection,
        cx: &mut Context<'_>,
    ) -> Progress {
        if let Some(cause) = cause {
            cx.gateway.counters.count(cause);
        }
        let ending = self.ending(cause, client);
        if log::log_enabled!(log::Level::Debug) {
            ending.log(client.who());
        }
        ending.note(&cx.gateway.counters, cx.lines);
        self.drop_backend(cx);
        Progress::Ended { end, body_is_read: self.body.is_all_received() }
    }

    /// Bytes of the bodies of request and answer so far; those of a tunnel too.
    pub(crate) fn bytes(&self, client: &Connection) -> (u64, u64) {
        let tunnel = if let Stage::Tunnel(tunnel) = &self.stage { tunnel.received() } else { 0 };
        let sent = self.record.body_sent(client.stream.sent() + client.unsent.len() as u64);
        (self.body.received() + tunnel, sent)
    }

    /// Whoever ends it: the last that is said of the exchange.
    pub(crate) fn ending<'a>(&'a self, cause: Option<Cause>, client: &'a Connection) -> Ending<'a> {
        let (received, sent) = self.bytes(client);
        Ending {
            view: self.view(client),
            backend: self.last_backend(),
            asking: self.asking.is_some(),
            status: self.answered.unwrap_or(0),
            cause,
            received,
            sent,
            whole: self.age(),
            tls: client.stream.tls_version(),
        }
    }
}
