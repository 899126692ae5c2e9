//! The TOML as people write it. Values are checked in `resolve`; here they only have their types and their places in
//! the file.
//!
//! Every key is documented here, and for operators in `docs/configuration.md` and in `reverse-proxy.toml`. Defaults are those of
//! [`ServerConfig`](super::ServerConfig), [`RouteConfig`](super::RouteConfig) and
//! [`HealthCheckConfig`](super::HealthCheckConfig).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::forms::{AddrOrTable, PoolName, Seconds, Table};

/// The keys a table may have. Next to each struct below, because serde keeps the names to itself and the messages
/// about unknown keys need those of the other tables too ("it belongs to ...").
#[derive(Debug)]
pub(super) struct TableKeys {
    /// What messages call the table.
    pub(super) name: &'static str,
    /// What is written where something else was found.
    pub(super) expected: &'static str,
    /// All keys.
    pub(super) keys: &'static [&'static str],
    /// Those of the keys that hold tables.
    pub(super) tables: &'static [(&'static str, Nested)],
    /// What people write who know another program, and the key that it is here.
    pub(super) aliases: &'static [(&'static str, &'static str)],
    /// What people write for which there is no key, and what to do instead: the end of a sentence.
    pub(super) absent: &'static [(&'static str, &'static str)],
}

/// How a key holds tables.
#[derive(Debug)]
pub(super) enum Nested {
    /// One table.
    One(&'static TableKeys),
    /// An array of tables.
    Many(&'static TableKeys),
    /// An array of tables and other things.
    Among(&'static TableKeys),
    /// One table, an array of tables and other things, or something else.
    Perhaps(&'static TableKeys),
}

impl Nested {
    /// What each of the tables may have.
    pub(super) fn keys(&self) -> &'static TableKeys {
        match self {
            Self::One(keys) | Self::Many(keys) | Self::Among(keys) | Self::Perhaps(keys) => keys,
        }
    }
}

/// Every table there is, the outer ones first.
pub(super) const TABLES: [&TableKeys; 19] = [
    &TOP,
    &SERVER,
    &LISTEN,
    &CERTIFICATE,
    &FRONT_TLS,
    &POOL,
    &ROUTE,
    &HEALTH_CHECK,
    &TLS,
    &BACKEND,
    &STICKY_COOKIE,
    &REDIRECT,
    &RATE_LIMIT,
    &RESPOND,
    &REQUEST_HEADERS,
    &RESPONSE_HEADERS,
    &ACCESS_LOG,
    &ADMIN,
    &EXPECT,
];

pub(super) static TOP: TableKeys = TableKeys {
    name: "the top level, above the first [table]",
    expected: "a TOML document",
    keys: &[
        "listen_addr",
        "listen_mode",
        "shutdown_timeout",
        "drain_delay_secs",
        "certificates",
        "tls",
        "server",
        "access_log",
        "admin",
        "backends",
        "routes",
        "expect",
    ],
    tables: &[
        ("listen_addr", Nested::Perhaps(&LISTEN)),
        ("certificates", Nested::Many(&CERTIFICATE)),
        ("tls", Nested::One(&FRONT_TLS)),
        ("server", Nested::One(&SERVER)),
        ("access_log", Nested::One(&ACCESS_LOG)),
        ("admin", Nested::One(&ADMIN)),
        ("backends", Nested::Many(&POOL)),
        ("routes", Nested::Many(&ROUTE)),
        ("expect", Nested::Many(&EXPECT)),
    ],
    aliases: &[
        ("listen", "listen_addr"),
        ("listen_address", "listen_addr"),
        ("bind", "listen_addr"),
        ("address", "listen_addr"),
        ("addr", "listen_addr"),
        ("port", "listen_addr"),
        ("host", "listen_addr"),
        ("grace_period", "shutdown_timeout"),
        ("graceful_shutdown_timeout", "shutdown_timeout"),
        ("drain_timeout", "shutdown_timeout"),
        ("drain_delay", "drain_delay_secs"),
        ("shutdown_delay", "drain_delay_secs"),
        ("location", "routes"),
        ("locations", "routes"),
        // Else it would be taken for the key of [[expect]].
        ("route", "routes"),
        ("expects", "expect"),
        ("expectation", "expect"),
        ("expectations", "expect"),
        ("test", "expect"),
        ("tests", "expect"),
        ("certificate", "certificates"),
        ("certs", "certificates"),
        ("pool", "backends"),
        ("pools", "backends"),
    ],
    absent: &[
        ("ssl", WHERE_TLS_IS),
        ("https", WHERE_TLS_IS),
        ("cert", WHERE_TLS_IS),
        ("key", WHERE_TLS_IS),
        ("path", PREFIXES_ARE_IN_ROUTES),
        ("backend", BACKENDS_ARE_IN_ROUTES),
        ("upstream", BACKENDS_ARE_IN_ROUTES),
        ("upstreams", BACKENDS_ARE_IN_ROUTES),
        ("servers", BACKENDS_ARE_IN_ROUTES),
        ("log", LOGGING_IS_ELSEWHERE),
        ("logging", LOGGING_IS_ELSEWHERE),
        ("log_level", LOGGING_IS_ELSEWHERE),
    ],
};

const WHERE_TLS_IS: &str = "TLS towards clients is switched on by listen_addr = [{ addr = \"0.0.0.0:443\", tls = true }], with \
                            cert and key below the line [[certificates]]";
const BACKENDS_ARE_IN_ROUTES: &str = "backends are named by backend_addrs, below the line [[routes]]";
const PREFIXES_ARE_IN_ROUTES: &str = "the paths of a route are named by prefix, below the line [[routes]]";
const LOGGING_IS_ELSEWHERE: &str = "what is logged is said by the environment variable RUST_LOG";
const WHERE_TO_LISTEN: &str = "where to listen is said by listen_addr, above the first [table]";
const WHOSE_HEADERS: &str =
    "those of requests are changed by request_headers, those of answers by response_headers";
const NO_REWRITING: &str =
    "of paths, the prefix can be changed, by strip_prefix and replace_prefix; all else is passed on as it is";

/// Whether a key of a route is about its backends, so that it is in the table of its pool if it has one.
pub(super) fn is_of_pool(key: &str) -> bool {
    // The name of a pool is another than that of a route.
    key != "name" && POOL.keys.contains(&key)
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    /// `ip:port`, `localhost:port` (the IPv4 loopback address), `unix:/path`, a table, or a list of them. Port 0: any free
    /// port.
    pub(super) listen_addr: Option<Spanned<RawListen>>,
    /// Permissions of the sockets at `unix:/path`, in octal. Absent: as the umask has it.
    pub(super) listen_mode: Option<Spanned<String>>,
    /// Seconds that requests in flight get to finish on shutdown; 0 cuts them off at once. Default 10.
    pub(super) shutdown_timeout: Option<Spanned<Seconds>>,
    /// Seconds between the signal to stop and the end of accepting connections. Default 0.
    pub(super) drain_delay_secs: Option<Spanned<Seconds>>,
    /// What is shown to clients where TLS is spoken. The first is for those who name nobody, or somebody else.
    #[serde(default)]
    pub(super) certificates: Vec<Spanned<RawCertificate>>,
    /// TLS towards clients.
    #[serde(default)]
    pub(super) tls: RawFrontTls,
    /// Limits of the front door.
    #[serde(default)]
    pub(super) server: RawServer,
    /// Absent: there is none.
    #[serde(default)]
    pub(super) access_log: RawAccessLog,
    /// Absent: there is no such listener.
    #[serde(default)]
    pub(super) admin: RawAdmin,
    /// Backends that several routes share.
    #[serde(default)]
    pub(super) backends: Vec<Spanned<RawPool>>,
    /// At least one.
    #[serde(default)]
    pub(super) routes: Vec<Spanned<RawRoute>>,
    /// What is to become of requests; one that is not fulfilled is an error.
    #[serde(default)]
    pub(super) expect: Vec<Spanned<RawExpect>>,
}

pub(super) static LISTEN: TableKeys = TableKeys {
    name: "an entry of listen_addr",
    expected: "a string or a list of strings, for example \"127.0.0.1:3000\"",
    keys: &["addr", "tls", "https_redirect", "proxy_protocol"],
    tables: &[],
    aliases: &[
        ("address", "addr"),
        ("ssl", "tls"),
        ("https", "tls"),
        ("redirect", "https_redirect"),
        ("redirect_to_https", "https_redirect"),
        ("accept_proxy", "proxy_protocol"),
        ("proxy", "proxy_protocol"),
    ],
    absent: &[("cert", WHERE_CERTIFICATES_ARE), ("key", WHERE_CERTIFICATES_ARE)],
};

const WHERE_CERTIFICATES_ARE: &str =
    "certificates are named by cert and key, below the line [[certificates]]";

/// An entry of `listen_addr` as a table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListenTable {
    /// As without a table. Required.
    pub(super) addr: Option<Spanned<String>>,
    /// Speak TLS. Default: false.
    pub(super) tls: Option<bool>,
    /// Answer 308, to the same target at `https://`. Default: false.
    pub(super) https_redirect: Option<bool>,
    /// Expect a PROXY header, of version 1 or 2, from `trusted_proxies` alone. Default: false.
    pub(super) proxy_protocol: Option<bool>,
}

pub(super) static CERTIFICATE: TableKeys = TableKeys {
    name: "[[certificates]]",
    expected: "tables that each begin with the line [[certificates]], in double brackets",
    keys: &["cert", "key"],
    tables: &[],
    aliases: &[
        ("certificate", "cert"),
        ("chain", "cert"),
        ("fullchain", "cert"),
        ("cert_file", "cert"),
        ("ssl_certificate", "cert"),
        ("key_file", "key"),
        ("private_key", "key"),
        ("ssl_certificate_key", "key"),
    ],
    absent: &[
        ("names", NAMES_ARE_IN_CERTIFICATES),
        ("hosts", NAMES_ARE_IN_CERTIFICATES),
        ("host", NAMES_ARE_IN_CERTIFICATES),
        ("server_name", NAMES_ARE_IN_CERTIFICATES),
    ],
};

const NAMES_ARE_IN_CERTIFICATES: &str = "for which names a certificate is says the certificate itself";

/// One `[[certificates]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    /// A PEM file: the certificate, then those that vouch for it. Required.
    pub(super) cert: Option<Spanned<String>>,
    /// A PEM file with its private key. Required.
    pub(super) key: Option<Spanned<String>>,
}

pub(super) static FRONT_TLS: TableKeys = TableKeys {
    name: "[tls]",
    expected: "a table that begins with the line [tls]",
    keys: &[
        "min_version",
        "strict_sni",
        "handshake_timeout_secs",
        "max_handshakes",
        "client_ca",
        "client_auth",
        "acme_challenge_dir",
    ],
    tables: &[],
    aliases: &[
        ("ssl_protocols", "min_version"),
        ("protocols", "min_version"),
        ("minimum_version", "min_version"),
        ("handshake_timeout", "handshake_timeout_secs"),
        ("ssl_client_certificate", "client_ca"),
        ("ssl_verify_client", "client_auth"),
        ("acme_dir", "acme_challenge_dir"),
        ("webroot", "acme_challenge_dir"),
    ],
    absent: &[
        ("cert", WHERE_CERTIFICATES_ARE),
        ("key", WHERE_CERTIFICATES_ARE),
        ("certificate", WHERE_CERTIFICATES_ARE),
        ("ca", CA_OF_WHOM),
        ("ciphers", NO_CIPHERS),
        ("cipher_suites", NO_CIPHERS),
    ],
};

const CA_OF_WHOM: &str =
    "whose certificates of clients are believed is said by client_ca; of backends, by tls of a route";
const NO_CIPHERS: &str = "all ciphers that are spoken here are good ones";

/// `[tls]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFrontTls {
    /// `1.2` or `1.3`. Default: 1.2.
    pub(super) min_version: Option<Spanned<String>>,
    /// Refuse clients that name nobody, or somebody for whom there is no certificate. Default: false.
    pub(super) strict_sni: Option<Spanned<bool>>,
    /// From a connection being accepted to its handshake being through; then closed.
    pub(super) handshake_timeout_secs: Option<Spanned<Seconds>>,
    /// Handshakes under way at once; beyond it the oldest is given up.
    pub(super) max_handshakes: Option<Spanned<i128>>,
    /// A PEM file of the CA certificates that clients' certificates are to be signed with. Absent: clients show none.
    pub(super) client_ca: Option<Spanned<String>>,
    /// With `client_ca`: `require` or `request`. Default: require.
    pub(super) client_auth: Option<Spanned<String>>,
    /// What is served under `/.well-known/acme-challenge/` on plain HTTP. Absent: nothing.
    pub(super) acme_challenge_dir: Option<Spanned<String>>,
}

pub(super) static SERVER: TableKeys = TableKeys {
    name: "[server]",
    expected: "a table that begins with the line [server]",
    keys: &[
        "engine",
        "workers",
        "max_exchanges",
        "max_tunnels",
        "queue_size",
        "max_connections",
        "max_header_bytes",
        "max_headers",
        "header_timeout_secs",
        "keepalive_timeout_secs",
        "read_timeout_secs",
        "min_body_rate",
        "min_answer_rate",
        "write_timeout_secs",
        "trusted_proxies",
    ],
    tables: &[],
    aliases: &[
        ("threads", "workers"),
        ("worker_threads", "workers"),
        ("worker_processes", "workers"),
        ("worker_connections", "max_connections"),
        ("maxconn", "max_connections"),
        ("connections", "max_connections"),
        ("max_requests", "max_exchanges"),
        ("keepalive_timeout", "keepalive_timeout_secs"),
        ("keep_alive_timeout", "keepalive_timeout_secs"),
        ("idle_timeout", "keepalive_timeout_secs"),
        ("idle_timeout_secs", "keepalive_timeout_secs"),
        ("send_timeout", "write_timeout_secs"),
        ("set_real_ip_from", "trusted_proxies"),
    ],
    absent: &[
        ("listen", WHERE_TO_LISTEN),
        ("bind", WHERE_TO_LISTEN),
        ("address", WHERE_TO_LISTEN),
        ("addr", WHERE_TO_LISTEN),
        ("port", WHERE_TO_LISTEN),
        ("host", WHERE_TO_LISTEN),
        ("path", PREFIXES_ARE_IN_ROUTES),
        ("tls", WHERE_TLS_IS),
        ("ssl", WHERE_TLS_IS),
        ("https", WHERE_TLS_IS),
        ("log_level", LOGGING_IS_ELSEWHERE),
    ],
};

/// `[server]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServer {
    /// `native` or `tiny_http`.
    pub(super) engine: Option<Spanned<String>>,
    /// Threads that carry exchanges. Default: one per core; with `tiny_http`, where each carries one exchange, 256.
    pub(super) workers: Option<Spanned<i128>>,
    /// Exchanges under way at once; beyond it 503.
    pub(super) max_exchanges: Option<Spanned<i128>>,
    /// WebSockets and other upgrades open at once; beyond it 503. 0: none.
    pub(super) max_tunnels: Option<Spanned<i128>>,
    /// With `tiny_http`: requests that wait for a worker; beyond it 503. No use with `native`.
    pub(super) queue_size: Option<Spanned<i128>>,
    /// Client connections at once; beyond it new ones wait in the kernel's backlog.
    pub(super) max_connections: Option<Spanned<i128>>,
    /// Request line and fields together; beyond it 431, or 414 for the line alone.
    pub(super) max_header_bytes: Option<Spanned<i128>>,
    /// Fields of a request; beyond it 431.
    pub(super) max_headers: Option<Spanned<i128>>,
    /// For the whole head, from its first byte; then 408.
    pub(super) header_timeout_secs: Option<Spanned<Seconds>>,
    /// Idle between requests; then closed.
    pub(super) keepalive_timeout_secs: Option<Spanned<Seconds>>,
    /// Between two reads of a request body; then 408.
    pub(super) read_timeout_secs: Option<Spanned<Seconds>>,
    /// Bytes per second a request body must keep, averaged over 20 s; else 408. 0: no minimum.
    pub(super) min_body_rate: Option<Spanned<i128>>,
    /// Bytes per second at which a client must take its answer once it is behind, averaged over 20 s; else closed. 0: no
    /// minimum.
    pub(super) min_answer_rate: Option<Spanned<i128>>,
    /// For a response write that makes no progress; then closed.
    pub(super) write_timeout_secs: Option<Spanned<Seconds>>,
    /// Networks whose `X-Forwarded-*` are believed; `unix:` for whoever comes in through a Unix-domain socket. Default: none.
    #[serde(default)]
    pub(super) trusted_proxies: Vec<Spanned<String>>,
}

pub(super) static ACCESS_LOG: TableKeys = TableKeys {
    name: "[access_log]",
    expected: "a table that begins with the line [access_log]",
    keys: &["path", "format"],
    tables: &[],
    aliases: &[("file", "path"), ("output", "path"), ("to", "path"), ("log_format", "format")],
    absent: &[("level", LOGGING_IS_ELSEWHERE)],
};

/// `[access_log]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccessLog {
    /// A file, or `-` for stdout. Absent: there is no access log.
    pub(super) path: Option<Spanned<String>>,
    /// `combined` or `json`.
    pub(super) format: Option<Spanned<String>>,
}

pub(super) static ADMIN: TableKeys = TableKeys {
    name: "[admin]",
    expected: "a table that begins with the line [admin]",
    keys: &["listen_addr", "socket_mode", "allow_remote", "control", "ready_requires_backends"],
    tables: &[],
    aliases: &[
        ("listen", "listen_addr"),
        ("bind", "listen_addr"),
        ("address", "listen_addr"),
        ("addr", "listen_addr"),
        ("port", "listen_addr"),
        ("listen_mode", "socket_mode"),
        ("mode", "socket_mode"),
    ],
    absent: &[],
};

/// `[admin]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    /// `ip:port`, `localhost:port` or `unix:/path`. Absent: there is no such listener.
    pub(super) listen_addr: Option<Spanned<String>>,
    /// Permissions of the socket at `unix:/path`, in octal.
    pub(super) socket_mode: Option<Spanned<String>>,
    /// Allows an address that other machines reach.
    pub(super) allow_remote: Option<bool>,
    /// Takes orders about backends.
    pub(super) control: Option<bool>,
    /// `/readyz` fails while no route has a healthy backend.
    pub(super) ready_requires_backends: Option<bool>,
}

pub(super) static POOL: TableKeys = TableKeys {
    name: "[[backends]]",
    expected: "tables that each begin with the line [[backends]], in double brackets",
    keys: &[
        "name",
        "addrs",
        "balancing_algorithm",
        "hash_on",
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
        ("max_conns", "max_in_flight_per_backend"),
        ("proxy_protocol", "send_proxy"),
        ("send_proxy_v2", "send_proxy"),
    ],
    absent: &[],
};

/// One `[[backends]]`. Its keys say the same as those of a route with the same names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPool {
    /// By which routes refer to it. Required.
    pub(super) name: Option<Spanned<String>>,
    /// As `backend_addrs` of a route. Required.
    pub(super) addrs: Option<Spanned<Vec<Spanned<RawBackend>>>>,
    pub(super) balancing_algorithm: Option<Spanned<String>>,
    pub(super) hash_on: Option<Spanned<String>>,
    pub(super) health_check: Option<Spanned<RawHealthCheck>>,
    pub(super) max_in_flight_per_backend: Option<Spanned<i128>>,
    pub(super) max_fails: Option<Spanned<i128>>,
    pub(super) fail_timeout_secs: Option<Spanned<Seconds>>,
    pub(super) keepalive_connections: Option<Spanned<i128>>,
    pub(super) keepalive_idle_secs: Option<Spanned<Seconds>>,
    pub(super) resolve_secs: Option<Spanned<Seconds>>,
    pub(super) tls: Option<Spanned<RawTls>>,
    pub(super) send_proxy: Option<Spanned<bool>>,
}

pub(super) static ROUTE: TableKeys = TableKeys {
    name: "[[routes]]",
    expected: "tables that each begin with the line [[routes]], in double brackets",
    keys: &[
        "prefix",
        "hosts",
        "name",
        "backends",
        "backend_addrs",
        "balancing_algorithm",
        "hash_on",
        "sticky_cookie",
        "health_check",
        "connect_timeout_secs",
        "response_timeout_secs",
        "idle_timeout_secs",
        "deadline_secs",
        "max_body_bytes",
        "retries",
        "max_in_flight",
        "max_in_flight_per_backend",
        "queue_timeout_secs",
        "hold_secs",
        "max_fails",
        "fail_timeout_secs",
        "keepalive_connections",
        "keepalive_idle_secs",
        "resolve_secs",
        "preserve_host",
        "allow",
        "deny",
        "methods",
        "rate_limit",
        "redirect",
        "respond",
        "strip_prefix",
        "replace_prefix",
        "request_headers",
        "response_headers",
        "tls",
        "hsts_secs",
        "send_proxy",
    ],
    tables: &[
        ("backend_addrs", Nested::Among(&BACKEND)),
        ("sticky_cookie", Nested::One(&STICKY_COOKIE)),
        ("health_check", Nested::One(&HEALTH_CHECK)),
        ("rate_limit", Nested::One(&RATE_LIMIT)),
        ("redirect", Nested::One(&REDIRECT)),
        ("respond", Nested::One(&RESPOND)),
        ("request_headers", Nested::One(&REQUEST_HEADERS)),
        ("response_headers", Nested::One(&RESPONSE_HEADERS)),
        ("tls", Nested::One(&TLS)),
    ],
    aliases: &[
        ("path", "prefix"),
        ("path_prefix", "prefix"),
        ("location", "prefix"),
        ("match", "prefix"),
        ("host", "hosts"),
        ("hostname", "hosts"),
        ("hostnames", "hosts"),
        ("domain", "hosts"),
        ("domains", "hosts"),
        ("server_name", "hosts"),
        ("label", "name"),
        ("backend", "backend_addrs"),
        ("pool", "backends"),
        ("backend_address", "backend_addrs"),
        ("backend_addresses", "backend_addrs"),
        ("backend_servers", "backend_addrs"),
        ("backend_urls", "backend_addrs"),
        ("addr", "backend_addrs"),
        ("addrs", "backend_addrs"),
        ("address", "backend_addrs"),
        ("addresses", "backend_addrs"),
        ("upstream", "backend_addrs"),
        ("upstreams", "backend_addrs"),
        ("server", "backend_addrs"),
        ("servers", "backend_addrs"),
        ("target", "backend_addrs"),
        ("targets", "backend_addrs"),
        ("proxy_pass", "backend_addrs"),
        ("balance", "balancing_algorithm"),
        ("balancing", "balancing_algorithm"),
        ("load_balancing", "balancing_algorithm"),
        ("lb_policy", "balancing_algorithm"),
        ("health", "health_check"),
        ("healthcheck", "health_check"),
        ("sticky", "sticky_cookie"),
        ("max_conns", "max_in_flight_per_backend"),
        ("proxy_protocol", "send_proxy"),
        ("send_proxy_v2", "send_proxy"),
        ("client_max_body_size", "max_body_bytes"),
        ("read_timeout_secs", "response_timeout_secs"),
        ("redirect_to", "redirect"),
        ("limit_req", "rate_limit"),
        ("ratelimit", "rate_limit"),
        ("throttle", "rate_limit"),
        ("method", "methods"),
        ("limit_except", "methods"),
        ("proxy_set_header", "request_headers"),
        ("add_header", "response_headers"),
        ("rewrite_prefix", "replace_prefix"),
        ("prefix_rewrite", "replace_prefix"),
        ("return", "respond"),
        ("response", "respond"),
        ("whitelist", "allow"),
        ("allow_from", "allow"),
        ("allowlist", "allow"),
        ("blacklist", "deny"),
        ("denylist", "deny"),
    ],
    absent: &[("rewrite", NO_REWRITING), ("headers", WHOSE_HEADERS)],
};

/// One `[[routes]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    /// Whole segments: `/api` takes `/api` and `/api/x`, not `/apix`. The longest prefix wins. Required.
    pub(super) prefix: Option<Spanned<String>>,
    /// Host names, or `*.` and the end of names; of requests to any port. Exact ones come before those with a star, those
    /// before routes without hosts. Absent: any host.
    pub(super) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    /// What logs call the route. Absent: its first host and its prefix.
    pub(super) name: Option<Spanned<String>>,
    /// The name of the `[[backends]]` table its backends are in. Absent: they are in `backend_addrs`.
    pub(super) backends: Option<Spanned<PoolName>>,
    /// At least one. Required, unless there is `backends` or the route answers itself.
    pub(super) backend_addrs: Option<Spanned<Vec<Spanned<RawBackend>>>>,
    /// `round_robin`, `least_connections`, `random_two_choices`, `weighted_round_robin` or `consistent_hash`.
    pub(super) balancing_algorithm: Option<Spanned<String>>,
    /// With `consistent_hash`: `client_address`, `header:NAME` or `cookie:NAME`. Default: `client_address`.
    pub(super) hash_on: Option<Spanned<String>>,
    /// Keeps a client on the backend it got first. Absent: it does not.
    pub(super) sticky_cookie: Option<Spanned<RawStickyCookie>>,
    /// Absent: all backends are taken for healthy.
    pub(super) health_check: Option<Spanned<RawHealthCheck>>,
    /// Until a connection to a backend stands; then another backend is tried, or the exchange fails.
    pub(super) connect_timeout_secs: Option<Spanned<Seconds>>,
    /// From the request being sent to the response head; then 504.
    pub(super) response_timeout_secs: Option<Spanned<Seconds>>,
    /// Between two reads of a response body; for tunnels, silence both ways.
    pub(super) idle_timeout_secs: Option<Spanned<Seconds>>,
    /// For the whole exchange, every phase. Absent: none.
    pub(super) deadline_secs: Option<Spanned<Seconds>>,
    /// Largest request body; beyond it 413. Absent: unlimited. 0: no body at all.
    pub(super) max_body_bytes: Option<Spanned<i128>>,
    /// Further tries after the first, where a second try is safe.
    pub(super) retries: Option<Spanned<i128>>,
    /// Exchanges of this route at once. Default: three quarters of `max_exchanges`.
    pub(super) max_in_flight: Option<Spanned<i128>>,
    /// Exchanges of one backend at once. Absent: unlimited.
    pub(super) max_in_flight_per_backend: Option<Spanned<i128>>,
    /// For a backend to become free when all carry as many as they may; then 503.
    pub(super) queue_timeout_secs: Option<Spanned<Seconds>>,
    /// For a backend to be had while there is none, if the request can be sent again; then the failure. 0: not at all.
    pub(super) hold_secs: Option<Spanned<Seconds>>,
    /// Consecutive failures to connect, or to say a word before closing, that take a backend out. 0: none do.
    pub(super) max_fails: Option<Spanned<i128>>,
    /// The failures must fall within this time; without a health check, also how long the backend stays out.
    pub(super) fail_timeout_secs: Option<Spanned<Seconds>>,
    /// Idle connections kept per backend. 0: each request connects anew.
    pub(super) keepalive_connections: Option<Spanned<i128>>,
    /// How long an idle connection to a backend is kept.
    pub(super) keepalive_idle_secs: Option<Spanned<Seconds>>,
    /// From one look-up of the host names in `backend_addrs` to the next.
    pub(super) resolve_secs: Option<Spanned<Seconds>>,
    /// Send the client's `Host` instead of the backend's address.
    pub(super) preserve_host: Option<bool>,
    /// Networks of clients that are let in, `unix:` for those of Unix-domain sockets; everybody else is answered 403. Absent:
    /// everybody.
    pub(super) allow: Option<Spanned<Vec<Spanned<String>>>>,
    /// Networks of clients that are answered 403, even if they are in `allow`. Absent: none.
    pub(super) deny: Option<Spanned<Vec<Spanned<String>>>>,
    /// The methods the route takes; all others are answered 405. Absent: all.
    pub(super) methods: Option<Spanned<Vec<Spanned<String>>>>,
    /// How many requests the route takes; all others are answered 429. Absent: any number.
    pub(super) rate_limit: Option<Spanned<RawRateLimit>>,
    /// Every request is sent somewhere else; there are no backends then.
    pub(super) redirect: Option<Spanned<RawRedirect>>,
    /// Every request gets the same answer; there are no backends then.
    pub(super) respond: Option<Spanned<RawRespond>>,
    /// Backends get the path without the prefix. Default: false.
    pub(super) strip_prefix: Option<Spanned<bool>>,
    /// What backends get in place of the prefix. Absent: the prefix stays.
    pub(super) replace_prefix: Option<Spanned<String>>,
    /// Header fields that backends get. Absent: as they came.
    pub(super) request_headers: Option<Spanned<RawFieldRules>>,
    /// Header fields that clients get in answers of backends. Absent: as they came.
    pub(super) response_headers: Option<Spanned<RawFieldRules>>,
    /// How backends at `https://` are verified. Absent: by the CA certificates of the system.
    pub(super) tls: Option<Spanned<RawTls>>,
    /// What `Strict-Transport-Security` says to clients that came in by TLS. Absent: nothing is said.
    pub(super) hsts_secs: Option<Spanned<i128>>,
    /// Begin each connection to a backend with a PROXY header of version 2. Default: false.
    pub(super) send_proxy: Option<Spanned<bool>>,
}

pub(super) static HEALTH_CHECK: TableKeys = TableKeys {
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
pub(super) struct RawHealthCheck {
    /// What the probe asks for. Required.
    pub(super) path: Option<Spanned<String>>,
    /// From one probe to the next. Required.
    pub(super) interval_secs: Option<Spanned<Seconds>>,
    /// Longest a probe may take. Default: the smaller of the interval and 2 s.
    pub(super) timeout_secs: Option<Spanned<Seconds>>,
    /// Good probes in a row that make a backend healthy again.
    pub(super) healthy_threshold: Option<Spanned<i128>>,
    /// Bad probes in a row that make a backend unhealthy.
    pub(super) unhealthy_threshold: Option<Spanned<i128>>,
}

pub(super) static STICKY_COOKIE: TableKeys = TableKeys {
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
pub(super) struct RawStickyCookie {
    /// What the cookie is called. Required.
    pub(super) name: Option<Spanned<String>>,
    /// How long a client keeps it. Absent: until it is closed.
    pub(super) max_age_secs: Option<Spanned<i128>>,
}

pub(super) static REDIRECT: TableKeys = TableKeys {
    name: "redirect",
    expected: "a table, for example { to = \"https://{host}{target}\" }",
    keys: &["to", "status"],
    tables: &[],
    aliases: &[("url", "to"), ("location", "to"), ("target", "to"), ("code", "status")],
    absent: &[(
        "permanent",
        "whether it is for good is said by status: 308 (or 301) is, 307 (or 302) is not",
    )],
};

/// `redirect` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRedirect {
    /// A URL or a path, with placeholders. Required.
    pub(super) to: Option<Spanned<String>>,
    /// 301, 302, 303, 307 or 308. Default: 308.
    pub(super) status: Option<Spanned<i128>>,
}

pub(super) static RATE_LIMIT: TableKeys = TableKeys {
    name: "rate_limit",
    expected: "a table, for example { requests_per_sec = 10, burst = 20, per = \"client\" }",
    keys: &["requests_per_sec", "burst", "per"],
    tables: &[],
    aliases: &[("rate", "requests_per_sec"), ("average", "requests_per_sec"), ("key", "per"), ("by", "per")],
    absent: &[],
};

/// `rate_limit` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRateLimit {
    /// In the long run. Required.
    pub(super) requests_per_sec: Option<Spanned<i128>>,
    /// At once, after a pause. Default: as many as in a second.
    pub(super) burst: Option<Spanned<i128>>,
    /// `client` or `route`: whose requests are counted together. Default: client.
    pub(super) per: Option<Spanned<String>>,
}

pub(super) static RESPOND: TableKeys = TableKeys {
    name: "respond",
    expected: "a table, for example { status = 200, body = \"hello\" }",
    keys: &["status", "body", "file", "content_type", "headers"],
    tables: &[],
    aliases: &[
        ("code", "status"),
        ("content", "body"),
        ("text", "body"),
        ("path", "file"),
        ("mime_type", "content_type"),
        ("type", "content_type"),
        ("header", "headers"),
    ],
    absent: &[],
};

/// `respond` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRespond {
    /// Default: 200.
    pub(super) status: Option<Spanned<i128>>,
    /// The content. Absent, as `file` is: none.
    pub(super) body: Option<Spanned<String>>,
    /// A file with the content, of 1 MiB at most, read when the configuration is.
    pub(super) file: Option<Spanned<String>>,
    /// Default: `text/plain; charset=utf-8`.
    pub(super) content_type: Option<Spanned<String>>,
    /// Further header fields, with placeholders.
    pub(super) headers: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
}

pub(super) static REQUEST_HEADERS: TableKeys = field_rules("request_headers");
pub(super) static RESPONSE_HEADERS: TableKeys = field_rules("response_headers");

const fn field_rules(name: &'static str) -> TableKeys {
    TableKeys {
        name,
        expected: "a table, for example { set = { X-A = \"b\" }, remove = [\"X-B\"] }",
        keys: &["set", "add", "remove"],
        tables: &[],
        aliases: &[("replace", "set"), ("append", "add"), ("delete", "remove"), ("unset", "remove")],
        absent: &[],
    }
}

/// `request_headers` or `response_headers` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFieldRules {
    /// Fields and their values, in place of those that came; with placeholders.
    pub(super) set: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    /// The same, beside those that came.
    pub(super) add: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    /// Names of fields that are not passed on.
    pub(super) remove: Option<Spanned<Vec<Spanned<String>>>>,
}

pub(super) static TLS: TableKeys = TableKeys {
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
pub(super) struct RawTls {
    /// A PEM file of the CA certificates to trust. Default: those of the system.
    pub(super) ca: Option<Spanned<String>>,
    /// The name certificates must be for, also sent as SNI. Default: the host in `backend_addrs`.
    pub(super) server_name: Option<Spanned<String>>,
    /// Take any certificate. Default: false.
    pub(super) insecure_skip_verify: Option<bool>,
}

pub(super) static BACKEND: TableKeys = TableKeys {
    name: "an entry of backend_addrs",
    expected: "a list, for example [\"127.0.0.1:8001\", \"127.0.0.1:8002\"]",
    keys: &["addr", "weight"],
    tables: &[],
    aliases: &[
        ("address", "addr"),
        ("url", "addr"),
        ("host", "addr"),
        ("server", "addr"),
        ("share", "weight"),
    ],
    absent: &[],
};

/// An entry of `backend_addrs` as a table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBackendTable {
    /// `host:port`, `https://host` with or without a port, `unix:/path`. Required.
    pub(super) addr: Option<Spanned<String>>,
    /// Its share relative to its neighbours. Default 1.
    pub(super) weight: Option<Spanned<i128>>,
}

pub(super) static EXPECT: TableKeys = TableKeys {
    name: "[[expect]]",
    expected: "tables that each begin with the line [[expect]], in double brackets",
    keys: &["request", "headers", "from", "route", "status", "backend_target", "request_header"],
    tables: &[],
    aliases: &[
        ("url", "request"),
        ("header", "headers"),
        ("client", "from"),
        ("target", "backend_target"),
        ("request_headers", "request_header"),
        ("backend_header", "request_header"),
    ],
    absent: &[
        (
            "backend",
            "which backend is chosen depends on the moment; expected is route, or what the backend gets",
        ),
        ("method", "the method is the first word of request: request = \"GET http://shop.example/cart\""),
        ("host", "the host is in request, request = \"GET http://shop.example/cart\", or in headers"),
    ],
};

/// One `[[expect]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExpect {
    /// Method and target: `GET http://shop.example/cart`, or `GET /cart` with a `Host` in `headers`. Required.
    pub(super) request: Option<Spanned<String>>,
    /// Further header fields of the request.
    pub(super) headers: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    /// The address its connection comes from; `unix:` for a Unix-domain socket. Default: 127.0.0.1.
    pub(super) from: Option<Spanned<String>>,
    /// The name of the route that takes it; of one without a name, its first host and its prefix.
    pub(super) route: Option<Spanned<String>>,
    /// The status of the proxy's own answer, as far as the head of the request alone decides it; 404: no route.
    pub(super) status: Option<Spanned<i128>>,
    /// The target the backend gets.
    pub(super) backend_target: Option<Spanned<String>>,
    /// Header fields the backend gets.
    pub(super) request_header: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
}

/// An entry of `backend_addrs`.
pub(super) type RawBackend = AddrOrTable<RawBackendTable>;

impl Table for RawBackendTable {
    const EXPECTED: &'static str = "\"host:port\", \"unix:/path\" or { addr = \"host:port\", weight = 1 }";
}

/// An entry of `listen_addr`.
pub(super) type RawListenEntry = AddrOrTable<RawListenTable>;

impl Table for RawListenTable {
    const EXPECTED: &'static str = "\"ip:port\", \"unix:/path\" or { addr = \"ip:port\", tls = true }";
}

/// `listen_addr`: an entry or a list of them.
#[derive(Debug)]
pub(super) enum RawListen {
    One(RawListenEntry),
    Many(Vec<Spanned<RawListenEntry>>),
}

impl<'de> Deserialize<'de> for RawListen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryOrList;

        impl<'de> Visitor<'de> for EntryOrList {
            type Value = RawListen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(LISTEN.expected)
            }

            fn visit_str<E: Error>(self, one: &str) -> Result<RawListen, E> {
                Ok(RawListen::One(RawListenEntry::Addr(one.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawListen, A::Error> {
                let table = RawListenTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawListen::One(RawListenEntry::Table(table)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawListen, A::Error> {
                let mut many = Vec::new();
                while let Some(one) = list.next_element()? {
                    many.push(one);
                }
                Ok(RawListen::Many(many))
            }
        }

        deserializer.deserialize_any(EntryOrList)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys serde knows, from its message about one it does not.
    fn keys_of<T: for<'de> Deserialize<'de> + fmt::Debug>() -> Vec<String> {
        let error = toml::from_str::<T>("no_such_key = 1").unwrap_err().message().to_owned();
        let (_, keys) = error.split_once("expected ").expect("a list of keys");
        keys.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn aliases_lead_to_keys_and_are_none() {
        for table in TABLES {
            for (alias, key) in table.aliases {
                assert!(table.keys.contains(key), "{alias} of {}", table.name);
            }
            let others = table.aliases.iter().chain(table.absent);
            assert!(others.clone().all(|(other, _)| !table.keys.contains(other)), "of {}", table.name);
        }
    }

    #[test]
    fn the_lists_of_keys_agree_with_the_structs() {
        assert_eq!(keys_of::<RawConfig>(), TOP.keys);
        assert_eq!(keys_of::<RawListenTable>(), LISTEN.keys);
        assert_eq!(keys_of::<RawCertificate>(), CERTIFICATE.keys);
        assert_eq!(keys_of::<RawFrontTls>(), FRONT_TLS.keys);
        assert_eq!(keys_of::<RawServer>(), SERVER.keys);
        assert_eq!(keys_of::<RawAccessLog>(), ACCESS_LOG.keys);
        assert_eq!(keys_of::<RawAdmin>(), ADMIN.keys);
        assert_eq!(keys_of::<RawPool>(), POOL.keys);
        assert_eq!(keys_of::<RawRoute>(), ROUTE.keys);
        assert_eq!(keys_of::<RawHealthCheck>(), HEALTH_CHECK.keys);
        assert_eq!(keys_of::<RawTls>(), TLS.keys);
        assert_eq!(keys_of::<RawBackendTable>(), BACKEND.keys);
        assert_eq!(keys_of::<RawStickyCookie>(), STICKY_COOKIE.keys);
        assert_eq!(keys_of::<RawRedirect>(), REDIRECT.keys);
        assert_eq!(keys_of::<RawRespond>(), RESPOND.keys);
        assert_eq!(keys_of::<RawFieldRules>(), REQUEST_HEADERS.keys);
        assert_eq!(keys_of::<RawFieldRules>(), RESPONSE_HEADERS.keys);
        assert_eq!(keys_of::<RawRateLimit>(), RATE_LIMIT.keys);
        assert_eq!(keys_of::<RawExpect>(), EXPECT.keys);
    }
}
