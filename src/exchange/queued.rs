//! Stage: a backend is looked for. While all are full, or none is there and the route lets its requests wait for one, the
//! exchange waits in the line of its pool, or of each of its pools.

use std::time::Instant;

use crossbeam_channel::Sender;

use super::auth::other_side;
use super::connect::Connect;
use super::context::Context;
use super::tries::PAUSE;
use super::{Due, Exchange, Next, Stage};
use crate::balance::PickRequest;
use crate::balance::line::{InLines, Wake};
use crate::error::Cause;
use crate::net::poller::{Token, Waker};
use crate::route::Pick;

/// Makes a worker look at one of its connections again. From any thread.
#[derive(Clone, Debug)]
pub(crate) struct Wakeup {
    pub(crate) tokens: Sender<Token>,
    pub(crate) waker: Waker,
}

/// The connection that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    token: Token,
    wakeup: Wakeup,
}

impl Waiting {
    /// That of the exchange whose turn it is.
    pub(super) fn new(cx: &Context<'_>) -> Self {
        Self { token: cx.client, wakeup: cx.wakeup.clone() }
    }
}

impl Wake for Waiting {
    fn wake(&self) {
        // Fails only when the worker is gone, and its connections with it.
        if self.wakeup.tokens.send(self.token).is_ok() {
            self.wakeup.waker.wake();
        }
    }
}

/// Waiting for a backend.
#[derive(Debug)]
pub(super) struct Queued {
    since: Instant,
    /// Not before.
    next_try: Instant,
    lines: Option<InLines>,
}

impl Queued {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, next_try: now, lines: None }
    }

    /// The next try after a pause.
    pub(super) fn after_pause(now: Instant) -> Self {
        Self { since: now, next_try: now + PAUSE, lines: None }
    }
}

impl Exchange {
    pub(super) fn queue(&mut self, cx: &mut Context<'_>) -> Next {
        let route = other_side(self.route.as_ref(), self.asking);
        let (Stage::Queued(queued), Some(route)) = (&mut self.stage, route) else {
            return Next::Failed(Cause::Internal);
        };
        if cx.now < queued.next_try {
            return Next::Wait(Due::look(queued.next_try));
        }
        let was_called = queued.lines.as_mut().is_some_and(InLines::take_calls);
        let request = PickRequest { client: self.client, fields: &self.head.fields, turn: self.turn };
        let (cause, until) = match route.choose(&request, self.tries.tried()) {
            Pick::Backend(guard) => {
                if let Some(lines) = &queued.lines {
                    lines.pass_on_but(Some(guard.line()));
                }
                self.guard = Some(guard);
                return Next::Stage(Stage::Connect(Connect::new()));
            }
            Pick::Busy => (Cause::BackendsBusy, queued.since + route.config().queue_timeout),
            Pick::None => (route.nobody(), self.tries.held_until(route.config(), cx.now)),
        };
        let cause = self.tries.why(cause);
        if until <= cx.now {
            return Next::Failed(cause);
        }
        match &queued.lines {
            None => {
                let waiting = || -> Box<dyn Wake> { Box::new(Waiting::new(cx)) };
                queued.lines = Some(route.join_lines(&waiting));
                // One may have become free before.
                return self.queue(cx);
            }
            Some(lines) if was_called => lines.pass_on_but(None),
            Some(_) => {}
        }
        let trial = route.next_trial().map(|trial| Due::look(cx.now + trial));
        Next::Wait(Due::fails(until, cause).or(trial))
    }
}
