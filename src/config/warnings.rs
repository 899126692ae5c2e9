//! What is allowed and will hardly do what was meant: keys that have no use beside other keys, limits that are never
//! reached, prefixes written as patterns.
//!
//! Only what is written in the file is warned about, never a default. Everything here is about a configuration that has
//! been accepted: nothing is refused for it, unless `--strict` asks for that.

mod auth;
mod front;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use super::document::Document;
use super::{Algorithm, BackendAddr, Config, ConfigError, Engine, ListenAddr, RouteConfig};
use crate::http::target::normalize_path;
use crate::routing::Wanted;

pub(crate) use front::about_validity;

/// The warnings about `config`, in the order of the file. `places` has the values that are written in it.
pub(super) fn find(
    config: &Config,
    places: &HashMap<String, Range<usize>>,
    document: &Document<'_>,
) -> Vec<ConfigError> {
    let mut warnings = Warnings { config, places, document, found: Vec::new() };
    warnings.listen();
    warnings.front();
    warnings.server();
    for (n, route) in config.routes.iter().enumerate() {
        let route = Written { route, key: format!("routes[{n}]") };
        warnings.prefix(&route);
        warnings.match_headers(&route);
        warnings.limits(&route);
        warnings.times(&route);
        warnings.passwords(&route);
    }
    for (n, route) in config.of_each_pool() {
        warnings.without_use(&Written { route, key: config.pool_table(n, route) });
    }
    for (n, name) in config.pools.iter().enumerate() {
        let mut used = config.routes.iter().flat_map(RouteConfig::pools);
        if used.all(|pool| pool.pool.as_ref() != Some(name)) {
            let problem =
                format!("\"{name}\" is a pool that no route refers to; write backends = \"{name}\" in one");
            warnings.warn(&format!("backends[{n}].name"), problem);
        }
    }
    warnings.found.sort_by_key(ConfigError::line);
    warnings.found
}

/// Keys that say something about backends, or about exchanges with them.
const OF_BACKENDS: [&str; 15] = [
    "connect_timeout_secs",
    "response_timeout_secs",
    "idle_timeout_secs",
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
    "slow_start_secs",
    "min_healthy",
];

struct Warnings<'a> {
    config: &'a Config,
    places: &'a HashMap<String, Range<usize>>,
    document: &'a Document<'a>,
    found: Vec<ConfigError>,
}

/// A route, and the path of its key.
struct Written<'a> {
    route: &'a RouteConfig,
    key: String,
}

impl Written<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.key)
    }

    /// What the addresses of backends are called.
    fn addrs(&self) -> &'static str {
        if self.route.pool.is_some() { "addrs" } else { "backend_addrs" }
    }
}

impl Warnings<'_> {
    /// Nothing, if `key` is not written.
    fn warn(&mut self, key: &str, problem: impl Into<String>) {
        if let Some(span) = self.places.get(key) {
            // Which of several addresses is meant shows in the message; the key is the one in the file.
            let name =
                key.strip_suffix(']').and_then(|key| key.rsplit_once('[')).map_or(key, |(name, _)| name);
            self.found.push(self.document.error(Some(span), name, problem.into()));
        }
    }

    fn listen(&mut self) {
        let addrs = &self.config.listen_addrs;
        if !addrs.iter().any(|listen| matches!(listen.addr, ListenAddr::Unix(_))) {
            self.warn("listen_mode", "has no use without a Unix socket in listen_addr; leave it out");
        }
        let tcp: Vec<_> = addrs.iter().map(|listen| listen.addr.tcp()).collect();
        for (n, one) in tcp.iter().enumerate() {
            let Some(one) = one.filter(|one| one.port() != 0 && !one.ip().is_unspecified()) else { continue };
            let takes_all = |other: &std::net::SocketAddr| {
                other.port() == one.port() && other.ip().is_unspecified() && other.is_ipv4() == one.is_ipv4()
            };
            if let Some(all) = tcp.iter().flatten().find(|other| takes_all(other)) {
                let problem = format!(
                    "\"{one}\" is among the addresses of \"{all}\" and cannot be had beside it; leave one of them out"
                );
                self.warn(&format!("listen_addr[{n}]"), problem);
            }
        }
    }

    fn server(&mut self) {
        let server = &self.config.server;
        for name in server.engine.keys_without_use() {
            let problem = format!("has no use with engine = \"{}\"; leave it out", server.engine);
            self.warn(&format!("server.{name}"), problem);
        }
        if server.engine == Engine::Native {
            let connections = server.max_connections.get();
            if let Some(value) = server.max_connections_per_client.filter(|max| max.get() > connections) {
                let problem = format!(
                    "{value} is never reached: max_connections is {connections}; lower this or raise that"
                );
                self.warn("server.max_connections_per_client", problem);
            }
            for (name, value) in
                [("max_exchanges", server.max_exchanges.get()), ("max_tunnels", server.max_tunnels)]
            {
                if value > connections {
                    let problem = format!(
                        "{value} is never reached: each takes a connection, and max_connections is {connections}; \
                         lower this or raise that"
                    );
                    self.warn(&format!("server.{name}"), problem);
                }
            }
        }
    }

    /// A prefix is compared letter by letter. People who know patterns from elsewhere try them here.
    fn prefix(&mut self, written: &Written<'_>) {
        let prefix = written.route.key.prefix.as_str();
        if let Some(compared) = normalize_path(prefix).filter(|compared| compared != prefix) {
            let problem = format!(
                "\"{prefix}\" is never found: in a request \"{compared}\" is the same, and is what is compared; write that"
            );
            self.warn(&written.key("prefix"), problem);
        }
        let plain = prefix.split('/').skip(1).take_while(|segment| !is_pattern(segment));
        let plain = format!("/{}", plain.collect::<Vec<_>>().join("/"));
        if plain != prefix {
            let problem = format!(
                "\"{prefix}\" looks like a pattern, and prefixes are compared letter by letter; \
                 \"{plain}\" takes every path below it"
            );
            self.warn(&written.key("prefix"), problem);
        }
    }

    /// Neither are values of fields patterns.
    fn match_headers(&mut self, written: &Written<'_>) {
        for condition in &written.route.key.conditions.headers {
            if matches!(&condition.wanted, Wanted::Value(value) if value.as_bytes() == b"*") {
                let name = &condition.name;
                let problem = format!("\"*\" is compared letter by letter; true takes a {name} of any value");
                self.warn(&written.key("match_headers"), problem);
            }
        }
    }

    fn limits(&mut self, written: &Written<'_>) {
        let (route, server) = (written.route, &self.config.server);
        let (most, of) = match server.engine {
            Engine::TinyHttp => (server.workers, "workers"),
            Engine::Native if server.max_connections < server.max_exchanges => {
                (server.max_connections, "max_connections")
            }
            Engine::Native => (server.max_exchanges, "max_exchanges"),
        };
        if route.max_in_flight > most {
            let problem = format!(
                "{} is never reached: {of} of [server] is {most}; lower this or raise that",
                route.max_in_flight
            );
            self.warn(&written.key("max_in_flight"), problem);
        }
        if let Some(per_backend) = route.max_in_flight_per_backend
            && per_backend > route.max_in_flight
        {
            let problem = format!(
                "{per_backend} is never reached: max_in_flight of the route is {}; lower this or raise that",
                route.max_in_flight
            );
            self.warn(&written.key("max_in_flight_per_backend"), problem);
        }
        for share in route.shares.iter().filter(|share| share.share == 0) {
            if route.sticky_cookie.is_none() {
                let name = share.of.pool.as_deref().unwrap_or_default();
                let problem = "0 keeps everybody out: without sticky_cookie no client stays in a pool; leave it out, or raise it";
                self.warn(&written.key(&format!("backends.{name}")), problem);
            }
        }
    }

    fn times(&mut self, written: &Written<'_>) {
        let route = written.route;
        if route.pools().all(|pool| pool.max_in_flight_per_backend.is_none()) {
            let problem = "has no use without max_in_flight_per_backend; leave it out";
            self.warn(&written.key("queue_timeout_secs"), problem);
        }
        if let Some(deadline) = route.deadline {
            if deadline < route.response_timeout {
                // Warned about even where the time-out is a default: the deadline says nothing about a backend, so that
                // one which hangs would never be taken out.
                let problem = format!(
                    "{} is shorter than response_timeout_secs, {}, which is then never reached, and a backend that \
                     hangs is not noticed; lower response_timeout_secs or raise this",
                    secs(deadline),
                    secs(route.response_timeout)
                );
                self.warn(&written.key("deadline_secs"), problem);
            }
            let asked =
                route.auth_service.as_ref().map_or(Duration::ZERO, |service| service.response_timeout);
            for (name, value) in [
                ("connect_timeout_secs", route.connect_timeout),
                ("idle_timeout_secs", route.idle_timeout),
                ("queue_timeout_secs", route.queue_timeout),
                ("hold_secs", route.hold),
                ("forward_auth.timeout_secs", asked),
            ] {
                if value > deadline {
                    let problem = format!(
                        "{} is never reached: deadline_secs is {}; lower this or raise that",
                        secs(value),
                        secs(deadline)
                    );
                    self.warn(&written.key(name), problem);
                }
            }
        }
    }

    fn without_use(&mut self, written: &Written<'_>) {
        let route = written.route;
        if let Some(check) = route.health_check.as_ref().filter(|check| check.timeout > check.interval) {
            let problem = format!(
                "{} is longer than interval_secs, {}: while a probe hangs, the next ones are left out; lower this or \
                 raise that",
                secs(check.timeout),
                secs(check.interval)
            );
            self.warn(&written.key("health_check.timeout_secs"), problem);
        }
        let mut useless = |name: &str, reason: &str| {
            self.warn(&written.key(name), format!("has no use {reason}; leave it out"));
        };
        if let Some(answer) = &route.rules.answer {
            let reason = format!("beside {}: no backend is ever asked", answer.key());
            for name in OF_BACKENDS {
                useless(name, &reason);
            }
            return;
        }
        if route.send_proxy {
            useless(
                "keepalive_connections",
                "with send_proxy = true, where no connection is for two clients",
            );
            useless("keepalive_idle_secs", "with send_proxy = true, where no connection is for two clients");
        }
        if route.max_fails == 0 {
            useless("fail_timeout_secs", "with max_fails = 0");
        }
        if route.keepalive_connections == 0 && !route.send_proxy {
            useless("keepalive_idle_secs", "with keepalive_connections = 0");
        }
        let is_name =
            |addr: &BackendAddr| addr.host_port().is_some_and(|(host, _)| host.parse::<IpAddr>().is_err());
        let has_name = route.backends.iter().any(|backend| is_name(&backend.addr));
        if !has_name {
            useless("resolve_secs", &format!("without a host name in {}", written.addrs()));
            if route.backends.len() == 1 {
                useless("slow_start_secs", "with a single backend");
            }
        }
        if route.health_check.is_none() && route.max_fails == 0 {
            useless("min_healthy", "with max_fails = 0 and no health check: all are taken for healthy");
        }
        if let Some(least) = route.min_healthy
            && !has_name
            && least.get() > route.backends.len()
        {
            let problem = format!(
                "{least} is more than there are backends: who is unhealthy is always tried all the same; lower it, or \
                 leave the health check out"
            );
            self.warn(&written.key("min_healthy"), problem);
        }
        let mut useless = |name: &str, reason: &str| {
            self.warn(&written.key(name), format!("has no use {reason}; leave it out"));
        };
        if route.tls.insecure_skip_verify {
            useless("tls.ca", "with insecure_skip_verify = true");
        }
        if route.algorithm == Algorithm::RoundRobin && route.backends.len() > 1 {
            for n in 0..route.backends.len() {
                self.warn(
                    &written.key(&format!("{}[{n}].weight", written.addrs())),
                    "has no use with balancing_algorithm = \"round_robin\"; take \"weighted_round_robin\", or leave \
                     it out",
                );
            }
        }
    }
}

/// Whether a segment looks like a wildcard, a parameter or a regular expression. `(`, `)`, `+` and a `$` in front are in
/// real paths too often.
fn is_pattern(segment: &str) -> bool {
    segment.starts_with(':')
        || segment.ends_with('$')
        || segment.contains(['*', '{', '}', '<', '>', '[', ']', '^', '|', '\\'])
}

/// As it would be written in the file.
fn secs(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
