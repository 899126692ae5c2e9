//! What all exchanges share.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::config::IpNetwork;
use crate::counters::Counters;
use crate::error::Cause;
use crate::http::framing::BodyFraming;
use crate::http::head::RequestHead;
use crate::http::headers::has_passed;
use crate::route::Route;
use crate::routing::RouteTable;

/// Everything an exchange needs, shared by all workers and never changed while they run.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub routes: RouteTable<Arc<Route>>,
    pub trusted: Vec<IpNetwork>,
    pub counters: Arc<Counters>,
    pub tunnels: Places,
    pub exchanges: Places,
    /// By what name this instance is known in `Via`: no other has it, so that who sees it there knows of a loop.
    pub via: String,
    /// Set once, when the drain begins: answers say `Connection: close` from then on. A hint, so `Relaxed`.
    pub draining: AtomicBool,
}

/// A name for this instance.
pub(crate) fn via() -> String {
    // The keys are random, each time.
    let random = RandomState::new().build_hasher().finish();
    format!("reverse-proxy-{:08x}", random >> 32)
}

impl Gateway {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The route of a request, if it takes a body of that length, and has not come through here before.
    pub(crate) fn route(&self, head: &RequestHead) -> Result<&Arc<Route>, Cause> {
        if has_passed(&head.fields, &self.via) {
            return Err(Cause::LoopDetected);
        }
        let route = self.routes.find(head.target.routing_path()).ok_or(Cause::NoRoute)?;
        match (head.framing, route.config().max_body_bytes) {
            (BodyFraming::Length(length), Some(max)) if length > max => Err(Cause::BodyTooLarge),
            _ => Ok(route),
        }
    }
}

/// A bounded number of places: `max_tunnels`, `max_exchanges`.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    /// Places taken. Each guards one thing and nothing else: `Relaxed`.
    taken: Arc<AtomicUsize>,
}

/// One of the places. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, taken: Arc::default() }
    }

    /// Whether there are any places at all.
    pub(crate) fn may_take(&self) -> bool {
        self.max > 0
    }

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<Place> {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place(Arc::clone(&self.taken)))
    }
}
