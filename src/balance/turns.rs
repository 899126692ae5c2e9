//! [`Turns`]: whose turn it is. The part the algorithms share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Backend, BackendGuard};

/// The backends of a route, each with the turn at which it was last picked. The one picked longest ago is next.
///
/// A counter modulo the number of backends looks simpler, but is even only while the same ones are eligible from
/// pick to pick. Skipping an ill one doubles the share of its neighbour; counting modulo the eligible ones drifts
/// into step with whatever makes their number alternate: first tries among three backends and second tries among the
/// remaining two, for instance, leave one of the two with three times the load of the other. Remembering the last
/// turn of each is even in all these cases, and a backend that recovers simply is the next one once.
#[derive(Debug)]
pub(super) struct Turns {
    slots: Vec<Slot>,
    /// The number of the next turn. Written and read by [`pick`](Self::pick) alone; only its uniqueness and order
    /// count, which any read-modify-write gives: `Relaxed`. 64 bits do not wrap.
    next: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    backend: Arc<Backend>,
    /// The turn at which it was last picked; unique among the slots. Written and read by [`Turns::pick`] alone.
    /// `Release` and `Acquire`: who sees a turn here gets a higher one from `next`, so that the turns of successive
    /// picks ascend, and sees the backend's count include the exchange that took it.
    last: AtomicU64,
}

impl Turns {
    /// Turns that begin in the order of `backends`.
    pub(super) fn new(backends: &[Arc<Backend>]) -> Self {
        let mut next = 0;
        let slots = backends
            .iter()
            .map(|backend| {
                let last = AtomicU64::new(next);
                next += 1;
                Slot { backend: Arc::clone(backend), last }
            })
            .collect();
        Self { slots, next: AtomicU64::new(next) }
    }

    /// Picks, among the eligible backends with the lowest `rank`, the one picked longest ago.
    ///
    /// Lock-free: a turn is taken by changing the slot's number from the one seen to a new one. If that fails,
    /// another thread has just picked this backend, and this thread looks again. The exchange is counted before the
    /// turn is taken, and its number read before the rank, so that whoever sees the turn sees the exchange too:
    /// else threads that pick at the same moment could all find the same backend idle.
    pub(super) fn pick<R: Ord + Copy>(
        &self,
        eligible: &dyn Fn(&Backend) -> bool,
        rank: impl Fn(&Backend) -> R,
    ) -> Option<BackendGuard> {
        let mut missed: Option<&Slot> = None;
        loop {
            let first = self
                .slots
                .iter()
                .filter(|slot| eligible(&slot.backend))
                .map(|slot| {
                    let last = slot.last.load(Ordering::Acquire);
                    (rank(&slot.backend), last, slot)
                })
                .min_by_key(|&(rank, last, _)| (rank, last));
            let Some((_, last, slot)) = first else {
                // None is eligible. If one was a moment ago, it is the best there is.
                return missed.map(|slot| BackendGuard::new(&slot.backend));
            };
            let guard = BackendGuard::new(&slot.backend);
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            if slot.last.compare_exchange(last, turn, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some(guard);
            }
            missed = Some(slot);
        }
    }
}
