//! Workers with nothing to do.
//!
//! A blocking `recv` on a crossbeam channel spins, yields the processor several times and then wakes the receiver that
//! has waited longest. With more workers than work, that is most of what a request costs. Here they sleep at once, and
//! the one that came last, whose caches are warm, is called first.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

/// Where workers sleep until they are called.
#[derive(Debug, Default)]
pub(super) struct IdleWorkers {
    asleep: Mutex<Asleep>,
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Asleep {
    seats: Vec<Arc<Seat>>,
    /// Somebody was called and is not awake yet.
    one_comes: bool,
    /// Nobody sleeps any more.
    closed: bool,
}

/// Ends the sleep of all when it is dropped: there will be no more work.
#[derive(Debug)]
pub(super) struct CloseWhenDropped(pub(super) Arc<IdleWorkers>);

impl Drop for CloseWhenDropped {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// One worker's place among them, made by its thread.
#[derive(Debug)]
pub(super) struct Seat {
    thread: Thread,
    called: AtomicBool,
}

impl Seat {
    pub(super) fn of_this_thread() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), called: AtomicBool::new(false) })
    }
}

impl IdleWorkers {
    fn lock(&self) -> MutexGuard<'_, Asleep> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until called, unless `look` finds something or all was closed. `look` runs when no call can be missed any
    /// more: who queues work first and calls then is always heard.
    pub(super) fn sleep<T>(&self, seat: &Arc<Seat>, look: impl FnOnce() -> Option<T>) -> Option<T> {
        {
            let mut asleep = self.lock();
            if asleep.closed {
                return None;
            }
            if let Some(found) = look() {
                return Some(found);
            }
            asleep.seats.push(Arc::clone(seat));
            self.count.store(asleep.seats.len(), Ordering::Relaxed);
        }
        while !seat.called.swap(false, Ordering::Acquire) {
            thread::park();
        }
        self.lock().one_comes = false;
        None
    }

    /// Calls the one that fell asleep last. Whether there was one.
    pub(super) fn call_one(&self) -> bool {
        self.call(self.lock())
    }

    /// Calls one, unless somebody who was called is not awake yet. Who wakes looks for work first and calls the next
    /// then, if there is more than it takes: so who is at work meanwhile may take it, and nobody is woken for nothing.
    pub(super) fn call_one_at_a_time(&self) {
        let asleep = self.lock();
        if !asleep.one_comes {
            self.call(asleep);
        }
    }

    fn call(&self, mut asleep: MutexGuard<'_, Asleep>) -> bool {
        let Some(seat) = asleep.seats.pop() else { return false };
        asleep.one_comes = true;
        self.count.store(asleep.seats.len(), Ordering::Relaxed);
        drop(asleep);
        seat.called.store(true, Ordering::Release);
        seat.thread.unpark();
        true
    }

    /// How many sleep; a hint.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Calls them all; from now on nobody falls asleep.
    fn close(&self) {
        self.lock().closed = true;
        while self.call_one() {}
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    fn wait_until(what: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < end);
            thread::yield_now();
        }
    }

    #[test]
    fn the_last_to_fall_asleep_is_called_first() {
        let idle = Arc::new(IdleWorkers::default());
        let (woken, seen) = mpsc::channel();
        for number in 0..3 {
            let (idle, woken) = (Arc::clone(&idle), woken.clone());
            let sleeper = Arc::clone(&idle);
            let sleep = move || {
                assert_eq!(sleeper.sleep(&Seat::of_this_thread(), || None::<()>), None);
                woken.send(number).unwrap();
            };
            thread::Builder::new().name(format!("sleeper-{number}")).spawn(sleep).unwrap();
            wait_until(|| idle.count() == number + 1);
        }
        for number in [2, 1, 0] {
            assert!(idle.call_one());
            assert_eq!(seen.recv_timeout(Duration::from_secs(20)), Ok(number));
        }
        assert!(!idle.call_one());
    }

    #[test]
    fn the_next_is_called_once_the_one_before_is_awake() {
        let idle = IdleWorkers::default();
        let first = Seat::of_this_thread();
        idle.lock().seats.extend([Seat::of_this_thread(), Seat::of_this_thread(), Arc::clone(&first)]);
        idle.call_one_at_a_time();
        idle.call_one_at_a_time();
        assert_eq!(idle.count(), 2);
        // It was called already, and so wakes at once.
        assert_eq!(idle.sleep(&first, || None::<()>), None);
        idle.lock().seats.pop();
        idle.call_one_at_a_time();
        assert_eq!(idle.count(), 1);
    }

    #[test]
    fn who_finds_something_or_comes_after_the_end_does_not_sleep() {
        let idle = IdleWorkers::default();
        let seat = Seat::of_this_thread();
        assert_eq!(idle.sleep(&seat, || Some(7)), Some(7));
        assert!(!idle.call_one());
        idle.close();
        assert_eq!(idle.sleep(&seat, || Some(7)), None);
        assert!(idle.is_closed());
    }
}
