//! Idle backend connections: how many are kept, which is used next, and for how long.

use std::time::{Duration, Instant};

use crate::support::backend::Conn;
use crate::support::engines::on_both_engines;
use crate::support::wait::Task;
use crate::support::{Client, Engine, Gate, ScriptedBackend, TestProxy, get, spawn, wait_for};

/// Answers with the number of the connection; targets with `hold` in them when the gate is open.
fn numbered(gate: &Gate) -> ScriptedBackend {
    let gate = gate.clone();
    ScriptedBackend::per_request(move |conn, request| {
        if request.target.contains("hold") {
            gate.wait("the test to release the held requests");
        }
        let number = conn.number.to_string();
        conn.send_head(&["HTTP/1.1 200 OK", &format!("Content-Length: {}", number.len())])?;
        conn.send(number.as_bytes())
    })
}

#[track_caller]
fn expect_open(backend: &ScriptedBackend, open: usize) {
    wait_for("the number of open connections", || match backend.connections() - backend.ended() {
        seen if seen == open => Ok(()),
        seen => Err(seen),
    });
}

/// However many workers there are and whoever of them is served when.
fn no_more_are_kept_than_allowed(engine: Engine) {
    const BURST: usize = 100;
    let released = Gate::new();
    let backend = numbered(&released);
    let keys = "keepalive_connections = 4\nkeepalive_idle_secs = 60";
    let proxy =
        TestProxy::builder(engine).server("workers = 160").route("/", &[backend.addr()], keys).start();
    // One by one: tiny_http leaves connections that come at the same moment to one thread.
    let mut clients: Vec<Client> = (1..=BURST)
        .map(|number| {
            let mut client = Client::connect(proxy.addr());
            client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
            wait_for("it to be held", || match backend.requests() {
                held if held == number => Ok(()),
                held => Err(held),
            });
            client
        })
        .collect();
    assert_eq!(backend.connections(), BURST);
    released.open();
    clients.iter_mut().for_each(|client| drop(client.response().expect(200)));
    proxy.expect_idle();
    expect_open(&backend, 4);
    // Others come and go: it stays at that.
    let addr = proxy.addr();
    let again: Vec<Task<()>> =
        (0..8).map(|_| spawn("client", move || (0..20).for_each(|_| drop(get(addr, "/"))))).collect();
    again.into_iter().for_each(Task::join);
    proxy.expect_idle();
    wait_for("the surplus to be closed", || match backend.connections() - backend.ended() {
        open @ ..=4 => Ok(open),
        open => Err(open),
    });
}

/// The old ones are left to age.
fn the_newest_is_used_first(engine: Engine) {
    let released = Gate::new();
    let backend = numbered(&released);
    // Each worker keeps its own.
    let one = if engine == Engine::Native { "workers = 1" } else { "" };
    let proxy = TestProxy::builder(engine)
        .server(one)
        .route("/", &[backend.addr()], "keepalive_idle_secs = 60")
        .start();
    let mut held: Vec<Client> = (1..=3)
        .map(|number| {
            let mut client = Client::connect(proxy.addr());
            client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
            wait_for("the request to be held", || match backend.requests() {
                seen if seen == number => Ok(()),
                seen => Err(seen),
            });
            client
        })
        .collect();
    // This one becomes idle before the others.
    let first = get(proxy.addr(), "/").expect(200).text();
    assert_eq!(first, "4");
    proxy.expect_in_flight(&backend.addr(), 3);
    released.open();
    held.iter_mut().for_each(|client| drop(client.response().expect(200)));
    proxy.expect_idle();
    let mut used: Vec<String> = (0..10)
        .map(|_| {
            let number = get(proxy.addr(), "/").expect(200).text();
            proxy.expect_idle();
            number
        })
        .collect();
    used.dedup();
    assert_eq!(used.len(), 1, "always the same: {used:?}");
    assert_ne!(used, ["4"], "the oldest");
    assert_eq!(backend.connections(), 4);
}

fn they_are_closed_in_time(engine: Engine) {
    let backend = numbered(&Gate::new());
    let proxy = TestProxy::to(engine, &[backend.addr()], "keepalive_idle_secs = 0.3");
    get(proxy.addr(), "/").expect(200);
    let idle_since = Instant::now();
    assert_eq!(backend.connections() - backend.ended(), 1, "it is kept at first");
    // The housekeeper comes once a second.
    expect_open(&backend, 0);
    let after = idle_since.elapsed();
    assert!(after >= Duration::from_millis(280), "closed after {after:?}");
    assert!(after < Duration::from_secs(5), "closed after {after:?}");
    assert_eq!(get(proxy.addr(), "/").expect(200).text(), "2");
}

/// One that is too old is not used, whether the housekeeper has come or not.
fn one_that_is_too_old_is_not_used(engine: Engine) {
    let backend = numbered(&Gate::new());
    let proxy = TestProxy::to(engine, &[backend.addr()], "keepalive_idle_secs = 0.05");
    for number in 1..=5 {
        assert_eq!(get(proxy.addr(), "/").expect(200).text(), number.to_string());
        proxy.expect_idle();
        std::thread::sleep(Duration::from_millis(60));
    }
}

fn zero_keeps_none(engine: Engine) {
    let backend = numbered(&Gate::new());
    let proxy = TestProxy::to(engine, &[backend.addr()], "keepalive_connections = 0");
    let mut client = Client::connect(proxy.addr());
    for number in 1..=5 {
        assert_eq!(client.get("/").expect(200).text(), number.to_string());
        expect_open(&backend, 0);
    }
}

/// A connection is kept for its backend alone.
fn each_backend_has_its_own(engine: Engine) {
    let (one, two) = (numbered(&Gate::new()), numbered(&Gate::new()));
    let keys = "keepalive_connections = 1\nkeepalive_idle_secs = 60";
    let proxy = TestProxy::to(engine, &[one.addr(), two.addr()], keys);
    let mut client = Client::connect(proxy.addr());
    for _ in 0..10 {
        assert_eq!(client.get("/").expect(200).text(), "1");
        proxy.expect_idle();
    }
    assert_eq!((one.connections(), two.connections()), (1, 1));
}

/// Answers one request on each connection, does `then` when the gate is open, and expects not to be asked again.
fn ending(
    gate: &Gate,
    then: impl Fn(&mut Conn) -> std::io::Result<()> + Send + Sync + 'static,
) -> ScriptedBackend {
    let gate = gate.clone();
    ScriptedBackend::per_connection(move |mut conn| {
        if conn.request()?.is_none() {
            return Ok(());
        }
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        gate.wait("the connection to be idle");
        then(&mut conn)?;
        let rest = conn.rest().unwrap_or_default();
        assert_eq!(rest, b"", "a request on a connection that was over");
        Ok(())
    })
}

/// It is closed although nobody wants to use it, and then nobody can.
#[track_caller]
fn expect_closed_unused(engine: Engine, gate: &Gate, backend: &ScriptedBackend) {
    let proxy = TestProxy::to(engine, &[backend.addr()], "keepalive_idle_secs = 60");
    let mut client = Client::connect(proxy.addr());
    client.get("/").expect(200);
    proxy.expect_idle();
    assert_eq!(backend.ended(), 0, "it is kept at first");
    gate.open();
    wait_for("the proxy to close the connection", || match backend.ended() {
        1 => Ok(()),
        ended => Err(ended),
    });
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response_to("POST").expect(200).text(), "ok");
        proxy.expect_idle();
        let connections = backend.connections();
        wait_for("the next one to be closed as well", || match backend.ended() {
            ended if ended == connections => Ok(()),
            ended => Err((ended, connections)),
        });
    }
    assert_eq!((backend.connections(), backend.requests()), (3, 3));
}

fn one_that_hangs_up_is_closed_at_once(engine: Engine) {
    let gate = Gate::new();
    let backend = ending(&gate, |conn| conn.stream()?.shutdown(std::net::Shutdown::Write));
    expect_closed_unused(engine, &gate, &backend);
}

/// Nobody has asked for it: it would be taken for the answer to the next request.
fn one_on_which_the_backend_speaks_is_closed_at_once(engine: Engine) {
    for bytes in ["HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", "\n"] {
        let gate = Gate::new();
        let backend = ending(&gate, |conn| conn.send(bytes.as_bytes()));
        expect_closed_unused(engine, &gate, &backend);
    }
}

on_both_engines!(
    one_that_hangs_up_is_closed_at_once,
    one_on_which_the_backend_speaks_is_closed_at_once,
    no_more_are_kept_than_allowed,
    the_newest_is_used_first,
    they_are_closed_in_time,
    one_that_is_too_old_is_not_used,
    zero_keeps_none,
    each_backend_has_its_own,
);
