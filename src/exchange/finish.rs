//! How an exchange ends: with a whole answer, with a refusal, or broken off. And what is said and counted then.

use http::Method;

use super::context::Context;
use super::send::State;
use super::{End, Exchange, Progress, Stage, refusal};
use crate::downstream::connection::Connection;
use crate::error::{Blame, Cause};

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
            if relay.backend_stays && self.upload.state == State::Done {
                cx.upstreams.keep(backend, guard.upstream(), cx.now);
            } else {
                cx.upstreams.close(backend);
            }
        }
    }

    /// Answers in place of a backend, or breaks off an answer that has begun.
    pub(super) fn fail(&mut self, cause: Cause, client: &mut Connection, cx: &mut Context<'_>) -> Progress {
        self.drop_backend(cx);
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
            return self.ended(End::Broken, Some(cause), client, cx);
        }
        // Whoever sent something wrong or too slowly has left it unclear where the next request begins.
        let keep_alive = self.may_keep_alive(cx) && cause.blame() != Blame::Downstream;
        let is_head = self.head.method == Method::HEAD;
        let bytes = refusal::refusal(cause, self.head.version, is_head, keep_alive);
        self.answer(&bytes, keep_alive, cause.status(), Some(cause), client, cx)
    }

    /// Answers with what the proxy has made itself.
    pub(super) fn answer(
        &mut self,
        bytes: &[u8],
        keep_alive: bool,
        status: u16,
        cause: Option<Cause>,
        client: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Progress {
        self.answered = Some(status);
        let end = match client.unsent.send(&mut client.stream, bytes) {
            _ if cause == Some(Cause::ClientLeft) => End::Broken,
            Ok(_) if keep_alive => End::KeepAlive,
            Ok(_) => End::Close,
            Err(_) => End::Broken,
        };
        self.ended(end, cause, client, cx)
    }

    /// What the client is told after a panic, unless it has been sent some of an answer.
    pub(crate) fn panic_answer(&self) -> Option<Vec<u8>> {
        let is_head = self.head.method == Method::HEAD;
        let answer = || refusal::refusal(Cause::Internal, self.head.version, is_head, false);
        self.answered.is_none().then(answer)
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
        if log::log_enabled!(log::Level::Debug) {
            log::debug!(
                "exchange client={} method={} target={:?} status={} cause={} backend={} ms={}",
                client.who(),
                self.head.method,
                self.head.target.as_str(),
                self.answered.unwrap_or(0),
                cause.map_or("-", Cause::word),
                self.guard.as_ref().map_or("-", |guard| guard.label()),
                cx.now.duration_since(self.started).as_millis(),
            );
        }
        self.drop_backend(cx);
        Progress::Ended { end, body_is_read: self.body.is_all_received() }
    }
}
