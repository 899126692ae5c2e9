//! [`Backend`]: the address of one server, whether it is healthy, and how busy it is.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::hash::hash;
use crate::config::BackendConfig;
use crate::upstream::agent::Upstream;

/// One server behind a route. Asking for its health or load takes no lock.
#[derive(Debug)]
pub struct Backend {
    config: BackendConfig,
    id: u64,
    upstream: Upstream,
    /// Written by the health thread of the route, read by the balancers. A hint: nothing else depends on it, so
    /// `Relaxed`.
    healthy: AtomicBool,
    /// Written by [`BackendGuard`](super::BackendGuard) alone. A statistic that steers balancing: `Relaxed`.
    in_flight: AtomicUsize,
    /// The last exchange failed because of it. Written after each exchange, read to log changes alone: `Relaxed`.
    failing: AtomicBool,
}

impl Backend {
    /// A backend that is taken for healthy until a probe says otherwise.
    #[must_use]
    pub fn new(config: BackendConfig, upstream: Upstream) -> Self {
        Self {
            id: hash(config.addr.to_string().as_bytes()),
            config,
            upstream,
            healthy: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
        }
    }

    /// Its entry in the configuration; `addr` names it in logs.
    #[must_use]
    pub fn config(&self) -> &BackendConfig {
        &self.config
    }

    /// What stands for its address in sticky cookies and on the ring of consistent hashing. The same after a restart, in
    /// other proxies, and wherever its entry stands.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client that speaks to it.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Whether exchanges may be sent to it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Sets the health and returns what it was.
    pub fn set_healthy(&self, healthy: bool) -> bool {
        self.healthy.swap(healthy, Ordering::Relaxed)
    }

    /// Exchanges it is carrying now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Notes that an exchange failed because of it; whether that is new.
    pub(crate) fn failed(&self) -> bool {
        !self.failing.swap(true, Ordering::Relaxed)
    }

    /// Notes that it carried an exchange to its end; whether it had failed before.
    pub(crate) fn answered(&self) -> bool {
        self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed)
    }

    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A backend at a made-up address that nobody connects to.
    #[cfg(test)]
    pub(crate) fn for_tests(port: u16) -> Self {
        use crate::config::BackendAddr;
        let addr = BackendAddr::Tcp { host: "127.0.0.1".into(), port };
        let config = BackendConfig { addr, weight: std::num::NonZeroU32::MIN };
        Self::new(config, Upstream::for_tests())
    }
}
