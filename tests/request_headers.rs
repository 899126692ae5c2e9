//! What a backend gets to see of a request's header: everything that is end to end, nothing that is hop by hop, and
//! what the proxy adds.

use crate::support::engines::on_both_engines;
use crate::support::{Client, Echo, Engine, Origin, TestProxy, hash_of, send_once};

/// Sends a request with these header lines through a proxy with one route.
#[track_caller]
fn forwarded_with(engine: Engine, keys: &str, server: &str, start: &str, body: &str) -> Forwarded {
    let origin = Origin::echo();
    let backend = origin.addr();
    let builder = TestProxy::builder(engine).server(server);
    let proxy = builder.route("/", std::slice::from_ref(&backend), keys).start();
    let head: Vec<&str> = start.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect();
    let request = format!("{}\r\n\r\n{body}", head.join("\r\n"));
    let response = send_once(proxy.addr(), request).expect(200);
    Forwarded { echo: Echo::parse(&response.body), backend }
}

#[track_caller]
fn forwarded(engine: Engine, start: &str) -> Forwarded {
    forwarded_with(engine, "", "", start, "")
}

struct Forwarded {
    echo: Echo,
    backend: String,
}

impl Forwarded {
    #[track_caller]
    fn expect(&self, name: &str, values: &[&str]) {
        assert_eq!(self.echo.fields.all(name), values, "values of {name} in {}", self.list());
    }

    #[track_caller]
    fn expect_none(&self, names: &[&str]) {
        for name in names {
            assert!(!self.echo.fields.has(name), "{name} was forwarded: {}", self.list());
        }
    }

    fn list(&self) -> String {
        self.echo.fields.names().join(", ")
    }
}

fn nothing_else_is_added(engine: Engine) {
    let seen = forwarded(engine, "GET / HTTP/1.1\nHost: proxy.test\nX-Mine: 1");
    let mut expected = vec!["host", "via", "x-forwarded-for", "x-forwarded-host"];
    // tiny_http does not say by which address a request came in.
    expected.extend((engine == Engine::Native).then_some("x-forwarded-port"));
    expected.extend(["x-forwarded-proto", "x-mine", "x-request-id"]);
    assert_eq!(seen.echo.fields.names(), expected);
    assert_eq!(seen.echo.version, "HTTP/1.1");
    assert_eq!(seen.echo.framing, "none");
}

fn end_to_end_fields_pass_unchanged(engine: Engine) {
    let seen = forwarded(
        engine,
        "GET / HTTP/1.1
        Host: proxy.test
        User-Agent: test/1.0 (a; b)
        Accept: text/html;q=0.9, */*
        Accept-Encoding: gzip, br
        Authorization: Basic dTpw
        Cookie: a=1; b=\"2\"
        X-Twice: one
        X-Between: 1
        X-Twice: two, three
        X-Empty:
        If-None-Match: \"abc\"
        Range: bytes=0-3",
    );
    seen.expect("user-agent", &["test/1.0 (a; b)"]);
    seen.expect("accept", &["text/html;q=0.9, */*"]);
    seen.expect("accept-encoding", &["gzip, br"]);
    seen.expect("authorization", &["Basic dTpw"]);
    seen.expect("cookie", &["a=1; b=\"2\""]);
    seen.expect("x-twice", &["one", "two, three"]);
    seen.expect("x-empty", &[""]);
    seen.expect("if-none-match", &["\"abc\""]);
    seen.expect("range", &["bytes=0-3"]);
}

fn what_connection_names_is_removed(engine: Engine) {
    let seen = forwarded(
        engine,
        "GET / HTTP/1.1
        Host: proxy.test
        Connection: x-one , X-TWO
        X-One: 1
        X-Two: 2
        X-Three: 3
        X-Four: 4
        Connection: keep-alive,,X-Three
        X-One: again",
    );
    seen.expect_none(&["connection", "keep-alive", "x-one", "x-two", "x-three"]);
    seen.expect("x-four", &["4"]);
}

fn a_client_cannot_take_away_what_matters(engine: Engine) {
    let seen = forwarded_with(
        engine,
        "",
        "",
        "POST / HTTP/1.1
        Host: proxy.test
        Content-Length: 5
        X-Forwarded-For: 192.0.2.1
        Connection: host, content-length, x-forwarded-for, x-forwarded-host, x-forwarded-proto, via
        Via: 1.0 old",
        "hello",
    );
    seen.expect("host", &[&seen.backend]);
    seen.expect("content-length", &["5"]);
    assert_eq!(seen.echo.hash, hash_of(b"hello"));
    seen.expect("x-forwarded-for", &["192.0.2.1, 127.0.0.1"]);
    seen.expect("x-forwarded-host", &["proxy.test"]);
    seen.expect("x-forwarded-proto", &["http"]);
    assert!(seen.echo.fields.all("via").join(", ").contains("1.1 reverse-proxy-"));
}

fn hop_by_hop_fields_are_removed(engine: Engine) {
    let seen = forwarded(
        engine,
        "GET / HTTP/1.1
        Host: proxy.test
        Keep-Alive: timeout=5
        Proxy-Connection: keep-alive
        Proxy-Authorization: Basic dTpw
        Proxy-Authenticate: Basic
        TE: gzip
        Trailer: X-Sum
        Upgrade: something/1
        X-Mine: 1",
    );
    seen.expect_none(&[
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "trailer",
        "upgrade",
        "connection",
    ]);
    seen.expect("x-mine", &["1"]);
}

fn an_upgrade_to_h2c_is_not_passed_on(engine: Engine) {
    let seen = forwarded(
        engine,
        "GET / HTTP/1.1
        Host: proxy.test
        Connection: Upgrade, HTTP2-Settings
        Upgrade: h2c
        HTTP2-Settings: AAMAAABkAAQAAP__",
    );
    seen.expect_none(&["connection", "upgrade", "http2-settings"]);
}

fn te_keeps_at_most_trailers(engine: Engine) {
    let seen =
        forwarded(engine, "GET / HTTP/1.1\nHost: proxy.test\nTE: deflate, trailers;q=0.5\nConnection: TE");
    for value in seen.echo.fields.all("te") {
        assert_eq!(value, "trailers");
    }
}

/// CGI and all that took after it read `_` as `-`: such a field would say what only the proxy may say.
fn names_that_imitate_ours_are_removed(engine: Engine) {
    let seen = forwarded_with(
        engine,
        "",
        "",
        "POST / HTTP/1.1
        Host: proxy.test
        Content-Length: 5
        X_Forwarded_For: 192.0.2.1
        x_forwarded-proto: https
        X-Forwarded_Host: evil.test
        Content_Length: 50
        Transfer_Encoding: chunked
        Keep_Alive: 1
        user_id: 7
        _: 8",
        "hello",
    );
    for (name, value) in &seen.echo.fields.0 {
        let name = String::from_utf8_lossy(name).to_lowercase();
        let is_kept = ["user_id", "_"].contains(&name.as_str());
        assert!(is_kept || !name.contains('_'), "{name}: {}", String::from_utf8_lossy(value));
    }
    seen.expect("user_id", &["7"]);
    seen.expect("_", &["8"]);
    seen.expect("content-length", &["5"]);
    seen.expect("x-forwarded-for", &["127.0.0.1"]);
    assert_eq!(seen.echo.hash, hash_of(b"hello"));
}

fn forwarded_for_becomes_one_list(engine: Engine) {
    let seen = forwarded(engine, "GET / HTTP/1.1\nHost: proxy.test");
    seen.expect("x-forwarded-for", &["127.0.0.1"]);
    let seen = forwarded(
        engine,
        "GET / HTTP/1.1
        Host: proxy.test
        X-Forwarded-For: 192.0.2.1, 192.0.2.2
        X-Other: 1
        x-forwarded-for: 2001:db8::1",
    );
    seen.expect("x-forwarded-for", &["192.0.2.1, 192.0.2.2, 2001:db8::1, 127.0.0.1"]);
}

const CLAIMS: &str = "GET / HTTP/1.1
    Host: proxy.test:8080
    X-Forwarded-Host: claimed.test
    X-Forwarded-Host: another.test
    X-Forwarded-Proto: https";

fn forwarded_host_and_proto_are_set(engine: Engine) {
    let seen = forwarded(engine, CLAIMS);
    seen.expect("x-forwarded-host", &["proxy.test:8080"]);
    seen.expect("x-forwarded-proto", &["http"]);
}

fn a_trusted_proxy_is_believed(engine: Engine) {
    let claims = CLAIMS.replace("X-Forwarded-Host: another.test", "");
    let seen = forwarded_with(engine, "", "trusted_proxies = [\"127.0.0.0/8\"]", &claims, "");
    seen.expect("x-forwarded-host", &["claimed.test"]);
    seen.expect("x-forwarded-proto", &["https"]);
    let seen = forwarded_with(engine, "", "trusted_proxies = [\"192.0.2.0/24\"]", &claims, "");
    seen.expect("x-forwarded-host", &["proxy.test:8080"]);
    seen.expect("x-forwarded-proto", &["http"]);
}

fn via_is_appended(engine: Engine) {
    let seen = forwarded(engine, "GET / HTTP/1.1\nHost: proxy.test");
    let via = seen.echo.fields.all("via").join(", ");
    // No two instances have the same name: it is how one of them knows its own requests again.
    assert!(via.starts_with("1.1 reverse-proxy-") && via.len() == 26, "{via}");
    let seen = forwarded(engine, "GET / HTTP/1.1\nHost: proxy.test\nVia: 1.0 one\nVia: 1.1 two (x)");
    let via = seen.echo.fields.all("via").join(", ");
    assert!(via.starts_with("1.0 one, 1.1 two (x), 1.1 reverse-proxy-"), "{via}");
}

fn host_is_the_backend_or_preserved(engine: Engine) {
    let seen = forwarded(engine, "GET / HTTP/1.1\nHost: proxy.test:8080");
    seen.expect("host", &[&seen.backend]);
    let seen =
        forwarded_with(engine, "preserve_host = true", "", "GET / HTTP/1.1\nHost: proxy.test:8080", "");
    seen.expect("host", &["proxy.test:8080"]);
}

fn expect_is_answered_by_the_proxy(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client
        .send("POST / HTTP/1.1\r\nHost: proxy.test\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n\r\n");
    let interim = client.any_head("POST").unwrap().expect("an interim answer");
    assert_eq!(interim.status, 100, "{interim:?}");
    let body = "b".repeat(2000);
    client.send(&body);
    let echo = Echo::parse(&client.response_to("POST").expect(200).body);
    assert_eq!(echo.hash, hash_of(body.as_bytes()));
    assert!(!echo.fields.has("expect"), "Expect was passed on");
}

fn bytes_beyond_ascii_pass(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let request = b"GET / HTTP/1.1\r\nHost: proxy.test\r\nX-Name: J\xf6rg \xc3\xa9 \xff\r\n\r\n";
    let echo = Echo::parse(&send_once(proxy.addr(), request).expect(200).body);
    assert_eq!(echo.fields.all("x-name"), ["J\u{f6}rg \u{c3}\u{a9} \u{ff}"], "one character a byte");
}

on_both_engines!(
    nothing_else_is_added,
    end_to_end_fields_pass_unchanged,
    what_connection_names_is_removed,
    a_client_cannot_take_away_what_matters,
    hop_by_hop_fields_are_removed,
    an_upgrade_to_h2c_is_not_passed_on,
    te_keeps_at_most_trailers,
    names_that_imitate_ours_are_removed,
    forwarded_for_becomes_one_list,
    forwarded_host_and_proto_are_set,
    a_trusted_proxy_is_believed,
    via_is_appended,
    host_is_the_backend_or_preserved,
    expect_is_answered_by_the_proxy,
    bytes_beyond_ascii_pass,
);
