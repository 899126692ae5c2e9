//! [`Sight`]: what can be seen of an exchange from outside, at some moment.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Exchange;
use crate::downstream::connection::Connection;

/// More of a target is not shown.
const TARGET: usize = 256;

/// An exchange at some moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Sight {
    /// The number of the worker that has it.
    pub worker: usize,
    pub request_id: String,
    /// Where it is, and for how long.
    pub stage: &'static str,
    #[serde(rename = "stage_ms", serialize_with = "millis")]
    pub in_stage: Duration,
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
    pub client: String,
    pub method: String,
    pub target: String,
    pub route: Option<String>,
    pub backend: Option<String>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

/// As a line of the log.
impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, request_id, stage, client, method, target, .. } = self;
        write!(
            f,
            "worker={worker} id={request_id} stage={stage} stage_ms={} age_ms={} client={client} method={method} \
             target={target:?} route={} backend={} bytes_received={} bytes_sent={}",
            self.in_stage.as_millis(),
            self.age.as_millis(),
            self.route.as_deref().unwrap_or("-"),
            self.backend.as_deref().unwrap_or("-"),
            self.bytes_received,
            self.bytes_sent
        )
    }
}

fn millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl Exchange {
    /// When it began: the oldest are looked at first.
    pub(crate) fn began(&self) -> Instant {
        self.record.started
    }

    /// What can be seen of it.
    pub(crate) fn sight(&self, worker: usize, client: &Connection, now: Instant) -> Sight {
        let (bytes_received, bytes_sent) = self.bytes(client);
        let who = if self.client.is_unspecified() { "unix".to_owned() } else { self.client.to_string() };
        Sight {
            worker,
            request_id: self.record.id.as_str().to_owned(),
            stage: self.record.phase.word(),
            in_stage: self.record.in_phase(now),
            age: now.saturating_duration_since(self.record.started),
            client: who,
            method: self.head.method.as_str().to_owned(),
            // Of visible ASCII alone: whatever else a target could have is refused with its head.
            target: self.head.target.as_str().chars().take(TARGET).collect(),
            route: self.route.as_ref().map(|(route, _)| route.label().to_owned()),
            backend: self.last_backend().map(|backend| backend.label().to_owned()),
            bytes_received,
            bytes_sent,
        }
    }
}
