//! [`Pool`]: the backends of a route, or of all routes that refer to the same `[[backends]]` table, and who chooses among
//! them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::few::Few;
use crate::balance::backend::now_millis;
use crate::balance::line::Line;
use crate::balance::passive::PassivePolicy;
use crate::balance::slow_start::FULL;
use crate::balance::sticky_cookie::by_id;
use crate::balance::{Backend, LoadBalancer, Ramp, balancer};
use crate::config::RouteConfig;

/// Backends with their health, their counts and their connections.
#[derive(Debug)]
pub struct Pool {
    /// The table of a route that has it. Of it only what is the pool's is read: see [`RouteConfig::has_pool_of`].
    config: RouteConfig,
    owner: String,
    pub(super) passive: PassivePolicy,
    /// Swapped as a whole when a name has got other addresses; an exchange keeps the one it picked from.
    pub(super) group: ArcSwap<Group>,
    /// Where exchanges wait while all backends are full.
    pub(super) line: Arc<Line>,
    /// Whether the log was last told that a healthy backend is left. Taken by the probes of this pool alone, after
    /// they set a backend's health, never on the request path. A lock because looking at all backends and noting
    /// what was seen must be one step: else the older of two sights could be the one that stays.
    pub(super) known_healthy: Mutex<bool>,
    /// Whether its backups are used, or backends that are not healthy.
    pub(super) few: Few,
    /// A reload has put it in the place of another: who is new in it comes to others that serve already.
    pub(super) is_successor: bool,
    /// Held while failures take a backend out: of two that fail at the same moment, one has to stay.
    pub(super) taking_out: Mutex<()>,
}

/// The backends of a pool, and who chooses among them.
#[derive(Debug)]
pub(super) struct Group {
    /// All, in the order of the configuration.
    pub(super) backends: Vec<Arc<Backend>>,
    /// Those that are no backups.
    primary: Tier,
    backups: Option<Tier>,
    /// All, where that is more than `primary` and all may have to be tried.
    all: Option<Tier>,
}

/// Backends among which one balancer chooses.
#[derive(Debug)]
pub(super) struct Tier {
    /// In the order of their ids, for sticky cookies.
    pub(super) by_id: Vec<Arc<Backend>>,
    pub(super) balancer: Box<dyn LoadBalancer>,
}

impl Group {
    pub(super) fn new(config: &RouteConfig, backends: Vec<Arc<Backend>>) -> Self {
        let tier =
            |backends: &[Arc<Backend>]| Tier { by_id: by_id(backends), balancer: balancer(config, backends) };
        let (backups, primary): (Vec<_>, Vec<_>) =
            backends.iter().cloned().partition(|backend| backend.config().backup);
        let has_backups = !backups.is_empty();
        Self {
            primary: tier(&primary),
            backups: has_backups.then(|| tier(&backups)),
            all: (has_backups && config.min_healthy.is_some()).then(|| tier(&backends)),
            backends,
        }
    }

    pub(super) fn has_backups(&self) -> bool {
        self.backups.is_some()
    }

    /// In the order in which they are used.
    pub(super) fn tiers(&self) -> impl Iterator<Item = &Tier> {
        std::iter::once(&self.primary).chain(&self.backups)
    }

    /// All in one.
    pub(super) fn all(&self) -> &Tier {
        self.all.as_ref().unwrap_or(&self.primary)
    }
}

impl Tier {
    pub(super) fn has(&self, is_it: impl Fn(&Backend) -> bool) -> bool {
        self.by_id.iter().any(|backend| is_it(backend))
    }
}

impl Pool {
    /// A pool of `backends`, which have the same `line`.
    pub(crate) fn with_line(config: RouteConfig, backends: Vec<Arc<Backend>>, line: Arc<Line>) -> Self {
        let passive = PassivePolicy {
            max_fails: config.max_fails,
            fail_timeout: config.fail_timeout,
            probed: config.health_check.is_some(),
        };
        Self {
            owner: Self::owner_of(&config),
            passive,
            known_healthy: Mutex::new(backends.iter().any(|backend| backend.is_healthy())),
            group: ArcSwap::from_pointee(Group::new(&config, backends)),
            config,
            line,
            few: Few::default(),
            is_successor: false,
            taking_out: Mutex::default(),
        }
    }

    /// A pool whose backends are made from the table of a route. Names have no address yet:
    /// [`Upkeep`](crate::upkeep::Upkeep) has them looked up.
    ///
    /// # Errors
    /// An address can't be used.
    pub fn build(config: &RouteConfig) -> io::Result<Self> {
        let pool = Self::with_line(config.clone(), Vec::new(), Arc::default());
        let backends = pool.known_backends()?;
        *lock(&pool.known_healthy) = !backends.is_empty();
        pool.group.store(Arc::new(Group::new(config, backends)));
        Ok(pool)
    }

    /// What becomes of a pool when its table has changed: backends that stay keep their health, what they carry, and, where
    /// nothing about their connections has changed, the connections that are kept; so do the addresses of names.
    ///
    /// # Errors
    /// An address can't be used.
    pub(crate) fn successor(&self, config: &RouteConfig) -> io::Result<Self> {
        let empty = Self::with_line(config.clone(), Vec::new(), Arc::clone(&self.line));
        let pool = Self { few: self.few.successor(), is_successor: true, ..empty };
        let backends = pool.backends_after(self)?;
        *lock(&pool.known_healthy) = *lock(&self.known_healthy);
        pool.group.store(Arc::new(Group::new(config, backends)));
        Ok(pool)
    }

    /// What one pool is told from another by: see [`owner`](Self::owner).
    pub(crate) fn owner_of(config: &RouteConfig) -> String {
        match &config.pool {
            Some(name) => format!("pool={name}"),
            None => format!("route={}", config.label()),
        }
    }

    /// Whose it is, as logs have it: `pool=app`, or `route=/api` of a route that has it for itself.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The same without the kind.
    #[must_use]
    pub fn label(&self) -> &str {
        self.owner.split_once('=').map_or(&*self.owner, |(_, label)| label)
    }

    /// What it is called in the configuration; `None`: a route has it for itself.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.config.pool.as_deref()
    }

    /// What it is called in metrics where routes are: no route can be called `pool:app`.
    pub(crate) fn metric_label(&self) -> String {
        self.name().map_or_else(|| self.label().to_owned(), |name| format!("pool:{name}"))
    }

    /// The table of a route that has it.
    pub(crate) fn config(&self) -> &RouteConfig {
        &self.config
    }

    /// What a backend gets of its share: less than 1, while it starts slowly.
    #[must_use]
    pub fn share(&self, backend: &Backend) -> f64 {
        let share = self.config.slow_start.map(|time| backend.share(Ramp::new(time), now_millis()));
        share.map_or(1.0, |share| f64::from(share) / f64::from(FULL))
    }

    /// Its backends now, in the order of the configuration.
    #[must_use]
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        self.group.load().backends.clone()
    }

    /// Whether it has the backend with this id.
    pub(super) fn has(&self, id: u64) -> bool {
        self.group.load().all().by_id.binary_search_by_key(&id, |backend| backend.id()).is_ok()
    }

    /// A pool with backends on ports 0, 1, 2 …
    #[cfg(test)]
    pub(crate) fn for_tests(backends: u16, change: impl FnOnce(&mut RouteConfig)) -> Arc<Self> {
        use std::num::NonZeroUsize;
        let line = Arc::new(Line::default());
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

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pools of these routes, each once, in the order of their first routes.
pub(crate) fn of_routes<'r>(routes: impl IntoIterator<Item = &'r Arc<super::Route>>) -> Vec<Arc<Pool>> {
    let mut pools: Vec<Arc<Pool>> = Vec::new();
    for route in routes {
        // As a rule there are few, and this is done at the start and for a human being.
        for pool in route.pools() {
            if !pools.iter().any(|known| Arc::ptr_eq(known, pool)) {
                pools.push(Arc::clone(pool));
            }
        }
    }
    pools
}
