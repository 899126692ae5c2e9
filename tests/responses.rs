//! What a client gets to see of an answer: status, fields and body of the backend, framed for this client.

use crate::support::engines::on_both_engines;
use crate::support::{Client, Engine, Framing, Response, ScriptedBackend, TestProxy, get, send_once};

/// What the backend's answer (LF for CRLF, up to the body) becomes for a GET.
#[track_caller]
fn passed(engine: Engine, head: &str, body: &[u8]) -> Response {
    let backend = ScriptedBackend::answering(answer(head, body));
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let response = get(proxy.addr(), "/");
    proxy.expect_idle();
    response
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let lines: Vec<&str> = head.split('\n').map(str::trim).collect();
    let mut bytes = format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn end_to_end_fields_pass_unchanged(engine: Engine) {
    let response = passed(
        engine,
        "HTTP/1.1 200 OK
        Server: origin/1.0
        Date: Thu, 01 Jan 1970 00:00:00 GMT
        Content-Type: text/html; charset=utf-8
        Cache-Control: no-cache
        Cache-Control: max-age=0, private
        ETag: W/\"x\"
        X-Empty:
        Content-Length: 5",
        b"hello",
    )
    .expect(200);
    assert_eq!(response.body, b"hello");
    let fields = response.fields();
    assert_eq!(fields.all("server"), ["origin/1.0"]);
    assert_eq!(fields.all("date"), ["Thu, 01 Jan 1970 00:00:00 GMT"]);
    assert_eq!(fields.all("content-type"), ["text/html; charset=utf-8"]);
    assert_eq!(fields.all("cache-control"), ["no-cache", "max-age=0, private"]);
    assert_eq!(fields.all("etag"), ["W/\"x\""]);
    assert_eq!(fields.all("x-empty"), [""]);
    assert_eq!(fields.all("content-length"), ["5"], "a known length stays known");
}

fn nothing_else_is_added(engine: Engine) {
    let response = passed(engine, "HTTP/1.1 200 OK\nX-Mine: 1\nContent-Length: 2", b"ok").expect(200);
    let of_the_connection = ["connection", "date", "keep-alive"];
    let mut names = response.fields().names();
    names.retain(|name| !of_the_connection.contains(&name.as_str()));
    assert_eq!(names, ["content-length", "x-mine", "x-request-id"]);
}

fn hop_by_hop_fields_are_removed(engine: Engine) {
    let response = passed(
        engine,
        "HTTP/1.1 200 OK
        Connection: x-one
        X-One: 1
        X-Two: 2
        X-Three: 3
        Connection: keep-alive, X-Two
        Keep-Alive: timeout=77
        Proxy-Connection: keep-alive
        Proxy-Authenticate: Basic
        TE: trailers
        Trailer: X-Sum
        Upgrade: h2c
        Content-Length: 2",
        b"ok",
    )
    .expect(200);
    let fields = response.fields();
    for name in ["x-one", "x-two", "proxy-connection", "proxy-authenticate", "te", "trailer", "upgrade"] {
        assert!(!fields.has(name), "{name} came through: {fields:?}");
    }
    assert!(!fields.all("keep-alive").contains(&"timeout=77".to_owned()));
    assert!(!fields.all("connection").join(",").to_lowercase().contains("x-"));
    assert_eq!(fields.all("x-three"), ["3"]);
}

fn cookies_stay_separate_and_in_order(engine: Engine) {
    let response = passed(
        engine,
        "HTTP/1.1 200 OK
        Set-Cookie: b=2; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT
        Set-Cookie: a=1
        X-Between: 1
        Set-Cookie: b=3; HttpOnly
        Content-Length: 0",
        b"",
    )
    .expect(200);
    let cookies = response.fields().all("set-cookie");
    assert_eq!(cookies, ["b=2; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "a=1", "b=3; HttpOnly"]);
}

fn bytes_beyond_ascii_pass_to_the_client(engine: Engine) {
    let answer = b"HTTP/1.1 200 OK\r\nX-Name: J\xf6rg \xff\r\nContent-Length: 0\r\n\r\n";
    let backend = ScriptedBackend::answering(&answer[..]);
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let response = get(proxy.addr(), "/").expect(200);
    assert_eq!(response.fields().all("x-name"), ["J\u{f6}rg \u{ff}"], "one character a byte");
}

fn encoded_bodies_are_not_touched(engine: Engine) {
    // Begins like gzip and is none: whoever decodes it fails.
    let body = b"\x1f\x8b\x08\x00 not really compressed \x00\xff";
    let head = format!("HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: {}", body.len());
    let response = passed(engine, &head, body).expect(200);
    assert_eq!(response.body, body);
    assert_eq!(response.fields().all("content-encoding"), ["gzip"]);
}

fn every_status_passes(engine: Engine) {
    let statuses =
        [200, 201, 202, 206, 226, 299, 300, 400, 401, 403, 404, 410, 418, 429, 451, 500, 502, 503, 599];
    let backend = ScriptedBackend::per_request(|conn, request| {
        let status = request.target.trim_start_matches('/').to_owned();
        conn.send_head(&[&format!("HTTP/1.1 {status} Some words"), "Content-Length: 4"])?;
        conn.send(b"body")
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for status in statuses {
        let response = client.get(&format!("/{status}")).expect(status);
        assert_eq!(response.body, b"body", "of status {status}");
        assert!(!response.fields().has("proxy-status"), "the backend's own {status} is not the proxy's");
    }
}

fn redirects_are_the_clients_business(engine: Engine) {
    let other = ScriptedBackend::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://{}/elsewhere", other.addr());
        let head = format!("HTTP/1.1 {status} Moved\nLocation: {location}\nContent-Length: 4");
        let response = passed(engine, &head, b"here").expect(status);
        assert_eq!(response.fields().all("location"), [location]);
        assert_eq!(response.body, b"here");
    }
    assert_eq!(other.connections(), 0, "the proxy followed a redirect");
}

fn answers_without_a_body_have_none(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| match request.target.as_str() {
        "/204" => conn.send_head(&["HTTP/1.1 204 No Content", "X-Mine: 1"]),
        "/304" => conn.send_head(&["HTTP/1.1 304 Not Modified", "ETag: \"x\"", "Content-Length: 1234"]),
        _ => {
            conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 4"])?;
            conn.send(b"next")
        }
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..3 {
        let response = client.get("/204").expect(204);
        assert_eq!(response.fields().all("x-mine"), ["1"]);
        assert!(!response.fields().has("transfer-encoding"), "RFC 9112 §6.1 forbids it with 204");
        assert!(!response.fields().has("content-length"), "RFC 9110 §8.6 forbids it with 204");
        assert_eq!(client.get("/200").expect(200).body, b"next", "what follows is the next answer");
        let response = client.get("/304").expect(304);
        assert_eq!(response.fields().all("etag"), ["\"x\""]);
        assert!(!response.fields().has("transfer-encoding"));
        let lengths = response.fields().all("content-length");
        assert!(lengths.is_empty() || lengths == ["1234"], "{lengths:?}");
        assert_eq!(client.get("/200").expect(200).body, b"next", "what follows is the next answer");
    }
}

fn interim_answers_do_not_end_the_exchange(engine: Engine) {
    let head =
        "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nLink: </x>\n\nHTTP/1.1 200 OK\nContent-Length: 5";
    let response = passed(engine, head, b"final").expect(200);
    assert_eq!(response.body, b"final");
}

fn a_body_of_unknown_length_is_framed_anew(engine: Engine) {
    let chunked = b"5\r\nhello\r\n1;ext=1\r\n \r\n5\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\n";
    let response = passed(engine, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked", chunked).expect(200);
    assert_eq!(response.text(), "hello world");
    assert_eq!(response.head.framing, Framing::Chunked);

    for version in ["1.0", "1.1"] {
        let head = format!("HTTP/{version} 200 OK\r\nConnection: close\r\n\r\n");
        let backend = ScriptedBackend::per_connection(move |mut conn| {
            conn.request()?;
            conn.send(head.as_bytes())?;
            conn.send(b"until ")?;
            conn.send(b"close")
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let mut client = Client::connect(proxy.addr());
        for _ in 0..2 {
            let response = client.get("/").expect(200);
            assert_eq!(response.text(), "until close");
            assert_eq!(response.head.framing, Framing::Chunked, "the client's connection can be kept");
        }
    }
}

fn an_old_client_gets_no_chunks(engine: Engine) {
    let backend = ScriptedBackend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n",
    );
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let response = send_once(proxy.addr(), "GET / HTTP/1.0\r\nHost: proxy.test\r\n\r\n").expect(200);
    assert_ne!(response.head.framing, Framing::Chunked, "HTTP/1.0 knows no chunks");
    assert_eq!(response.text(), "old");
}

fn an_answer_is_the_same_in_any_pieces(engine: Engine) {
    let answer = "HTTP/1.1 200 OK\r\nX-Mine: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let backend = ScriptedBackend::per_request(move |conn, _| {
        for byte in answer.as_bytes() {
            conn.send(&[*byte])?;
        }
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..3 {
        let response = client.get("/").expect(200);
        assert_eq!((response.text().as_str(), response.fields().all("x-mine")), ("hello", vec!["1".into()]));
    }
}

#[track_caller]
fn expect_date_of_now(response: &Response) {
    let date = response.fields().one("date").unwrap_or_else(|| panic!("no Date: {:?}", response.head));
    let date = httpdate::parse_http_date(&date).unwrap_or_else(|error| panic!("Date {date:?}: {error}"));
    let now = std::time::SystemTime::now();
    let off = now.duration_since(date).unwrap_or_else(|error| error.duration());
    assert!(off < std::time::Duration::from_secs(60), "Date is {off:?} away from now");
}

fn an_answer_without_a_date_gets_one(engine: Engine) {
    for head in [
        "HTTP/1.1 200 OK\nContent-Length: 0",
        "HTTP/1.0 404 Not Found\nContent-Length: 0",
        "HTTP/1.1 204 No Content",
    ] {
        expect_date_of_now(&passed(engine, head, b""));
    }
    let response = passed(engine, "HTTP/1.1 200 OK\ndate: whenever\nContent-Length: 0", b"").expect(200);
    assert_eq!(response.fields().one("date").as_deref(), Some("whenever"), "the backend's own, as it came");
}

fn refusals_have_a_date(engine: Engine) {
    let dead = crate::support::DeadPort::reserve();
    let proxy = TestProxy::builder(engine).route("/dead", &[dead.addr()], "").start();
    expect_date_of_now(&get(proxy.addr(), "/nowhere").expect(404));
    expect_date_of_now(&get(proxy.addr(), "/dead").expect(502));
    expect_date_of_now(&send_once(proxy.addr(), "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").expect(400));
}

/// It says to what to upgrade, which makes it one of the few fields of a connection that are about the answer as well.
fn a_426_says_to_what(engine: Engine) {
    let head = "HTTP/1.1 426 Upgrade Required
        Connection: Upgrade, X-Hop
        Upgrade: HTTP/3.0, wire/1
        X-Hop: 1
        Content-Length: 4";
    let response = passed(engine, head, b"body").expect(426);
    assert_eq!(response.fields().one("upgrade").as_deref(), Some("HTTP/3.0, wire/1"));
    let connection = response.fields().one("connection").unwrap_or_default();
    assert_eq!(connection.to_lowercase(), "upgrade");
    assert!(!response.fields().has("x-hop"));
    assert_eq!(response.text(), "body");
}

fn reason_phrases_pass(engine: Engine) {
    for phrase in ["OK", "Everything is fine", "", "Gr\u{fc}\u{df}e \u{ff}", "a  b\tc"] {
        let mut answer = b"HTTP/1.1 200 ".to_vec();
        answer.extend(phrase.chars().map(|char| u8::try_from(char).unwrap()));
        answer.extend_from_slice(b"\r\nContent-Length: 2\r\n\r\nok");
        let backend = ScriptedBackend::answering(answer);
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let response = get(proxy.addr(), "/").expect(200);
        assert_eq!(response.head.reason, phrase, "one character a byte");
        assert_eq!(response.text(), "ok");
    }
}

fn nine_hundred_fields_pass(engine: Engine) {
    let lines: Vec<String> = (0..900).map(|number| format!("X-Field-{number}: {number}")).collect();
    let head = format!("HTTP/1.1 200 OK\n{}\nContent-Length: 2", lines.join("\n"));
    let response = passed(engine, &head, b"ok").expect(200);
    for number in 0..900 {
        assert_eq!(response.fields().one(&format!("x-field-{number}")), Some(number.to_string()));
    }
    assert_eq!(response.text(), "ok");
}

on_both_engines!(
    an_answer_without_a_date_gets_one,
    refusals_have_a_date,
    a_426_says_to_what,
    reason_phrases_pass,
    nine_hundred_fields_pass,
    end_to_end_fields_pass_unchanged,
    nothing_else_is_added,
    hop_by_hop_fields_are_removed,
    cookies_stay_separate_and_in_order,
    bytes_beyond_ascii_pass_to_the_client,
    encoded_bodies_are_not_touched,
    every_status_passes,
    redirects_are_the_clients_business,
    answers_without_a_body_have_none,
    interim_answers_do_not_end_the_exchange,
    a_body_of_unknown_length_is_framed_anew,
    an_old_client_gets_no_chunks,
    an_answer_is_the_same_in_any_pieces,
);
