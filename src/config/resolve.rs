//! [`RawConfig`] → [`Config`]: is every value one the proxy can work with?

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::document::Document;
use super::pool::{self, PoolKeys};
use super::raw::{RawBackend, RawBackendTable, RawConfig, RawHealthCheck, RawRoute, RawServer};
use super::values::{GRACE, Resolver};
use super::{
    BackendAddr, BackendConfig, Config, ConfigError, ConfigErrors, Engine, HealthCheckConfig, ListenConfig,
    RouteConfig, ServerConfig, Written, warnings,
};
use crate::routing::{Conditions, HostPattern, Prefix};

/// Checks everything, and adds what it finds to `errors`.
pub(super) fn resolve(
    raw: RawConfig,
    document: &Document<'_>,
    errors: Vec<ConfigError>,
) -> Result<Config, ConfigErrors> {
    let mut resolver = Resolver::new(document, errors);
    let mut shutdown_timeout = Duration::from_secs(10);
    resolver.seconds("shutdown_timeout", raw.shutdown_timeout, &GRACE, &mut shutdown_timeout);
    let mut drain_delay = Duration::ZERO;
    resolver.seconds("drain_delay_secs", raw.drain_delay_secs, &GRACE, &mut drain_delay);
    let error_pages = raw.error_pages.map(|raw| resolver.error_pages("error_pages", raw));
    let listen_mode = raw.listen_mode.and_then(|mode| resolver.mode("listen_mode", &mode));
    let server = resolver.server(raw.server);
    let access_log = resolver.access_log(raw.access_log);
    let admin = resolver.admin(raw.admin);
    let listen_addrs = resolver.listen_addrs(raw.listen_addr, &server);
    let front = resolver.front(raw.certificates, raw.tls, &listen_addrs, server.engine);
    let pools = resolver.pools(raw.backends, &server);
    let routes = resolver.routes(raw.routes, &pools, &server);
    let pools: Vec<String> = pools.into_iter().filter_map(|pool| pool.pool).collect();
    resolver.refuse_circles(&listen_addrs, &pools, &routes);
    let expectations = resolver.expectations(raw.expect);
    if !resolver.errors.is_empty() {
        return Err(ConfigErrors::new(resolver.errors));
    }
    let mut config = Config {
        pools,
        listen_addrs,
        listen_mode,
        drain_delay,
        shutdown_timeout,
        error_pages,
        front,
        access_log,
        admin,
        server,
        routes,
        warnings: Vec::new(),
        expectations,
        written: Written::new(&resolver.places, document),
    };
    config.warnings = warnings::find(&config, &resolver.places, document);
    Ok(config)
}

/// The sections of the file.
impl Resolver<'_> {
    /// Permissions in octal, as `chmod` has them.
    pub(super) fn mode(&mut self, key: &str, text: &Spanned<String>) -> Option<u32> {
        self.note(key, &text.span());
        let digits = text.get_ref();
        let is_octal =
            (3..=4).contains(&digits.len()) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
        if mode.is_none() {
            let problem = "is no set of permissions; expected three octal digits, with or without a 0 before them, \
                           for example \"0660\"";
            self.refuse_text(text, key, problem);
        }
        mode
    }

    fn server(&mut self, raw: RawServer) -> ServerConfig {
        let mut server = ServerConfig::default();
        if let Some(word) = raw.engine {
            self.engine(&word, &mut server.engine);
            server.workers = server.engine.default_workers();
        }
        self.count("server.workers", raw.workers, 1..=65_536, &mut server.workers);
        self.count("server.max_exchanges", raw.max_exchanges, 1..=1_000_000, &mut server.max_exchanges);
        self.whole("server.max_tunnels", raw.max_tunnels, 0..=65_536, &mut server.max_tunnels);
        self.whole("server.max_compressing", raw.max_compressing, 0..=1_000_000, &mut server.max_compressing);
        self.count("server.queue_size", raw.queue_size, 1..=1_000_000, &mut server.queue_size);
        self.count("server.max_connections", raw.max_connections, 1..=1_000_000, &mut server.max_connections);
        self.max_connections_per_client(raw.max_connections_per_client, &mut server);
        self.count(
            "server.max_header_bytes",
            raw.max_header_bytes,
            256..=1_048_576,
            &mut server.max_header_bytes,
        );
        self.count("server.max_headers", raw.max_headers, 1..=10_000, &mut server.max_headers);
        self.timeout("server.header_timeout_secs", raw.header_timeout_secs, &mut server.header_timeout);
        self.timeout(
            "server.keepalive_timeout_secs",
            raw.keepalive_timeout_secs,
            &mut server.keepalive_timeout,
        );
        self.timeout("server.read_timeout_secs", raw.read_timeout_secs, &mut server.read_timeout);
        self.whole("server.min_body_rate", raw.min_body_rate, 0..=1_000_000_000, &mut server.min_body_rate);
        self.whole(
            "server.min_answer_rate",
            raw.min_answer_rate,
            0..=1_000_000_000,
            &mut server.min_answer_rate,
        );
        self.timeout("server.write_timeout_secs", raw.write_timeout_secs, &mut server.write_timeout);
        server.trusted_proxies = self.networks("server.trusted_proxies", raw.trusted_proxies);
        server
    }

    fn max_connections_per_client(&mut self, raw: Option<Spanned<i128>>, server: &mut ServerConfig) {
        const KEY: &str = "server.max_connections_per_client";
        let Some(raw) = raw else { return };
        if server.engine == Engine::TinyHttp {
            let problem = "takes engine = \"native\"; leave it out, or change the engine";
            self.refuse(&raw.span(), KEY, problem.to_owned());
        }
        let most = server.max_connections_per_client.insert(NonZeroUsize::MIN);
        self.count(KEY, Some(raw), 1..=1_000_000, most);
    }

    fn engine(&mut self, word: &Spanned<String>, engine: &mut Engine) {
        const KEY: &str = "server.engine";
        if let Some(found) = self.word(word, KEY, "an engine", &[Engine::Native, Engine::TinyHttp]) {
            if found == Engine::TinyHttp && cfg!(not(feature = "classic")) {
                let problem = "\"tiny_http\" is not part of this build; it takes the cargo feature classic";
                self.refuse(&word.span(), KEY, problem.to_owned());
            }
            *engine = found;
        }
    }

    fn routes(
        &mut self,
        raw: Vec<Spanned<RawRoute>>,
        pools: &[RouteConfig],
        server: &ServerConfig,
    ) -> Vec<RouteConfig> {
        if raw.is_empty() {
            self.missing(None, "routes", "at least one [[routes]] table with prefix and backend_addrs");
        }
        let (mut seen, mut labels) = (HashMap::new(), HashMap::new());
        let mut routes = Vec::new();
        for (n, raw) in raw.into_iter().enumerate() {
            let key = format!("routes[{n}]");
            let span = raw.span();
            let mut raw = raw.into_inner();
            let mut of_pool = PoolKeys::of_route(&mut raw);
            let prefix_span = raw.prefix.as_ref().map_or(span.clone(), Spanned::span);
            let prefix = self.prefix(&key, &span, raw.prefix.as_ref());
            let hosts = raw.hosts.map(|hosts| self.hosts(&key, hosts)).unwrap_or_default();
            let conditions = Conditions {
                headers: raw
                    .match_headers
                    .map(|raw| self.match_headers(&format!("{key}.match_headers"), raw))
                    .unwrap_or_default(),
                methods: raw.methods.map(|list| self.methods(&format!("{key}.methods"), list)),
            };
            let is_new = prefix.as_ref().is_some_and(|prefix| {
                self.refuse_twice(n, &prefix_span, prefix, &hosts, &conditions, &mut seen)
            });
            let deadline_at = raw.deadline_secs.as_ref().map(Spanned::span);
            let of_backends = [
                ("backends", raw.backends.as_ref().map(Spanned::span)),
                ("backend_addrs", of_pool.addrs_at()),
                ("sticky_cookie", raw.sticky_cookie.as_ref().map(Spanned::span)),
                ("health_check", of_pool.at("health_check")),
                ("strip_prefix", raw.strip_prefix.as_ref().map(Spanned::span)),
                ("replace_prefix", raw.replace_prefix.as_ref().map(Spanned::span)),
                ("request_headers", raw.request_headers.as_ref().map(Spanned::span)),
                ("response_headers", raw.response_headers.as_ref().map(Spanned::span)),
                ("intercept_errors", raw.intercept_errors.as_ref().map(Spanned::span)),
                ("compress", raw.compress.as_ref().map(Spanned::span)),
                ("tls", of_pool.at("tls")),
            ];
            // One that was refused for its type was written all the same.
            let is_refused = |name| self.errors.iter().any(|error| error.key() == format!("{key}.{name}"));
            let is_answered = raw.redirect.is_some()
                || raw.respond.is_some()
                || is_refused("redirect")
                || is_refused("respond");
            of_pool.may_be_absent = is_answered;
            let mut route = RouteConfig::new(prefix.unwrap_or_else(Prefix::root), Vec::new(), server);
            match raw.backends {
                Some(names) => self.refer(&key, names, &of_pool, pools, &mut route),
                None => self.pool_keys(&key, &span, of_pool, server.engine, &mut route),
            }
            route.key.hosts = hosts;
            route.key.conditions = conditions;
            let name_span = raw.name.as_ref().map_or(prefix_span, Spanned::span);
            route.name = raw.name.and_then(|name| self.name(&key, name));
            if let Some((first, line)) = labels.get(&route.label()).filter(|_| is_new) {
                let problem = format!(
                    "\"{}\" is what routes[{first}] is called already, on line {line}; expected a different name for \
                     each route",
                    route.label()
                );
                self.refuse(&name_span, &format!("{key}.name"), problem);
            } else if is_new {
                labels.insert(route.label(), (n, self.document.line(name_span.start)));
            }
            if let Some(raw) = raw.sticky_cookie {
                route.sticky_cookie =
                    self.sticky_cookie(&format!("{key}.sticky_cookie"), raw, &route.key.prefix);
            }
            route.rules.access = self.access(&key, raw.allow, raw.deny);
            route.rules.rate_limit =
                raw.rate_limit.and_then(|raw| self.rate_limit(&format!("{key}.rate_limit"), raw));
            let asked = raw
                .forward_auth
                .and_then(|raw| self.forward_auth(&format!("{key}.forward_auth"), raw, server));
            if let Some((rule, service)) = asked {
                route.rules.forward_auth = Some(rule);
                route.auth_service = Some(Box::new(service));
            }
            let asks = raw.basic_auth.is_some();
            route.rules.basic_auth =
                raw.basic_auth.and_then(|raw| self.basic_auth(&format!("{key}.basic_auth"), raw));
            route.rules.rewrite = self.rewrite(&key, &route.key.prefix, raw.strip_prefix, raw.replace_prefix);
            route.rules.request_headers =
                raw.request_headers.map(|raw| self.field_rules(&format!("{key}.request_headers"), raw));
            route.rules.response_headers =
                raw.response_headers.map(|raw| self.field_rules(&format!("{key}.response_headers"), raw));
            route.rules.error_pages =
                raw.error_pages.map(|raw| self.error_pages(&format!("{key}.error_pages"), raw));
            route.rules.intercept =
                raw.intercept_errors.map(|list| self.intercept(&format!("{key}.intercept_errors"), list));
            route.rules.compress =
                raw.compress.and_then(|raw| self.compress(&format!("{key}.compress"), raw));
            if !asks {
                self.refuse_users_of_nobody(&key, &route.rules);
            }
            route.rules.answer = self.answer(&key, raw.redirect, raw.respond, of_backends);
            let key = |name: &str| format!("{key}.{name}");
            self.timeout(&key("connect_timeout_secs"), raw.connect_timeout_secs, &mut route.connect_timeout);
            self.timeout(
                &key("response_timeout_secs"),
                raw.response_timeout_secs,
                &mut route.response_timeout,
            );
            self.timeout(&key("idle_timeout_secs"), raw.idle_timeout_secs, &mut route.idle_timeout);
            if raw.deadline_secs.is_some() {
                let deadline = route.deadline.insert(Duration::MAX);
                self.timeout(&key("deadline_secs"), raw.deadline_secs, deadline);
            }
            if raw.max_body_bytes.is_some() {
                let max = route.max_body_bytes.insert(u64::MAX);
                self.whole(&key("max_body_bytes"), raw.max_body_bytes, 0..=i64::MAX.into(), max);
            }
            self.whole(&key("retries"), raw.retries, 0..=100, &mut route.retries);
            self.count(&key("max_in_flight"), raw.max_in_flight, 1..=1_000_000, &mut route.max_in_flight);
            self.timeout(&key("queue_timeout_secs"), raw.queue_timeout_secs, &mut route.queue_timeout);
            self.seconds(&key("hold_secs"), raw.hold_secs, &GRACE, &mut route.hold);
            route.preserve_host = raw.preserve_host.unwrap_or(route.preserve_host);
            if raw.hsts_secs.is_some() {
                let hsts = route.hsts.insert(0);
                self.whole(&key("hsts_secs"), raw.hsts_secs, 0..=3_153_600_000, hsts);
            }
            if server.engine == Engine::TinyHttp
                && let Some(at) = deadline_at
            {
                let problem = "takes engine = \"native\"; leave it out, or change the engine";
                self.refuse(&at, &key("deadline_secs"), problem.to_owned());
            }
            routes.push(route);
        }
        routes
    }

    /// The hosts of a route.
    fn hosts(&mut self, route: &str, raw: Spanned<Vec<Spanned<String>>>) -> Vec<HostPattern> {
        let key = format!("{route}.hosts");
        self.note(&key, &raw.span());
        if raw.get_ref().is_empty() {
            let problem = "the list is empty; expected at least one host, or no such key for any host";
            self.refuse(&raw.span(), &key, problem.to_owned());
        }
        let mut hosts = Vec::new();
        for text in raw.into_inner() {
            match HostPattern::parse(text.get_ref()) {
                Ok(host) if hosts.contains(&host) => {
                    self.refuse(&text.span(), &key, format!("{:?} is listed twice", text.get_ref()));
                }
                Ok(host) => hosts.push(host),
                Err(error) => self.refuse_text(&text, &key, error),
            }
        }
        hosts
    }

    /// What a route or a pool is called. It stands in log lines and in names of threads.
    pub(super) fn name(&mut self, route: &str, text: Spanned<String>) -> Option<String> {
        let name = text.get_ref();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_word) {
            let problem = "is no name; expected up to 64 letters, digits, \"-\", \"_\", \".\" or \"/\"";
            self.refuse_text(&text, &format!("{route}.name"), problem);
            return None;
        }
        Some(text.into_inner())
    }

    /// No two routes are for the same host and prefix and ask the same of requests: only one of them would ever be found.
    /// Whether this is the first.
    fn refuse_twice(
        &mut self,
        n: usize,
        at: &Range<usize>,
        prefix: &Prefix,
        hosts: &[HostPattern],
        conditions: &Conditions,
        seen: &mut HashMap<(Prefix, Option<HostPattern>), Vec<Seen>>,
    ) -> bool {
        let line = self.document.line(at.start);
        let keys = if hosts.is_empty() { vec![None] } else { hosts.iter().cloned().map(Some).collect() };
        for host in keys {
            let of_host = host.as_ref().map(|host| format!(" for {host}")).unwrap_or_default();
            let before = seen.entry((prefix.clone(), host)).or_default();
            let same =
                before.iter().find_map(|seen| Some((seen, what_both_take(&seen.conditions, conditions)?)));
            if let Some((seen, both)) = same {
                let problem = format!(
                    "\"{prefix}\" is the prefix of routes[{}] already{of_host}, on line {}{both}; expected a different one \
                     for each route, or match_headers or methods that tell them apart",
                    seen.route, seen.line
                );
                self.refuse(at, &format!("routes[{n}].prefix"), problem);
                return false;
            }
            before.push(Seen { route: n, line, conditions: conditions.clone() });
        }
        true
    }

    /// A backend that is the proxy itself: each request would come back.
    fn refuse_circles(&mut self, own: &[ListenConfig], pools: &[String], routes: &[RouteConfig]) {
        let is_reached = |addr: &BackendAddr| {
            let is_https = matches!(addr, BackendAddr::Https { .. });
            own.iter().any(|own| own.addr.is_reached_by(addr) && (own.tls || !is_https))
        };
        for (n, route) in routes.iter().enumerate() {
            if let Some(addr) = route.auth_addr().filter(|addr| is_reached(addr)) {
                let key = format!("routes[{n}].forward_auth.addr");
                let problem = format!(
                    "\"{addr}\" is where the proxy itself listens: requests would go in circles; name the service itself"
                );
                let span = self.places.get(&key).cloned();
                self.refuse(&span.unwrap_or_default(), &key, problem);
            }
        }
        let mut seen = HashSet::new();
        let all = routes.iter().enumerate().flat_map(|(n, route)| route.pools().map(move |pool| (n, pool)));
        for (n, route) in all {
            let key = match &route.pool {
                Some(name) if !seen.insert(name) => continue,
                Some(_) => format!("{}.addrs", pool::place_of(n, route, pools)),
                None => format!("routes[{n}].backend_addrs"),
            };
            for (m, backend) in route.backends.iter().enumerate() {
                if is_reached(&backend.addr) {
                    let problem = format!(
                        "\"{}\" is where the proxy itself listens: requests would go in circles; name another server",
                        backend.addr
                    );
                    let span = self.places.get(&format!("{key}[{m}]")).cloned();
                    self.refuse(&span.unwrap_or_default(), &key, problem);
                }
            }
        }
    }

    fn prefix(&mut self, route: &str, at: &Range<usize>, raw: Option<&Spanned<String>>) -> Option<Prefix> {
        let key = format!("{route}.prefix");
        let Some(text) = raw else {
            self.missing(Some(at), &key, "the path prefix this route serves, for example prefix = \"/\"");
            return None;
        };
        self.note(&key, &text.span());
        Prefix::parse(text.get_ref()).map_err(|error| self.refuse_text(text, &key, error)).ok()
    }

    pub(super) fn backends(
        &mut self,
        key: &str,
        route: &Range<usize>,
        raw: Option<Spanned<Vec<Spanned<RawBackend>>>>,
    ) -> Vec<BackendConfig> {
        let Some(raw) = raw else {
            self.missing(Some(route), key, "at least one backend, for example [\"127.0.0.1:8001\"]");
            return Vec::new();
        };
        let span = raw.span();
        let entries = raw.into_inner();
        if entries.is_empty() {
            let problem =
                "the list is empty; expected at least one backend, for example [\"127.0.0.1:8001\"]";
            self.refuse(&span, key, problem.to_owned());
        }
        let mut seen = HashMap::new();
        let mut backends = Vec::new();
        let mut has_primary = entries.is_empty();
        for (n, entry) in entries.into_iter().enumerate() {
            let span = entry.span();
            let RawBackendTable { addr: text, weight: raw_weight, backup } = match entry.into_inner() {
                RawBackend::Addr(text) => RawBackendTable {
                    addr: Some(Spanned::new(span.clone(), text)),
                    weight: None,
                    backup: None,
                },
                RawBackend::Table(table) => table,
            };
            let backup = backup.unwrap_or(false);
            has_primary |= !backup;
            let mut weight = std::num::NonZeroU32::MIN;
            self.count(&format!("{key}[{n}].weight"), raw_weight, 1..=1_000, &mut weight);
            let Some(text) = text else {
                let expected = "the backend's address, for example addr = \"127.0.0.1:8001\"";
                self.missing(Some(&span), &format!("{key}[{n}].addr"), expected);
                continue;
            };
            match text.get_ref().parse::<BackendAddr>() {
                Err(error) => self.refuse_text(&text, key, error),
                Ok(BackendAddr::Https { .. }) if cfg!(not(feature = "tls")) => {
                    let problem =
                        "asks for https, which is not part of this build; it takes the cargo feature tls";
                    self.refuse_text(&text, key, problem);
                }
                Ok(addr) => {
                    if let Some(line) = seen.get(&addr) {
                        let problem = format!(
                            "{:?} is listed already, on line {line}; for a larger share \
                             write {{ addr = \"{addr}\", weight = 2 }}",
                            text.get_ref()
                        );
                        self.refuse(&text.span(), key, problem);
                    } else {
                        seen.insert(addr.clone(), self.document.line(text.span().start));
                    }
                    self.note(&format!("{key}[{n}]"), &text.span());
                    backends.push(BackendConfig { addr, weight, backup });
                }
            }
        }
        if !has_primary {
            let problem = "all of them are backups; expected at least one without backup = true";
            self.refuse(&span, key, problem.to_owned());
        }
        backends
    }

    pub(super) fn health_check(
        &mut self,
        key: &str,
        raw: Spanned<RawHealthCheck>,
    ) -> Option<HealthCheckConfig> {
        let span = raw.span();
        let raw = raw.into_inner();
        let path_key = format!("{key}.path");
        match &raw.path {
            None => self.missing(
                Some(&span),
                &path_key,
                "what to ask a backend for, for example path = \"/health\"",
            ),
            Some(path) => {
                if let Err(problem) = probe_path(path.get_ref()) {
                    self.refuse_text(path, &path_key, problem);
                }
            }
        }
        let interval_key = format!("{key}.interval_secs");
        if raw.interval_secs.is_none() {
            let expected = "seconds from one probe to the next, for example interval_secs = 10";
            self.missing(Some(&span), &interval_key, expected);
        }
        let mut interval = Duration::MAX;
        self.timeout(&interval_key, raw.interval_secs, &mut interval);
        let mut check = HealthCheckConfig::new(raw.path?.into_inner(), interval);
        self.timeout(&format!("{key}.timeout_secs"), raw.timeout_secs, &mut check.timeout);
        let threshold = 1..=1_000;
        let healthy_key = format!("{key}.healthy_threshold");
        self.count(&healthy_key, raw.healthy_threshold, threshold.clone(), &mut check.healthy_threshold);
        let unhealthy_key = format!("{key}.unhealthy_threshold");
        self.count(&unhealthy_key, raw.unhealthy_threshold, threshold, &mut check.unhealthy_threshold);
        Some(check)
    }
}

/// A route that has a host and a prefix already.
#[derive(Debug)]
struct Seen {
    route: usize,
    line: usize,
    conditions: Conditions,
}

/// Whether two routes for the same host and prefix would take the same requests, so that neither comes before the other but by
/// its place in the file. The answer is the end of a sentence. Different conditions about fields are let be: that a request
/// may fit both is seldom meant, and cannot be told from what is.
fn what_both_take(one: &Conditions, other: &Conditions) -> Option<String> {
    if one.headers != other.headers {
        return None;
    }
    match (one.methods, other.methods) {
        (None, None) => Some(String::new()),
        (Some(one), Some(other)) => one.common(other).map(|method| format!(", which takes {method} as well")),
        _ => None,
    }
}

/// Whether `path` can be sent as the target of a probe. The answer is the end of a sentence.
pub(super) fn probe_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("does not begin with \"/\"; expected a path, for example \"/health\"");
    }
    // The parser of `http` takes a fragment and drops it, and takes bytes above 0x7f.
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !plain || path.parse::<http::uri::PathAndQuery>().is_err() {
        return Err("has characters no request target can have; expected them percent-encoded");
    }
    Ok(())
}
