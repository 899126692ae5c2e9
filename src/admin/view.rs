//! [`View`]: what the admin listener can see of the rest.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::AdminConfig;
use crate::exchange::gateway::Gateway;
use crate::net::shown::ShownCertificate;
use crate::net::tls_server::TlsServer;
use crate::reload::LastReload;
use crate::snapshot::Snapshot;
use crate::workers::watch::Watch;

/// How long a worker may take to say what it carries: it looks around many times a second.
const PATIENCE: Duration = Duration::from_secs(1);

/// What can be seen.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub gateway: Arc<Gateway>,
    /// Empty with the classic engine.
    pub workers: Watch,
    pub last_reload: Arc<LastReload>,
    pub started: SystemTime,
}

/// Whether connections are to be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Told to stop, and `drain_delay_secs` are not over.
    Leaving,
    Draining,
}

impl Phase {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
        }
    }
}

impl View {
    pub(super) fn phase(&self) -> Phase {
        if self.gateway.is_draining() {
            Phase::Draining
        } else if self.gateway.is_leaving() {
            Phase::Leaving
        } else {
            Phase::Serving
        }
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.gateway.snapshot()
    }

    /// Why nothing should be sent here, if so.
    pub(super) fn not_ready(&self) -> Option<&'static str> {
        let phase = self.phase();
        if phase != Phase::Serving {
            return Some(phase.word());
        }
        let snapshot = self.snapshot();
        let needs_backends = rules(&snapshot).is_some_and(|rules| rules.ready_requires_backends);
        // A route that answers itself says nothing about the others.
        let mut asking = snapshot.routes().filter(|route| route.config().rules.answer.is_none()).peekable();
        let has_backends = asking.peek().is_none() || asking.any(|route| route.has_healthy());
        (needs_backends && !has_backends).then_some("no route has a healthy backend")
    }

    /// Certificates that clients are shown.
    pub(super) fn certificates(&self) -> Vec<ShownCertificate> {
        self.snapshot().front.tls.as_ref().map(TlsServer::shown).unwrap_or_default()
    }

    /// Numbers of the workers that do not answer.
    pub(super) fn silent_workers(&self) -> Vec<usize> {
        self.exchanges(0).1
    }

    /// The oldest exchanges, and the numbers of the workers that do not answer.
    pub(super) fn exchanges(&self, most: usize) -> (Vec<crate::exchange::sight::Sight>, Vec<usize>) {
        self.workers.exchanges(most, PATIENCE)
    }
}

/// `[admin]` of the configuration at work.
pub(super) fn rules(snapshot: &Snapshot) -> Option<&AdminConfig> {
    snapshot.admin.as_ref()
}
