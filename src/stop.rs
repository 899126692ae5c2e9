//! A stop token that threads can wait on: an interruptible sleep with a deadline.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often it is looked whether a thread has ended: nothing tells.
const LOOK: Duration = Duration::from_millis(5);

/// Tells threads to end. Clones share one flag, which goes from "run" to "stop" once and stays there.
#[derive(Clone, Debug, Default)]
pub struct StopToken {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl StopToken {
    /// A token that has not been told to stop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells every holder to stop and wakes those that sleep.
    pub fn stop(&self) {
        *self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.changed.notify_all();
    }

    /// Whether [`stop`](Self::stop) was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `duration`, or until told to stop. Returns whether it was told to stop.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> bool {
        let deadline = Instant::now().checked_add(duration);
        let mut stopped = self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return false;
            }
            stopped =
                self.shared.changed.wait_timeout(stopped, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Waits for threads that were told to end, and whatever they are at will end some time: no longer than `patience` for all of
/// them. `whose`: what the log calls one.
pub(crate) fn join_within(
    threads: impl IntoIterator<Item = JoinHandle<()>>,
    patience: Duration,
    whose: &str,
) {
    let deadline = Instant::now() + patience;
    for thread in threads {
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        if thread.is_finished() && thread.join().is_err() {
            log::error!("{whose} had panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_ends_early_when_told_to_stop() {
        let token = StopToken::new();
        let other = token.clone();
        let sleeper = thread::Builder::new().spawn(move || other.sleep(Duration::from_secs(600))).unwrap();
        token.stop();
        assert!(sleeper.join().unwrap());
        assert!(token.is_stopped());
    }

    #[test]
    fn sleep_ends_by_itself() {
        assert!(!StopToken::new().sleep(Duration::from_millis(1)));
    }
}
