//! What exchanges and probes say about the backends of a pool: which of them is taken out, and when the log is told. The
//! counts of one backend are in [`balance::passive`](crate::balance::passive), the probes in [`crate::health`].

use std::sync::Arc;
use std::time::Duration;

use super::pool::{Pool, lock};
use crate::balance::Backend;
use crate::balance::backend::{Standing, now_millis};
use crate::config::Algorithm;
use crate::error::{Blame, Cause};

impl Pool {
    /// Whether probes and operators leave any backend.
    #[must_use]
    pub fn has_healthy(&self) -> bool {
        self.group.load().backends.iter().any(|backend| backend.is_available())
    }

    /// Whether the backend with this id is there, and one that exchanges are sent to: neither probes, exchanges nor operators
    /// have taken it out, and it is no backup of one that is there. Or all are tried.
    pub(crate) fn can_use(&self, id: u64) -> bool {
        let group = self.group.load();
        let is_it = |backend: &Backend| backend.id() == id;
        if self.fails_open() {
            return group.all().has(|backend| is_it(backend) && backend.standing() == Standing::Ready);
        }
        let used = group.tiers().find(|tier| tier.has(Backend::is_up));
        used.is_some_and(|tier| tier.has(|backend| is_it(backend) && backend.is_up()))
    }

    /// A backend has begun to answer with this status, so long after it had the request.
    pub(crate) fn note_answer(&self, backend: &Backend, status: u16, took: Duration) {
        if self.config().algorithm != Algorithm::LeastTime {
            return;
        }
        if status < 500 {
            backend.answer_time().observe(took, now_millis());
        } else {
            backend.answer_time().observe_failure(took, now_millis());
        }
    }

    /// An exchange on `backend` went well.
    pub(crate) fn note_success(&self, backend: &Backend) {
        if backend.passive().succeeded() {
            backend.begin_slowly(now_millis());
            self.look_how_few(false);
            self.line.call_all();
            backend.note_change();
            let (owner, label) = (self.owner(), backend.label());
            // Who reads that it went can read that it came back.
            if backend.told_out(false) {
                log::info!("backend answers again {owner} backend={label}");
            } else {
                log::debug!("backend answers again {owner} backend={label}");
            }
        }
    }

    /// An exchange on `backend` failed, and `cause` says why; such a failure costs `lost` at worst. What a client could have
    /// brought about does not count: only that it can't be connected to, or takes a request on a new connection and closes
    /// that without a word. How long it takes to answer depends on what is asked.
    pub(crate) fn note_failure(&self, backend: &Backend, cause: Cause, lost: Duration) {
        let counts = matches!(
            cause,
            Cause::ConnectRefused
                | Cause::ConnectTimeout
                | Cause::ConnectFailed
                | Cause::TlsFailed(_)
                | Cause::BackendClosed
        );
        let (owner, label) = (self.owner(), backend.label());
        if cause.blame() == Blame::Upstream {
            log::debug!("backend failed {owner} backend={label} cause={cause}");
        }
        let now = now_millis();
        if cause.blame() == Blame::Upstream && self.config().algorithm == Algorithm::LeastTime {
            backend.answer_time().observe_failure(lost, now);
        }
        if !counts || !backend.passive().failed(&self.passive, now) {
            return;
        }
        let held = lock(&self.taking_out);
        let is_in = |other: &&Arc<Backend>| other.is_up();
        let another_is_in = self
            .group
            .load()
            .backends
            .iter()
            .filter(is_in)
            .any(|other| !std::ptr::eq(Arc::as_ptr(other), backend));
        let was_in = if backend.passive().is_out() || another_is_in {
            backend.passive().take_out(&self.passive, now)
        } else {
            false
        };
        drop(held);
        let what = if was_in {
            backend.count_ejection();
            if self.look_how_few(false) {
                self.line.call_all();
            }
            "backend taken out"
        } else if another_is_in {
            "backend still fails"
        } else {
            "backend fails, but is the last one and stays in"
        };
        let fails = self.passive.max_fails;
        if backend.may_log(now) {
            backend.told_out(backend.passive().is_out());
            log::warn!("{what} {owner} backend={label} cause={cause} consecutive_failures={fails}");
        } else {
            log::debug!("{what} {owner} backend={label} cause={cause}");
        }
    }

    /// This pool serves from now on, in place of one that had other health checks maybe: without probes nobody would bring
    /// a backend back that they, or failures until the next probe, had taken out.
    pub(crate) fn take_over(&self) {
        if self.config().health_check.is_none() {
            for backend in &self.group.load().backends {
                backend.set_healthy(true);
                backend.passive().end_wait_for_probe(&self.passive, now_millis());
            }
        }
        self.health_changed();
    }

    /// Tells the log when the last healthy backend is gone, once until one is back, and who waits for a backend to look
    /// again. Whoever changes the health of a backend, or brings new ones, calls this afterwards. Returns whether it had something to tell.
    pub(crate) fn health_changed(&self) -> bool {
        let none_left = {
            let mut known = lock(&self.known_healthy);
            let now = self.has_healthy();
            std::mem::replace(&mut *known, now) && !now
        };
        self.look_how_few(true);
        self.line.call_all();
        if none_left {
            log::warn!("no healthy backend left {}", self.owner());
        }
        none_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::PickRequest;
    use crate::route::Route;

    fn fail(route: &Route, backend: &Backend, times: usize) {
        for _ in 0..times {
            route.note_failure(backend, Cause::ConnectRefused);
        }
    }

    #[test]
    fn failures_take_a_backend_out_but_never_the_last_one() {
        let route = Route::for_tests(2, |_| ());
        let backends = route.backends();
        fail(&route, &backends[0], 3);
        for _ in 0..10 {
            let guard = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
            assert!(Arc::ptr_eq(guard.backend(), &backends[1]));
        }
        fail(&route, &backends[1], 10);
        let guard = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
        assert!(Arc::ptr_eq(guard.backend(), &backends[1]), "the last one stays in");
        backends[1].set_healthy(false);
        let guard = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
        assert!(Arc::ptr_eq(guard.backend(), &backends[0]), "the probes took the other one out");
        route.note_success(&guard);
        assert!(!guard.passive().is_out());
    }

    #[test]
    fn what_a_client_can_provoke_takes_nobody_out() {
        let route = Route::for_tests(2, |_| ());
        let backends = route.backends();
        for cause in [
            Cause::ClientLeft,
            Cause::BodyTimeout,
            Cause::ResponseTimeout,
            Cause::BadResponse,
            Cause::BadBody,
        ] {
            (0..10).for_each(|_| route.note_failure(&backends[0], cause));
        }
        assert!(!backends[0].passive().is_out());
    }

    #[test]
    fn after_its_time_one_request_at_a_time_asks_whether_it_is_back() {
        let route = Route::for_tests(2, |config| config.fail_timeout = Duration::from_millis(1));
        let backends = route.backends();
        fail(&route, &backends[0], 3);
        std::thread::sleep(Duration::from_millis(5));
        let held: Vec<_> =
            (0..10).map(|_| route.find_backend(&PickRequest::ANYONE, &[], None).unwrap()).collect();
        assert_eq!(backends[0].in_flight(), 1);
        drop(held);
        route.note_success(&backends[0]);
        let held: Vec<_> =
            (0..10).map(|_| route.find_backend(&PickRequest::ANYONE, &[], None).unwrap()).collect();
        assert_eq!(backends[0].in_flight(), 5);
        drop(held);
    }

    #[test]
    fn tells_once_that_no_healthy_backend_is_left() {
        let route = Route::for_tests(2, |_| ());
        let [a, b] = &route.backends()[..] else { panic!("two backends") };
        a.set_healthy(false);
        assert!(!route.health_changed(), "one is left");
        b.set_healthy(false);
        assert!(route.health_changed());
        assert!(!route.health_changed(), "told already");
        a.set_healthy(true);
        assert!(!route.health_changed());
        a.set_healthy(false);
        assert!(route.health_changed(), "gone again");
    }
}
