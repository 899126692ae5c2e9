//! [`Snapshot`]: what a reload swaps, as a whole. An exchange keeps the one it began under.

use std::sync::Arc;

use crate::config::{IpNetwork, ServerConfig};
use crate::downstream::connection::Limits;
use crate::http::head::HeadLimits;
use crate::route::Route;
use crate::routing::RouteTable;

/// The configuration at work. Never changed.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// 1 is that of the start.
    pub number: u64,
    pub routes: RouteTable<Arc<Route>>,
    pub trusted: Vec<IpNetwork>,
    pub limits: Limits,
}

impl Snapshot {
    /// `routes` under what `server` says.
    pub(crate) fn new(number: u64, server: &ServerConfig, routes: &[Arc<Route>]) -> Self {
        let entry = |route: &Arc<Route>| (route.config().key.clone(), Arc::clone(route));
        Self {
            number,
            routes: RouteTable::new(routes.iter().map(entry).collect()),
            trusted: server.trusted_proxies.clone(),
            limits: limits(server),
        }
    }
}

fn limits(server: &ServerConfig) -> Limits {
    Limits {
        head: head_limits(server),
        header_timeout: server.header_timeout,
        keepalive_timeout: server.keepalive_timeout,
        read_timeout: server.read_timeout,
        write_timeout: server.write_timeout,
        min_body_rate: server.min_body_rate,
        min_answer_rate: server.min_answer_rate,
    }
}

/// How large a request head may be.
pub(crate) fn head_limits(server: &ServerConfig) -> HeadLimits {
    HeadLimits { max_header_bytes: server.max_header_bytes.get(), max_headers: server.max_headers.get() }
}
