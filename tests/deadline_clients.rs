//! `deadline_secs` also bounds what a client takes for its part: sending slowly, reading slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;

use crate::support::engines::{on_native, on_native_over_tls};
use crate::support::{Client, Engine, ScriptedBackend, TestProxy, spawn};

const SOON: Duration = Duration::from_secs(4);

/// Takes uploads to their end.
fn taker() -> ScriptedBackend {
    ScriptedBackend::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

fn an_upload_that_drips_is_504(engine: Engine) {
    for field in ["Content-Length: 10000000", "Transfer-Encoding: chunked"] {
        let backend = taker();
        let proxy = TestProxy::to(engine, &[backend.addr()], "deadline_secs = 0.5");
        let mut client = Client::connect(proxy.addr());
        client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
        client.send(format!("900000\r\n{}", "x".repeat(100_000)));
        let started = Instant::now();
        while !client.has_input() {
            assert!(started.elapsed() < SOON, "still at it after {:?}", started.elapsed());
            if client.try_send("xxxxxxxxxx").is_err() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        client.response_to("POST").expect_failure(504, "deadline_exceeded");
        proxy.expect_idle();
        proxy.expect_counted(Cause::DeadlineExceeded, 1);
    }
}

fn an_upload_that_stops_is_504(engine: Engine) {
    let backend = taker();
    let proxy = TestProxy::to(engine, &[backend.addr()], "deadline_secs = 0.5");
    let mut client = Client::connect(proxy.addr());
    client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 10000000\r\n\r\n");
    client.send([b'x'; 100_000]);
    let started = Instant::now();
    client.response_to("POST").expect_failure(504, "deadline_exceeded");
    assert!(started.elapsed() < SOON, "over after {:?}", started.elapsed());
}

/// It reads so much that no write stands still for `write_timeout_secs`.
fn a_client_that_reads_slowly_is_cut(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 50000000"])?;
        conn.send(&vec![b'x'; 50_000_000])
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "deadline_secs = 0.7");
    let mut client = Client::with_small_window(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let started = Instant::now();
    let enough = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&enough);
    let reader = spawn("a slow reader", move || {
        let head = client.head("GET");
        let mut body = crate::support::wire::Body::new(head.framing);
        while let Ok(Some(_)) = client.piece(&mut body) {
            sleep(Duration::from_millis(100));
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    proxy.expect_counted(Cause::DeadlineExceeded, 1);
    assert!(started.elapsed() < SOON, "over after {:?}", started.elapsed());
    proxy.expect_idle();
    enough.store(true, Ordering::Relaxed);
    reader.join();
}

/// One that does not read at all.
fn a_client_that_does_not_read_is_cut(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 50000000"])?;
        conn.send(&vec![b'x'; 50_000_000])
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "deadline_secs = 0.5");
    let mut client = Client::with_small_window(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let started = Instant::now();
    proxy.expect_counted(Cause::DeadlineExceeded, 1);
    assert!(started.elapsed() < SOON, "over after {:?}", started.elapsed());
    proxy.expect_idle();
}

/// The time in line for a full backend is no extra time, and neither is that of the upload before it.
fn waiting_in_line_does_not_stop_the_clock(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: wire/1\r\n\r\n")?;
        conn.hang()
    });
    let keys =
        "max_in_flight_per_backend = 1\nqueue_timeout_secs = 60\ndeadline_secs = 2\nidle_timeout_secs = 60";
    let proxy = TestProxy::to(engine, &[backend.addr()], keys);
    // No deadline ends a tunnel.
    let mut tunnel = Client::connect(proxy.addr());
    tunnel.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: wire/1\r\n\r\n");
    assert_eq!(tunnel.any_head("GET").unwrap().expect("an answer").status, 101);
    for upload in [false, true] {
        let started = Instant::now();
        let mut client = Client::connect(proxy.addr());
        if upload {
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1");
            sleep(Duration::from_millis(1700));
            client.send("2");
        } else {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        client.response().expect_failure(504, "deadline_exceeded");
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(1950), "over after {took:?}");
        assert!(took < Duration::from_millis(3200), "over after {took:?}");
    }
    assert_eq!(backend.connections(), 1);
    assert!(!tunnel.is_closed());
}

on_native!(
    waiting_in_line_does_not_stop_the_clock,
    an_upload_that_drips_is_504,
    an_upload_that_stops_is_504,
    a_client_that_reads_slowly_is_cut,
    a_client_that_does_not_read_is_cut,
);

on_native_over_tls!(
    waiting_in_line_does_not_stop_the_clock,
    an_upload_that_drips_is_504,
    an_upload_that_stops_is_504,
    a_client_that_reads_slowly_is_cut,
    a_client_that_does_not_read_is_cut,
);
