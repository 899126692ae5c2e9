//! How many exchanges one backend carries at once, and who waits meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;

use crate::support::engines::on_both_engines;
use crate::support::origin::HEALTH;
use crate::support::wait::Task;
use crate::support::{Client, Echo, Engine, Origin, ScriptedBackend, TestProxy, get, spawn, wait_for};

/// A client whose request is held by one of the origins.
#[track_caller]
fn hold(proxy: &TestProxy, origins: &[&Origin]) -> Client {
    let held = || origins.iter().map(|origin| origin.held()).sum::<usize>();
    let before = held();
    let mut client = Client::connect(proxy.addr());
    client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("a request to be held", || if held() > before { Ok(()) } else { Err(before) });
    client
}

fn a_full_backend_is_skipped(engine: Engine) {
    for algorithm in ["round_robin", "least_connections", "random_two_choices", "consistent_hash"] {
        let (first, second) = (Origin::named("first"), Origin::named("second"));
        let keys = format!("max_in_flight_per_backend = 1\nbalancing_algorithm = {algorithm:?}");
        let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], &keys);
        let mut held = hold(&proxy, &[&first, &second]);
        let free = if first.held() == 1 { "second" } else { "first" };
        for _ in 0..6 {
            let answer = get(proxy.addr(), "/").expect(200);
            assert_eq!(Echo::parse(&answer.body).origin, free, "{algorithm}");
            proxy_settles(&proxy, 1);
        }
        first.release();
        second.release();
        held.response().expect(200);
    }
}

/// The last byte of an answer is out before its exchange is counted off.
#[track_caller]
fn proxy_settles(proxy: &TestProxy, in_flight: usize) {
    wait_for("answered exchanges to be counted off", || {
        match proxy.in_flight().iter().map(|(_, count)| count).sum::<usize>() {
            count if count == in_flight => Ok(()),
            count => Err(count),
        }
    });
}

fn all_full_for_too_long_is_503(engine: Engine) {
    let (first, second) = (Origin::echo(), Origin::echo());
    let keys = "max_in_flight_per_backend = 2\nqueue_timeout_secs = 0.4";
    let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], keys);
    let mut held: Vec<Client> = (0..4).map(|_| hold(&proxy, &[&first, &second])).collect();
    let started = Instant::now();
    let mut client = Client::connect(proxy.addr());
    let refused = client.get("/").expect_failure(503, "backends_busy");
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(390), "it waited only {waited:?}");
    assert!(waited < Duration::from_secs(4), "it waited {waited:?}");
    let retry_after = refused.fields().one("retry-after").expect("Retry-After");
    assert!(retry_after.parse::<u32>().is_ok(), "Retry-After: {retry_after}");
    proxy.expect_counted(Cause::BackendsBusy, 1);
    assert_eq!((first.held(), second.held()), (2, 2), "no backend saw it");
    first.release();
    second.release();
    held.iter_mut().for_each(|client| drop(client.response().expect(200)));
    client.get("/").expect(200);
}

fn who_waits_is_served_when_a_backend_is_free(engine: Engine) {
    let origin = Origin::echo();
    let keys = "max_in_flight_per_backend = 1\nqueue_timeout_secs = 9";
    let proxy = TestProxy::to(engine, &[origin.addr()], keys);
    let mut held = hold(&proxy, &[&origin]);
    let addr = proxy.addr();
    // One by one: tiny_http leaves connections that come at the same moment to one thread.
    let waiting = (2..=6).map(|exchanges| {
        let client = spawn("waiting client", move || get(addr, "/").status());
        wait_for("it to be an exchange", || match proxy.counters().in_flight.load(Ordering::Relaxed) {
            count if count == exchanges => Ok(()),
            count => Err(count),
        });
        client
    });
    let waiting: Vec<Task<u16>> = waiting.collect();
    assert_eq!(origin.requests(), 1, "they wait");
    origin.release();
    held.response().expect(200);
    waiting.into_iter().for_each(|client| assert_eq!(client.join(), 200));
    assert_eq!(proxy.counters().of(Cause::BackendsBusy), 0);
}

/// Whatever the race, no backend sees more at once than it may.
fn the_limit_holds_under_load(engine: Engine) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, peak) = (Arc::clone(&now), Arc::clone(&most));
    let backend = ScriptedBackend::per_request(move |conn, _| {
        peak.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
        count.fetch_sub(1, Ordering::SeqCst);
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let keys = "max_in_flight_per_backend = 3\nqueue_timeout_secs = 9";
    let proxy = TestProxy::to(engine, &[backend.addr()], keys);
    let addr = proxy.addr();
    let clients: Vec<Task<()>> = (0..16)
        .map(|_| {
            spawn("client", move || {
                let mut client = Client::connect(addr);
                (0..20).for_each(|_| drop(client.get("/").expect(200)));
            })
        })
        .collect();
    clients.into_iter().for_each(Task::join);
    assert_eq!(backend.requests(), 320);
    let most = most.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most} at once");
    proxy.expect_idle();
}

/// The full one stays full: it is the other that has come back.
fn who_waits_is_served_when_a_backend_recovers(engine: Engine) {
    let (full, sick) = (Origin::named("full"), Origin::named("sick"));
    let check = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 5 }}");
    let keys = format!("max_in_flight_per_backend = 1\nqueue_timeout_secs = 60\n{check}");
    sick.set_health(500);
    let proxy = TestProxy::to(engine, &[full.addr(), sick.addr()], &keys);
    wait_for("the sick backend to be left", || {
        let seen: Vec<String> =
            (0..4).map(|_| Echo::parse(&get(proxy.addr(), "/").expect(200).body).origin).collect();
        proxy_settles(&proxy, 0);
        if seen.iter().all(|name| name == "full") { Ok(()) } else { Err(seen) }
    });
    let mut held = hold(&proxy, &[&full]);
    let addr = proxy.addr();
    let waiting: Vec<Task<String>> = (2..=3)
        .map(|exchanges| {
            let client =
                spawn("waiting client", move || Echo::parse(&get(addr, "/").expect(200).body).origin);
            wait_for("it to be an exchange", || match proxy.counters().in_flight.load(Ordering::Relaxed) {
                count if count == exchanges => Ok(()),
                count => Err(count),
            });
            client
        })
        .collect();
    assert!(waiting.iter().all(Task::is_running), "they wait");
    sick.set_health(200);
    waiting.into_iter().for_each(|client| assert_eq!(client.join(), "sick"));
    assert_eq!(full.held(), 1);
    full.release();
    held.response().expect(200);
    assert_eq!(proxy.counters().of(Cause::BackendsBusy), 0);
}

on_both_engines!(
    who_waits_is_served_when_a_backend_recovers,
    a_full_backend_is_skipped,
    all_full_for_too_long_is_503,
    who_waits_is_served_when_a_backend_is_free,
    the_limit_holds_under_load,
);
