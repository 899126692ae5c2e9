//! What is tried again, where, how often, and what never is.

use std::io::Result;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::backend::{Conn, Request};
use crate::support::engines::on_both_engines;
use crate::support::process::program;
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{
    Client, DeadPort, Echo, Engine, Origin, ProxyProcess, Response, ScriptedBackend, TestProxy, get, hash_of,
    pattern, send_once,
};

/// Keeps backends that fail in the round, so that each test meets them.
const STAYS_IN: &str = "max_fails = 0";

/// What is collected of a body before a backend is asked: as much can be sent again.
const REPLAYABLE: usize = 64 * 1024;

fn retries(proxy: &TestProxy) -> u64 {
    proxy.counters().retries.load(Ordering::Relaxed)
}

fn request(method: &str, body: &[u8], chunked: bool) -> Vec<u8> {
    let head = format!("{method} /it HTTP/1.1\r\nHost: proxy.test\r\n");
    if chunked {
        let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        body.chunks(10_000).for_each(|piece| bytes.extend_from_slice(&chunk(piece)));
        bytes.extend_from_slice(LAST_CHUNK);
        return bytes;
    }
    [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// Nothing was sent, so it does not matter which method it is and how large its body.
fn what_was_refused_goes_to_another_backend(engine: Engine) {
    let (dead, origin) = (DeadPort::reserve(), Origin::echo());
    let proxy = TestProxy::to(engine, &[dead.addr(), origin.addr()], STAYS_IN);
    let bodies = [pattern(1, 0), pattern(2, 1000), pattern(3, 300_000)];
    let mut sent = 0;
    for method in ["GET", "POST", "PATCH", "DELETE", "PURGE"] {
        for body in &bodies {
            // An odd number, so that each kind meets the dead one.
            for _ in 0..3 {
                let answer = send_once(proxy.addr(), request(method, body, false)).expect(200);
                let echo = Echo::parse(&answer.body);
                assert_eq!((echo.method.as_str(), &echo.hash), (method, &hash_of(body)));
                sent += 1;
            }
        }
    }
    assert_eq!(origin.requests(), sent, "each was answered once");
    assert!(retries(&proxy) >= 20, "{} of {sent} were tried again", retries(&proxy));
    proxy.expect_idle();
}

/// What a [`dying`] backend has heard.
#[derive(Debug, Default)]
struct Heard {
    /// Connection, method and body of each request but the first of a connection.
    second: Mutex<Vec<(usize, String, Vec<u8>)>>,
}

/// Answers `/first` and keeps the connection. The next request on it is read to its end; then the connection is closed
/// without an answer. Anything else is answered with its body when it comes first on a connection.
fn dying() -> (ScriptedBackend, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let same = Arc::clone(&heard);
    let echo = |conn: &mut Conn, request: &Request| -> Result<Vec<u8>> {
        let body = conn.body(request)?;
        let then = if request.target == "/first" { "keep-alive" } else { "close" };
        let length = format!("Content-Length: {}", body.len());
        conn.send_head(&["HTTP/1.1 200 OK", &length, &format!("Connection: {then}")])?;
        if request.method != "HEAD" {
            conn.send(&body)?;
        }
        Ok(body)
    };
    let backend = ScriptedBackend::per_connection(move |mut conn| {
        let Some(first) = conn.request()? else { return Ok(()) };
        echo(&mut conn, &first)?;
        if first.target != "/first" {
            return Ok(());
        }
        let Some(second) = conn.request()? else { return Ok(()) };
        let body = conn.body(&second)?;
        same.second.lock().unwrap().push((conn.number, second.method, body));
        Ok(())
    });
    (backend, heard)
}

/// Sends these bytes where they meet a connection that was used before and dies without a byte of an answer.
fn on_a_dying_connection(proxy: &TestProxy, method: &str, bytes: &[u8]) -> Response {
    let mut client = Client::connect(proxy.addr());
    client.get("/first").expect(200);
    // The connection is idle again when its exchange is counted off.
    proxy.expect_idle();
    client.send(bytes);
    client.response_to(method)
}

fn an_idempotent_request_on_a_dying_connection_is_sent_again(engine: Engine) {
    let (backend, heard) = dying();
    let proxy = TestProxy::to(engine, &[backend.addr()], STAYS_IN);
    let methods = ["GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "PUT"];
    for (number, method) in methods.into_iter().enumerate() {
        let bytes = format!("{method} /it HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        on_a_dying_connection(&proxy, method, bytes.as_bytes()).expect(200);
        assert_eq!(retries(&proxy), number as u64 + 1, "{method}");
        assert_eq!(backend.connections(), 2 * (number + 1), "{method} went out on a fresh connection");
    }
    let heard: Vec<String> =
        heard.second.lock().unwrap().iter().map(|(_, method, _)| method.clone()).collect();
    assert_eq!(heard, methods, "each was heard once before its connection died");
}

fn any_other_request_is_not(engine: Engine) {
    let (backend, heard) = dying();
    let proxy = TestProxy::to(engine, &[backend.addr()], STAYS_IN);
    for method in ["POST", "PATCH", "LOCK", "PURGE"] {
        on_a_dying_connection(&proxy, method, &request(method, b"body", false))
            .expect_failure(502, "backend_closed");
    }
    assert_eq!(heard.second.lock().unwrap().len(), 4);
    assert_eq!(backend.requests(), 8, "none was sent twice");
    assert_eq!(retries(&proxy), 0);
}

/// Up to 64 KiB are in memory, and go out again byte for byte.
fn a_small_body_is_sent_again_as_it_was(engine: Engine) {
    let (backend, heard) = dying();
    let proxy = TestProxy::to(engine, &[backend.addr()], STAYS_IN);
    for length in [1, 1000, 40_000, REPLAYABLE - 1, REPLAYABLE] {
        for chunked in [false, true] {
            if chunked && length == REPLAYABLE {
                // Full before its end is seen: taken for a large one.
                continue;
            }
            let body = pattern(length as u64, length);
            let answer = on_a_dying_connection(&proxy, "PUT", &request("PUT", &body, chunked)).expect(200);
            assert!(answer.body == body, "{length} bytes came out changed, chunked: {chunked}");
            let (_, _, first) = heard.second.lock().unwrap().pop().expect("the first try");
            assert!(first == body, "{length} bytes went in changed, chunked: {chunked}");
        }
    }
}

/// A body that was passed on while it came in is gone.
fn a_large_body_is_never_sent_twice(engine: Engine) {
    let (backend, heard) = dying();
    let proxy = TestProxy::to(engine, &[backend.addr()], STAYS_IN);
    for (number, length) in [REPLAYABLE + 1, 300_000].into_iter().enumerate() {
        for chunked in [false, true] {
            let body = pattern(number as u64, length);
            on_a_dying_connection(&proxy, "PUT", &request("PUT", &body, chunked))
                .expect_failure(502, "backend_closed");
        }
    }
    assert_eq!(heard.second.lock().unwrap().len(), 4);
    assert_eq!(backend.requests(), 8);
    assert_eq!(retries(&proxy), 0);
}

/// An answer that has begun may have consequences: another backend would have them as well.
fn an_answer_that_began_is_not_asked_for_again(engine: Engine) {
    let beginnings: &[&[u8]] = &[
        b"H",
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ];
    for beginning in beginnings {
        let first = ScriptedBackend::per_connection(|mut conn| {
            conn.request()?;
            conn.send(beginning)
        });
        let second = Origin::echo();
        let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], STAYS_IN);
        let mut client = Client::connect(proxy.addr());
        client.set_patience(Duration::from_millis(500));
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        let answer = client.response();
        let shown = String::from_utf8_lossy(beginning);
        // Whether the end was noticed before the beginning was passed on depends on the hour.
        if answer.broken.is_none() {
            answer.expect_failure(502, "backend_closed");
        }
        assert_eq!((first.requests(), second.requests()), (1, 0), "after {shown:?}");
        assert_eq!(retries(&proxy), 0, "after {shown:?}");
    }
}

fn as_often_as_the_route_says(engine: Engine) {
    let (one, two, origin) = (DeadPort::reserve(), DeadPort::reserve(), Origin::echo());
    let backends = [one.addr(), two.addr(), origin.addr()];
    for (allowed, expected) in [(0, 3), (1, 6), (2, 9), (9, 9)] {
        let keys = format!("{STAYS_IN}\nretries = {allowed}");
        let proxy = TestProxy::to(engine, &backends, &keys);
        let mut good = 0;
        for _ in 0..9 {
            let answer = get(proxy.addr(), "/");
            if answer.status() == 200 {
                good += 1;
            } else {
                answer.expect_failure(502, "connect_refused");
            }
        }
        // With one retry, who begins at the first dead one ends at the second; or the turns go round differently.
        match allowed {
            1 => assert!((3..9).contains(&good), "retries = 1: {good} of 9"),
            _ => assert_eq!(good, expected, "retries = {allowed}"),
        }
        assert_eq!(retries(&proxy) == 0, allowed == 0);
    }
}

/// A second try is made on the same backend when there is no other.
fn where_there_is_one_backend_it_is_asked_again(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        if conn.number % 3 == 0 {
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthird")?;
        }
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "retries = 2");
    for round in 1..=3 {
        assert_eq!(get(proxy.addr(), "/").expect(200).text(), "third");
        assert_eq!(backend.requests(), 3 * round);
    }
    assert_eq!(retries(&proxy), 6);
}

/// Retries take no more time than one answer may.
fn not_beyond_the_response_timeout(engine: Engine) {
    let (full, origin) = (crate::support::backend::FullBacklog::new(), Origin::echo());
    let backends = [full.addr(), origin.addr()];
    let keys = format!("{STAYS_IN}\nconnect_timeout_secs = 0.3");
    let patient = TestProxy::to(engine, &backends, &keys);
    get(patient.addr(), "/").expect(200);
    assert_eq!(retries(&patient), 1);
    let keys = format!("{STAYS_IN}\nconnect_timeout_secs = 0.3\nresponse_timeout_secs = 0.2");
    let hasty = TestProxy::to(engine, &backends, &keys);
    get(hasty.addr(), "/").expect_failure(504, "connect_timeout");
    assert_eq!((retries(&hasty), origin.requests()), (0, 1));
}

fn not_beyond_the_deadline(engine: Engine) {
    let (full, origin) = (crate::support::backend::FullBacklog::new(), Origin::echo());
    let keys = format!("{STAYS_IN}\ndeadline_secs = 0.3");
    let proxy = TestProxy::to(engine, &[full.addr(), origin.addr()], &keys);
    let started = Instant::now();
    // Not the time-out of the connection is over, which would be held against the backend.
    get(proxy.addr(), "/").expect_failure(504, "deadline_exceeded");
    assert!(started.elapsed() < Duration::from_secs(3), "it took {:?}", started.elapsed());
    assert_eq!((retries(&proxy), origin.requests()), (0, 0));
}

/// What is tried again, and why, can be read.
fn the_log_tells_of_it(engine: Engine) {
    let (dead, origin) = (DeadPort::reserve(), Origin::echo());
    let backends = [dead.addr(), origin.addr()];
    let config = TestProxy::builder(engine).route("/", &backends, STAYS_IN).toml();
    let mut command = program();
    command.env("RUST_LOG", "reverse_proxy=debug");
    let (mut process, addr) = ProxyProcess::start_with(&config, command);
    get(addr, "/").expect(200);
    get(addr, "/").expect(200);
    let line =
        process.wait_for_output("the retry", |line| line.contains("trying again").then(|| line.to_owned()));
    assert!(line.contains("DEBUG"), "{line}");
    assert!(line.contains(&format!("backend={}", dead.addr())), "{line}");
    assert!(line.contains("cause=connect_refused") && line.contains("sent=0"), "{line}");
}

/// Many at once, each on connections that die again and again: no answer is lost, and none is another's.
fn under_load_every_get_is_answered(engine: Engine) {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let backend = ScriptedBackend::per_connection(move |mut conn| {
        for _ in 0..1 + conn.number % 4 {
            let Some(request) = conn.request()? else { return Ok(()) };
            count.fetch_add(1, Ordering::Relaxed);
            let length = format!("Content-Length: {}", request.target.len());
            conn.send_head(&["HTTP/1.1 200 OK", &length])?;
            conn.send(request.target.as_bytes())?;
        }
        if conn.number % 2 == 0 {
            conn.reset();
        }
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let addr = proxy.addr();
    let clients: Vec<_> = (0..8)
        .map(|number| {
            crate::support::spawn("client", move || {
                let mut client = Client::connect(addr);
                for turn in 0..50 {
                    let target = format!("/{number}/{turn}");
                    assert_eq!(client.get(&target).expect(200).text(), target);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(crate::support::wait::Task::join);
    assert_eq!(served.load(Ordering::Relaxed), 400, "a request that was answered was sent again");
}

on_both_engines!(
    what_was_refused_goes_to_another_backend,
    an_idempotent_request_on_a_dying_connection_is_sent_again,
    any_other_request_is_not,
    a_small_body_is_sent_again_as_it_was,
    a_large_body_is_never_sent_twice,
    an_answer_that_began_is_not_asked_for_again,
    as_often_as_the_route_says,
    where_there_is_one_backend_it_is_asked_again,
    the_log_tells_of_it,
    under_load_every_get_is_answered,
);

mod linux {
    use super::{not_beyond_the_deadline, not_beyond_the_response_timeout};
    crate::support::engines::on_both_engines!(not_beyond_the_response_timeout, not_beyond_the_deadline);
}
