//! Waiting with deadlines: for a condition, for a thread, for a signal between threads.

use std::fmt::Debug;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How long something that should happen at once may take on a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Returns when `look` says `Ok`; panics after [`PATIENCE`] with what it last saw.
pub fn wait_for<T, S: Debug>(what: &str, look: impl FnMut() -> Result<T, S>) -> T {
    wait_for_up_to(PATIENCE, what, look)
}

/// [`wait_for`] with another deadline.
pub fn wait_for_up_to<T, S: Debug>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, S>,
) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if started.elapsed() >= deadline => {
                panic!("waited {deadline:?} in vain for: {what}; last seen: {seen:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// A thread of a test, started by [`spawn`].
#[must_use = "a task that nobody joins hides its panic"]
#[derive(Debug)]
pub struct Task<T> {
    name: String,
    result: Receiver<T>,
    thread: JoinHandle<()>,
}

/// Starts a named thread.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Task<T> {
    let (send, result) = channel();
    let thread = Builder::new()
        .name(name.to_owned())
        .spawn(move || drop(send.send(work())))
        .unwrap_or_else(|error| panic!("cannot start thread {name}: {error}"));
    Task { name: name.to_owned(), result, thread }
}

impl<T> Task<T> {
    /// The thread's result. Its panic becomes ours.
    pub fn join(self) -> T {
        self.join_within(PATIENCE)
    }

    /// [`join`](Self::join) with another deadline.
    pub fn join_within(self, deadline: Duration) -> T {
        match self.result.recv_timeout(deadline) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} is still at work after {deadline:?}", self.name)
            }
            Err(RecvTimeoutError::Disconnected) => match self.thread.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => panic!("{} ended without a result", self.name),
            },
        }
    }

    /// Whether the thread is still running.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// Closed at first; threads wait until another one opens it. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everyone through, now and later.
    pub fn open(&self) {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.1.notify_all();
    }

    /// Waits until the gate is open; panics after [`PATIENCE`].
    pub fn wait(&self, what: &str) {
        let open = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, _) = self
            .shared
            .1
            .wait_timeout_while(open, PATIENCE, |open| !*open)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(*open, "waited {PATIENCE:?} in vain for: {what}");
    }
}
