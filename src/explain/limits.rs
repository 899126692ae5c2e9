//! Each limit and time-out that applies to a request, and where it is from: a key of the route, a key of `[server]`, or the
//! default.

use std::time::Duration;

use serde::Serialize;

use crate::config::{Config, Engine, RouteConfig, Written};
use crate::http::head::RequestHead;
use crate::upstream::names::is_name;

/// A limit or a time-out.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Setting {
    /// The name of its key.
    pub(super) name: &'static str,
    /// Of which pool, where the route has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    /// `None`: there is none.
    value: Option<Value>,
    unit: &'static str,
    #[serde(flatten)]
    pub(super) source: Source,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
enum Value {
    Whole(u64),
    Seconds(f64),
}

/// Where it is from.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub(super) enum Source {
    Written {
        key: String,
        line: usize,
    },
    Default {
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'static str>,
    },
}

impl Setting {
    /// The name of its key, and whose it is.
    pub(super) fn title(&self) -> String {
        self.pool.as_ref().map_or_else(|| self.name.to_owned(), |pool| format!("{} of {pool}", self.name))
    }

    /// The value with its unit.
    pub(super) fn shown(&self) -> String {
        match self.value {
            None => "none".to_owned(),
            Some(Value::Whole(number)) if self.unit.is_empty() => number.to_string(),
            Some(Value::Whole(number)) => format!("{number} {}", self.unit),
            Some(Value::Seconds(seconds)) => format!("{seconds} s"),
        }
    }
}

/// Collects settings of one table.
struct Table<'a> {
    written: &'a Written,
    /// The path of a key.
    path: Box<dyn Fn(&str) -> String + 'a>,
    /// See [`Setting`].
    pool: Option<&'a str>,
    settings: Vec<Setting>,
}

impl Table<'_> {
    fn add(
        &mut self,
        name: &'static str,
        value: Option<Value>,
        unit: &'static str,
        note: Option<&'static str>,
    ) {
        let key = (self.path)(name);
        let source = match self.written.line(&key) {
            Some(line) => Source::Written { key, line },
            None => Source::Default { note },
        };
        self.settings.push(Setting { name, pool: self.pool.map(str::to_owned), value, unit, source });
    }

    fn whole(&mut self, name: &'static str, value: impl TryInto<u64>, unit: &'static str) {
        self.add(name, value.try_into().ok().map(Value::Whole), unit, None);
    }

    /// A number of which 0 means that there is no limit.
    fn rate(&mut self, name: &'static str, value: u64) {
        self.add(name, (value > 0).then_some(Value::Whole(value)), "bytes per second", None);
    }

    fn time(&mut self, name: &'static str, value: impl Into<Option<Duration>>) {
        let value: Option<Duration> = value.into();
        self.add(name, value.map(|time| Value::Seconds(time.as_secs_f64())), "seconds", None);
    }
}

/// Those that apply, first those of the front door. `head`: absent, if it was not understood: then only those apply that are
/// about heads.
pub(super) fn that_apply(
    config: &Config,
    head: Option<&RequestHead>,
    route: Option<(usize, &RouteConfig)>,
) -> Vec<Setting> {
    let mut settings = of_server(config, head, route.map(|(_, route)| route));
    if let (Some(head), Some((n, route))) = (head, route) {
        settings.append(&mut of_route(config, head, n, route));
    }
    settings
}

fn of_server(config: &Config, head: Option<&RequestHead>, route: Option<&RouteConfig>) -> Vec<Setting> {
    let server = &config.server;
    let mut table = Table {
        written: &config.written,
        path: Box::new(|name| format!("server.{name}")),
        pool: None,
        settings: Vec::new(),
    };
    table.whole("max_header_bytes", server.max_header_bytes.get() as u64, "bytes");
    table.whole("max_headers", server.max_headers.get() as u64, "fields");
    table.time("header_timeout_secs", server.header_timeout);
    if let Some(head) = head {
        table.time("keepalive_timeout_secs", server.keepalive_timeout);
        table.whole("max_connections", server.max_connections.get() as u64, "connections");
        if let Some(max) = server.max_connections_per_client {
            table.whole("max_connections_per_client", max.get() as u64, "connections");
        }
        if route.is_some() {
            table.whole("max_exchanges", server.max_exchanges.get() as u64, "exchanges");
            table.whole("queue_size", server.queue_size.get() as u64, "requests");
        }
        if head.upgrade {
            table.whole("max_tunnels", server.max_tunnels as u64, "tunnels");
        }
        if head.framing.has_body() {
            table.time("read_timeout_secs", server.read_timeout);
            table.rate("min_body_rate", server.min_body_rate);
        }
        if route.is_some_and(|route| route.rules.compress.is_some()) {
            table.whole("max_compressing", server.max_compressing as u64, "answers");
        }
        table.time("write_timeout_secs", server.write_timeout);
        table.rate("min_answer_rate", server.min_answer_rate);
    }
    table.settings.retain(|setting| !server.engine.keys_without_use().contains(&setting.name));
    table.settings
}

fn of_route(config: &Config, head: &RequestHead, n: usize, route: &RouteConfig) -> Vec<Setting> {
    let mut table = Table {
        written: &config.written,
        path: Box::new(move |name| config.route_key(n, route, name)),
        pool: None,
        settings: Vec::new(),
    };
    if head.framing.has_body() {
        table.add("max_body_bytes", route.max_body_bytes.map(Value::Whole), "bytes", None);
    }
    let note = match config.server.engine {
        Engine::Native => "three quarters of max_exchanges",
        Engine::TinyHttp => "three quarters of workers",
    };
    let most = Value::Whole(route.max_in_flight.get() as u64);
    table.add("max_in_flight", Some(most), "exchanges", Some(note));
    for pool in route.pools() {
        table.turn_to(config, n, route, pool);
        let per_backend = pool.max_in_flight_per_backend.map(|max| Value::Whole(max.get() as u64));
        table.add("max_in_flight_per_backend", per_backend, "exchanges", None);
    }
    table.pool = None;
    if route.pools().any(|pool| pool.max_in_flight_per_backend.is_some()) {
        table.time("queue_timeout_secs", route.queue_timeout);
    }
    table.time("hold_secs", route.hold);
    table.time("connect_timeout_secs", route.connect_timeout);
    table.time("response_timeout_secs", route.response_timeout);
    table.time("idle_timeout_secs", route.idle_timeout);
    table.time("deadline_secs", route.deadline);
    table.whole("retries", route.retries, "");
    for pool in route.pools() {
        table.turn_to(config, n, route, pool);
        table.of_pool(pool);
    }
    table.settings
}

impl<'a> Table<'a> {
    /// What follows is about this pool of the route.
    fn turn_to(&mut self, config: &'a Config, n: usize, route: &'a RouteConfig, pool: &'a RouteConfig) {
        self.path = Box::new(move |name| config.route_key(n, pool, name));
        self.pool = if route.shares.is_empty() { None } else { pool.pool.as_deref() };
    }

    fn of_pool(&mut self, pool: &RouteConfig) {
        self.whole("max_fails", pool.max_fails, "");
        if pool.max_fails > 0 {
            self.time("fail_timeout_secs", pool.fail_timeout);
        }
        // With send_proxy none are kept.
        if !pool.send_proxy {
            self.whole("keepalive_connections", pool.keepalive_connections as u64, "connections");
            if pool.keepalive_connections > 0 {
                self.time("keepalive_idle_secs", pool.keepalive_idle);
            }
        }
        if pool.backends.iter().any(|backend| is_name(&backend.addr)) {
            self.time("resolve_secs", pool.resolve_interval);
        }
    }
}
