//! How connections to clients end: in good order, so that the last answer can be read, and in bounded time.

use std::time::{Duration, Instant};

use crate::support::engines::{on_native, on_native_over_tls};
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{Client, Engine, Origin, ScriptedBackend, TestProxy, get};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: proxy.test\r\n\r\n";

fn connection_close_is_honoured_and_sent(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).route("/here", &[origin.addr()], "").start();
    for option in ["close", "Close", "x, close", "close, keep-alive"] {
        for (target, status) in [("/here", 200), ("/nowhere", 404)] {
            let mut client = Client::connect(proxy.addr());
            client.send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\nConnection: {option}\r\n\r\n"));
            let response = client.response().expect(status);
            assert_eq!(response.fields().all("connection"), ["close"]);
            client.expect_fin();
        }
    }
}

/// Closing must not cut what the client has yet to fetch.
fn a_large_last_answer_is_whole(engine: Engine) {
    const SIZE: usize = 8_000_000;
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 200 OK"])?;
        (0..80).try_for_each(|_| conn.send(&[b'x'; SIZE / 80]))
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    for request in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"] {
        let mut client = Client::with_small_window(proxy.addr());
        client.send(request);
        assert_eq!(client.response().expect(200).body.len(), SIZE);
        client.expect_fin();
    }
}

/// The client sends all of its upload before it looks for an answer. A reset would fail its sending, or take away
/// the answer.
fn a_refused_upload_can_be_sent_and_the_answer_read(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).route("/here", &[origin.addr()], "max_body_bytes = 1000").start();
    let body = SMUGGLED.repeat(5 * 1024 * 1024 / SMUGGLED.len());
    let length = format!("Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
    let mut chunked = b"Transfer-Encoding: chunked\r\n\r\n".to_vec();
    body.as_bytes().chunks(100_000).for_each(|piece| chunked.extend(chunk(piece)));
    chunked.extend_from_slice(LAST_CHUNK);
    for (target, framed, status, cause) in [
        ("/here", &length, 413, "body_too_large"),
        ("/here", &chunked, 413, "body_too_large"),
        ("/nowhere", &length, 404, "no_route"),
        ("/nowhere", &chunked, 404, "no_route"),
    ] {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("POST {target} HTTP/1.1\r\nHost: proxy.test\r\n"));
        client.send(framed);
        let response = client.response_to("POST").expect_failure(status, cause);
        assert_eq!(response.fields().all("connection"), ["close"], "the body was not read");
        client.expect_fin();
    }
    proxy.expect_idle();
    // A chunked body has to be forwarded until it is too long.
    assert!(origin.requests() <= 1, "{} requests out of a refused body", origin.requests());
}

/// The same where what follows is no body at all.
fn a_refused_head_can_be_followed_by_anything(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost : proxy.test\r\n\r\n");
    client.send(SMUGGLED.repeat(1024 * 1024 / SMUGGLED.len()));
    client.response().expect_failure(400, "bad_request");
    client.expect_fin();
    assert_eq!(origin.requests(), 0);
}

/// A client that stays without a word holds its place for five seconds, and no longer.
fn lingering_with_a_silent_client_ends(engine: Engine) {
    let origin = Origin::echo();
    let proxy =
        TestProxy::builder(engine).server("max_connections = 1").route("/here", &[origin.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    client.send("POST /nowhere HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 1000000\r\n\r\n");
    client.response_to("POST").expect_failure(404, "no_route");
    let started = Instant::now();
    // The only place there is becomes free.
    get(proxy.addr(), "/here").expect(200);
    assert!(started.elapsed() < Duration::from_secs(9), "lingered for {:?}", started.elapsed());
}

/// As long as a client makes progress it gets to read its answer, however large what nobody wants.
fn a_refused_upload_that_takes_its_time_gets_its_answer(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).route("/here", &[origin.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    let length = 64 * 1024 * 1024;
    client.send(format!("POST /nowhere HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {length}\r\n\r\n"));
    let piece = vec![b'x'; 1024 * 1024];
    for number in 0..64 {
        if number % 16 == 0 {
            // Longer in all than a single silence may last.
            std::thread::sleep(Duration::from_millis(600));
        }
        client.send(&piece);
    }
    client.response_to("POST").expect_failure(404, "no_route");
    client.expect_fin();
}

on_native!(
    connection_close_is_honoured_and_sent,
    a_large_last_answer_is_whole,
    a_refused_upload_can_be_sent_and_the_answer_read,
    a_refused_head_can_be_followed_by_anything,
    lingering_with_a_silent_client_ends,
    a_refused_upload_that_takes_its_time_gets_its_answer,
);

on_native_over_tls!(
    connection_close_is_honoured_and_sent,
    a_large_last_answer_is_whole,
    a_refused_upload_can_be_sent_and_the_answer_read,
    a_refused_head_can_be_followed_by_anything,
    lingering_with_a_silent_client_ends,
    a_refused_upload_that_takes_its_time_gets_its_answer,
);
