//! [`run`]: the loop of a thread that has to go on whatever happens in it.

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use crate::counters::Counters;
use crate::logging;
use crate::logging::sparingly::log_sparingly;

/// After so many turns that all panicked, there is no hope for the next.
const HOPELESS: u32 = 100;
/// After a turn that panicked: one that always does shall not take a whole core.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes turns until one says that it was the last. A defect that one of them brings to light costs that turn: a worker
/// or the accept thread that ends would leave a proxy that looks alive and serves only some. When no turn can be completed
/// any more the process ends, and says so.
pub(super) fn run<T>(what: &str, counters: &Counters, turn: impl FnMut() -> ControlFlow<T>) -> T {
    run_until_hopeless(counters, turn)
        .unwrap_or_else(|| end_process(&format!("{what}: panics at every turn; please report this defect")))
}

fn run_until_hopeless<T>(counters: &Counters, mut turn: impl FnMut() -> ControlFlow<T>) -> Option<T> {
    let mut panicked = 0;
    while panicked < HOPELESS {
        // What was being changed may be half changed: it is used again knowing that, and given up if that does not help.
        match catch_unwind(AssertUnwindSafe(&mut turn)) {
            Ok(ControlFlow::Break(result)) => return Some(result),
            Ok(ControlFlow::Continue(())) => panicked = 0,
            Err(_) => {
                panicked += 1;
                counters.panics.fetch_add(1, Ordering::Relaxed);
                log_sparingly!(error, "a thread goes on after its panic");
                sleep(PAUSE);
            }
        }
    }
    None
}

/// The end when the poller fails. No bad input leads here. A proxy of which a part stands still and that looks alive is
/// worse than one that ends: nobody would start it again.
pub(super) fn poller_failed(what: &str, error: &io::Error) -> ! {
    end_process(&format!("{what}: the poller failed: {error}"))
}

fn end_process(why: &str) -> ! {
    logging::insist(&format!("the process ends: {why}"));
    logging::flush();
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_one_turn() {
        let counters = Counters::default();
        let mut turns = 0;
        let result = run("a test", &counters, || {
            turns += 1;
            assert_ne!(turns, 2, "as the test says");
            if turns == 5 { ControlFlow::Break("the end") } else { ControlFlow::Continue(()) }
        });
        assert_eq!((result, turns), ("the end", 5));
        assert_eq!(counters.panics.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn panics_without_end_are_given_up() {
        let mut turns = 0;
        let result = run_until_hopeless::<()>(&Counters::default(), || {
            turns += 1;
            // One turn that goes well gives new hope.
            assert_eq!(turns, 50, "as the test says");
            ControlFlow::Continue(())
        });
        assert_eq!((result, turns), (None, 50 + HOPELESS));
    }
}
