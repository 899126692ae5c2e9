//! `[server]`, `[access_log]` and `[admin]`.

use serde::Deserialize;
use toml::Spanned;

use super::super::forms::Seconds;
use super::TableKeys;
use super::hints::{LOGGING_IS_ELSEWHERE, PREFIXES_ARE_IN_ROUTES, WHERE_TLS_IS, WHERE_TO_LISTEN};

pub(in crate::config) static SERVER: TableKeys = TableKeys {
    name: "[server]",
    expected: "a table that begins with the line [server]",
    keys: &[
        "engine",
        "workers",
        "max_exchanges",
        "max_tunnels",
        "max_compressing",
        "queue_size",
        "max_connections",
        "max_connections_per_client",
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
        ("limit_conn", "max_connections_per_client"),
        ("max_connections_per_ip", "max_connections_per_client"),
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
pub(in crate::config) struct RawServer {
    /// `native` or `tiny_http`.
    pub(in crate::config) engine: Option<Spanned<String>>,
    /// Threads that carry exchanges. Default: one per core; with `tiny_http`, where each carries one exchange, 256.
    pub(in crate::config) workers: Option<Spanned<i128>>,
    /// Exchanges under way at once; beyond it 503.
    pub(in crate::config) max_exchanges: Option<Spanned<i128>>,
    /// WebSockets and other upgrades open at once; beyond it 503. 0: none.
    pub(in crate::config) max_tunnels: Option<Spanned<i128>>,
    /// Answers that are being compressed at once; beyond it they pass as they are. 0: none is compressed.
    pub(in crate::config) max_compressing: Option<Spanned<i128>>,
    /// With `tiny_http`: requests that wait for a worker; beyond it 503. No use with `native`.
    pub(in crate::config) queue_size: Option<Spanned<i128>>,
    /// Client connections at once; beyond it new ones wait in the kernel's backlog.
    pub(in crate::config) max_connections: Option<Spanned<i128>>,
    /// Those of one address, or of one network of 64 bits of IPv6; beyond it 429, or closed where TLS is spoken. Absent: no
    /// limit.
    pub(in crate::config) max_connections_per_client: Option<Spanned<i128>>,
    /// Request line and fields together; beyond it 431, or 414 for the line alone.
    pub(in crate::config) max_header_bytes: Option<Spanned<i128>>,
    /// Fields of a request; beyond it 431.
    pub(in crate::config) max_headers: Option<Spanned<i128>>,
    /// For the whole head, from its first byte; then 408.
    pub(in crate::config) header_timeout_secs: Option<Spanned<Seconds>>,
    /// Idle between requests; then closed.
    pub(in crate::config) keepalive_timeout_secs: Option<Spanned<Seconds>>,
    /// Between two reads of a request body; then 408.
    pub(in crate::config) read_timeout_secs: Option<Spanned<Seconds>>,
    /// Bytes per second a request body must keep, averaged over 20 s; else 408. 0: no minimum.
    pub(in crate::config) min_body_rate: Option<Spanned<i128>>,
    /// Bytes per second at which a client must take its answer once it is behind, averaged over 20 s; else closed. 0: no
    /// minimum.
    pub(in crate::config) min_answer_rate: Option<Spanned<i128>>,
    /// For a response write that makes no progress; then closed.
    pub(in crate::config) write_timeout_secs: Option<Spanned<Seconds>>,
    /// Networks whose `X-Forwarded-*` are believed; `unix:` for whoever comes in through a Unix-domain socket. Default: none.
    #[serde(default)]
    pub(in crate::config) trusted_proxies: Vec<Spanned<String>>,
}

pub(in crate::config) static ACCESS_LOG: TableKeys = TableKeys {
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
pub(in crate::config) struct RawAccessLog {
    /// A file, or `-` for stdout. Absent: there is no access log.
    pub(in crate::config) path: Option<Spanned<String>>,
    /// `combined` or `json`.
    pub(in crate::config) format: Option<Spanned<String>>,
}

pub(in crate::config) static ADMIN: TableKeys = TableKeys {
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
pub(in crate::config) struct RawAdmin {
    /// `ip:port`, `localhost:port` or `unix:/path`. Absent: there is no such listener.
    pub(in crate::config) listen_addr: Option<Spanned<String>>,
    /// Permissions of the socket at `unix:/path`, in octal.
    pub(in crate::config) socket_mode: Option<Spanned<String>>,
    /// Allows an address that other machines reach.
    pub(in crate::config) allow_remote: Option<bool>,
    /// Takes orders about backends.
    pub(in crate::config) control: Option<bool>,
    /// `/readyz` fails while no route has a healthy backend.
    pub(in crate::config) ready_requires_backends: Option<bool>,
}
