//! [`SlowStart`]: a backend that has come back gets little at first, and more and more.

use std::time::Duration;

use super::backend::now_millis;
use super::passive::{Millis, millis};
use super::random::Sequence;
use super::{Backend, BackendGuard, LoadBalancer, PickRequest};

/// A whole share.
pub const FULL: u32 = 1024;
/// What a backend begins with: so little that one which is cold can bear it, and enough that it gets warm.
const LEAST: u32 = FULL / 64;

/// So many are picked and refused at most. Only where all that are eligible have just come back does it come to that,
/// and then all get the same.
const TRIES: usize = 16;

/// How the share of a backend grows, from little to the whole, in proportion to the time since it came back.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    length: Millis,
}

impl Ramp {
    /// To the whole in this time.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self { length: millis(time).max(1) }
    }

    /// The share of a backend that came back then, of [`FULL`]; `None`: it has always been there.
    pub(super) fn share(self, came_back: Option<Millis>, now: Millis) -> u32 {
        let Some(age) = came_back.map(|then| now.saturating_sub(then)).filter(|age| *age < self.length)
        else {
            return FULL;
        };
        let part = u128::from(age) * u128::from(FULL) / u128::from(self.length);
        u32::try_from(part).unwrap_or(FULL).max(LEAST)
    }
}

/// Has another algorithm pick, and refuses a backend that has come back as often as its share is short of the whole; then
/// that one picks again. So whatever part of the picks a backend gets otherwise, it gets its share of that. Algorithms that
/// go by how busy a backend is must take the share into account themselves, or they would come back to it until it is
/// accepted: see `Weights` in `load.rs`.
#[derive(Debug)]
pub struct SlowStart {
    ramp: Ramp,
    balancer: Box<dyn LoadBalancer>,
    random: Sequence,
}

impl SlowStart {
    /// Puts the shares before `balancer`.
    #[must_use]
    pub fn new(ramp: Ramp, balancer: Box<dyn LoadBalancer>) -> Self {
        Self { ramp, balancer, random: Sequence::new() }
    }
}

impl LoadBalancer for SlowStart {
    fn pick(&self, request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        let now = now_millis();
        let mut random = None;
        let mut refused = None;
        for _ in 0..TRIES {
            let Some(guard) = self.balancer.pick(request, eligible) else {
                // It is the only one, and full now that it counts the exchange; or all have fallen ill meanwhile.
                return refused;
            };
            let share = guard.share(self.ramp, now);
            let random = random.get_or_insert_with(|| self.random.begin());
            if share >= FULL || random.below(u64::from(FULL)) < u64::from(share) {
                return Some(guard);
            }
            refused = Some(guard);
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::balancer;
    use super::super::test_support::{assert_picks_who_said_yes, backends, position, shares, weighted};
    use super::*;
    use crate::config::Algorithm;
    use crate::route::Pool;

    /// Longer than any test: shares stay as they are meanwhile.
    const LENGTH: Duration = Duration::from_secs(100_000);

    const ALGORITHMS: [Algorithm; 5] = [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::RandomTwoChoices,
        Algorithm::WeightedRoundRobin,
        Algorithm::LeastTime,
    ];

    /// All have been there from the start, and where that counts, all are as fast.
    fn slow(algorithm: &Algorithm, backends: &[Arc<Backend>]) -> Box<dyn LoadBalancer> {
        let pool = Pool::for_tests(0, |config| {
            config.algorithm = algorithm.clone();
            config.slow_start = Some(LENGTH);
        });
        let now = now_millis();
        backends.iter().for_each(|backend| backend.answer_time().observe(Duration::from_millis(5), now));
        balancer(pool.config(), backends)
    }

    /// It has this part of its share, as long as the test lasts.
    fn warm_up_to(backend: &Backend, part: f64) {
        let now = now_millis();
        backend.begin_slowly(now - millis(LENGTH.mul_f64(part)));
        backend.answer_time().observe(Duration::from_millis(5), now);
    }

    /// The part of its share that the first of `backends` gets while the others have theirs.
    fn part_of_the_first(balancer: &dyn LoadBalancer, backends: &[Arc<Backend>]) -> f64 {
        let mut shares = vec![0; backends.len()];
        for _ in 0..6_000 {
            let picked = balancer.pick(&PickRequest::ANYONE, &Backend::is_healthy).unwrap();
            picked.answer_time().observe(Duration::from_millis(5), now_millis());
            shares[position(backends, &picked)] += 1;
        }
        let others = shares[1..].iter().sum::<usize>() / (backends.len() - 1);
        shares[0] as f64 / others as f64
    }

    #[test]
    fn the_share_grows_in_proportion_to_time() {
        let ramp = Ramp::new(Duration::from_secs(100));
        for (age, share) in [
            (0, LEAST),
            (1_000, LEAST),
            (25_000, FULL / 4),
            (50_000, FULL / 2),
            (75_000, FULL / 4 * 3),
            (100_000, FULL),
            (1_000_000_000, FULL),
        ] {
            assert_eq!(ramp.share(Some(7), 7 + age), share, "{age}");
        }
        assert_eq!(ramp.share(None, 1), FULL);
        assert_eq!(ramp.share(Some(10), 9), LEAST, "clocks of two threads");
    }

    #[test]
    fn nobody_who_was_always_there_is_refused() {
        for algorithm in ALGORITHMS {
            let backends = backends(3);
            let shares = shares(&*slow(&algorithm, &backends), &backends, 6_000);
            assert!(shares.iter().all(|share| (1_800..2_200).contains(share)), "{algorithm}: {shares:?}");
        }
    }

    #[test]
    fn who_has_come_back_gets_its_share_and_no_more() {
        for algorithm in ALGORITHMS {
            let backends = backends(4);
            let balancer = slow(&algorithm, &backends);
            for expected in [0.1, 0.5, 0.9] {
                warm_up_to(&backends[0], expected);
                let part = part_of_the_first(&*balancer, &backends);
                // Of two that are drawn, the other one is accepted more often: a little less than its share.
                assert!((part - expected).abs() < 0.15, "{algorithm}: {part}, expected {expected}");
            }
            warm_up_to(&backends[0], 1.0);
            let part = part_of_the_first(&*balancer, &backends);
            assert!((part - 1.0).abs() < 0.1, "{algorithm}: {part} in the end");
        }
    }

    /// While the others are busy, the one that has come back has the least to do: it must not get everything.
    #[test]
    fn who_has_come_back_idle_is_not_flooded() {
        for algorithm in [Algorithm::LeastConnections, Algorithm::RandomTwoChoices, Algorithm::LeastTime] {
            let backends = backends(4);
            let balancer = slow(&algorithm, &backends);
            let _busy: Vec<_> = backends[1..]
                .iter()
                .flat_map(|backend| [(); 20].map(|()| BackendGuard::new(backend)))
                .collect();
            warm_up_to(&backends[0], 0.25);
            let held: Vec<_> = (0..200)
                .map(|_| balancer.pick(&PickRequest::ANYONE, &Backend::is_healthy).unwrap())
                .collect();
            let in_flight: Vec<_> = backends.iter().map(|backend| backend.in_flight()).collect();
            assert!((1..=30).contains(&in_flight[0]), "{algorithm}: {in_flight:?}");
            drop(held);
        }
    }

    #[test]
    fn weights_count_too() {
        let backends = weighted(&[6, 1, 1]);
        let balancer = slow(&Algorithm::WeightedRoundRobin, &backends);
        warm_up_to(&backends[0], 0.5);
        let part = part_of_the_first(&*balancer, &backends);
        assert!((2.5..3.5).contains(&part), "{part}");
    }

    /// All have just come back, all are served; and a single one is, at once.
    #[test]
    fn where_all_have_come_back_all_are_served() {
        for algorithm in ALGORITHMS {
            for count in [1, 3] {
                let backends = backends(count);
                let balancer = slow(&algorithm, &backends);
                backends.iter().for_each(|backend| warm_up_to(backend, 0.0));
                let shares = shares(&*balancer, &backends, 600);
                let even = 600 / usize::from(count);
                assert!(
                    shares.iter().all(|share| share.abs_diff(even) < even / 2),
                    "{algorithm}: {shares:?}"
                );
                assert!(backends.iter().all(|backend| backend.in_flight() == 0), "{algorithm}");
            }
        }
    }

    #[test]
    fn a_limit_of_one_is_no_dead_end() {
        for algorithm in ALGORITHMS {
            let backends = backends(2);
            let balancer = slow(&algorithm, &backends);
            backends.iter().for_each(|backend| warm_up_to(backend, 0.0));
            let idle = |backend: &Backend| backend.in_flight() == 0;
            let held: Vec<_> = (0..2).map(|_| balancer.pick(&PickRequest::ANYONE, &idle).unwrap()).collect();
            assert_ne!(position(&backends, &held[0]), position(&backends, &held[1]), "{algorithm}");
            assert!(balancer.pick(&PickRequest::ANYONE, &idle).is_none(), "{algorithm}");
        }
    }

    #[test]
    fn survives_a_change_of_mind() {
        for algorithm in ALGORITHMS {
            let backends = backends(3);
            let balancer = slow(&algorithm, &backends);
            backends.iter().for_each(|backend| warm_up_to(backend, 0.0));
            assert_picks_who_said_yes(&*balancer, 2);
        }
    }

    #[test]
    fn every_way_back_begins_slowly() {
        use crate::balance::backend::Standing;
        let ramp = Ramp::new(LENGTH);
        let share = |backend: &Backend| backend.share(ramp, now_millis());
        let backend = Backend::for_tests(1);
        backend.set_healthy(true);
        backend.set_standing(Standing::Ready);
        assert_eq!(share(&backend), FULL, "it was there all the time");
        backend.set_healthy(false);
        assert_eq!(share(&backend), FULL, "it is gone");
        backend.set_healthy(true);
        assert_eq!(share(&backend), LEAST);
        for order in [Standing::Drain, Standing::Down] {
            let backend = Backend::for_tests(1);
            backend.set_standing(order);
            backend.set_standing(Standing::Ready);
            assert_eq!(share(&backend), LEAST, "{order:?}");
        }
        let pool = Pool::for_tests(2, |config| config.max_fails = 1);
        let backend = &pool.backends()[0];
        pool.note_failure(backend, crate::error::Cause::ConnectRefused, LENGTH);
        assert_eq!((backend.is_up(), share(backend)), (false, FULL));
        pool.note_success(backend);
        assert_eq!((backend.is_up(), share(backend)), (true, LEAST));
        pool.note_success(backend);
        assert_eq!(share(&pool.backends()[1]), FULL);
    }
}
