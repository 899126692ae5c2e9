//! Random numbers for picks: cheap, without a lock, and good for nothing that has to be secret.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use super::hash::mix;

/// SplitMix64: its state goes up in these steps.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where each pick gets its random numbers.
#[derive(Debug)]
pub(super) struct Sequence {
    /// Where the next pick begins. Only that no two picks begin at the same place counts, which any read-modify-write gives:
    /// `Relaxed`.
    next: AtomicU64,
}

impl Sequence {
    /// Another one in each process.
    pub(super) fn new() -> Self {
        Self::seeded(RandomState::new().hash_one(0))
    }

    pub(super) fn seeded(seed: u64) -> Self {
        Self { next: AtomicU64::new(seed) }
    }

    /// The numbers of one pick.
    pub(super) fn begin(&self) -> Random {
        Random(mix(self.next.fetch_add(STEP, Ordering::Relaxed)))
    }
}

/// The random numbers of one pick.
pub(super) struct Random(u64);

impl Random {
    /// 0 to `end` - 1.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        // The upper half of the product: no division, and for such small ends no bias that could be seen.
        let product = u128::from(mix(self.0)) * u128::from(end);
        (product >> 64) as u64
    }
}
