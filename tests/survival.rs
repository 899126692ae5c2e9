//! What would stop others from accepting for ever is survived, and said once.

use std::time::Duration;

use reverse_proxy::error::Cause;

use crate::support::engines::on_native;
use crate::support::origin::HEALTH;
use crate::support::process::program_after;
use crate::support::{Client, Engine, Origin, PATIENCE, ProxyProcess, Task, TestProxy, get, wait_for};

const CANNOT: &str = "cannot accept connections";

/// However many do nothing, those who were let in are served.
fn idle_clients_leave_descriptors_for_backends(engine: Engine) {
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).route("/", &[origin.addr()], "");
    let (mut process, addr) = ProxyProcess::start_with(&config.toml(), program_after("ulimit -n 100"));
    let warning = process.wait_for_output("a warning at the start", |line| {
        line.contains("max_connections").then(|| line.to_owned())
    });
    assert!(warning.contains("WARN") && warning.contains("100 open files"), "{warning}");
    let mut clients: Vec<Client> = (0..150).map(|_| Client::connect(addr)).collect();
    // Each is answered in its turn: who is let in later waits for one before it to leave.
    for mut client in clients.drain(..) {
        client.get("/").expect(200);
    }
}

fn no_descriptors_left(engine: Engine) {
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).route("/", &[origin.addr()], "");
    let (process, addr) = ProxyProcess::start_with(&config.toml(), program_after("ulimit -n 1000"));
    let mut kept = Client::connect(addr);
    kept.get("/before").expect(200);
    // No descriptor becomes free by itself: whoever has come stays.
    let mut others = Vec::new();
    for episode in 1..=2 {
        process.limit_descriptors(0);
        let mut waiting = Client::connect(addr);
        waiting.send("GET /waiting HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        wait_for("the failure to be logged", || match process.output().matches(CANNOT).count() {
            count if count == episode => Ok(()),
            count => Err(count),
        });
        // Who was let in is served, and goes on being served.
        for _ in 0..20 {
            kept.get("/meanwhile").expect(200);
        }
        // Several attempts later.
        waiting.set_patience(Duration::from_millis(350));
        assert!(waiting.any_head("GET").is_err(), "accepted without a descriptor");
        process.unlimit_descriptors();
        waiting.set_patience(PATIENCE);
        waiting.response().expect(200);
        others.push(waiting);
        wait_for("the recovery to be logged", || {
            match process.output().matches("accepting connections again").count() {
                count if count == episode => Ok(()),
                count => Err(count),
            }
        });
        assert_eq!(process.output().matches(CANNOT).count(), episode, "said once per episode");
    }
    kept.get("/still").expect(200);
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().status.code(), Some(0));
}

/// Whose fault it is, when there is none left for a connection to a backend.
fn no_descriptor_for_a_backend_is_not_held_against_it(engine: Engine) {
    let (first, second) = (Origin::named("first"), Origin::named("second"));
    let keys = "max_fails = 1\nfail_timeout_secs = 600\nkeepalive_connections = 0";
    let config = TestProxy::builder(engine).route("/", &[first.addr(), second.addr()], keys);
    let (process, addr) = ProxyProcess::start_with(&config.toml(), program_after("ulimit -n 1000"));
    let mut kept = Client::connect(addr);
    kept.get("/").expect(200);
    // The connection of the request before may still be open.
    wait_for("the last descriptor to be gone", || {
        process.limit_descriptors(0);
        match kept.get("/").status() {
            502 => Ok(()),
            status => Err(status),
        }
    });
    for _ in 0..6 {
        kept.get("/").expect_failure(502, "connect_failed");
    }
    process.unlimit_descriptors();
    get(addr, "/after").expect(200);
    let before = (first.requests(), second.requests());
    for _ in 0..10 {
        get(addr, "/").expect(200);
    }
    assert_eq!((first.requests() - before.0, second.requests() - before.1), (5, 5), "{}", process.output());
    assert!(!process.output().contains("taken out"), "{}", process.output());
}

/// One that lies idle is given up for one that is needed now.
fn an_idle_connection_is_given_up_for_another_backend(engine: Engine) {
    let (first, second) = (Origin::named("first"), Origin::named("second"));
    let config = TestProxy::builder(engine).server("workers = 1").route("/first", &[first.addr()], "").route(
        "/second",
        &[second.addr()],
        "",
    );
    let (process, addr) = ProxyProcess::start_with(&config.toml(), program_after("ulimit -n 1000"));
    let mut client = Client::connect(addr);
    client.get("/first").expect(200);
    process.limit_descriptors(0);
    for _ in 0..3 {
        client.get("/second").expect(200);
        client.get("/first").expect(200);
    }
}

/// Nor must a want of descriptors make the backends look unhealthy to the probes.
fn no_descriptor_for_a_probe_is_not_held_against_the_backend(engine: Engine) {
    let origin = Origin::echo();
    let keys = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.05 }}");
    let config = TestProxy::builder(engine).route("/", &[origin.addr()], &keys);
    let mut command = program_after("ulimit -n 1000");
    command.env("RUST_LOG", "reverse_proxy=debug");
    let (process, addr) = ProxyProcess::start_with(&config.toml(), command);
    let mut kept = Client::connect(addr);
    kept.get("/").expect(200);
    wait_for("a probe that cannot be made", || {
        // That of a probe under way becomes free again.
        process.limit_descriptors(0);
        if process.output().contains("not probed") { Ok(()) } else { Err(process.output()) }
    });
    for _ in 0..30 {
        kept.get("/").expect(200);
    }
    assert!(!process.output().contains("unhealthy"), "{}", process.output());
    let before = origin.probes();
    process.unlimit_descriptors();
    wait_for("the probes to go on", || if origin.probes() > before { Ok(()) } else { Err(()) });
}

fn a_soft_limit_is_raised(engine: Engine) {
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).server("max_connections = 50\nmax_exchanges = 50").route(
        "/",
        &[origin.addr()],
        "",
    );
    let before = "ulimit -n 2000; ulimit -S -n 30";
    let (process, addr) = ProxyProcess::start_with(&config.toml(), program_after(before));
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(addr)).collect();
    for client in &mut clients {
        client.get("/").expect(200);
    }
    assert!(!process.output().contains("WARN"), "{}", process.output());
}

fn beyond_max_connections_clients_wait(engine: Engine) {
    let origin = Origin::echo();
    let proxy =
        TestProxy::builder(engine).server("max_connections = 3").route("/", &[origin.addr()], "").start();
    let mut inside: Vec<Client> = (0..3).map(|_| Client::connect(proxy.addr())).collect();
    inside.iter_mut().for_each(|client| drop(client.get("/").expect(200)));
    let mut outside: Vec<Client> = (0..3).map(|_| Client::connect(proxy.addr())).collect();
    outside.iter_mut().for_each(|client| client.send("GET /waiting HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
    // Those inside are served as before, and nobody else.
    for client in &mut inside {
        client.get("/").expect(200);
    }
    assert!(!outside.iter_mut().any(Client::has_input), "served beyond max_connections");
    assert_eq!(origin.requests(), 6);
    for mut waiting in outside {
        inside.pop();
        waiting.response().expect(200);
        inside.insert(0, waiting);
    }
}

/// Connections come and go faster than places are counted: none is lost.
fn every_place_is_used_again(engine: Engine) {
    let origin = Origin::echo();
    let proxy =
        TestProxy::builder(engine).server("max_connections = 2").route("/", &[origin.addr()], "").start();
    let addr = proxy.addr();
    let clients: Vec<_> = (0..6)
        .map(|number| {
            crate::support::spawn(&format!("client-{number}"), move || {
                for round in 0..40 {
                    let mut client = Client::connect(addr);
                    match round % 4 {
                        0 => client.leave(true),
                        1 => client.leave(false),
                        2 => client.send("GET / HT"),
                        _ => drop(client.get("/").expect(200)),
                    }
                }
            })
        })
        .collect();
    clients.into_iter().for_each(Task::join);
    get(addr, "/after").expect(200);
}

/// Each of the clients has so many connections, and those who are let in are served.
fn beyond_max_connections_per_client_they_are_turned_away(engine: Engine) {
    let origin = Origin::echo();
    let builder = TestProxy::builder(engine).route("/", &[origin.addr()], "");
    let mut proxy = builder.clone().server("max_connections_per_client = 2").start();
    let addr = proxy.addr();
    let mut inside: Vec<Client> = (0..2).map(|_| Client::connect(addr)).collect();
    inside.iter_mut().for_each(|client| drop(client.get("/").expect(200)));
    for count in 1..=3 {
        // Without a word from the client.
        let mut outside = Client::connect(addr);
        let response = outside.response().expect_failure(429, "too_many_connections");
        assert_eq!(response.fields().one("connection").as_deref(), Some("close"));
        assert!(response.fields().has("retry-after"));
        outside.expect_fin();
        proxy.expect_counted(Cause::TooManyConnections, count);
    }
    inside.iter_mut().for_each(|client| drop(client.get("/").expect(200)));
    // Who comes from elsewhere is somebody else.
    let from = |host: u8| {
        use std::net::{Ipv4Addr, SocketAddr};
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into()).unwrap();
        socket.connect(&addr.into()).unwrap();
        Client::of(socket.into())
    };
    from(2).get("/").expect(200);
    // A place that is free is taken again.
    drop(inside.pop());
    let again = wait_for("a free place", || {
        let mut client = Client::connect(addr);
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        match client.response().status() {
            200 => Ok(client),
            status => Err(status),
        }
    });
    // A reload changes it at once; who is there stays.
    proxy.reload(&builder.clone().server("max_connections_per_client = 1")).expect("a reload");
    Client::connect(addr).response().expect_failure(429, "too_many_connections");
    inside[0].get("/").expect(200);
    let trusting = "max_connections_per_client = 1\ntrusted_proxies = [\"127.0.0.1\"]";
    proxy.reload(&builder.server(trusting)).expect("a reload");
    get(addr, "/").expect(200);
    drop(again);
}

on_native!(
    idle_clients_leave_descriptors_for_backends,
    an_idle_connection_is_given_up_for_another_backend,
    no_descriptors_left,
    no_descriptor_for_a_backend_is_not_held_against_it,
    no_descriptor_for_a_probe_is_not_held_against_the_backend,
    a_soft_limit_is_raised,
    beyond_max_connections_clients_wait,
    beyond_max_connections_per_client_they_are_turned_away,
    every_place_is_used_again,
);
