//! What all exchanges share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::config::IpNetwork;
use crate::counters::Counters;
use crate::error::Cause;
use crate::http::framing::BodyFraming;
use crate::http::head::RequestHead;
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
    /// Set once, when the drain begins: answers say `Connection: close` from then on. A hint, so `Relaxed`.
    pub draining: AtomicBool,
}

impl Gateway {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The route of a request, if it takes a body of that length.
    pub(crate) fn route(&self, head: &RequestHead) -> Result<&Arc<Route>, Cause> {
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

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<Place> {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place(Arc::clone(&self.taken)))
    }

    /// Places taken now.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}
