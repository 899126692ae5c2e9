//! [`RandomTwoChoices`]: the less busy of two chosen at random.

use std::sync::Arc;

use super::load::{Load, Weights};
use super::random::{Random, Sequence};
use super::slow_start::Ramp;
use super::{Backend, BackendGuard, LoadBalancer, PickRequest};

/// So many are drawn to find one that is eligible, before all are asked. With half of them eligible, one search in 16
/// gets there.
const DRAWS: usize = 4;

/// Chooses two different eligible backends at random, all pairs alike, and picks the one with fewer exchanges in flight
/// for its weight; when they are equal, one of the two at random.
///
/// Nearly as even as the best of all, and better where several proxies share the backends: each knows its own
/// exchanges alone, and if all of them went to the backend that looks best, they would go there together. And a pick
/// looks at two backends, however many there are, unless many of them are not eligible.
#[derive(Debug)]
pub struct RandomTwoChoices {
    backends: Vec<Arc<Backend>>,
    random: Sequence,
    ramp: Option<Ramp>,
}

impl RandomTwoChoices {
    /// Chooses among `backends`, differently in each process. `ramp`: how those that have come back begin.
    #[must_use]
    pub fn new(backends: &[Arc<Backend>], ramp: Option<Ramp>) -> Self {
        Self { backends: backends.to_vec(), random: Sequence::new(), ramp }
    }

    /// One of the eligible ones, all alike, but not the one at `taken`; and its place.
    ///
    /// A draw among all that is eligible is as good as a draw among the eligible ones, and asks nobody else.
    fn choose(
        &self,
        random: &mut Random,
        taken: Option<usize>,
        eligible: &dyn Fn(&Backend) -> bool,
    ) -> Option<(usize, &Arc<Backend>)> {
        let count = self.backends.len().saturating_sub(usize::from(taken.is_some()));
        for _ in 0..DRAWS {
            let drawn = random.below(count as u64) as usize;
            // The places without `taken`: those behind it come one earlier.
            let place = drawn + usize::from(taken.is_some_and(|taken| drawn >= taken));
            let backend = self.backends.get(place)?;
            if eligible(backend) {
                return Some((place, backend));
            }
        }
        // One of a list whose length shows at its end: the n-th takes the place of the one before with a probability of
        // 1/n. So each backend is asked once, and nothing is allocated.
        let others = self.backends.iter().enumerate().filter(|(place, _)| Some(*place) != taken);
        let eligible = others.filter(|(_, backend)| eligible(backend));
        (1..).zip(eligible).fold(None, |chosen, (n, next)| match chosen {
            Some(chosen) if random.below(n) > 0 => Some(chosen),
            _ => Some(next),
        })
    }
}

impl LoadBalancer for RandomTwoChoices {
    fn pick(&self, _request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        let mut random = self.random.begin();
        let (place, one) = self.choose(&mut random, None, eligible)?;
        let Some((_, other)) = self.choose(&mut random, Some(place), eligible) else {
            return Some(BackendGuard::new(one));
        };
        let weights = Weights::now(self.ramp);
        let first = match Load::of(one, weights).cmp(&Load::of(other, weights)) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Greater => false,
            std::cmp::Ordering::Equal => random.below(2) == 0,
        };
        Some(BackendGuard::new(if first { one } else { other }))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::test_support::{
        assert_picks_who_said_yes, backends, position, shares, shares_of_threads, weighted,
    };
    use super::*;

    const ANYONE: PickRequest<'_> = PickRequest::ANYONE;

    fn balancer(backends: &[Arc<Backend>]) -> RandomTwoChoices {
        RandomTwoChoices { backends: backends.to_vec(), random: Sequence::seeded(7), ramp: None }
    }

    fn assert_about(shares: &[usize], expected: usize) {
        let near = expected * 9 / 10..=expected * 11 / 10;
        assert!(shares.iter().all(|share| near.contains(share)), "{shares:?}, expected about {expected}");
    }

    #[test]
    fn idle_ones_are_picked_about_alike() {
        for count in [2, 3, 7] {
            let backends = backends(count);
            let shares = shares(&balancer(&backends), &backends, usize::from(count) * 3_000);
            assert_about(&shares, 3_000);
        }
    }

    /// Of one busy backend and three idle ones: never picked, because the other of any pair is idle.
    #[test]
    fn the_busiest_is_never_picked() {
        let backends = backends(4);
        let balancer = balancer(&backends);
        let _busy = BackendGuard::new(&backends[1]);
        let shares = shares(&balancer, &backends, 9_000);
        assert_eq!(shares[1], 0);
        // The others win against the busy one, and against each other half of the time.
        assert_about(&[shares[0], shares[2], shares[3]], 3_000);
    }

    /// Who is picked is the less busy of a random pair, not of all: with 0, 1, 2, 3 in flight these wins are
    /// 3, 2, 1, 0 of the six pairs.
    #[test]
    fn all_pairs_are_alike() {
        let backends = backends(4);
        let balancer = balancer(&backends);
        let _busy: Vec<_> = [1, 2, 2, 3, 3, 3].map(|at| BackendGuard::new(&backends[at])).into();
        let shares = shares(&balancer, &backends, 18_000);
        for (share, expected) in shares.into_iter().zip([9_000, 6_000, 3_000, 0]) {
            assert_about(&[share], expected);
        }
    }

    /// One choice at random would leave the fullest some 30 above the average here, the best of all none.
    #[test]
    fn held_exchanges_spread_nearly_evenly() {
        let backends = backends(10);
        let balancer = balancer(&backends);
        let held: Vec<_> =
            (0..1_000).map(|_| balancer.pick(&ANYONE, &Backend::is_healthy).unwrap()).collect();
        assert!(backends.iter().all(|backend| (96..=104).contains(&backend.in_flight())), "{backends:?}");
        drop(held);
        assert!(backends.iter().all(|backend| backend.in_flight() == 0));
    }

    #[test]
    fn weights_count() {
        let backends = weighted(&[3, 1]);
        let balancer = balancer(&backends);
        let _held: Vec<_> = (0..40).map(|_| balancer.pick(&ANYONE, &Backend::is_healthy).unwrap()).collect();
        assert_eq!(backends.iter().map(|backend| backend.in_flight()).collect::<Vec<_>>(), [30, 10]);
    }

    #[test]
    fn dead_neighbours_double_nobodys_share() {
        for dead in [&[0][..], &[4], &[1, 2], &[0, 2, 4], &[1, 2, 3, 4]] {
            let backends = backends(5);
            for &position in dead {
                backends[position].set_healthy(false);
            }
            let alive = backends.len() - dead.len();
            let mut shares = shares(&balancer(&backends), &backends, alive * 3_000);
            assert!(dead.iter().all(|&position| shares[position] == 0), "{shares:?}");
            shares.retain(|share| *share > 0);
            assert_about(&shares, 3_000);
        }
    }

    #[test]
    fn threads_leave_nothing_behind() {
        let backends = backends(4);
        backends[3].set_healthy(false);
        let shares = shares_of_threads(&balancer(&backends), &backends, 3_000);
        assert_eq!(shares.iter().sum::<usize>(), 24_000);
        assert_eq!(shares[3], 0);
        assert!(backends.iter().all(|backend| backend.in_flight() == 0));
    }

    #[test]
    fn none_without_an_eligible_one() {
        assert!(balancer(&backends(3)).pick(&ANYONE, &|_| false).is_none());
        assert!(balancer(&[]).pick(&ANYONE, &|_| true).is_none());
    }

    /// Who says yes once is picked, even if all say no afterwards.
    #[test]
    fn survives_a_change_of_mind() {
        let backends = backends(3);
        for yes_at in 0..DRAWS + 3 {
            assert_picks_who_said_yes(&balancer(&backends), yes_at);
        }
    }

    #[test]
    fn looks_at_two_however_many_there_are() {
        let backends = backends(300);
        let balancer = balancer(&backends);
        let asked = Cell::new(0);
        for _ in 0..1_000 {
            balancer.pick(&ANYONE, &|_| {
                asked.set(asked.get() + 1);
                true
            });
        }
        assert_eq!(asked.get(), 2_000);
    }

    /// As with all of them, so with those that are left: draws and, when few are left, a look at each.
    #[test]
    fn pairs_are_alike_when_few_are_left() {
        for dead in [0, 1, 4, 16, 60] {
            let backends = backends(4 + dead);
            // The dead lie between the living.
            let living = [0, 1, 2 + dead / 2, 3 + dead].map(usize::from);
            for (place, backend) in backends.iter().enumerate() {
                backend.set_healthy(living.contains(&place));
            }
            let _busy: Vec<_> =
                [1, 2, 2, 3, 3, 3].map(|at: usize| BackendGuard::new(&backends[living[at]])).into();
            let shares = shares(&balancer(&backends), &backends, 18_000);
            for (at, expected) in living.into_iter().zip([9_000, 6_000, 3_000, 0]) {
                assert_about(&[shares[at]], expected);
            }
        }
    }

    #[test]
    fn two_processes_choose_differently() {
        let backends = backends(10);
        let order = || -> Vec<_> {
            let balancer = RandomTwoChoices::new(&backends, None);
            let pick = |_| position(&backends, &balancer.pick(&ANYONE, &|_| true).unwrap());
            (0..100).map(pick).collect()
        };
        assert_ne!(order(), order());
    }
}
