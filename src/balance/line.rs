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

/// Places in the lines of all pools that an exchange may get a backend of.
#[derive(Debug)]
pub struct InLines(Vec<Waiting>);

/// A place in one of them.
#[derive(Debug)]
struct Waiting {
    turn: Turn,
    /// It was called here when the exchange looked last.
    was_called: bool,
}

impl InLines {
    /// The last place in each of these lines. Whoever takes one looks once more afterwards, as with [`Line::join`].
    pub(crate) fn join<'l>(
        lines: impl Iterator<Item = &'l Arc<Line>>,
        wake: &dyn Fn() -> Box<dyn Wake>,
    ) -> Self {
        Self(lines.map(|line| Waiting { turn: line.join(wake()), was_called: false }).collect())
    }

    /// Whether it was called in any line since it asked last. To be asked before looking, so that no call falls in between.
    pub(crate) fn take_calls(&mut self) -> bool {
        for waiting in &mut self.0 {
            waiting.was_called = waiting.turn.take_call();
        }
        self.0.iter().any(|waiting| waiting.was_called)
    }

    /// It goes with a backend of this line, or goes on waiting: whoever stands behind it in the others may want what it was
    /// called for there.
    pub(crate) fn pass_on_but(&self, taken: Option<&Arc<Line>>) {
        let called = self.0.iter().filter(|waiting| waiting.was_called);
        for waiting in
            called.filter(|waiting| !taken.is_some_and(|line| Arc::ptr_eq(line, &waiting.turn.line)))
        {
            waiting.turn.pass_on();
        }
    }
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

    fn counts(of: &[&Arc<AtomicUsize>]) -> Vec<usize> {
        of.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }

    #[test]
    fn each_call_reaches_one_in_order() {
        let line = Arc::new(Line::default());
        line.call_next();
        let ((first, a), (second, b)) = (join(&line), join(&line));
        line.call_next();
        assert_eq!(counts(&[&a, &b]), [1, 0]);
        line.call_next();
        assert_eq!(counts(&[&a, &b]), [1, 1]);
        line.call_next();
        assert_eq!(counts(&[&a, &b]), [1, 1], "both are on their way");
        assert!(first.take_call() && second.take_call() && !first.take_call());
        drop(first);
        assert_eq!(counts(&[&a, &b]), [1, 1], "it took what it was called for");
    }

    /// Of two calls it can use one.
    #[test]
    fn who_waits_in_several_lines_loses_no_call() {
        let lines = [Arc::new(Line::default()), Arc::new(Line::default())];
        let woken: Arc<AtomicUsize> = Arc::default();
        let mut both = InLines::join(lines.iter(), &|| Box::new(Count(Arc::clone(&woken))));
        let ((_behind_first, a), (_behind_second, b)) = (join(&lines[0]), join(&lines[1]));
        lines.iter().for_each(|line| line.call_next());
        assert!(both.take_calls());
        both.pass_on_but(Some(&lines[1]));
        assert_eq!(counts(&[&woken, &a, &b]), [2, 1, 0], "what it did not take is for who comes next");
        lines[1].call_next();
        assert!(both.take_calls() && !both.take_calls());
        both.pass_on_but(None);
        assert_eq!(counts(&[&a, &b]), [1, 0], "it was not called");
        lines[1].call_next();
        assert!(both.take_calls());
        both.pass_on_but(None);
        assert_eq!(counts(&[&a, &b]), [1, 1]);
        drop(both);
        assert_eq!((lines[0].waiting(), lines[1].waiting()), (1, 1));
    }

    #[test]
    fn a_call_that_is_of_no_use_goes_on() {
        let line = Arc::new(Line::default());
        let ((first, a), (second, b), (third, c)) = (join(&line), join(&line), join(&line));
        line.call_next();
        drop(first);
        assert_eq!(counts(&[&a, &b, &c]), [1, 1, 0], "who leaves passes it on");
        assert!(second.take_call());
        second.pass_on();
        assert_eq!(counts(&[&a, &b, &c]), [1, 1, 1]);
        assert!(third.take_call());
        third.pass_on();
        line.call_all();
        assert_eq!(counts(&[&b, &c]), [2, 2]);
        drop((second, third));
        assert_eq!(line.waiting(), 0);
    }
}
