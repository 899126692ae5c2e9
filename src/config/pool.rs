//! Backends, and what is the same for all routes that have them: the keys of a `[[backends]]` table, or those of the same names
//! in the one route that has its backends for itself.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;

use super::forms::{PoolNames, Seconds};
use super::raw::{RawBackend, RawHealthCheck, RawPool, RawRoute, RawTls};
use super::values::Resolver;
use super::{BackendAddr, BackendConfig, ConfigError, Engine, RouteConfig, ServerConfig, Share};
use crate::routing::Prefix;

/// The keys as they are written.
pub(super) struct PoolKeys {
    /// What they are called in this kind of table.
    addrs_key: &'static str,
    addrs: Option<Spanned<Vec<Spanned<RawBackend>>>>,
    /// The route answers itself: no backend has to be there.
    pub(super) may_be_absent: bool,
    balancing_algorithm: Option<Spanned<String>>,
    hash_on: Option<Spanned<String>>,
    slow_start_secs: Option<Spanned<Seconds>>,
    min_healthy: Option<Spanned<i128>>,
    health_check: Option<Spanned<RawHealthCheck>>,
    max_in_flight_per_backend: Option<Spanned<i128>>,
    max_fails: Option<Spanned<i128>>,
    fail_timeout_secs: Option<Spanned<Seconds>>,
    keepalive_connections: Option<Spanned<i128>>,
    keepalive_idle_secs: Option<Spanned<Seconds>>,
    resolve_secs: Option<Spanned<Seconds>>,
    tls: Option<Spanned<RawTls>>,
    send_proxy: Option<Spanned<bool>>,
}

impl PoolKeys {
    /// Takes them out of the table of a route.
    pub(super) fn of_route(raw: &mut RawRoute) -> Self {
        Self {
            addrs_key: "backend_addrs",
            addrs: raw.backend_addrs.take(),
            may_be_absent: false,
            balancing_algorithm: raw.balancing_algorithm.take(),
            hash_on: raw.hash_on.take(),
            slow_start_secs: raw.slow_start_secs.take(),
            min_healthy: raw.min_healthy.take(),
            health_check: raw.health_check.take(),
            max_in_flight_per_backend: raw.max_in_flight_per_backend.take(),
            max_fails: raw.max_fails.take(),
            fail_timeout_secs: raw.fail_timeout_secs.take(),
            keepalive_connections: raw.keepalive_connections.take(),
            keepalive_idle_secs: raw.keepalive_idle_secs.take(),
            resolve_secs: raw.resolve_secs.take(),
            tls: raw.tls.take(),
            send_proxy: raw.send_proxy.take(),
        }
    }

    fn of_pool(raw: RawPool) -> Self {
        Self {
            addrs_key: "addrs",
            addrs: raw.addrs,
            may_be_absent: false,
            balancing_algorithm: raw.balancing_algorithm,
            hash_on: raw.hash_on,
            slow_start_secs: raw.slow_start_secs,
            min_healthy: raw.min_healthy,
            health_check: raw.health_check,
            max_in_flight_per_backend: raw.max_in_flight_per_backend,
            max_fails: raw.max_fails,
            fail_timeout_secs: raw.fail_timeout_secs,
            keepalive_connections: raw.keepalive_connections,
            keepalive_idle_secs: raw.keepalive_idle_secs,
            resolve_secs: raw.resolve_secs,
            tls: raw.tls,
            send_proxy: raw.send_proxy,
        }
    }

    /// Where the addresses are.
    pub(super) fn addrs_at(&self) -> Option<Range<usize>> {
        self.addrs.as_ref().map(Spanned::span)
    }

    /// Where one of the others is.
    pub(super) fn at(&self, key: &str) -> Option<Range<usize>> {
        self.written().find_map(|(name, span)| (name == key).then_some(span))
    }

    /// Those that are there, without the addresses, and where.
    fn written(&self) -> impl Iterator<Item = (&'static str, Range<usize>)> {
        fn at<T>(value: Option<&Spanned<T>>) -> Option<Range<usize>> {
            value.map(Spanned::span)
        }
        let all = [
            ("balancing_algorithm", at(self.balancing_algorithm.as_ref())),
            ("hash_on", at(self.hash_on.as_ref())),
            ("slow_start_secs", at(self.slow_start_secs.as_ref())),
            ("min_healthy", at(self.min_healthy.as_ref())),
            ("health_check", at(self.health_check.as_ref())),
            ("max_in_flight_per_backend", at(self.max_in_flight_per_backend.as_ref())),
            ("max_fails", at(self.max_fails.as_ref())),
            ("fail_timeout_secs", at(self.fail_timeout_secs.as_ref())),
            ("keepalive_connections", at(self.keepalive_connections.as_ref())),
            ("keepalive_idle_secs", at(self.keepalive_idle_secs.as_ref())),
            ("resolve_secs", at(self.resolve_secs.as_ref())),
            ("tls", at(self.tls.as_ref())),
            ("send_proxy", at(self.send_proxy.as_ref())),
        ];
        all.into_iter().filter_map(|(name, span)| Some((name, span?)))
    }
}

/// The table in which the keys of the backends of a route are. `pools`: the names of all there are.
pub(super) fn place_of(n: usize, route: &RouteConfig, pools: &[String]) -> String {
    let number = route.pool.as_ref().and_then(|name| pools.iter().position(|pool| pool == name));
    number.map_or_else(|| format!("routes[{n}]"), |number| format!("backends[{number}]"))
}

impl Resolver<'_> {
    /// Each `[[backends]]` as a route that has nothing but it.
    pub(super) fn pools(&mut self, raw: Vec<Spanned<RawPool>>, server: &ServerConfig) -> Vec<RouteConfig> {
        let mut pools = Vec::new();
        let mut lines = HashMap::new();
        for (n, raw) in raw.into_iter().enumerate() {
            let key = format!("backends[{n}]");
            let span = raw.span();
            let mut raw = raw.into_inner();
            let name = raw.name.take();
            let mut pool = RouteConfig::new(Prefix::root(), Vec::new(), server);
            match name {
                None => {
                    let expected = "what routes refer to it by, for example name = \"app\"";
                    self.missing(Some(&span), &format!("{key}.name"), expected);
                }
                Some(name) => {
                    let at = name.span();
                    self.note(&format!("{key}.name"), &at);
                    pool.pool = self.name(&key, name);
                    let line = self.document.line(at.start);
                    if let Some(name) = &pool.pool
                        && let Some(first) = lines.insert(name.clone(), line)
                    {
                        let problem = format!(
                            "\"{name}\" is the name of another already, on line {first}; expected a different one for each"
                        );
                        self.refuse(&at, &format!("{key}.name"), problem);
                    }
                }
            }
            self.pool_keys(&key, &span, PoolKeys::of_pool(raw), server.engine, &mut pool);
            pools.push(pool);
        }
        pools
    }

    /// A route that refers to a pool, or to several.
    pub(super) fn refer(
        &mut self,
        route_key: &str,
        names: Spanned<PoolNames>,
        keys: &PoolKeys,
        pools: &[RouteConfig],
        route: &mut RouteConfig,
    ) {
        let key = format!("{route_key}.backends");
        let at = names.span();
        self.note(&key, &at);
        if let Some(addrs) = &keys.addrs {
            let problem = "stands beside backends; expected one of them".to_owned();
            self.refuse(&addrs.span(), &format!("{route_key}.backend_addrs"), problem);
        }
        let names = names.into_inner();
        let beside = match &names {
            PoolNames::One(name) => format!(", beside name = {name:?}"),
            PoolNames::Shares(_) => String::new(),
        };
        for (name, span) in keys.written() {
            let problem = format!("is a matter of the pool; expected it below [[backends]]{beside}");
            self.refuse(&span, &format!("{route_key}.{name}"), problem);
        }
        match names {
            PoolNames::One(name) => {
                if let Some(pool) = self.pool_called(&key, &Spanned::new(at, name), pools) {
                    route.take_pool(pool);
                }
            }
            PoolNames::Shares(shares) => route.shares = self.shares(&key, &at, shares, pools, route),
        }
    }

    /// `backends = { stable = 95, canary = 5 }`.
    fn shares(
        &mut self,
        key: &str,
        at: &Range<usize>,
        raw: Vec<(String, Spanned<i128>)>,
        pools: &[RouteConfig],
        route: &RouteConfig,
    ) -> Vec<Share> {
        // What was refused for its type was written all the same.
        let is_inside = |error: &ConfigError| error.key().starts_with(&format!("{key}."));
        let was_refused = self.errors.iter().any(is_inside);
        if raw.is_empty() && !was_refused {
            let problem = "has nothing in it; expected at least one pool and its share, for example { stable = 95, canary = 5 }";
            self.refuse(at, key, problem.to_owned());
        }
        let mut shares = Vec::new();
        let errors = self.errors.len();
        for (name, raw) in raw {
            let pool = self.pool_called(key, &Spanned::new(raw.span(), name.clone()), pools);
            let mut share = 0;
            self.whole(&format!("{key}.{name}"), Some(raw), 0..=1_000, &mut share);
            if let Some(pool) = pool {
                let mut of = route.clone();
                of.take_pool(pool);
                shares.push(Share { share, of });
            }
        }
        if !was_refused
            && self.errors.len() == errors
            && !shares.is_empty()
            && shares.iter().all(|share| share.share == 0)
        {
            let problem = "has no share above 0: nobody would get anywhere; expected one at least";
            self.refuse(at, key, problem.to_owned());
        }
        shares
    }

    fn pool_called<'p>(
        &mut self,
        key: &str,
        name: &Spanned<String>,
        pools: &'p [RouteConfig],
    ) -> Option<&'p RouteConfig> {
        let names: Vec<&String> = pools.iter().filter_map(|pool| pool.pool.as_ref()).collect();
        if names.is_empty() {
            let problem = "is the name of no pool, and there are none; expected a table [[backends]] with this name, or \
                           backend_addrs here";
            self.refuse_text(name, key, problem);
            return None;
        }
        let found = self.word(name, key, "a pool", &names)?;
        pools.iter().find(|pool| pool.pool.as_ref() == Some(found))
    }

    /// The keys about backends in a table of either kind.
    pub(super) fn pool_keys(
        &mut self,
        table: &str,
        span: &Range<usize>,
        raw: PoolKeys,
        engine: Engine,
        route: &mut RouteConfig,
    ) {
        let key = |name: &str| format!("{table}.{name}");
        let addrs_at = raw.addrs.as_ref().map(Spanned::span);
        // Where the name of a pool was refused for its type, that has been said.
        let was_pool = key("backends");
        let is_required = !raw.may_be_absent && self.errors.iter().all(|error| error.key() != was_pool);
        if raw.addrs.is_some() || is_required {
            route.backends = self.backends(&key(raw.addrs_key), span, raw.addrs);
        }
        self.algorithm(table, raw.balancing_algorithm, raw.hash_on, &mut route.algorithm);
        if let Some(time) = raw.slow_start_secs {
            self.slow_start(&key("slow_start_secs"), time, route);
        }
        if raw.min_healthy.is_some() {
            let least = route.min_healthy.insert(std::num::NonZeroUsize::MIN);
            self.count(&key("min_healthy"), raw.min_healthy, 1..=65_536, least);
        }
        if let Some(check) = raw.health_check {
            route.health_check = self.health_check(&key("health_check"), check);
        }
        if raw.max_in_flight_per_backend.is_some() {
            let max = route.max_in_flight_per_backend.insert(std::num::NonZeroUsize::MAX);
            let name = key("max_in_flight_per_backend");
            self.count(&name, raw.max_in_flight_per_backend, 1..=1_000_000, max);
        }
        self.whole(&key("max_fails"), raw.max_fails, 0..=1000, &mut route.max_fails);
        self.timeout(&key("fail_timeout_secs"), raw.fail_timeout_secs, &mut route.fail_timeout);
        let kept = &mut route.keepalive_connections;
        self.whole(&key("keepalive_connections"), raw.keepalive_connections, 0..=65_536, kept);
        self.timeout(&key("keepalive_idle_secs"), raw.keepalive_idle_secs, &mut route.keepalive_idle);
        self.timeout(&key("resolve_secs"), raw.resolve_secs, &mut route.resolve_interval);
        if let Some(tls) = raw.tls {
            route.tls = self.tls(&key("tls"), tls, &route.backends);
        }
        let sends_proxy_at = raw.send_proxy.filter(|it| *it.get_ref()).map(|it| it.span());
        route.send_proxy = sends_proxy_at.is_some();
        if engine == Engine::TinyHttp {
            if let Some(at) = sends_proxy_at {
                let problem = "takes engine = \"native\"; leave it out, or change the engine";
                self.refuse(&at, &key("send_proxy"), problem.to_owned());
            }
            let is_plain = |backend: &BackendConfig| matches!(backend.addr, BackendAddr::Tcp { .. });
            if let Some(at) = addrs_at.filter(|_| !route.backends.iter().all(is_plain)) {
                let problem = "https:// and Unix-domain backends take engine = \"native\"";
                self.refuse(&at, &key(raw.addrs_key), problem.to_owned());
            }
        }
    }
}

impl RouteConfig {
    /// Takes from `other` all that is the pool's.
    pub(super) fn take_pool(&mut self, other: &Self) {
        // Whatever is not named here is the route's.
        let Self {
            pool,
            backends,
            algorithm,
            slow_start,
            min_healthy,
            health_check,
            max_in_flight_per_backend,
            max_fails,
            fail_timeout,
            keepalive_connections,
            keepalive_idle,
            resolve_interval,
            tls,
            send_proxy,
            ..
        } = other.clone();
        *self = Self {
            pool,
            backends,
            algorithm,
            slow_start,
            min_healthy,
            health_check,
            max_in_flight_per_backend,
            max_fails,
            fail_timeout,
            keepalive_connections,
            keepalive_idle,
            resolve_interval,
            tls,
            send_proxy,
            ..self.clone()
        };
    }

    /// Whether its pool is as that of `other`.
    pub(crate) fn has_pool_of(&self, other: &Self) -> bool {
        let mut same = self.clone();
        same.take_pool(other);
        same == *self
    }
}
