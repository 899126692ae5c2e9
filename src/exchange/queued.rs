//! Stage: a backend is looked for. While all are full, the exchange waits in the line of its route.

use std::time::Instant;

use crossbeam_channel::Sender;

use super::connect::Connect;
use super::context::Context;
use super::{Due, Exchange, Next, Stage};
use crate::balance::PickRequest;
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::net::poller::{Token, Waker};
use crate::route::Pick;

/// Makes a worker look at one of its connections again. From any thread.
#[derive(Clone, Debug)]
pub(crate) struct Wakeup {
    pub(crate) tokens: Sender<Token>,
    pub(crate) waker: Waker,
}

impl Wakeup {
    /// Something may have changed for the connection of this token.
    pub(crate) fn look_at(&self, token: Token) {
        // Fails only when the worker is gone, and its connections with it.
        if self.tokens.send(token).is_ok() {
            self.waker.wake();
        }
    }
}

/// Waiting for a backend.
#[derive(Debug)]
pub(super) struct Queued {
    since: Instant,
}

impl Queued {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now }
    }
}

impl Exchange {
    pub(super) fn queue(&mut self, client: &Connection, cx: &mut Context<'_>) -> Next {
        let (Stage::Queued(queued), Some((route, _))) = (&self.stage, &self.route) else {
            return Next::Failed(Cause::Internal);
        };
        let request = PickRequest { client: client.address(), fields: &self.head.fields };
        let picked = match route.pick(&request, &self.tried) {
            Pick::None if !self.tried.is_empty() => route.pick(&request, &[]),
            pick => pick,
        };
        match picked {
            Pick::Backend(guard) => {
                self.guard = Some(guard);
                Next::Stage(Stage::Connect(Connect::new()))
            }
            Pick::None if route.backends().is_empty() => {
                Next::Failed(self.last.unwrap_or(Cause::NameNotResolved))
            }
            Pick::None => Next::Failed(self.last.unwrap_or(Cause::NoHealthyBackend)),
            Pick::Busy => {
                let until = queued.since + route.config().queue_timeout;
                let _ = cx.wakeup;
                Next::Wait(Due::fails(until, Cause::BackendsBusy))
            }
        }
    }
}
