//! [`Prober`]: asks one backend, judges the answer, and sets the health of the backend accordingly.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use ::http::StatusCode;

use super::streak::{Streak, Transition};
use crate::balance::Backend;
use crate::balance::backend::LastProbe;
use crate::config::HealthCheckConfig;
use crate::health::client::ProbeError;
use crate::logging::panics::panic_message;
use crate::route::Pool;
use crate::stop::StopToken;

/// One probe of one backend: the status of the answer, or why there is none. Ends after about
/// [`HealthCheckConfig::timeout`]; until it has ended, its backend is not probed again.
pub(super) type Probe =
    Box<dyn Fn(&Backend, &HealthCheckConfig) -> Result<StatusCode, ProbeError> + Send + Sync>;

/// What the probes of a pool have in common.
pub(super) struct Prober {
    pub(super) pool: Arc<Pool>,
    pub(super) check: HealthCheckConfig,
    pub(super) probe: Probe,
    pub(super) stop: StopToken,
}

impl Prober {
    /// Whose backends it asks, as logs have it.
    pub(super) fn owner(&self) -> &str {
        self.pool.owner()
    }

    /// Probes `backend` and sets its health accordingly. Runs on the thread of the probe.
    pub(super) fn probe(&self, backend: &Backend, mut streak: Streak) -> Streak {
        let outcome = match catch_unwind(AssertUnwindSafe(|| (self.probe)(backend, &self.check))) {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(ProbeError::Failed(reason))) => Err(reason),
            Ok(Err(ProbeError::NotAsked(reason))) => {
                let (owner, addr) = (self.owner(), backend.label());
                log::debug!("not probed {owner} backend={addr} reason={reason:?}");
                return streak;
            }
            Err(panic) => Err(format!("the probe panicked: {}", panic_message(&*panic))),
        };
        if self.stop.is_stopped() {
            // The backend may by now belong to another configuration, with another health check.
            return streak;
        }
        let (owner, addr) = (self.owner(), backend.label());
        let verdict = verdict(outcome);
        let word = verdict.as_ref().map_or_else(Clone::clone, |status| describe(*status));
        backend.set_last_probe(LastProbe { at: SystemTime::now(), is_good: verdict.is_ok(), word });
        match verdict {
            Ok(status) => {
                self.pool.note_success(backend);
                if streak.record(true) == Some(Transition::Recovered) {
                    backend.set_healthy(true);
                    let reason = describe(status);
                    log::info!("backend healthy again {owner} backend={addr} reason={reason:?}");
                    self.pool.health_changed();
                }
            }
            Err(reason) => {
                if streak.record(false) == Some(Transition::Failed) {
                    backend.set_healthy(false);
                    log::warn!("backend unhealthy {owner} backend={addr} reason={reason:?}");
                    self.pool.health_changed();
                } else {
                    log::debug!("probe failed {owner} backend={addr} reason={reason:?}");
                }
            }
        }
        streak
    }
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober")
            .field("owner", &self.owner())
            .field("check", &self.check)
            .finish_non_exhaustive()
    }
}

/// Whether a probe was good: an answer of 2xx or 3xx. Otherwise what was wrong.
fn verdict(outcome: Result<StatusCode, String>) -> Result<StatusCode, String> {
    match outcome {
        Ok(status) if status.is_success() || status.is_redirection() => Ok(status),
        Ok(status) => Err(describe(status)),
        Err(reason) => Err(reason),
    }
}

fn describe(status: StatusCode) -> String {
    format!("status {}", status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_reasons() {
        let verdict = |status| verdict(Ok(StatusCode::from_u16(status).unwrap()));
        for good in [200, 204, 299, 301, 304, 399] {
            assert!(verdict(good).is_ok(), "{good}");
        }
        for bad in [100, 101, 400, 401, 404, 429, 500, 503, 999] {
            assert_eq!(verdict(bad), Err(format!("status {bad}")));
        }
        assert_eq!(super::verdict(Err("timed out after 2 s".into())), Err("timed out after 2 s".into()));
    }
}
