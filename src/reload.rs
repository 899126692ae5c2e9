//! Reload: another configuration for a proxy that runs. Everything is built and bound before anything is swapped, so that
//! what cannot be applied whole is not applied in part.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::access_log::AccessLog;
use crate::config::{AdminConfig, Config, ListenAddr, RouteConfig, ServerConfig};
use crate::downstream::listener::{self, Change, Entrance, Listener};
use crate::file_limit::{self, Needs};
use crate::front::Front;
use crate::health::checker::HealthChecker;
use crate::proxy::{
    Checked, FIRST_LOOKUPS, Listening, Proxy, StartError, auth_of, open_access_log, pools_of,
};
use crate::route::{Pool, Route};
use crate::snapshot::Snapshot;

/// How the last reload went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadOutcome {
    /// When that was.
    pub at: SystemTime,
    /// Why nothing was changed; `None`: it went well.
    pub error: Option<String>,
}

/// What the last reload said. Written by whoever reloads, read by whoever wants to know: a lock for a few lines.
#[derive(Debug, Default)]
pub(crate) struct LastReload(Mutex<Option<ReloadOutcome>>);

impl LastReload {
    pub(crate) fn get(&self) -> Option<ReloadOutcome> {
        self.lock().clone()
    }

    fn set(&self, error: Option<String>) {
        *self.lock() = Some(ReloadOutcome { at: SystemTime::now(), error });
    }

    fn lock(&self) -> MutexGuard<'_, Option<ReloadOutcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a reload has changed, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The number of the configuration that is at work now; 1 was that of the start.
    pub snapshot: u64,
    /// Labels of routes that have come.
    pub added: Vec<String>,
    /// Those that are not as they were.
    pub changed: Vec<String>,
    /// Those that have gone.
    pub removed: Vec<String>,
    /// Keys that take effect after a restart only.
    pub pending: Vec<&'static str>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |labels: &[String]| if labels.is_empty() { "none".to_owned() } else { labels.join(",") };
        write!(
            f,
            "snapshot={} routes_added={} routes_changed={} routes_removed={}",
            self.snapshot,
            list(&self.added),
            list(&self.changed),
            list(&self.removed)
        )
    }
}

impl Proxy {
    /// Puts another configuration to work. What has begun ends under the one before; backends that stay keep their health,
    /// what they carry, and their idle connections.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing has changed then.
    pub fn reload(&mut self, config: &Config) -> Result<Reloaded, StartError> {
        let outcome = self.try_reload(config);
        let counters = &self.gateway.counters;
        let counter = if outcome.is_ok() { &counters.reloads } else { &counters.reloads_failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.last_reload.set(outcome.as_ref().err().map(ToString::to_string));
        outcome
    }

    /// Notes a reload that did not come as far as a configuration.
    pub(crate) fn note_failed_reload(&self, error: String) {
        self.gateway.counters.reloads_failed.fetch_add(1, Ordering::Relaxed);
        self.last_reload.set(Some(error));
    }

    fn try_reload(&mut self, config: &Config) -> Result<Reloaded, StartError> {
        let before = self.gateway.snapshot();
        let mut reloaded = Reloaded { snapshot: before.number + 1, ..Reloaded::default() };
        reloaded.pending = self.pending(config);
        let (mut routes, mut pools) = (Vec::new(), Vec::new());
        for route in &config.routes {
            let of_route = pools_of(route, &mut pools, &self.pools).map_err(StartError::Backend)?;
            let auth = auth_of(route, &mut pools, &self.pools).map_err(StartError::Backend)?;
            let after =
                self.route_after(route, of_route, auth, &mut reloaded).map_err(StartError::Backend)?;
            routes.push(after);
        }
        let is_gone = |old: &&Arc<Route>| routes.iter().all(|route| route.label() != old.label());
        reloaded.removed = self.routes.iter().filter(is_gone).map(|old| old.label().to_owned()).collect();
        let access_log = self.access_log_after(config, &before)?;
        let (change, listening) = self.listeners_after(config)?;
        let entrances = listening.iter().map(|listening| listening.entrance);
        let workers = self.started_with.workers;
        let front = Front::new(config, workers, entrances, Some(&before.front)).map_err(StartError::Tls)?;
        if config.has_passwords() {
            self.gateway.passwords.start().map_err(StartError::Thread)?;
        }
        // Each ends when dropped.
        let new_checkers = self.new_checkers(&pools).map_err(StartError::Thread)?;
        self.upkeep.change(&pools).map_err(StartError::Thread)?;
        if let Err(error) = self.renewal.change(&config.front, front.tls.as_ref()) {
            // Its thread is there: it takes this back.
            let _ = self.upkeep.change(&self.pools);
            return Err(StartError::Thread(error));
        }
        self.upkeep.wait_for_first_answers(FIRST_LOOKUPS);
        // From here on nothing fails.
        let snapshot = Snapshot::new(reloaded.snapshot, config, &routes, access_log, &self.gateway.in_use)
            .with_front(front);
        self.gateway.snapshot.store(Arc::new(snapshot));
        self.gateway.exchanges.set_max(config.server.max_exchanges.get());
        self.gateway.tunnels.set_max(config.server.max_tunnels);
        self.gateway.compressing.set_max(config.server.max_compressing);
        drop(before);
        self.access_logs.retain(|log| log.strong_count() > 0);
        let log = self.gateway.snapshot().access_log.clone();
        self.access_logs.extend(log.iter().map(Arc::downgrade));
        for listener in &change.added {
            log::info!("listening addr={}", listener.addr);
        }
        for addr in &change.removed {
            log::info!("no longer listening addr={addr}");
        }
        self.engine.change(change);
        self.keep_checkers(&pools, new_checkers);
        pools.iter().for_each(|pool| pool.take_over());
        (self.routes, self.pools) = (routes, pools);
        self.listening = listening;
        self.drain_delay = config.drain_delay;
        self.shutdown_timeout = config.shutdown_timeout;
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        Ok(reloaded)
    }

    /// The log that is open, if nothing about it has changed: its file is opened anew.
    fn access_log_after(
        &self,
        config: &Config,
        before: &Snapshot,
    ) -> Result<Option<Arc<AccessLog>>, StartError> {
        let Some(config) = &config.access_log else { return Ok(None) };
        if let Some(log) = before.access_log.as_ref().filter(|log| log.config() == config) {
            log.reopen();
            return Ok(Some(Arc::clone(log)));
        }
        open_access_log(config, &self.gateway.counters).map(Some)
    }

    /// What the configuration would change and only a restart does.
    fn pending(&self, config: &Config) -> Vec<&'static str> {
        let server = &config.server;
        let listens =
            |admin: Option<&AdminConfig>| admin.map(|admin| (admin.listen_addr.clone(), admin.socket_mode));
        let ServerConfig { engine, workers, queue_size, .. } = &self.started_with;
        let mut pending = Vec::new();
        for (key, is_other) in [
            ("server.engine", *engine != server.engine),
            ("server.workers", *workers != server.workers),
            ("server.queue_size", *queue_size != server.queue_size),
            (
                "admin.listen_addr",
                listens(self.admin_started_with.as_ref()) != listens(config.admin.as_ref()),
            ),
        ] {
            if is_other {
                pending.push(key);
            }
        }
        pending
    }

    /// The route of this table: the one that is there, if nothing about it has changed.
    fn route_after(
        &self,
        config: &RouteConfig,
        pools: Vec<Arc<Pool>>,
        auth: Option<Arc<Pool>>,
        reloaded: &mut Reloaded,
    ) -> io::Result<Arc<Route>> {
        let label = config.label();
        let is_same = |old: &Route| {
            let same = old.pools().iter().zip(&pools).filter(|(old, new)| Arc::ptr_eq(old, new));
            let auth_before = old.auth().map(|auth| Arc::as_ptr(auth.pool()));
            old.config() == config
                && old.pools().len() == pools.len()
                && same.count() == pools.len()
                && auth_before == auth.as_ref().map(Arc::as_ptr)
        };
        let route = match self.routes.iter().find(|old| old.label() == label) {
            Some(old) if is_same(old) => return Ok(Arc::clone(old)),
            Some(old) => {
                reloaded.changed.push(label);
                old.successor(config, pools)?
            }
            None => {
                reloaded.added.push(label);
                Route::new(config.clone(), pools)?
            }
        };
        route.with_auth(auth).map(Arc::new)
    }

    /// The listeners to open and those to close, and what is listened on then. Sockets that were passed stay.
    fn listeners_after(&self, config: &Config) -> Result<(Change, Vec<Listening>), StartError> {
        let max_connections = file_limit::share_out(&Needs::of(config));
        let mut left: Vec<&Listening> = self.listening.iter().collect();
        let (mut added, mut changed, mut listening) = (Vec::new(), Vec::new(), Vec::new());
        for asked in &config.listen_addrs {
            let is_same = |one: &&Listening| one.asked.as_ref() == Some(asked);
            let is_it = |one: &&Listening| {
                one.asked.as_ref().is_some_and(|one| one.addr == asked.addr) || one.addr == asked.addr
            };
            // Of several free ports, the one that was asked for in the same way.
            let place = left.iter().position(is_same).or_else(|| left.iter().position(is_it));
            if let Some(place) = place {
                let Listening { addr, entrance: before, .. } = left.remove(place);
                let entrance = Entrance::new(addr, asked);
                if entrance != *before {
                    changed.push((addr.clone(), entrance));
                }
                listening.push(Listening { asked: Some(asked.clone()), addr: addr.clone(), entrance });
                continue;
            }
            let listener = listener::open_one(asked, config.listen_mode)
                .map_err(|error| StartError::Listen(asked.addr.clone(), error))?;
            let Listener { addr, entrance, .. } = &listener;
            listening.push(Listening { asked: Some(asked.clone()), addr: addr.clone(), entrance: *entrance });
            added.push(listener);
        }
        let (removed, passed): (Vec<_>, Vec<_>) = left.into_iter().partition(|one| one.asked.is_some());
        listening.extend(passed.into_iter().cloned());
        let removed: Vec<ListenAddr> = removed.into_iter().map(|one| one.addr.clone()).collect();
        Ok((Change { added, changed, removed, max_connections }, listening))
    }

    /// A checker for each pool that has a health check and is not as it was.
    fn new_checkers(&self, pools: &[Arc<Pool>]) -> io::Result<Vec<Checked>> {
        let mut new = Vec::new();
        for pool in pools {
            let stays = self.health.iter().any(|checked| Arc::ptr_eq(&checked.pool, pool));
            if !stays && let Some(checker) = HealthChecker::start(Arc::clone(pool))? {
                new.push(Checked { pool: Arc::clone(pool), checker });
            }
        }
        Ok(new)
    }

    /// Ends the checkers of pools that are gone or not as they were, and takes in new ones.
    fn keep_checkers(&mut self, pools: &[Arc<Pool>], mut new: Vec<Checked>) {
        let stays = |checked: &Checked| pools.iter().any(|pool| Arc::ptr_eq(pool, &checked.pool));
        let (mut checkers, gone): (Vec<_>, Vec<_>) = self.health.drain(..).partition(stays);
        gone.iter().for_each(|checked| checked.checker.stop());
        checkers.append(&mut new);
        self.health = checkers;
    }
}
