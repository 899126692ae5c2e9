//! Another configuration for a proxy that runs: what has begun goes on, what stays keeps its state, and nothing is lost.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use reverse_proxy::proxy::StartError;
use rustix::process::Signal;

use crate::support::engines::on_both_engines;
use crate::support::process::{TempDir, program};
use crate::support::proxy::Builder;
use crate::support::{
    Client, DeadPort, Echo, Engine, Origin, ProxyProcess, ScriptedBackend, TestProxy, get, send_once,
    wait_for,
};

fn to(engine: Engine, backends: &[String], keys: &str) -> Builder {
    TestProxy::builder(engine).route("/", backends, keys)
}

#[track_caller]
fn expect_origin(proxy: &TestProxy, target: &str, name: &str) {
    assert_eq!(Echo::parse(&get(proxy.addr(), target).expect(200).body).origin, name);
}

fn routes_come_change_and_go(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut proxy = to(engine, &[a.addr()], "").start();
    expect_origin(&proxy, "/api", "a");
    let builder = to(engine, &[a.addr()], "").route("/api", &[b.addr()], "");
    let reloaded = proxy.reload(&builder).unwrap();
    assert_eq!((reloaded.snapshot, &reloaded.added[..]), (2, &["/api".to_owned()][..]));
    assert!(reloaded.changed.is_empty() && reloaded.removed.is_empty());
    expect_origin(&proxy, "/api", "b");
    expect_origin(&proxy, "/", "a");
    let reloaded = proxy.reload(&TestProxy::builder(engine).route("/api", &[a.addr()], "")).unwrap();
    assert_eq!(
        (&reloaded.changed[..], &reloaded.removed[..]),
        (&["/api".to_owned()][..], &["/".to_owned()][..])
    );
    expect_origin(&proxy, "/api", "a");
    get(proxy.addr(), "/").expect_failure(404, "no_route");
    assert_eq!(proxy.counters().reloads.load(Ordering::Relaxed), 2);
    assert_eq!(proxy.last_reload().unwrap().error, None);
    proxy.expect_one_snapshot();
}

fn a_connection_and_its_next_request_see_the_new_configuration(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut proxy = to(engine, &[a.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    assert_eq!(Echo::parse(&client.get("/").expect(200).body).origin, "a");
    proxy.reload(&to(engine, &[b.addr()], "max_body_bytes = 3")).unwrap();
    assert_eq!(Echo::parse(&client.get("/").expect(200).body).origin, "b");
    client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 4\r\n\r\nbody");
    client.response_to("POST").expect_failure(413, "body_too_large");
}

fn what_is_under_way_ends_under_the_configuration_it_began_with(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut proxy = to(engine, &[a.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the request to be held", || if a.held() == 1 { Ok(()) } else { Err(a.held()) });
    proxy.reload(&to(engine, &[b.addr()], "")).unwrap();
    expect_origin(&proxy, "/", "b");
    assert_eq!(proxy.snapshots_in_use(), 2);
    a.release();
    assert_eq!(Echo::parse(&client.response().expect(200).body).origin, "a");
    proxy.expect_one_snapshot();
}

/// The health that probes have found, and connections that are kept, outlive a change of the route.
fn backends_that_stay_keep_their_health_and_connections(engine: Engine) {
    let (good, ill) = (Origin::named("good"), Origin::named("ill"));
    ill.set_health(503);
    let check = "health_check = { path = \"/health\", interval_secs = 60 }";
    let backends = [good.addr(), ill.addr()];
    // Each worker has a connection of its own.
    let mut proxy = to(engine, &backends, check).server("workers = 1").start();
    wait_for("the first probes", || if ill.probes() > 0 && good.probes() > 0 { Ok(()) } else { Err(()) });
    wait_for("the ill one to be out", || {
        let origins: Vec<_> =
            (0..4).map(|_| Echo::parse(&get(proxy.addr(), "/").expect(200).body).origin).collect();
        if origins.iter().all(|origin| origin == "good") { Ok(()) } else { Err(origins) }
    });
    // No probe gets an answer from here on that would say so again.
    ill.set_health(200);
    let (connections, probes) = (good.connections(), ill.probes());
    let unchanged = proxy.reload(&to(engine, &backends, check).server("workers = 1")).unwrap();
    assert!(unchanged.changed.is_empty());
    for _ in 0..4 {
        expect_origin(&proxy, "/", "good");
    }
    assert_eq!(ill.probes(), probes, "nothing about the health check has changed");
    let with = |more: &str| to(engine, &backends, &format!("{check}\n{more}")).server("workers = 1");
    let changed = proxy.reload(&with("retries = 0")).unwrap();
    assert_eq!(changed.changed, ["/"]);
    for _ in 0..4 {
        expect_origin(&proxy, "/", "good");
    }
    assert_eq!(ill.probes(), probes, "nor has it here: what has changed is not about the backends");
    // Now it is.
    let changed = proxy.reload(&with("retries = 0\nmax_fails = 9")).unwrap();
    assert_eq!(changed.changed, ["/"]);
    expect_origin(&proxy, "/", "good");
    if engine == Engine::Native {
        // One for each probe at most: the requests have used the connection that was there.
        assert!(good.connections() <= connections + 1, "{} then {connections}", good.connections());
    }
    wait_for("the new thread to find it well", || {
        let origins: Vec<_> =
            (0..4).map(|_| Echo::parse(&get(proxy.addr(), "/").expect(200).body).origin).collect();
        if origins.iter().any(|origin| origin == "ill") { Ok(()) } else { Err(origins) }
    });
}

/// There are no probes any more that would bring back who is out.
fn without_a_health_check_nobody_stays_out(engine: Engine) {
    let ill = Origin::named("ill");
    ill.set_health(503);
    let check = "health_check = { path = \"/health\", interval_secs = 60 }";
    let mut proxy = to(engine, &[ill.addr()], check).start();
    wait_for("it to be out", || {
        let status = get(proxy.addr(), "/").status();
        if status == 503 { Ok(()) } else { Err(status) }
    });
    let probes = ill.probes();
    proxy.reload(&to(engine, &[ill.addr()], "")).unwrap();
    expect_origin(&proxy, "/", "ill");
    assert_eq!(ill.probes(), probes);
}

/// Those that are idle when the time becomes shorter have the shorter one.
fn idle_clients_have_the_time_that_is_at_work(engine: Engine) {
    let origin = Origin::echo();
    let mut proxy = to(engine, &[origin.addr()], "").server("keepalive_timeout_secs = 60").start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    client.response().expect(200);
    proxy.reload(&to(engine, &[origin.addr()], "").server("keepalive_timeout_secs = 1")).unwrap();
    client.expect_fin();
}

/// Who waits at a listener that goes is served as soon as there is a place.
fn a_listener_that_goes_loses_nobody(engine: Engine) {
    let origin = Origin::echo();
    let before = to(engine, &[origin.addr()], "").server("max_connections = 1");
    let mut proxy = before.listen("[\"127.0.0.1:0\", \"127.0.0.1:0\"]").start();
    let [stays, goes] = proxy.addrs()[..] else { panic!("two listeners") };
    let mut first = Client::connect(goes);
    first.send("GET /first HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    first.response().expect(200);
    let mut second = Client::connect(goes);
    second.send("GET /second HTTP/1.1\r\nHost: proxy.test\r\nConnection: close\r\n\r\n");
    let after = to(engine, &[origin.addr()], "").server("max_connections = 1");
    proxy.reload(&after.listen(&format!("[\"{stays}\"]"))).unwrap();
    drop(first);
    second.response().expect(200);
    wait_for("the port to be closed", || {
        if std::net::TcpStream::connect(goes).is_err() { Ok(()) } else { Err(()) }
    });
}

/// Places that are given back are too few at first, and are waited for all the same.
fn who_waits_beyond_a_smaller_max_connections_is_served(engine: Engine) {
    let origin = Origin::echo();
    let mut proxy = to(engine, &[origin.addr()], "").server("max_connections = 3").start();
    let mut inside: Vec<Client> = (0..3).map(|_| Client::connect(proxy.addr())).collect();
    inside.iter_mut().for_each(|client| drop(client.get("/").expect(200)));
    let mut waiting = Client::connect(proxy.addr());
    waiting.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the door to be shut", || match proxy.counters().accept_paused.load(Ordering::Relaxed) {
        0 => Err(0),
        _ => Ok(()),
    });
    proxy.reload(&to(engine, &[origin.addr()], "").server("max_connections = 1")).unwrap();
    for mut client in inside {
        assert!(!waiting.has_input(), "served beyond max_connections");
        // One after the other: the answer of the proxy says that its place is free.
        client.finish();
        client.expect_fin();
    }
    waiting.response().expect(200);
}

fn a_backend_that_comes_serves_who_waits_for_it(engine: Engine) {
    let dead = DeadPort::reserve();
    let origin = Origin::named("late");
    let mut proxy = to(engine, &[dead.addr()], "hold_secs = 15").start();
    proxy.reload(&to(engine, &[dead.addr(), origin.addr()], "hold_secs = 15")).unwrap();
    expect_origin(&proxy, "/", "late");
}

fn what_cannot_be_applied_whole_changes_nothing(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut proxy = to(engine, &[a.addr()], "").start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("[\"127.0.0.1:0\", \"{}\"]", taken.local_addr().unwrap());
    let refused = proxy.reload(&to(engine, &[b.addr()], "").listen(&listen)).unwrap_err();
    assert!(matches!(refused, StartError::Listen(..)), "{refused}");
    expect_origin(&proxy, "/", "a");
    assert_eq!(proxy.counters().reloads_failed.load(Ordering::Relaxed), 1);
    assert!(proxy.last_reload().unwrap().error.unwrap().contains("cannot listen on"));
    assert_eq!(proxy.snapshots_in_use(), 1);
}

fn listeners_come_and_go(engine: Engine) {
    let origin = Origin::echo();
    let (first, second) = (DeadPort::reserve(), DeadPort::reserve());
    let listen =
        |ports: &[&DeadPort]| format!("{:?}", ports.iter().map(|port| port.addr()).collect::<Vec<_>>());
    let builder = |ports: &[&DeadPort]| to(engine, &[origin.addr()], "").listen(&listen(ports));
    let mut proxy = builder(&[&first]).start();
    let addr = |port: &DeadPort| port.addr().parse().unwrap();
    let mut kept = Client::connect(addr(&first));
    kept.get("/").expect(200);
    proxy.reload(&builder(&[&first, &second])).unwrap();
    wait_for("the new listener", || Client::try_connect(addr(&second)).map(drop));
    get(addr(&second), "/").expect(200);
    proxy.reload(&builder(&[&second])).unwrap();
    wait_for("the old listener to be gone", || match Client::try_connect(addr(&first)) {
        Ok(_) => Err(()),
        Err(_) => Ok(()),
    });
    get(addr(&second), "/").expect(200);
    if engine == Engine::Native {
        kept.get("/").expect(200);
    }
    proxy.reload(&builder(&[&first, &second])).unwrap();
    wait_for("the listener to be back", || Client::try_connect(addr(&first)).map(drop));
    get(addr(&first), "/").expect(200);
}

fn limits_change(engine: Engine) {
    let origin = Origin::echo();
    let with = |line: &str| to(engine, &[origin.addr()], "").server(line);
    let mut proxy = with("max_headers = 50").start();
    let request = format!("GET / HTTP/1.1\r\nHost: proxy.test\r\n{}\r\n", "X: y\r\n".repeat(20));
    send_once(proxy.addr(), &request).expect(200);
    proxy.reload(&with("max_headers = 10")).unwrap();
    send_once(proxy.addr(), &request).expect_failure(431, "head_too_large");
    proxy.reload(&with("max_headers = 30")).unwrap();
    send_once(proxy.addr(), &request).expect(200);
}

fn what_takes_a_restart_is_said(engine: Engine) {
    let origin = Origin::echo();
    let mut proxy = to(engine, &[origin.addr()], "").start();
    let reloaded = proxy.reload(&to(engine, &[origin.addr()], "").server("workers = 3")).unwrap();
    assert_eq!(reloaded.pending, ["server.workers"]);
    get(proxy.addr(), "/").expect(200);
}

/// Ten reloads that change something each, beside requests on kept and on new connections.
fn no_request_is_lost(engine: Engine) {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let check = "health_check = { path = \"/health\", interval_secs = 0.05 }";
    let builder = |round: usize| {
        let backends = [origins[round % 3].addr(), origins[(round + 1) % 3].addr()];
        to(engine, &backends, &format!("{check}\nretries = 0\nhold_secs = {}", round % 2))
    };
    let mut proxy = builder(0).start();
    let addr = proxy.addr();
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..6 {
            let (stop, served) = (&stop, &served);
            let come = move || {
                let mut client = Client::connect(addr);
                while !stop.load(Ordering::Relaxed) {
                    if number % 2 == 0 {
                        client.get("/").expect(200);
                    } else {
                        get(addr, "/").expect(200);
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
            };
            thread::Builder::new().name(format!("client-{number}")).spawn_scoped(scope, come).unwrap();
        }
        for round in 1..=10 {
            let before = served.load(Ordering::Relaxed);
            wait_for("requests", || match served.load(Ordering::Relaxed) {
                now if now > before + 20 => Ok(()),
                now => Err(now),
            });
            proxy.reload(&builder(round)).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    proxy.expect_one_snapshot();
    proxy.expect_idle();
}

#[test]
fn a_tunnel_lives_on() {
    let engine = Engine::Native;
    let echo = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")?;
        loop {
            let bytes = conn.exactly(4)?;
            conn.send(&bytes)?;
        }
    });
    let origin = Origin::echo();
    let mut proxy = to(engine, &[echo.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.any_head("GET").unwrap().unwrap().status, 101);
    let mut wire = client.stream();
    for round in 0..3 {
        proxy.reload(&to(engine, &[origin.addr()], &format!("retries = {round}"))).unwrap();
        wire.write_all(b"ping").unwrap();
        let mut echo = [0; 4];
        wire.read_exact(&mut echo).unwrap();
        assert_eq!(echo, *b"ping");
    }
    get(proxy.addr(), "/").expect(200);
    assert_eq!(proxy.snapshots_in_use(), 2, "the first, and the last");
    drop((client, wire));
    proxy.expect_one_snapshot();
}

on_both_engines!(
    routes_come_change_and_go,
    a_connection_and_its_next_request_see_the_new_configuration,
    what_is_under_way_ends_under_the_configuration_it_began_with,
    backends_that_stay_keep_their_health_and_connections,
    without_a_health_check_nobody_stays_out,
    a_backend_that_comes_serves_who_waits_for_it,
    what_cannot_be_applied_whole_changes_nothing,
    listeners_come_and_go,
    limits_change,
    what_takes_a_restart_is_said,
    no_request_is_lost,
    idle_clients_have_the_time_that_is_at_work,
    a_listener_that_goes_loses_nobody,
    who_waits_beyond_a_smaller_max_connections_is_served,
);

/// Each of them changes the route, its health check and the listeners.
#[test]
fn two_hundred_reloads_leave_nothing_behind() {
    let origins = [Origin::named("a"), Origin::named("b")];
    let directory = TempDir::new();
    let spare = DeadPort::reserve();
    let config = |round: usize| {
        let listen = if round.is_multiple_of(2) {
            "\"127.0.0.1:0\"".to_owned()
        } else {
            format!("[\"127.0.0.1:0\", {:?}]", spare.addr())
        };
        to(
            Engine::Native,
            &[origins[round % 2].addr()],
            &format!("retries = {}\nhealth_check = {{ path = \"/health\", interval_secs = 1 }}", round % 5),
        )
        .listen(&listen)
        .toml()
    };
    let path = directory.file("reverse-proxy.toml", &config(0));
    let mut process = ProxyProcess::spawn(program().arg("--config").arg(&path));
    let addr = process.wait_for_output("its address", |line| {
        let (_, rest) = line.split_once("listening addr=")?;
        rest.split(' ').next()?.parse().ok()
    });
    let reload = |process: &mut ProxyProcess, round: usize| {
        std::fs::write(&path, config(round)).unwrap();
        process.signal(Signal::HUP);
        let told = format!("reloaded snapshot={} ", round + 1);
        process.wait_for_output(&told, |line| line.contains(&told).then_some(()));
        get(addr, "/").expect(200);
    };
    (1..=20).for_each(|round| reload(&mut process, round));
    let (threads, memory, descriptors) = (process.threads(), process.resident_kib(), process.descriptors());
    (21..=200).for_each(|round| reload(&mut process, round));
    wait_for("threads and descriptors to be as many as before", || {
        // Probes come and go.
        let now = (process.threads(), process.descriptors());
        if now.0 <= threads + 1 && now.1 <= descriptors + 3 {
            Ok(())
        } else {
            Err((now, threads, descriptors))
        }
    });
    let grown = process.resident_kib().saturating_sub(memory);
    assert!(grown < 2048, "{grown} KiB more");
    process.signal(Signal::TERM);
    assert!(process.wait().status.success());
}

#[test]
fn a_file_with_errors_changes_nothing_and_all_of_them_are_said() {
    let origin = Origin::echo();
    let directory = TempDir::new();
    let good = to(Engine::Native, &[origin.addr()], "").toml();
    let path = directory.file("reverse-proxy.toml", &good);
    let mut process = ProxyProcess::spawn(program().arg("--config").arg(&path));
    let addr = process.wait_for_output("its address", |line| {
        let (_, rest) = line.split_once("listening addr=")?;
        rest.split(' ').next()?.parse().ok()
    });
    std::fs::write(&path, format!("{good}\nretires = 1\nkeepalive_idle = 2\n")).unwrap();
    process.signal(Signal::HUP);
    for told in ["retires: unknown key", "keepalive_idle: unknown key", "not reloaded: the file has errors"] {
        process.wait_for_output(told, |line| line.contains(told).then_some(()));
    }
    get(addr, "/").expect(200);
    std::fs::write(&path, good).unwrap();
    process.signal(Signal::HUP);
    process.wait_for_output("the reload", |line| line.contains("reloaded snapshot=2").then_some(()));
    process.signal(Signal::TERM);
    assert!(process.wait().status.success());
}

/// The file has become a pipe that nobody writes to. Requests are served, and an order to end is one.
#[test]
fn a_file_that_cannot_be_read_stops_nothing_else() {
    let origin = Origin::echo();
    let directory = TempDir::new();
    let path = directory.file("reverse-proxy.toml", &to(Engine::Native, &[origin.addr()], "").toml());
    let mut process = ProxyProcess::spawn(program().arg("--config").arg(&path));
    let addr = process.wait_for_output("its address", |line| {
        let (_, rest) = line.split_once("listening addr=")?;
        rest.split(' ').next()?.parse().ok()
    });
    std::fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    process.signal(Signal::HUP);
    get(addr, "/").expect(200);
    process.signal(Signal::TERM);
    assert!(process.wait_up_to(Duration::from_secs(8)).status.success());
}
