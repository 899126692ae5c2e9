//! Passwords are compared here, away from the workers: bcrypt takes tens of milliseconds by design, and whoever has a request
//! under way on a worker must not wait for that. A fixed number of threads does it, a quarter of the cores and at least one,
//! with what is left of the time of the machine; for as many as [`ROOM`] others may wait. So a flood of guesses costs no more
//! than those threads, and who does not find a place is told to come again.
//!
//! There are no threads before a route wants some.

mod known;

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::balance::line::Wake;
use crate::logging::sparingly::log_sparingly;
use crate::rules::{Credentials, Users};
use crate::stop::join_within;
use known::{Digest, Digester, Known};

/// Attempts that may wait for a thread.
const ROOM: usize = 64;
/// How long one waits for its result. Nobody who meant it is there any more after that, as a rule.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// What threads that are at a password get to finish when the proxy ends.
const STOP_GRACE: Duration = Duration::from_millis(300);
/// How much less of a core the threads get than others do that want it.
const NICENESS: i32 = 5;

/// Compares passwords.
#[derive(Debug, Default)]
pub(crate) struct Passwords {
    /// Made with the threads.
    digester: OnceLock<Digester>,
    /// Held for a few instructions.
    known: Arc<Mutex<Known>>,
    queue: Arc<Queue>,
    /// Held while they are started or ended.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Those that wait for a thread, in the order of their coming.
#[derive(Debug, Default)]
struct Queue {
    /// Held for a few instructions.
    state: Mutex<State>,
    has_changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    attempts: VecDeque<Attempt>,
    /// There are threads for them.
    is_open: bool,
}

/// One that waits for a thread.
#[derive(Debug)]
struct Attempt {
    users: Arc<Users>,
    credentials: Credentials,
    digest: Digest,
    /// Gone, if nobody waits for the result any more.
    outcome: Weak<Outcome>,
}

/// Where the result goes.
#[derive(Debug)]
struct Outcome {
    is_right: Mutex<Option<bool>>,
    is_there: Condvar,
    wake: Option<Box<dyn Wake + Sync>>,
}

/// A result that is waited for. Who drops it waits no more, and the attempt is left out.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Outcome>);

/// What is said to an attempt.
#[derive(Debug)]
pub(crate) enum Said {
    /// Whether it is the password.
    Known(bool),
    /// It takes a while.
    Wait(Ticket),
    /// Too many wait already.
    Busy,
}

impl Ticket {
    /// Whether it is the password, as soon as that is known.
    pub(crate) fn result(&self) -> Option<bool> {
        *lock(&self.0.is_right)
    }

    /// The same for a thread that can wait. `None`: it took longer than that.
    #[cfg(any(test, feature = "classic"))]
    pub(crate) fn wait(&self, patience: Duration) -> Option<bool> {
        let is_right = lock(&self.0.is_right);
        let waited = self.0.is_there.wait_timeout_while(is_right, patience, |is_right| is_right.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Passwords {
    /// Starts the threads, if they are not there.
    ///
    /// # Errors
    /// The system has none, or no random numbers.
    pub(crate) fn start(&self) -> io::Result<()> {
        if self.digester.get().is_none() {
            let none = || io::Error::other("the system has no random numbers");
            let _ = self.digester.set(Digester::new().ok_or_else(none)?);
        }
        let mut threads = lock(&self.threads);
        if threads.is_empty() {
            // Before there are any: they end when it is closed.
            lock(&self.queue.state).is_open = true;
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let started: io::Result<Vec<_>> =
                (0..(cores / 4).max(1)).map(|number| self.thread(number)).collect();
            // Those that were started before one that could not be end by themselves.
            *threads = started.inspect_err(|_| self.queue.close())?;
        }
        Ok(())
    }

    fn thread(&self, number: usize) -> io::Result<JoinHandle<()>> {
        let (queue, known) = (Arc::clone(&self.queue), Arc::clone(&self.known));
        thread::Builder::new().name(format!("passwords-{number}")).spawn(move || {
            // Of this thread alone. Where that is not allowed, it works as fast as others.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            while let Some(attempt) = queue.next() {
                attempt.make(&known);
            }
        })
    }

    /// Whether this is the password of that name among `users`. `wake` is called when the result is there, if it takes a while.
    pub(crate) fn ask(
        &self,
        users: &Arc<Users>,
        credentials: Credentials,
        now: Instant,
        wake: Option<Box<dyn Wake + Sync>>,
    ) -> Said {
        let Some(digester) = self.digester.get() else { return Said::Busy };
        let digest = digester.digest(users, &credentials);
        let known = lock(&self.known).get(&digest, now);
        if let Some(is_right) = known {
            return Said::Known(is_right);
        }
        let outcome = Arc::new(Outcome { is_right: Mutex::new(None), is_there: Condvar::new(), wake });
        let users = Arc::clone(users);
        let attempt = Attempt { users, credentials, digest, outcome: Arc::downgrade(&outcome) };
        if self.queue.add(attempt) { Said::Wait(Ticket(outcome)) } else { Said::Busy }
    }

    /// Ends the threads, each after the password that it is at, for which nobody waits long.
    pub(crate) fn stop(&self) {
        self.queue.close();
        join_within(lock(&self.threads).drain(..), STOP_GRACE, "a thread for passwords");
    }
}

impl Queue {
    /// Whether there is a place. Those whose clients have left give up theirs.
    fn add(&self, attempt: Attempt) -> bool {
        let mut state = lock(&self.state);
        if state.attempts.len() >= ROOM {
            state.attempts.retain(Attempt::is_waited_for);
        }
        let has_place = state.is_open && state.attempts.len() < ROOM;
        if has_place {
            state.attempts.push_back(attempt);
            self.has_changed.notify_one();
        }
        has_place
    }

    /// Waits for the next one. `None`: there will be no more.
    fn next(&self) -> Option<Attempt> {
        let is_idle = |state: &mut State| state.is_open && state.attempts.is_empty();
        let mut state =
            self.has_changed.wait_while(lock(&self.state), is_idle).unwrap_or_else(PoisonError::into_inner);
        state.attempts.pop_front()
    }

    fn close(&self) {
        let mut state = lock(&self.state);
        state.is_open = false;
        state.attempts.clear();
        self.has_changed.notify_all();
    }
}

impl Attempt {
    fn is_waited_for(&self) -> bool {
        self.outcome.strong_count() > 0
    }

    fn make(self, known: &Mutex<Known>) {
        let Some(outcome) = self.outcome.upgrade() else { return };
        // A browser asks for several things at once, each with the same password.
        let before = lock(known).get(&self.digest, Instant::now());
        let is_right = before.unwrap_or_else(|| {
            let checked = catch_unwind(AssertUnwindSafe(|| self.users.check(&self.credentials)));
            let is_right = checked.unwrap_or_else(|_| {
                log_sparingly!(
                    error,
                    "a password could not be compared; this is a defect of the proxy, please report it"
                );
                false
            });
            lock(known).keep(self.digest, is_right, Instant::now());
            is_right
        });
        *lock(&outcome.is_right) = Some(is_right);
        outcome.is_there.notify_all();
        if let Some(wake) = &outcome.wake {
            wake.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::rules::basic_auth::tests::{basic, line};

    fn users() -> Arc<Users> {
        Arc::new(Users::parse(&line("anna", "a")).unwrap())
    }

    fn ask(passwords: &Passwords, users: &Arc<Users>, text: &str) -> Said {
        passwords.ask(users, basic(text).unwrap(), Instant::now(), None)
    }

    #[test]
    fn what_took_a_while_is_known_then() {
        let (passwords, users) = (Passwords::default(), users());
        assert!(matches!(ask(&passwords, &users, "anna:a"), Said::Busy), "nobody is there");
        passwords.start().unwrap();
        passwords.start().unwrap();
        for (text, expected) in [("anna:a", true), ("anna:b", false), ("nobody:a", false)] {
            let Said::Wait(ticket) = ask(&passwords, &users, text) else { panic!("{text}") };
            assert_eq!(ticket.wait(PATIENCE), Some(expected), "{text}");
            assert_eq!(ticket.result(), Some(expected), "{text}");
            let Said::Known(is_right) = ask(&passwords, &users, text) else { panic!("{text}") };
            assert_eq!(is_right, expected, "{text}");
        }
        // The file has another hash.
        assert!(matches!(ask(&passwords, &self::users(), "anna:a"), Said::Wait(_)));
        passwords.stop();
        assert!(matches!(ask(&passwords, &users, "anna:c"), Said::Busy));
    }

    /// With nobody who takes attempts up.
    #[test]
    fn as_many_wait_as_there_is_room_for() {
        let (passwords, users) = (Passwords::default(), users());
        let digester = Digester::new().unwrap();
        passwords.digester.set(digester).unwrap();
        lock(&passwords.queue.state).is_open = true;
        let wait = |text: &str| match ask(&passwords, &users, text) {
            Said::Wait(ticket) => Some(ticket),
            _ => None,
        };
        let mut tickets: Vec<_> = (0..ROOM).map(|n| wait(&format!("anna:{n}")).unwrap()).collect();
        assert!(wait("anna:one more").is_none());
        assert_eq!(tickets[0].wait(Duration::from_millis(1)), None);
        // Who leaves makes room, wherever it was in the line.
        drop(tickets.remove(30));
        let last = wait("anna:a").unwrap();
        assert!(wait("anna:one more").is_none());
        drop(tickets);
        // Nobody's attempts are passed over.
        let mut made = 0;
        let attempts = std::mem::take(&mut lock(&passwords.queue.state).attempts);
        for attempt in attempts {
            made += usize::from(attempt.is_waited_for());
            attempt.make(&passwords.known);
        }
        assert_eq!((made, last.result()), (1, Some(true)));
        assert!(matches!(ask(&passwords, &users, "anna:1"), Said::Wait(_)), "it was not made");
    }

    /// A process that ends does not wait for the password that somebody has guessed.
    #[test]
    fn a_thread_that_takes_long_is_not_waited_for() {
        #[derive(Debug)]
        struct Blocks(Mutex<mpsc::Receiver<()>>);
        impl Wake for Blocks {
            fn wake(&self) {
                let _ = lock(&self.0).recv();
            }
        }
        let (passwords, users) = (Passwords::default(), users());
        passwords.start().unwrap();
        let (ends, blocked) = mpsc::channel();
        let wake = Some(Box::new(Blocks(Mutex::new(blocked))) as _);
        let Said::Wait(ticket) = passwords.ask(&users, basic("anna:a").unwrap(), Instant::now(), wake) else {
            panic!("it is known")
        };
        assert_eq!(ticket.wait(PATIENCE), Some(true));
        let (says, stopped) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                passwords.stop();
                let _ = says.send(());
            });
            let is_stopped = stopped.recv_timeout(Duration::from_secs(20));
            drop(ends);
            assert_eq!(is_stopped, Ok(()));
        });
    }
}
