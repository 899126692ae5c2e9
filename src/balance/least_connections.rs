//! [`LeastConnections`]: the one with the least to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::load::Load;
use super::{Backend, BackendGuard, LoadBalancer, PickRequest};

/// Picks the eligible backend that carries the fewest exchanges for its weight; among equals, the one picked longest ago.
/// So idle backends are used in turn, whatever their weights, and of several threads that pick at the same moment each
/// gets another one.
///
/// The one algorithm whose picks cost more the more backends there are: each looks at all of them. The loads change
/// with every exchange that begins or ends, and an order kept by load would have to be changed then, under a lock.
/// `random_two_choices` is nearly as even and looks at two.
#[derive(Debug)]
pub struct LeastConnections {
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

impl LeastConnections {
    /// Begins with the first of `backends`.
    #[must_use]
    pub fn new(backends: &[Arc<Backend>]) -> Self {
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
}

impl LoadBalancer for LeastConnections {
    /// Lock-free: a pick is made by changing the slot's number from the one seen to a new one. If that fails, another
    /// thread has just picked this backend, and this thread looks again. The exchange is counted before the number is
    /// changed, and the number read before the load, so that whoever sees the number sees the exchange too: else
    /// threads that pick at the same moment could all find the same backend idle.
    fn pick(&self, _request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        let mut missed: Option<&Slot> = None;
        loop {
            let first = self
                .slots
                .iter()
                .filter(|slot| eligible(&slot.backend))
                .map(|slot| {
                    let last = slot.last.load(Ordering::Acquire);
                    (Load::of(&slot.backend), last, slot)
                })
                .min_by_key(|&(load, last, _)| (load, last));
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

#[cfg(test)]
mod tests {
    use super::super::test_support::{backends, position, shares, shares_of_threads, weighted};
    use super::*;

    fn pick(balancer: &LeastConnections) -> BackendGuard {
        balancer.pick(&PickRequest::ANYONE, &Backend::is_healthy).unwrap()
    }

    #[test]
    fn picks_the_least_busy() {
        let backends = backends(3);
        let balancer = LeastConnections::new(&backends);
        let _busy = [
            BackendGuard::new(&backends[0]),
            BackendGuard::new(&backends[0]),
            BackendGuard::new(&backends[2]),
        ];
        let first = pick(&balancer);
        assert_eq!(position(&backends, &first), 1);
        let second = pick(&balancer);
        let third = pick(&balancer);
        let mut next = [position(&backends, &second), position(&backends, &third)];
        next.sort_unstable();
        assert_eq!(next, [1, 2], "both carry one");
    }

    #[test]
    fn held_exchanges_spread_evenly() {
        let backends = backends(3);
        let balancer = LeastConnections::new(&backends);
        let held: Vec<_> = (0..30).map(|_| pick(&balancer)).collect();
        assert!(backends.iter().all(|backend| backend.in_flight() == 10));
        drop(held);
        assert!(backends.iter().all(|backend| backend.in_flight() == 0));
    }

    #[test]
    fn weights_count() {
        let backends = weighted(&[3, 1, 2]);
        let balancer = LeastConnections::new(&backends);
        let held: Vec<_> = (0..60).map(|_| pick(&balancer)).collect();
        assert_eq!(backends.iter().map(|backend| backend.in_flight()).collect::<Vec<_>>(), [30, 10, 20]);
        drop(held);
        assert_eq!(shares(&balancer, &backends, 30), [10, 10, 10], "idle ones are equal");
        let _one_each: Vec<_> = backends.iter().map(BackendGuard::new).collect();
        assert_eq!(shares(&balancer, &backends, 30), [30, 0, 0], "1/3 < 1/2 < 1");
    }

    #[test]
    fn a_place_that_becomes_free_is_filled() {
        let backends = backends(3);
        let balancer = LeastConnections::new(&backends);
        let mut held: Vec<_> = (0..9).map(|_| pick(&balancer)).collect();
        for _ in 0..20 {
            let ended = held.remove(4);
            let at = position(&backends, &ended);
            drop(ended);
            held.push(pick(&balancer));
            assert_eq!(position(&backends, &held[8]), at);
        }
    }

    #[test]
    fn ties_go_round() {
        let backends = backends(3);
        let balancer = LeastConnections::new(&backends);
        let order: Vec<_> = (0..6).map(|_| position(&backends, &pick(&balancer))).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    /// Two exchanges at a time on three backends: ties among three and among two alternate.
    #[test]
    fn ties_of_changing_size_stay_even() {
        let backends = backends(3);
        let balancer = LeastConnections::new(&backends);
        let mut served = [0; 3];
        for _ in 0..150 {
            let pair = [pick(&balancer), pick(&balancer)];
            for picked in &pair {
                served[position(&backends, picked)] += 1;
            }
        }
        assert_eq!(served, [100, 100, 100]);
    }

    #[test]
    fn dead_neighbours_double_nobodys_share() {
        for dead in [&[0][..], &[2], &[4], &[1, 2], &[0, 2, 4]] {
            let backends = backends(5);
            let balancer = LeastConnections::new(&backends);
            for &position in dead {
                backends[position].set_healthy(false);
            }
            let alive = backends.len() - dead.len();
            for (position, share) in shares(&balancer, &backends, alive * 100).into_iter().enumerate() {
                assert_eq!(share, if dead.contains(&position) { 0 } else { 100 }, "{dead:?}, {position}");
            }
        }
    }

    /// No exact shares here: a thread that is suspended while it holds a pick keeps the others away from it.
    #[test]
    fn threads_leave_nothing_behind() {
        let backends = backends(4);
        let balancer = LeastConnections::new(&backends);
        backends[3].set_healthy(false);
        let shares = shares_of_threads(&balancer, &backends, 3_000);
        assert_eq!(shares.iter().sum::<usize>(), 24_000);
        assert_eq!(shares[3], 0);
        assert!(backends.iter().all(|backend| backend.in_flight() == 0));
    }

    #[test]
    fn threads_that_pick_at_the_same_moment_get_different_ones() {
        let backends = backends(4);
        let balancer = LeastConnections::new(&backends);
        let start = std::sync::Barrier::new(8);
        let held: Vec<_> = std::thread::scope(|scope| {
            let pick = || {
                start.wait();
                pick(&balancer)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(pick)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(held.len(), 8);
        assert!(backends.iter().all(|backend| (1..=3).contains(&backend.in_flight())), "{backends:?}");
    }

    /// Another thread picks the same one between the look and the pick, and then all fall ill.
    #[test]
    fn a_lost_race_does_not_lose_the_last_backend() {
        let backends = backends(2);
        let balancer = LeastConnections::new(&backends);
        let asked = std::cell::Cell::new(0);
        let picked = balancer.pick(&PickRequest::ANYONE, &|_| {
            asked.set(asked.get() + 1);
            if asked.get() == 2 {
                // The first backend's number has been seen; change it.
                drop(balancer.pick(&PickRequest::ANYONE, &|_| true));
            }
            asked.get() == 1
        });
        assert_eq!(position(&backends, &picked.unwrap()), 0);
        assert_eq!(asked.get(), 4, "looked twice");
    }

    #[test]
    fn none_without_an_eligible_one() {
        assert!(LeastConnections::new(&backends(3)).pick(&PickRequest::ANYONE, &|_| false).is_none());
    }
}
