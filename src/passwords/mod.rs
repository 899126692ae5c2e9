//! Passwords are compared here, away from the workers: bcrypt takes tens of milliseconds by design, and whoever has a request
//! under way on a worker must not wait for that. A fixed number of threads does it, a quarter of the cores and at least one,
//! with what is left of the time of the machine; for as many as [`ROOM`] others may wait. So a flood of guesses costs no more
//! than those threads, and who does not find a place is told to come again.
//!
//! There are no threads before a route wants some.

mod known;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::balance::line::Wake;
use crate::logging::sparingly::log_sparingly;
use crate::rules::{Credentials, Users};
use known::{Digest, Digester, Known};

/// Attempts that may wait for a thread.
const ROOM: usize = 64;
/// How long one waits for its result. Nobody who meant it is there any more after that, as a rule.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How much less of a core the threads get than others do that want it.
const NICENESS: i32 = 5;

/// Compares passwords.
#[derive(Debug, Default)]
pub(crate) struct Passwords {
    /// Made with the threads.
    digester: OnceLock<Digester>,
    /// Held for a few instructions.
    known: Arc<Mutex<Known>>,
    /// The same; `None`: not started, or stopped.
    running: Mutex<Option<Running>>,
    is_stopping: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Running {
    attempts: Sender<Attempt>,
    threads: Vec<JoinHandle<()>>,
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
        let mut running = lock(&self.running);
        if running.is_none() {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            *running = Some(self.threads((cores / 4).max(1))?);
        }
        Ok(())
    }

    fn threads(&self, count: usize) -> io::Result<Running> {
        let (attempts, waiting) = bounded::<Attempt>(ROOM);
        let mut threads = Vec::new();
        for number in 0..count {
            let (waiting, known) = (Receiver::clone(&waiting), Arc::clone(&self.known));
            let is_stopping = Arc::clone(&self.is_stopping);
            let thread = thread::Builder::new().name(format!("passwords-{number}")).spawn(move || {
                // Of this thread alone. Where that is not allowed, it works as fast as others.
                let _ = rustix::process::setpriority_process(None, NICENESS);
                while let Ok(attempt) = waiting.recv() {
                    if !is_stopping.load(Ordering::Relaxed) {
                        attempt.make(&known);
                    }
                }
            })?;
            threads.push(thread);
        }
        Ok(Running { attempts, threads })
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
        let running = lock(&self.running);
        match running.as_ref().map(|running| running.attempts.try_send(attempt)) {
            Some(Ok(())) => Said::Wait(Ticket(outcome)),
            _ => Said::Busy,
        }
    }

    /// Ends the threads, each after the password that it is at.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        let Some(Running { attempts, threads }) = lock(&self.running).take() else { return };
        drop(attempts);
        for thread in threads {
            if thread.join().is_err() {
                log::error!("a thread for passwords had panicked");
            }
        }
    }
}

impl Attempt {
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
        passwords.start().unwrap();
        lock(&passwords.running).take().unwrap();
        let running = passwords.threads(0).unwrap();
        let (attempts, waiting) = bounded(ROOM);
        *lock(&passwords.running) = Some(Running { attempts, ..running });
        let mut tickets = Vec::new();
        for n in 0..ROOM {
            let Said::Wait(ticket) = ask(&passwords, &users, &format!("anna:{n}")) else { panic!("{n}") };
            tickets.push(ticket);
        }
        assert!(matches!(ask(&passwords, &users, "anna:one more"), Said::Busy));
        assert_eq!(tickets[0].wait(Duration::from_millis(1)), None);
        // Those who have left are passed over.
        drop(tickets);
        let known = Mutex::default();
        waiting.try_iter().for_each(|attempt| attempt.make(&known));
        assert!(matches!(ask(&passwords, &users, "anna:one more"), Said::Wait(_)));
        assert_eq!(lock(&known).get(&[0; 32], Instant::now()), None);
    }
}
