//! The configuration the rest of the program sees: valid by construction.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::routing::Prefix;

/// Everything the proxy is told. A value of this type needs no further checks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on; at least one.
    pub listen_addrs: Vec<SocketAddr>,
    /// What requests in flight get to finish on shutdown.
    pub shutdown_timeout: Duration,
    /// Limits of the front door.
    pub server: ServerConfig,
    /// At least one route; no two with the same prefix.
    pub routes: Vec<RouteConfig>,
}

/// How requests come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The waiting room: our own listener.
    Native,
    /// A `tiny_http::Server`; for trusted networks only.
    TinyHttp,
}

/// `[server]`: limits of the front door.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Which way in.
    pub engine: Engine,
    /// Exchanges carried at once.
    pub workers: NonZeroUsize,
    /// Open tunnels (after a 101) at once.
    pub max_tunnels: usize,
    /// Complete requests waiting for a worker.
    pub queue_size: NonZeroUsize,
    /// Client connections at once.
    pub max_connections: NonZeroUsize,
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
    /// A response write that makes no progress.
    pub write_timeout: Duration,
    /// Networks whose `X-Forwarded-Host` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpNetwork>,
}

/// An address range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNetwork {
    /// The network's address, host bits zero.
    pub addr: std::net::IpAddr,
    /// Length of the network part, in bits.
    pub prefix_len: u8,
}

/// One `[[routes]]` table.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// What request paths must begin with.
    pub prefix: Prefix,
    /// At least one backend, no two alike.
    pub backends: Vec<BackendConfig>,
    /// How a backend is chosen.
    pub algorithm: Algorithm,
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
    /// Send the client's `Host` instead of the backend's address.
    pub preserve_host: bool,
}

/// One entry of `backend_addrs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// Where it listens.
    pub addr: BackendAddr,
    /// Its share relative to its neighbours; 1 unless told otherwise.
    pub weight: NonZeroU32,
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
    /// `unix:/path`.
    Unix(PathBuf),
}

impl std::fmt::Display for BackendAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How a backend is chosen among the eligible ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest exchanges in flight.
    LeastConnections,
}

/// `health_check = { ... }` of a route.
#[derive(Clone, Debug)]
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
