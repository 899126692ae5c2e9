//! `/metrics`: the counters that are there, in the text format of Prometheus. Labels have values of the configuration alone, so
//! that there are no more series than it has routes, backends and causes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::view::View;
use crate::balance::Backend;
use crate::build_info;
use crate::counters::histogram::{Distribution, Histogram};
use crate::process_info;
use crate::route::{Pool, Route};

pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// All metrics.
///
/// # Errors
/// There is no memory for them.
pub(super) fn text(view: &View) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(view.clone()));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Labels and a value.
type Sample<'a, V> = (Vec<(&'static str, &'a str)>, V);

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn family<'s, V>(
        &mut self,
        (name, help, unit): (&str, &str, Option<Unit>),
        kind: MetricType,
        samples: impl IntoIterator<Item = Sample<'s, V>>,
        write: impl Fn(&mut MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                write(&mut encoder, value)?;
            } else {
                write(&mut encoder.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }

    fn counters<'s>(
        &mut self,
        what: (&str, &str, Option<Unit>),
        samples: impl IntoIterator<Item = Sample<'s, f64>>,
    ) -> fmt::Result {
        self.family(what, MetricType::Counter, samples, |encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters((name, help, None), [(Vec::new(), number(value))])
    }

    fn gauges<'s>(
        &mut self,
        what: (&str, &str, Option<Unit>),
        samples: impl IntoIterator<Item = Sample<'s, f64>>,
    ) -> fmt::Result {
        self.family(what, MetricType::Gauge, samples, |encoder, value| encoder.encode_gauge(&value))
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges((name, help, None), [(Vec::new(), value)])
    }

    fn histograms<'s>(
        &mut self,
        what: (&str, &str, Option<Unit>),
        samples: impl IntoIterator<Item = Sample<'s, Distribution>>,
    ) -> fmt::Result {
        self.family(what, MetricType::Histogram, samples, |encoder, value| {
            // The encoder adds the one without an end.
            let bounded = value.buckets.split_last().map_or(&[][..], |(_, bounded)| bounded);
            encoder.encode_histogram::<NoLabelSet>(value.sum, value.count, bounded, None)
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn number(n: u64) -> f64 {
    n as f64
}

fn count(counter: &AtomicU64) -> f64 {
    number(counter.load(Ordering::Relaxed))
}

fn size(n: usize) -> f64 {
    number(n as u64)
}

impl Collector for View {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let snapshot = self.snapshot();
        let routes: Vec<&Arc<Route>> = snapshot.routes().collect();
        let pools: Vec<PoolOf> = snapshot.pools().iter().map(PoolOf::new).collect();
        self.requests(&mut families, &routes)?;
        backends(&mut families, &pools)?;
        self.connections(&mut families)?;
        self.program(&mut families)?;
        process(&mut families, self.started)
    }
}

impl View {
    fn requests(&self, families: &mut Families<'_>, routes: &[&Arc<Route>]) -> fmt::Result {
        let counters = &self.gateway.counters;
        let mut answers = Vec::new();
        let answer = |route, backend, class, n| {
            (vec![("route", route), ("backend", backend), ("class", class)], number(n))
        };
        for (class, n) in counters.unrouted.read() {
            answers.push(answer("", "", class, n));
        }
        let mut of_shares = Vec::new();
        let own: Vec<_> =
            routes.iter().map(|route| (route, route.pool().metric_label(), route.backends())).collect();
        for (route, pool, backends) in &own {
            for (class, n) in route.tally().unserved.read() {
                answers.push(answer(route.label(), "", class, n));
            }
            let mut shares = route.shares().peekable();
            if shares.peek().is_some() {
                for (pool, _, classes) in shares {
                    let label = pool.metric_label();
                    let counts = classes.read().map(|(class, n)| (label.clone(), class, n));
                    of_shares.extend(counts.map(|(label, class, n)| (route.label(), label, class, n)));
                }
                continue;
            }
            if route.pool().name().is_some() {
                // Its backends answer other routes too: how much each has answered is said once, below.
                for (class, n) in route.tally().served.read() {
                    answers.push(answer(route.label(), pool, class, n));
                }
                continue;
            }
            for backend in backends {
                for (class, n) in backend.answers().read() {
                    answers.push(answer(route.label(), backend.label(), class, n));
                }
            }
        }
        answers.extend(of_shares.iter().map(|(route, pool, class, n)| answer(route, pool, class, *n)));
        let help = "Requests that are over, by the class of the status; none: no answer was sent.";
        families.counters(("reverse_proxy_requests", help, None), answers)?;
        let causes = routes.iter().flat_map(|route| {
            let causes = route.tally().causes();
            causes.map(move |(cause, n)| (vec![("route", route.label()), ("cause", cause)], number(n)))
        });
        let help =
            "Requests that did not go well, by cause; those of no route are in reverse_proxy_failures.";
        families.counters(("reverse_proxy_route_failures", help, None), causes)?;
        let causes = counters.causes().map(|(cause, n)| (vec![("cause", cause)], number(n)));
        families
            .counters(("reverse_proxy_failures", "Requests that did not go well, by cause.", None), causes)?;
        type Bytes = fn(&Route) -> &AtomicU64;
        let of_routes: [(&str, &str, Option<Unit>, Bytes); 3] = [
            ("reverse_proxy_received", "Of request bodies.", Some(Unit::Bytes), |route| {
                &route.tally().received
            }),
            ("reverse_proxy_sent", "Of bodies of answers.", Some(Unit::Bytes), |route| &route.tally().sent),
            ("reverse_proxy_retries", "Tries after the first.", None, |route| &route.tally().retries),
        ];
        for (name, help, unit, of) in of_routes {
            let samples = routes.iter().map(|route| (vec![("route", route.label())], count(of(route))));
            families.counters((name, help, unit), samples)?;
        }
        let dry_run =
            |route: &&&Arc<Route>| route.config().rules.rate_limit.as_ref().is_some_and(|rule| rule.dry_run);
        let would_limit = routes
            .iter()
            .filter(dry_run)
            .map(|route| (vec![("route", route.label())], count(&route.tally().would_limit)));
        let help = "Requests that rate_limit would have refused, were it not a dry_run.";
        families.counters(("reverse_proxy_rate_limit_dry_run", help, None), would_limit)?;
        type Times = fn(&Route) -> &Histogram;
        let times: [(&str, &str, Times); 2] = [
            ("reverse_proxy_first_byte", "From the request to the head of the answer.", |route| {
                &route.tally().first_byte
            }),
            ("reverse_proxy_request_duration", "From the request to the end of the answer.", |route| {
                &route.tally().whole
            }),
        ];
        for (name, help, of) in times {
            let samples = routes.iter().map(|route| (vec![("route", route.label())], of(route).read()));
            families.histograms((name, help, Some(Unit::Seconds)), samples)?;
        }
        let in_flight = routes.iter().map(|route| (vec![("route", route.label())], size(route.in_flight())));
        families.gauges(("reverse_proxy_route_in_flight", "Exchanges of the route now.", None), in_flight)?;
        let queued = routes.iter().map(|route| (vec![("route", route.label())], size(route.waiting())));
        families.gauges(("reverse_proxy_route_queued", "Exchanges that wait for a backend.", None), queued)
    }

    fn connections(&self, families: &mut Families<'_>) -> fmt::Result {
        let counters = &self.gateway.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        families.counter(
            "reverse_proxy_connections",
            "Connections accepted.",
            load(&counters.connections),
        )?;
        let open: usize = self.workers.loads().map(|(_, connections)| connections).sum();
        families.gauge("reverse_proxy_connections_open", "Connections of clients now.", size(open))?;
        let help = "Times that new connections had to wait in the backlog.";
        families.counter("reverse_proxy_accept_paused", help, load(&counters.accept_paused))?;
        families.counter("reverse_proxy_exchanges", "Exchanges begun.", load(&counters.exchanges))?;
        let in_flight = counters.in_flight.load(Ordering::Relaxed);
        families.gauge("reverse_proxy_in_flight", "Exchanges now, tunnels left out.", size(in_flight))?;
        let tunnels = self.gateway.tunnels.taken();
        families.gauge("reverse_proxy_tunnels", "Upgraded connections now.", size(tunnels))
    }

    fn program(&self, families: &mut Families<'_>) -> fmt::Result {
        let numbers: Vec<String> =
            (0..self.workers.loads().count()).map(|number| number.to_string()).collect();
        let workers: Vec<_> = numbers.iter().map(String::as_str).zip(self.workers.loads()).collect();
        let label = |number| vec![("worker", number)];
        let exchanges =
            workers.iter().map(|(number, (load, _))| (label(*number), number_of(load.exchanges())));
        families.counters(
            ("reverse_proxy_worker_exchanges", "Exchanges begun on the worker.", None),
            exchanges,
        )?;
        let busy = workers.iter().map(|(number, (load, _))| (label(*number), load.busy().as_secs_f64()));
        let help = "Time in which the worker did not sleep.";
        families.counters(("reverse_proxy_worker_busy", help, Some(Unit::Seconds)), busy)?;
        let longest =
            workers.iter().map(|(number, (load, _))| (label(*number), load.longest_turn().as_secs_f64()));
        let help = "The longest time in which it looked after nothing new.";
        families.gauges(("reverse_proxy_worker_longest_turn", help, Some(Unit::Seconds)), longest)?;
        let counters = &self.gateway.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let certificates = self.certificates();
        let certificates: Vec<_> =
            certificates.iter().map(|it| (it.cert.display().to_string(), it.valid_until)).collect();
        let until = certificates.iter().map(|(cert, until)| {
            let at = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            (vec![("cert", cert.as_str())], at)
        });
        let help = "Until when a certificate is valid, since unix epoch.";
        let what = ("reverse_proxy_certificate_not_after_timestamp", help, Some(Unit::Seconds));
        families.gauges(what, until)?;
        let help = "TLS handshakes with clients that were made.";
        families.counter("reverse_proxy_tls_handshakes", help, load(&counters.handshakes))?;
        let help = "TLS handshakes with clients that came to nothing.";
        families.counter("reverse_proxy_tls_handshakes_failed", help, load(&counters.handshakes_failed))?;
        let help = "Certificates read again because their files had changed.";
        let renewed = load(&counters.certificates_renewed);
        families.counter("reverse_proxy_certificates_renewed", help, renewed)?;
        let help = "Changed files of certificates that were no good: the certificate before stays.";
        let refused = load(&counters.certificates_refused);
        families.counter("reverse_proxy_certificates_refused", help, refused)?;
        let help = "Connections closed for want of a PROXY header, or because of who sent one.";
        families.counter(
            "reverse_proxy_proxy_headers_refused",
            help,
            load(&counters.proxy_headers_refused),
        )?;
        let help = "Exchanges that panicked: defects of the proxy.";
        families.counter("reverse_proxy_panics", help, load(&counters.panics))?;
        families.counter("reverse_proxy_reloads", "Reloads that went well.", load(&counters.reloads))?;
        let help = "Reloads that changed nothing, because something was wrong.";
        families.counter("reverse_proxy_reloads_failed", help, load(&counters.reloads_failed))?;
        let help = "Lines of the access log that could not be written in time.";
        families.counter("reverse_proxy_access_log_lost", help, load(&counters.access_log_lost))?;
        let help = "Lines of the log that could not be written in time.";
        families.counter("reverse_proxy_log_lost", help, crate::logging::lost())?;
        let help = "The number of the configuration at work; 1 is that of the start.";
        families.gauge("reverse_proxy_snapshot", help, number(self.snapshot().number))?;
        let help = "Configurations that exchanges still run under.";
        families.gauge("reverse_proxy_snapshots_in_use", help, size(self.gateway.snapshots_in_use()))?;
        let help = "Whether new connections are to be sent here.";
        families.gauge("reverse_proxy_ready", help, f64::from(u8::from(self.not_ready().is_none())))?;
        let features = build_info::features().join(" ");
        let labels = vec![
            ("version", build_info::VERSION),
            ("commit", build_info::COMMIT),
            ("features", features.as_str()),
        ];
        families.gauges(("reverse_proxy_build_info", "What is running.", None), [(labels, 1.0)])
    }
}

fn number_of(n: u64) -> f64 {
    number(n)
}

/// A pool and its backends now.
struct PoolOf {
    pool: Arc<Pool>,
    label: String,
    is_named: bool,
    backends: Vec<Arc<Backend>>,
}

impl PoolOf {
    fn new(pool: &Arc<Pool>) -> Self {
        Self {
            pool: Arc::clone(pool),
            label: pool.metric_label(),
            is_named: pool.name().is_some(),
            backends: pool.backends(),
        }
    }
}

fn backends(families: &mut Families<'_>, pools: &[PoolOf]) -> fmt::Result {
    type Value = fn(&Backend) -> f64;
    let each = |value: Value| {
        pools.iter().flat_map(move |pool| {
            let labels = |backend: &'_ Arc<Backend>| (pool.label.as_str(), Arc::clone(backend));
            pool.backends.iter().map(labels).map(move |(pool, backend)| (pool, value(&backend), backend))
        })
    };
    let mut answers = Vec::new();
    for pool in pools.iter().filter(|pool| pool.is_named) {
        for backend in &pool.backends {
            for (class, n) in backend.answers().read() {
                let labels =
                    vec![("route", pool.label.as_str()), ("backend", backend.label()), ("class", class)];
                answers.push((labels, number(n)));
            }
        }
    }
    let help = "Answers of the backends of pools, to requests of all their routes.";
    families.counters(("reverse_proxy_pool_answers", help, None), answers)?;
    let gauges: [(&str, &str, Value); 4] = [
        ("reverse_proxy_backend_up", "Whether exchanges are sent to it.", |backend| {
            f64::from(u8::from(backend.is_up()))
        }),
        ("reverse_proxy_backend_healthy", "Whether its probes are good.", |backend| {
            f64::from(u8::from(backend.is_healthy()))
        }),
        ("reverse_proxy_backend_in_flight", "Exchanges and tunnels on it now.", |backend| {
            size(backend.in_flight())
        }),
        ("reverse_proxy_backend_idle_connections", "Connections to it that are kept.", |backend| {
            size(backend.upstream().idle_connections())
        }),
    ];
    for (name, help, value) in gauges {
        let samples: Vec<_> = each(value).collect();
        let samples = samples
            .iter()
            .map(|(route, value, backend)| (vec![("route", *route), ("backend", backend.label())], *value));
        families.gauges((name, help, None), samples)?;
    }
    when_few(families, pools)?;
    let counters: [(&str, &str, Value); 2] = [
        ("reverse_proxy_backend_flips", "Changes of health that probes have brought.", |backend| {
            number(backend.flips())
        }),
        ("reverse_proxy_backend_ejections", "Times that failures have taken it out.", |backend| {
            number(backend.ejections())
        }),
    ];
    for (name, help, value) in counters {
        let samples: Vec<_> = each(value).collect();
        let samples = samples
            .iter()
            .map(|(route, value, backend)| (vec![("route", *route), ("backend", backend.label())], *value));
        families.counters((name, help, None), samples)?;
    }
    Ok(())
}

/// Of pools alone that have the keys for it.
fn when_few(families: &mut Families<'_>, pools: &[PoolOf]) -> fmt::Result {
    let mut shares = Vec::new();
    for pool in pools.iter().filter(|pool| pool.pool.config().slow_start.is_some()) {
        for backend in &pool.backends {
            let labels = vec![("route", pool.label.as_str()), ("backend", backend.label())];
            shares.push((labels, pool.pool.share(backend)));
        }
    }
    let help = "What it gets of its share: less than 1 while it starts slowly.";
    families.gauges(("reverse_proxy_backend_share", help, None), shares)?;
    type Is = fn(&Pool) -> bool;
    let states: [(&str, &str, Is, Is); 2] = [
        (
            "reverse_proxy_pool_on_backups",
            "Whether no backend is left but backups.",
            |pool| pool.config().backends.iter().any(|backend| backend.backup),
            Pool::is_on_backups,
        ),
        (
            "reverse_proxy_pool_fails_open",
            "Whether fewer than min_healthy backends are healthy, so that all are tried.",
            |pool| pool.config().min_healthy.is_some(),
            Pool::fails_open,
        ),
    ];
    for (name, help, is_meant, is_so) in states {
        let samples = pools
            .iter()
            .filter(|pool| is_meant(&pool.pool))
            .map(|pool| (vec![("route", pool.label.as_str())], f64::from(u8::from(is_so(&pool.pool)))));
        families.gauges((name, help, None), samples)?;
    }
    Ok(())
}

/// What every program tells.
fn process(families: &mut Families<'_>, started: SystemTime) -> fmt::Result {
    let info = process_info::read();
    if let Some(bytes) = info.resident_bytes {
        families.gauges(
            ("process_resident_memory", "Resident memory size in bytes.", Some(Unit::Bytes)),
            [(Vec::new(), number(bytes))],
        )?;
    }
    if let Some(open) = info.open_descriptors {
        families.gauge("process_open_fds", "Number of open file descriptors.", size(open))?;
    }
    if let Some(cpu) = info.cpu {
        let what = ("process_cpu", "Total user and system CPU time spent in seconds.", Some(Unit::Seconds));
        families.counters(what, [(Vec::new(), cpu.as_secs_f64())])?;
    }
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    families.gauges(
        ("process_start_time", "Start time of the process since unix epoch in seconds.", Some(Unit::Seconds)),
        [(Vec::new(), started)],
    )
}
