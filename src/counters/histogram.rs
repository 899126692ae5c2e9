//! [`Histogram`]: how long things took, in a fixed number of buckets, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of the buckets, in microseconds. What takes longer than the last is in one more.
const BOUNDS: [u64; 17] = [
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];

/// A distribution of durations. Whoever reads while others count may see one more in a bucket than in the sum: `Relaxed`.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// What a histogram had counted at some moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The upper end of each bucket in seconds, infinity at last, and how many were in it alone.
    pub buckets: Vec<(f64, u64)>,
    /// Of all durations, in seconds.
    pub sum: f64,
    /// Of all buckets.
    pub count: u64,
}

impl Histogram {
    /// Counts one.
    pub fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What it has counted so far.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
    pub fn read(&self) -> Distribution {
        let ends = BOUNDS.iter().map(|bound| *bound as f64 / 1e6).chain([f64::MAX]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<_> = ends.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Distribution { buckets, sum: self.micros.load(Ordering::Relaxed) as f64 / 1e6, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_bucket_it_belongs_to() {
        let histogram = Histogram::default();
        for micros in [0, 500, 501, 1_000, 300_000_000, 300_000_001, u64::MAX / 4] {
            histogram.count(Duration::from_micros(micros));
        }
        let read = histogram.read();
        let counts: Vec<u64> = read.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts[..3], [2, 2, 0]);
        assert_eq!(counts[counts.len() - 2..], [1, 2]);
        assert_eq!(read.count, 7);
        assert_eq!(read.buckets[0].0, 0.0005);
    }
}
