//! Requests in the less common forms that HTTP/1.1 has servers take.

use crate::support::engines::on_both_engines;
use crate::support::{Client, Echo, Engine, Framing, Origin, ScriptedBackend, TestProxy, send_once};

fn an_old_client_is_answered_and_closed(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    for host in ["", "Host: proxy.test\r\n"] {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("GET /old HTTP/1.0\r\n{host}\r\n"));
        let response = client.response().expect(200);
        let echo = Echo::parse(&response.body);
        assert_eq!((echo.target.as_str(), echo.version.as_str()), ("/old", "HTTP/1.1"));
        assert!(!response.fields().all("connection").iter().any(|value| value.contains("keep-alive")));
        client.expect_fin();
    }
}

fn an_old_client_may_keep_its_connection(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for number in 0..3 {
        client.send(format!("GET /{number} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        let response = client.response().expect(200);
        assert!(matches!(response.head.framing, Framing::Length(_)), "{:?}", response.head);
        let connection = response.fields().all("connection").join(",").to_lowercase();
        assert_eq!(connection, "keep-alive", "an old client has to be told");
        assert_eq!(Echo::parse(&response.body).target, format!("/{number}"));
    }
    client.send("POST /last HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(Echo::parse(&client.response_to("POST").expect(200).body).framing, "length 4");
    client.expect_fin();
}

/// Where the length is unknown, the end of the connection is the end of the body.
fn an_old_client_gets_an_unknown_length_until_close(engine: Engine) {
    let backend = ScriptedBackend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n",
    );
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response().expect(200);
    assert_eq!((response.head.framing, response.text().as_str()), (Framing::UntilClose, "old"));
    client.expect_fin();
}

/// The authority in the target counts, not the Host field.
fn absolute_targets_are_taken(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "preserve_host = true");
    let mut client = Client::connect(proxy.addr());
    for (target, sent) in [
        ("http://absolute.test/a/b?c=d", "/a/b?c=d"),
        ("HTTP://absolute.test/", "/"),
        ("http://absolute.test", "/"),
        ("http://absolute.test?x", "/?x"),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: other.test\r\n\r\n"));
        let echo = Echo::parse(&client.response().expect(200).body);
        assert_eq!(echo.target, sent, "for {target}");
        assert_eq!(echo.fields.all("host"), ["absolute.test"], "for {target}");
    }
}

/// Over a connection without TLS there is no https (RFC 9110 §7.4).
fn an_https_target_is_421(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    send_once(proxy.addr(), "GET https://absolute.test/ HTTP/1.1\r\nHost: absolute.test\r\n\r\n")
        .expect_failure(421, "misdirected");
    assert_eq!(origin.requests(), 0);
}

fn options_of_the_server_itself(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for target in ["*", "http://absolute.test"] {
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        let echo = Echo::parse(&client.response_to("OPTIONS").expect(200).body);
        assert_eq!((echo.method.as_str(), echo.target.as_str()), ("OPTIONS", "*"));
    }
}

/// RFC 9112 §2.2: at least one empty line before a request is to be ignored; old clients send one after a POST.
fn empty_lines_before_a_request_are_ignored(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for lines in ["\r\n", "\r\n\r\n"] {
        client.send(format!("{lines}GET /first HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        assert_eq!(Echo::parse(&client.response().expect(200).body).target, "/first");
    }
    client.send("POST /post HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 4\r\n\r\nbody\r\n");
    assert_eq!(Echo::parse(&client.response_to("POST").expect(200).body).framing, "length 4");
    assert_eq!(Echo::parse(&client.get("/next").expect(200).body).target, "/next");
}

/// However a head and a small body are cut into pieces.
fn a_request_is_the_same_in_any_pieces(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for field in ["Content-Length: 4\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"]
    {
        let request = format!("POST /pieces HTTP/1.1\r\nHost: proxy.test\r\nX-Mine: 1\r\n{field}");
        for byte in request.as_bytes() {
            client.send([*byte]);
        }
        let echo = Echo::parse(&client.response_to("POST").expect(200).body);
        assert_eq!((echo.target.as_str(), echo.hash), ("/pieces", crate::support::hash_of(b"body")));
        assert_eq!(echo.fields.all("x-mine"), ["1"]);
    }
}

on_both_engines!(
    an_old_client_is_answered_and_closed,
    an_old_client_may_keep_its_connection,
    an_old_client_gets_an_unknown_length_until_close,
    absolute_targets_are_taken,
    an_https_target_is_421,
    options_of_the_server_itself,
    empty_lines_before_a_request_are_ignored,
    a_request_is_the_same_in_any_pieces,
);
