//! Bytes reach the other side when they arrive, not when the body ends.

use std::sync::mpsc::channel;

use crate::support::engines::{on_both_engines, on_native_over_tls};
use crate::support::wire::{Body, LAST_CHUNK, chunk};
use crate::support::{Client, Engine, Gate, PATIENCE, ScriptedBackend, TestProxy, pattern};

/// The backend sends `first`, and `rest` only when the client has `wanted` in its hands.
#[track_caller]
fn expect_streamed(engine: Engine, first: &'static str, wanted: &str, rest: &'static str, whole: &str) {
    let arrived = Gate::new();
    let gate = arrived.clone();
    let backend = ScriptedBackend::per_connection(move |mut conn| {
        conn.request()?;
        conn.send(first.as_bytes())?;
        gate.wait("the client to receive the first bytes while the body goes on");
        conn.send(rest.as_bytes())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.set_patience(PATIENCE / 2);
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let head = client.head("GET");
    let (mut body, mut received) = (Body::new(head.framing), Vec::new());
    while received.len() < wanted.len() {
        let piece = client.piece(&mut body).expect("the first bytes before the body ends");
        received.extend(piece.expect("more than the first bytes"));
    }
    assert_eq!(received, wanted.as_bytes());
    arrived.open();
    while let Some(piece) = client.piece(&mut body).expect("the rest") {
        received.extend(piece);
    }
    assert_eq!(received, whole.as_bytes());
}

fn a_response_chunk_arrives_before_the_body_ends(engine: Engine) {
    expect_streamed(
        engine,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        "first",
        "5\r\n rest\r\n0\r\n\r\n",
        "first rest",
    );
}

fn half_a_response_of_known_length_arrives_before_the_rest(engine: Engine) {
    expect_streamed(
        engine,
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst",
        "first",
        " rest",
        "first rest",
    );
}

fn a_response_without_length_arrives_before_it_ends(engine: Engine) {
    expect_streamed(engine, "HTTP/1.1 200 OK\r\n\r\nfirst", "first", " rest", "first rest");
}

fn the_head_arrives_before_the_body(engine: Engine) {
    expect_streamed(
        engine,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        "",
        "5\r\nevent\r\n0\r\n\r\n",
        "event",
    );
}

/// The client sends `first`, and `rest` only when the backend has `wanted` bytes of the body in its hands.
#[track_caller]
fn expect_upload_streamed(engine: Engine, framing: &str, first: &[u8], wanted: usize, rest: &[u8]) {
    let (send, arrived) = channel();
    let backend = ScriptedBackend::per_request(move |conn, request| {
        let mut received = 0;
        conn.body_pieces(request, |piece| {
            received += piece.len();
            send.send(received).unwrap_or_default();
        })?;
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0", &format!("X-Received: {received}")])
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{framing}\r\n\r\n"));
    client.send(first);
    loop {
        let received = arrived.recv_timeout(PATIENCE / 2);
        let received = received.expect("the first bytes to reach the backend before the body ends");
        if received >= wanted {
            break;
        }
    }
    client.send(rest);
    let response = client.response_to("POST").expect(200);
    let total: usize = response.fields().one("x-received").unwrap().parse().unwrap();
    assert!(total > wanted, "{total} bytes received");
}

/// More than the 64 KiB that may be collected before a worker takes over.
const LARGE: usize = 300 * 1024;

fn a_request_chunk_arrives_before_the_body_ends(engine: Engine) {
    let first = chunk(&pattern(1, LARGE));
    let rest = [&chunk(b"rest"), LAST_CHUNK].concat();
    expect_upload_streamed(engine, "Transfer-Encoding: chunked", &first, LARGE / 2, &rest);
}

fn a_request_of_known_length_arrives_before_it_ends(engine: Engine) {
    let framing = format!("Content-Length: {}", 2 * LARGE);
    expect_upload_streamed(engine, &framing, &pattern(1, LARGE), LARGE / 2, &pattern(2, LARGE));
}

fn a_small_request_chunk_arrives_before_the_body_ends(engine: Engine) {
    let rest = [&chunk(b"rest"), LAST_CHUNK].concat();
    expect_upload_streamed(engine, "Transfer-Encoding: chunked", &chunk(b"first"), 5, &rest);
}

on_both_engines!(
    a_response_chunk_arrives_before_the_body_ends,
    half_a_response_of_known_length_arrives_before_the_rest,
    a_response_without_length_arrives_before_it_ends,
    the_head_arrives_before_the_body,
    a_request_chunk_arrives_before_the_body_ends,
    a_request_of_known_length_arrives_before_it_ends,
    a_small_request_chunk_arrives_before_the_body_ends,
);

on_native_over_tls!(
    a_response_chunk_arrives_before_the_body_ends,
    half_a_response_of_known_length_arrives_before_the_rest,
    a_response_without_length_arrives_before_it_ends,
    the_head_arrives_before_the_body,
    a_request_chunk_arrives_before_the_body_ends,
    a_request_of_known_length_arrives_before_it_ends,
    a_small_request_chunk_arrives_before_the_body_ends,
);
