//! [`Split`]: several pools, among which the requests of a route are shared out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::pool::Pool;
use crate::balance::Backend;
use crate::balance::sticky_cookie::{Named, named, pool_id};
use crate::balance::weighted_round_robin::smooth;
use crate::config::{RouteConfig, Share};
use crate::counters::tally::Classes;
use crate::http::fields::Fields;

/// The pools of a route, and whose turn it is.
///
/// Each request has one turn, and with it a pool: in a round each pool has as many turns as its share, spread evenly. If
/// that pool has no backend for the request, the one whose turn is next is asked, and so on: those of a pool that is out go to the
/// others in proportion. A pool without a share has no turn. It is there for clients whose cookie names it.
#[derive(Debug)]
pub(super) struct Split {
    /// In the order of the file.
    pub(super) pools: Vec<Arc<Pool>>,
    parts: Vec<Part>,
    /// Who has each turn of a round: places in `pools`.
    order: Vec<usize>,
    /// How many pools have turns.
    taking_turns: usize,
    /// Turns that were taken. It guards no other data, and each is taken once: `Relaxed`. After a reload the route before
    /// it and the one after it have the same, so that reloads favour nobody.
    taken: Arc<AtomicUsize>,
}

/// What there is to know of each pool here.
#[derive(Debug)]
struct Part {
    name: String,
    share: u32,
    /// In sticky cookies.
    id: u64,
    /// What its backends have answered to requests of this route; the same after a reload.
    answers: Arc<Classes>,
}

impl Split {
    /// `None`: the route has one pool. `before`: what it was until a reload.
    pub(super) fn new(config: &RouteConfig, pools: Vec<Arc<Pool>>, before: Option<&Self>) -> Option<Self> {
        if config.shares.is_empty() {
            return None;
        }
        let known = |name: &str| {
            let parts = before.into_iter().flat_map(|before| &before.parts);
            parts.filter(|part| part.name == name).map(|part| Arc::clone(&part.answers)).next()
        };
        let part = |Share { share, of }: &Share| {
            let name = of.pool.clone().unwrap_or_default();
            Part { share: *share, id: pool_id(&name), answers: known(&name).unwrap_or_default(), name }
        };
        let parts: Vec<Part> = config.shares.iter().map(part).collect();
        let with_share: Vec<usize> =
            (0..parts.len()).filter(|place| parts.get(*place).is_some_and(|part| part.share > 0)).collect();
        let shares: Vec<u32> = parts.iter().map(|part| part.share).filter(|share| *share > 0).collect();
        let order = smooth(&shares).into_iter().filter_map(|place| with_share.get(place).copied()).collect();
        let taken = before.map(|before| Arc::clone(&before.taken)).unwrap_or_default();
        Some(Self { pools, parts, order, taking_turns: with_share.len(), taken })
    }

    /// Takes the next turn.
    pub(super) fn take_turn(&self) -> usize {
        self.taken.fetch_add(1, Ordering::Relaxed)
    }

    /// The pool that a client with these cookies stays in: by its id, or that of a backend in it where the cookie is from a time
    /// when the route had no other.
    pub(super) fn bound(&self, cookie: &str, fields: &Fields) -> Option<usize> {
        let place = |Named { pool, backend }| {
            let by_pool = self.parts.iter().position(|part| Some(part.id) == pool);
            by_pool.or_else(|| self.pools.iter().position(|pool| pool.has(backend)))
        };
        named(fields, cookie).find_map(place)
    }

    /// Asks one pool after the other: the one that the client stays in, and those whose turns come from `turn` on. Where that is
    /// not known yet, a turn is taken.
    pub(super) fn ask<R>(
        &self,
        bound: Option<usize>,
        turn: &mut Option<usize>,
        mut ask: impl FnMut(&Pool) -> Option<R>,
    ) -> Option<R> {
        if let Some(found) = bound.and_then(|place| self.pools.get(place)).and_then(|pool| ask(pool)) {
            return Some(found);
        }
        // On from here it is out of the ordinary, unless nothing is bound.
        let first = turn.get_or_insert_with(|| self.take_turn()).checked_rem(self.order.len())?;
        let (before, after) = self.order.split_at_checked(first)?;
        let (mut asked, mut left) = (Vec::new(), self.taking_turns);
        for place in after.iter().chain(before) {
            if asked.contains(place) {
                continue;
            }
            if Some(*place) != bound
                && let Some(found) = self.pools.get(*place).and_then(|pool| ask(pool))
            {
                return Some(found);
            }
            left -= 1;
            if left == 0 {
                break;
            }
            asked.push(*place);
        }
        None
    }

    /// The pool of one of their backends.
    pub(super) fn pool_of(&self, backend: &Backend) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| Arc::ptr_eq(&pool.line, backend.line()))
    }

    /// What a cookie says of a backend of `pool`.
    pub(super) fn id_of(&self, pool: &Pool) -> Option<u64> {
        self.part_of(pool).map(|part| part.id)
    }

    /// The pool with this id.
    pub(super) fn with_id(&self, id: u64) -> Option<&Arc<Pool>> {
        let place = self.parts.iter().position(|part| part.id == id)?;
        self.pools.get(place)
    }

    /// What the backends of `pool` have answered to requests of this route.
    pub(super) fn answers_of(&self, pool: &Pool) -> Option<&Classes> {
        self.part_of(pool).map(|part| &*part.answers)
    }

    fn part_of(&self, pool: &Pool) -> Option<&Part> {
        let place = self.pools.iter().position(|one| std::ptr::eq(Arc::as_ptr(one), pool))?;
        self.parts.get(place)
    }

    /// The pools with their shares and their answers.
    pub(super) fn shares(&self) -> impl Iterator<Item = (&Arc<Pool>, u32, &Classes)> {
        self.pools.iter().zip(&self.parts).map(|(pool, part)| (pool, part.share, &*part.answers))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use http::HeaderValue;
    use http::header::COOKIE;
    use proptest::prelude::*;

    use super::*;
    use crate::balance::{BackendGuard, PickRequest};
    use crate::config::StickyCookieConfig;
    use crate::error::Cause;
    use crate::route::{Pick, Route};

    /// A route to these pools: their names, shares and numbers of backends.
    fn split(pools: &[(&str, u32, u16)], change: impl Fn(&mut RouteConfig)) -> Arc<Route> {
        let named = |(name, _, backends): &(&str, u32, u16)| {
            Pool::for_tests(*backends, |config| {
                config.pool = Some((*name).to_owned());
                change(config);
            })
        };
        let built: Vec<_> = pools.iter().map(named).collect();
        let mut config = Route::for_tests(0, &change).config().clone();
        let share = |(pool, (_, share, _)): (&Arc<Pool>, &(&str, u32, u16))| Share {
            share: *share,
            of: pool.config().clone(),
        };
        config.shares = built.iter().zip(pools).map(share).collect();
        Arc::new(Route::new(config, built).unwrap())
    }

    fn sticky(config: &mut RouteConfig) {
        config.sticky_cookie = Some(StickyCookieConfig { name: "stick".into(), max_age_secs: None });
    }

    /// What finds a backend for a client with these fields.
    fn pick_with(route: &Route, fields: &Fields) -> Option<BackendGuard> {
        let turn = route.take_turn(fields);
        match route.choose(&PickRequest { fields, turn, ..PickRequest::ANYONE }, &[]) {
            Pick::Backend(guard) => Some(guard),
            Pick::Busy | Pick::None => None,
        }
    }

    fn pool_with(route: &Route, fields: &Fields) -> Option<String> {
        pick_with(route, fields).map(|guard| route.pool_of(&guard).label().to_owned())
    }

    fn pool(route: &Route) -> Option<String> {
        pool_with(route, &Fields::new())
    }

    /// How many of so many requests get to each pool.
    fn counts(route: &Route, requests: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for name in (0..requests).filter_map(|_| pool(route)) {
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    fn set_healthy(route: &Route, pool: usize, healthy: bool) {
        for backend in route.pools()[pool].backends() {
            backend.set_healthy(healthy);
        }
    }

    fn expected(shares: &[(&str, usize)]) -> BTreeMap<String, usize> {
        shares.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn every_round_has_the_shares_and_spreads_them() {
        let route = split(&[("stable", 95, 2), ("canary", 5, 1)], |_| ());
        let order: Vec<_> = (0..60).map(|_| pool(&route).unwrap()).collect();
        let at: Vec<_> = (0..60).filter(|n| order[*n] == "canary").collect();
        assert_eq!(at.len(), 3);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] == 20), "{at:?}");
    }

    proptest! {
        #[test]
        fn shares_are_exact_whoever_is_out(
            shares in proptest::collection::vec(0..20_u32, 1..5),
            out in 0..5_usize,
        ) {
            prop_assume!(shares.iter().any(|share| *share > 0));
            const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
            let pools: Vec<_> = NAMES.into_iter().zip(&shares).map(|(name, share)| (name, *share, 1)).collect();
            let route = split(&pools, |_| ());
            let round = shares.iter().sum::<u32>() as usize;
            let given: BTreeMap<_, _> = pools
                .iter()
                .filter(|(_, share, _)| *share > 0)
                .map(|(name, share, _)| ((*name).to_owned(), 3 * *share as usize))
                .collect();
            prop_assert_eq!(counts(&route, 3 * round), given.clone());
            if out < shares.len() {
                set_healthy(&route, out, false);
                let without: BTreeMap<_, _> =
                    given.iter().filter(|(name, _)| *name != NAMES[out]).map(|(name, n)| (name.clone(), *n)).collect();
                let found = counts(&route, 3 * round);
                prop_assert_eq!(found.values().sum::<usize>(), if without.is_empty() { 0 } else { 3 * round });
                // Nobody gets less than before.
                prop_assert!(without.iter().all(|(name, n)| found[name] >= *n), "{:?} of {:?}", found, without);
            }
        }
    }

    #[test]
    fn who_is_out_leaves_its_turns_to_the_others_in_proportion() {
        let route = split(&[("a", 50, 1), ("b", 40, 1), ("c", 10, 1)], |_| ());
        set_healthy(&route, 0, false);
        let found = counts(&route, 1_000);
        assert!((780..=900).contains(&found["b"]), "{found:?}");
    }

    #[test]
    fn is_exact_under_threads() {
        let route = split(&[("a", 3, 2), ("b", 1, 1)], |_| ());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| counts(&route, 500))).collect();
            let all: usize = threads.into_iter().map(|thread| thread.join().unwrap()["b"]).sum();
            assert_eq!(all, 1_000);
        });
        assert!(route.backends().iter().all(|backend| backend.in_flight() == 0));
    }

    /// However often it looks, and whoever else has come meanwhile.
    #[test]
    fn an_exchange_keeps_its_turn() {
        let route = split(&[("a", 1, 2), ("b", 1, 1)], |_| ());
        let fields = Fields::new();
        let request = PickRequest { turn: route.take_turn(&fields), ..PickRequest::ANYONE };
        let mut tried = Vec::new();
        for expected in ["a", "a", "b", "a"] {
            pool(&route).unwrap();
            let Pick::Backend(guard) = route.choose(&request, &tried) else { panic!("a backend") };
            assert_eq!(route.pool_of(&guard).label(), expected, "{tried:?}");
            tried.push(Arc::clone(guard.backend()));
        }
    }

    #[test]
    fn a_pool_without_a_share_is_for_those_who_stay_in_it() {
        let route = split(&[("a", 1, 1), ("old", 0, 2)], sticky);
        assert_eq!(counts(&route, 10), expected(&[("a", 10)]));
        let [_, old] = route.pools() else { panic!("two pools") };
        let value = format!("stick={:016x}.{:016x}", pool_id("old"), old.backends()[1].id());
        let fields: Fields = [(COOKIE, HeaderValue::try_from(value).unwrap())].into_iter().collect();
        assert_eq!(pool_with(&route, &fields).as_deref(), Some("old"));
        set_healthy(&route, 0, false);
        assert_eq!(pool(&route), None, "nobody falls over to it");
        set_healthy(&route, 1, false);
        set_healthy(&route, 0, true);
        assert_eq!(pool_with(&route, &fields).as_deref(), Some("a"));
    }

    #[test]
    fn a_cookie_binds_to_the_pool_whatever_becomes_of_its_backend() {
        let route = split(&[("a", 1, 2), ("b", 1, 2)], sticky);
        let b = &route.pools()[1];
        let with = |value: String| -> Fields {
            [(COOKIE, HeaderValue::try_from(format!("stick={value}")).unwrap())].into_iter().collect()
        };
        let second = b.backends()[1].id();
        let fields = with(format!("{:016x}.{second:016x}", pool_id("b")));
        for _ in 0..5 {
            let guard = pick_with(&route, &fields).unwrap();
            assert!(Arc::ptr_eq(guard.backend(), &b.backends()[1]));
            assert_eq!(route.set_cookie(&fields, &guard, "http"), None);
        }
        b.backends()[1].set_healthy(false);
        let guard = pick_with(&route, &fields).unwrap();
        assert!(Arc::ptr_eq(guard.backend(), &b.backends()[0]), "another one of the same pool");
        let cookie = route.set_cookie(&fields, &guard, "http").unwrap();
        let first = format!("stick={:016x}.{:016x};", pool_id("b"), b.backends()[0].id());
        assert!(cookie.to_str().unwrap().starts_with(&first), "{cookie:?}");
        // One that is not there any more.
        let gone = with(format!("{:016x}.{:016x}", pool_id("b"), 1));
        assert_eq!(pool_with(&route, &gone).as_deref(), Some("b"));
        // From a time when the route had one pool.
        let before = with(format!("{second:016x}"));
        assert_eq!(pool_with(&route, &before).as_deref(), Some("a"), "both have it, and this is the first");
        assert!(route.set_cookie(&before, &pick_with(&route, &before).unwrap(), "http").is_some());
        assert_eq!(counts(&route, 10), expected(&[("a", 5), ("b", 5)]), "who stays takes no turns");
    }

    #[test]
    fn full_pools_are_passed_over_and_then_waited_for() {
        let route = split(&[("a", 1, 1), ("b", 1, 1)], |config| {
            config.max_in_flight_per_backend = NonZeroUsize::new(1);
            config.queue_timeout = Duration::from_secs(60);
        });
        let find = || route.find_backend(&PickRequest::ANYONE, &[], None);
        for _ in 0..20 {
            let held = [find().unwrap(), find().unwrap()];
            assert!(!Arc::ptr_eq(held[0].backend(), held[1].backend()));
            assert!(matches!(route.choose(&PickRequest::ANYONE, &[]), Pick::Busy));
            let _held = held.map(|freed| {
                std::thread::scope(|scope| {
                    let waiter = scope.spawn(|| find().unwrap());
                    while route.waiting() == 0 {
                        std::thread::yield_now();
                    }
                    let backend = Arc::clone(freed.backend());
                    drop(freed);
                    let found = waiter.join().unwrap();
                    assert!(Arc::ptr_eq(found.backend(), &backend));
                    found
                })
            });
        }
        assert!(route.pools().iter().all(|pool| pool.line.waiting() == 0));
    }

    #[test]
    fn what_failures_have_taken_out_comes_after_the_other_pools() {
        let route = split(&[("a", 1, 2), ("b", 1, 1)], |config| config.max_fails = 1);
        let a = route.pools()[0].backends();
        route.note_failure(&a[0], Cause::ConnectRefused);
        assert!(a[0].passive().is_out(), "of its own pool");
        a[1].set_healthy(false);
        assert_eq!(counts(&route, 4), expected(&[("b", 4)]));
        set_healthy(&route, 1, false);
        assert_eq!(counts(&route, 4), expected(&[("a", 4)]));
        assert!(route.has_healthy());
    }

    #[test]
    fn a_reload_goes_on_where_it_was() {
        let route = split(&[("a", 1, 1), ("b", 1, 1)], |_| ());
        assert_eq!(pool(&route).as_deref(), Some("a"));
        let ended = crate::counters::tally::Ended {
            status: 200,
            cause: None,
            first_byte: None,
            whole: Duration::ZERO,
            received: 0,
            sent: 0,
            retries: 0,
        };
        route.count(&ended, Some(&route.pools()[1].backends()[0]));
        let mut config = route.config().clone();
        config.shares.reverse();
        config.shares[1].share = 0;
        let pools: Vec<_> = route.pools().iter().rev().cloned().collect();
        let after = route.successor(&config, pools).unwrap();
        let seen: Vec<_> = after
            .shares()
            .map(|(pool, share, answers)| (pool.label(), share, answers.read().map(|(_, n)| n).sum::<u64>()))
            .collect();
        assert_eq!(seen, [("b", 1, 1), ("a", 0, 0)]);
        assert_eq!(counts(&after, 3), expected(&[("b", 3)]));
    }
}
