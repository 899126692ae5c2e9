//! [`LeastTime`]: the one from which an answer is to be expected soonest.

use std::sync::Arc;

use super::backend::now_millis;
use super::least::Least;
use super::load::Weights;
use super::slow_start::Ramp;
use super::{Backend, BackendGuard, LoadBalancer, PickRequest};

/// Picks the eligible backend of which the time it takes to begin an answer, in the mean, times the exchanges that it would
/// carry, for its weight, is the least; among those that are about equal, the one picked longest ago.
///
/// One of which no time is known is asked first, but by one exchange at a time until there is an answer. A pick looks at all,
/// as with `least_connections`.
#[derive(Debug)]
pub struct LeastTime {
    least: Least,
    ramp: Option<Ramp>,
}

impl LeastTime {
    /// Begins with the first of `backends`. `ramp`: how those that have come back begin.
    #[must_use]
    pub fn new(backends: &[Arc<Backend>], ramp: Option<Ramp>) -> Self {
        Self { least: Least::new(backends), ramp }
    }
}

impl LoadBalancer for LeastTime {
    fn pick(&self, _request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        let (now, weights) = (now_millis(), Weights::now(self.ramp));
        self.least.pick(eligible, |backend| {
            let time = backend.answer_time().at(now);
            Wait::of(time, backend.in_flight(), weights.part(backend), backend.config().weight.get())
        })
    }
}

/// How long one more exchange would wait, in a unit that is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    /// Nobody knows, and nobody is finding out.
    Unknown,
    /// So long.
    Expected(u32),
    /// Nobody knows yet: so many are finding out, for its weight.
    Asked(u32),
}

impl Wait {
    /// `part`: what of its share the backend has. What it carries weighs more, the less that is; idle ones are equal, as with the
    /// other algorithms.
    #[expect(clippy::cast_precision_loss, reason = "nothing carries so many exchanges")]
    fn of(time: Option<f64>, in_flight: usize, part: f64, weight: u32) -> Self {
        let load = (in_flight as f64 / part + 1.0) / f64::from(weight);
        match time {
            Some(time) => Self::Expected(coarse(time * load)),
            None if in_flight == 0 => Self::Unknown,
            None => Self::Asked(coarse(load)),
        }
    }
}

/// The order of such numbers, in steps of some 3 %: backends that are about as fast take turns, instead of all going to the
/// one that is ahead by chance. The bits of positive numbers are in their order.
#[expect(clippy::cast_possible_truncation, reason = "it is to be coarse")]
fn coarse(number: f64) -> u32 {
    (number as f32).to_bits() >> 18
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::test_support::{backends, position, shares, weighted};
    use super::*;

    fn pick(balancer: &LeastTime) -> BackendGuard {
        balancer.pick(&PickRequest::ANYONE, &Backend::is_healthy).unwrap()
    }

    fn measure(backends: &[Arc<Backend>], millis: &[u64]) {
        let now = now_millis();
        for (backend, millis) in backends.iter().zip(millis) {
            backend.answer_time().observe(Duration::from_millis(*millis), now);
        }
    }

    #[test]
    fn the_order_of_what_is_known() {
        let order = [
            Wait::of(None, 0, 1.0, 1),
            Wait::of(Some(0.0), 0, 1.0, 1),
            Wait::of(Some(10.0), 0, 0.1, 1),
            Wait::of(Some(10.0), 2, 1.0, 2),
            Wait::of(Some(10.0), 1, 1.0, 1),
            Wait::of(Some(10.0), 1, 0.1, 1),
            Wait::of(Some(1e9), 1_000_000, 1.0, 1),
            Wait::of(None, 1, 1.0, 2),
            Wait::of(None, 1, 1.0, 1),
        ];
        assert!(order.is_sorted() && order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
        for same in [Wait::of(Some(10.1), 1, 1.0, 2), Wait::of(Some(10.2), 0, 1.0, 1)] {
            assert_eq!(same, Wait::of(Some(10.1), 0, 1.0, 1), "about");
        }
        assert!(Wait::of(Some(10.1), 0, 1.0, 1) < Wait::of(Some(10.5), 0, 1.0, 1));
    }

    #[test]
    fn the_fastest_gets_all_until_it_has_more_to_do() {
        let backends = backends(3);
        let balancer = LeastTime::new(&backends, None);
        measure(&backends, &[50, 10, 300]);
        assert_eq!(shares(&balancer, &backends, 100), [0, 100, 0]);
        let held: Vec<_> = (0..66).map(|_| pick(&balancer)).collect();
        let carried: Vec<_> = backends.iter().map(|backend| backend.in_flight()).collect();
        assert!(carried[0].abs_diff(10) <= 1 && carried[1].abs_diff(53) <= 2, "{carried:?}");
        assert!((1..=3).contains(&carried[2]), "{carried:?}");
        drop(held);
        assert!(backends.iter().all(|backend| backend.in_flight() == 0));
    }

    #[test]
    fn weights_count() {
        let backends = weighted(&[1, 3]);
        let balancer = LeastTime::new(&backends, None);
        measure(&backends, &[10, 20]);
        assert_eq!(shares(&balancer, &backends, 10), [0, 10], "20 / 3 < 10");
    }

    /// All are asked once, and nobody a second time before there is an answer.
    #[test]
    fn who_was_never_measured_is_asked_first_and_once_at_a_time() {
        let backends = backends(4);
        let balancer = LeastTime::new(&backends, None);
        measure(&backends[..2], &[10, 10]);
        let held = [pick(&balancer), pick(&balancer)];
        assert_eq!(held.each_ref().map(|guard| position(&backends, guard)), [2, 3]);
        let others: Vec<_> = (0..20).map(|_| pick(&balancer)).collect();
        assert!(others.iter().all(|guard| position(&backends, guard) < 2));
    }

    #[test]
    fn while_nothing_is_known_of_anybody_they_share() {
        let backends = backends(3);
        let balancer = LeastTime::new(&backends, None);
        let held: Vec<_> = (0..30).map(|_| pick(&balancer)).collect();
        assert!(backends.iter().all(|backend| backend.in_flight() == 10));
        drop(held);
        assert_eq!(shares(&balancer, &backends, 30), [10, 10, 10]);
    }

    #[test]
    fn equals_go_round() {
        let backends = backends(3);
        let balancer = LeastTime::new(&backends, None);
        measure(&backends, &[10, 10, 10]);
        let order: Vec<_> = (0..6).map(|_| position(&backends, &pick(&balancer))).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn none_without_an_eligible_one() {
        assert!(LeastTime::new(&backends(3), None).pick(&PickRequest::ANYONE, &|_| false).is_none());
        assert!(LeastTime::new(&[], None).pick(&PickRequest::ANYONE, &|_| true).is_none());
    }
}
