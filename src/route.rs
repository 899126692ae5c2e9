//! [`Route`]: a prefix, its backends, and how many exchanges it carries.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::balance::backend::now_millis;
use crate::balance::line::Line;
use crate::balance::passive::PassivePolicy;
use crate::balance::{Backend, BackendGuard, LoadBalancer, PickRequest, balancer};
use crate::config::RouteConfig;
use crate::error::{Blame, Cause};
use crate::upstream::agent::Upstream;
use crate::upstream::names::{self, Lookup};

/// A balancer that was overtaken asks again so many times before the backends count as busy.
const PICK_TRIES: usize = 8;

/// One `[[routes]]` table at work.
#[derive(Debug)]
pub struct Route {
    config: RouteConfig,
    passive: PassivePolicy,
    /// Swapped as a whole when a name has got other addresses; an exchange keeps the one it picked from.
    group: ArcSwap<Group>,
    /// Where exchanges wait while all backends are full.
    line: Arc<Line>,
    /// Written by [`enter`](Self::enter) and the drop of [`RouteGuard`] alone. It guards no other data, and that it
    /// never exceeds the limit follows from its being changed by compare-and-swap: `Relaxed`.
    in_flight: AtomicUsize,
    /// Whether the log was last told that a healthy backend is left. Taken by the probes of this route alone, after
    /// they set a backend's health, never on the request path. A lock because looking at all backends and noting
    /// what was seen must be one step: else the older of two sights could be the one that stays.
    known_healthy: Mutex<bool>,
    /// Held while failures take a backend out: of two that fail at the same moment, one has to stay.
    taking_out: Mutex<()>,
    /// The names were looked up for the first time. Set once, before others see the route: `Relaxed`.
    names_known: AtomicBool,
}

/// The backends of a route, and who chooses among them.
#[derive(Debug)]
struct Group {
    backends: Vec<Arc<Backend>>,
    balancer: Box<dyn LoadBalancer>,
}

impl Group {
    /// Picks one of those that `may_use` allows and that carry fewer exchanges than their `room`.
    fn pick(
        &self,
        request: &PickRequest<'_>,
        may_use: &dyn Fn(&Backend) -> bool,
        room: &dyn Fn(&Backend) -> usize,
    ) -> Option<BackendGuard> {
        // Between the look and the count others may have taken the last place.
        (0..PICK_TRIES)
            .map_while(|_| {
                self.balancer
                    .pick(request, &|backend| may_use(backend) && backend.in_flight() < room(backend))
            })
            .find(|guard| guard.in_flight() <= room(guard))
    }
}

/// What became of the search for a backend.
#[derive(Debug)]
pub enum Pick {
    /// This one; the exchange is counted on it.
    Backend(BackendGuard),
    /// All that could be used carry as many exchanges as they may.
    Busy,
    /// There is none.
    None,
}

impl Route {
    /// A route that carries nothing yet, in front of `backends`, which have the same `line`.
    pub(crate) fn with_line(config: RouteConfig, backends: Vec<Arc<Backend>>, line: Arc<Line>) -> Self {
        let passive = PassivePolicy {
            max_fails: config.max_fails,
            fail_timeout: config.fail_timeout,
            probed: config.health_check.is_some(),
        };
        let known_healthy = Mutex::new(backends.iter().any(|backend| backend.is_healthy()));
        let balancer = balancer(&config, &backends);
        Self {
            config,
            passive,
            group: ArcSwap::from_pointee(Group { backends, balancer }),
            line,
            in_flight: AtomicUsize::new(0),
            known_healthy,
            taking_out: Mutex::default(),
            names_known: AtomicBool::new(false),
        }
    }

    /// A route whose backends are made from its configuration; names are looked up, which may take a while.
    ///
    /// # Errors
    /// An address can't be used.
    pub fn build(config: &RouteConfig) -> io::Result<Self> {
        let route = Self::with_line(config.clone(), Vec::new(), Arc::default());
        let backends = route.look_up(&names::system, &[])?;
        route.names_known.store(true, Ordering::Relaxed);
        let balancer = balancer(config, &backends);
        *lock(&route.known_healthy) = !backends.is_empty();
        route.group.store(Arc::new(Group { backends, balancer }));
        Ok(route)
    }

    /// Its table in the configuration; the prefix names it in logs.
    #[must_use]
    pub fn config(&self) -> &RouteConfig {
        &self.config
    }

    /// Its backends now, in the order of the configuration.
    #[must_use]
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        self.group.load().backends.clone()
    }

    /// Whether the addresses of its backends may change.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.config.backends.iter().any(|entry| names::is_name(&entry.addr))
    }

    /// Looks the names of its backends up again. An address that stays keeps its backend with its health and counts; a
    /// name that can't be looked up keeps the addresses it had.
    pub fn look_up_names(&self, lookup: Lookup<'_>) {
        let before = self.backends();
        let after = match self.look_up(lookup, &before) {
            Ok(after) => after,
            Err(error) => {
                log::warn!("backends stay as they are route={} reason={error}", self.config.prefix);
                return;
            }
        };
        let same = before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| Arc::ptr_eq(a, b));
        if same {
            return;
        }
        let labels = after.iter().map(|backend| backend.label()).collect::<Vec<_>>().join(",");
        log::info!("addresses changed route={} backends={labels}", self.config.prefix);
        let balancer = balancer(&self.config, &after);
        self.group.store(Arc::new(Group { backends: after, balancer }));
        self.health_changed();
    }

    fn look_up(&self, lookup: Lookup<'_>, before: &[Arc<Backend>]) -> io::Result<Vec<Arc<Backend>>> {
        let mut backends = Vec::new();
        for entry in &self.config.backends {
            let of_entry = |backend: &&Arc<Backend>| backend.config() == entry;
            match names::addresses(&entry.addr, lookup) {
                Ok(addresses) => {
                    for resolved in addresses {
                        let known =
                            before.iter().filter(of_entry).find(|backend| backend.resolved() == resolved);
                        backends.push(match known {
                            Some(backend) => Arc::clone(backend),
                            None => {
                                let upstream = Upstream::new(&entry.addr, resolved, &self.config)?;
                                let line = Arc::clone(&self.line);
                                Arc::new(Backend::new(entry.clone(), resolved, upstream, line))
                            }
                        });
                    }
                }
                Err(error) => {
                    let known = before.iter().filter(of_entry).cloned();
                    let count = backends.len();
                    backends.extend(known);
                    let (addr, route) = (&entry.addr, &self.config.prefix);
                    if backends.len() > count {
                        log::debug!("kept the addresses of backend={addr} route={route}: {error}");
                    } else if self.names_known.load(Ordering::Relaxed) {
                        log::debug!("still no address for backend={addr} route={route}: {error}");
                    } else {
                        // Said once, at the start: a name that has had an address keeps it.
                        log::warn!("no address for backend={addr} route={route}: {error}");
                    }
                }
            }
        }
        Ok(backends)
    }

    /// Exchanges it is carrying now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts an exchange on this route for as long as the guard lives. `None` when it carries `max_in_flight`
    /// already.
    #[must_use]
    pub fn enter(&self) -> Option<RouteGuard<'_>> {
        let limit = self.config.max_in_flight.get();
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
            .ok()?;
        Some(RouteGuard { route: self })
    }

    /// Whether the probes leave any backend healthy.
    #[must_use]
    pub fn has_healthy(&self) -> bool {
        self.group.load().backends.iter().any(|backend| backend.is_healthy())
    }

    /// Finds a backend for an exchange that has failed on the `tried` ones, and counts it there. One that was not tried
    /// comes first; one that the exchanges, not the probes, have taken out comes last, but before none at all. While all
    /// are full, waits in line until `queue_timeout_secs` or `deadline`.
    ///
    /// # Errors
    /// [`Cause::NoHealthyBackend`], [`Cause::BackendsBusy`], or [`Cause::NameNotResolved`] while no name has an address.
    pub fn find_backend(
        &self,
        request: &PickRequest<'_>,
        tried: &[Arc<Backend>],
        deadline: Option<Instant>,
    ) -> Result<BackendGuard, Cause> {
        let look = || match self.pick(request, tried) {
            Pick::None if !tried.is_empty() => self.pick(request, &[]),
            pick => pick,
        };
        match look() {
            Pick::Backend(guard) => return Ok(guard),
            Pick::None if self.group.load().backends.is_empty() => return Err(Cause::NameNotResolved),
            Pick::None => return Err(Cause::NoHealthyBackend),
            Pick::Busy => {}
        }
        let patience = Instant::now() + self.config.queue_timeout;
        let patience = deadline.map_or(patience, |deadline| deadline.min(patience));
        let found = self.line.wait(patience, !tried.is_empty(), || match look() {
            Pick::Backend(guard) => Some(guard),
            Pick::Busy | Pick::None => None,
        });
        found.ok_or(Cause::BackendsBusy)
    }

    /// Picks a backend that is not among `tried`, and counts the exchange on it.
    #[must_use]
    pub fn pick(&self, request: &PickRequest<'_>, tried: &[Arc<Backend>]) -> Pick {
        let group = self.group.load();
        let limit = self.config.max_in_flight_per_backend.map_or(usize::MAX, NonZeroUsize::get);
        let untried =
            |backend: &Backend| !tried.iter().any(|tried| std::ptr::eq(Arc::as_ptr(tried), backend));
        let healthy = |backend: &Backend| backend.is_healthy() && untried(backend);
        let in_order = |backend: &Backend| healthy(backend) && !backend.passive().is_out();
        let now = std::cell::OnceCell::new();
        let on_trial = |backend: &Backend| {
            healthy(backend) && backend.passive().may_be_tried(*now.get_or_init(now_millis))
        };

        // One request at a time asks a backend that is out whether it is back.
        let room = |backend: &Backend| if backend.passive().is_out() { limit.min(1) } else { limit };
        if let Some(guard) = group.pick(request, &|backend| in_order(backend) || on_trial(backend), &room) {
            return Pick::Backend(guard);
        }
        if group.backends.iter().any(|backend| in_order(backend)) {
            return Pick::Busy;
        }
        // Better to ask one that has failed lately than to ask nobody.
        if let Some(guard) = group.pick(request, &healthy, &|_| limit) {
            return Pick::Backend(guard);
        }
        if group.backends.iter().any(|backend| healthy(backend)) { Pick::Busy } else { Pick::None }
    }

    /// An exchange on `backend` went well.
    pub(crate) fn note_success(&self, backend: &Backend) {
        if backend.passive().succeeded() {
            let (route, label) = (&self.config.prefix, backend.label());
            // Who reads that it went can read that it came back.
            if backend.told_out(false) {
                log::info!("backend answers again route={route} backend={label}");
            } else {
                log::debug!("backend answers again route={route} backend={label}");
            }
        }
    }

    /// An exchange on `backend` failed, and `cause` says why. What a client could have brought about does not count:
    /// only that it can't be connected to, or does not answer in time.
    pub(crate) fn note_failure(&self, backend: &Backend, cause: Cause) {
        let counts = matches!(
            cause,
            Cause::ConnectRefused
                | Cause::ConnectTimeout
                | Cause::ConnectFailed
                | Cause::TlsFailed(_)
                | Cause::ResponseTimeout
        );
        let (route, label) = (&self.config.prefix, backend.label());
        if cause.blame() == Blame::Upstream {
            log::debug!("backend failed route={route} backend={label} cause={cause}");
        }
        let now = now_millis();
        if !counts || !backend.passive().failed(&self.passive, now) {
            return;
        }
        let held = lock(&self.taking_out);
        let is_in = |other: &&Arc<Backend>| other.is_healthy() && !other.passive().is_out();
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
            "backend taken out"
        } else if another_is_in {
            "backend still fails"
        } else {
            "backend fails, but is the last one and stays in"
        };
        let fails = self.passive.max_fails;
        if backend.may_log(now) {
            backend.told_out(backend.passive().is_out());
            log::warn!("{what} route={route} backend={label} cause={cause} consecutive_failures={fails}");
        } else {
            log::debug!("{what} route={route} backend={label} cause={cause}");
        }
    }

    /// Tells the log when the last healthy backend is gone, once until one is back. Whoever changes the health of a
    /// backend calls this afterwards. Returns whether it had something to tell.
    pub(crate) fn health_changed(&self) -> bool {
        let none_left = {
            let mut known = lock(&self.known_healthy);
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
        let line = Arc::new(Line::default());
        use std::num::NonZeroUsize;
        let backends: Vec<_> =
            (0..backends).map(|port| Arc::new(Backend::in_line_for_tests(port, Arc::clone(&line)))).collect();
        let entries = backends.iter().map(|backend| backend.config().clone()).collect();
        let server = crate::config::ServerConfig::default();
        let mut config = RouteConfig::new(crate::routing::Prefix::for_tests("/api"), entries, &server);
        config.max_in_flight = NonZeroUsize::MAX;
        change(&mut config);
        Arc::new(Self::with_line(config, backends, line))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one exchange on its route for as long as it lives, whatever ends it: success, error, panic.
#[derive(Debug)]
pub struct RouteGuard<'a> {
    route: &'a Route,
}

impl Drop for RouteGuard<'_> {
    fn drop(&mut self) {
        self.route.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Barrier;

    use super::*;
    use crate::config::{Algorithm, BackendConfig, HashOn};

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

    fn picked(pick: Pick) -> Option<BackendGuard> {
        match pick {
            Pick::Backend(guard) => Some(guard),
            Pick::Busy | Pick::None => None,
        }
    }

    #[test]
    fn pick_avoids_the_tried_and_the_unhealthy() {
        for algorithm in [
            Algorithm::RoundRobin,
            Algorithm::LeastConnections,
            Algorithm::RandomTwoChoices,
            Algorithm::WeightedRoundRobin,
            Algorithm::ConsistentHash(HashOn::ClientAddress),
        ] {
            let route = Route::for_tests(4, |config| config.algorithm = algorithm);
            route.backends()[1].set_healthy(false);
            let mut tried = Vec::new();
            while let Some(picked) = picked(route.pick(&PickRequest::ANYONE, &tried)) {
                assert!(picked.is_healthy());
                assert_eq!(picked.in_flight(), 1);
                tried.push(Arc::clone(picked.backend()));
            }
            assert_eq!(tried.len(), 3);
            assert!(route.has_healthy());
            assert!(
                route.find_backend(&PickRequest::ANYONE, &tried, None).is_ok(),
                "better one that was tried than none"
            );
            assert!(route.backends().iter().all(|backend| backend.in_flight() == 0));
        }
    }

    #[test]
    fn nothing_to_pick_when_all_are_unhealthy() {
        let route = Route::for_tests(2, |_| ());
        for backend in route.backends() {
            backend.set_healthy(false);
        }
        assert!(!route.has_healthy());
        assert!(matches!(route.pick(&PickRequest::ANYONE, &[]), Pick::None));
        assert_eq!(route.find_backend(&PickRequest::ANYONE, &[], None).err(), Some(Cause::NoHealthyBackend));
    }

    #[test]
    fn full_backends_are_passed_over_and_then_waited_for() {
        let route = Route::for_tests(2, |config| {
            config.max_in_flight_per_backend = NonZeroUsize::new(2);
            config.queue_timeout = std::time::Duration::from_millis(20);
        });
        let mut held: Vec<_> =
            (0..4).map(|_| route.find_backend(&PickRequest::ANYONE, &[], None).unwrap()).collect();
        assert!(route.backends().iter().all(|backend| backend.in_flight() == 2));
        assert_eq!(route.find_backend(&PickRequest::ANYONE, &[], None).err(), Some(Cause::BackendsBusy));
        let freed = Arc::clone(held.pop().unwrap().backend());
        let next = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
        assert!(Arc::ptr_eq(next.backend(), &freed));
    }

    #[test]
    fn who_waits_in_line_is_called_when_a_backend_becomes_free() {
        let route = Route::for_tests(1, |config| {
            config.max_in_flight_per_backend = NonZeroUsize::new(1);
            config.queue_timeout = std::time::Duration::from_secs(60);
        });
        for _ in 0..50 {
            let held = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| route.find_backend(&PickRequest::ANYONE, &[], None).is_ok());
                drop(held);
                assert!(waiter.join().unwrap());
            });
        }
    }

    /// Who can't use what has become free must not keep it from who can.
    #[test]
    fn a_free_backend_is_not_lost_on_who_does_not_want_it() {
        let route = Route::for_tests(2, |config| {
            config.max_in_flight_per_backend = NonZeroUsize::new(1);
            config.queue_timeout = std::time::Duration::from_secs(60);
        });
        for _ in 0..20 {
            let mut held: Vec<_> =
                (0..2).map(|_| route.find_backend(&PickRequest::ANYONE, &[], None).unwrap()).collect();
            let (freed, kept) = (held.remove(0), held.remove(0));
            let tried = [Arc::clone(freed.backend())];
            let deadline = Instant::now() + std::time::Duration::from_secs(20);
            std::thread::scope(|scope| {
                let picky = scope.spawn(|| {
                    let guard = route.find_backend(&PickRequest::ANYONE, &tried, None).unwrap();
                    !Arc::ptr_eq(guard.backend(), &tried[0])
                });
                // First in line.
                while route.line.waiting() < 1 {
                    std::thread::yield_now();
                }
                let any =
                    scope.spawn(|| route.find_backend(&PickRequest::ANYONE, &[], Some(deadline)).map(drop));
                while route.line.waiting() < 2 {
                    std::thread::yield_now();
                }
                let started = Instant::now();
                drop(freed);
                assert_eq!(any.join().unwrap(), Ok(()));
                assert!(started.elapsed() < std::time::Duration::from_secs(10), "only found at the deadline");
                drop(kept);
                assert!(picky.join().unwrap());
            });
        }
    }

    #[test]
    fn nobody_waits_in_line_beyond_the_deadline() {
        let route = Route::for_tests(1, |config| {
            config.max_in_flight_per_backend = NonZeroUsize::new(1);
            config.queue_timeout = std::time::Duration::from_secs(60);
        });
        let _held = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
        let started = Instant::now();
        let deadline = Some(started + std::time::Duration::from_millis(20));
        let found = route.find_backend(&PickRequest::ANYONE, &[], deadline);
        assert_eq!(found.err(), Some(Cause::BackendsBusy));
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn the_limit_per_backend_is_never_exceeded() {
        let route = Route::for_tests(3, |config| config.max_in_flight_per_backend = NonZeroUsize::new(2));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let guard = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
                        // One more may look in and go away again.
                        assert!(guard.in_flight() <= 2 + 8);
                    }
                });
            }
        });
        assert!(route.backends().iter().all(|backend| backend.in_flight() == 0));
    }

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
        for cause in
            [Cause::ClientLeft, Cause::BodyTimeout, Cause::BackendClosed, Cause::BadResponse, Cause::BadBody]
        {
            (0..10).for_each(|_| route.note_failure(&backends[0], cause));
        }
        assert!(!backends[0].passive().is_out());
    }

    #[test]
    fn after_its_time_one_request_at_a_time_asks_whether_it_is_back() {
        let route = Route::for_tests(2, |config| config.fail_timeout = std::time::Duration::from_millis(1));
        let backends = route.backends();
        fail(&route, &backends[0], 3);
        std::thread::sleep(std::time::Duration::from_millis(5));
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
    fn a_name_is_followed_to_its_addresses() {
        let route = Route::for_tests(0, |config| {
            let addr = "app.test:80".parse().unwrap();
            config.backends = vec![BackendConfig { addr, weight: std::num::NonZeroU32::MIN }];
        });
        let addresses = |list: &'static [&'static str]| {
            move |_: &str, _: u16| Ok(list.iter().map(|addr| addr.parse().unwrap()).collect())
        };
        let labels = || route.backends().iter().map(|backend| backend.label().to_owned()).collect::<Vec<_>>();
        assert_eq!(route.find_backend(&PickRequest::ANYONE, &[], None).err(), Some(Cause::NameNotResolved));
        route.look_up_names(&addresses(&["10.0.0.2:80", "10.0.0.1:80", "10.0.0.2:80"]));
        assert_eq!(labels(), ["app.test:80/10.0.0.1:80", "app.test:80/10.0.0.2:80"]);
        let kept = Arc::clone(&route.backends()[1]);
        kept.set_healthy(false);
        route.look_up_names(&addresses(&["10.0.0.2:80", "10.0.0.3:80"]));
        assert_eq!(labels(), ["app.test:80/10.0.0.2:80", "app.test:80/10.0.0.3:80"]);
        assert!(Arc::ptr_eq(&kept, &route.backends()[0]), "its health and counts go with it");
        route.look_up_names(&|_, _| Err(io::ErrorKind::TimedOut.into()));
        assert_eq!(labels().len(), 2, "a resolver that fails changes nothing");
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
