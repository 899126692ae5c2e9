//! Choosing a backend: the [`LoadBalancer`] trait and its algorithms.

pub mod backend;
pub mod guard;
pub mod least_connections;
pub mod line;
pub mod passive;
pub mod round_robin;
mod turns;

use std::fmt::Debug;
use std::sync::Arc;

use crate::config::Algorithm;

pub use backend::Backend;
pub use guard::BackendGuard;
pub use least_connections::LeastConnections;
pub use round_robin::RoundRobin;

/// Chooses one of a route's backends for one exchange. A new algorithm is a file that implements this trait, a line
/// in [`Algorithm`] and one in [`balancer`]; routing and forwarding know nothing else of it.
///
/// A balancer is made with the backends it chooses from, so that it may keep what it needs about each of them.
pub trait LoadBalancer: Debug + Send + Sync {
    /// Picks one of the backends for which `eligible` says yes, and counts the exchange on it. `None` when there is
    /// none. `eligible` may change its mind between two calls: backends fall ill and recover meanwhile.
    fn pick(&self, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard>;
}

/// The balancer for `algorithm` over `backends`.
#[must_use]
pub fn balancer(algorithm: Algorithm, backends: &[Arc<Backend>]) -> Box<dyn LoadBalancer> {
    match algorithm {
        Algorithm::RoundRobin => Box::new(RoundRobin::new(backends)),
        Algorithm::LeastConnections => Box::new(LeastConnections::new(backends)),
    }
}

/// Counting who was picked, for the tests of the algorithms.
#[cfg(test)]
mod test_support {
    use super::*;

    /// Backends on ports 0, 1, 2 …
    pub(super) fn backends(count: u16) -> Vec<Arc<Backend>> {
        (0..count).map(|port| Arc::new(Backend::for_tests(port))).collect()
    }

    /// Where `picked` stands among `backends`.
    pub(super) fn position(backends: &[Arc<Backend>], picked: &BackendGuard) -> usize {
        backends.iter().position(|backend| Arc::ptr_eq(backend, picked.backend())).unwrap()
    }

    /// Whom `picks` picks among the healthy fell on, each ended before the next.
    pub(super) fn shares(balancer: &dyn LoadBalancer, backends: &[Arc<Backend>], picks: usize) -> Vec<usize> {
        let mut shares = vec![0; backends.len()];
        for _ in 0..picks {
            shares[position(backends, &balancer.pick(&Backend::is_healthy).unwrap())] += 1;
        }
        shares
    }

    /// The same from eight threads at once, `picks` picks each.
    pub(super) fn shares_of_threads(
        balancer: &dyn LoadBalancer,
        backends: &[Arc<Backend>],
        picks: usize,
    ) -> Vec<usize> {
        let mut shares = vec![0; backends.len()];
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| self::shares(balancer, backends, picks))).collect();
            for thread in threads {
                for (total, share) in shares.iter_mut().zip(thread.join().unwrap()) {
                    *total += share;
                }
            }
        });
        shares
    }
}
