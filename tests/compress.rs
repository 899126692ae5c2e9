//! `compress`: which answers become gzip, for whom, and that they arrive as they are sent, whole or not at all.

use std::io::Write;

use flate2::write::GzDecoder;

use crate::support::engines::on_both_engines;
use crate::support::wire::{Body, Fields, LAST_CHUNK, chunk};
use crate::support::{
    Client, Engine, Framing, Gate, Response, ScriptedBackend, TestProxy, pattern, wait_for,
};

/// What the backends of this file answer with, unless a test says otherwise: JSON of 4 KB.
fn json() -> String {
    let entry = |n: u32| format!("{{\"number\": {n}, \"name\": \"entry {n}\"}}");
    format!("[{}]", (0..100).map(entry).collect::<Vec<_>>().join(", "))
}

/// A backend that sends these lines behind its status line, and then JSON, to HEAD as well as it should.
fn backend(lines: &'static str) -> ScriptedBackend {
    ScriptedBackend::per_request(move |conn, request| {
        let body = json();
        let status = if lines.contains("Content-Range") { "206 Partial Content" } else { "200 OK" };
        conn.send(format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {}\r\n\r\n", body.len()).as_bytes())?;
        if request.method == "HEAD" { Ok(()) } else { conn.send(body.as_bytes()) }
    })
}

fn ask(proxy: &TestProxy, request: &str) -> Response {
    let method = request.split(' ').next().expect("a method").to_owned();
    let (line, fields) = request.split_once('\n').unwrap_or((request, ""));
    let mut client = Client::connect(proxy.addr());
    client.send(format!("{line}\r\nHost: proxy.test\r\n{fields}\r\n"));
    client.response_to(&method)
}

const GZIP: &str = "GET / HTTP/1.1\nAccept-Encoding: gzip\r\n";

/// What a whole gzip file has in it.
pub(crate) fn unzipped(coded: &[u8]) -> Vec<u8> {
    let mut decoder = GzDecoder::new(Vec::new());
    decoder.write_all(coded).expect("gzip");
    // That the end is missing, it says here.
    decoder.finish().expect("a whole gzip file")
}

#[track_caller]
fn expect_fields(fields: &Fields, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        assert_eq!(fields.one(name).as_deref(), *value, "{name} in {fields:?}");
    }
}

fn an_answer_is_compressed(engine: Engine) {
    let backend = backend(
        "Content-Type: application/json\r\nETag: \"a\"\r\nVary: Origin\r\nAccept-Ranges: bytes\r\n\
         Content-Digest: sha-256=:YQ==:\r\nX-Other: b\r\n",
    );
    let proxy = TestProxy::to(engine, &[backend.addr()], "compress = true");
    let of_gzip = [
        ("content-encoding", Some("gzip")),
        ("vary", Some("Origin, Accept-Encoding")),
        ("etag", Some("W/\"a\"")),
        ("content-length", None),
        ("accept-ranges", None),
        ("content-digest", None),
        ("x-other", Some("b")),
    ];
    let response = ask(&proxy, GZIP).expect(200);
    assert_eq!(response.head.framing, Framing::Chunked);
    expect_fields(response.fields(), &of_gzip);
    assert!(response.body.len() < json().len() / 4, "{} bytes", response.body.len());
    assert_eq!(unzipped(&response.body), json().as_bytes());
    // The fields that HEAD gets are those of GET.
    let head = ask(&proxy, &GZIP.replace("GET", "HEAD")).expect(200);
    expect_fields(head.fields(), &of_gzip);
    assert!(head.body.is_empty());
    let length = json().len().to_string();
    for method in ["GET", "HEAD"] {
        for accepts in ["", "Accept-Encoding: br, gzip;q=0\r\n", "Accept-Encoding: gzip;q=0.5, identity\r\n"]
        {
            let response = ask(&proxy, &format!("{method} / HTTP/1.1\n{accepts}")).expect(200);
            let of_plain = [
                ("content-encoding", None),
                ("vary", Some("Origin, Accept-Encoding")),
                ("etag", Some("\"a\"")),
                ("content-length", Some(&*length)),
                ("accept-ranges", Some("bytes")),
                ("content-digest", Some("sha-256=:YQ==:")),
            ];
            expect_fields(response.fields(), &of_plain);
            assert_eq!(response.text(), if method == "GET" { json() } else { String::new() });
        }
    }
    // Without chunks, only the end of the connection would say that the answer is whole.
    let old = ask(&proxy, "GET / HTTP/1.0\nAccept-Encoding: gzip\r\n").expect(200);
    expect_fields(old.fields(), &[("content-encoding", None), ("content-length", Some(&*length))]);
}

fn an_answer_stays_as_it_is(engine: Engine) {
    for (lines, keys, vary) in [
        ("Content-Type: image/png\r\n", "compress = true", None),
        ("", "compress = true", None),
        ("Content-Type: text/html\r\nContent-Encoding: br\r\n", "compress = true", None),
        ("Content-Type: text/html\r\nCache-Control: no-transform\r\n", "compress = true", None),
        ("Content-Type: text/html\r\nContent-Range: bytes 0-1/2\r\n", "compress = true", None),
        ("Content-Type: text/html\r\n", "", None),
        ("Content-Type: text/html\r\n", "compress = false", None),
        ("Content-Type: text/html\r\n", "compress = { min_bytes = 1000000 }", None),
        ("Content-Type: text/html\r\n", "compress = { types = [\"+json\"] }", None),
        (
            "Content-Type: text/html\r\n",
            "compress = true\nresponse_headers = { set = { Cache-Control = \"no-transform\" } }",
            None,
        ),
        (
            "Content-Type: text/html\r\n",
            "compress = true\n[server]\nmax_compressing = 0",
            Some("Accept-Encoding"),
        ),
    ] {
        let backend = backend(lines);
        let (keys, server) = keys.split_once("\n[server]\n").unwrap_or((keys, ""));
        let proxy = TestProxy::builder(engine).server(server).route("/", &[backend.addr()], keys).start();
        for method in ["GET", "HEAD"] {
            if method == "HEAD" && vary.is_some() {
                // What it would be, if there were room.
                continue;
            }
            let response = ask(&proxy, &GZIP.replace("GET", method));
            let coding = lines.contains("br").then_some("br");
            expect_fields(response.fields(), &[("content-encoding", coding), ("vary", vary)]);
            assert!(response.fields().has("content-length"), "{lines:?} {keys:?}");
            assert_eq!(response.text(), if method == "GET" { json() } else { String::new() });
        }
    }
}

fn nothing_comes_with_a_204_or_a_304(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        let is_known = request.fields.one("if-none-match").as_deref() == Some("W/\"a\"");
        let status = if is_known { "304 Not Modified" } else { "204 No Content" };
        conn.send_head(&[&format!("HTTP/1.1 {status}"), "ETag: \"a\"", "Content-Type: text/html"])
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "compress = true");
    let response = ask(&proxy, GZIP).expect(204);
    expect_fields(response.fields(), &[("etag", Some("\"a\"")), ("content-encoding", None), ("vary", None)]);
    // The tag passes as the client has it, both ways.
    let response = ask(&proxy, &format!("{GZIP}If-None-Match: W/\"a\"\r\n")).expect(304);
    let expected = [("etag", Some("W/\"a\"")), ("content-encoding", None), ("vary", Some("Accept-Encoding"))];
    expect_fields(response.fields(), &expected);
}

/// Server-sent events: the next one is sent only when the client has the one before.
fn each_piece_arrives_at_once(engine: Engine) {
    const EVENTS: usize = 20;
    for framing in ["Transfer-Encoding: chunked\r\n", "Content-Length: 10000\r\n", "Connection: close\r\n"] {
        let gates: Vec<Gate> = (0..EVENTS).map(|_| Gate::new()).collect();
        let opened = gates.clone();
        let event = |n: usize| format!("data: event {n} {}\n\n", "x".repeat(n * 7));
        let backend = ScriptedBackend::per_connection(move |mut conn| {
            conn.request()?;
            conn.send(
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n").as_bytes(),
            )?;
            let is_chunked = framing.contains("chunked");
            for (n, gate) in opened.iter().enumerate() {
                let event = event(n);
                if is_chunked {
                    conn.send(&chunk(event.as_bytes()))?;
                } else {
                    conn.send(event.as_bytes())?;
                }
                gate.wait("the client to have the event");
            }
            let sent: usize = (0..EVENTS).map(|n| event(n).len()).sum();
            match framing {
                "Connection: close\r\n" => Ok(()),
                _ if is_chunked => conn.send(LAST_CHUNK),
                _ => conn.send(" ".repeat(10_000 - sent).as_bytes()),
            }
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "compress = true");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\nAccept-Encoding: gzip\r\n\r\n");
        let head = client.head("GET");
        assert_eq!(head.fields.one("content-encoding").as_deref(), Some("gzip"));
        let (mut body, mut decoder, mut expected) =
            (Body::new(head.framing), GzDecoder::new(Vec::new()), String::new());
        for (n, gate) in gates.iter().enumerate() {
            expected.push_str(&event(n));
            while decoder.get_ref().len() < expected.len() {
                let piece = client.piece(&mut body).expect("the event before the next one is sent");
                decoder.write_all(&piece.expect("more events")).expect("gzip");
                decoder.flush().expect("gzip");
            }
            assert_eq!(String::from_utf8_lossy(decoder.get_ref()), expected);
            gate.open();
        }
        while let Some(piece) = client.piece(&mut body).expect("the rest") {
            decoder.write_all(&piece).expect("gzip");
        }
        let whole = decoder.finish().expect("a whole gzip file");
        assert_eq!(String::from_utf8_lossy(&whole).trim_end(), expected.trim_end());
    }
}

fn large_answers_are_whole(engine: Engine) {
    // Half of it can be compressed, half of it cannot.
    let text: Vec<u8> = json().into_bytes().into_iter().cycle().take(1_500_000).collect();
    let content = [text, pattern(7, 1_500_000)].concat();
    let sent = content.clone();
    let backend = ScriptedBackend::per_request(move |conn, request| {
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")?;
        if request.target == "/length" {
            conn.send(format!("Content-Length: {}\r\n\r\n", sent.len()).as_bytes())?;
            return conn.send(&sent);
        }
        conn.send(b"Transfer-Encoding: chunked\r\n\r\n")?;
        sent.chunks(70_001).try_for_each(|piece| conn.send(&chunk(piece)))?;
        conn.send(LAST_CHUNK)
    });
    for level in [1, 5, 9] {
        let proxy = TestProxy::to(engine, &[backend.addr()], &format!("compress = {{ level = {level} }}"));
        let mut client = Client::connect(proxy.addr());
        for target in ["/length", "/chunked", "/length"] {
            client
                .send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\nAccept-Encoding: gzip\r\n\r\n"));
            let response = client.response().expect(200);
            assert!(response.body.len() < content.len() * 2 / 3, "{} bytes", response.body.len());
            assert!(unzipped(&response.body) == content, "level {level}, {target}: another content");
        }
        proxy.expect_idle();
    }
}

/// What comes with the head waits for other turns at the highest level. What follows it is no answer to anything.
fn what_comes_at_once_is_not_more_than_the_answer(engine: Engine) {
    for (beyond, connections) in [("", 1), ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 3)] {
        // At this level, four turns: what is beyond it is left when the last of them is over.
        let body = json().repeat(5)[..16 * 1024].to_owned();
        let sent = body.clone();
        let backend = ScriptedBackend::per_request(move |conn, _| {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}", sent.len());
            conn.send(format!("{head}\r\n\r\n{sent}{beyond}").as_bytes())
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "compress = { level = 9 }");
        let mut client = Client::connect(proxy.addr());
        for _ in 0..3 {
            client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\nAccept-Encoding: gzip\r\n\r\n");
            let response = client.response().expect(200);
            assert_eq!(String::from_utf8_lossy(&unzipped(&response.body)), body);
        }
        assert_eq!(backend.connections(), connections, "{beyond:?}");
    }
}

fn an_answer_that_breaks_off_has_no_end(engine: Engine) {
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 100000"] {
        let seen = Gate::new();
        let gate = seen.clone();
        let backend = ScriptedBackend::per_connection(move |mut conn| {
            conn.request()?;
            conn.send_head(&["HTTP/1.1 200 OK", "Content-Type: text/plain", framing])?;
            let first = if framing.contains("chunked") { chunk(b"first") } else { b"first".to_vec() };
            conn.send(&first)?;
            gate.wait("the client to have the beginning");
            Ok(())
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "compress = true");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\nAccept-Encoding: gzip\r\n\r\n");
        let head = client.head("GET");
        let (mut body, mut decoder) = (Body::new(head.framing), GzDecoder::new(Vec::new()));
        while decoder.get_ref() != b"first" {
            let piece = client.piece(&mut body).expect("the beginning").expect("the beginning");
            decoder.write_all(&piece).expect("gzip");
            decoder.flush().expect("gzip");
        }
        // What tiny_http has not ended stays open: see `broken_answers`.
        client.set_patience(std::time::Duration::from_millis(500));
        seen.open();
        loop {
            match client.piece(&mut body) {
                Ok(Some(piece)) => decoder.write_all(&piece).expect("gzip"),
                Ok(None) => panic!("{framing}: the answer looks whole"),
                Err(_) => break,
            }
        }
        assert_eq!(decoder.get_ref(), b"first");
        decoder.finish().expect_err("the gzip file looks whole");
    }
}

fn trailers_pass_but_those_about_the_bytes(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, _| {
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Type: text/plain", "Transfer-Encoding: chunked"])?;
        conn.send(&chunk(b"hello"))?;
        conn.send(b"0\r\nX-Sum: 7\r\nContent-Digest: sha-256=:YQ==:\r\nETag: \"a\"\r\n\r\n")
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "compress = true");
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\nTE: trailers\r\nConnection: TE\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!(unzipped(&client.response().expect(200).body), b"hello");
    assert_eq!(client.trailers().names(), ["x-sum"]);
    // They are right where the bytes are the same.
    assert_eq!(client.get("/").expect(200).text(), "hello");
    assert_eq!(client.trailers().names(), ["content-digest", "etag", "x-sum"]);
}

fn no_more_at_once_than_max_compressing(engine: Engine) {
    let release = Gate::new();
    let gate = release.clone();
    let backend = ScriptedBackend::per_request(move |conn, request| {
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Type: text/plain", "Transfer-Encoding: chunked"])?;
        conn.send(&chunk(b"hello"))?;
        if request.target == "/held" {
            gate.wait("the test to release the answer");
        }
        conn.send(LAST_CHUNK)
    });
    let proxy = TestProxy::builder(engine)
        .server("max_compressing = 1")
        .route("/", &[backend.addr()], "compress = true")
        .start();
    let mut first = Client::connect(proxy.addr());
    first.send("GET /held HTTP/1.1\r\nHost: proxy.test\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = first.head("GET");
    assert!(head.fields.has("content-encoding"));
    let response = ask(&proxy, GZIP).expect(200);
    expect_fields(response.fields(), &[("content-encoding", None), ("vary", Some("Accept-Encoding"))]);
    assert_eq!(response.text(), "hello");
    release.open();
    assert_eq!(unzipped(&first.rest(&head).expect("the rest")), b"hello");
    wait_for("its place to be free again", || {
        let response = ask(&proxy, GZIP).expect(200);
        if response.fields().has("content-encoding") { Ok(()) } else { Err(response) }
    });
}

fn who_leaves_gives_the_place_back(engine: Engine) {
    let left = Gate::new();
    let gate = left.clone();
    let backend = ScriptedBackend::per_request(move |conn, request| {
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Type: text/plain", "Transfer-Encoding: chunked"])?;
        conn.send(&chunk(b"hello"))?;
        if request.target == "/held" {
            gate.wait("the test to be over");
        }
        conn.send(LAST_CHUNK)
    });
    let proxy = TestProxy::builder(engine)
        .server("max_compressing = 1")
        .route("/", &[backend.addr()], "compress = true")
        .start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET /held HTTP/1.1\r\nHost: proxy.test\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(client.head("GET").fields.has("content-encoding"));
    client.leave(true);
    wait_for("its place to be free again", || {
        let response = ask(&proxy, GZIP).expect(200);
        if response.fields().has("content-encoding") { Ok(()) } else { Err(response) }
    });
    left.open();
}

on_both_engines!(
    an_answer_is_compressed,
    an_answer_stays_as_it_is,
    nothing_comes_with_a_204_or_a_304,
    each_piece_arrives_at_once,
    large_answers_are_whole,
    what_comes_at_once_is_not_more_than_the_answer,
    an_answer_that_breaks_off_has_no_end,
    trailers_pass_but_those_about_the_bytes,
    no_more_at_once_than_max_compressing,
    who_leaves_gives_the_place_back,
);
