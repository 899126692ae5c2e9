//! What a route has of its pool: the keys of a `[[backends]]` table.

use super::RouteConfig;

impl RouteConfig {
    /// Takes from `other` all that is the pool's.
    pub(super) fn take_pool(&mut self, other: &Self) {
        // Whatever is not named here is the route's.
        let Self {
            pool,
            backends,
            algorithm,
            health_check,
            max_in_flight_per_backend,
            max_fails,
            fail_timeout,
            keepalive_connections,
            keepalive_idle,
            resolve_interval,
            tls,
            send_proxy,
            ..
        } = other.clone();
        *self = Self {
            pool,
            backends,
            algorithm,
            health_check,
            max_in_flight_per_backend,
            max_fails,
            fail_timeout,
            keepalive_connections,
            keepalive_idle,
            resolve_interval,
            tls,
            send_proxy,
            ..self.clone()
        };
    }

    /// Whether its pool is as that of `other`.
    pub(crate) fn has_pool_of(&self, other: &Self) -> bool {
        let mut same = self.clone();
        same.take_pool(other);
        same == *self
    }
}
