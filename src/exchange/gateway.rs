//! What all exchanges share.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use crate::counters::Counters;
use crate::downstream::per_client::PerClient;
use crate::passwords::Passwords;
use crate::snapshot::Snapshot;

/// Everything an exchange needs, shared by all workers.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Swapped as a whole by a reload.
    pub snapshot: ArcSwap<Snapshot>,
    pub counters: Arc<Counters>,
    pub tunnels: Places,
    pub exchanges: Places,
    pub compressing: Places,
    /// For `max_connections_per_client`.
    pub per_client: Arc<PerClient>,
    /// For `basic_auth`.
    pub passwords: Passwords,
    /// By what name this instance is known in `Via`: no other has it, so that who sees it there knows of a loop.
    pub via: String,
    /// Set once, when the drain begins: answers say `Connection: close` from then on. A hint, so `Relaxed`.
    pub draining: AtomicBool,
    /// Set once, before that: the proxy is told to stop, and still serves new connections. A hint, so `Relaxed`.
    pub leaving: AtomicBool,
    /// Snapshots that somebody still has, the one at work among them.
    pub in_use: Arc<AtomicUsize>,
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

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Configurations that exchanges still run under, the one at work among them.
    pub(crate) fn snapshots_in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// The configuration at work.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

/// A bounded number of places: `max_tunnels`, `max_exchanges`, `max_compressing`, `max_handshakes`.
#[derive(Debug)]
pub(crate) struct Places {
    /// Changed by a reload. A bound and nothing else: `Relaxed`.
    max: AtomicUsize,
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
        Self { max: AtomicUsize::new(max), taken: Arc::default() }
    }

    /// Whether there are any places at all.
    pub(crate) fn may_take(&self) -> bool {
        self.max() > 0
    }

    fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// From now on there are so many. Those that are taken stay taken.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Places that are taken now.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<Place> {
        let max = self.max();
        let one_more = |taken| (taken < max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place(Arc::clone(&self.taken)))
    }
}
