//! [`WeightedRoundRobin`]: one after the other, the heavier ones more often.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Backend, BackendGuard, LoadBalancer, PickRequest};

/// Picks the eligible backends in proportion to their weights, and spreads the picks of each over the round: weights 5,
/// 1, 1 give a a b a c a a, not a a a a a b c.
///
/// nginx's smooth way: each pick gives every eligible backend its weight in credit, picks the one with the most, and
/// takes from it all that was given. Credit is bounded, so the shares are exact in the long run, and a backend that
/// recovers is not flooded.
///
/// One difference: credit is counted in picks. What nginx takes for a pick depends on who was eligible at that moment,
/// and if that alternates, as it does when one backend refuses and its exchanges are tried again on the others, those
/// that pay less for a pick get more of them.
#[derive(Debug)]
pub struct WeightedRoundRobin {
    /// Held for a pass over the backends.
    round: Mutex<Round>,
}

#[derive(Debug)]
struct Round {
    slots: Vec<Slot>,
    /// What a pick costs: all that was given for the last one.
    price: i128,
}

#[derive(Debug)]
struct Slot {
    backend: Arc<Backend>,
    /// In fractions of a pick: the price is one. All together are about 0.
    credit: i128,
    /// What it is given for the pick under way: nothing, unless it is eligible.
    given: i128,
}

/// While the same backends are eligible, nothing is rounded. When others are, the price changes, and credit is
/// converted; with weights in these units, what is lost then is less than a millionth of a pick.
const UNIT: i128 = 1 << 20;

impl WeightedRoundRobin {
    /// Begins with the heaviest of `backends`.
    #[must_use]
    pub fn new(backends: &[Arc<Backend>]) -> Self {
        let slot = |backend: &Arc<_>| Slot { backend: Arc::clone(backend), credit: 0, given: 0 };
        Self { round: Mutex::new(Round { slots: backends.iter().map(slot).collect(), price: 1 }) }
    }
}

impl LoadBalancer for WeightedRoundRobin {
    fn pick(&self, _request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        let Round { slots, price } = &mut *round;
        let mut total = 0;
        for slot in &mut *slots {
            let weight = i128::from(slot.backend.config().weight.get());
            slot.given = if eligible(&slot.backend) { weight * UNIT } else { 0 };
            total += slot.given;
        }
        let before = std::mem::replace(price, if total > 0 { total } else { *price });
        let mut first: Option<&mut Slot> = None;
        for slot in slots.iter_mut() {
            if before != *price {
                slot.credit = slot.credit * *price / before;
            }
            slot.credit += slot.given;
            // Among equals the first in the list, as in nginx.
            if slot.given > 0 && first.as_ref().is_none_or(|first| slot.credit > first.credit) {
                first = Some(slot);
            }
        }
        let first = first?;
        first.credit -= *price;
        Some(BackendGuard::new(&first.backend))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{position, shares, shares_of_threads, weighted};
    use super::*;

    const ANYONE: PickRequest<'_> = PickRequest::ANYONE;

    /// Whom `picks` picks fell on, as letters.
    fn order(balancer: &WeightedRoundRobin, backends: &[Arc<Backend>], picks: usize) -> String {
        let pick = |_| {
            let picked = balancer.pick(&ANYONE, &Backend::is_healthy).unwrap();
            char::from(b'a' + u8::try_from(position(backends, &picked)).unwrap())
        };
        (0..picks).map(pick).collect()
    }

    #[test]
    fn is_smooth_as_in_nginx() {
        for (weights, expected) in [
            (&[5, 1, 1][..], "aabacaaaabacaa"),
            (&[1, 1, 1], "abcabc"),
            (&[4, 2, 1], "abacabaabacaba"),
            (&[3, 1], "aabaaaba"),
            (&[1, 2], "babbab"),
            (&[7], "aaa"),
        ] {
            let backends = weighted(weights);
            let balancer = WeightedRoundRobin::new(&backends);
            assert_eq!(order(&balancer, &backends, expected.len()), expected, "{weights:?}");
        }
    }

    /// Each whole round has the exact shares, and after it everything is as at first.
    #[test]
    fn every_round_is_exact() {
        let weights = [1, 1_000, 7, 30, 30];
        let backends = weighted(&weights);
        let balancer = WeightedRoundRobin::new(&backends);
        for _ in 0..3 {
            assert_eq!(shares(&balancer, &backends, 1_068), [1, 1_000, 7, 30, 30]);
        }
    }

    #[test]
    fn dead_neighbours_change_no_proportions() {
        let weights = [5, 1, 2, 3, 1];
        for dead in [&[0][..], &[2], &[4], &[1, 2], &[0, 2, 4]] {
            let backends = weighted(&weights);
            let balancer = WeightedRoundRobin::new(&backends);
            for &position in dead {
                backends[position].set_healthy(false);
            }
            let expected: Vec<_> =
                (0..5).map(|at| if dead.contains(&at) { 0 } else { weights[at] as usize }).collect();
            let round = expected.iter().sum();
            for _ in 0..10 {
                assert_eq!(shares(&balancer, &backends, round), expected, "{dead:?}");
            }
        }
    }

    #[test]
    fn a_backend_that_recovers_is_not_flooded() {
        let backends = weighted(&[2, 1, 1]);
        let balancer = WeightedRoundRobin::new(&backends);
        for pause in 0..50 {
            backends[0].set_healthy(false);
            shares(&balancer, &backends, 100 + pause);
            backends[0].set_healthy(true);
            let share = shares(&balancer, &backends, 40)[0];
            assert!((19..=21).contains(&share), "{share} of 40, not about half");
        }
    }

    /// The first refuses everything: its exchanges are tried again on the others, which share all in proportion.
    #[test]
    fn second_tries_stay_in_proportion() {
        for weights in [[1, 1, 1, 1], [3, 1, 2, 3], [1, 5, 1, 1]] {
            let backends = weighted(&weights);
            let balancer = WeightedRoundRobin::new(&backends);
            let rest: u32 = weights[1..].iter().sum();
            let mut served = [0_u32; 4];
            for _ in 0..rest * 200 {
                let mut at = position(&backends, &balancer.pick(&ANYONE, &|_| true).unwrap());
                if at == 0 {
                    let second =
                        balancer.pick(&ANYONE, &|backend| !std::ptr::eq(backend, &raw const *backends[0]));
                    at = position(&backends, &second.unwrap());
                }
                served[at] += 1;
            }
            for at in 1..4 {
                assert!(served[at].abs_diff(weights[at] * 200) <= 2, "{weights:?}: {served:?}");
            }
        }
    }

    #[test]
    fn is_exact_under_threads() {
        let backends = weighted(&[4, 3, 2, 1]);
        let balancer = WeightedRoundRobin::new(&backends);
        backends[1].set_healthy(false);
        assert_eq!(shares_of_threads(&balancer, &backends, 700), [3_200, 0, 1_600, 800]);
        assert!(backends.iter().all(|backend| backend.in_flight() == 0));
    }

    #[test]
    fn none_without_an_eligible_one() {
        let backends = weighted(&[2, 1]);
        let balancer = WeightedRoundRobin::new(&backends);
        assert_eq!(order(&balancer, &backends, 1), "a");
        assert!(balancer.pick(&ANYONE, &|_| false).is_none());
        assert_eq!(order(&balancer, &backends, 2), "ba", "goes on where it was");
        assert!(WeightedRoundRobin::new(&[]).pick(&ANYONE, &|_| true).is_none());
    }

    /// Who says yes once is picked, even if all say no afterwards.
    #[test]
    fn survives_a_change_of_mind() {
        let backends = weighted(&[3, 2, 1]);
        for yes_at in 0..3 {
            let asked = std::cell::Cell::new(0);
            let picked = WeightedRoundRobin::new(&backends).pick(&ANYONE, &|_| {
                asked.set(asked.get() + 1);
                asked.get() == yes_at + 1
            });
            assert_eq!(position(&backends, &picked.unwrap()), yes_at);
        }
    }
}
