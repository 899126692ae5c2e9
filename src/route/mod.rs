//! [`Route`]: a prefix, the pool its backends are in, and how many exchanges it carries. Here is what it consists of and
//! how it is made; each of its jobs has a file:
//!
//! - `guard.rs` counts its exchanges, up to its limit.
//! - `pool.rs` has its backends, alone or together with other routes.
//! - `pick.rs` finds a backend for one of them.
//! - `health.rs` takes in what exchanges and probes say about the backends.
//! - `names.rs` makes the backends from their entries, and follows names to other addresses.

mod guard;
mod health;
mod names;
mod pick;
pub mod pool;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::balance::Backend;
use crate::config::RouteConfig;
use crate::counters::tally::Tally;
use crate::error::Cause;
use crate::http::fields::Fields;
use crate::logging::sparingly::log_sparingly;
use crate::rules::Limiter;

pub use guard::RouteGuard;
pub use pick::Pick;
pub use pool::Pool;

/// One `[[routes]]` table at work.
#[derive(Debug)]
pub struct Route {
    config: RouteConfig,
    label: String,
    /// Its backends.
    pool: Arc<Pool>,
    /// Written by [`enter`](Self::enter) and the drop of [`RouteGuard`] alone. It guards no other data, and that it
    /// never exceeds the limit follows from its being changed by compare-and-swap: `Relaxed`. After a reload the route
    /// before it and the one after it have the same.
    in_flight: Arc<AtomicUsize>,
    /// Counts requests, if the route takes no more than some number; the same after a reload that leaves the number.
    limiter: Option<Arc<Limiter>>,
    /// The service of its `forward_auth`, if another one decides who may come.
    auth: Option<Arc<Route>>,
    /// What became of its exchanges; the same after a reload.
    tally: Arc<Tally>,
}

impl Route {
    /// A route that carries nothing yet, to the backends in `pool`.
    #[must_use]
    pub fn new(config: RouteConfig, pool: Arc<Pool>) -> Self {
        let limiter =
            config.rules.rate_limit.clone().map(|rule| Arc::new(Limiter::new(rule, Instant::now())));
        let (in_flight, tally) = (Arc::default(), Arc::default());
        Self { label: config.label(), config, pool, in_flight, limiter, auth: None, tally }
    }

    /// With the backends in `pool` as the service of its `forward_auth`.
    #[must_use]
    pub(crate) fn with_auth(mut self, pool: Option<Arc<Pool>>) -> Self {
        let rule = self.config.rules.forward_auth.as_ref();
        let service = rule.zip(pool).map(|(rule, pool)| Arc::new(Self::new((*rule.service).clone(), pool)));
        self.auth = service;
        self
    }

    /// The service of its `forward_auth`, as a route of its own.
    pub(crate) fn auth(&self) -> Option<&Arc<Self>> {
        self.auth.as_ref()
    }

    /// A route with a pool of its own.
    ///
    /// # Errors
    /// An address can't be used.
    pub fn build(config: &RouteConfig) -> io::Result<Self> {
        Ok(Self::new(config.clone(), Arc::new(Pool::build(config)?)))
    }

    /// What becomes of a route when its table, or its pool, has changed.
    pub(crate) fn successor(&self, config: &RouteConfig, pool: Arc<Pool>) -> Self {
        let (in_flight, tally) = (Arc::clone(&self.in_flight), Arc::clone(&self.tally));
        let empty = Self::new(config.clone(), pool);
        // What clients have used up stays used up.
        let counts_like = |limiter: &&Arc<Limiter>| {
            config.rules.rate_limit.as_ref().is_some_and(|rule| rule.counts_like(limiter.rule()))
        };
        let kept = self.limiter.as_ref().filter(counts_like);
        let limiter = kept.cloned().or_else(|| empty.limiter.clone());
        Self { in_flight, tally, limiter, ..empty }
    }

    /// Its table in the configuration.
    #[must_use]
    pub fn config(&self) -> &RouteConfig {
        &self.config
    }

    /// What it is called in logs: see [`RouteConfig::label`].
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Takes a request of this client with these fields, if there is a limit to how many there can be.
    ///
    /// # Errors
    /// It is reached, and the rule means it.
    pub(crate) fn take(&self, client: IpAddr, fields: &Fields, now: Instant) -> Result<(), Cause> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let Err(seconds) = limiter.take(client, fields, now) else { return Ok(()) };
        // That of the limiter may be from before a reload.
        if !self.config.rules.rate_limit.as_ref().is_some_and(|rule| rule.dry_run) {
            return Err(Cause::RateLimited(seconds));
        }
        self.tally.would_limit.fetch_add(1, Ordering::Relaxed);
        log_sparingly!(
            info,
            "a request would be refused if rate_limit were not a dry_run route={} client={client}",
            self.label
        );
        Ok(())
    }

    /// What became of its exchanges.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Where its backends are.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Its backends now, in the order of the configuration.
    #[must_use]
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        self.pool.backends()
    }

    /// Whether probes and operators leave any backend.
    #[must_use]
    pub fn has_healthy(&self) -> bool {
        self.pool.has_healthy()
    }

    /// An exchange on `backend` went well.
    pub(crate) fn note_success(&self, backend: &Backend) {
        self.pool.note_success(backend);
    }

    /// An exchange on `backend` failed, and `cause` says why.
    pub(crate) fn note_failure(&self, backend: &Backend, cause: Cause) {
        self.pool.note_failure(backend, cause);
    }

    /// Whether the backend with this id is there, and neither probes nor exchanges have taken it out.
    pub(crate) fn can_use(&self, id: u64) -> bool {
        self.pool.can_use(id)
    }

    /// Somebody has changed the health of a backend: see [`Pool::health_changed`].
    pub(crate) fn health_changed(&self) -> bool {
        self.pool.health_changed()
    }

    /// A route with backends on ports 0, 1, 2 …
    #[cfg(test)]
    pub(crate) fn for_tests(backends: u16, change: impl FnOnce(&mut RouteConfig)) -> Arc<Self> {
        let pool = Pool::for_tests(backends, change);
        Arc::new(Self::new(pool.config().clone(), pool))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::rules::{Per, RateLimit};

    #[test]
    fn a_dry_run_counts_and_refuses_nothing() {
        let route = |dry_run: bool| {
            Route::for_tests(1, |config| {
                let one = NonZeroU32::MIN;
                let rule = RateLimit { requests_per_sec: one, burst: one, per: Per::Route, dry_run };
                config.rules.rate_limit = Some(rule);
            })
        };
        let (client, now) = ("192.0.2.1".parse().unwrap(), Instant::now());
        let take = |route: &Route| route.take(client, &Fields::new(), now);
        let counted = |route: &Route| route.tally().would_limit.load(Ordering::Relaxed);
        let dry = route(true);
        assert_eq!([take(&dry), take(&dry), take(&dry)], [Ok(()); 3]);
        assert_eq!(counted(&dry), 2);
        // When it is meant, what is used up is used up.
        let meant = dry.successor(route(false).config(), Arc::clone(dry.pool()));
        assert_eq!((take(&meant), counted(&meant)), (Err(Cause::RateLimited(1)), 2));
    }
}
