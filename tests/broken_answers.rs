//! A backend that breaks off its answer: the client must be able to tell.

use std::time::Duration;

use crate::support::client::Head;
use crate::support::engines::on_both_engines;
use crate::support::{Client, Engine, Gate, ScriptedBackend, TestProxy, get};

/// A name, the beginning of an answer, and what comes when the client has received it.
const BEGINNINGS: &[(&str, &str, &str)] = &[
    ("length", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nfirst", ""),
    ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", ""),
    ("within a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nfirst", ""),
    (
        "bad chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        "XYZ\r\nbad\r\n0\r\n\r\n",
    ),
];

/// Calls `check` with a client that has received `first` of an answer that will have no end.
fn for_each_way(engine: Engine, check: impl Fn(&str, &mut Client, &Head)) {
    for (name, beginning, then) in BEGINNINGS {
        for reset in [true, false] {
            let seen = Gate::new();
            let gate = seen.clone();
            let backend = ScriptedBackend::per_connection(move |mut conn| {
                conn.request()?;
                conn.send(beginning.as_bytes())?;
                gate.wait("the client to receive the beginning");
                conn.send(then.as_bytes())?;
                if reset {
                    conn.reset();
                }
                Ok(())
            });
            let proxy = TestProxy::to(engine, &[backend.addr()], "");
            let mut client = Client::connect(proxy.addr());
            client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
            let head = client.any_head("GET").expect("the beginning").expect("the beginning");
            assert_eq!(head.status, 200);
            seen.open();
            let how = if reset { "RST" } else { "FIN" };
            check(&format!("{name}, {how}"), &mut client, &head);
            proxy.expect_idle();
        }
    }
}

fn a_truncated_answer_never_looks_whole(engine: Engine) {
    for_each_way(engine, |how, client, head| {
        client.set_patience(Duration::from_millis(500));
        client.rest(head).expect_err(how);
    });
}

fn the_connection_is_closed_at_once(engine: Engine) {
    for_each_way(engine, |how, client, head| {
        let error = client.rest(head).expect_err(how);
        assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{how}: the client is left waiting");
    });
}

/// A body without length ends with the connection; only the reset of a connection tells that it was cut.
fn a_reset_is_no_end(engine: Engine) {
    let seen = Gate::new();
    let gate = seen.clone();
    let backend = ScriptedBackend::per_connection(move |mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\n\r\nfirst")?;
        gate.wait("the client to receive the beginning");
        conn.reset();
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let head = client.head("GET");
    seen.open();
    client.set_patience(Duration::from_millis(500));
    client.rest(&head).expect_err("a body cut by a reset");
    proxy.expect_idle();
}

/// To a client that knows no chunks the end of the connection is the end of the answer, unless it is reset.
fn an_old_client_can_tell_too(engine: Engine) {
    for reset in [true, false] {
        let seen = Gate::new();
        let gate = seen.clone();
        let backend = ScriptedBackend::per_connection(move |mut conn| {
            conn.request()?;
            conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
            gate.wait("the client to receive the beginning");
            if reset {
                conn.reset();
            }
            Ok(())
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.0\r\nHost: proxy.test\r\n\r\n");
        let head = client.head("GET");
        seen.open();
        client.set_patience(Duration::from_secs(2));
        client.rest(&head).expect_err("an answer that was cut");
        proxy.expect_idle();
    }
}

fn the_next_answer_is_whole(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        let first = conn.number == 1;
        while let Some(_request) = conn.request()? {
            if first {
                return conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut");
            }
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")?;
        }
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.set_patience(Duration::from_millis(500));
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    // Whether the end was noticed before the beginning was passed on depends on the hour.
    let first = client.response();
    assert!(first.broken.is_some() || first.status() == 502, "the first answer is cut");
    for _ in 0..5 {
        assert_eq!(get(proxy.addr(), "/").expect(200).text(), "whole");
    }
}

on_both_engines!(
    a_truncated_answer_never_looks_whole,
    the_connection_is_closed_at_once,
    a_reset_is_no_end,
    an_old_client_can_tell_too,
    the_next_answer_is_whole,
);
