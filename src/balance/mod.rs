//! Choosing a backend: the [`LoadBalancer`] trait and its algorithms.

mod answer_time;
pub mod backend;
pub mod consistent_hash;
pub mod guard;
pub(crate) mod hash;
mod least;
pub mod least_connections;
pub mod least_time;
pub mod line;
mod load;
pub mod passive;
mod random;
pub mod random_two_choices;
pub mod request;
pub mod round_robin;
pub mod slow_start;
pub mod sticky_cookie;
mod turns;
pub mod weighted_round_robin;

use std::fmt::Debug;
use std::sync::Arc;

use crate::config::{Algorithm, RouteConfig};

pub use backend::Backend;
pub use consistent_hash::ConsistentHash;
pub use guard::BackendGuard;
pub use least_connections::LeastConnections;
pub use least_time::LeastTime;
pub use random_two_choices::RandomTwoChoices;
pub use request::PickRequest;
pub use round_robin::RoundRobin;
pub use slow_start::{Ramp, SlowStart};
pub use sticky_cookie::StickyCookie;
pub use weighted_round_robin::WeightedRoundRobin;

/// Chooses one of a route's backends for one exchange. A new algorithm is a file that implements this trait, a line
/// in [`Algorithm`] and one in [`balancer`]; routing and forwarding know nothing else of it.
///
/// A balancer is made with the backends it chooses from, so that it may keep what it needs about each of them.
pub trait LoadBalancer: Debug + Send + Sync {
    /// Picks one of the backends for which `eligible` says yes, and counts the exchange on it. `None` when there is
    /// none. `eligible` may change its mind between two calls: backends fall ill and recover meanwhile.
    ///
    /// While most backends are eligible, a pick should cost the same however many there are: ask the one that is next
    /// or drawn, and others only if it says no.
    fn pick(&self, request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard>;
}

/// The balancer of the pool of `route` over `backends`.
#[must_use]
pub fn balancer(route: &RouteConfig, backends: &[Arc<Backend>]) -> Box<dyn LoadBalancer> {
    let ramp = route.slow_start.map(Ramp::new);
    let balancer: Box<dyn LoadBalancer> = match &route.algorithm {
        Algorithm::RoundRobin => Box::new(RoundRobin::new(backends)),
        Algorithm::LeastConnections => Box::new(LeastConnections::new(backends, ramp)),
        Algorithm::RandomTwoChoices => Box::new(RandomTwoChoices::new(backends, ramp)),
        Algorithm::WeightedRoundRobin => Box::new(WeightedRoundRobin::new(backends)),
        Algorithm::LeastTime => Box::new(LeastTime::new(backends, ramp)),
        Algorithm::ConsistentHash(on) => Box::new(ConsistentHash::new(on.clone(), backends)),
    };
    match ramp {
        None => balancer,
        Some(ramp) => Box::new(SlowStart::new(ramp, balancer)),
    }
}

/// Counting who was picked, for the tests of the algorithms.
#[cfg(test)]
mod test_support {
    use std::cell::Cell;

    use super::*;

    /// Backends on ports 0, 1, 2 …
    pub(super) fn backends(count: u16) -> Vec<Arc<Backend>> {
        (0..count).map(|port| Arc::new(Backend::for_tests(port))).collect()
    }

    /// Backends on ports 0, 1, 2 … with these weights.
    pub(super) fn weighted(weights: &[u32]) -> Vec<Arc<Backend>> {
        let with_weight = |(weight, backend): (&u32, Arc<Backend>)| {
            let weight = std::num::NonZeroU32::new(*weight).unwrap();
            let config = crate::config::BackendConfig { weight, ..backend.config().clone() };
            Arc::new(Backend::new(
                config,
                None,
                crate::upstream::address::Upstream::for_tests(),
                Arc::default(),
            ))
        };
        let count = u16::try_from(weights.len()).unwrap();
        weights.iter().zip(backends(count)).map(with_weight).collect()
    }

    /// Where `picked` stands among `backends`.
    pub(super) fn position(backends: &[Arc<Backend>], picked: &BackendGuard) -> usize {
        backends.iter().position(|backend| Arc::ptr_eq(backend, picked.backend())).unwrap()
    }

    /// All refuse but the one that is asked after `before` others, and nobody else afterwards: that one is picked.
    pub(super) fn assert_picks_who_said_yes(balancer: &dyn LoadBalancer, before: usize) {
        let (asked, said_yes) = (Cell::new(0), Cell::new(None));
        let picked = balancer.pick(&PickRequest::ANYONE, &|backend| {
            let yes = asked.replace(asked.get() + 1) == before;
            if yes {
                said_yes.set(Some(backend.id()));
            }
            yes
        });
        assert_eq!(Some(picked.unwrap().backend().id()), said_yes.get());
    }

    /// Whom `picks` picks among the healthy fell on, each ended before the next.
    pub(super) fn shares(balancer: &dyn LoadBalancer, backends: &[Arc<Backend>], picks: usize) -> Vec<usize> {
        let mut shares = vec![0; backends.len()];
        for _ in 0..picks {
            shares
                [position(backends, &balancer.pick(&PickRequest::ANYONE, &Backend::is_healthy).unwrap())] +=
                1;
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
