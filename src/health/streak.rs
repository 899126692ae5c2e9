//! [`Streak`]: consecutive probe results → healthy or not. Pure.

use std::num::NonZeroU32;

use crate::config::HealthCheckConfig;

/// What the probes so far say about one backend.
#[derive(Clone, Copy, Debug)]
pub struct Streak {
    healthy: bool,
    /// Results in a row, up to the last one, that contradict `healthy`.
    against: u32,
    healthy_threshold: NonZeroU32,
    unhealthy_threshold: NonZeroU32,
}

/// A result that changed the state of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It was unhealthy, and `healthy_threshold` probes in a row were good.
    Recovered,
    /// It was healthy, and `unhealthy_threshold` probes in a row were bad.
    Failed,
}

impl Streak {
    /// Begins with what is known of the backend: before any probe it counts as healthy.
    #[must_use]
    pub fn new(healthy: bool, check: &HealthCheckConfig) -> Self {
        Self {
            healthy,
            against: 0,
            healthy_threshold: check.healthy_threshold,
            unhealthy_threshold: check.unhealthy_threshold,
        }
    }

    /// Takes the result of a probe into account and says whether it changed the state.
    pub fn record(&mut self, good: bool) -> Option<Transition> {
        if good == self.healthy {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        let (threshold, transition) = if good {
            (self.healthy_threshold, Transition::Recovered)
        } else {
            (self.unhealthy_threshold, Transition::Failed)
        };
        if self.against < threshold.get() {
            return None;
        }
        self.healthy = good;
        self.against = 0;
        Some(transition)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn streak(healthy: bool, rise: u32, fall: u32) -> Streak {
        let check = HealthCheckConfig {
            path: "/".into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_threshold: NonZeroU32::new(rise).unwrap(),
            unhealthy_threshold: NonZeroU32::new(fall).unwrap(),
        };
        Streak::new(healthy, &check)
    }

    /// `results` has `+` for a good probe and `-` for a bad one; the answer has `^` and `v` where the state changed.
    fn transitions(mut streak: Streak, results: &str) -> String {
        let sign = |transition| match transition {
            Some(Transition::Recovered) => '^',
            Some(Transition::Failed) => 'v',
            None => '.',
        };
        results.chars().map(|result| sign(streak.record(result == '+'))).collect()
    }

    #[test]
    fn thresholds_of_one_follow_each_result() {
        assert_eq!(transitions(streak(true, 1, 1), "-+-+"), "v^v^");
    }

    #[test]
    fn results_that_agree_change_nothing() {
        assert_eq!(transitions(streak(true, 1, 1), "+++--"), "...v.");
    }

    #[test]
    fn the_thresholds_count_consecutive_results() {
        assert_eq!(transitions(streak(true, 2, 3), "--+---+-++-"), ".....v...^.");
    }

    #[test]
    fn a_backend_known_to_be_unhealthy_begins_so() {
        assert_eq!(transitions(streak(false, 2, 1), "--++-"), "...^v");
    }

    proptest! {
        /// The state changes exactly when the last `threshold` results since the last change all contradict it.
        #[test]
        fn changes_when_the_whole_window_contradicts(
            results in proptest::collection::vec(any::<bool>(), 0..60), rise in 1u32..5, fall in 1u32..5,
        ) {
            let (mut streak, mut healthy, mut since) = (streak(true, rise, fall), true, 0);
            for end in 1..=results.len() {
                let threshold = if healthy { fall } else { rise } as usize;
                let window = &results[since..end];
                let changes = window.len() >= threshold
                    && window[window.len() - threshold..].iter().all(|&good| good != healthy);
                let expected = match (changes, healthy) {
                    (false, _) => None,
                    (true, true) => Some(Transition::Failed),
                    (true, false) => Some(Transition::Recovered),
                };
                prop_assert_eq!(streak.record(results[end - 1]), expected);
                if changes {
                    (healthy, since) = (!healthy, end);
                }
            }
        }
    }
}
