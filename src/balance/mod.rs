//! Choosing a backend: the [`LoadBalancer`] trait and its algorithms.

pub mod backend;
pub mod guard;
pub mod least_connections;
pub mod round_robin;

use std::fmt::Debug;
use std::sync::Arc;

use crate::config::Algorithm;

pub use backend::Backend;
pub use guard::BackendGuard;

/// Chooses one of a route's backends for one exchange. A new algorithm is a file that implements this trait and a
/// line in [`Algorithm`]; routing and forwarding know nothing else of it.
pub trait LoadBalancer: Debug + Send + Sync {
    /// Picks one of the `backends` for which `eligible` says yes, and counts the exchange on it. `None` when there
    /// is none. `eligible` may change its mind between two calls: backends fall ill and recover meanwhile.
    fn pick(&self, backends: &[Arc<Backend>], eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard>;
}

/// The balancer for `algorithm`.
#[must_use]
pub fn balancer(algorithm: Algorithm) -> Box<dyn LoadBalancer> {
    match algorithm {
        Algorithm::RoundRobin => Box::new(round_robin::RoundRobin::default()),
        Algorithm::LeastConnections => Box::new(least_connections::LeastConnections::default()),
    }
}
