//! `[[backends]]`, and the tables about backends that routes have too.

use serde::Deserialize;
use toml::Spanned;

use super::super::forms::{AddrOrTable, Seconds, Table};
use super::hints::SLOW_START_IS_FOR_ALL;
use super::{Nested, TableKeys};

pub(in crate::config) static POOL: TableKeys = TableKeys {
    name: "[[backends]]",
    expected: "tables that each begin with the line [[backends]], in double brackets",
    keys: &[
        "name",
        "addrs",
        "balancing_algorithm",
        "hash_on",
        "slow_start_secs",
        "min_healthy",
        "health_check",
        "max_in_flight_per_backend",
        "max_fails",
        "fail_timeout_secs",
        "keepalive_connections",
        "keepalive_idle_secs",
        "resolve_secs",
        "tls",
        "send_proxy",
    ],
    tables: &[
        ("addrs", Nested::Among(&BACKEND)),
        ("health_check", Nested::One(&HEALTH_CHECK)),
        ("tls", Nested::One(&TLS)),
    ],
    aliases: &[
        ("label", "name"),
        ("addr", "addrs"),
        ("address", "addrs"),
        ("addresses", "addrs"),
        ("backend_addrs", "addrs"),
        ("server", "addrs"),
        ("servers", "addrs"),
        ("targets", "addrs"),
        ("balance", "balancing_algorithm"),
        ("balancing", "balancing_algorithm"),
        ("load_balancing", "balancing_algorithm"),
        ("lb_policy", "balancing_algorithm"),
        ("health", "health_check"),
        ("healthcheck", "health_check"),
        ("slow_start", "slow_start_secs"),
        ("slowstart", "slow_start_secs"),
        ("panic_threshold", "min_healthy"),
        ("healthy_panic_threshold", "min_healthy"),
        ("max_conns", "max_in_flight_per_backend"),
        ("proxy_protocol", "send_proxy"),
        ("send_proxy_v2", "send_proxy"),
    ],
    absent: &[],
};

/// One `[[backends]]`. Its keys say the same as those of a route with the same names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPool {
    /// By which routes refer to it. Required.
    pub(in crate::config) name: Option<Spanned<String>>,
    /// As `backend_addrs` of a route. Required.
    pub(in crate::config) addrs: Option<Spanned<Vec<Spanned<RawBackend>>>>,
    pub(in crate::config) balancing_algorithm: Option<Spanned<String>>,
    pub(in crate::config) hash_on: Option<Spanned<String>>,
    pub(in crate::config) slow_start_secs: Option<Spanned<Seconds>>,
    pub(in crate::config) min_healthy: Option<Spanned<i128>>,
    pub(in crate::config) health_check: Option<Spanned<RawHealthCheck>>,
    pub(in crate::config) max_in_flight_per_backend: Option<Spanned<i128>>,
    pub(in crate::config) max_fails: Option<Spanned<i128>>,
    pub(in crate::config) fail_timeout_secs: Option<Spanned<Seconds>>,
    pub(in crate::config) keepalive_connections: Option<Spanned<i128>>,
    pub(in crate::config) keepalive_idle_secs: Option<Spanned<Seconds>>,
    pub(in crate::config) resolve_secs: Option<Spanned<Seconds>>,
    pub(in crate::config) tls: Option<Spanned<RawTls>>,
    pub(in crate::config) send_proxy: Option<Spanned<bool>>,
}

pub(in crate::config) static HEALTH_CHECK: TableKeys = TableKeys {
    name: "health_check",
    expected: "a table, for example { path = \"/health\", interval_secs = 10 }",
    keys: &["path", "interval_secs", "timeout_secs", "healthy_threshold", "unhealthy_threshold"],
    tables: &[],
    aliases: &[
        ("url", "path"),
        ("uri", "path"),
        ("interval", "interval_secs"),
        ("timeout", "timeout_secs"),
        ("rise", "healthy_threshold"),
        ("fall", "unhealthy_threshold"),
    ],
    absent: &[],
};

/// `health_check` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHealthCheck {
    /// What the probe asks for. Required.
    pub(in crate::config) path: Option<Spanned<String>>,
    /// From one probe to the next. Required.
    pub(in crate::config) interval_secs: Option<Spanned<Seconds>>,
    /// Longest a probe may take. Default: the smaller of the interval and 2 s.
    pub(in crate::config) timeout_secs: Option<Spanned<Seconds>>,
    /// Good probes in a row that make a backend healthy again.
    pub(in crate::config) healthy_threshold: Option<Spanned<i128>>,
    /// Bad probes in a row that make a backend unhealthy.
    pub(in crate::config) unhealthy_threshold: Option<Spanned<i128>>,
}

pub(in crate::config) static STICKY_COOKIE: TableKeys = TableKeys {
    name: "sticky_cookie",
    expected: "a table, for example { name = \"backend\" }",
    keys: &["name", "max_age_secs"],
    tables: &[],
    aliases: &[("cookie", "name"), ("max_age", "max_age_secs"), ("expires", "max_age_secs")],
    absent: &[],
};

/// `sticky_cookie` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawStickyCookie {
    /// What the cookie is called. Required.
    pub(in crate::config) name: Option<Spanned<String>>,
    /// How long a client keeps it. Absent: until it is closed.
    pub(in crate::config) max_age_secs: Option<Spanned<i128>>,
}

pub(in crate::config) static TLS: TableKeys = TableKeys {
    name: "tls",
    expected: "a table, for example { ca = \"/etc/ssl/backends.pem\" }",
    keys: &["ca", "server_name", "insecure_skip_verify"],
    tables: &[],
    aliases: &[
        ("ca_file", "ca"),
        ("ca_cert", "ca"),
        ("sni", "server_name"),
        ("verify", "insecure_skip_verify"),
        ("insecure", "insecure_skip_verify"),
    ],
    absent: &[],
};

/// `tls` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTls {
    /// A PEM file of the CA certificates to trust. Default: those of the system.
    pub(in crate::config) ca: Option<Spanned<String>>,
    /// The name certificates must be for, also sent as SNI. Default: the host in `backend_addrs`.
    pub(in crate::config) server_name: Option<Spanned<String>>,
    /// Take any certificate. Default: false.
    pub(in crate::config) insecure_skip_verify: Option<bool>,
}

pub(in crate::config) static BACKEND: TableKeys = TableKeys {
    name: "an entry of backend_addrs",
    expected: "a list, for example [\"127.0.0.1:8001\", \"127.0.0.1:8002\"]",
    keys: &["addr", "weight", "backup"],
    tables: &[],
    aliases: &[
        ("address", "addr"),
        ("url", "addr"),
        ("host", "addr"),
        ("server", "addr"),
        ("share", "weight"),
        ("fallback", "backup"),
        ("standby", "backup"),
    ],
    absent: &[("slow_start", SLOW_START_IS_FOR_ALL), ("slowstart", SLOW_START_IS_FOR_ALL)],
};

/// An entry of `backend_addrs` as a table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawBackendTable {
    /// `host:port`, `https://host` with or without a port, `unix:/path`. Required.
    pub(in crate::config) addr: Option<Spanned<String>>,
    /// Its share relative to its neighbours. Default 1.
    pub(in crate::config) weight: Option<Spanned<i128>>,
    /// Used only while none of those that are no backups can be had. Default: false.
    pub(in crate::config) backup: Option<bool>,
}

/// An entry of `backend_addrs`.
pub(in crate::config) type RawBackend = AddrOrTable<RawBackendTable>;

impl Table for RawBackendTable {
    const EXPECTED: &'static str = "\"host:port\", \"unix:/path\" or { addr = \"host:port\", weight = 1 }";
}

/// Whether a key of a route is about its backends, so that it is in the table of its pool if it has one.
pub(in crate::config) fn is_of_pool(key: &str) -> bool {
    // The name of a pool is another than that of a route.
    key != "name" && POOL.keys.contains(&key)
}
