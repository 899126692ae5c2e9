//! The housekeeper: closes connections to backends that have been idle for too long, and looks names up again.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::route::Route;
use crate::stop::StopToken;

const TICK: Duration = Duration::from_secs(1);

/// What a look-up that is under way gets to finish when the proxy stops.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// The running housekeeper.
#[derive(Debug)]
pub struct Upkeep {
    thread: JoinHandle<()>,
    /// Disconnected once the thread has ended.
    ended: Receiver<Infallible>,
}

impl Upkeep {
    /// Starts the thread `upkeep`, which runs until `stop`.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(routes: Vec<Arc<Route>>, stop: StopToken) -> io::Result<Self> {
        let (alive, ended) = bounded(0);
        let thread = Builder::new().name("upkeep".to_owned()).spawn(move || {
            let _alive: Sender<Infallible> = alive;
            run(&routes, &stop);
        })?;
        Ok(Self { thread, ended })
    }

    /// Waits for its end, but not for a resolver that does not answer: nobody can interrupt that.
    pub fn join(self) {
        if self.ended.recv_timeout(STOP_GRACE) == Err(RecvTimeoutError::Timeout) {
            log::debug!("stopped while a name was being looked up");
        } else if self.thread.join().is_err() {
            log::error!("the upkeep thread had panicked");
        }
    }
}

fn run(routes: &[Arc<Route>], stop: &StopToken) {
    let start = Instant::now();
    let mut due: Vec<Instant> = routes.iter().map(|route| start + route.config().resolve_interval).collect();
    while !stop.sleep(TICK) {
        for (route, due) in routes.iter().zip(&mut due) {
            let now = Instant::now();
            if route.has_names() && (now >= *due || route.backends().is_empty()) {
                route.look_up_names(&crate::upstream::names::system);
                // Measured from the end: a slow resolver is not asked more often than it answers.
                *due = Instant::now() + route.config().resolve_interval;
            }
        }
    }
}
