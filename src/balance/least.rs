//! [`Least`]: the backend with the least of something that changes all the time, the part that `least_connections` and
//! `least_time` share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Backend, BackendGuard};

/// Backends, and when each was last picked.
///
/// A pick looks at all of them: what is compared changes with every exchange that begins or ends, and an order that is
/// kept would have to be changed then, under a lock.
#[derive(Debug)]
pub(super) struct Least {
    slots: Vec<Slot>,
    /// The number of the next pick. Written and read by `pick` alone; only its uniqueness and order count, which any
    /// read-modify-write gives: `Relaxed`. 64 bits do not wrap.
    next: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    backend: Arc<Backend>,
    /// The pick at which it was last picked; unique among the slots. Written and read by `pick` alone. `Release` and
    /// `Acquire`: who sees a number here gets a higher one from `next`, so that the numbers of successive picks ascend,
    /// and sees the backend's count include the exchange that took it.
    last: AtomicU64,
}

impl Least {
    /// Begins with the first of `backends`.
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

    /// Picks the eligible one of which `what` is the least; among equals, the one picked longest ago.
    ///
    /// Lock-free: a pick is made by changing the slot's number from the one seen to a new one. If that fails, another
    /// thread has just picked this backend, and this thread looks again. The exchange is counted before the number is
    /// changed, and the number read before the load, so that whoever sees the number sees the exchange too: else
    /// threads that pick at the same moment could all find the same backend idle.
    pub(super) fn pick<K: Ord>(
        &self,
        eligible: &dyn Fn(&Backend) -> bool,
        what: impl Fn(&Backend) -> K,
    ) -> Option<BackendGuard> {
        let mut missed: Option<&Slot> = None;
        loop {
            let first = self
                .slots
                .iter()
                .filter(|slot| eligible(&slot.backend))
                .map(|slot| {
                    let last = slot.last.load(Ordering::Acquire);
                    (what(&slot.backend), last, slot)
                })
                .min_by(|(a, a_last, _), (b, b_last, _)| a.cmp(b).then(a_last.cmp(b_last)));
            let Some((_, last, slot)) = first else {
                // None is eligible. If one was a moment ago, it is the best there is.
                return missed.map(|slot| BackendGuard::new(&slot.backend));
            };
            let guard = BackendGuard::new(&slot.backend);
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if slot.last.compare_exchange(last, number, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some(guard);
            }
            missed = Some(slot);
        }
    }
}
