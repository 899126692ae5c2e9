//! [`WeightedRoundRobin`]: one after the other, the heavier ones more often.

use std::cmp::Reverse;
use std::sync::Arc;

use super::turns::Turns;
use super::{Backend, BackendGuard, LoadBalancer, PickRequest};

/// Turns in a round. Many backends whose weights have nothing in common would make it longer, and working it out at each
/// change of addresses would take seconds.
const MOST_TURNS: i64 = 1 << 16;

/// Picks the eligible backends in proportion to their weights, and spreads the picks of each over the round: weights 5,
/// 1, 1 give a a b a c a a, not a a a a a b c.
///
/// The order of a round is nginx's, worked out once: as many turns as the weights together, divided by what they have
/// in common. So a pick costs the same however many backends there are, the shares are exact in each round, and who is
/// not eligible loses its own turns and changes nobody else's.
///
/// A pick costs more when those that are left have few of the turns: of weights 1000 and 1, without the first, it goes
/// past a thousand turns. A round has no more than 65,536 turns, and one for each backend: beyond that, the shares are
/// rounded.
#[derive(Debug)]
pub struct WeightedRoundRobin {
    turns: Turns,
}

impl WeightedRoundRobin {
    /// Begins with the heaviest of `backends`.
    #[must_use]
    pub fn new(backends: &[Arc<Backend>]) -> Self {
        let weights: Vec<u32> = backends.iter().map(|backend| backend.config().weight.get()).collect();
        Self { turns: Turns::new(backends, smooth(&weights)) }
    }
}

impl LoadBalancer for WeightedRoundRobin {
    fn pick(&self, _request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        self.turns.pick(eligible)
    }
}

/// The order in which places of these weights have their turns in one round, by nginx's smooth way: before each turn
/// every place is given its weight in credit; the turn is for the place with the most, the first among equals, and it
/// pays for it all that was given. After a round all have the credit they began with, none.
pub(crate) fn smooth(weights: &[u32]) -> Vec<usize> {
    let common = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let mut weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / common)).collect();
    let sum: i64 = weights.iter().sum();
    if sum > MOST_TURNS {
        weights.iter_mut().for_each(|weight| *weight = (*weight * MOST_TURNS / sum).max(1));
    }
    let price: i64 = weights.iter().sum();
    let mut credits = vec![0; weights.len()];
    (0..price)
        .filter_map(|_| {
            credits.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
            let (place, first) =
                credits.iter_mut().enumerate().max_by_key(|(place, credit)| (**credit, Reverse(*place)))?;
            *first -= price;
            Some(place)
        })
        .collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::test_support::{
        assert_picks_who_said_yes, position, shares, shares_of_threads, weighted,
    };
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

    /// Who is eligible changes from pick to pick, in every rhythm there is: those who always are stay in proportion.
    #[test]
    fn one_that_comes_and_goes_changes_no_proportions() {
        for rhythm in 1_u32..1 << 6 {
            let backends = weighted(&[2, 3, 1, 4]);
            let balancer = WeightedRoundRobin::new(&backends);
            let mut served = [0_u32; 4];
            for pick in 0..1_200 {
                backends[1].set_healthy(rhythm >> (pick % 6) & 1 == 1);
                served[position(&backends, &balancer.pick(&ANYONE, &Backend::is_healthy).unwrap())] += 1;
            }
            assert!(served[0].abs_diff(served[2] * 2) <= 2, "{rhythm:06b}: {served:?}");
            assert!(served[3].abs_diff(served[2] * 4) <= 4, "{rhythm:06b}: {served:?}");
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
        // Three turns are asked about, then each backend once.
        for yes_at in 0..6 {
            assert_picks_who_said_yes(&WeightedRoundRobin::new(&backends), yes_at);
        }
    }

    /// The only one left has one turn of a thousand: nobody is asked at each turn in between.
    #[test]
    fn asks_each_at_most_twice() {
        let backends = weighted(&[1_000, 1, 999]);
        let balancer = WeightedRoundRobin::new(&backends);
        for left in 0..8 {
            for (at, backend) in backends.iter().enumerate() {
                backend.set_healthy(left >> at & 1 == 1);
            }
            for _ in 0..100 {
                let asked = Cell::new(0);
                let picked = balancer.pick(&ANYONE, &|backend| {
                    asked.set(asked.get() + 1);
                    backend.is_healthy()
                });
                assert_eq!(picked.is_some(), left > 0);
                assert!(asked.get() <= 6, "{}", asked.get());
            }
        }
    }

    #[test]
    fn a_round_has_an_end_whatever_the_weights() {
        let weights: Vec<u32> = (1..=1_000).collect();
        let order = smooth(&weights);
        assert!(order.len() <= 66_536, "{}", order.len());
        let mut turns = vec![0_u32; weights.len()];
        order.iter().for_each(|&place| turns[place] += 1);
        for (turns, weight) in turns.iter().zip(&weights) {
            // 65,536 turns for weights of 500,500 together.
            let share = f64::from(*weight) * 65_536.0 / 500_500.0;
            assert!(*turns >= 1 && (f64::from(*turns) - share).abs() <= 1.0, "{turns} turns, {share} wanted");
        }
    }

    /// What the weights have in common makes no round longer.
    #[test]
    fn equal_weights_are_a_round_of_one_turn_each() {
        assert_eq!(smooth(&[1_000; 4]), [0, 1, 2, 3]);
        assert_eq!(smooth(&[600, 300]), smooth(&[2, 1]));
        assert_eq!(smooth(&[7]), [0]);
        assert!(smooth(&[]).is_empty());
    }
}
