//! What a worker says of itself: [`WorkerLoad`] as it goes, and its exchanges when it is asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::exchange::sight::Sight;

/// How busy a worker is. Written by it alone, read by whoever wants to know: `Relaxed`.
#[derive(Debug, Default)]
pub(crate) struct WorkerLoad {
    /// Time in which it did not sleep.
    busy_micros: AtomicU64,
    /// Of the longest turn so far.
    longest_micros: AtomicU64,
    /// Exchanges that have begun on it.
    exchanges: AtomicU64,
}

impl WorkerLoad {
    pub(super) fn note_turn(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        add(&self.busy_micros, micros);
        if micros > self.longest_micros.load(Ordering::Relaxed) {
            self.longest_micros.store(micros, Ordering::Relaxed);
        }
    }

    pub(super) fn note_exchange(&self) {
        add(&self.exchanges, 1);
    }

    /// Time in which it did not sleep.
    pub(crate) fn busy(&self) -> Duration {
        Duration::from_micros(self.busy_micros.load(Ordering::Relaxed))
    }

    /// Its longest turn so far.
    pub(crate) fn longest_turn(&self) -> Duration {
        Duration::from_micros(self.longest_micros.load(Ordering::Relaxed))
    }

    /// Exchanges that have begun on it.
    pub(crate) fn exchanges(&self) -> u64 {
        self.exchanges.load(Ordering::Relaxed)
    }
}

/// For a counter that one thread alone writes.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// A question about what a worker carries.
#[derive(Debug)]
pub(super) struct Ask {
    /// So many of the oldest are wanted.
    pub(super) most: usize,
    /// Where the answer goes. There is room for it.
    pub(super) reply: Sender<Vec<Sight>>,
}
