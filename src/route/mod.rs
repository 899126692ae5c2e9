//! [`Route`]: a prefix, the pool its backends are in, and how many exchanges it carries. Here is what it consists of and
//! how it is made; each of its jobs has a file:
//!
//! - `guard.rs` counts its exchanges, up to its limit.
//! - `pool.rs` has its backends, alone or together with other routes.
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

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use crate::balance::Backend;
use crate::config::RouteConfig;
use crate::counters::tally::Tally;
use crate::error::Cause;
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
    /// What became of its exchanges; the same after a reload.
    tally: Arc<Tally>,
}

impl Route {
    /// A route that carries nothing yet, to the backends in `pool`.
    #[must_use]
    pub fn new(config: RouteConfig, pool: Arc<Pool>) -> Self {
        let limiter = config.rules.rate_limit.map(|rule| Arc::new(Limiter::new(rule, Instant::now())));
        let (in_flight, tally) = (Arc::default(), Arc::default());
        Self { label: config.label(), config, pool, in_flight, limiter, tally }
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
        let kept =
            self.limiter.as_ref().filter(|limiter| Some(limiter.rule()) == config.rules.rate_limit.as_ref());
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
        let RouteConfig { connect_timeout, response_timeout, .. } = self.config;
        let lost = if cause == Cause::ResponseTimeout { response_timeout } else { connect_timeout };
        self.pool.note_failure(backend, cause, lost);
    }

    /// A backend has begun to answer with this status, so long after it had the request.
    pub(crate) fn note_answer(&self, backend: &Backend, status: u16, took: Duration) {
        self.pool.note_answer(backend, status, took);
    }

    /// Whether the backend with this id is there, and one that exchanges are sent to.
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
