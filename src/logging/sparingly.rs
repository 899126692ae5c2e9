//! [`log_sparingly!`]: a line that would come once per event is written now and then, and says how many were left out.
//! A shortage (of descriptors, threads, memory) makes thousands of such events a second, and the first says it all.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// In this time, …
const INTERVAL: Duration = Duration::from_secs(10);
/// … so many lines of a kind are written. More than one: events that have nothing to do with each other may be of one kind,
/// and the second of them is news.
const LINES: u32 = 3;

/// One kind of line: a place in the source.
#[derive(Debug)]
pub(crate) struct Sparingly {
    /// Held for a few instructions, never while a line is written.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the interval began, with a line.
    began: Option<Instant>,
    /// Lines in this interval.
    written: u32,
    left_out: u64,
}

/// Lines of the same kind that were not written since the last one. The end of a line: empty if there were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut(u64);

impl Sparingly {
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new(State { began: None, written: 0, left_out: 0 }) }
    }

    /// Whether to write the line of an event of `now`. `None`: leave it out.
    pub(crate) fn turn(&self, now: Instant) -> Option<LeftOut> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now.saturating_duration_since(began) >= INTERVAL) {
            state.began = Some(now);
            state.written = 0;
        }
        if state.written == LINES {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(LeftOut(std::mem::take(&mut state.left_out)))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " (and {count} more of this kind since the last such line)"),
        }
    }
}

/// `log_sparingly!(warn, "text {}", argument)`: as `log::warn!`, at most [`LINES`] times in [`INTERVAL`] from this place in the
/// source.
/// Whether it was written, or would have been if `RUST_LOG` let it.
macro_rules! log_sparingly {
    ($level:ident, $($text:tt)+) => {{
        static KIND: $crate::logging::sparingly::Sparingly = $crate::logging::sparingly::Sparingly::new();
        match KIND.turn(std::time::Instant::now()) {
            Some(left_out) => {
                log::$level!("{}{left_out}", format_args!($($text)+));
                true
            }
            None => false,
        }
    }};
}
pub(crate) use log_sparingly;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_written_and_the_rest_counted() {
        let kind = Sparingly::new();
        let start = Instant::now();
        for _ in 0..LINES {
            assert_eq!(kind.turn(start), Some(LeftOut(0)));
        }
        for millis in [0, 1, 5_000, 9_999] {
            assert_eq!(kind.turn(start + Duration::from_millis(millis)), None);
        }
        assert_eq!(kind.turn(start + INTERVAL), Some(LeftOut(4)));
        for _ in 1..LINES {
            assert_eq!(kind.turn(start + INTERVAL), Some(LeftOut(0)), "told once");
        }
        assert_eq!(kind.turn(start + INTERVAL), None);
        assert_eq!(kind.turn(start + INTERVAL * 100), Some(LeftOut(1)), "told late, but told");
        assert_eq!(kind.turn(start + INTERVAL * 200), Some(LeftOut(0)));
    }

    #[test]
    fn a_clock_that_another_thread_read_earlier_does_not_matter() {
        let kind = Sparingly::new();
        let now = Instant::now() + INTERVAL;
        for _ in 0..LINES {
            assert!(kind.turn(now).is_some());
        }
        assert!(kind.turn(now - Duration::from_secs(1)).is_none());
    }

    #[test]
    fn nothing_left_out_is_nothing_said() {
        assert_eq!(LeftOut(0).to_string(), "");
        assert_eq!(LeftOut(3).to_string(), " (and 3 more of this kind since the last such line)");
    }

    #[test]
    fn each_place_in_the_source_is_a_kind() {
        let mut written = 0;
        for _ in 0..10 {
            written += usize::from(log_sparingly!(debug, "one"));
            written += usize::from(log_sparingly!(debug, "two {}", 2));
        }
        assert_eq!(written, 2 * LINES as usize);
    }
}
