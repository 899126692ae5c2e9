//! `/status.json`: what the status page shows, for it and for other programs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value};

use super::view::{View, rules};
use crate::balance::Backend;
use crate::balance::backend::{LastProbe, Standing};
use crate::build_info;
use crate::counters::histogram::Distribution;
use crate::counters::tally::Classes;
use crate::exchange::sight::Sight;
use crate::logging::recent::{self, RecentLine};
use crate::net::shown::ShownCertificate;
use crate::process_info;
use crate::route::{Pool, Route};

/// Exchanges that are shown, the oldest.
const EXCHANGES: usize = 200;

#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    commit: &'static str,
    now: u64,
    started: u64,
    phase: &'static str,
    /// Why nothing should be sent here, if so.
    not_ready: Option<&'static str>,
    control: bool,
    snapshot: u64,
    snapshots_in_use: usize,
    last_reload: Option<Reload>,
    memory_bytes: Option<u64>,
    descriptors: Option<usize>,
    threads: Option<u64>,
    connections: usize,
    connections_accepted: u64,
    exchanges_begun: u64,
    in_flight: usize,
    tunnels: usize,
    causes: Map<String, Value>,
    workers: Vec<WorkerStatus>,
    certificates: Vec<CertificateStatus>,
    /// Times that changed files of theirs were no good.
    certificates_refused: u64,
    routes: Vec<RouteStatus>,
    /// The oldest. `null`: this engine does not know them.
    exchanges: Option<Vec<Sight>>,
    /// Numbers of workers that do not answer.
    silent_workers: Vec<usize>,
    /// The latest lines of the log, the newest last.
    log: Vec<RecentLine>,
}

#[derive(Debug, Serialize)]
struct CertificateStatus {
    cert: String,
    names: Vec<String>,
    valid_until: u64,
}

#[derive(Debug, Serialize)]
struct Reload {
    at: u64,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct WorkerStatus {
    connections: usize,
    exchanges_begun: u64,
    busy_ms: u64,
    longest_turn_ms: f64,
}

#[derive(Debug, Serialize)]
struct RouteStatus {
    name: String,
    prefix: String,
    hosts: Vec<String>,
    /// That it shares with others; `null`: it has its backends for itself, or several pools.
    pool: Option<String>,
    /// Of several pools that of the first.
    algorithm: String,
    /// Its pools, if it has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shares: Vec<ShareStatus>,
    /// Too few backends are healthy, and all are tried: see `min_healthy`.
    fails_open: bool,
    /// No backend is left but backups.
    on_backups: bool,
    in_flight: usize,
    queued: usize,
    answers: Map<String, Value>,
    causes: Map<String, Value>,
    retries: u64,
    bytes_received: u64,
    bytes_sent: u64,
    duration: Times,
    backends: Vec<BackendStatus>,
}

/// One of several pools of a route.
#[derive(Debug, Serialize)]
struct ShareStatus {
    pool: String,
    share: u32,
    algorithm: String,
    /// To requests of this route.
    answers: Map<String, Value>,
}

/// A histogram: `counts` has one more, for what took longer than the last of `bounds`.
#[derive(Debug, Serialize)]
struct Times {
    bounds_ms: Vec<f64>,
    counts: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct BackendStatus {
    name: String,
    /// The pool that has it, if its route has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    weight: u32,
    backup: bool,
    state: &'static str,
    /// What it gets of its share; less than 1, while it starts slowly.
    share: f64,
    since_secs: u64,
    last_probe: Option<Probe>,
    in_flight: usize,
    idle_connections: usize,
    answers: Map<String, Value>,
    flips: u64,
    ejections: u64,
}

#[derive(Debug, Serialize)]
struct Probe {
    at: u64,
    good: bool,
    word: String,
}

/// # Errors
/// It can't be written: no case is known.
pub(super) fn json(view: &View) -> serde_json::Result<String> {
    serde_json::to_string(&status(view))
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn counts(counts: impl Iterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    counts
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), Value::from(count)))
        .collect()
}

fn status(view: &View) -> Status {
    let snapshot = view.snapshot();
    let counters = &view.gateway.counters;
    let process = process_info::read();
    let (exchanges, silent_workers) = view.exchanges(EXCHANGES);
    let workers = view.workers.loads().map(|(load, connections)| WorkerStatus {
        connections,
        exchanges_begun: load.exchanges(),
        busy_ms: u64::try_from(load.busy().as_millis()).unwrap_or(u64::MAX),
        longest_turn_ms: load.longest_turn().as_secs_f64() * 1000.0,
    });
    let workers: Vec<_> = workers.collect();
    Status {
        version: build_info::VERSION,
        commit: build_info::COMMIT,
        now: seconds(SystemTime::now()),
        started: seconds(view.started),
        phase: view.phase().word(),
        not_ready: view.not_ready(),
        control: rules(&snapshot).is_some_and(|rules| rules.control),
        snapshot: snapshot.number,
        snapshots_in_use: view.gateway.snapshots_in_use(),
        last_reload: view.last_reload.get().map(|last| Reload { at: seconds(last.at), error: last.error }),
        memory_bytes: process.resident_bytes,
        descriptors: process.open_descriptors,
        threads: process.threads,
        connections: workers.iter().map(|worker| worker.connections).sum(),
        connections_accepted: counters.connections.load(Ordering::Relaxed),
        exchanges_begun: counters.exchanges.load(Ordering::Relaxed),
        in_flight: counters.in_flight.load(Ordering::Relaxed),
        tunnels: view.gateway.tunnels.taken(),
        causes: counts(counters.causes()),
        exchanges: (!workers.is_empty()).then_some(exchanges),
        workers,
        certificates: view.certificates().iter().map(of_certificate).collect(),
        certificates_refused: counters.certificates_refused.load(Ordering::Relaxed),
        routes: snapshot.routes().map(|route| of_route(route)).collect(),
        silent_workers,
        log: recent::lines(),
    }
}

fn of_certificate(certificate: &ShownCertificate) -> CertificateStatus {
    CertificateStatus {
        cert: certificate.cert.display().to_string(),
        names: certificate.names.clone(),
        valid_until: seconds(certificate.valid_until),
    }
}

fn of_route(route: &Route) -> RouteStatus {
    let (config, tally) = (route.config(), route.tally());
    let backends = route.backends();
    let mut answers = counts(tally.unserved.read());
    for (class, count) in tally.served.read().filter(|(_, n)| *n > 0) {
        let sum = answers.entry(class).or_insert_with(|| Value::from(0));
        *sum = Value::from(sum.as_u64().unwrap_or(0) + count);
    }
    RouteStatus {
        name: route.label().to_owned(),
        prefix: config.key.prefix.to_string(),
        hosts: config.key.hosts.iter().map(ToString::to_string).collect(),
        pool: config.pool.clone(),
        algorithm: route.pool().config().algorithm.to_string(),
        shares: route.shares().map(of_share).collect(),
        fails_open: route.pools().iter().any(|pool| pool.fails_open()),
        on_backups: route.pools().iter().any(|pool| pool.is_on_backups()),
        in_flight: route.in_flight(),
        queued: route.waiting(),
        answers,
        causes: counts(tally.causes()),
        retries: tally.retries.load(Ordering::Relaxed),
        bytes_received: tally.received.load(Ordering::Relaxed),
        bytes_sent: tally.sent.load(Ordering::Relaxed),
        duration: times(&tally.whole.read()),
        backends: backends.iter().map(|backend| of_backend(route, backend)).collect(),
    }
}

fn of_share((pool, share, answers): (&Arc<Pool>, u32, &Classes)) -> ShareStatus {
    ShareStatus {
        pool: pool.label().to_owned(),
        share,
        algorithm: pool.config().algorithm.to_string(),
        answers: counts(answers.read()),
    }
}

fn times(of: &Distribution) -> Times {
    let all_but_last = of.buckets.len().saturating_sub(1);
    Times {
        bounds_ms: of.buckets.iter().take(all_but_last).map(|(bound, _)| bound * 1000.0).collect(),
        counts: of.buckets.iter().map(|(_, count)| *count).collect(),
    }
}

/// The word for how a backend is: what keeps exchanges from it, the strongest first.
fn state(backend: &Backend) -> &'static str {
    match backend.standing() {
        Standing::Down => "down",
        Standing::Drain => "drain",
        Standing::Ready if !backend.is_healthy() => "unhealthy",
        Standing::Ready if backend.passive().is_out() => "out",
        Standing::Ready => "up",
    }
}

fn of_backend(route: &Route, backend: &Backend) -> BackendStatus {
    let probe =
        |probe: &LastProbe| Probe { at: seconds(probe.at), good: probe.is_good, word: probe.word.clone() };
    BackendStatus {
        name: backend.label().to_owned(),
        pool: route.share_of(backend).map(str::to_owned),
        weight: backend.config().weight.get(),
        backup: backend.config().backup,
        state: state(backend),
        share: route.pool_of(backend).share(backend),
        since_secs: backend.unchanged_for().as_secs(),
        last_probe: backend.last_probe().as_deref().map(probe),
        in_flight: backend.in_flight(),
        idle_connections: backend.upstream().idle_connections(),
        answers: counts(backend.answers().read()),
        flips: backend.flips(),
        ejections: backend.ejections(),
    }
}
