//! Trailers: fields behind a chunked body pass both ways, behind the body they came with, unless they claim what only a
//! head may say.

use std::sync::{Arc, Mutex};

use crate::support::engines::on_native;
use crate::support::wire::{Fields, chunk};
use crate::support::{Client, Echo, Engine, Framing, Origin, ScriptedBackend, TestProxy, send_once};

/// The end of a chunked body with trailers, of which these two pass.
const END: &str = "0\r\nX-Sum: abc\r\nContent-Length: 7\r\nTransfer-Encoding: gzip\r\nHost: evil.test\r\n\
    Set-Cookie: a=1\r\nX-Forwarded-For: 192.0.2.1\r\nx_forwarded_for: 192.0.2.2\r\nX-Named: 1\r\n\
    Content_Length: 8\r\nAuthorization: Basic eDp5\r\nConnection: close\r\nTrailer: X-Sum\r\n\
    Grpc-Status: 0\r\nX-Sum: def\r\n\r\n";

#[track_caller]
fn expect_those_that_pass(trailers: &Fields) {
    assert_eq!(trailers.all("x-sum"), ["abc", "def"]);
    assert_eq!(trailers.all("grpc-status"), ["0"]);
    assert_eq!(trailers.names(), ["grpc-status", "x-sum"]);
}

/// An answer with trailers, in one piece or byte by byte.
fn with_trailers(byte_by_byte: bool) -> ScriptedBackend {
    ScriptedBackend::per_request(move |conn, request| {
        if request.target == "/next" {
            return conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"]);
        }
        let head =
            "HTTP/1.1 200 OK\r\nX-Head: 1\r\nConnection: X-Named\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = [head.as_bytes(), &chunk(b"hello "), &chunk(b"world"), END.as_bytes()].concat();
        let size = if byte_by_byte { 1 } else { answer.len() };
        answer.chunks(size).try_for_each(|piece| conn.send(piece))
    })
}

fn trailers_of_an_answer_pass_behind_it(engine: Engine) {
    for byte_by_byte in [false, true] {
        let backend = with_trailers(byte_by_byte);
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let mut client = Client::connect(proxy.addr());
        for _ in 0..3 {
            client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
            let response = client.response().expect(200);
            assert_eq!(response.text(), "hello world");
            assert_eq!(response.head.framing, Framing::Chunked);
            expect_those_that_pass(client.trailers());
            let fields = response.fields();
            for name in ["x-sum", "grpc-status", "set-cookie", "x-named"] {
                assert!(!fields.has(name), "{name} is in the head: {fields:?}");
            }
            client.get("/next").expect(200);
        }
        assert_eq!(backend.connections(), 1, "the connection can be used again behind trailers");
    }
}

fn trailers_of_a_request_pass_behind_it(engine: Engine) {
    for length in [5, 300_000] {
        for byte_by_byte in [false, true] {
            let seen = Arc::new(Mutex::new(None));
            let store = Arc::clone(&seen);
            let backend = ScriptedBackend::per_request(move |conn, request| {
                let length = conn.body(request)?.len();
                *store.lock().unwrap() = Some((request.clone(), length, conn.trailers().clone()));
                conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"])
            });
            let proxy = TestProxy::to(engine, &[backend.addr()], "");
            let mut client = Client::connect(proxy.addr());
            client.send(
                "POST / HTTP/1.1\r\nHost: proxy.test\r\nConnection: X-Named\r\nTransfer-Encoding: chunked\r\n\r\n",
            );
            client.send(chunk(&vec![b'b'; length]));
            let size = if byte_by_byte { 1 } else { END.len() };
            END.as_bytes().chunks(size).for_each(|piece| client.send(piece));
            client.response_to("POST").expect(200);
            let (request, received, trailers) = seen.lock().unwrap().take().expect("a request");
            assert_eq!(received, length);
            assert_eq!(request.framing(), Framing::Chunked);
            expect_those_that_pass(&trailers);
            for name in ["x-sum", "grpc-status", "set-cookie", "x-named", "authorization"] {
                assert!(!request.fields.has(name), "{name} is in the head: {:?}", request.fields);
            }
            client.get("/").expect(200);
        }
    }
}

/// Both directions at once, and the connections go on.
fn trailers_pass_both_ways(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        conn.body(request)?;
        let sum = conn.trailers().one("x-sum").unwrap_or_default();
        conn.send_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"])?;
        conn.send(format!("0\r\nX-Echo: {sum}\r\n\r\n").as_bytes())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for number in 0..5 {
        client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("1\r\nx\r\n0\r\nX-Sum: {number}\r\n\r\n"));
        assert_eq!(client.response_to("POST").expect(200).body, b"");
        assert_eq!(client.trailers().one("x-echo"), Some(number.to_string()));
    }
    assert_eq!(backend.connections(), 1);
}

fn that_a_client_takes_trailers_is_passed_on(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let seen = |fields: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: proxy.test\r\n{fields}\r\n");
        let echo = Echo::parse(&send_once(proxy.addr(), request).expect(200).body);
        (echo.fields.all("te"), echo.fields.all("connection").join(", ").to_lowercase())
    };
    let passed = (vec!["trailers".to_owned()], "te".to_owned());
    assert_eq!(seen("TE: trailers\r\nConnection: TE\r\n"), passed);
    assert_eq!(seen("TE: gzip, Trailers\r\nConnection: te, close\r\n"), passed);
    let nothing = (Vec::new(), String::new());
    assert_eq!(seen(""), nothing);
    assert_eq!(seen("TE: gzip\r\nConnection: TE\r\n"), nothing);
}

fn an_old_client_gets_no_trailers(engine: Engine) {
    let backend = with_trailers(false);
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.0\r\nHost: proxy.test\r\n\r\n");
    let response = client.response().expect(200);
    assert_eq!(response.head.framing, Framing::UntilClose);
    assert_eq!(response.text(), "hello world");
    assert!(!response.fields().has("x-sum") && !response.fields().has("grpc-status"));
}

on_native!(
    trailers_of_an_answer_pass_behind_it,
    trailers_of_a_request_pass_behind_it,
    trailers_pass_both_ways,
    that_a_client_takes_trailers_is_passed_on,
    an_old_client_gets_no_trailers,
);
