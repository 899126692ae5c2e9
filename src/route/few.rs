//! What a pool does when few of its backends are left: its backups are used, and with `min_healthy`, backends are tried
//! although they are not healthy. Who may be picked then is in `pick.rs`; here is when it begins and ends, and what the log
//! is told of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::pool::{Pool, lock};
use crate::balance::backend::{LOG_PAUSE, Standing, now_millis};
use crate::balance::passive::Millis;

/// What is the case now.
///
/// The flags are written by whoever has changed the health of a backend, holding `changes`, so that the older of two sights is
/// never the one that stays; picks read them. They guard no other data: `Relaxed`.
#[derive(Debug, Default)]
pub(super) struct Few {
    fails_open: AtomicBool,
    on_backups: AtomicBool,
    changes: Mutex<Changes>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Changes {
    fails_open: Told,
    on_backups: Told,
}

/// Whether something is so, and whether the log was told.
///
/// Failures under load may take backends out and bring them back many times a second: that something is so because of them is
/// told once in [`LOG_PAUSE`], later if it is still so, and that it ended if it was told.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    is: bool,
    was_told: bool,
    /// When it was last told; 0 = never.
    at: Millis,
}

impl Told {
    /// It is so, or not. `at_once`: the change is none that could come many times a second. `None`: nothing is to be said;
    /// else whether the log is told, or only who reads everything.
    fn look(&mut self, is: bool, at_once: bool, now: Millis) -> Option<log::Level> {
        let is_news = std::mem::replace(&mut self.is, is) != is;
        if !is {
            let level = if std::mem::take(&mut self.was_told) { log::Level::Info } else { log::Level::Debug };
            return is_news.then_some(level);
        }
        if !self.was_told && (at_once || self.at == 0 || now.saturating_sub(self.at) >= LOG_PAUSE) {
            (self.was_told, self.at) = (true, now);
            return Some(log::Level::Warn);
        }
        is_news.then_some(log::Level::Debug)
    }
}

impl Few {
    /// The same, for the pool that comes after a reload.
    pub(super) fn successor(&self) -> Self {
        let changes = *lock(&self.changes);
        Self {
            fails_open: AtomicBool::new(changes.fails_open.is),
            on_backups: AtomicBool::new(changes.on_backups.is),
            changes: Mutex::new(changes),
        }
    }
}

impl Pool {
    /// Fewer than `min_healthy` backends can be had, so that those are tried which can't.
    #[must_use]
    pub fn fails_open(&self) -> bool {
        self.config().min_healthy.is_some() && self.few.fails_open.load(Ordering::Relaxed)
    }

    /// None can be had but backups.
    #[must_use]
    pub fn is_on_backups(&self) -> bool {
        self.few.on_backups.load(Ordering::Relaxed)
    }

    /// The health of a backend has changed, or other backends have come. Whether exchanges that wait may find now what they did
    /// not find before. `at_once`: see [`Told::look`]. No lock is held by who calls.
    pub(super) fn look_how_few(&self, at_once: bool) -> bool {
        let group = self.group.load();
        let min = self.config().min_healthy;
        let mut changes = lock(&self.few.changes);
        if min.is_none() && !group.has_backups() && !changes.fails_open.is && !changes.on_backups.is {
            return false;
        }
        let backends = || group.backends.iter().filter(|backend| backend.standing() == Standing::Ready);
        let (ready, up) = (backends().count(), backends().filter(|backend| backend.is_up()).count());
        let primary_is_up = backends().any(|backend| backend.is_up() && !backend.config().backup);
        // Where operators alone have made them few, there is nobody else to be tried.
        let fails_open = min.is_some_and(|min| up < min.get() && up < ready);
        let on_backups = up > 0 && !primary_is_up;
        let now = now_millis();
        let opened = changes.fails_open.look(fails_open, at_once, now);
        let switched = changes.on_backups.look(on_backups, at_once, now);
        self.few.fails_open.store(fails_open, Ordering::Relaxed);
        self.few.on_backups.store(on_backups, Ordering::Relaxed);
        drop(changes);
        let owner = self.owner();
        if let Some(level) = switched {
            let what = match (on_backups, primary_is_up) {
                (true, _) => "no backend left but backups",
                (false, true) => "backups are not used any more",
                (false, false) => "no backup left either",
            };
            log::log!(level, "{what} {owner} healthy={up}");
        }
        if let Some(level) = opened {
            let min = min.map_or(0, std::num::NonZeroUsize::get);
            let what = if fails_open {
                "too few healthy backends, all are tried"
            } else {
                "enough healthy backends again, only they are used"
            };
            log::log!(level, "{what} {owner} healthy={up} min_healthy={min}");
        }
        (opened.is_some() && fails_open) || (switched.is_some() && on_backups)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    use log::Level;

    use super::*;
    use crate::balance::backend::Standing::{Down, Drain, Ready};
    use crate::balance::{Backend, BackendGuard, PickRequest};
    use crate::config::{Algorithm, HashOn, RouteConfig};
    use crate::error::Cause;
    use crate::route::{Pick, Route};

    const ALL: [Algorithm; 6] = [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::RandomTwoChoices,
        Algorithm::WeightedRoundRobin,
        Algorithm::LeastTime,
        Algorithm::ConsistentHash(HashOn::ClientAddress),
    ];

    /// Ports from 1 on, first those that are no backups.
    fn route(primaries: u16, backups: u16, change: impl FnOnce(&mut RouteConfig)) -> Arc<Route> {
        let nobody = Route::for_tests(0, change);
        let mut config = nobody.config().clone();
        config.backends = (1..=primaries + backups)
            .map(|port| crate::config::BackendConfig {
                backup: port > primaries,
                ..crate::config::BackendConfig::new(format!("127.0.0.1:{port}").parse().unwrap())
            })
            .collect();
        Arc::new(Route::build(&config).unwrap())
    }

    fn set_health(route: &Route, health: &[bool]) {
        for (backend, healthy) in route.backends().iter().zip(health) {
            backend.set_healthy(*healthy);
        }
        route.health_changed();
    }

    fn pick(route: &Route, tried: &[Arc<Backend>]) -> Option<BackendGuard> {
        match route.choose(&PickRequest::ANYONE, tried) {
            Pick::Backend(guard) => Some(guard),
            Pick::Busy | Pick::None => None,
        }
    }

    /// Where in the file those are whom `picks` picks fell on, each once.
    fn used(route: &Route, picks: usize) -> Vec<usize> {
        let backends = route.backends();
        let mut used: Vec<usize> = (0..picks)
            .map(|_| pick(route, &[]).expect("a backend"))
            .map(|guard| backends.iter().position(|backend| Arc::ptr_eq(backend, guard.backend())).unwrap())
            .collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    #[test]
    fn backups_are_used_while_nobody_else_can_be_had() {
        for algorithm in ALL {
            // By the hash, one client has one backend.
            let picks_all = !matches!(algorithm, Algorithm::ConsistentHash(_));
            let route = route(2, 2, |config| config.algorithm = algorithm.clone());
            let assert_used = |expected: &[usize]| {
                let used = used(&route, 100);
                assert!(used.iter().all(|one| expected.contains(one)), "{algorithm}: {used:?}");
                assert!(!picks_all || used == expected, "{algorithm}: {used:?}");
                assert_eq!(route.pool().is_on_backups(), expected[0] >= 2);
            };
            assert_used(&[0, 1]);
            set_health(&route, &[false, true]);
            assert_used(&[1]);
            route.backends()[1].set_standing(Drain);
            route.health_changed();
            assert_used(&[2, 3]);
            set_health(&route, &[false, true, false, true]);
            assert_used(&[3]);
            route.backends()[1].set_standing(Ready);
            route.health_changed();
            assert_used(&[1]);
            set_health(&route, &[false, false, false, false]);
            assert!(pick(&route, &[]).is_none());
        }
    }

    #[test]
    fn who_is_only_full_is_waited_for() {
        let route = route(2, 1, |config| {
            config.max_in_flight_per_backend = NonZeroUsize::new(1);
            config.queue_timeout = Duration::from_millis(20);
        });
        let held = [pick(&route, &[]), pick(&route, &[])].map(Option::unwrap);
        assert!(matches!(route.choose(&PickRequest::ANYONE, &[]), Pick::Busy));
        assert_eq!(route.find_backend(&PickRequest::ANYONE, &[], None).err(), Some(Cause::BackendsBusy));
        // One is full, and the other one gone.
        set_health(&route, &[false, true]);
        assert!(matches!(route.choose(&PickRequest::ANYONE, &[]), Pick::Busy));
        set_health(&route, &[false, false]);
        let on_backup = pick(&route, &[]).unwrap();
        assert!(on_backup.config().backup);
        assert!(matches!(route.choose(&PickRequest::ANYONE, &[]), Pick::Busy), "the backup is full too");
        drop(held);
    }

    /// Whoever waits for a place on the last one looks again when failures take that out: now there is a backup.
    #[test]
    fn who_waits_hears_that_backups_are_used_now() {
        let route = route(1, 1, |config| {
            config.max_in_flight_per_backend = NonZeroUsize::new(1);
            config.queue_timeout = Duration::from_secs(600);
            config.max_fails = 1;
        });
        let held = pick(&route, &[]).unwrap();
        let started = Instant::now();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| route.find_backend(&PickRequest::ANYONE, &[], None).unwrap());
            while route.waiting() == 0 {
                thread::yield_now();
            }
            route.note_failure(&held, Cause::ConnectRefused);
            assert!(waiter.join().unwrap().config().backup);
        });
        assert!(started.elapsed() < Duration::from_secs(60), "only found at the time-out");
        assert!(!held.is_up(), "there is another one: it need not stay in");
    }

    #[test]
    fn an_exchange_that_has_failed_on_all_others_goes_to_a_backup() {
        let route = route(2, 1, |config| config.algorithm = Algorithm::LeastConnections);
        let mut tried = Vec::new();
        for expected in [false, false, true] {
            let guard = pick(&route, &tried).unwrap();
            assert_eq!(guard.config().backup, expected);
            tried.push(Arc::clone(guard.backend()));
        }
        let again = pick(&route, &tried).unwrap();
        assert!(!again.config().backup, "then from the beginning");
    }

    /// When all have failed lately, those that are no backups are asked first; and one request at a time asks whether one of
    /// them is back while backups serve.
    #[test]
    fn out_by_failures_and_back() {
        let route = route(1, 1, |config| {
            config.max_fails = 1;
            config.fail_timeout = Duration::from_millis(1);
        });
        let backends = route.backends();
        route.note_failure(&backends[0], Cause::ConnectRefused);
        assert!(route.pool().is_on_backups());
        route.note_failure(&backends[1], Cause::ConnectRefused);
        assert!(backends[1].is_up(), "the last one stays in, whichever it is");
        thread::sleep(Duration::from_millis(5));
        let trial = pick(&route, &[]).unwrap();
        assert!(!trial.config().backup);
        assert_eq!(used(&route, 10), [1], "one at a time");
        route.note_success(&trial);
        assert_eq!(used(&route, 10), [0]);
        assert!(!route.pool().is_on_backups());
        for backend in &backends {
            assert!(backend.passive().take_out(&route.pool().passive, u64::MAX / 2), "both were in");
        }
        assert_eq!(used(&route, 10), [0]);
    }

    #[test]
    fn a_cookie_leads_back_from_a_backup() {
        use http::HeaderValue;
        use http::header::COOKIE;
        let route = route(2, 2, |config| {
            config.sticky_cookie =
                Some(crate::config::StickyCookieConfig { name: "stick".into(), max_age_secs: None });
        });
        let backends = route.backends();
        let fields = |backend: &Backend| {
            let value = HeaderValue::try_from(format!("stick={:016x}", backend.id())).unwrap();
            [(COOKIE, value)].into_iter().collect::<crate::http::fields::Fields>()
        };
        let with_cookie_of = |owner: &Backend| {
            let fields = fields(owner);
            match route.choose(&PickRequest { fields: &fields, ..PickRequest::ANYONE }, &[]) {
                Pick::Backend(guard) => Arc::clone(guard.backend()),
                other => panic!("{other:?}"),
            }
        };
        set_health(&route, &[false, false]);
        for backup in &backends[2..] {
            (0..4).for_each(|_| assert!(Arc::ptr_eq(&with_cookie_of(backup), backup)));
            assert!(route.pool().can_use(backup.id()));
        }
        set_health(&route, &[true, false]);
        for backup in &backends[2..] {
            assert!(Arc::ptr_eq(&with_cookie_of(backup), &backends[0]));
            assert!(!route.pool().can_use(backup.id()), "so that it gets another cookie");
        }
        assert!(route.pool().can_use(backends[0].id()) && !route.pool().can_use(backends[1].id()));
    }

    #[test]
    fn below_the_least_number_all_are_tried_but_those_an_operator_has_taken_out() {
        for algorithm in ALL {
            let picks_all = !matches!(algorithm, Algorithm::ConsistentHash(_));
            let route = route(4, 0, |config| {
                config.algorithm = algorithm.clone();
                config.min_healthy = NonZeroUsize::new(2);
            });
            let assert_used = |opens: bool, expected: &[usize]| {
                assert_eq!(route.pool().fails_open(), opens, "{algorithm}");
                let used = used(&route, 100);
                assert!(used.iter().all(|one| expected.contains(one)), "{algorithm}: {used:?}");
                assert!(!picks_all || used == expected, "{algorithm}: {used:?}");
            };
            set_health(&route, &[true, true, false, false]);
            assert_used(false, &[0, 1]);
            set_health(&route, &[true, false, false, false]);
            assert_used(true, &[0, 1, 2, 3]);
            route.backends()[3].set_standing(Down);
            route.backends()[0].set_standing(Drain);
            route.health_changed();
            assert_used(true, &[1, 2]);
            route.backends()[0].set_standing(Ready);
            set_health(&route, &[true, true, false, false]);
            assert_used(false, &[0, 1]);
            // Only operators have made them few: there is nobody else to be tried.
            set_health(&route, &[true; 4]);
            for backend in route.backends().iter().skip(1) {
                backend.set_standing(Drain);
            }
            route.health_changed();
            assert_used(false, &[0]);
            route.backends()[0].set_standing(Drain);
            route.health_changed();
            assert!(pick(&route, &[]).is_none());
        }
    }

    #[test]
    fn failures_count_as_probes_do() {
        let route = route(3, 0, |config| {
            config.max_fails = 1;
            config.min_healthy = NonZeroUsize::new(2);
        });
        let backends = route.backends();
        route.note_failure(&backends[0], Cause::ConnectRefused);
        assert_eq!((route.pool().fails_open(), used(&route, 20)), (false, vec![1, 2]));
        route.note_failure(&backends[1], Cause::ConnectRefused);
        assert_eq!((route.pool().fails_open(), used(&route, 20)), (true, vec![0, 1, 2]));
        route.note_success(&backends[0]);
        assert_eq!((route.pool().fails_open(), used(&route, 20)), (false, vec![0, 2]));
    }

    /// Backups are counted, and are among all.
    #[test]
    fn backups_and_the_least_number() {
        let route = route(2, 2, |config| config.min_healthy = NonZeroUsize::new(2));
        for (health, opens, expected) in [
            ([true, true, true, true], false, vec![0, 1]),
            ([false, false, true, true], false, vec![2, 3]),
            ([true, false, true, false], false, vec![0]),
            ([false, false, true, false], true, vec![0, 1, 2, 3]),
            ([false; 4], true, vec![0, 1, 2, 3]),
        ] {
            set_health(&route, &health);
            assert_eq!((route.pool().fails_open(), used(&route, 40)), (opens, expected), "{health:?}");
        }
    }

    /// Limits hold, and what was tried is tried last.
    #[test]
    fn all_that_are_tried_are_tried_within_their_limits() {
        let route = route(2, 0, |config| {
            config.min_healthy = NonZeroUsize::new(1);
            config.max_in_flight_per_backend = NonZeroUsize::new(1);
            config.queue_timeout = Duration::from_millis(10);
        });
        set_health(&route, &[false, false]);
        let first = pick(&route, &[]).unwrap();
        let tried = [Arc::clone(first.backend())];
        drop(first);
        let second = pick(&route, &tried).unwrap();
        assert!(!Arc::ptr_eq(second.backend(), &tried[0]));
        let _first = pick(&route, &[]).unwrap();
        assert!(matches!(route.choose(&PickRequest::ANYONE, &[]), Pick::Busy));
        assert_eq!(route.find_backend(&PickRequest::ANYONE, &[], None).err(), Some(Cause::BackendsBusy));
    }

    #[test]
    fn a_reload_keeps_what_is_the_case() {
        let before = route(2, 0, |config| config.min_healthy = NonZeroUsize::new(2));
        set_health(&before, &[true, false]);
        let mut config = before.config().clone();
        config.max_fails = 9;
        let after = before.pool().successor(&config).unwrap();
        assert!(after.fails_open(), "before anybody has looked");
        config.min_healthy = None;
        let after = after.successor(&config).unwrap();
        assert!(!after.fails_open());
    }

    #[test]
    fn each_change_is_told_once_and_those_by_failures_once_a_minute() {
        let mut told = Told::default();
        assert_eq!(told.look(false, false, 5), None);
        assert_eq!(told.look(true, false, 5), Some(Level::Warn));
        assert_eq!(told.look(true, true, 6), None);
        assert_eq!(told.look(false, false, 7), Some(Level::Info));
        assert_eq!(told.look(true, false, 8), Some(Level::Debug), "a minute is not over");
        assert_eq!(told.look(false, true, 9), Some(Level::Debug), "nobody has read that it began");
        assert_eq!(told.look(true, false, 10), Some(Level::Debug));
        assert_eq!(told.look(true, false, 11), None);
        assert_eq!(told.look(true, false, 5 + LOG_PAUSE), Some(Level::Warn), "it is still so");
        assert_eq!(told.look(true, false, 6 + LOG_PAUSE), None);
        assert_eq!(told.look(false, false, 7 + LOG_PAUSE), Some(Level::Info));
        assert_eq!(told.look(true, true, 8 + LOG_PAUSE), Some(Level::Warn), "by a probe");
        assert_eq!(told.look(false, true, 9 + LOG_PAUSE), Some(Level::Info));
    }
}
