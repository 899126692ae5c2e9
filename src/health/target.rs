//! [`Target`]: one backend as the checker sees it, and the short-lived threads that probe it, one at a time.

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{Builder, JoinHandle};

use super::probe::Prober;
use super::streak::Streak;
use crate::balance::Backend;
use crate::balance::backend::Standing;
use crate::config::HealthCheckConfig;
use crate::logging::panics::panic_message;
use crate::logging::sparingly::log_sparingly;

/// A backend as the checker sees it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) backend: Arc<Backend>,
    /// As the last probe that has been joined left it.
    streak: Streak,
    /// The probe under way, or ended but not joined yet. It has a copy of the streak and returns it.
    pub(super) running: Option<JoinHandle<Streak>>,
}

impl Target {
    pub(super) fn new(backend: Arc<Backend>, check: &HealthCheckConfig) -> Self {
        // What was known of it before this checker came still holds.
        let streak = Streak::new(backend.is_healthy(), check);
        Self { backend, streak, running: None }
    }

    /// Nobody asks how a backend is that an operator has taken down.
    pub(super) fn is_wanted(&self) -> bool {
        self.backend.standing() != Standing::Down
    }

    /// Starts a probe of this backend, unless the last one is still under way.
    pub(super) fn start_probe(&mut self, prober: &Arc<Prober>, alive: &Sender<Infallible>) {
        if let Some(running) = self.running.take() {
            if !running.is_finished() {
                self.running = Some(running);
                return;
            }
            // Panics of the probe itself are caught, so what is lost here at worst is one result.
            match running.join() {
                Ok(streak) => self.streak = streak,
                Err(panic) => {
                    log_sparingly!(
                        error,
                        "probe thread panicked {} backend={} reason={:?}",
                        prober.owner(),
                        self.backend.label(),
                        panic_message(&*panic),
                    );
                }
            }
        }
        let name = thread_name("probe", self.backend.label());
        let (its_prober, alive) = (Arc::clone(prober), alive.clone());
        let (backend, streak) = (Arc::clone(&self.backend), self.streak);
        let started = Builder::new().name(name).spawn(move || {
            let streak = its_prober.probe(&backend, streak);
            drop(alive);
            streak
        });
        match started {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                log_sparingly!(
                    warn,
                    "cannot start a probe: raise the limit of threads of this user or service (ulimit -u, TasksMax) \
                 {} backend={} reason={:?}",
                    prober.owner(),
                    self.backend.label(),
                    error.to_string(),
                );
            }
        }
    }
}

/// What to call the thread that does `what` for `whom`. The standard library panics at a name with a NUL in it.
pub(super) fn thread_name(what: &str, whom: impl Display) -> String {
    format!("{what} {whom}").replace('\0', "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_nul_is_no_panic() {
        assert_eq!(thread_name("probe", "unix:/a\0b"), "probe unix:/a?b");
    }
}
