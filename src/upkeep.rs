//! The housekeeper: closes connections to backends that have been idle for too long, and looks names up again.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::route::Route;
use crate::stop::StopToken;

const TICK: Duration = Duration::from_secs(1);

/// Starts the thread `upkeep`, which runs until `stop`.
///
/// # Errors
/// The thread can't be started.
pub fn start(routes: Vec<Arc<Route>>, stop: StopToken) -> io::Result<JoinHandle<()>> {
    Builder::new().name("upkeep".to_owned()).spawn(move || run(&routes, &stop))
}

fn run(routes: &[Arc<Route>], stop: &StopToken) {
    let start = Instant::now();
    let mut due: Vec<Instant> = routes.iter().map(|route| start + route.config().resolve_interval).collect();
    while !stop.sleep(TICK) {
        for (route, due) in routes.iter().zip(&mut due) {
            for backend in route.backends().iter() {
                backend.upstream().close_expired();
            }
            let now = Instant::now();
            if route.has_names() && (now >= *due || route.backends().is_empty()) {
                route.look_up_names(&crate::upstream::names::system);
                // Measured from the end: a slow resolver is not asked more often than it answers.
                *due = Instant::now() + route.config().resolve_interval;
            }
        }
    }
}
