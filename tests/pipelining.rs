//! Several requests on the way at once are answered in their order, and none is taken for another.

use std::time::Duration;

use crate::support::engines::{on_both_engines, on_native_over_tls};
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{Client, Echo, Engine, Origin, TestProxy, hash_of, pattern, wait_for};

fn many_in_one_write(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    let requests: String =
        (0..100).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: proxy.test\r\n\r\n")).collect();
    client.send(requests);
    for number in 0..100 {
        assert_eq!(Echo::parse(&client.response().expect(200).body).target, format!("/{number}"));
    }
    assert_eq!(Echo::parse(&client.get("/last").expect(200).body).target, "/last");
}

fn with_bodies_of_all_kinds(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    let bodies: Vec<Vec<u8>> = (0..12).map(|seed| pattern(seed, 1 + 700 * seed as usize)).collect();
    let mut bytes = Vec::new();
    for (number, body) in bodies.iter().enumerate() {
        let start = format!("POST /{number} HTTP/1.1\r\nHost: proxy.test\r\n");
        bytes.extend_from_slice(start.as_bytes());
        match number % 3 {
            0 => bytes.extend_from_slice(b"\r\n"),
            1 => {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(body);
            }
            _ => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                body.chunks(1000).for_each(|piece| bytes.extend(chunk(piece)));
                bytes.extend_from_slice(LAST_CHUNK);
            }
        }
    }
    client.send(bytes);
    for (number, body) in bodies.iter().enumerate() {
        let echo = Echo::parse(&client.response_to("POST").expect(200).body);
        let body: &[u8] = if number % 3 == 0 { b"" } else { body };
        assert_eq!((echo.target, echo.hash), (format!("/{number}"), hash_of(body)));
    }
}

/// Bodies that are streamed, each with the next request right behind it.
fn with_large_bodies(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    let body = pattern(5, 300_000);
    let mut bytes = Vec::new();
    for number in 0..3 {
        let start = format!("PUT /{number} HTTP/1.1\r\nHost: proxy.test\r\n");
        bytes.extend_from_slice(format!("{start}Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(format!("{start}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
        bytes.extend([&chunk(&body), LAST_CHUNK].concat());
    }
    client.send(bytes);
    for number in 0..6 {
        let echo = Echo::parse(&client.response_to("PUT").expect(200).body);
        assert_eq!((echo.target, echo.hash), (format!("/{}", number / 2), hash_of(&body)));
    }
}

/// Wherever the bytes of two requests are cut, both are answered.
fn cut_anywhere(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let first = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none";
    let second = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n";
    let both = [first, second].concat();
    let mut client = Client::connect(proxy.addr());
    for cut in first.len()..both.len() {
        client.send(&both[..cut]);
        let echo = Echo::parse(&client.response_to("POST").expect(200).body);
        assert_eq!((echo.target.as_str(), echo.hash), ("/1", hash_of(b"one")), "cut at {cut}");
        client.send(&both[cut..]);
        let echo = Echo::parse(&client.response_to("POST").expect(200).body);
        assert_eq!((echo.target.as_str(), echo.hash), ("/2", hash_of(b"two")), "cut at {cut}");
    }
}

fn a_quick_one_waits_for_a_slow_one(engine: Engine) {
    let (slow, quick) = (Origin::named("slow"), Origin::named("quick"));
    let proxy =
        TestProxy::builder(engine).route("/slow", &[slow.addr()], "").route("/", &[quick.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET /slow/hold HTTP/1.1\r\nHost: a\r\n\r\nGET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for("the slow request to be held", || if slow.held() == 1 { Ok(()) } else { Err(()) });
    client.set_patience(Duration::from_millis(100));
    assert!(client.any_head("GET").is_err(), "an answer before the first one");
    client.set_patience(crate::support::PATIENCE);
    slow.release();
    assert_eq!(Echo::parse(&client.response().expect(200).body).origin, "slow");
    assert_eq!(Echo::parse(&client.response().expect(200).body).origin, "quick");
}

/// What comes behind a request that ends the connection is not looked at.
fn nothing_after_connection_close(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    for last in ["GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET /2 HTTP/1.0\r\n\r\n"] {
        let before = origin.requests();
        let mut client = Client::connect(proxy.addr());
        client.send(format!("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n{last}GET /3 HTTP/1.1\r\nHost: a\r\n\r\n"));
        for target in ["/1", "/2"] {
            assert_eq!(Echo::parse(&client.response().expect(200).body).target, target);
        }
        client.end().expect("nothing more");
        assert_eq!(origin.requests(), before + 2);
    }
}

on_both_engines!(
    many_in_one_write,
    with_bodies_of_all_kinds,
    with_large_bodies,
    cut_anywhere,
    a_quick_one_waits_for_a_slow_one,
    nothing_after_connection_close,
);

on_native_over_tls!(
    many_in_one_write,
    with_bodies_of_all_kinds,
    with_large_bodies,
    cut_anywhere,
    a_quick_one_waits_for_a_slow_one,
    nothing_after_connection_close,
);
