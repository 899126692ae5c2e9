//! `[[routes]]`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::super::forms::{PoolNames, Seconds, StatusOrClass, ValueOrPresence};
use super::hints::{NO_REWRITING, WHOSE_HEADERS};
use super::{
    BACKEND, BASIC_AUTH, COMPRESS, FORWARD_AUTH, HEALTH_CHECK, Nested, RATE_LIMIT, REDIRECT, REQUEST_HEADERS,
    RESPOND, RESPONSE_HEADERS, RawBackend, RawBasicAuth, RawCompress, RawFieldRules, RawForwardAuth,
    RawHealthCheck, RawRateLimit, RawRedirect, RawRespond, RawStickyCookie, RawTls, STICKY_COOKIE, TLS,
    TableKeys,
};

pub(in crate::config) static ROUTE: TableKeys = TableKeys {
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
        "slow_start_secs",
        "min_healthy",
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
        "match_headers",
        "rate_limit",
        "forward_auth",
        "basic_auth",
        "redirect",
        "respond",
        "strip_prefix",
        "replace_prefix",
        "request_headers",
        "response_headers",
        "error_pages",
        "intercept_errors",
        "compress",
        "tls",
        "hsts_secs",
        "send_proxy",
    ],
    tables: &[
        ("backend_addrs", Nested::Among(&BACKEND)),
        ("sticky_cookie", Nested::One(&STICKY_COOKIE)),
        ("health_check", Nested::One(&HEALTH_CHECK)),
        ("rate_limit", Nested::One(&RATE_LIMIT)),
        ("forward_auth", Nested::One(&FORWARD_AUTH)),
        ("basic_auth", Nested::One(&BASIC_AUTH)),
        ("redirect", Nested::One(&REDIRECT)),
        ("respond", Nested::One(&RESPOND)),
        ("request_headers", Nested::One(&REQUEST_HEADERS)),
        ("response_headers", Nested::One(&RESPONSE_HEADERS)),
        ("compress", Nested::Switch(&COMPRESS)),
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
        ("pools", "backends"),
        ("shares", "backends"),
        ("weighted", "backends"),
        ("split_clients", "backends"),
        ("traffic_split", "backends"),
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
        ("slow_start", "slow_start_secs"),
        ("slowstart", "slow_start_secs"),
        ("panic_threshold", "min_healthy"),
        ("healthy_panic_threshold", "min_healthy"),
        ("max_conns", "max_in_flight_per_backend"),
        ("proxy_protocol", "send_proxy"),
        ("send_proxy_v2", "send_proxy"),
        ("client_max_body_size", "max_body_bytes"),
        ("read_timeout_secs", "response_timeout_secs"),
        ("redirect_to", "redirect"),
        ("limit_req", "rate_limit"),
        ("ratelimit", "rate_limit"),
        ("throttle", "rate_limit"),
        ("auth_request", "forward_auth"),
        ("forwardauth", "forward_auth"),
        ("forwardAuth", "forward_auth"),
        ("external_auth", "forward_auth"),
        ("ext_authz", "forward_auth"),
        ("auth_basic", "basic_auth"),
        ("basicauth", "basic_auth"),
        ("http_auth", "basic_auth"),
        ("method", "methods"),
        ("limit_except", "methods"),
        ("match_header", "match_headers"),
        ("header_match", "match_headers"),
        ("header_matchers", "match_headers"),
        ("proxy_set_header", "request_headers"),
        ("add_header", "response_headers"),
        ("gzip", "compress"),
        ("encode", "compress"),
        ("compression", "compress"),
        ("gzip_types", "compress"),
        ("gzip_min_length", "compress"),
        ("gzip_comp_level", "compress"),
        ("rewrite_prefix", "replace_prefix"),
        ("prefix_rewrite", "replace_prefix"),
        ("error_page", "error_pages"),
        ("errorfile", "error_pages"),
        ("errorfiles", "error_pages"),
        ("error_document", "error_pages"),
        ("handle_errors", "error_pages"),
        ("proxy_intercept_errors", "intercept_errors"),
        ("intercept", "intercept_errors"),
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
pub(in crate::config) struct RawRoute {
    /// Whole segments: `/api` takes `/api` and `/api/x`, not `/apix`. The longest prefix wins. Required.
    pub(in crate::config) prefix: Option<Spanned<String>>,
    /// Host names, or `*.` and the end of names; of requests to any port. Exact ones come before those with a star, those
    /// before routes without hosts. Absent: any host.
    pub(in crate::config) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    /// What logs call the route. Absent: its first host and its prefix.
    pub(in crate::config) name: Option<Spanned<String>>,
    /// The name of the `[[backends]]` table its backends are in, or those of several and how many of the requests each gets.
    /// Absent: they are in `backend_addrs`.
    pub(in crate::config) backends: Option<Spanned<PoolNames>>,
    /// At least one. Required, unless there is `backends` or the route answers itself.
    pub(in crate::config) backend_addrs: Option<Spanned<Vec<Spanned<RawBackend>>>>,
    /// `round_robin`, `least_connections`, `random_two_choices`, `weighted_round_robin`, `least_time` or `consistent_hash`.
    pub(in crate::config) balancing_algorithm: Option<Spanned<String>>,
    /// With `consistent_hash`: `client_address`, `header:NAME` or `cookie:NAME`. Default: `client_address`.
    pub(in crate::config) hash_on: Option<Spanned<String>>,
    /// How long the share of a backend that has come back, or is new after a reload, grows to its full size. Absent: it has
    /// it at once.
    pub(in crate::config) slow_start_secs: Option<Spanned<Seconds>>,
    /// While fewer backends are healthy, all are tried. Absent: only those that are.
    pub(in crate::config) min_healthy: Option<Spanned<i128>>,
    /// Keeps a client on the backend it got first. Absent: it does not.
    pub(in crate::config) sticky_cookie: Option<Spanned<RawStickyCookie>>,
    /// Absent: all backends are taken for healthy.
    pub(in crate::config) health_check: Option<Spanned<RawHealthCheck>>,
    /// Until a connection to a backend stands; then another backend is tried, or the exchange fails.
    pub(in crate::config) connect_timeout_secs: Option<Spanned<Seconds>>,
    /// From the request being sent to the response head; then 504.
    pub(in crate::config) response_timeout_secs: Option<Spanned<Seconds>>,
    /// Between two reads of a response body; for tunnels, silence both ways.
    pub(in crate::config) idle_timeout_secs: Option<Spanned<Seconds>>,
    /// For the whole exchange, every phase. Absent: none.
    pub(in crate::config) deadline_secs: Option<Spanned<Seconds>>,
    /// Largest request body; beyond it 413. Absent: unlimited. 0: no body at all.
    pub(in crate::config) max_body_bytes: Option<Spanned<i128>>,
    /// Further tries after the first, where a second try is safe.
    pub(in crate::config) retries: Option<Spanned<i128>>,
    /// Exchanges of this route at once. Default: three quarters of `max_exchanges`.
    pub(in crate::config) max_in_flight: Option<Spanned<i128>>,
    /// Exchanges of one backend at once. Absent: unlimited.
    pub(in crate::config) max_in_flight_per_backend: Option<Spanned<i128>>,
    /// For a backend to become free when all carry as many as they may; then 503.
    pub(in crate::config) queue_timeout_secs: Option<Spanned<Seconds>>,
    /// For a backend to be had while there is none, if the request can be sent again; then the failure. 0: not at all.
    pub(in crate::config) hold_secs: Option<Spanned<Seconds>>,
    /// Consecutive failures to connect, or to say a word before closing, that take a backend out. 0: none do.
    pub(in crate::config) max_fails: Option<Spanned<i128>>,
    /// The failures must fall within this time; without a health check, also how long the backend stays out.
    pub(in crate::config) fail_timeout_secs: Option<Spanned<Seconds>>,
    /// Idle connections kept per backend. 0: each request connects anew.
    pub(in crate::config) keepalive_connections: Option<Spanned<i128>>,
    /// How long an idle connection to a backend is kept.
    pub(in crate::config) keepalive_idle_secs: Option<Spanned<Seconds>>,
    /// From one look-up of the host names in `backend_addrs` to the next.
    pub(in crate::config) resolve_secs: Option<Spanned<Seconds>>,
    /// Send the client's `Host` instead of the backend's address.
    pub(in crate::config) preserve_host: Option<bool>,
    /// Networks of clients that are let in, `unix:` for those of Unix-domain sockets; everybody else is answered 403. Absent:
    /// everybody.
    pub(in crate::config) allow: Option<Spanned<Vec<Spanned<String>>>>,
    /// Networks of clients that are answered 403, even if they are in `allow`. Absent: none.
    pub(in crate::config) deny: Option<Spanned<Vec<Spanned<String>>>>,
    /// The methods the route takes; all others are answered 405, unless another route for the same prefix takes them.
    /// Absent: all.
    pub(in crate::config) methods: Option<Spanned<Vec<Spanned<String>>>>,
    /// Header fields that a request must have to be taken: a value, `true` for any, `false` for none. Absent: whatever it has.
    pub(in crate::config) match_headers: Option<Spanned<BTreeMap<String, Spanned<ValueOrPresence>>>>,
    /// How many requests the route takes; all others are answered 429. Absent: any number.
    pub(in crate::config) rate_limit: Option<Spanned<RawRateLimit>>,
    /// Another service that decides about each request first. Absent: nobody else does.
    pub(in crate::config) forward_auth: Option<Spanned<RawForwardAuth>>,
    /// Whose requests the route takes, by name and password; all others are answered 401. Absent: anybody's.
    pub(in crate::config) basic_auth: Option<Spanned<RawBasicAuth>>,
    /// Every request is sent somewhere else; there are no backends then.
    pub(in crate::config) redirect: Option<Spanned<RawRedirect>>,
    /// Every request gets the same answer; there are no backends then.
    pub(in crate::config) respond: Option<Spanned<RawRespond>>,
    /// Backends get the path without the prefix. Default: false.
    pub(in crate::config) strip_prefix: Option<Spanned<bool>>,
    /// What backends get in place of the prefix. Absent: the prefix stays.
    pub(in crate::config) replace_prefix: Option<Spanned<String>>,
    /// Header fields that backends get. Absent: as they came.
    pub(in crate::config) request_headers: Option<Spanned<RawFieldRules>>,
    /// Header fields that clients get in answers of backends. Absent: as they came.
    pub(in crate::config) response_headers: Option<Spanned<RawFieldRules>>,
    /// Files that clients get in place of a line of text where an answer is the proxy's own, by status or class of statuses;
    /// of 1 MiB each at most, read when the configuration is. Absent: those of the top level.
    pub(in crate::config) error_pages: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    /// Answers of backends with such a status are not passed on: clients get what they would of the proxy itself. Absent:
    /// none.
    pub(in crate::config) intercept_errors: Option<Spanned<Vec<Spanned<StatusOrClass>>>>,
    /// `true`, or a table that says which answers of backends are compressed for clients that take gzip. Absent: none.
    pub(in crate::config) compress: Option<Spanned<RawCompress>>,
    /// How backends at `https://` are verified. Absent: by the CA certificates of the system.
    pub(in crate::config) tls: Option<Spanned<RawTls>>,
    /// What `Strict-Transport-Security` says to clients that came in by TLS. Absent: nothing is said.
    pub(in crate::config) hsts_secs: Option<Spanned<i128>>,
    /// Begin each connection to a backend with a PROXY header of version 2. Default: false.
    pub(in crate::config) send_proxy: Option<Spanned<bool>>,
}
