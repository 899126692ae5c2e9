//! The line in which exchanges wait while no backend of their route can take them.
//!
//! Who has become able to take one calls the first in line, who looks again. A call that is of no use to who got it goes
//! to the next: none fades away while somebody waits.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How one who waits is told to look again. From any thread, and never waits itself.
pub trait Wake: Debug + Send {
    /// Makes it look.
    fn wake(&self);
}

/// The line of one route.
#[derive(Debug, Default)]
pub struct Line {
    /// Written by who waits, read by who leaves a backend. Both sides change one counter and then read the other's (a
    /// backend's exchanges in flight), so that one of them sees the other: `SeqCst`.
    waiting: AtomicUsize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    /// In the order of their coming.
    taken: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    wake: Box<dyn Wake>,
    /// It was called and has not looked since.
    called: bool,
}

/// A place in the line. Given up when dropped, and a call with it passed on.
#[derive(Debug)]
pub struct Turn {
    line: Arc<Line>,
    number: u64,
}

impl Line {
    /// The last place. Whoever takes one looks once more afterwards: a backend may have become free just before.
    pub(crate) fn join(self: &Arc<Self>, wake: Box<dyn Wake>) -> Turn {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut places = self.lock();
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, Place { wake, called: false });
        Turn { line: Arc::clone(self), number }
    }

    /// A backend has become free.
    pub(crate) fn call_next(&self) {
        self.call_from(0);
    }

    /// A backend has come, or come back: it may take any number.
    pub(crate) fn call_all(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            for place in self.lock().taken.values_mut() {
                place.called = true;
                place.wake.wake();
            }
        }
    }

    /// Calls the first who was not called yet, of those from `number` on.
    fn call_from(&self, number: u64) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut places = self.lock();
        if let Some(place) =
            places.taken.range_mut(number..).map(|(_, place)| place).find(|place| !place.called)
        {
            place.called = true;
            place.wake.wake();
        }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Whether it was called since it asked last. To be asked before looking, so that no call falls in between.
    pub(crate) fn take_call(&self) -> bool {
        let mut places = self.line.lock();
        places.taken.get_mut(&self.number).is_some_and(|place| std::mem::take(&mut place.called))
    }

    /// The call was of no use to it: somebody behind may want what it can't use.
    pub(crate) fn pass_on(&self) {
        self.line.call_from(self.number + 1);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let place = self.line.lock().taken.remove(&self.number);
        self.line.waiting.fetch_sub(1, Ordering::SeqCst);
        if place.is_some_and(|place| place.called) {
            self.line.call_next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Count(Arc<AtomicUsize>);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn join(line: &Arc<Line>) -> (Turn, Arc<AtomicUsize>) {
        let woken = Arc::default();
        (line.join(Box::new(Count(Arc::clone(&woken)))), woken)
    }

    fn woken(counts: &[&Arc<AtomicUsize>]) -> Vec<usize> {
        counts.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }

    #[test]
    fn each_call_reaches_one_in_order() {
        let line = Arc::new(Line::default());
        line.call_next();
        let ((first, a), (second, b)) = (join(&line), join(&line));
        line.call_next();
        assert_eq!(woken(&[&a, &b]), [1, 0]);
        line.call_next();
        assert_eq!(woken(&[&a, &b]), [1, 1]);
        line.call_next();
        assert_eq!(woken(&[&a, &b]), [1, 1], "both are on their way");
        assert!(first.take_call() && second.take_call() && !first.take_call());
        drop(first);
        assert_eq!(woken(&[&a, &b]), [1, 1], "it took what it was called for");
    }

    #[test]
    fn a_call_that_is_of_no_use_goes_on() {
        let line = Arc::new(Line::default());
        let ((first, a), (second, b), (third, c)) = (join(&line), join(&line), join(&line));
        line.call_next();
        drop(first);
        assert_eq!(woken(&[&a, &b, &c]), [1, 1, 0], "who leaves passes it on");
        assert!(second.take_call());
        second.pass_on();
        assert_eq!(woken(&[&a, &b, &c]), [1, 1, 1]);
        assert!(third.take_call());
        third.pass_on();
        line.call_all();
        assert_eq!(woken(&[&b, &c]), [2, 2]);
        drop((second, third));
        assert_eq!(line.waiting(), 0);
    }
}
