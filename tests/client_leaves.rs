//! A client that leaves frees what was busy for it: the worker, the backend's connection, its place in the counts.

use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;

use crate::support::engines::{on_native, on_native_over_tls};
use crate::support::{Client, Engine, Origin, ScriptedBackend, TestProxy, get, wait_for};

/// The proxy looks twice a second; the rest is for slow machines.
const SOON: Duration = Duration::from_secs(3);

fn while_the_backend_thinks(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let proxy = TestProxy::builder(engine)
        .server("workers = 2")
        .route("/", &[backend.addr()], "response_timeout_secs = 60\nmax_in_flight = 2")
        .start();
    for (number, reset) in [(1, false), (2, true)] {
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        proxy.expect_in_flight(&backend.addr(), 1);
        let left = Instant::now();
        client.leave(reset);
        proxy.expect_idle();
        wait_for("the backend's connection to be closed", || match backend.ended() {
            ended if ended == number => Ok(()),
            ended => Err(ended),
        });
        assert!(left.elapsed() < SOON, "free after {:?}", left.elapsed());
        proxy.expect_count(Cause::ClientLeft, number as u64);
    }
    assert_eq!(proxy.counters().of(Cause::BackendClosed), 0, "held against the backend");
}

fn while_the_answer_pauses(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent")?;
        conn.hang()
    });
    let keys = "idle_timeout_secs = 60";
    let proxy = TestProxy::to(engine, &[backend.addr()], keys);
    for (number, reset) in [(1, false), (2, true)] {
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        let head = client.head("GET");
        assert_eq!(head.status, 200);
        let left = Instant::now();
        client.leave(reset);
        proxy.expect_idle();
        wait_for("the backend's connection to be closed", || match backend.ended() {
            ended if ended == number => Ok(()),
            ended => Err(ended),
        });
        assert!(left.elapsed() < SOON, "free after {:?}", left.elapsed());
    }
}

/// Nobody is left for whom the other requests in the queue would be carried out.
fn while_waiting_for_a_worker(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).server("workers = 1").route("/", &[origin.addr()], "").start();
    let mut held = Client::connect(proxy.addr());
    held.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the only worker to be held", || if origin.held() == 1 { Ok(()) } else { Err(()) });
    for reset in [true, false] {
        let mut client = Client::connect(proxy.addr());
        client.send("GET /queued HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        client.leave(reset);
    }
    origin.release();
    held.response().expect(200);
    get(proxy.addr(), "/after").expect(200);
    proxy.expect_idle();
}

on_native!(while_the_backend_thinks, while_the_answer_pauses, while_waiting_for_a_worker);

on_native_over_tls!(while_the_backend_thinks, while_the_answer_pauses, while_waiting_for_a_worker);
