//! Finding a backend for an exchange: who may be used, in what order of preference, and what happens while all are
//! full. Of several pools, `split.rs` says in what order they are asked; which of the backends that may be used it is, the
//! balancer of the pool.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::pool::Tier;
use super::split::Split;
use super::{Pool, Route};
use crate::balance::backend::{Standing, now_millis};
use crate::balance::line::{InLines, Wake};
use crate::balance::{Backend, BackendGuard, LoadBalancer, PickRequest, StickyCookie};
use crate::error::Cause;
use crate::http::fields::Fields;

/// A balancer that was overtaken asks again so many times before the backends count as busy.
const PICK_TRIES: usize = 8;

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

/// A thread that waits in line.
#[derive(Debug)]
struct Parked(Thread);

impl Wake for Parked {
    fn wake(&self) {
        self.0.unpark();
    }
}

impl Route {
    /// Finds a backend for an exchange that has failed on the `tried` ones, as [`choose`](Self::choose) does, on a thread
    /// that can wait: while all are full, in line until `queue_timeout_secs` or `deadline`; while none can be had, for
    /// `hold_secs`.
    ///
    /// # Errors
    /// [`Cause::NoHealthyBackend`], [`Cause::BackendsBusy`], or [`Cause::NameNotResolved`] while no name has an address.
    pub fn find_backend(
        &self,
        request: &PickRequest<'_>,
        tried: &[Arc<Backend>],
        deadline: Option<Instant>,
    ) -> Result<BackendGuard, Cause> {
        let started = Instant::now();
        let mut none_since = None;
        let mut lines: Option<InLines> = None;
        loop {
            let was_called = lines.as_mut().is_some_and(InLines::take_calls);
            let (cause, until) = match self.choose(request, tried) {
                Pick::Backend(guard) => {
                    if let Some(lines) = lines {
                        lines.pass_on_but(Some(guard.line()));
                    }
                    return Ok(guard);
                }
                Pick::Busy => (Cause::BackendsBusy, started + self.config.queue_timeout),
                Pick::None => {
                    (self.nobody(), *none_since.get_or_insert_with(Instant::now) + self.config.hold)
                }
            };
            let until = deadline.map_or(until, |deadline| deadline.min(until));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(cause);
            }
            match &lines {
                None => lines = Some(self.join_lines(&|| Box::new(Parked(thread::current())))),
                Some(lines) => {
                    if was_called {
                        lines.pass_on_but(None);
                    }
                    thread::park_timeout(self.next_trial().map_or(left, |trial| trial.min(left)));
                }
            }
        }
    }

    /// The turn of an exchange, where several pools take turns. It takes one, however often it looks for a backend; a client
    /// that stays in its pool takes none.
    pub(crate) fn take_turn(&self, fields: &Fields) -> Option<usize> {
        let split = self.split.as_ref()?;
        self.bound(split, fields).is_none().then(|| split.take_turn())
    }

    /// The pool that a client with these fields stays in.
    fn bound(&self, split: &Split, fields: &Fields) -> Option<usize> {
        self.config.sticky_cookie.as_ref().and_then(|cookie| split.bound(&cookie.name, fields))
    }

    /// A place in the line of each of its pools, for who has found no backend and waits for one.
    pub(crate) fn join_lines(&self, wake: &dyn Fn() -> Box<dyn Wake>) -> InLines {
        InLines::join(self.pools().iter().map(|pool| &pool.line), wake)
    }

    /// Exchanges that wait for a backend. Who waits for one of several pools is in the line of each.
    pub(crate) fn waiting(&self) -> usize {
        self.pool.line.waiting()
    }

    /// Why there is no backend at all.
    pub(crate) fn nobody(&self) -> Cause {
        if self.pools().iter().all(|pool| pool.group.load().backends.is_empty()) {
            Cause::NameNotResolved
        } else {
            Cause::NoHealthyBackend
        }
    }

    /// In how long a backend that failures have taken out may be asked again, the soonest of them. Nobody is called then.
    pub(crate) fn next_trial(&self) -> Option<Duration> {
        let now = now_millis();
        let next = self.pools().iter().filter_map(|pool| {
            let group = pool.group.load();
            group.backends.iter().filter_map(|backend| backend.passive().returns_in(now)).min()
        });
        Some(Duration::from_millis(next.min()?.max(1)))
    }

    /// Picks one that was not tried; then, one that was. Backups come after all others that can be had, whether those were
    /// tried or not. One that the exchanges, not the probes, have taken out comes last, but before none at all.
    #[must_use]
    pub fn choose(&self, request: &PickRequest<'_>, tried: &[Arc<Backend>]) -> Pick {
        match self.pick(request, tried) {
            Pick::None if !tried.is_empty() => self.pick(request, &[]),
            pick => pick,
        }
    }

    /// Picks a backend that is not among `tried`, and counts the exchange on it.
    #[must_use]
    pub fn pick(&self, request: &PickRequest<'_>, tried: &[Arc<Backend>]) -> Pick {
        let Some(split) = &self.split else {
            return match self.pick_in(&self.pool, request, tried, Among::InOrder) {
                Pick::None => self.pick_in(&self.pool, request, tried, Among::All),
                pick => pick,
            };
        };
        let bound = self.bound(split, request.fields);
        let mut turn = request.turn;
        for among in [Among::InOrder, Among::All] {
            let mut is_busy = false;
            let found = split.ask(bound, &mut turn, |pool| match self.pick_in(pool, request, tried, among) {
                Pick::Backend(guard) => Some(guard),
                Pick::Busy => {
                    is_busy = true;
                    None
                }
                Pick::None => None,
            });
            match found {
                Some(guard) => return Pick::Backend(guard),
                None if is_busy => return Pick::Busy,
                None => {}
            }
        }
        Pick::None
    }

    /// The same, in one pool and among these of its backends.
    fn pick_in(&self, pool: &Pool, request: &PickRequest<'_>, tried: &[Arc<Backend>], among: Among) -> Pick {
        let group = pool.group.load();
        let from = |tier: &Tier, may_use: &dyn Fn(&Backend) -> bool, room: &dyn Fn(&Backend) -> usize| {
            let sticky = self.config.sticky_cookie.as_ref();
            let sticky = sticky.map(|cookie| StickyCookie::new(cookie, &tier.by_id, &*tier.balancer));
            let balancer = sticky.as_ref().map_or(&*tier.balancer, |sticky| sticky as &dyn LoadBalancer);
            pick(balancer, request, may_use, room)
        };
        let limit = pool.config().max_in_flight_per_backend.map_or(usize::MAX, NonZeroUsize::get);
        let untried =
            |backend: &Backend| !tried.iter().any(|tried| std::ptr::eq(Arc::as_ptr(tried), backend));
        if pool.fails_open() {
            let ready = |backend: &Backend| backend.standing() == Standing::Ready && untried(backend);
            return match from(group.all(), &ready, &|_| limit) {
                Some(guard) => Pick::Backend(guard),
                None if group.all().has(ready) => Pick::Busy,
                None => Pick::None,
            };
        }
        let healthy = |backend: &Backend| backend.is_available() && untried(backend);
        if among == Among::All {
            for tier in group.tiers() {
                if let Some(guard) = from(tier, &healthy, &|_| limit) {
                    return Pick::Backend(guard);
                }
                if tier.has(healthy) {
                    return Pick::Busy;
                }
            }
            return Pick::None;
        }
        let in_order = |backend: &Backend| healthy(backend) && !backend.passive().is_out();
        let now = std::cell::OnceCell::new();
        let on_trial = |backend: &Backend| {
            healthy(backend) && backend.passive().may_be_tried(*now.get_or_init(now_millis))
        };
        // One request at a time asks a backend that is out whether it is back.
        let room = |backend: &Backend| if backend.passive().is_out() { limit.min(1) } else { limit };
        for tier in group.tiers() {
            if let Some(guard) = from(tier, &|backend| in_order(backend) || on_trial(backend), &room) {
                return Pick::Backend(guard);
            }
            // Where one is only full, it is waited for: backups are for when there is none.
            if tier.has(in_order) {
                return Pick::Busy;
            }
        }
        Pick::None
    }
}

/// Which backends a pick is among.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    /// Those that neither probes nor exchanges have taken out, and those that may be asked whether they are back.
    InOrder,
    /// Those that exchanges have taken out as well: better to ask one that has failed lately than to ask nobody.
    All,
}

/// Picks one of those that `may_use` allows and that carry fewer exchanges than their `room`.
fn pick(
    balancer: &dyn LoadBalancer,
    request: &PickRequest<'_>,
    may_use: &dyn Fn(&Backend) -> bool,
    room: &dyn Fn(&Backend) -> usize,
) -> Option<BackendGuard> {
    // Between the look and the count others may have taken the last place.
    (0..PICK_TRIES)
        .map_while(|_| {
            balancer.pick(request, &|backend| may_use(backend) && backend.in_flight() < room(backend))
        })
        .find(|guard| guard.in_flight() <= room(guard))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::{Algorithm, HashOn};

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
            Algorithm::LeastTime,
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
            config.queue_timeout = Duration::from_millis(20);
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
            config.queue_timeout = Duration::from_secs(60);
        });
        for _ in 0..50 {
            let held = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
            thread::scope(|scope| {
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
            config.queue_timeout = Duration::from_secs(60);
        });
        for _ in 0..20 {
            let mut held: Vec<_> =
                (0..2).map(|_| route.find_backend(&PickRequest::ANYONE, &[], None).unwrap()).collect();
            let (freed, kept) = (held.remove(0), held.remove(0));
            let tried = [Arc::clone(freed.backend())];
            let deadline = Instant::now() + Duration::from_secs(20);
            thread::scope(|scope| {
                let picky = scope.spawn(|| {
                    let guard = route.find_backend(&PickRequest::ANYONE, &tried, None).unwrap();
                    !Arc::ptr_eq(guard.backend(), &tried[0])
                });
                // First in line.
                while route.waiting() < 1 {
                    thread::yield_now();
                }
                let any =
                    scope.spawn(|| route.find_backend(&PickRequest::ANYONE, &[], Some(deadline)).map(drop));
                while route.waiting() < 2 {
                    thread::yield_now();
                }
                let started = Instant::now();
                drop(freed);
                assert_eq!(any.join().unwrap(), Ok(()));
                assert!(started.elapsed() < Duration::from_secs(10), "only found at the deadline");
                drop(kept);
                assert!(picky.join().unwrap());
            });
        }
    }

    /// Who waits is woken by whatever brings a backend, not by time.
    #[test]
    fn a_backend_that_comes_back_is_not_missed_by_who_waits() {
        let route = Route::for_tests(2, |config| {
            config.max_in_flight_per_backend = NonZeroUsize::new(1);
            config.queue_timeout = Duration::from_secs(60);
            config.fail_timeout = Duration::from_millis(50);
            config.max_fails = 1;
        });
        let [a, b] = &route.backends()[..] else { panic!("two backends") };
        let waits_for = |back: &dyn Fn()| {
            let held = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
            assert!(Arc::ptr_eq(held.backend(), a));
            let started = Instant::now();
            thread::scope(|scope| {
                let waiter = scope.spawn(|| route.find_backend(&PickRequest::ANYONE, &[], None).unwrap());
                // On a slow machine the time of one that is out may be over before it waits at all.
                while route.waiting() == 0 && !waiter.is_finished() {
                    thread::yield_now();
                }
                back();
                assert!(Arc::ptr_eq(waiter.join().unwrap().backend(), b));
            });
            assert!(started.elapsed() < Duration::from_secs(20), "only found at the time-out");
        };
        b.set_healthy(false);
        waits_for(&|| {
            b.set_healthy(true);
            route.health_changed();
        });
        route.note_failure(b, Cause::ConnectRefused);
        assert!(b.passive().is_out());
        waits_for(&|| ());
    }

    #[test]
    fn the_time_in_line_is_not_taken_from_the_time_held() {
        let route = Route::for_tests(1, |config| {
            config.max_in_flight_per_backend = NonZeroUsize::new(1);
            config.queue_timeout = Duration::from_secs(60);
            config.hold = Duration::from_millis(1500);
        });
        let backend = Arc::clone(&route.backends()[0]);
        let held = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| route.find_backend(&PickRequest::ANYONE, &[], None).map(drop));
            thread::sleep(Duration::from_millis(1700));
            backend.set_healthy(false);
            route.health_changed();
            thread::sleep(Duration::from_millis(100));
            assert!(!waiter.is_finished(), "it is held");
            drop(held);
            backend.set_healthy(true);
            route.health_changed();
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn while_there_is_none_one_is_waited_for_if_the_route_says_so() {
        let route = Route::for_tests(1, |config| config.hold = Duration::from_secs(60));
        let backend = Arc::clone(&route.backends()[0]);
        backend.set_healthy(false);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| route.find_backend(&PickRequest::ANYONE, &[], None).is_ok());
            while route.waiting() == 0 {
                thread::yield_now();
            }
            backend.set_healthy(true);
            route.health_changed();
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn nobody_waits_in_line_beyond_the_deadline() {
        let route = Route::for_tests(1, |config| {
            config.max_in_flight_per_backend = NonZeroUsize::new(1);
            config.queue_timeout = Duration::from_secs(60);
        });
        let _held = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
        let started = Instant::now();
        let deadline = Some(started + Duration::from_millis(20));
        let found = route.find_backend(&PickRequest::ANYONE, &[], deadline);
        assert_eq!(found.err(), Some(Cause::BackendsBusy));
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn the_limit_per_backend_is_never_exceeded() {
        let route = Route::for_tests(3, |config| config.max_in_flight_per_backend = NonZeroUsize::new(2));
        // Not the backend's own count: one more may look in there and go away again.
        let inside: [AtomicUsize; 3] = Default::default();
        let most = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let guard = route.find_backend(&PickRequest::ANYONE, &[], None).unwrap();
                        let backends = route.backends();
                        let at = backends.iter().position(|backend| Arc::ptr_eq(backend, guard.backend()));
                        let inside = &inside[at.unwrap()];
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 2);
        assert!(route.backends().iter().all(|backend| backend.in_flight() == 0));
    }
}
