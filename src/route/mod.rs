//! [`Route`]: a prefix, the pool or pools its backends are in, and how many exchanges it carries. Here is what it consists of and
//! how it is made; each of its jobs has a file:
//!
//! - `guard.rs` counts its exchanges, up to its limit.
//! - `pool.rs` has its backends, alone or together with other routes.
//! - `split.rs` says which of several pools an exchange goes to.
//! - `pick.rs` finds a backend for one of them.
//! - `health.rs` takes in what exchanges and probes say about the backends.
//! - `names.rs` makes the backends from their entries, and follows names to other addresses.

mod guard;
mod health;
mod names;
mod pick;
pub mod pool;
mod split;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use http::HeaderValue;

use crate::balance::Backend;
use crate::balance::sticky_cookie::{Named, set_cookie};
use crate::config::RouteConfig;
use crate::counters::tally::{Classes, Ended, Tally};
use crate::error::Cause;
use crate::http::fields::Fields;
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
    /// What became of its exchanges; the same after a reload.
    tally: Arc<Tally>,
}

impl Route {
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
        let limiter = config.rules.rate_limit.map(|rule| Arc::new(Limiter::new(rule, Instant::now())));
        let (in_flight, tally) = (Arc::default(), Arc::default());
        Ok(Self { label: config.label(), config, pool, split, in_flight, limiter, tally })
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
        let kept =
            self.limiter.as_ref().filter(|limiter| Some(limiter.rule()) == config.rules.rate_limit.as_ref());
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

    /// Takes a request of this client, if there is a limit to how many there can be.
    ///
    /// # Errors
    /// It is reached.
    pub(crate) fn take(&self, client: IpAddr, now: Instant) -> Result<(), Cause> {
        self.limiter.as_ref().map_or(Ok(()), |limiter| limiter.take(client, now).map_err(Cause::RateLimited))
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
        let is_it = |pool: &&Arc<Pool>| Arc::ptr_eq(&pool.line, backend.line());
        self.split.as_ref().and_then(|split| split.pools.iter().find(is_it)).unwrap_or(&self.pool)
    }

    /// Which of several pools it is that has this backend.
    pub(crate) fn share_of(&self, backend: &Backend) -> Option<&str> {
        self.split.as_ref()?;
        self.pool_of(backend).name()
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

    /// The value of `Set-Cookie` for an answer of `backend` to a request with these `fields`, if it needs one.
    pub(crate) fn set_cookie(&self, fields: &Fields, backend: &Backend) -> Option<HeaderValue> {
        self.config.sticky_cookie.as_ref()?;
        let pool = self.split.as_ref().and_then(|split| split.id_of(self.pool_of(backend)));
        let can_be_used = |named: Named| match &self.split {
            None => self.pool.can_use(named.backend),
            Some(split) => {
                named.pool.and_then(|id| split.with_id(id)).is_some_and(|pool| pool.can_use(named.backend))
            }
        };
        set_cookie(&self.config, fields, Named { pool, backend: backend.id() }, &can_be_used)
    }

    /// An exchange on `backend` went well.
    pub(crate) fn note_success(&self, backend: &Backend) {
        self.pool_of(backend).note_success(backend);
    }

    /// An exchange on `backend` failed, and `cause` says why.
    pub(crate) fn note_failure(&self, backend: &Backend, cause: Cause) {
        self.pool_of(backend).note_failure(backend, cause);
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
