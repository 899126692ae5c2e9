//! What happened so far, in numbers.

pub mod histogram;
pub mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::Cause;
use tally::{ByCause, Classes};

/// Totals since the start. Each is written by whoever does the counted thing and read by whoever wants to know;
/// nothing else depends on them, so `Relaxed` throughout.
#[derive(Debug, Default)]
pub struct Counters {
    /// Exchanges begun.
    pub exchanges: AtomicU64,
    /// Answers to what belongs to no route.
    pub unrouted: Classes,
    /// Connections of clients that were accepted.
    pub connections: AtomicU64,
    /// Times that new connections had to wait, because `max_connections` were open or the system had no room.
    pub accept_paused: AtomicU64,
    /// Exchanges being carried now.
    pub in_flight: AtomicUsize,
    /// Tries after the first.
    pub retries: AtomicU64,
    /// Exchanges that panicked.
    pub panics: AtomicU64,
    /// Reloads that went well.
    pub reloads: AtomicU64,
    /// Reloads that changed nothing, because something was wrong.
    pub reloads_failed: AtomicU64,
    /// TLS handshakes with clients that were made.
    pub handshakes: AtomicU64,
    /// Those that came to nothing, because of either side or of time; not those of clients that hung up without a word.
    pub handshakes_failed: AtomicU64,
    /// Connections closed for want of a PROXY header, or because of who sent one.
    pub proxy_headers_refused: AtomicU64,
    /// Certificates that were read again because their files had changed.
    pub certificates_renewed: AtomicU64,
    /// Times that changed files were no good, and the certificate before stayed.
    pub certificates_refused: AtomicU64,
    /// Lines of the access log that could not be written in time.
    pub access_log_lost: AtomicU64,
    causes: ByCause,
}

impl Counters {
    /// Counts one exchange that ended for `cause`.
    pub fn count(&self, cause: Cause) {
        self.causes.count(cause);
    }

    /// How many exchanges ended for `cause`. All refused heads count as one kind.
    #[must_use]
    pub fn of(&self, cause: Cause) -> u64 {
        self.causes.of(cause)
    }

    /// How many exchanges ended for each cause.
    pub fn causes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.causes.read()
    }
}

/// Counts an exchange in flight for as long as it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Counters>);

impl InFlight {
    pub(crate) fn enter(counters: &Arc<Counters>) -> Self {
        counters.exchanges.fetch_add(1, Ordering::Relaxed);
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
