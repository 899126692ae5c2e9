//! [`Turns`]: whose turn it is. The part that both kinds of round robin share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Backend, BackendGuard};

/// The backends of a route in the order of their turns, round after round. Each has one turn in a round, or several.
///
/// Whose turn it is gets the pick. If it is not eligible, its turn passes, and so on to the next one that is; the pick
/// after that goes on from there. So a pick looks at one backend as long as all are well, however many there are. And
/// nobody's turns are given away: those that are always eligible get exactly their turns in each round, no more,
/// whoever else is eligible from pick to pick. One whose turn has passed loses that turn alone; when it recovers, it is
/// not flooded. Nor can it always be passed over by being full or tried before: either takes a pick of it first.
///
/// A count of picks modulo the number of backends looks alike, but it does not go along with who is passed over: the
/// neighbour of an ill one gets that one's turn and its own. Counting modulo the eligible ones drifts into step with
/// whatever makes their number alternate: first tries among three backends and second tries among the remaining two,
/// for instance, leave one of the two with three times the load of the other.
#[derive(Debug)]
pub(super) struct Turns {
    backends: Vec<Arc<Backend>>,
    /// Who has each turn of a round: places in `backends`. Each of them has one at least.
    order: Vec<usize>,
    /// The turn that is next. Written and read by [`pick`](Self::pick) alone. It guards no other data; that no turn is
    /// taken twice follows from its being changed by compare-and-swap: `Relaxed`.
    next: AtomicUsize,
}

impl Turns {
    /// Turns that begin with the first of `order`, which has each place in `backends` at least once.
    pub(super) fn new(backends: &[Arc<Backend>], order: Vec<usize>) -> Self {
        Self { backends: backends.to_vec(), order, next: AtomicUsize::new(0) }
    }

    /// Picks the next one that is eligible.
    ///
    /// Lock-free: if the turn that was next is no longer so when it is to be taken, another thread has just taken it,
    /// and this thread looks again.
    pub(super) fn pick(&self, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        let mut missed: Option<&Arc<Backend>> = None;
        loop {
            let from = self.next.load(Ordering::Relaxed);
            let Some((turn, backend)) = self.look(from, eligible) else {
                // None is eligible. If one was a moment ago, it is the best there is.
                return missed.map(BackendGuard::new);
            };
            let next = if turn + 1 < self.order.len() { turn + 1 } else { 0 };
            // A whole round may have gone by meanwhile. That does not matter: it is this turn's turn again.
            if self.next.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Some(BackendGuard::new(backend));
            }
            missed = Some(backend);
        }
    }

    /// The first turn at or after `from` whose backend is eligible, and that backend.
    fn look(&self, from: usize, eligible: &dyn Fn(&Backend) -> bool) -> Option<(usize, &Arc<Backend>)> {
        let (before, after) = self.order.split_at_checked(from)?;
        let turns = || {
            let places = (from..).zip(after).chain((0..).zip(before));
            places.filter_map(|(turn, &place)| Some((turn, place, self.backends.get(place)?)))
        };
        let count = self.backends.len();
        let found = turns().take(count).find(|(_, _, backend)| eligible(backend)).or_else(|| {
            if self.order.len() == count {
                return None; // All were asked.
            }
            // Who is left, if anybody is, has few of the turns. Ask each once instead of at each of its turns.
            let said: Vec<bool> = self.backends.iter().map(|backend| eligible(backend)).collect();
            let is_left = |place: usize| said.get(place).is_some_and(|yes| *yes);
            // A round can be long: nobody goes through it to learn that there is none.
            if said.contains(&true) { turns().find(|&(_, place, _)| is_left(place)) } else { None }
        });
        found.map(|(turn, _, backend)| (turn, backend))
    }
}
