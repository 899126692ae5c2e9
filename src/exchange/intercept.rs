//! An answer of a backend that the client does not get: `intercept_errors`.

use super::context::Context;
use super::relay::Relay;
use super::send::State;
use super::{Exchange, Next};
use crate::downstream::connection::Connection;
use crate::http::head::Version;
use crate::http::response_head::ResponseHead;

/// What is read of a body that nobody gets, at most, so that the connection can be kept.
const DISCARDED: usize = 64 * 1024;

impl Exchange {
    /// Answers in place of the backend, if its route says so for this status.
    pub(super) fn intercept(
        &mut self,
        head: &ResponseHead,
        client: &Connection,
        cx: &mut Context<'_>,
    ) -> Option<Next> {
        let (route, _) = self.route.as_ref()?;
        let status = head.status.as_u16();
        if !route.config().rules.intercept.as_ref()?.has(status) {
            return None;
        }
        // As far as the backend is concerned, this is an answer like any other.
        self.accuse_suspects();
        self.note_success();
        self.body.release();
        self.record.answer_begins(cx.now);
        self.note_answer(status, cx);
        self.discard(head, cx);
        let answer = self.view(client).refused(self.may_keep_alive(cx)).intercepted(head);
        Some(Next::Answer(status, answer))
    }

    /// Lets go of the backend's connection: kept, if what is here is all that it sends and both sides left it clean. Nobody
    /// waits for the rest.
    fn discard(&mut self, head: &ResponseHead, cx: &mut Context<'_>) {
        let (Some(mut backend), Some(guard)) = (self.backend.take(), &self.guard) else { return };
        let mut relay = Relay::new(head, Version::Http11, true, None, cx.now);
        let mut out = cx.buffers.take_out();
        let first = std::mem::take(&mut backend.input);
        let buffers = &mut *cx.buffers;
        let mut is_valid = relay.receive(&first, &mut buffers.decoded, &mut out, cx.now).is_ok();
        let mut read = 0;
        while is_valid && !relay.is_received() && read < DISCARDED {
            out.clear();
            match backend.stream.read(&mut buffers.read) {
                Ok(n @ 1..) => {
                    read += n;
                    let bytes = buffers.read.get(..n).unwrap_or_default();
                    is_valid = relay.receive(bytes, &mut buffers.decoded, &mut out, cx.now).is_ok();
                }
                Ok(0) | Err(_) => is_valid = false,
            }
        }
        cx.buffers.keep(out);
        let is_clean = is_valid && relay.is_received() && relay.backend_stays;
        if is_clean && self.upload.state == State::Done {
            cx.upstreams.keep(backend, guard.upstream(), cx.now);
        } else {
            cx.upstreams.close(backend);
        }
    }
}
