//! [`Route`]: a prefix, its backends, and how many exchanges it carries.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::balance::{Backend, BackendGuard, LoadBalancer, balancer};
use crate::config::RouteConfig;

/// One `[[routes]]` table at work.
#[derive(Debug)]
pub struct Route {
    config: RouteConfig,
    backends: Vec<Arc<Backend>>,
    balancer: Box<dyn LoadBalancer>,
    /// Written by [`enter`](Self::enter) and the drop of [`RouteGuard`] alone. It guards no other data, and that it
    /// never exceeds the limit follows from its being changed by compare-and-swap: `Relaxed`.
    in_flight: AtomicUsize,
    /// Whether the log was last told that a healthy backend is left. Taken by the probes of this route alone, after
    /// they set a backend's health, never on the request path. A lock because looking at all backends and noting
    /// what was seen must be one step: else the older of two sights could be the one that stays.
    known_healthy: Mutex<bool>,
}

impl Route {
    /// A route that carries nothing yet. `backends` belong to the entries of `config.backends`; their health and
    /// counts may have a history.
    #[must_use]
    pub fn new(config: RouteConfig, backends: Vec<Arc<Backend>>) -> Self {
        let balancer = balancer(config.algorithm, &backends);
        let known_healthy = Mutex::new(backends.iter().any(|backend| backend.is_healthy()));
        Self { config, backends, balancer, in_flight: AtomicUsize::new(0), known_healthy }
    }

    /// Its table in the configuration; the prefix names it in logs.
    #[must_use]
    pub fn config(&self) -> &RouteConfig {
        &self.config
    }

    /// Its backends, in the order of the configuration.
    #[must_use]
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Exchanges it is carrying now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts an exchange on this route for as long as the guard lives. `None` when it carries `max_in_flight`
    /// already.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<RouteGuard> {
        let limit = self.config.max_in_flight.get();
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then(|| count + 1))
            .ok()?;
        Some(RouteGuard { route: Arc::clone(self) })
    }

    /// Whether any backend is healthy.
    #[must_use]
    pub fn has_healthy(&self) -> bool {
        self.backends.iter().any(|backend| backend.is_healthy())
    }

    /// Picks a healthy backend that is not among `tried`, and counts the exchange on it. `None` when there is none:
    /// all are unhealthy (see [`has_healthy`](Self::has_healthy)), or the healthy ones have been tried.
    #[must_use]
    pub fn pick(&self, tried: &[Arc<Backend>]) -> Option<BackendGuard> {
        self.balancer.pick(&|backend| {
            backend.is_healthy() && !tried.iter().any(|tried| std::ptr::eq(Arc::as_ptr(tried), backend))
        })
    }

    /// Like [`pick`](Self::pick), but when all healthy ones have been tried, picks one of them again.
    #[must_use]
    pub fn pick_or_repeat(&self, tried: &[Arc<Backend>]) -> Option<BackendGuard> {
        self.pick(tried).or_else(|| self.pick(&[]))
    }

    /// Tells the log when the last healthy backend is gone, once until one is back. Whoever changes the health of a
    /// backend calls this afterwards. Returns whether it had something to tell.
    pub(crate) fn health_changed(&self) -> bool {
        let none_left = {
            let mut known = self.known_healthy.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.has_healthy();
            std::mem::replace(&mut *known, now) && !now
        };
        if none_left {
            log::warn!("no healthy backend left route={}", self.config.prefix.as_str());
        }
        none_left
    }

    /// A route with backends on ports 0, 1, 2 …
    #[cfg(test)]
    pub(crate) fn for_tests(backends: u16, change: impl FnOnce(&mut RouteConfig)) -> Arc<Self> {
        use std::num::NonZeroUsize;
        use std::time::Duration;

        let backends: Vec<_> = (0..backends).map(|port| Arc::new(Backend::for_tests(port))).collect();
        let mut config = RouteConfig {
            prefix: crate::routing::Prefix::for_tests("/api"),
            backends: backends.iter().map(|backend| backend.config().clone()).collect(),
            algorithm: crate::config::Algorithm::RoundRobin,
            health_check: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            deadline: None,
            max_body_bytes: None,
            retries: 1,
            max_in_flight: NonZeroUsize::MAX,
            preserve_host: false,
            tls: crate::config::TlsConfig::default(),
        };
        change(&mut config);
        Arc::new(Self::new(config, backends))
    }
}

/// Counts one exchange on its route for as long as it lives, whatever ends it: success, error, panic.
#[derive(Debug)]
pub struct RouteGuard {
    route: Arc<Route>,
}

impl RouteGuard {
    /// The route counted on.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }
}

impl Drop for RouteGuard {
    fn drop(&mut self) {
        self.route.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Barrier;

    use super::*;
    use crate::config::Algorithm;

    fn limited(max_in_flight: usize) -> Arc<Route> {
        Route::for_tests(1, |config| {
            config.max_in_flight = NonZeroUsize::new(max_in_flight).unwrap();
        })
    }

    #[test]
    fn enter_refuses_beyond_the_limit() {
        let route = limited(2);
        let first = route.enter().unwrap();
        let _second = route.enter().unwrap();
        assert!(route.enter().is_none());
        assert_eq!(route.in_flight(), 2, "a refused one is not counted");
        drop(first);
        assert!(route.enter().is_some());
        assert_eq!(route.in_flight(), 1);
    }

    #[test]
    fn a_panic_leaves_the_route() {
        let route = limited(1);
        let guard = route.enter();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = guard;
            panic!("an exchange went wrong");
        }));
        assert!(caught.is_err());
        assert_eq!(route.in_flight(), 0);
    }

    /// Eight threads enter at once, 100 times: exactly five get in each time, not one fewer.
    #[test]
    fn the_limit_is_exact_under_threads() {
        let route = limited(5);
        let (entered, counted) = (Barrier::new(8), Barrier::new(8));
        let entries = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let guard = route.enter();
                        entries.fetch_add(usize::from(guard.is_some()), Ordering::Relaxed);
                        entered.wait();
                        drop(guard);
                        counted.wait();
                    }
                });
            }
        });
        assert_eq!(entries.into_inner(), 500);
        assert_eq!(route.in_flight(), 0);
    }

    #[test]
    fn pick_avoids_the_tried_and_the_unhealthy() {
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections] {
            let route = Route::for_tests(4, |config| config.algorithm = algorithm);
            route.backends()[1].set_healthy(false);
            let mut tried = Vec::new();
            while let Some(picked) = route.pick(&tried) {
                assert!(picked.is_healthy());
                assert_eq!(picked.in_flight(), 1);
                tried.push(Arc::clone(picked.backend()));
            }
            assert_eq!(tried.len(), 3);
            assert!(route.has_healthy());
            assert!(route.pick_or_repeat(&tried).is_some());
            assert!(route.backends().iter().all(|backend| backend.in_flight() == 0));
        }
    }

    #[test]
    fn pick_or_repeat_prefers_the_untried() {
        let route = Route::for_tests(2, |_| ());
        for _ in 0..10 {
            let first = route.pick(&[]).unwrap();
            let second = route.pick_or_repeat(&[Arc::clone(first.backend())]).unwrap();
            assert!(!Arc::ptr_eq(first.backend(), second.backend()));
        }
    }

    #[test]
    fn nothing_to_pick_when_all_are_unhealthy() {
        let route = Route::for_tests(2, |_| ());
        for backend in route.backends() {
            backend.set_healthy(false);
        }
        assert!(!route.has_healthy());
        assert!(route.pick(&[]).is_none());
        assert!(route.pick_or_repeat(&[]).is_none());
    }

    #[test]
    fn tells_once_that_no_healthy_backend_is_left() {
        let route = Route::for_tests(2, |_| ());
        let [a, b] = route.backends() else { panic!("two backends") };
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
