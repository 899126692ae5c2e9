//! [`RoundRobin`]: one after the other.

use std::sync::Arc;

use super::turns::Turns;
use super::{Backend, BackendGuard, LoadBalancer, PickRequest};

/// Picks the eligible backends in turn, each as often as the others, however many are not eligible and wherever they
/// stand in the list. Weights do not count.
#[derive(Debug)]
pub struct RoundRobin {
    turns: Turns,
}

impl RoundRobin {
    /// Begins with the first of `backends`.
    #[must_use]
    pub fn new(backends: &[Arc<Backend>]) -> Self {
        Self { turns: Turns::new(backends, (0..backends.len()).collect()) }
    }
}

impl LoadBalancer for RoundRobin {
    fn pick(&self, _request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        self.turns.pick(eligible)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::test_support::{backends, position, shares, shares_of_threads};
    use super::*;

    #[test]
    fn goes_round_in_the_order_of_the_file() {
        let backends = backends(3);
        let balancer = RoundRobin::new(&backends);
        let order: Vec<_> = (0..7)
            .map(|_| position(&backends, &balancer.pick(&PickRequest::ANYONE, &|_| true).unwrap()))
            .collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn how_busy_a_backend_is_does_not_matter() {
        let backends = backends(2);
        let balancer = RoundRobin::new(&backends);
        let _busy: Vec<_> = (0..5).map(|_| BackendGuard::new(&backends[0])).collect();
        assert_eq!(shares(&balancer, &backends, 10), [5, 5]);
    }

    #[test]
    fn dead_neighbours_double_nobodys_share() {
        for dead in [&[0][..], &[2], &[4], &[1, 2], &[0, 4], &[0, 2, 4]] {
            let backends = backends(5);
            let balancer = RoundRobin::new(&backends);
            for &position in dead {
                backends[position].set_healthy(false);
            }
            let alive = backends.len() - dead.len();
            for (position, share) in shares(&balancer, &backends, alive * 100).into_iter().enumerate() {
                assert_eq!(share, if dead.contains(&position) { 0 } else { 100 }, "{dead:?}, {position}");
            }
        }
    }

    #[test]
    fn is_exactly_even_under_threads() {
        let backends = backends(5);
        let balancer = RoundRobin::new(&backends);
        backends[1].set_healthy(false);
        assert_eq!(shares_of_threads(&balancer, &backends, 2_000), [4_000, 0, 4_000, 4_000, 4_000]);
    }

    #[test]
    fn a_backend_that_recovers_is_not_flooded() {
        let backends = backends(3);
        let balancer = RoundRobin::new(&backends);
        backends[1].set_healthy(false);
        shares(&balancer, &backends, 1_000);
        backends[1].set_healthy(true);
        assert_eq!(shares(&balancer, &backends, 6), [2, 2, 2]);
    }

    /// The first refuses everything: its exchanges are tried again, on the others, and these share that evenly too.
    #[test]
    fn second_tries_stay_even() {
        let backends = backends(4);
        let balancer = RoundRobin::new(&backends);
        let mut served = [0; 4];
        for _ in 0..300 {
            let mut at = position(&backends, &balancer.pick(&PickRequest::ANYONE, &|_| true).unwrap());
            if at == 0 {
                let second = balancer
                    .pick(&PickRequest::ANYONE, &|backend| !std::ptr::eq(backend, &raw const *backends[0]))
                    .unwrap();
                at = position(&backends, &second);
            }
            served[at] += 1;
        }
        assert_eq!(served, [0, 100, 100, 100]);
    }

    /// Who is eligible changes from pick to pick, in every rhythm there is: those who always are share alike.
    #[test]
    fn one_that_comes_and_goes_changes_nobody_elses_share() {
        for rhythm in 1_u32..1 << 6 {
            let backends = backends(4);
            let balancer = RoundRobin::new(&backends);
            let mut served = [0_u32; 4];
            for pick in 0..600 {
                backends[1].set_healthy(rhythm >> (pick % 6) & 1 == 1);
                let picked = balancer.pick(&PickRequest::ANYONE, &Backend::is_healthy).unwrap();
                served[position(&backends, &picked)] += 1;
            }
            assert!(served[0].abs_diff(served[2]) <= 1, "{rhythm:06b}: {served:?}");
            assert!(served[0].abs_diff(served[3]) <= 1, "{rhythm:06b}: {served:?}");
            assert!(served[1] <= served[0] + 1, "{rhythm:06b}: {served:?}");
        }
    }

    /// A turn that passes costs a look at whose it is, and none at all the others.
    #[test]
    fn looks_at_no_more_than_it_must() {
        let backends = backends(300);
        let balancer = RoundRobin::new(&backends);
        backends[0].set_healthy(false);
        backends[1].set_healthy(false);
        for expected in [3, 1, 1, 1] {
            let asked = Cell::new(0);
            let picked = balancer.pick(&PickRequest::ANYONE, &|backend| {
                asked.set(asked.get() + 1);
                backend.is_healthy()
            });
            assert!(picked.is_some());
            assert_eq!(asked.get(), expected);
        }
    }

    #[test]
    fn none_without_an_eligible_one() {
        assert!(RoundRobin::new(&backends(3)).pick(&PickRequest::ANYONE, &|_| false).is_none());
        assert!(RoundRobin::new(&[]).pick(&PickRequest::ANYONE, &|_| true).is_none());
    }

    /// Who says yes once is picked, even if all say no afterwards.
    #[test]
    fn survives_a_change_of_mind() {
        let backends = backends(3);
        for yes_at in 0..3 {
            let asked = Cell::new(0);
            let picked = RoundRobin::new(&backends).pick(&PickRequest::ANYONE, &|_| {
                asked.set(asked.get() + 1);
                asked.get() == yes_at + 1
            });
            assert_eq!(position(&backends, &picked.unwrap()), yes_at);
        }
    }

    /// Another thread takes the turn between the look and the pick, and then all fall ill.
    #[test]
    fn a_lost_race_does_not_lose_the_last_backend() {
        let backends = backends(2);
        let balancer = RoundRobin::new(&backends);
        let asked = Cell::new(0);
        let picked = balancer.pick(&PickRequest::ANYONE, &|_| {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                // The first backend's turn has been seen; take it away.
                drop(balancer.pick(&PickRequest::ANYONE, &|_| true));
            }
            asked.get() == 1
        });
        assert_eq!(position(&backends, &picked.unwrap()), 0);
        assert_eq!(asked.get(), 3, "looked twice");
    }
}
