//! [`LeastConnections`]: the one with the least to do.

use std::sync::Arc;

use super::least::Least;
use super::load::{Load, Weights};
use super::slow_start::Ramp;
use super::{Backend, BackendGuard, LoadBalancer, PickRequest};

/// Picks the eligible backend that carries the fewest exchanges for its weight; among equals, the one picked longest ago.
/// So idle backends are used in turn, whatever their weights, and of several threads that pick at the same moment each
/// gets another one.
///
/// With `least_time`, the one algorithm whose picks cost more the more backends there are: each looks at all of them.
/// `random_two_choices` is nearly as even and looks at two.
#[derive(Debug)]
pub struct LeastConnections {
    least: Least,
    ramp: Option<Ramp>,
}

impl LeastConnections {
    /// Begins with the first of `backends`. `ramp`: how those that have come back begin.
    #[must_use]
    pub fn new(backends: &[Arc<Backend>], ramp: Option<Ramp>) -> Self {
        Self { least: Least::new(backends), ramp }
    }
}

impl LoadBalancer for LeastConnections {
    fn pick(&self, _request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        let weights = Weights::now(self.ramp);
        self.least.pick(eligible, |backend| Load::of(backend, weights))
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
        let balancer = LeastConnections::new(&backends, None);
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
        let balancer = LeastConnections::new(&backends, None);
        let held: Vec<_> = (0..30).map(|_| pick(&balancer)).collect();
        assert!(backends.iter().all(|backend| backend.in_flight() == 10));
        drop(held);
        assert!(backends.iter().all(|backend| backend.in_flight() == 0));
    }

    #[test]
    fn weights_count() {
        let backends = weighted(&[3, 1, 2]);
        let balancer = LeastConnections::new(&backends, None);
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
        let balancer = LeastConnections::new(&backends, None);
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
        let balancer = LeastConnections::new(&backends, None);
        let order: Vec<_> = (0..6).map(|_| position(&backends, &pick(&balancer))).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    /// Two exchanges at a time on three backends: ties among three and among two alternate.
    #[test]
    fn ties_of_changing_size_stay_even() {
        let backends = backends(3);
        let balancer = LeastConnections::new(&backends, None);
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
            let balancer = LeastConnections::new(&backends, None);
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
        let balancer = LeastConnections::new(&backends, None);
        backends[3].set_healthy(false);
        let shares = shares_of_threads(&balancer, &backends, 3_000);
        assert_eq!(shares.iter().sum::<usize>(), 24_000);
        assert_eq!(shares[3], 0);
        assert!(backends.iter().all(|backend| backend.in_flight() == 0));
    }

    #[test]
    fn threads_that_pick_at_the_same_moment_get_different_ones() {
        let backends = backends(4);
        let balancer = LeastConnections::new(&backends, None);
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
        let balancer = LeastConnections::new(&backends, None);
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
        assert!(LeastConnections::new(&backends(3), None).pick(&PickRequest::ANYONE, &|_| false).is_none());
    }
}
