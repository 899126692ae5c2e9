//! The configuration the rest of the program sees: valid by construction.
//!
//! A file becomes a [`Config`] in three steps: `document` reads the TOML and finds unknown keys and wrong types, `raw`
//! is what people write, `resolve` checks the values. All three go on after an error, so that one look at
//! [`ConfigErrors`] shows everything there is to mend. What is allowed and will hardly do what was meant is found by
//! `warnings`, at the end.

mod access_log;
mod addr;
mod admin;
mod auth;
mod balancing;
mod certificate;
mod document;
mod error;
mod error_pages;
mod expect;
mod forms;
mod front;
mod listen;
mod pool;
mod raw;
mod resolve;
mod rules;
mod suggest;
#[cfg(test)]
mod tests;
mod tls;
mod values;
mod warnings;
mod written;

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::ip_network::{IpNetwork, IpNetworkError};
use crate::routing::{Conditions, Prefix, RouteKey};
use crate::rules::{ErrorPages, Labelled, Rules};

pub use access_log::{AccessLogConfig, AccessLogFormat, AccessLogTo};
pub use addr::BackendAddrError;
pub use admin::AdminConfig;
pub use balancing::{Algorithm, HashOn, StickyCookieConfig};
pub use certificate::CertificateConfig;
pub(crate) use certificate::Stamps;
pub use error::{ConfigError, ConfigErrors};
pub use expect::{Expectation, Expected, client_from};
pub use front::{ClientAuth, FrontConfig, ListenConfig, TlsVersion};
pub use listen::{ListenAddr, ListenAddrError};
pub(crate) use warnings::about_validity;
pub use written::Written;

/// Everything the proxy is told. A value of this type needs no further checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Addresses to listen on; at least one.
    pub listen_addrs: Vec<ListenConfig>,
    /// Permissions of the Unix-domain sockets among them; absent = as the umask has it.
    pub listen_mode: Option<u32>,
    /// How long new connections are still served after the signal to stop.
    pub drain_delay: Duration,
    /// What requests in flight get to finish on shutdown.
    pub shutdown_timeout: Duration,
    /// What clients get where an answer failed and the route has no page for it; absent = a line of text.
    pub error_pages: Option<ErrorPages>,
    /// TLS towards clients.
    pub front: FrontConfig,
    /// One line about each exchange; absent = none.
    pub access_log: Option<AccessLogConfig>,
    /// The listener for operators; absent = none.
    pub admin: Option<AdminConfig>,
    /// Limits of the front door.
    pub server: ServerConfig,
    /// The names of the `[[backends]]` tables, in the order of the file.
    pub pools: Vec<String>,
    /// At least one route; no two that are for the same requests.
    pub routes: Vec<RouteConfig>,
    /// What is allowed and will hardly do what was meant, in the order of the file.
    pub warnings: Vec<ConfigError>,
    /// What the operator expects to become of requests; whether it is so is said by
    /// [`explain::check`](crate::explain::check).
    pub expectations: Vec<Expectation>,
    /// Which keys the file has, and where.
    pub written: Written,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, or [`Config::parse`] refuses it.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let origin = path.display().to_string();
        let bytes = fs::read(path).map_err(|error| {
            let problem = match error.kind() {
                io::ErrorKind::NotFound => {
                    "no such file; name another with --config FILE or REVERSE_PROXY_CONFIG_PATH".to_owned()
                }
                _ => format!("cannot be read: {error}"),
            };
            ConfigErrors::of_file(&origin, None, problem)
        })?;
        let text = str::from_utf8(&bytes).map_err(|error| {
            let before = bytes.iter().take(error.valid_up_to());
            let line = before.filter(|&&byte| byte == b'\n').count() + 1;
            ConfigErrors::of_file(&origin, Some(line), "not a text in UTF-8".to_owned())
        })?;
        Self::parse(text, &origin)
    }

    /// Checks the text of a configuration file. `origin` is what messages call the file.
    ///
    /// # Errors
    /// Everything that is wrong with it: places where it is not TOML (those alone, then), unknown keys, wrong types, values
    /// that are not allowed.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigErrors> {
        let document = document::Document::new(text, origin);
        let (raw, errors) = document.read()?;
        resolve::resolve(raw, &document, errors)
    }
}

impl Config {
    /// Routes that stand for their pools: all that have their backends for themselves, and the first of each other pool; of routes
    /// with several pools, what [`RouteConfig::pools`] has in their place.
    pub fn of_each_pool(&self) -> impl Iterator<Item = (usize, &RouteConfig)> {
        let mut seen = HashSet::new();
        let pools =
            self.routes.iter().enumerate().flat_map(|(n, route)| route.pools().map(move |pool| (n, pool)));
        pools.filter(move |(_, pool)| pool.pool.as_deref().is_none_or(|name| seen.insert(name)))
    }

    /// Whether some route asks for a password.
    pub(crate) fn has_passwords(&self) -> bool {
        self.routes.iter().any(|route| route.rules.basic_auth.is_some())
    }

    /// The path of the key `name` of a route, in its own table or in that of its pool.
    pub(crate) fn route_key(&self, n: usize, route: &RouteConfig, name: &str) -> String {
        let table = if raw::is_of_pool(name) { self.pool_table(n, route) } else { format!("routes[{n}]") };
        format!("{table}.{name}")
    }

    /// The table in which the keys about the backends of a route are: `routes[2]`, or `backends[0]`.
    pub(crate) fn pool_table(&self, n: usize, route: &RouteConfig) -> String {
        pool::place_of(n, route, &self.pools)
    }
}

#[cfg(test)]
impl Config {
    /// With defaults, and a route that nobody asks for.
    pub(crate) fn for_tests() -> Self {
        let text =
            "listen_addr = \"127.0.0.1:0\"\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"127.0.0.1:1\"]";
        Self::parse(text, "test.toml").unwrap()
    }
}

/// How requests come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Our own listener and our own client.
    Native,
    /// A `tiny_http::Server`; for trusted networks only.
    TinyHttp,
}

impl Engine {
    /// Keys of `[server]` that say nothing with this engine.
    pub(crate) fn keys_without_use(self) -> &'static [&'static str] {
        match self {
            Self::Native => &["queue_size"],
            Self::TinyHttp => &[
                "max_exchanges",
                "max_tunnels",
                "max_connections",
                "header_timeout_secs",
                "keepalive_timeout_secs",
                "read_timeout_secs",
                "min_body_rate",
                "min_answer_rate",
                "write_timeout_secs",
            ],
        }
    }

    /// How many workers there are unless the file says so. Those of the native engine never wait for anybody: more than
    /// one per core only get in each other's way. Those of tiny_http are held by whoever is slow.
    pub(crate) fn default_workers(self) -> NonZeroUsize {
        match self {
            Self::Native => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            Self::TinyHttp => nonzero(256),
        }
    }
}

/// The word in the configuration.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::TinyHttp => "tiny_http",
        })
    }
}

/// `[server]`: limits of the front door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Which way in.
    pub engine: Engine,
    /// Threads that carry exchanges: with the native engine any number each, with tiny_http one each.
    pub workers: NonZeroUsize,
    /// Exchanges under way at once.
    pub max_exchanges: NonZeroUsize,
    /// Open tunnels (after a 101) at once.
    pub max_tunnels: usize,
    /// Answers that are being compressed at once.
    pub max_compressing: usize,
    /// With tiny_http: requests that may wait for a worker.
    pub queue_size: NonZeroUsize,
    /// Client connections at once.
    pub max_connections: NonZeroUsize,
    /// Of one client; absent = as many as there are.
    pub max_connections_per_client: Option<NonZeroUsize>,
    /// Request line and fields, in bytes.
    pub max_header_bytes: NonZeroUsize,
    /// Header fields of a request.
    pub max_headers: NonZeroUsize,
    /// The whole head, from its first byte.
    pub header_timeout: Duration,
    /// Idle between two requests.
    pub keepalive_timeout: Duration,
    /// Between two reads of a request body.
    pub read_timeout: Duration,
    /// Bytes per second a request body must keep, averaged over 20 s; 0 = no minimum.
    pub min_body_rate: u64,
    /// Bytes per second at which a client must take its answer once it is behind, averaged over 20 s; 0 = no minimum.
    pub min_answer_rate: u64,
    /// A response write that makes no progress.
    pub write_timeout: Duration,
    /// Networks whose `X-Forwarded-Host` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpNetwork>,
}

/// What holds where the file says nothing.
impl Default for ServerConfig {
    fn default() -> Self {
        // The native one stands on epoll.
        let engine = Engine::Native;
        Self {
            engine,
            workers: engine.default_workers(),
            max_exchanges: nonzero(10_000),
            max_tunnels: 1024,
            max_compressing: 1024,
            queue_size: nonzero(4096),
            max_connections: nonzero(10_000),
            max_connections_per_client: None,
            max_header_bytes: nonzero(32 * 1024),
            max_headers: nonzero(100),
            header_timeout: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(60),
            read_timeout: Duration::from_secs(30),
            min_body_rate: 500,
            min_answer_rate: 0,
            write_timeout: Duration::from_secs(30),
            trusted_proxies: Vec::new(),
        }
    }
}

/// One `[[routes]]` table.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfig {
    /// For which hosts and paths it is, and under what conditions.
    pub key: RouteKey,
    /// What logs call it; absent: its hosts and prefix do.
    pub name: Option<String>,
    /// The `[[backends]]` table its backends are from; absent = it has them for itself.
    pub pool: Option<String>,
    /// The pools among which its requests are shared out; empty = it has one. Then what is said here of backends is said of none:
    /// see [`pools`](Self::pools).
    pub shares: Vec<Share>,
    /// At least one backend, no two alike; none, if the route answers itself.
    pub backends: Vec<BackendConfig>,
    /// How a backend is chosen.
    pub algorithm: Algorithm,
    /// How long the share of a backend that has come back grows to its full size; absent = it has it at once.
    pub slow_start: Option<Duration>,
    /// While fewer backends are healthy, all are tried; absent = only those that are.
    pub min_healthy: Option<NonZeroUsize>,
    /// Absent: clients are not bound to backends.
    pub sticky_cookie: Option<StickyCookieConfig>,
    /// Absent: backends are taken for healthy.
    pub health_check: Option<HealthCheckConfig>,
    /// Until a connection to a backend stands.
    pub connect_timeout: Duration,
    /// From the request being sent to the response head being complete.
    pub response_timeout: Duration,
    /// Between two reads of a response body; for tunnels, silence in both directions.
    pub idle_timeout: Duration,
    /// The whole exchange, every phase; absent = unlimited.
    pub deadline: Option<Duration>,
    /// Largest request body; absent = unlimited.
    pub max_body_bytes: Option<u64>,
    /// Further tries after the first.
    pub retries: u32,
    /// Exchanges of this route at once.
    pub max_in_flight: NonZeroUsize,
    /// Exchanges of one backend at once; absent = unlimited.
    pub max_in_flight_per_backend: Option<NonZeroUsize>,
    /// How long an exchange waits in line while all backends carry as many as they may.
    pub queue_timeout: Duration,
    /// How long a request that can be sent again waits while no backend can be had; zero = not at all.
    pub hold: Duration,
    /// Consecutive failures to connect, or to say a word before closing, that take a backend out; 0 = none do.
    pub max_fails: u32,
    /// The failures must fall within this time; without a health check, also how long the backend stays out.
    pub fail_timeout: Duration,
    /// Idle connections kept per backend; 0 = each request connects anew.
    pub keepalive_connections: usize,
    /// How long an idle connection to a backend is kept.
    pub keepalive_idle: Duration,
    /// From one look-up of host names in `backend_addrs` to the next.
    pub resolve_interval: Duration,
    /// Send the client's `Host` instead of the backend's address.
    pub preserve_host: bool,
    /// What it does beside passing requests on.
    pub rules: Rules,
    /// How backends at `https://` are verified.
    pub tls: TlsConfig,
    /// For how long a browser asks at `https://` alone, once it has come in that way; absent = it is not told to.
    pub hsts: Option<u64>,
    /// Connections to its backends begin with a PROXY header that says whose they are; so none carries the exchanges of more
    /// than one client.
    pub send_proxy: bool,
    /// The service of [`forward_auth`](Rules::forward_auth) as a route of its own, which no request is for: its connections are
    /// made, kept and counted as those of backends are, and its name is looked up as theirs.
    pub auth_service: Option<Box<RouteConfig>>,
}

impl RouteConfig {
    /// A route that says nothing but where it begins and leads to; `server` has what it takes its share of.
    #[must_use]
    pub fn new(prefix: Prefix, backends: Vec<BackendConfig>, server: &ServerConfig) -> Self {
        let carried = match server.engine {
            Engine::Native => server.max_exchanges.get(),
            Engine::TinyHttp => server.workers.get(),
        };
        // A quarter stays free, so that one hung backend cannot stop the other routes.
        let share = carried - carried / 4;
        Self {
            key: RouteKey { hosts: Vec::new(), prefix, conditions: Conditions::default() },
            name: None,
            pool: None,
            shares: Vec::new(),
            backends,
            algorithm: Algorithm::RoundRobin,
            slow_start: None,
            min_healthy: None,
            sticky_cookie: None,
            health_check: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            deadline: None,
            max_body_bytes: None,
            retries: 1,
            max_in_flight: nonzero(share),
            max_in_flight_per_backend: None,
            queue_timeout: Duration::from_secs(1),
            hold: Duration::ZERO,
            max_fails: 3,
            fail_timeout: Duration::from_secs(10),
            keepalive_connections: 64,
            // Below the 5 s after which Node and uvicorn hang up.
            keepalive_idle: Duration::from_secs(4),
            resolve_interval: Duration::from_secs(30),
            preserve_host: false,
            rules: Rules::default(),
            tls: TlsConfig::default(),
            hsts: None,
            send_proxy: false,
            auth_service: None,
        }
    }

    /// The service of a `forward_auth` at `addr`, which has this long for the head of its answer, connecting included.
    pub(crate) fn of_auth_service(addr: BackendAddr, timeout: Duration, server: &ServerConfig) -> Self {
        // No pool of the file can have such a name. Routes that ask the same service share its connections.
        let name = Some(format!("forward_auth:{addr}"));
        let backend = BackendConfig { addr, weight: NonZeroU32::MIN, backup: false };
        Self {
            name: name.clone(),
            pool: name,
            // If one of its addresses does not answer, there is time for another.
            connect_timeout: (timeout / 2).max(Duration::from_millis(1)),
            response_timeout: timeout,
            idle_timeout: timeout,
            queue_timeout: timeout,
            ..Self::new(Prefix::root(), vec![backend], server)
        }
    }

    /// Where the service of its `forward_auth` is, as in the file.
    pub(crate) fn auth_addr(&self) -> Option<&BackendAddr> {
        self.auth_service.as_ref()?.backends.first().map(|backend| &backend.addr)
    }

    /// What is said of its backends: by itself, or of each of its pools by a table that has nothing else.
    pub fn pools(&self) -> impl Iterator<Item = &Self> {
        let own = self.shares.is_empty().then_some(self);
        own.into_iter().chain(self.shares.iter().map(|share| &share.of))
    }

    /// The entries of all its pools.
    pub fn all_backends(&self) -> impl Iterator<Item = &BackendConfig> {
        self.pools().flat_map(|pool| &pool.backends)
    }

    /// Idle connections kept per backend. One that says whose it is carries nobody else's exchanges.
    pub(crate) fn kept_connections(&self) -> usize {
        if self.send_proxy { 0 } else { self.keepalive_connections }
    }

    /// Whether connections to its backends are made and kept as with `other`.
    pub(crate) fn connects_like(&self, other: &Self) -> bool {
        let connections =
            |route: &Self| (route.keepalive_connections, route.keepalive_idle, route.send_proxy);
        self.tls == other.tls && connections(self) == connections(other)
    }

    /// With what it asks clients who they are, if it does.
    pub(crate) fn challenge(&self) -> Option<&http::HeaderValue> {
        self.rules.basic_auth.as_ref().map(|auth| &auth.challenge)
    }

    /// What it is called in logs, thread names and wherever one route is told from another: its `name`, or its first host
    /// and its prefix. No two routes have the same.
    #[must_use]
    pub fn label(&self) -> String {
        let RouteKey { hosts, prefix, .. } = &self.key;
        match (&self.name, hosts.first()) {
            (Some(name), _) => name.clone(),
            (None, None) => prefix.to_string(),
            (None, Some(host)) => format!("{host}{prefix}"),
        }
    }
}

impl Labelled for RouteConfig {
    fn label(&self) -> String {
        Self::label(self)
    }
}

/// A pool of a route that has several.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// How many of the requests it gets, relative to the others; 0 = those of clients whose cookie names it.
    pub share: u32,
    /// The pool: a route that says nothing but what is its own.
    pub of: RouteConfig,
}

/// One entry of `backend_addrs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// Where it listens.
    pub addr: BackendAddr,
    /// Its share relative to its neighbours; 1 unless told otherwise.
    pub weight: NonZeroU32,
    /// Used only while none of those that are no backups can be had.
    pub backup: bool,
}

impl BackendConfig {
    /// An entry that says nothing but where the backend listens.
    #[must_use]
    pub fn new(addr: BackendAddr) -> Self {
        Self { addr, weight: NonZeroU32::MIN, backup: false }
    }
}

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BackendAddr {
    /// `host:port` or `[v6]:port`.
    Tcp {
        /// Host name, IPv4 address, or IPv6 address without brackets.
        host: String,
        /// TCP port, never 0.
        port: u16,
    },
    /// `https://host:port`; without a port 443.
    Https {
        /// As above.
        host: String,
        /// As above.
        port: u16,
    },
    /// `unix:/path`.
    Unix(PathBuf),
}

/// `tls = { ... }` of a route: how its backends at `https://` are verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Whom to trust; absent = the CA certificates of the system.
    pub ca: Option<CaFile>,
    /// The name certificates must be for, also sent as SNI; absent = the host of each backend's address.
    pub server_name: Option<String>,
    /// Take any certificate.
    pub insecure_skip_verify: bool,
}

/// A file of CA certificates, read when the configuration was.
#[derive(Clone, PartialEq, Eq)]
pub struct CaFile {
    /// Where they were read from.
    pub path: PathBuf,
    /// At least one, in DER.
    pub certificates: Vec<Vec<u8>>,
}

/// Without the certificates.
impl fmt::Debug for CaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// `health_check = { ... }` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheckConfig {
    /// Request target of the probe; begins with `/`.
    pub path: String,
    /// From one probe to the next.
    pub interval: Duration,
    /// Longest a probe may take.
    pub timeout: Duration,
    /// Good probes in a row that make an unhealthy backend healthy.
    pub healthy_threshold: NonZeroU32,
    /// Bad probes in a row that make a healthy backend unhealthy.
    pub unhealthy_threshold: NonZeroU32,
}

impl HealthCheckConfig {
    /// A health check that says nothing but what to ask for and how often.
    #[must_use]
    pub fn new(path: String, interval: Duration) -> Self {
        Self {
            path,
            interval,
            timeout: interval.min(Duration::from_secs(2)),
            healthy_threshold: NonZeroU32::MIN,
            unhealthy_threshold: NonZeroU32::MIN,
        }
    }
}

/// `n`, or 1 where it is 0.
fn nonzero(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN)
}
