//! [`Tries`]: which backends an exchange has tried, and whether another try follows one that has failed. For both engines; only
//! how a try is made is a matter of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

use super::retry::{Progress, may_retry};
use crate::balance::Backend;
use crate::config::RouteConfig;
use crate::error::Cause;
use crate::route::Route;

/// After all tries have failed, a held request tries again this much later: nobody says when a backend that refuses
/// connections has begun to take them.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// Why a try failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub cause: Cause,
    /// Ours, not the backend's: it is not held against it.
    pub is_ours: bool,
}

/// How another try begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// With one that was not tried.
    AtOnce,
    /// After [`PAUSE`], with any: as many as may be tried have failed, and the route holds its requests.
    AfterPause,
}

/// The tries of one exchange.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    tried: Vec<Arc<Backend>>,
    /// Those of them that took the request on a new connection and closed it without a word. If another one answers, it was
    /// not for what was asked.
    suspects: Vec<Arc<Backend>>,
    /// Why the last one failed.
    last: Option<Cause>,
    /// Until when the route's `hold_secs` let it wait for a backend, once it has found none.
    held_until: Option<Instant>,
}

impl Tries {
    /// Those that the next try should not be with.
    pub(crate) fn tried(&self) -> &[Arc<Backend>] {
        &self.tried
    }

    /// No try has failed.
    #[cfg(feature = "classic")]
    pub(crate) fn is_first(&self) -> bool {
        self.last.is_none()
    }

    /// Why there is no answer, if no backend is found for the next try because of `none`: why the last one failed says more.
    pub(crate) fn why(&self, none: Cause) -> Cause {
        self.last.unwrap_or(none)
    }

    /// How long the exchange may wait while its route has no backend for it. It begins to when it finds none.
    pub(crate) fn held_until(&mut self, config: &RouteConfig, now: Instant) -> Instant {
        *self.held_until.get_or_insert(now + config.hold)
    }

    /// A try with `backend` has failed. What is held against the backend is; one that has closed a connection is as yet a suspect
    /// at most, if the connection `was_new`: that a kept one has ended says nothing.
    pub(crate) fn blame(&mut self, route: &Route, backend: &Arc<Backend>, failed: Failed, was_new: bool) {
        if failed.cause != Cause::BackendClosed {
            if !failed.is_ours {
                route.note_failure(backend, failed.cause);
            }
        } else if was_new {
            self.suspects.push(Arc::clone(backend));
        }
    }

    /// `backend` has answered.
    pub(crate) fn answered(&mut self, route: &Route, backend: &Backend) {
        for suspect in self.suspects.drain(..).filter(|suspect| suspect.id() != backend.id()) {
            route.note_failure(&suspect, Cause::BackendClosed);
        }
    }

    /// Whether another try follows one with `backend` that has failed, for an exchange that `started` then: it has to be safe,
    /// allowed and in time.
    pub(crate) fn again(
        &mut self,
        config: &RouteConfig,
        backend: &Arc<Backend>,
        (method, cause, progress): (&Method, Cause, Progress),
        (started, now): (Instant, Instant),
    ) -> Option<Again> {
        // However long it was held, no backend had it meanwhile.
        let in_time =
            now.duration_since(started) < config.response_timeout || now < self.held_until(config, now);
        if !in_time || !may_retry(method, cause, progress) {
            return None;
        }
        let again = if self.tried.len() < config.retries as usize {
            self.tried.push(Arc::clone(backend));
            Again::AtOnce
        } else {
            self.tried.clear();
            (now < self.held_until(config, now)).then_some(Again::AfterPause)?
        };
        self.last = Some(cause);
        log::debug!("trying again backend={} cause={cause} sent={}", backend.label(), progress.sent);
        Some(again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Progress = Progress { sent: 100, received: 0, replayable: true };
    const REFUSED: Failed = Failed { cause: Cause::ConnectRefused, is_ours: false };
    const CLOSED: Failed = Failed { cause: Cause::BackendClosed, is_ours: false };

    fn route(change: impl FnOnce(&mut RouteConfig)) -> Arc<Route> {
        Route::for_tests(3, |config| {
            config.retries = 2;
            config.max_fails = 1;
            config.response_timeout = Duration::from_secs(10);
            change(config);
        })
    }

    /// What follows the failures of these backends, one after another, each so many seconds after the exchange started.
    fn fates(route: &Route, tries: &mut Tries, failures: &[(usize, u64)]) -> Vec<Option<Again>> {
        let started = Instant::now();
        let what = (&Method::GET, Cause::BackendClosed, SENT);
        let backends = route.backends();
        let again = |&(backend, secs): &(usize, u64)| {
            let times = (started, started + Duration::from_secs(secs));
            tries.again(route.config(), &backends[backend], what, times)
        };
        failures.iter().map(again).collect()
    }

    #[test]
    fn there_are_as_many_tries_as_the_route_allows_each_with_another_backend() {
        let (route, mut tries) = (route(|_| ()), Tries::default());
        assert_eq!(tries.why(Cause::BackendsBusy), Cause::BackendsBusy);
        let again = fates(&route, &mut tries, &[(2, 0), (1, 0)]);
        assert_eq!(again, [Some(Again::AtOnce); 2]);
        let ids: Vec<_> = tries.tried().iter().map(|backend| backend.id()).collect();
        assert_eq!(ids, [route.backends()[2].id(), route.backends()[1].id()]);
        assert_eq!(tries.why(Cause::BackendsBusy), Cause::BackendClosed);
        assert_eq!(fates(&route, &mut tries, &[(0, 0)]), [None]);
    }

    #[test]
    fn after_the_response_timeout_or_if_it_is_not_safe_there_is_none() {
        let route = route(|_| ());
        assert_eq!(fates(&route, &mut Tries::default(), &[(0, 9), (1, 10)]), [Some(Again::AtOnce), None]);
        let now = Instant::now();
        let what = (&Method::POST, Cause::BackendClosed, SENT);
        assert_eq!(Tries::default().again(route.config(), &route.backends()[0], what, (now, now)), None);
    }

    /// The time counts from when there was no backend any more, and all of them are tried anew in it.
    #[test]
    fn a_held_exchange_goes_on_after_a_pause() {
        let (route, mut tries) = (route(|config| config.hold = Duration::from_secs(30)), Tries::default());
        let again = fates(&route, &mut tries, &[(0, 0), (1, 0), (2, 9), (0, 20), (1, 38), (2, 38), (2, 39)]);
        let (at_once, pause) = (Some(Again::AtOnce), Some(Again::AfterPause));
        assert_eq!(again, [at_once, at_once, pause, at_once, at_once, pause, None]);
    }

    #[test]
    fn what_is_held_against_a_backend_is_what_it_did() {
        let route = route(|_| ());
        let mut tries = Tries::default();
        let [a, b, c] = &route.backends()[..] else { panic!("three backends") };
        tries.blame(&route, a, Failed { is_ours: true, ..REFUSED }, true);
        assert!(!a.passive().is_out());
        tries.blame(&route, a, REFUSED, true);
        assert!(a.passive().is_out());
        // One that closes a kept connection did nothing wrong, nor does one that answers then.
        tries.blame(&route, b, CLOSED, false);
        tries.blame(&route, c, CLOSED, true);
        tries.answered(&route, c);
        assert!(!b.passive().is_out() && !c.passive().is_out());
        tries.blame(&route, b, CLOSED, true);
        tries.answered(&route, c);
        assert!(b.passive().is_out() && !c.passive().is_out());
    }
}
