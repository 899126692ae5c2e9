//! [`Load`]: how busy a backend is for its weight.

use std::cmp::Ordering;

use super::Backend;

/// Exchanges in flight per unit of weight. Idle backends are equal, whatever their weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    in_flight: usize,
    weight: u32,
}

impl Load {
    /// As it is at this moment.
    pub(super) fn of(backend: &Backend) -> Self {
        Self { in_flight: backend.in_flight(), weight: backend.config().weight.get() }
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
