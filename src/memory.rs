//! How much memory the limits of the configuration can add up to: said at the start, so that nobody has to find out.

use crate::config::{Config, RouteConfig};
use crate::downstream::body::COLLECT;
use crate::exchange::context::{BUFFERS, READ};
use crate::http::gzip::Gzip;
use crate::http::response_head::MAX_HEAD;
use crate::rules::ErrorPages;

/// What the log may have waiting.
const LOG: usize = 4 << 20;
/// Program, stacks, routes.
const FIXED: usize = 8 << 20;
/// What a connection is made of beside its buffers, and what the allocator adds.
const CONNECTION: usize = 2 * 1024;
/// What TLS adds to a connection: its state, a record that has not come whole, one that has and was not read, and one that
/// was not sent.
const TLS: usize = 8 * 1024 + 3 * 17 * 1024;
/// What an exchange is made of beside its buffers: its state, and its head taken apart.
const EXCHANGE: usize = 8 * 1024;

/// Bytes that are held at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Clients' connections, each with a head that has not come whole.
    connections: usize,
    /// Exchanges, each with all that one can hold on both sides.
    exchanges: usize,
    /// Answers that are being compressed.
    compressing: usize,
    /// The rest.
    fixed: usize,
}

impl Memory {
    pub(crate) fn of(config: &Config) -> Self {
        let server = &config.server;
        let head = server.max_header_bytes.get();
        let clients = server.max_connections.get();
        let tls = if config.listen_addrs.iter().any(|listen| listen.tls) { TLS } else { 0 };
        let carried = server.max_exchanges.get().min(clients);
        // The request as it was collected, and once more where the backend takes none of it; the answer's head and one read
        // beyond it, or what the client does not take of both.
        let exchange = EXCHANGE + 2 * (head + COLLECT) + 2 * (MAX_HEAD + READ);
        // What the service of `forward_auth` has said stays with the request, and goes to the backend too.
        let copies = |route: &RouteConfig| {
            route.rules.forward_auth.as_ref().is_some_and(|rule| !rule.copy_headers.is_empty())
        };
        let exchange = exchange + if config.routes.iter().any(copies) { 2 * MAX_HEAD } else { 0 };
        let pages = config.error_pages.as_ref().map_or(0, ErrorPages::memory);
        let rules: usize = pages + config.routes.iter().map(|route| route.rules.memory()).sum::<usize>();
        let compresses = config.routes.iter().any(|route| route.rules.compress.is_some());
        let compressing = if compresses { server.max_compressing.min(carried) } else { 0 };
        Self {
            connections: clients.saturating_mul(CONNECTION + tls + head + READ),
            exchanges: carried.saturating_mul(exchange),
            compressing: compressing.saturating_mul(Gzip::MEMORY),
            fixed: FIXED + LOG + rules + server.workers.get().saturating_mul(BUFFERS),
        }
    }

    fn sum(self) -> usize {
        [self.connections, self.exchanges, self.compressing, self.fixed]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    pub(crate) fn log(self) {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        log::info!(
            "memory at_most_mib={} connections_mib={} exchanges_mib={} compressing_mib={} other_mib={} (if all clients send and take as \
             little as they can; lower max_connections, max_exchanges, max_header_bytes or max_compressing to bound it further)",
            mib(self.sum()),
            mib(self.connections),
            mib(self.exchanges),
            mib(self.compressing),
            mib(self.fixed)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_from_another_answer_is_held_too() {
        let of = |more: &str| {
            let route = format!("prefix = \"/\"\nbackend_addrs = [\"127.0.0.1:1\"]\n{more}");
            let text =
                format!("listen_addr = \"127.0.0.1:0\"\n[server]\nmax_exchanges = 10\n[[routes]]\n{route}");
            Memory::of(&Config::parse(&text, "f.toml").unwrap())
        };
        let asks = |more: &str| format!("forward_auth = {{ addr = \"127.0.0.1:2\", path = \"/\"{more} }}");
        let (none, asks_only) = (of(""), of(&asks("")));
        assert_eq!(none, asks_only);
        let copies = of(&asks(", copy_headers = [\"Remote-User\"]"));
        assert_eq!(copies, Memory { exchanges: none.exchanges + 10 * 2 * MAX_HEAD, ..none });
    }
}
