//! Which connection is due next. Pure: `now` is an argument.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// A heap of points in time. An entry is never taken out early: a connection that got more time is found not to be due
/// when its entry comes up, and enters again. So a request on a kept-alive connection costs the heap nothing, and each
/// wake-up looks at what is due, not at all connections.
#[derive(Debug)]
pub(crate) struct Deadlines<T> {
    heap: BinaryHeap<Reverse<(Instant, T)>>,
    /// With more entries than this it is worth looking which of them still mean something.
    crowded: usize,
}

/// Below this many entries nobody looks.
const FEW: usize = 4096;

impl<T: Ord + Copy> Deadlines<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), crowded: FEW }
    }

    pub(crate) fn insert(&mut self, at: Instant, what: T) {
        self.heap.push(Reverse((at, what)));
    }

    /// When the next entry comes up.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Forgets entries that mean nothing any more, once they may be more than half of all. Connections that come and go
    /// leave one behind each; without this, as many would pile up as come within the longest time-out.
    pub(crate) fn tidy(&mut self, mut is_live: impl FnMut(Instant, T) -> bool) {
        if self.heap.len() <= self.crowded {
            return;
        }
        self.heap.retain(|Reverse((at, what))| is_live(*at, *what));
        self.crowded = (2 * self.heap.len()).max(FEW);
        self.heap.shrink_to(self.crowded);
    }

    /// Takes one entry that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, T)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn comes_up_in_order_and_not_before_its_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::new();
        deadlines.insert(at(30), 'c');
        deadlines.insert(at(10), 'a');
        deadlines.insert(at(20), 'b');
        assert_eq!(deadlines.next(), Some(at(10)));
        assert_eq!(deadlines.pop_due(at(9)), None);
        assert_eq!(deadlines.pop_due(at(20)), Some((at(10), 'a')));
        assert_eq!(deadlines.pop_due(at(20)), Some((at(20), 'b')));
        assert_eq!(deadlines.pop_due(at(20)), None);
        assert_eq!(deadlines.pop_due(at(99)), Some((at(30), 'c')));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn what_means_nothing_any_more_does_not_pile_up() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new();
        let mut looks = 0;
        for number in 0..1_000_000_u64 {
            // The 5,000 youngest are alive.
            deadlines.insert(start + Duration::from_micros(number), number);
            deadlines.tidy(|_, what| {
                looks += 1;
                what + 5_000 > number
            });
            assert!(deadlines.heap.len() <= 10_001);
        }
        assert!(looks < 4_000_000, "{looks}");
        assert_eq!(deadlines.next(), deadlines.heap.iter().map(|Reverse((at, _))| *at).min());
        assert!(deadlines.heap.iter().filter(|Reverse((_, what))| *what >= 995_000).count() == 5_000);
    }
}
