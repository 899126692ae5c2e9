//! [`Upkeep`]: the housekeeper, which has host names looked up, at the start and again while the proxy runs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use crate::config::BackendConfig;
use crate::logging::sparingly::log_sparingly;
use crate::route::Pool;
use crate::upstream::names;

/// How a name is looked up: [`system`](crate::upstream::names::system), or what a test puts in its place. It may take many
/// seconds, and is called by several threads at once.
pub type SharedLookup = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// A name that has no address yet is asked for again this much after the last answer, whatever `resolve_secs` says.
const AGAIN: Duration = Duration::from_secs(1);

/// When to look up again what is to be looked up again beyond what the clock can express.
const FAR: Duration = Duration::from_secs(1 << 30);

/// Look-ups under way at the same time. A name that nobody answers for keeps a thread for half a minute; it takes many of
/// those until others have to wait.
const AT_ONCE: usize = 128;

/// What look-ups that are under way get to finish when the proxy stops.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// The running housekeeper. Dropping it ends and joins it.
pub struct Upkeep {
    /// `None`: there were no names so far.
    thread: Option<JoinHandle<()>>,
    /// The names of a reload. Dropped to stop the thread.
    names: Option<Sender<Names>>,
    lookup: SharedLookup,
    /// Disconnected once every name of the configuration at work has been looked up for the first time.
    first_answers: Receiver<Infallible>,
}

impl Upkeep {
    /// Starts the thread `upkeep`, which has the names of these pools looked up side by side: at once, and again every
    /// `resolve_secs`. Without names there is no thread.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(pools: &[Arc<Pool>], lookup: SharedLookup) -> io::Result<Self> {
        let (names, first_answers) = Names::of(pools);
        let mut upkeep = Self { thread: None, names: None, lookup, first_answers };
        upkeep.begin(names)?;
        Ok(upkeep)
    }

    fn begin(&mut self, Names { names, answered }: Names) -> io::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let (sender, of_reloads) = unbounded();
        let (answers, answer) = unbounded();
        let lookup = Arc::clone(&self.lookup);
        let mut housekeeper = Housekeeper {
            names,
            next: 0,
            lookup,
            answers,
            answer,
            asking: HashMap::new(),
            answered: Some(answered),
        };
        let thread = Builder::new().name("upkeep".to_owned()).spawn(move || {
            housekeeper.run(&of_reloads);
            housekeeper.finish();
        })?;
        (self.thread, self.names) = (Some(thread), Some(sender));
        Ok(())
    }

    /// From now on the names of these pools are looked up, the first time at once.
    ///
    /// # Errors
    /// The thread, of which there was none before, can't be started.
    pub fn change(&mut self, pools: &[Arc<Pool>]) -> io::Result<()> {
        let (names, first_answers) = Names::of(pools);
        match &self.names {
            // Fails only if it has ended.
            Some(sender) => drop(sender.send(names)),
            None => self.begin(names)?,
        }
        self.first_answers = first_answers;
        Ok(())
    }

    /// Waits until every name has been looked up for the first time, but not longer than `patience`.
    pub fn wait_for_first_answers(&self, patience: Duration) {
        // Nothing is ever sent.
        let _ = self.first_answers.recv_timeout(patience);
    }

    /// Tells it to end, and does not wait for that.
    pub fn stop(&mut self) {
        self.names = None;
    }
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upkeep").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Drop for Upkeep {
    /// Does not wait for a resolver that does not answer: nobody can interrupt that.
    fn drop(&mut self) {
        self.stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the upkeep thread had panicked");
        }
    }
}

/// An entry of `backend_addrs` or `addrs` that is a name.
struct Name {
    pool: Arc<Pool>,
    entry: BackendConfig,
    /// To be looked up then; of no meaning while it is.
    due: Instant,
    /// There was an answer, if only that there is no such name.
    was_asked: bool,
    /// The look-up under way.
    asking: Option<Number>,
}

/// Which look-up.
type Number = u64;

/// The names of a configuration, and who is told when each has been looked up once: by being dropped.
struct Names {
    names: Vec<Name>,
    answered: Sender<Infallible>,
}

impl Names {
    fn of(pools: &[Arc<Pool>]) -> (Self, Receiver<Infallible>) {
        let (answered, first_answers) = bounded(0);
        (Self { names: names_of(pools), answered }, first_answers)
    }
}

fn names_of(pools: &[Arc<Pool>]) -> Vec<Name> {
    let due = Instant::now();
    let of = |pool: &Arc<Pool>| -> Vec<Name> {
        let name = |entry: &BackendConfig| Name {
            pool: Arc::clone(pool),
            entry: entry.clone(),
            due,
            was_asked: false,
            asking: None,
        };
        pool.names().map(name).collect()
    };
    pools.iter().flat_map(of).collect()
}

/// What a look-up found.
struct Answer {
    number: Number,
    found: io::Result<Vec<Option<SocketAddr>>>,
}

/// What the thread owns.
struct Housekeeper {
    names: Vec<Name>,
    /// The number of the next look-up.
    next: Number,
    lookup: SharedLookup,
    answers: Sender<Answer>,
    answer: Receiver<Answer>,
    /// The look-ups under way, also those for names that a reload has taken away.
    asking: HashMap<Number, JoinHandle<()>>,
    /// Dropped after the first round.
    answered: Option<Sender<Infallible>>,
}

impl Housekeeper {
    /// Until `of_reloads` is disconnected.
    fn run(&mut self, of_reloads: &Receiver<Names>) {
        loop {
            let pause = self.ask().map(|due| due.saturating_duration_since(Instant::now()));
            let pause = pause.map_or(crossbeam_channel::never(), crossbeam_channel::after);
            select! {
                recv(self.answer) -> answer => answer.into_iter().for_each(|answer| self.take_in(answer)),
                recv(of_reloads) -> names => match names {
                    Ok(Names { names, answered }) => {
                        self.names = names;
                        self.answered = Some(answered);
                        self.tell_first_answers();
                    }
                    Err(_) => return,
                },
                recv(pause) -> _ => {}
            }
        }
    }

    /// Begins the look-ups that are due, as far as there is room for more. When the next one is.
    fn ask(&mut self) -> Option<Instant> {
        let mut room = AT_ONCE.saturating_sub(self.asking.len());
        let now = Instant::now();
        let mut next = None;
        for name in &mut self.names {
            if name.asking.is_some() {
                continue;
            }
            if name.due <= now && room > 0 {
                match begin(self.next, name, &self.lookup, &self.answers) {
                    Ok(thread) => {
                        name.asking = Some(self.next);
                        self.asking.insert(self.next, thread);
                        self.next += 1;
                        room -= 1;
                        continue;
                    }
                    Err(error) => {
                        log_sparingly!(
                            warn,
                            "cannot start a thread to look up a name: raise the limit of threads of this user or \
                             service (ulimit -u, TasksMax) backend={} reason={:?}",
                            name.entry.addr,
                            error.to_string()
                        );
                        name.due = now + AGAIN;
                    }
                }
            }
            // Those that wait for room get it when an answer comes.
            if name.due > now {
                next = Some(next.map_or(name.due, |next: Instant| next.min(name.due)));
            }
        }
        next
    }

    fn take_in(&mut self, Answer { number, found }: Answer) {
        if let Some(thread) = self.asking.remove(&number) {
            // It has sent its answer and ends. Its panics are caught.
            let _ = thread.join();
        }
        let Some(name) = self.names.iter_mut().find(|name| name.asking == Some(number)) else { return };
        name.asking = None;
        let is_first = !std::mem::replace(&mut name.was_asked, true);
        name.pool.take_in_addresses(&name.entry, found, is_first);
        let has_address = name.pool.backends().iter().any(|backend| *backend.config() == name.entry);
        let pause = if has_address { name.pool.config().resolve_interval } else { AGAIN };
        // Measured from the end: a slow resolver is not asked more often than it answers.
        let now = Instant::now();
        name.due = now.checked_add(pause).unwrap_or(now + FAR);
        self.tell_first_answers();
    }

    fn tell_first_answers(&mut self) {
        if self.names.iter().all(|name| name.was_asked) {
            self.answered = None;
        }
    }

    /// Joins the look-ups that end soon, and lets go of the rest.
    fn finish(&mut self) {
        let deadline = Instant::now() + STOP_GRACE;
        while !self.asking.is_empty() {
            let Ok(answer) = self.answer.recv_deadline(deadline) else {
                log::debug!("stopped while names were being looked up count={}", self.asking.len());
                return;
            };
            // Its panics are caught.
            let _ = self.asking.remove(&answer.number).map(JoinHandle::join);
        }
    }
}

/// Starts the thread that looks up one name, once.
fn begin(
    number: Number,
    name: &Name,
    lookup: &SharedLookup,
    answers: &Sender<Answer>,
) -> io::Result<JoinHandle<()>> {
    let (addr, lookup, answers) = (name.entry.addr.clone(), Arc::clone(lookup), answers.clone());
    // The standard library panics at a name with a NUL in it.
    let thread_name = format!("name {addr}").replace('\0', "?");
    Builder::new().name(thread_name).spawn(move || {
        let found = catch_unwind(AssertUnwindSafe(|| names::addresses(&addr, &*lookup)))
            .unwrap_or_else(|_| Err(io::Error::other("the look-up panicked")));
        // Nobody takes it when the proxy has stopped meanwhile.
        let _ = answers.send(Answer { number, found });
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn route_to(names: &[&str]) -> Arc<Pool> {
        Pool::for_tests(0, |config| {
            let entry = |name: &&str| BackendConfig::new(name.parse().unwrap());
            config.backends = names.iter().map(entry).collect();
        })
    }

    fn labels(route: &Pool) -> Vec<String> {
        route.backends().iter().map(|backend| backend.label().to_owned()).collect()
    }

    #[track_caller]
    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let begin = Instant::now();
        while !condition() {
            assert!(begin.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_name_that_nobody_answers_for_delays_no_other_and_no_end() {
        let (open, gate) = bounded::<()>(0);
        let lookup: SharedLookup = Arc::new(move |host, port| {
            if host == "dead.test" {
                let _ = gate.recv();
            }
            Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))])
        });
        let route = route_to(&["dead.test:80", "10.0.0.9:80", "alive.test:80"]);
        let upkeep = Upkeep::start(&[Arc::clone(&route)], lookup).unwrap();
        wait_until("the one that answers", || labels(&route) == ["alive.test:80/10.0.0.1:80"]);
        let begin = Instant::now();
        upkeep.wait_for_first_answers(Duration::from_millis(20));
        drop(upkeep);
        assert!(begin.elapsed() < PATIENCE);
        drop(open);
        // The thread of the look-up owns no route.
        assert_eq!(Arc::strong_count(&route), 1);
    }

    #[test]
    fn a_look_up_that_panics_or_fails_is_tried_again_and_order_is_that_of_the_file() {
        let asked = Mutex::new(0);
        let lookup: SharedLookup = Arc::new(move |host, port| {
            if host == "first.test" {
                let mut asked = asked.lock().unwrap();
                *asked += 1;
                if *asked == 1 {
                    drop(asked);
                    panic!("as the test says");
                }
            }
            Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))])
        });
        let route = route_to(&["first.test:80", "second.test:80"]);
        let upkeep = Upkeep::start(&[Arc::clone(&route)], lookup).unwrap();
        upkeep.wait_for_first_answers(PATIENCE);
        assert_eq!(labels(&route), ["second.test:80/10.0.0.1:80"]);
        wait_until("the other", || {
            labels(&route) == ["first.test:80/10.0.0.1:80", "second.test:80/10.0.0.1:80"]
        });
    }

    #[test]
    fn more_names_than_may_be_asked_at_once_all_get_their_turn() {
        let names: Vec<String> = (0..AT_ONCE + 20).map(|number| format!("n{number}.test:80")).collect();
        let route = route_to(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let lookup: SharedLookup = Arc::new(|_, port| Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]));
        let upkeep = Upkeep::start(&[Arc::clone(&route)], lookup).unwrap();
        upkeep.wait_for_first_answers(PATIENCE);
        assert_eq!(labels(&route).len(), names.len());
    }

    #[test]
    fn without_names_there_is_no_thread() {
        let upkeep = Upkeep::start(&[route_to(&["10.0.0.1:80"])], Arc::new(names::system)).unwrap();
        assert!(upkeep.thread.is_none());
        let begin = Instant::now();
        upkeep.wait_for_first_answers(PATIENCE);
        assert!(begin.elapsed() < PATIENCE);
    }
}
