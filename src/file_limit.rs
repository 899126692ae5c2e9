//! The limit of open files: raised as far as it goes, and shared out between clients and backends, so that those who only
//! wait never take the descriptors that a request needs.

use std::collections::HashMap;

use crate::config::Config;

/// Standard streams, the log, what libraries open for a moment.
const SPARE: usize = 32;

/// What descriptors are needed for, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Clients' connections.
    clients: usize,
    /// Connections that carry an exchange to a backend, and the pipes beside them.
    exchanges: usize,
    /// Connections to backends that are kept idle.
    idle: usize,
    /// Listeners, epolls, probes.
    fixed: usize,
}

impl Needs {
    pub(crate) fn of(config: &Config) -> Self {
        let server = &config.server;
        let clients = server.max_connections.get();
        let carried = server.max_exchanges.get().min(clients);
        let idle = |route: &crate::config::RouteConfig| route.backends.len() * route.kept_connections();
        let probes = |route: &crate::config::RouteConfig| {
            if route.health_check.is_some() { route.backends.len() } else { 0 }
        };
        // Routes that ask the same service share its connections.
        let asking = config.routes.iter();
        let services: HashMap<_, _> =
            asking.filter_map(|route| Some((route.auth_addr()?, route.auth_service.as_ref()?))).collect();
        Self {
            clients,
            exchanges: carried + 2 * crate::net::pipe::MAX_PIPES.min(carried),
            idle: config.of_each_pool().map(|(_, route)| idle(route)).sum::<usize>()
                + services.values().map(|service| idle(service)).sum::<usize>(),
            // An epoll and an eventfd for each worker and for the thread that accepts.
            fixed: SPARE
                + config.listen_addrs.len()
                + 2 * (server.workers.get() + 1)
                + config.of_each_pool().map(|(_, route)| probes(route)).sum::<usize>(),
        }
    }

    fn sum(&self) -> usize {
        self.clients + self.exchanges + self.idle + self.fixed
    }

    /// How many clients may be let in with `limit` descriptors. Each may need one towards a backend: if there are not enough
    /// for all, half of them.
    fn admitted(&self, limit: usize) -> usize {
        if self.sum() <= limit {
            return self.clients;
        }
        (limit.saturating_sub(self.fixed) / 2).clamp(1, self.clients)
    }
}

/// Raises the soft limit of open files to the hard one. How many clients may be let in.
pub(crate) fn share_out(needs: &Needs) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            log::warn!("the limit of open files could not be raised: {error}");
        }
    }
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let admitted = needs.admitted(limit);
    let Needs { clients, exchanges, idle, fixed } = needs;
    let sum = needs.sum();
    log::info!(
        "open files limit={limit} needed_at_most={sum} clients={clients} exchanges={exchanges} idle={idle} \
         other={fixed} clients_let_in={admitted}"
    );
    // Most machines do not allow all that the defaults can need, and few need it.
    if admitted < clients / 2 {
        log::warn!(
            "the limit of {limit} open files is too low for max_connections = {clients}: {admitted} clients are let in \
             at once, so that as many descriptors are left for backends; others wait in the backlog; raise the limit \
             (ulimit -Hn, LimitNOFILE=) to {sum}, or lower max_connections"
        );
    }
    admitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_clients_leave_a_descriptor_for_each_backend_connection() {
        let needs = Needs { clients: 1000, exchanges: 1500, idle: 64, fixed: 40 };
        assert_eq!(needs.admitted(2604), 1000);
        assert_eq!(needs.admitted(2603), 1000, "half of the rest is enough");
        assert_eq!(needs.admitted(1040), 500);
        assert_eq!(needs.admitted(100), 30);
        assert_eq!(needs.admitted(10), 1);
    }
}
