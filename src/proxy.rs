//! [`Proxy`]: builds the parts, owns every thread, joins every thread.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, ListenAddr, RouteConfig, ServerConfig};
use crate::counters::Counters;
use crate::downstream::listener::{self, Listener};
use crate::exchange::gateway::{self, Gateway, Places};
use crate::file_limit::{self, Needs};
use crate::health::checker::{HealthChecker, RunningChecker};
use crate::route::Route;
use crate::routing::RouteTable;
use crate::service_manager;
use crate::signals::Signals;
use crate::upkeep::{SharedLookup, Upkeep};
use crate::upstream::names;
use crate::workers::Workers;
#[cfg(feature = "classic")]
use crate::{classic::Classic, config::Engine};

/// Why the proxy could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address can't be listened on.
    Listen(ListenAddr, io::Error),
    /// A backend's address can't be used.
    Backend(io::Error),
    /// A thread could not be started.
    Thread(io::Error),
    /// Signals could not be taken over.
    Signals(io::Error),
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
            Self::Backend(error) => write!(f, "cannot use a backend: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Signals(error) => write!(f, "cannot take over signals: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What names get to be looked up in before clients are let in. A resolver that works answers within that, and then
/// nobody is told that a name is not known yet; one that does not delays nobody for longer.
const FIRST_LOOKUPS: Duration = Duration::from_millis(500);

/// A running proxy. Dropping it ends and joins its threads and cuts what is under way; to let that finish, there is
/// [`drain`](Self::drain).
#[derive(Debug)]
pub struct Proxy {
    local_addrs: Vec<SocketAddr>,
    drain_delay: Duration,
    shutdown_timeout: Duration,
    gateway: Arc<Gateway>,
    routes: Vec<Arc<Route>>,
    engine: Running,
    health: Vec<RunningChecker>,
    upkeep: Upkeep,
}

/// What carries the exchanges.
#[derive(Debug)]
enum Running {
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
    #[expect(clippy::needless_pass_by_value, reason = "the proxy has its configuration to itself")]
    pub fn start_with_lookup(config: Config, lookup: SharedLookup) -> Result<Self, StartError> {
        let counters = Arc::new(Counters::default());
        let routes = config.routes.iter().map(build_route).collect::<Result<Vec<_>, _>>()?;
        let table = routes.iter().map(|route| (route.config().prefix.clone(), Arc::clone(route))).collect();
        let gateway = Arc::new(Gateway {
            routes: RouteTable::new(table),
            trusted: config.server.trusted_proxies.clone(),
            counters,
            tunnels: Places::new(config.server.max_tunnels),
            exchanges: Places::new(config.server.max_exchanges.get()),
            via: gateway::via(),
            draining: AtomicBool::new(false),
        });
        let max_clients = file_limit::share_out(&Needs::of(&config));
        let listeners = listener::open(&config.listen_addrs, config.listen_mode)
            .map_err(|(addr, error)| StartError::Listen(addr, error))?;
        let listening: Vec<ListenAddr> = listeners.iter().map(|listener| listener.addr.clone()).collect();
        // Each ends when dropped: what cannot be started takes along what was.
        let upkeep = Upkeep::start(&routes, lookup).map_err(StartError::Thread)?;
        upkeep.wait_for_first_answers(FIRST_LOOKUPS);
        let mut health = Vec::new();
        for route in &routes {
            health.extend(HealthChecker::start(Arc::clone(route)).map_err(StartError::Thread)?);
        }
        let engine =
            Running::start(&config.server, listeners, max_clients, &gateway).map_err(StartError::Thread)?;
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        for addr in &listening {
            log::info!("listening addr={addr} engine={}", config.server.engine);
        }
        for route in &routes {
            log_route(route.config());
        }
        Ok(Self {
            local_addrs: listening.iter().filter_map(ListenAddr::tcp).collect(),
            drain_delay: config.drain_delay,
            shutdown_timeout: config.shutdown_timeout,
            gateway,
            routes,
            engine,
            health,
            upkeep,
        })
    }

    /// The TCP addresses listened on, with the ports the system chose where 0 was asked for.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.gateway.counters
    }

    /// Each backend's address and the exchanges in flight on it.
    #[must_use]
    pub fn backend_in_flight(&self) -> Vec<(String, usize)> {
        let backends = self.routes.iter().flat_map(|route| route.backends());
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
        Drained { cut }
    }

    fn stop_what_serves_nobody(&mut self) {
        self.gateway.draining.store(true, Ordering::Relaxed);
        for checker in &self.health {
            checker.stop();
        }
        self.upkeep.stop();
    }
}

impl Drop for Proxy {
    /// Tells all before the first of them is waited for, when the fields are dropped.
    fn drop(&mut self) {
        self.stop_what_serves_nobody();
    }
}

fn build_route(config: &RouteConfig) -> Result<Arc<Route>, StartError> {
    Route::build(config).map(Arc::new).map_err(StartError::Backend)
}

fn log_route(route: &RouteConfig) {
    let backends: Vec<String> = route.backends.iter().map(|backend| backend.addr.to_string()).collect();
    let health = route.health_check.as_ref().map_or("none".to_owned(), |check| {
        format!("{} every {} s", check.path, check.interval.as_secs_f64())
    });
    log::info!(
        "route prefix={} algorithm={} backends={} health_check={health:?}",
        route.prefix.as_str(),
        route.algorithm,
        backends.join(",")
    );
    if route.tls.insecure_skip_verify {
        log::warn!(
            "certificates of backends are not verified route={} (insecure_skip_verify is set)",
            route.prefix.as_str()
        );
    }
}

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// Why it did not run.
pub fn run(config: Config, signals: Signals) -> Result<(), StartError> {
    run_until_signal(signals, || Proxy::start(config))
}

/// Starts a proxy, and drains it `drain_delay` after the first signal. Those are taken over before, so that none is missed.
pub(crate) fn run_until_signal(
    mut signals: Signals,
    start: impl FnOnce() -> Result<Proxy, StartError>,
) -> Result<(), StartError> {
    signals.take_over_ends().map_err(StartError::Signals)?;
    let proxy = start()?;
    let (delay, timeout) = (proxy.drain_delay, proxy.shutdown_timeout);
    service_manager::ready();
    let signal = signals.wait();
    service_manager::stopping(delay + timeout);
    if !delay.is_zero() {
        log::info!(
            "draining soon signal={signal} delay_secs={} (new connections are served until then; a second signal ends at \
             once)",
            delay.as_secs_f64()
        );
        // A second signal ends the process in its handler.
        thread::sleep(delay);
    }
    let in_flight = proxy.counters().in_flight.load(Ordering::Relaxed);
    log::info!(
        "draining signal={signal} in_flight={in_flight} deadline_secs={} (a second signal ends at once)",
        timeout.as_secs_f64()
    );
    let drained = proxy.drain();
    if drained.cut > 0 {
        log::warn!(
            "shutdown_timeout of {} s is over: {} exchanges were cut",
            timeout.as_secs_f64(),
            drained.cut
        );
    } else {
        log::info!("stopped");
    }
    Ok(())
}
