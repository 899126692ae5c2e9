//! Methods, and bodies with any of them.

use crate::support::engines::on_both_engines;
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{Client, Echo, Engine, Framing, Origin, ScriptedBackend, TestProxy, hash_of, pattern};

fn any_method_passes(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for method in ["GET", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH", "FROBNICATE", "get"] {
        client.send(format!("{method} /x HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        let echo = Echo::parse(&client.response_to(method).expect(200).body);
        assert_eq!(echo.method, method);
        assert_eq!(echo.framing, "none", "{method} without a body");
    }
}

fn any_method_may_have_a_body(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for method in ["GET", "DELETE", "OPTIONS", "POST", "PUT", "PATCH", "REPORT"] {
        for length in [0, 1, 1000, 5000] {
            let body = pattern(length as u64, length);
            client
                .send(format!("{method} / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {length}\r\n\r\n"));
            client.send(&body);
            let echo = Echo::parse(&client.response_to(method).expect(200).body);
            assert_eq!((echo.method.as_str(), echo.hash), (method, hash_of(&body)));
            let framing = format!("length {length}");
            let none = length == 0 && echo.framing == "none" && method != "POST" && method != "PUT";
            assert!(none || echo.framing == framing, "{method} of {length} bytes: {}", echo.framing);
        }
        client.send(format!("{method} / HTTP/1.1\r\nHost: proxy.test\r\nTransfer-Encoding: chunked\r\n\r\n"));
        client.send([&chunk(b"one "), &chunk(b"two"), LAST_CHUNK].concat());
        let echo = Echo::parse(&client.response_to(method).expect(200).body);
        assert_eq!((echo.method.as_str(), echo.hash), (method, hash_of(b"one two")));
        assert_ne!(echo.framing, "none");
    }
}

fn an_empty_post_stays_empty(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for framing in ["Content-Length: 0\r\n", ""] {
        client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{framing}\r\n"));
        let echo = Echo::parse(&client.response_to("POST").expect(200).body);
        assert_eq!(echo.hash, hash_of(b""));
        assert!(echo.framing == "length 0" || echo.framing == "none", "{}", echo.framing);
    }
}

fn head_has_fields_but_no_body(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        let framing = match request.target.as_str() {
            "/chunked" => "Transfer-Encoding: chunked",
            _ => "Content-Length: 1234",
        };
        conn.send_head(&["HTTP/1.1 200 OK", framing, &format!("X-Method: {}", request.method)])?;
        match (request.method.as_str(), request.target.as_str()) {
            ("HEAD", _) => Ok(()),
            (_, "/chunked") => conn.send(b"2\r\nok\r\n0\r\n\r\n"),
            _ => conn.send(&[b'x'; 1234]),
        }
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..3 {
        for target in ["/length", "/chunked"] {
            client.send(format!("HEAD {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
            let head = client.response_to("HEAD").expect(200);
            assert_eq!(head.fields().all("x-method"), ["HEAD"]);
            if target == "/length" {
                assert_eq!(head.fields().all("content-length"), ["1234"]);
            }
            let body = client.get(target).expect(200).body;
            assert_eq!(
                body.len(),
                if target == "/length" { 1234 } else { 2 },
                "what follows is the next answer"
            );
        }
    }
    assert!(backend.connections() < 12, "backend connections are used again after HEAD");
}

fn a_failed_head_has_no_body_either(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).route("/here", &[origin.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    client.send("HEAD /nowhere HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    client.response_to("HEAD").expect_failure(404, "no_route");
    assert_eq!(Echo::parse(&client.get("/here").expect(200).body).target, "/here");
}

fn a_connection_carries_one_request_after_another(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for number in 0..100 {
        let response = client.get(&format!("/{number}")).expect(200);
        assert_ne!(response.head.framing, Framing::UntilClose);
        assert_eq!(Echo::parse(&response.body).target, format!("/{number}"));
    }
    assert!(origin.connections() < 50, "{} backend connections for 100 requests", origin.connections());
}

fn connection_close_is_honoured(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\nConnection: close\r\n\r\n");
    client.response().expect(200);
    client.end().expect("the connection to be closed after the answer");
}

/// How many more proxies a request may pass counts for TRACE and OPTIONS alone.
fn max_forwards_is_counted_down(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for (method, sent, received) in [
        ("TRACE", "5", "4"),
        ("OPTIONS", "1", "0"),
        ("OPTIONS", "100", "99"),
        ("TRACE", "many", "many"),
        ("GET", "5", "5"),
        ("GET", "0", "0"),
        ("PURGE", "1", "1"),
        ("DELETE", "x", "x"),
    ] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: proxy.test\r\nMax-Forwards: {sent}\r\n\r\n"));
        let echo = Echo::parse(&client.response_to(method).expect(200).body);
        assert_eq!(echo.fields.one("max-forwards").as_deref(), Some(received), "{method} {sent}");
    }
}

fn a_request_that_may_go_no_further_is_answered(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).route("/here", &[origin.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    for target in ["/here", "*", "/nowhere"] {
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: proxy.test\r\nMax-Forwards: 0\r\n\r\n"));
        let response = client.response_to("OPTIONS").expect(200);
        let allow = response.fields().one("allow").expect("Allow");
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            assert!(allow.split(", ").any(|allowed| allowed == method), "Allow: {allow}");
        }
        assert_eq!(response.head.framing, Framing::Length(0));
    }
    client.send(
        "TRACE /here?x=1 HTTP/1.1\r\nHost: proxy.test\r\nMax-Forwards: 0\r\nX-Mine: 1\r\nCookie: secret=1\r\n\
         Authorization: Basic secret\r\nProxy-Authorization: Basic secret\r\nX-Mine: 2\r\n\r\n",
    );
    let response = client.response_to("TRACE").expect(200);
    assert_eq!(response.fields().one("content-type").as_deref(), Some("message/http"));
    let text = response.text();
    assert!(text.starts_with("TRACE /here?x=1 HTTP/1.1\r\n") && text.ends_with("\r\n\r\n"), "{text:?}");
    let lower = text.to_lowercase();
    assert!(lower.contains("x-mine: 1\r\n") && lower.contains("x-mine: 2\r\n"), "{text:?}");
    for secret in ["secret", "cookie", "authorization"] {
        assert!(!lower.contains(secret), "it shows {secret}: {text:?}");
    }
    assert_eq!(origin.connections(), 0, "no backend hears of it");
    client.get("/here").expect(200);
}

on_both_engines!(
    max_forwards_is_counted_down,
    a_request_that_may_go_no_further_is_answered,
    any_method_passes,
    any_method_may_have_a_body,
    an_empty_post_stays_empty,
    head_has_fields_but_no_body,
    a_failed_head_has_no_body_either,
    a_connection_carries_one_request_after_another,
    connection_close_is_honoured,
);
