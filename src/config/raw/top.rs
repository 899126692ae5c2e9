//! The top level of the file.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::super::forms::Seconds;
use super::hints::{BACKENDS_ARE_IN_ROUTES, LOGGING_IS_ELSEWHERE, PREFIXES_ARE_IN_ROUTES, WHERE_TLS_IS};
use super::{
    ACCESS_LOG, ADMIN, CERTIFICATE, EXPECT, FRONT_TLS, LISTEN, Nested, POOL, ROUTE, RawAccessLog, RawAdmin,
    RawCertificate, RawExpect, RawFrontTls, RawListen, RawPool, RawRoute, RawServer, SERVER, TableKeys,
};

pub(in crate::config) static TOP: TableKeys = TableKeys {
    name: "the top level, above the first [table]",
    expected: "a TOML document",
    keys: &[
        "listen_addr",
        "listen_mode",
        "shutdown_timeout",
        "drain_delay_secs",
        "error_pages",
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
        ("error_page", "error_pages"),
        ("errorfile", "error_pages"),
        ("errorfiles", "error_pages"),
        ("error_document", "error_pages"),
        ("handle_errors", "error_pages"),
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

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawConfig {
    /// `ip:port`, `localhost:port` (the IPv4 loopback address), `unix:/path`, a table, or a list of them. Port 0: any free
    /// port.
    pub(in crate::config) listen_addr: Option<Spanned<RawListen>>,
    /// Permissions of the sockets at `unix:/path`, in octal. Absent: as the umask has it.
    pub(in crate::config) listen_mode: Option<Spanned<String>>,
    /// Seconds that requests in flight get to finish on shutdown; 0 cuts them off at once. Default 10.
    pub(in crate::config) shutdown_timeout: Option<Spanned<Seconds>>,
    /// Seconds between the signal to stop and the end of accepting connections. Default 0.
    pub(in crate::config) drain_delay_secs: Option<Spanned<Seconds>>,
    /// Files that clients get in place of a line of text where an answer is the proxy's own and its route has no page for it.
    pub(in crate::config) error_pages: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    /// What is shown to clients where TLS is spoken. The first is for those who name nobody, or somebody else.
    #[serde(default)]
    pub(in crate::config) certificates: Vec<Spanned<RawCertificate>>,
    /// TLS towards clients.
    #[serde(default)]
    pub(in crate::config) tls: RawFrontTls,
    /// Limits of the front door.
    #[serde(default)]
    pub(in crate::config) server: RawServer,
    /// Absent: there is none.
    #[serde(default)]
    pub(in crate::config) access_log: RawAccessLog,
    /// Absent: there is no such listener.
    #[serde(default)]
    pub(in crate::config) admin: RawAdmin,
    /// Backends that several routes share.
    #[serde(default)]
    pub(in crate::config) backends: Vec<Spanned<RawPool>>,
    /// At least one.
    #[serde(default)]
    pub(in crate::config) routes: Vec<Spanned<RawRoute>>,
    /// What is to become of requests; one that is not fulfilled is an error.
    #[serde(default)]
    pub(in crate::config) expect: Vec<Spanned<RawExpect>>,
}
