//! [`ConnectionPlaces`]: `max_connections`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::downstream::per_client::ClientPlace;
use crate::net::poller::Waker;

/// How many connections there may be, and are.
#[derive(Debug)]
pub(super) struct ConnectionPlaces {
    /// Changed by a reload alone: `Relaxed`.
    max: AtomicUsize,
    taken: AtomicUsize,
    /// The thread `accept` waits for a place. Both sides change one of the two and then read the other: `SeqCst`.
    is_waited_for: AtomicBool,
    waker: Waker,
}

/// One of them. Given back when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPlace {
    of_all: Arc<ConnectionPlaces>,
    /// One of those of its client, if they are counted.
    pub(super) of_client: Option<ClientPlace>,
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let all = &self.of_all;
        all.taken.fetch_sub(1, Ordering::SeqCst);
        if all.is_waited_for.load(Ordering::SeqCst) && all.is_waited_for.swap(false, Ordering::SeqCst) {
            all.waker.wake();
        }
    }
}

impl ConnectionPlaces {
    pub(super) fn new(max: usize, waker: Waker) -> Self {
        Self {
            max: AtomicUsize::new(max),
            taken: AtomicUsize::new(0),
            is_waited_for: AtomicBool::new(false),
            waker,
        }
    }

    pub(super) fn take(self: &Arc<Self>) -> Option<ConnectionPlace> {
        let max = self.max.load(Ordering::Relaxed);
        let one_more = |taken| (taken < max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        Some(ConnectionPlace { of_all: Arc::clone(self), of_client: None })
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Those beyond it stay.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Whether there is one to be had. If not, the thread `accept` is woken by the next that is given back.
    pub(super) fn has_free(&self) -> bool {
        let has_free = || self.taken.load(Ordering::SeqCst) < self.max.load(Ordering::Relaxed);
        if has_free() {
            return true;
        }
        self.is_waited_for.store(true, Ordering::SeqCst);
        has_free()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::poller::{Events, Poller};

    /// Also after one that left was not enough: `max_connections` may have become smaller meanwhile.
    #[test]
    fn who_waits_for_a_place_is_woken_by_each_that_is_given_back() {
        let poller = Poller::new().unwrap();
        let places = Arc::new(ConnectionPlaces::new(3, poller.waker()));
        let taken: Vec<_> = (0..3).map(|_| places.take().unwrap()).collect();
        assert!(places.take().is_none());
        places.set_max(1);
        for (place, has_free) in taken.into_iter().zip([false, false, true]) {
            poller.about_to_sleep();
            assert!(!places.has_free());
            drop(place);
            // Without a word it would sleep for good.
            poller.wait(&mut Events::new(), Some(Duration::from_secs(20))).unwrap();
            assert_eq!(places.has_free(), has_free);
        }
    }
}
