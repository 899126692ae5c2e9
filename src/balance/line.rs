//! The line in which exchanges wait while every backend of their route carries as many as it may.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Woken each time a backend has finished an exchange.
#[derive(Debug, Default)]
pub struct Line {
    /// Written by who waits, read by who leaves a backend. Both sides change one counter and then read the other's (a
    /// backend's exchanges in flight), so that one of them sees the other: `SeqCst`.
    waiting: AtomicUsize,
    /// Those of them who can't use every backend. As `waiting`.
    picky: AtomicUsize,
    /// How often a backend has become free while somebody waited.
    freed: Mutex<u64>,
    changed: Condvar,
}

impl Line {
    /// Calls `pick` until it gives something, each time a backend has become free, until `deadline`. `picky`: it does
    /// not take every backend.
    pub(crate) fn wait<T>(
        &self,
        deadline: Instant,
        picky: bool,
        mut pick: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.picky.fetch_add(usize::from(picky), Ordering::SeqCst);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let picked = loop {
            let seen = *self.lock();
            // Not under the lock: a pick that was overtaken leaves a backend, and that calls the next one.
            if let Some(picked) = pick() {
                break Some(picked);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break None;
            }
            let unchanged = |freed: &mut u64| *freed == seen;
            drop(self.changed.wait_timeout_while(self.lock(), left, unchanged));
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.picky.fetch_sub(usize::from(picky), Ordering::SeqCst);
        picked
    }

    /// A backend has become free.
    pub(crate) fn call_next(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            *self.lock() += 1;
            // One who has no use for this backend would let the call fade away.
            if self.picky.load(Ordering::SeqCst) > 0 {
                self.changed.notify_all();
            } else {
                self.changed.notify_one();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.freed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
