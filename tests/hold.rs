//! `hold_secs`: while a route has no backend, its requests wait for one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;

use crate::support::backend::each_request;
use crate::support::engines::{on_native, on_native_over_tls};
use crate::support::origin::HEALTH;
use crate::support::wait::Task;
use crate::support::{
    Client, DeadPort, Echo, Engine, Origin, ScriptedBackend, TestProxy, get, hash_of, pattern, spawn,
    wait_for,
};

const LATE: Duration = Duration::from_secs(5);

/// An origin that is down for the moment.
fn stopped() -> Origin {
    let mut origin = Origin::echo();
    origin.stop();
    origin
}

/// Waits until the proxy carries so many exchanges.
#[track_caller]
fn expect_exchanges(proxy: &TestProxy, count: usize) {
    wait_for("the requests to be exchanges", || match proxy.counters().in_flight.load(Ordering::Relaxed) {
        seen if seen == count => Ok(()),
        seen => Err(seen),
    });
}

/// A GET, and POSTs of these lengths, each on its way in a thread; the hashes of what a backend got of them.
fn ask(proxy: &TestProxy, lengths: &[usize]) -> Vec<Task<String>> {
    let addr = proxy.addr();
    let echoed = |response: crate::support::Response| Echo::parse(&response.expect(200).body).hash;
    let mut tasks = vec![spawn("GET", move || echoed(get(addr, "/")))];
    tasks.extend(lengths.iter().map(|length| {
        let body = pattern(5, *length);
        spawn("POST", move || {
            let mut client = Client::connect(addr);
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            client.send(&body);
            echoed(client.response_to("POST"))
        })
    }));
    expect_exchanges(proxy, tasks.len());
    tasks
}

/// Time in which a request that is not held would have failed.
fn let_them_fail() {
    std::thread::sleep(Duration::from_millis(500));
}

fn requests_wait_for_the_only_backend(engine: Engine) {
    for keys in ["hold_secs = 60", "hold_secs = 60\nretries = 0", "hold_secs = 60\nmax_fails = 1"] {
        let mut origin = stopped();
        let proxy = TestProxy::to(engine, &[origin.addr()], keys);
        // The last one does not fit into what is collected of a body.
        let lengths = [0, 1000, 200_000];
        let tasks = ask(&proxy, &lengths);
        let_them_fail();
        assert!(tasks.iter().all(Task::is_running), "they wait");
        origin.restart();
        let hashes: Vec<String> = tasks.into_iter().map(Task::join).collect();
        let expected = [0, 0, 1000, 200_000].map(|length| hash_of(&pattern(5, length)));
        assert_eq!(hashes, expected);
        assert_eq!(origin.requests(), 4, "each was sent once");
        proxy.expect_idle();
        assert_eq!(proxy.counters().of(Cause::ConnectRefused), 0);
    }
}

fn requests_wait_for_one_of_several(engine: Engine) {
    let mut origins = [stopped(), stopped()];
    let addrs = [origins[0].addr(), origins[1].addr()];
    let proxy = TestProxy::to(engine, &addrs, "hold_secs = 60\nmax_fails = 1");
    let tasks = ask(&proxy, &[1000]);
    let_them_fail();
    assert!(tasks.iter().all(Task::is_running), "they wait");
    origins[1].restart();
    tasks.into_iter().for_each(|task| drop(task.join()));
    assert_eq!(origins[1].requests(), 2);
}

/// Longer than an answer may take: while it waits, nobody has been asked for one.
fn they_wait_longer_than_for_an_answer(engine: Engine) {
    let mut origin = stopped();
    let keys = "hold_secs = 60\nresponse_timeout_secs = 0.3\nconnect_timeout_secs = 0.3";
    let proxy = TestProxy::to(engine, &[origin.addr()], keys);
    let tasks = ask(&proxy, &[1000]);
    std::thread::sleep(Duration::from_millis(1000));
    assert!(tasks.iter().all(Task::is_running), "they wait");
    origin.restart();
    tasks.into_iter().for_each(|task| drop(task.join()));
    proxy.expect_idle();
}

fn requests_wait_for_one_that_is_unhealthy(engine: Engine) {
    let origin = Origin::echo();
    origin.set_health(500);
    let check = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 5 }}");
    let proxy = TestProxy::builder(engine)
        .route("/", &[origin.addr()], &format!("hold_secs = 60\n{check}"))
        .route("/not", &[origin.addr()], &check)
        .start();
    // Not before the other route has noticed can this one be expected to have.
    wait_for("the backend to be left", || match get(proxy.addr(), "/not").status() {
        503 => Ok(()),
        status => Err(status),
    });
    let probes = origin.probes();
    wait_for("more probes", || if origin.probes() >= probes + 4 { Ok(()) } else { Err(origin.probes()) });
    let before = origin.requests();
    let tasks = ask(&proxy, &[1000]);
    let_them_fail();
    assert!(tasks.iter().all(Task::is_running), "they wait");
    assert_eq!(origin.requests(), before, "it is not asked while it is unhealthy");
    origin.set_health(200);
    tasks.into_iter().for_each(|task| drop(task.join()));
}

fn without_it_they_fail_at_once(engine: Engine) {
    for keys in ["", "hold_secs = 0"] {
        let dead = DeadPort::reserve();
        let proxy = TestProxy::to(engine, &[dead.addr()], keys);
        let started = Instant::now();
        get(proxy.addr(), "/").expect_failure(502, "connect_refused");
        assert!(started.elapsed() < LATE, "it took {:?}", started.elapsed());
        proxy.expect_idle();
    }
}

fn beyond_it_the_failure_comes(engine: Engine) {
    let dead = DeadPort::reserve();
    let sick = Origin::echo();
    sick.set_health(500);
    let check = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 5 }}");
    let proxy = TestProxy::builder(engine)
        .route("/", &[dead.addr()], "hold_secs = 1")
        .route("/sick", &[sick.addr()], &format!("hold_secs = 1\n{check}"))
        .start();
    wait_for("enough probes", || if sick.probes() >= 5 { Ok(()) } else { Err(sick.probes()) });
    for (target, status, cause) in [("/", 502, "connect_refused"), ("/sick", 503, "no_healthy_backend")] {
        let started = Instant::now();
        get(proxy.addr(), target).expect_failure(status, cause);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(900), "{target} failed after {took:?}");
        assert!(took < LATE, "{target} failed after {took:?}");
    }
    proxy.expect_idle();
}

/// Nobody knows what became of it.
fn a_post_that_has_reached_its_backend_is_not_repeated(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        if let Some(request) = conn.request()? {
            conn.body(&request)?;
        }
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "hold_secs = 60");
    let started = Instant::now();
    let mut client = Client::connect(proxy.addr());
    client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 4\r\n\r\nbody");
    client.response_to("POST").expect_failure(502, "backend_closed");
    assert!(started.elapsed() < LATE, "it took {:?}", started.elapsed());
    assert_eq!(backend.requests(), 1);
    proxy.expect_idle();
}

/// A GET may have been carried out any number of times.
fn a_get_that_has_reached_its_backend_is_repeated(engine: Engine) {
    let count = AtomicUsize::new(0);
    let backend = ScriptedBackend::per_connection(move |mut conn| {
        if count.fetch_add(1, Ordering::SeqCst) < 6 {
            return conn.request().map(drop);
        }
        each_request(|conn, _| conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"]))(conn)
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "hold_secs = 60\nretries = 1");
    get(proxy.addr(), "/").expect(200);
    assert_eq!(backend.requests(), 7);
    proxy.expect_idle();
}

fn a_held_client_that_leaves_is_seen(engine: Engine) {
    let dead = DeadPort::reserve();
    let proxy = TestProxy::to(engine, &[dead.addr()], "hold_secs = 60");
    for (number, reset) in [(1, false), (2, true)] {
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        expect_exchanges(&proxy, 1);
        client.leave(reset);
        expect_exchanges(&proxy, 0);
        proxy.expect_counted(Cause::ClientLeft, number);
    }
}

fn the_deadline_ends_it(engine: Engine) {
    let dead = DeadPort::reserve();
    let proxy = TestProxy::to(engine, &[dead.addr()], "hold_secs = 60\ndeadline_secs = 0.7");
    let started = Instant::now();
    get(proxy.addr(), "/").expect_failure(504, "deadline_exceeded");
    assert!(started.elapsed() < LATE, "it took {:?}", started.elapsed());
}

/// Whoever is held takes no worker from others.
fn others_are_served_meanwhile(engine: Engine) {
    let dead = DeadPort::reserve();
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("workers = 1")
        .route("/", &[dead.addr()], "hold_secs = 60\nmax_in_flight = 100")
        .route("/else", &[origin.addr()], "")
        .start();
    let mut held: Vec<Client> = (0..50).map(|_| Client::connect(proxy.addr())).collect();
    for client in &mut held {
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    }
    expect_exchanges(&proxy, 50);
    let started = Instant::now();
    (0..20).for_each(|_| drop(get(proxy.addr(), "/else").expect(200)));
    assert!(started.elapsed() < LATE, "it took {:?}", started.elapsed());
    assert!(held.iter_mut().all(|client| !client.has_input()), "they wait");
}

/// The time in line for a backend that was there, and full, is not taken from it.
fn time_in_line_is_no_time_held(engine: Engine) {
    let mut backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: wire/1\r\n\r\n")?;
        conn.hang()
    });
    let keys = "hold_secs = 1\nmax_in_flight_per_backend = 1\nqueue_timeout_secs = 60";
    let proxy = TestProxy::to(engine, &[backend.addr()], keys);
    let mut tunnel = Client::connect(proxy.addr());
    tunnel.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: wire/1\r\n\r\n");
    assert_eq!(tunnel.any_head("GET").unwrap().expect("an answer").status, 101);
    let addr = proxy.addr();
    let waiting = spawn("waiting client", move || get(addr, "/").status());
    expect_exchanges(&proxy, 1);
    std::thread::sleep(Duration::from_millis(1300));
    assert!(waiting.is_running(), "it waits in line");
    backend.stop();
    drop(tunnel);
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiting.is_running(), "it is held");
    backend.restart(each_request(|conn, _| conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"])));
    assert_eq!(waiting.join(), 200);
}

on_native!(
    time_in_line_is_no_time_held,
    requests_wait_for_the_only_backend,
    requests_wait_for_one_of_several,
    they_wait_longer_than_for_an_answer,
    requests_wait_for_one_that_is_unhealthy,
    without_it_they_fail_at_once,
    beyond_it_the_failure_comes,
    a_post_that_has_reached_its_backend_is_not_repeated,
    a_get_that_has_reached_its_backend_is_repeated,
    a_held_client_that_leaves_is_seen,
    the_deadline_ends_it,
    others_are_served_meanwhile,
);

on_native_over_tls!(
    time_in_line_is_no_time_held,
    requests_wait_for_the_only_backend,
    requests_wait_for_one_of_several,
    they_wait_longer_than_for_an_answer,
    requests_wait_for_one_that_is_unhealthy,
    without_it_they_fail_at_once,
    beyond_it_the_failure_comes,
    a_post_that_has_reached_its_backend_is_not_repeated,
    a_get_that_has_reached_its_backend_is_repeated,
    a_held_client_that_leaves_is_seen,
    the_deadline_ends_it,
    others_are_served_meanwhile,
);
