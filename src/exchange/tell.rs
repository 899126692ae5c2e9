//! Stage: an answer of the proxy itself of which the client has not taken all yet. As a rule there is no such stage: a line of
//! text is taken at once, and a page too.
//!
//! Without it, who sends one request after another and takes no answer could have as many answers kept as it likes.

use std::time::Instant;

use super::context::Context;
use super::{Due, End, Exchange, Next, Progress, Stage};
use crate::downstream::connection::{Connection, Limits};
use crate::downstream::pace::Pace;
use crate::error::Cause;

/// An answer on its way to the client.
#[derive(Debug)]
pub(super) struct Tell {
    /// Why there is one of ours, if that is a failure.
    pub(super) cause: Option<Cause>,
    /// What becomes of the connection behind it.
    end: End,
    taken: Pace,
}

impl Tell {
    pub(super) fn new(cause: Option<Cause>, end: End, now: Instant) -> Self {
        Self { cause, end, taken: Pace::new(now) }
    }

    /// Whether the client does not take its answer, or more slowly than it must.
    pub(super) fn client_is_too_slow(&mut self, limits: &Limits, now: Instant) -> bool {
        self.taken.is_too_slow(now, limits.write_timeout, limits.min_answer_rate)
    }

    fn due(&self, limits: &Limits) -> Due {
        Due::fails(self.taken.due(limits.write_timeout, limits.min_answer_rate), Cause::WriteTimeout)
    }
}

impl Exchange {
    /// Lets go of all that nobody needs for this: a client that is slow takes no place away from others.
    pub(super) fn begin_tell(&mut self, tell: Tell) -> Progress {
        self.give_up_backend();
        self.permit = None;
        // It is over, as far as the route is concerned.
        self.deadline = None;
        if let Some((_, guard)) = &mut self.route {
            *guard = None;
        }
        let due = tell.due(&self.snapshot.limits);
        self.stage = Stage::Tell(tell);
        Progress::Wait(due.at)
    }

    pub(super) fn tell(&mut self, client: &mut Connection, cx: &Context<'_>) -> Next {
        let Stage::Tell(tell) = &mut self.stage else { return Next::Failed(Cause::Internal) };
        let before = client.stream.moved();
        let flushed = client.unsent.flush(&mut client.stream);
        let taken = client.stream.moved() - before;
        if taken > 0 {
            tell.taken.received(usize::try_from(taken).unwrap_or(usize::MAX), cx.now);
        }
        match flushed {
            Ok(true) => Next::Told(tell.end, tell.cause),
            Ok(false) => Next::Wait(tell.due(&self.snapshot.limits)),
            Err(_) => Next::Failed(Cause::ClientLeft),
        }
    }
}
