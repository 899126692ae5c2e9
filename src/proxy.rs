//! [`Proxy`]: builds the parts, owns every thread, joins every thread.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
#[cfg(feature = "admin")]
use std::time::SystemTime;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::access_log::AccessLog;
#[cfg(feature = "admin")]
use crate::admin::{Admin, View};
use crate::config::{
    AccessLogConfig, AccessLogTo, AdminConfig, Config, ListenAddr, ListenConfig, RouteConfig, ServerConfig,
};
use crate::counters::Counters;
use crate::downstream::listener::{self, Change, Entrance, Listener};
use crate::exchange::gateway::{self, Gateway, Places};
use crate::file_limit::{self, Needs};
use crate::front::Front;
use crate::health::checker::{HealthChecker, RunningChecker};
use crate::memory::Memory;
use crate::passwords::Passwords;
use crate::reload::{LastReload, ReloadOutcome};
use crate::renewal::Renewal;
use crate::route::{Pool, Route};
use crate::snapshot::Snapshot;
use crate::upkeep::{SharedLookup, Upkeep};
use crate::upstream::names;
use crate::workers::Workers;
use crate::workers::watch::Watch;
#[cfg(feature = "classic")]
use crate::{classic::Classic, config::Engine};

/// Why the proxy could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address can't be listened on.
    Listen(ListenAddr, io::Error),
    /// The access log can't be opened.
    AccessLog(AccessLogTo, io::Error),
    /// A backend's address can't be used.
    Backend(io::Error),
    /// A thread could not be started.
    Thread(io::Error),
    /// Signals could not be taken over.
    Signals(io::Error),
    /// TLS towards clients can't be had.
    Tls(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(addr, error) => {
                write!(f, "cannot listen on {addr}: {error}")?;
                let is_unix = matches!(addr, ListenAddr::Unix(_));
                match error.kind() {
                    io::ErrorKind::AddrInUse if is_unix => f.write_str(
                        "; another program listens there, or a file that is no socket is in the way: stop or remove \
                         it, or change listen_addr",
                    ),
                    io::ErrorKind::PermissionDenied if is_unix => f.write_str(
                        "; the user this runs as may not create files in that directory: give it the permission, or \
                         change listen_addr",
                    ),
                    io::ErrorKind::NotFound if is_unix => {
                        f.write_str("; the directory is missing: create it, or change listen_addr")
                    }
                    io::ErrorKind::AddrInUse => {
                        f.write_str("; another program uses this port: stop it, or change listen_addr")
                    }
                    io::ErrorKind::PermissionDenied => f.write_str(
                        "; ports below 1024 need CAP_NET_BIND_SERVICE or root: or change listen_addr",
                    ),
                    _ => Ok(()),
                }
            }
            Self::AccessLog(AccessLogTo::Stdout, error) => {
                write!(f, "cannot write the access log to stdout: {error}")
            }
            Self::AccessLog(AccessLogTo::File(path), error) => {
                write!(f, "cannot open the access log {}: {error}", path.display())?;
                f.write_str(match error.kind() {
                    io::ErrorKind::NotFound => "; the directory is missing: create it, or change access_log.path",
                    io::ErrorKind::PermissionDenied => {
                        "; the user this runs as may not write there: give it the permission, or change access_log.path"
                    }
                    _ => "",
                })
            }
            Self::Backend(error) => write!(f, "cannot use a backend: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Tls(error) => write!(f, "cannot speak TLS to clients: {error}"),
            Self::Signals(error) => write!(f, "cannot take over signals: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What names get to be looked up in before clients are let in. A resolver that works answers within that, and then
/// nobody is told that a name is not known yet; one that does not delays nobody for longer.
pub(crate) const FIRST_LOOKUPS: Duration = Duration::from_millis(500);

/// What the last lines of the access log get to be written in.
const LAST_LINES: Duration = Duration::from_millis(500);

/// A running proxy. Dropping it ends and joins its threads and cuts what is under way; to let that finish, there is
/// [`drain`](Self::drain).
#[derive(Debug)]
pub struct Proxy {
    pub(crate) listening: Vec<Listening>,
    pub(crate) drain_delay: Duration,
    pub(crate) shutdown_timeout: Duration,
    /// What of the configuration a reload does not change.
    pub(crate) started_with: ServerConfig,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) routes: Vec<Arc<Route>>,
    pub(crate) pools: Vec<Arc<Pool>>,
    pub(crate) engine: Running,
    pub(crate) health: Vec<Checked>,
    pub(crate) upkeep: Upkeep,
    pub(crate) renewal: Renewal,
    pub(crate) last_reload: Arc<LastReload>,
    /// Those that exchanges may still write to, after reloads too.
    pub(crate) access_logs: Vec<Weak<AccessLog>>,
    /// What [`pending`](crate::reload) compares.
    pub(crate) admin_started_with: Option<AdminConfig>,
    /// The last to end: it tells of the drain.
    #[cfg(feature = "admin")]
    admin: Option<Admin>,
}

/// An address that is listened on.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    /// As the configuration has it. `None`: a socket that was passed and fits no address in it.
    pub asked: Option<ListenConfig>,
    /// With the port the system has chosen.
    pub addr: ListenAddr,
    pub entrance: Entrance,
}

/// The health thread of a pool.
#[derive(Debug)]
pub(crate) struct Checked {
    pub pool: Arc<Pool>,
    pub checker: RunningChecker,
}

/// What carries the exchanges.
#[derive(Debug)]
pub(crate) enum Running {
    Native(Workers),
    #[cfg(feature = "classic")]
    Classic(Classic),
}

impl Running {
    fn start(
        config: &ServerConfig,
        listeners: Vec<Listener>,
        max_clients: usize,
        gateway: &Arc<Gateway>,
    ) -> io::Result<Self> {
        #[cfg(feature = "classic")]
        if config.engine == Engine::TinyHttp {
            return Classic::start(config, listeners, gateway).map(Self::Classic);
        }
        Workers::start(config, listeners, max_clients, gateway).map(Self::Native)
    }

    /// For who wants to know how the workers are. With the classic engine, of none.
    pub(crate) fn watch(&self) -> Watch {
        match self {
            Self::Native(workers) => workers.watch(),
            #[cfg(feature = "classic")]
            Self::Classic(_) => Watch::default(),
        }
    }

    /// After a reload.
    pub(crate) fn change(&mut self, change: Change) {
        match self {
            Self::Native(workers) => workers.change(change),
            #[cfg(feature = "classic")]
            Self::Classic(classic) => classic.change(change),
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Exchanges that were still under way at the deadline.
    pub cut: usize,
}

impl Proxy {
    /// Binds the listeners, starts every thread, and returns once connections are accepted. Host names are looked up side
    /// by side meanwhile; those that take longer than half a second are taken in when they are known.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with_lookup(config, Arc::new(names::system))
    }

    /// [`start`](Self::start) with another resolver than that of the system.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with_lookup(config: Config, lookup: SharedLookup) -> Result<Self, StartError> {
        let counters = Arc::new(Counters::default());
        let mut pools = Vec::new();
        let mut routes = Vec::new();
        for route in &config.routes {
            let of_route = pools_of(route, &mut pools, &[]).map_err(StartError::Backend)?;
            let auth = auth_of(route, &mut pools, &[]).map_err(StartError::Backend)?;
            let route = Route::new(route.clone(), of_route).and_then(|route| route.with_auth(auth));
            routes.push(Arc::new(route.map_err(StartError::Backend)?));
        }
        let access_log = config.access_log.as_ref().map(|log| open_access_log(log, &counters)).transpose()?;
        let max_clients = file_limit::share_out(&Needs::of(&config));
        Memory::of(&config).log();
        let listeners = listener::open(&config.listen_addrs, config.listen_mode)
            .map_err(|(addr, error)| StartError::Listen(addr, error))?;
        let entrances = listeners.iter().map(|listener| listener.entrance);
        let front = Front::new(&config, config.server.workers, entrances, None).map_err(StartError::Tls)?;
        let renewal =
            Renewal::start(&config.front, front.tls.as_ref(), &counters).map_err(StartError::Thread)?;
        let access_logs = access_log.iter().map(Arc::downgrade).collect();
        let in_use = Arc::default();
        let gateway = Arc::new(Gateway {
            snapshot: ArcSwap::from_pointee(
                Snapshot::new(1, &config, &routes, access_log, &in_use).with_front(front),
            ),
            counters,
            tunnels: Places::new(config.server.max_tunnels),
            compressing: Places::new(config.server.max_compressing),
            exchanges: Places::new(config.server.max_exchanges.get()),
            per_client: Arc::default(),
            passwords: Passwords::default(),
            via: gateway::via(),
            draining: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            in_use,
        });
        if config.has_passwords() {
            gateway.passwords.start().map_err(StartError::Thread)?;
        }
        // They come in the order of the file, and then those that were passed beside it.
        let listening: Vec<Listening> = listeners
            .iter()
            .enumerate()
            .map(|(n, listener)| Listening {
                asked: config.listen_addrs.get(n).cloned(),
                addr: listener.addr.clone(),
                entrance: listener.entrance,
            })
            .collect();
        // Each ends when dropped: what cannot be started takes along what was.
        let upkeep = Upkeep::start(&pools, lookup).map_err(StartError::Thread)?;
        upkeep.wait_for_first_answers(FIRST_LOOKUPS);
        let mut health = Vec::new();
        for pool in &pools {
            let checker = HealthChecker::start(Arc::clone(pool)).map_err(StartError::Thread)?;
            health.extend(checker.map(|checker| Checked { pool: Arc::clone(pool), checker }));
        }
        let engine =
            Running::start(&config.server, listeners, max_clients, &gateway).map_err(StartError::Thread)?;
        let last_reload: Arc<LastReload> = Arc::default();
        #[cfg(feature = "admin")]
        let admin = {
            let view = View {
                gateway: Arc::clone(&gateway),
                workers: engine.watch(),
                last_reload: Arc::clone(&last_reload),
                started: SystemTime::now(),
            };
            config.admin.as_ref().map(|admin| start_admin(admin, &view)).transpose()?
        };
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        for Listening { addr, entrance, .. } in &listening {
            let tls = if entrance.tls { " tls=true" } else { "" };
            let header = if entrance.proxy_protocol { " proxy_protocol=true" } else { "" };
            log::info!("listening addr={addr} engine={}{tls}{header}", config.server.engine);
        }
        for route in &routes {
            log_route(route.config());
        }
        Ok(Self {
            listening,
            drain_delay: config.drain_delay,
            shutdown_timeout: config.shutdown_timeout,
            started_with: config.server,
            gateway,
            routes,
            pools,
            engine,
            health,
            upkeep,
            renewal,
            last_reload,
            access_logs,
            admin_started_with: config.admin,
            #[cfg(feature = "admin")]
            admin,
        })
    }

    /// The TCP addresses listened on, with the ports the system chose where 0 was asked for.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listening.iter().filter_map(|listening| listening.addr.tcp()).collect()
    }

    /// Configurations that exchanges still run under, that of the last reload included.
    #[must_use]
    pub fn snapshots_in_use(&self) -> usize {
        self.gateway.snapshots_in_use()
    }

    /// How the last reload went; `None`: there was none.
    #[must_use]
    pub fn last_reload(&self) -> Option<ReloadOutcome> {
        self.last_reload.get()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.gateway.counters
    }

    /// Each backend's address and the exchanges in flight on it.
    #[must_use]
    pub fn backend_in_flight(&self) -> Vec<(String, usize)> {
        let backends = self.pools.iter().flat_map(|pool| pool.backends());
        backends.map(|backend| (backend.label().to_owned(), backend.in_flight())).collect()
    }

    /// Stops accepting, lets what is in flight finish for up to `shutdown_timeout`, and joins every thread.
    #[must_use]
    pub fn drain(mut self) -> Drained {
        let deadline = Instant::now() + self.shutdown_timeout;
        self.stop_what_serves_nobody();
        let cut = match &mut self.engine {
            Running::Native(workers) => workers.drain(deadline),
            #[cfg(feature = "classic")]
            Running::Classic(classic) => classic.drain(deadline),
        };
        let deadline = Instant::now() + LAST_LINES;
        for log in self.access_logs.drain(..).filter_map(|log| log.upgrade()) {
            log.flush(deadline.saturating_duration_since(Instant::now()));
        }
        Drained { cut }
    }

    /// The address of the admin listener, with the port the system chose where 0 was asked for.
    #[cfg(feature = "admin")]
    #[must_use]
    pub fn admin_addr(&self) -> Option<&ListenAddr> {
        self.admin.as_ref().map(Admin::addr)
    }

    /// From now on the admin listener says that nothing should be sent here any more. New connections are served all the
    /// same.
    pub fn announce_drain(&self) {
        self.gateway.leaving.store(true, Ordering::Relaxed);
    }

    /// Writes to the log what is being carried: the oldest exchanges, one line each.
    pub fn log_exchanges(&self) {
        const MOST: usize = 200;
        let (sights, silent) = self.engine.watch().exchanges(MOST, Duration::from_secs(1));
        let in_flight = self.counters().in_flight.load(Ordering::Relaxed);
        let tunnels = self.gateway.tunnels.taken();
        log::info!("exchanges in_flight={in_flight} tunnels={tunnels} shown={} (the oldest)", sights.len());
        for sight in sights {
            log::info!("exchange {sight}");
        }
        for number in silent {
            log::error!("worker-{number} does not answer");
        }
    }

    /// Opens the file of the access log anew: what is there under its name now, or a new one.
    pub fn reopen_access_log(&self) {
        match &self.gateway.snapshot().access_log {
            Some(log) => log.reopen(),
            None => log::warn!("there is no access log to open again; access_log.path names one"),
        }
    }

    fn stop_what_serves_nobody(&mut self) {
        self.gateway.draining.store(true, Ordering::Relaxed);
        for checked in &self.health {
            checked.checker.stop();
        }
        self.upkeep.stop();
        self.renewal.stop();
    }
}

impl Drop for Proxy {
    /// Tells all before the first of them is waited for, when the fields are dropped.
    fn drop(&mut self) {
        self.stop_what_serves_nobody();
        self.gateway.passwords.stop();
    }
}

/// The access log, open.
pub(crate) fn open_access_log(
    config: &AccessLogConfig,
    counters: &Arc<Counters>,
) -> Result<Arc<AccessLog>, StartError> {
    let opened = AccessLog::open(config, counters);
    opened.map(Arc::new).map_err(|error| StartError::AccessLog(config.to.clone(), error))
}

#[cfg(feature = "admin")]
fn start_admin(config: &AdminConfig, view: &View) -> Result<Admin, StartError> {
    let listener = listener::open_one(&config.listen_addr.clone().into(), Some(config.socket_mode))
        .map_err(|error| StartError::Listen(config.listen_addr.clone(), error))?;
    let admin = Admin::start(listener, view).map_err(StartError::Thread)?;
    log::info!("admin listener ready addr={}", admin.addr());
    Ok(admin)
}

/// The pools of this table.
pub(crate) fn pools_of(
    config: &RouteConfig,
    pools: &mut Vec<Arc<Pool>>,
    before: &[Arc<Pool>],
) -> io::Result<Vec<Arc<Pool>>> {
    config.pools().map(|pool| pool_of(pool, pools, before)).collect()
}

/// The pool of this table: one that is in `pools` already, or else the one that was there `before`, if nothing about it has
/// changed, or what becomes of it.
fn pool_of(config: &RouteConfig, pools: &mut Vec<Arc<Pool>>, before: &[Arc<Pool>]) -> io::Result<Arc<Pool>> {
    let owner = Pool::owner_of(config);
    let is_it = |pool: &&Arc<Pool>| pool.owner() == owner;
    if let Some(pool) = pools.iter().find(is_it) {
        return Ok(Arc::clone(pool));
    }
    let pool = match before.iter().find(is_it) {
        Some(old) if old.config().has_pool_of(config) => Arc::clone(old),
        Some(old) => Arc::new(old.successor(config)?),
        None => Arc::new(Pool::build(config)?),
    };
    pools.push(Arc::clone(&pool));
    Ok(pool)
}

/// The pool of the service of its `forward_auth`, if it has one.
pub(crate) fn auth_of(
    config: &RouteConfig,
    pools: &mut Vec<Arc<Pool>>,
    before: &[Arc<Pool>],
) -> io::Result<Option<Arc<Pool>>> {
    config.auth_service.as_ref().map(|service| pool_of(service, pools, before)).transpose()
}

fn log_route(route: &RouteConfig) {
    let hosts: Vec<String> = route.key.hosts.iter().map(ToString::to_string).collect();
    let hosts = if hosts.is_empty() { "any".to_owned() } else { hosts.join(",") };
    let (prefix, name) = (&route.key.prefix, route.label());
    let shares = route.shares.iter().map(|share| (Some(share.share), &share.of));
    let own = route.shares.is_empty().then_some((None, route));
    for (share, pool) in own.into_iter().chain(shares) {
        let backends: Vec<String> = pool.backends.iter().map(|backend| backend.addr.to_string()).collect();
        let backends = if backends.is_empty() { "none".to_owned() } else { backends.join(",") };
        let health = pool.health_check.as_ref().map_or("none".to_owned(), |check| {
            format!("{} every {} s", check.path, check.interval.as_secs_f64())
        });
        let of = match (share, &pool.pool) {
            (Some(share), Some(pool)) => format!(" pool={pool} share={share}"),
            _ => String::new(),
        };
        log::info!(
            "route prefix={prefix} name={name} hosts={hosts}{of} algorithm={} backends={backends} health_check={health:?}",
            pool.algorithm,
        );
        if pool.tls.insecure_skip_verify {
            log::warn!(
                "certificates of backends are not verified route={name}{of} (insecure_skip_verify is set)"
            );
        }
    }
}
