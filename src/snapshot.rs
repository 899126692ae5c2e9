//! [`Snapshot`]: what a reload swaps, as a whole. An exchange keeps the one it began under.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::access_log::AccessLog;
use crate::config::{AdminConfig, Config, IpNetwork, ServerConfig};
use crate::downstream::connection::Limits;
use crate::front::Front;
use crate::http::head::HeadLimits;
use crate::route::{Pool, Route, pool};
use crate::routing::RouteTable;
use crate::rules::ErrorPages;

/// The configuration at work. Never changed.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// 1 is that of the start.
    pub number: u64,
    pub routes: RouteTable<Arc<Route>>,
    pub trusted: Vec<IpNetwork>,
    /// For answers of ours where the route has none, or there is no route.
    pub error_pages: Option<ErrorPages>,
    pub max_connections_per_client: Option<NonZeroUsize>,
    pub limits: Limits,
    pub front: Front,
    pub access_log: Option<Arc<AccessLog>>,
    pub admin: Option<AdminConfig>,
    _in_use: InUse,
}

/// Counts a snapshot for as long as anybody has it. It guards nothing: `Relaxed`.
#[derive(Debug)]
struct InUse(Arc<AtomicUsize>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Snapshot {
    /// `routes` under what `config` says, counted in `in_use`.
    pub(crate) fn new(
        number: u64,
        config: &Config,
        routes: &[Arc<Route>],
        access_log: Option<Arc<AccessLog>>,
        in_use: &Arc<AtomicUsize>,
    ) -> Self {
        in_use.fetch_add(1, Ordering::Relaxed);
        let entry = |route: &Arc<Route>| (route.config().key.clone(), Arc::clone(route));
        Self {
            number,
            routes: RouteTable::new(routes.iter().map(entry).collect()),
            trusted: config.server.trusted_proxies.clone(),
            error_pages: config.error_pages.clone(),
            max_connections_per_client: config.server.max_connections_per_client,
            limits: limits(&config.server),
            front: Front::default(),
            access_log,
            admin: config.admin.clone(),
            _in_use: InUse(Arc::clone(in_use)),
        }
    }

    /// With what is said to clients before any route is asked.
    pub(crate) fn with_front(mut self, front: Front) -> Self {
        self.limits.handshake_timeout = front.handshake_timeout;
        self.front = front;
        self
    }

    /// Their pools, each once.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        pool::of_routes(self.routes())
    }

    /// All routes, in the order of the file.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter().map(|(_, route)| route)
    }
}

fn limits(server: &ServerConfig) -> Limits {
    Limits {
        head: head_limits(server),
        // Told by the front.
        handshake_timeout: server.header_timeout,
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
