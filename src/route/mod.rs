//! [`Route`]: a prefix, the pool or pools its backends are in, and how many exchanges it carries. Here is what it consists of and
//! how it is made; each of its jobs has a file:
//!
//! - `guard.rs` counts its exchanges, up to its limit.
//! - `pool.rs` has its backends, alone or together with other routes.
//! - `split.rs` says which of several pools an exchange goes to.
//! - `pick.rs` finds a backend for one of them.
//! - `health.rs` takes in what exchanges and probes say about the backends.
//! - `few.rs` says whether so few of them are left that others are used too.
//! - `names.rs` makes the backends from their entries, and follows names to other addresses.

mod few;
mod guard;
mod health;
mod names;
mod pick;
pub mod pool;
mod split;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;

use crate::balance::Backend;
use crate::balance::sticky_cookie::{Named, set_cookie};
use crate::config::RouteConfig;
use crate::counters::tally::{Classes, Ended, Tally};
use crate::error::Cause;
use crate::http::fields::Fields;
use crate::logging::sparingly::log_sparingly;
use crate::rules::Limiter;
use split::Split;

pub use guard::RouteGuard;
pub use pick::Pick;
pub use pool::Pool;

/// One `[[routes]]` table at work.
#[derive(Debug)]
pub struct Route {
    config: RouteConfig,
    label: String,
    /// Its backends; of several pools the first.
    pool: Arc<Pool>,
    /// All of them, if there are several.
    split: Option<Box<Split>>,
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
    /// With the backends in `pool` as the service of its `forward_auth`.
    ///
    /// # Errors
    /// None, since there is a pool.
    pub(crate) fn with_auth(mut self, pool: Option<Arc<Pool>>) -> io::Result<Self> {
        let service = self.config.auth_service.as_ref().zip(pool);
        let service = service.map(|(config, pool)| Self::new((**config).clone(), vec![pool]));
        self.auth = service.transpose()?.map(Arc::new);
        Ok(self)
    }

    /// The service of its `forward_auth`, as a route of its own.
    pub(crate) fn auth(&self) -> Option<&Arc<Self>> {
        self.auth.as_ref()
    }

    /// A route that carries nothing yet, to the backends in `pools`, as many as [`RouteConfig::pools`] has.
    ///
    /// # Errors
    /// There is no pool.
    pub fn new(config: RouteConfig, pools: Vec<Arc<Pool>>) -> io::Result<Self> {
        Self::after(None, config, pools)
    }

    fn after(before: Option<&Split>, config: RouteConfig, pools: Vec<Arc<Pool>>) -> io::Result<Self> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "a route without a pool");
        let pool = Arc::clone(pools.first().ok_or_else(none)?);
        let split = Split::new(&config, pools, before).map(Box::new);
        let limiter =
            config.rules.rate_limit.clone().map(|rule| Arc::new(Limiter::new(rule, Instant::now())));
        let (in_flight, tally) = (Arc::default(), Arc::default());
        Ok(Self { label: config.label(), config, pool, split, in_flight, limiter, auth: None, tally })
    }

    /// A route with pools of its own.
    ///
    /// # Errors
    /// An address can't be used.
    pub fn build(config: &RouteConfig) -> io::Result<Self> {
        let pools = config.pools().map(|pool| Pool::build(pool).map(Arc::new)).collect::<io::Result<_>>()?;
        Self::new(config.clone(), pools)
    }

    /// What becomes of a route when its table, or one of its pools, has changed.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn successor(&self, config: &RouteConfig, pools: Vec<Arc<Pool>>) -> io::Result<Self> {
        let (in_flight, tally) = (Arc::clone(&self.in_flight), Arc::clone(&self.tally));
        let empty = Self::after(self.split.as_deref(), config.clone(), pools)?;
        // What clients have used up stays used up.
        let counts_like = |limiter: &&Arc<Limiter>| {
            config.rules.rate_limit.as_ref().is_some_and(|rule| rule.counts_like(limiter.rule()))
        };
        let kept = self.limiter.as_ref().filter(counts_like);
        let limiter = kept.cloned().or_else(|| empty.limiter.clone());
        Ok(Self { in_flight, tally, limiter, ..empty })
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

    /// Counts an exchange that is over. `backend`: who had it last.
    pub(crate) fn count(&self, ended: &Ended, backend: Option<&Backend>) {
        self.tally.count(ended, backend.map(Backend::answers));
        if let (Some(split), Some(backend)) = (&self.split, backend)
            && let Some(answers) = split.answers_of(self.pool_of(backend))
        {
            answers.count(ended.status);
        }
    }

    /// Where its backends are; of several pools the first.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Where its backends are, in the order of the file.
    #[must_use]
    pub fn pools(&self) -> &[Arc<Pool>] {
        self.split.as_ref().map_or(std::slice::from_ref(&self.pool), |split| &split.pools)
    }

    /// Its pools with their shares, and what they have answered to its requests; none, if it has one pool.
    pub fn shares(&self) -> impl Iterator<Item = (&Arc<Pool>, u32, &Classes)> {
        self.split.iter().flat_map(|split| split.shares())
    }

    /// The pool of one of its backends. A pool and its backends have the same line, whatever else a reload or a resolver
    /// has changed.
    pub(crate) fn pool_of(&self, backend: &Backend) -> &Arc<Pool> {
        self.split.as_ref().and_then(|split| split.pool_of(backend)).unwrap_or(&self.pool)
    }

    /// Which of several pools it is that has this backend. None has the service of `forward_auth`.
    pub(crate) fn share_of(&self, backend: &Backend) -> Option<&str> {
        self.split.as_ref()?.pool_of(backend)?.name()
    }

    /// Its backends now, in the order of the configuration.
    #[must_use]
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        self.pools().iter().flat_map(|pool| pool.backends()).collect()
    }

    /// Whether probes and operators leave any backend.
    #[must_use]
    pub fn has_healthy(&self) -> bool {
        self.pools().iter().any(|pool| pool.has_healthy())
    }

    /// The value of `Set-Cookie` for an answer of `backend` to a request with these `fields`, if it needs one. `scheme`: how the
    /// client speaks.
    pub(crate) fn set_cookie(&self, fields: &Fields, backend: &Backend, scheme: &str) -> Option<HeaderValue> {
        self.config.sticky_cookie.as_ref()?;
        let pool = self.split.as_ref().and_then(|split| split.id_of(self.pool_of(backend)));
        let can_be_used = |named: Named| match &self.split {
            None => self.pool.can_use(named.backend),
            Some(split) => {
                named.pool.and_then(|id| split.with_id(id)).is_some_and(|pool| pool.can_use(named.backend))
            }
        };
        set_cookie(&self.config, fields, Named { pool, backend: backend.id() }, &can_be_used, scheme)
    }

    /// An exchange on `backend` went well.
    pub(crate) fn note_success(&self, backend: &Backend) {
        self.pool_of(backend).note_success(backend);
    }

    /// An exchange on `backend` failed, and `cause` says why.
    pub(crate) fn note_failure(&self, backend: &Backend, cause: Cause) {
        let RouteConfig { connect_timeout, response_timeout, .. } = self.config;
        let lost = if cause == Cause::ResponseTimeout { response_timeout } else { connect_timeout };
        self.pool_of(backend).note_failure(backend, cause, lost);
    }

    /// A backend has begun to answer with this status, so long after it had the request.
    pub(crate) fn note_answer(&self, backend: &Backend, status: u16, took: Duration) {
        self.pool_of(backend).note_answer(backend, status, took);
    }

    /// Somebody has changed the health of a backend: see [`Pool::health_changed`].
    pub(crate) fn health_changed(&self) -> bool {
        // All of them, whatever the first has to say.
        self.pools().iter().filter(|pool| pool.health_changed()).count() > 0
    }

    /// A route with backends on ports 0, 1, 2 …
    #[cfg(test)]
    pub(crate) fn for_tests(backends: u16, change: impl FnOnce(&mut RouteConfig)) -> Arc<Self> {
        let pool = Pool::for_tests(backends, change);
        Arc::new(Self::new(pool.config().clone(), vec![pool]).unwrap())
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
        let meant = dry.successor(route(false).config(), vec![Arc::clone(dry.pool())]).unwrap();
        assert_eq!((take(&meant), counted(&meant)), (Err(Cause::RateLimited(1)), 2));
    }
}
