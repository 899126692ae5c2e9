//! [`Route`]: a prefix, its backends, and how many exchanges it carries. Here is what it consists of and how it is
//! made; each of its jobs has a file:
//!
//! - `guard.rs` counts its exchanges, up to its limit.
//! - `pick.rs` finds a backend for one of them.
//! - `health.rs` takes in what exchanges and probes say about the backends.
//! - `names.rs` makes the backends from their entries, and follows names to other addresses.

mod guard;
mod health;
mod names;
mod pick;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::balance::line::Line;
use crate::balance::passive::PassivePolicy;
use crate::balance::{Backend, LoadBalancer, balancer};
use crate::config::RouteConfig;
use crate::counters::tally::Tally;
use crate::error::Cause;
use crate::rules::Limiter;

pub use guard::RouteGuard;
pub use pick::Pick;

/// One `[[routes]]` table at work.
#[derive(Debug)]
pub struct Route {
    config: RouteConfig,
    label: String,
    passive: PassivePolicy,
    /// Swapped as a whole when a name has got other addresses; an exchange keeps the one it picked from.
    group: ArcSwap<Group>,
    /// Where exchanges wait while all backends are full.
    line: Arc<Line>,
    /// Written by [`enter`](Self::enter) and the drop of [`RouteGuard`] alone. It guards no other data, and that it
    /// never exceeds the limit follows from its being changed by compare-and-swap: `Relaxed`. After a reload the route
    /// before it and the one after it have the same.
    in_flight: Arc<AtomicUsize>,
    /// Counts requests, if the route takes no more than some number; the same after a reload that leaves the number.
    limiter: Option<Arc<Limiter>>,
    /// What became of its exchanges; the same after a reload.
    tally: Arc<Tally>,
    /// Whether the log was last told that a healthy backend is left. Taken by the probes of this route alone, after
    /// they set a backend's health, never on the request path. A lock because looking at all backends and noting
    /// what was seen must be one step: else the older of two sights could be the one that stays.
    known_healthy: Mutex<bool>,
    /// Held while failures take a backend out: of two that fail at the same moment, one has to stay.
    taking_out: Mutex<()>,
}

/// The backends of a route, and who chooses among them.
#[derive(Debug)]
struct Group {
    backends: Vec<Arc<Backend>>,
    balancer: Box<dyn LoadBalancer>,
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
        let limiter = config.rules.rate_limit.map(|rule| Arc::new(Limiter::new(rule, Instant::now())));
        Self {
            label: config.label(),
            config,
            passive,
            group: ArcSwap::from_pointee(Group { backends, balancer }),
            line,
            in_flight: Arc::default(),
            limiter,
            tally: Arc::default(),
            known_healthy,
            taking_out: Mutex::default(),
        }
    }

    /// A route whose backends are made from its configuration. Names have no address yet: [`Upkeep`](crate::upkeep::Upkeep)
    /// has them looked up.
    ///
    /// # Errors
    /// An address can't be used.
    pub fn build(config: &RouteConfig) -> io::Result<Self> {
        let route = Self::with_line(config.clone(), Vec::new(), Arc::default());
        let backends = route.known_backends()?;
        let balancer = balancer(config, &backends);
        *lock(&route.known_healthy) = !backends.is_empty();
        route.group.store(Arc::new(Group { backends, balancer }));
        Ok(route)
    }

    /// What becomes of a route when its table has changed: backends that stay keep their health, what they carry, and, where
    /// nothing about their connections has changed, the connections that are kept; so do the addresses of names.
    ///
    /// # Errors
    /// An address can't be used.
    pub(crate) fn successor(&self, config: &RouteConfig) -> io::Result<Self> {
        let empty = Self::with_line(config.clone(), Vec::new(), Arc::clone(&self.line));
        let (in_flight, tally) = (Arc::clone(&self.in_flight), Arc::clone(&self.tally));
        // What clients have used up stays used up.
        let kept =
            self.limiter.as_ref().filter(|limiter| Some(limiter.rule()) == config.rules.rate_limit.as_ref());
        let limiter = kept.cloned().or_else(|| empty.limiter.clone());
        let route = Self { in_flight, tally, limiter, ..empty };
        let backends = route.backends_after(self)?;
        let balancer = balancer(config, &backends);
        *lock(&route.known_healthy) = *lock(&self.known_healthy);
        route.group.store(Arc::new(Group { backends, balancer }));
        Ok(route)
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

    /// Its backends now, in the order of the configuration.
    #[must_use]
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        self.group.load().backends.clone()
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
