//! When the reserve is called, and when it is sent back. Pure, but for a look at what the kernel counts.
//!
//! Work that has been queued for longer than a [`TICK`] is more than those who are at it can take:
//!
//! - While there is CPU time to be had, the work waits for workers, and those wait for backends. So as many are called as
//!   are at it already, though no more than [`MOST_AT_ONCE`], until no work waits: a slow backend is served by hundreds
//!   after ten ticks.
//! - When threads wait for a processor, one thread more serves nobody sooner, and all of them take turns. So the reserve
//!   is called in place of workers that have been held for longer than [`HELD`] only, and the others go back, some with
//!   each tick: a fast backend is served by a few busy threads.

use std::time::{Duration, Instant};

use super::cpu_wait::CpuWait;

/// An exchange that has kept its worker for this long counts as waiting for somebody, even where CPU time is short.
pub(super) const HELD: Duration = Duration::from_millis(10);
/// While work is queued, [`Pool::call_reserve`](super::pool::Pool::call_reserve) wants to be called again after this
/// long.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// So many are called with one tick. When thousands of requests come at once after a rest, it takes some ticks to see that
/// CPU time is short; a backend of 20 ms has its hundreds in ten of them.
const MOST_AT_ONCE: usize = 64;

/// What who feeds the pool remembers between two calls of
/// [`Pool::call_reserve`](super::pool::Pool::call_reserve).
#[derive(Debug)]
pub(crate) struct Look {
    cpu: CpuWait,
    at: Instant,
    /// How many jobs had been queued by then.
    submitted: u64,
}

impl Look {
    /// For the thread that calls this.
    pub(crate) fn of_this_thread() -> Self {
        Self { cpu: CpuWait::of_this_thread(), at: Instant::now(), submitted: 0 }
    }

    /// Looks again, if a [`TICK`] has passed since the last time: how many of the `queued` jobs were queued by then, and
    /// whether CPU time is short. `submitted` is how many were queued since the start.
    pub(super) fn again(&mut self, now: Instant, queued: usize, submitted: u64) -> Option<(usize, bool)> {
        if now.saturating_duration_since(self.at) < TICK {
            return None;
        }
        let taken = submitted.saturating_sub(queued as u64);
        let waiting = usize::try_from(self.submitted.saturating_sub(taken)).unwrap_or(usize::MAX);
        let short_of_cpu = self.cpu.is_short(now);
        (self.at, self.submitted) = (now, submitted);
        Some((waiting, short_of_cpu))
    }
}

/// Who is at work, and what waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Jobs that have been queued for a [`TICK`] or more.
    pub(super) waiting: usize,
    pub(super) short_of_cpu: bool,
    /// Base workers that do not sleep.
    pub(super) base: usize,
    /// Reserve workers that are not parked.
    pub(super) awake: usize,
    /// Workers, of base or reserve, that have been held for longer than [`HELD`].
    pub(super) held: usize,
}

/// What follows from a [`Situation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// So many of the reserve are called.
    pub(super) wanted: usize,
    /// So many of the reserve are sent back although work is queued.
    pub(super) dismissed: usize,
}

impl Situation {
    pub(super) fn judge(&self) -> Judgement {
        let Self { waiting, short_of_cpu, base, awake, held } = *self;
        let (wanted, dismissed) = if short_of_cpu {
            // That all are held may be because there are so many: they wait for one another, or all for a backend that
            // cannot take more. So some go back even then.
            (held.saturating_sub(awake), awake.saturating_sub(held).div_ceil(8).max(awake / 32))
        } else {
            ((base + awake).min(MOST_AT_ONCE), 0)
        };
        Judgement { wanted: wanted.min(waiting), dismissed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(situation: Situation) -> (usize, usize) {
        let Judgement { wanted, dismissed } = situation.judge();
        (wanted, dismissed)
    }

    #[test]
    fn with_cpu_time_to_spare_as_many_are_called_as_are_at_it_but_no_more_than_wait() {
        let plenty = Situation { waiting: 1000, short_of_cpu: false, base: 8, awake: 0, held: 0 };
        assert_eq!(judge(plenty), (8, 0));
        assert_eq!(judge(Situation { awake: 24, ..plenty }), (32, 0));
        assert_eq!(judge(Situation { awake: 24, waiting: 32, ..plenty }), (32, 0));
        assert_eq!(judge(Situation { awake: 24, waiting: 5, ..plenty }), (5, 0));
        assert_eq!(judge(Situation { awake: 24, waiting: 0, ..plenty }), (0, 0));
        // Whoever is held: nobody is sent back, and nobody is called in their place.
        assert_eq!(judge(Situation { awake: 24, held: 32, ..plenty }), (32, 0));
    }

    /// All work comes at once, and nobody gets anywhere: so many ticks until hundreds are at it.
    #[test]
    fn a_slow_backend_has_hundreds_at_it_after_a_few_ticks() {
        let (mut awake, mut ticks) = (0, 0);
        while awake < 500 - 8 {
            let waiting = 500 - 8 - awake;
            awake += judge(Situation { waiting, short_of_cpu: false, base: 8, awake, held: 8 + awake }).0;
            ticks += 1;
        }
        assert_eq!((awake, ticks), (492, 10));
    }

    #[test]
    fn short_of_cpu_only_who_is_held_is_stood_in_for() {
        let short = Situation { waiting: 1000, short_of_cpu: true, base: 8, awake: 0, held: 0 };
        assert_eq!(judge(short), (0, 0));
        assert_eq!(judge(Situation { held: 6, ..short }), (6, 0));
        assert_eq!(judge(Situation { held: 6, waiting: 2, ..short }), (2, 0));
        assert_eq!(judge(Situation { held: 6, awake: 4, ..short }), (2, 0));
        assert_eq!(judge(Situation { held: 6, awake: 6, ..short }), (0, 0));
    }

    #[test]
    fn short_of_cpu_an_eighth_of_those_who_are_not_held_go_back_and_one_at_least() {
        let short = Situation { waiting: 1000, short_of_cpu: true, base: 8, awake: 0, held: 4 };
        for (awake, dismissed) in [(4, 0), (5, 1), (12, 1), (13, 2), (20, 2), (84, 10)] {
            assert_eq!(judge(Situation { awake, ..short }), (0, dismissed), "{awake}");
        }
        // However little waits.
        assert_eq!(judge(Situation { awake: 84, waiting: 0, ..short }), (0, 10));
        // And a few of many although they are held.
        assert_eq!(judge(Situation { awake: 31, held: 39, ..short }), (8, 0));
        assert_eq!(judge(Situation { awake: 640, held: 648, ..short }), (8, 20));
    }

    fn look(at: Instant) -> Look {
        Look { at, ..Look::of_this_thread() }
    }

    fn waiting(look: &mut Look, now: Instant, queued: usize, submitted: u64) -> Option<usize> {
        look.again(now, queued, submitted).map(|(waiting, _)| waiting)
    }

    #[test]
    fn nothing_is_judged_before_a_tick_has_passed() {
        let start = Instant::now();
        let mut look = look(start);
        let early = start + TICK - Duration::from_nanos(1);
        assert_eq!(waiting(&mut look, start, 3, 3), None);
        assert_eq!(waiting(&mut look, early, 3, 3), None);
        assert_eq!(waiting(&mut look, start + TICK, 3, 3), Some(0), "what came meanwhile is not counted yet");
        // A look that came too early has not put off the next; one that was in time has.
        assert_eq!(waiting(&mut look, early + TICK, 3, 3), None);
        assert_eq!(waiting(&mut look, start + 2 * TICK, 3, 3), Some(3));
    }

    #[test]
    fn work_younger_than_a_tick_is_not_counted() {
        let start = Instant::now();
        let mut look = look(start);
        // Ten are queued; then four of them are taken, and five more come.
        assert_eq!(waiting(&mut look, start + TICK, 10, 10), Some(0));
        assert_eq!(waiting(&mut look, start + 2 * TICK, 11, 15), Some(6));
        // All of the ten are taken, and some of the five.
        assert_eq!(waiting(&mut look, start + 3 * TICK, 2, 15), Some(2));
        // As many as ever are queued, but all are new.
        assert_eq!(waiting(&mut look, start + 4 * TICK, 2, 17), Some(0));
        // After a time without work, in which nobody looked.
        assert_eq!(waiting(&mut look, start + 1000 * TICK, 40, 1000), Some(0));
        assert_eq!(waiting(&mut look, start + 1001 * TICK, 40, 1000), Some(40));
    }
}
