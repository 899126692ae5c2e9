//! [`Upkeep`]: the housekeeper, which has host names looked up, at the start and again while the proxy runs.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use crate::config::BackendConfig;
use crate::logging::sparingly::log_sparingly;
use crate::route::Route;
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
#[derive(Debug)]
pub struct Upkeep {
    /// `None`: there are no names.
    thread: Option<JoinHandle<()>>,
    /// Dropped to stop the thread.
    stop: Option<Sender<Infallible>>,
    /// Disconnected once every name has been looked up for the first time.
    first_answers: Receiver<Infallible>,
}

impl Upkeep {
    /// Starts the thread `upkeep`, which has the names of these routes looked up side by side: at once, and again every
    /// `resolve_secs`. Without names there is no thread.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(routes: &[Arc<Route>], lookup: SharedLookup) -> io::Result<Self> {
        let now = Instant::now();
        let mut names = Vec::new();
        for route in routes {
            for entry in route.names() {
                let (route, entry) = (Arc::clone(route), entry.clone());
                names.push(Name { route, entry, due: now, was_asked: false, asking: None });
            }
        }
        let (answered, first_answers) = bounded(0);
        let (stop, stopped) = bounded(0);
        if names.is_empty() {
            return Ok(Self { thread: None, stop: None, first_answers });
        }
        let (answers, answer) = unbounded();
        let mut housekeeper = Housekeeper { names, lookup, answers, answer, answered: Some(answered) };
        let thread = Builder::new().name("upkeep".to_owned()).spawn(move || {
            housekeeper.run(&stopped);
            housekeeper.finish();
        })?;
        Ok(Self { thread: Some(thread), stop: Some(stop), first_answers })
    }

    /// Waits until every name has been looked up for the first time, but not longer than `patience`.
    pub fn wait_for_first_answers(&self, patience: Duration) {
        // Nothing is ever sent.
        let _ = self.first_answers.recv_timeout(patience);
    }

    /// Tells it to end, and does not wait for that.
    pub fn stop(&mut self) {
        self.stop = None;
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

/// An entry of `backend_addrs` that is a name.
struct Name {
    route: Arc<Route>,
    entry: BackendConfig,
    /// To be looked up then; of no meaning while it is.
    due: Instant,
    /// There was an answer, if only that there is no such name.
    was_asked: bool,
    /// The look-up under way.
    asking: Option<JoinHandle<()>>,
}

/// What a look-up found.
struct Answer {
    /// Which of the names.
    name: usize,
    found: io::Result<Vec<Option<SocketAddr>>>,
}

/// What the thread owns.
struct Housekeeper {
    names: Vec<Name>,
    lookup: SharedLookup,
    answers: Sender<Answer>,
    answer: Receiver<Answer>,
    /// Dropped after the first round.
    answered: Option<Sender<Infallible>>,
}

impl Housekeeper {
    /// Until `stopped` is disconnected.
    fn run(&mut self, stopped: &Receiver<Infallible>) {
        loop {
            let pause = self.ask().map(|due| due.saturating_duration_since(Instant::now()));
            let pause = pause.map_or(crossbeam_channel::never(), crossbeam_channel::after);
            select! {
                recv(self.answer) -> answer => answer.into_iter().for_each(|answer| self.take_in(answer)),
                recv(stopped) -> _ => return,
                recv(pause) -> _ => {}
            }
        }
    }

    /// Begins the look-ups that are due, as far as there is room for more. When the next one is.
    fn ask(&mut self) -> Option<Instant> {
        let mut room = AT_ONCE.saturating_sub(self.names.iter().filter(|name| name.asking.is_some()).count());
        let now = Instant::now();
        let mut next = None;
        for (number, name) in self.names.iter_mut().enumerate() {
            if name.asking.is_some() {
                continue;
            }
            if name.due <= now && room > 0 {
                match begin(number, name, &self.lookup, &self.answers) {
                    Ok(thread) => {
                        name.asking = Some(thread);
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

    fn take_in(&mut self, Answer { name, found }: Answer) {
        let Some(name) = self.names.get_mut(name) else { return };
        if let Some(thread) = name.asking.take() {
            // It has sent its answer and ends. Its panics are caught.
            let _ = thread.join();
        }
        let is_first = !std::mem::replace(&mut name.was_asked, true);
        name.route.take_in_addresses(&name.entry, found, is_first);
        let has_address = name.route.backends().iter().any(|backend| *backend.config() == name.entry);
        let pause = if has_address { name.route.config().resolve_interval } else { AGAIN };
        // Measured from the end: a slow resolver is not asked more often than it answers.
        let now = Instant::now();
        name.due = now.checked_add(pause).unwrap_or(now + FAR);
        if self.answered.is_some() && self.names.iter().all(|name| name.was_asked) {
            self.answered = None;
        }
    }

    /// Joins the look-ups that end soon, and lets go of the rest.
    fn finish(&mut self) {
        let deadline = Instant::now() + STOP_GRACE;
        let mut left = self.names.iter().filter(|name| name.asking.is_some()).count();
        while left > 0 {
            let Ok(answer) = self.answer.recv_deadline(deadline) else {
                log::debug!("stopped while names were being looked up count={left}");
                return;
            };
            let thread = self.names.get_mut(answer.name).and_then(|name| name.asking.take());
            // Its panics are caught.
            let _ = thread.map(JoinHandle::join);
            left -= 1;
        }
    }
}

/// Starts the thread that looks up one name, once.
fn begin(
    number: usize,
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
        let _ = answers.send(Answer { name: number, found });
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Mutex;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn route_to(names: &[&str]) -> Arc<Route> {
        Route::for_tests(0, |config| {
            let entry = |name: &&str| BackendConfig { addr: name.parse().unwrap(), weight: NonZeroU32::MIN };
            config.backends = names.iter().map(entry).collect();
        })
    }

    fn labels(route: &Route) -> Vec<String> {
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
