//! [`Load`]: how busy a backend is for its weight.

use std::cmp::Ordering;

use super::Backend;
use super::backend::now_millis;
use super::passive::Millis;
use super::slow_start::{FULL, Ramp};

/// What the weights of backends are at one moment: those of the configuration, less where a backend has just come back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights(Option<(Ramp, Millis)>);

impl Weights {
    /// As they are now. Without a ramp, nobody looks at the clock.
    pub(super) fn now(ramp: Option<Ramp>) -> Self {
        Self(ramp.map(|ramp| (ramp, now_millis())))
    }

    /// What of its own share one backend has, up to 1.
    pub(super) fn part(self, backend: &Backend) -> f64 {
        self.0.map_or(1.0, |(ramp, now)| f64::from(backend.share(ramp, now)) / f64::from(FULL))
    }

    /// The weight of one backend; to be compared with those of the same moment alone.
    pub(super) fn of(self, backend: &Backend) -> u32 {
        let weight = backend.config().weight.get();
        self.0.map_or(weight, |(ramp, now)| weight.saturating_mul(backend.share(ramp, now)))
    }
}

/// Exchanges in flight per unit of weight. Idle backends are equal, whatever their weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    in_flight: usize,
    weight: u32,
}

impl Load {
    /// As it is at this moment.
    pub(super) fn of(backend: &Backend, weights: Weights) -> Self {
        Self { in_flight: backend.in_flight(), weight: weights.of(backend) }
    }
}

/// `a / b` and `c / d` compare like `a * d` and `c * b`: nothing is rounded, and nothing overflows.
impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        let ours = self.in_flight as u128 * u128::from(other.weight);
        let theirs = other.in_flight as u128 * u128::from(self.weight);
        ours.cmp(&theirs)
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Load {}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(in_flight: usize, weight: u32) -> Load {
        Load { in_flight, weight }
    }

    #[test]
    fn compares_fractions() {
        assert_eq!(load(2, 4), load(1, 2));
        assert_eq!(load(0, 1), load(0, 1_000));
        assert!(load(1, 3) < load(334, 1_000), "0.333… and 0.334");
        assert!(load(1, 3) > load(333, 1_000), "0.333… and 0.333");
        assert!(load(usize::MAX, u32::MAX) > load(usize::MAX - 1, u32::MAX));
        assert!(load(usize::MAX, 1) > load(usize::MAX, 2));
    }
}
