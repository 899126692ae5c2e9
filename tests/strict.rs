//! What is no HTTP/1.1 by the letter is refused, the connection is closed, and no byte of it becomes another request.

use std::time::{Duration, Instant};

use crate::support::engines::on_native;
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{Client, Echo, Engine, Origin, TestProxy, get};

/// What an attacker hopes to see answered, or to see at the origin.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: proxy.test\r\n\r\n";

/// A proxy, its origin, and what must have come of every refused request: nothing.
struct Bench {
    origin: Origin,
    proxy: TestProxy,
}

impl Bench {
    fn new(engine: Engine, keys: &str) -> Self {
        let origin = Origin::echo();
        let proxy = TestProxy::builder(engine).server(keys).route("/", &[origin.addr()], "").start();
        Self { origin, proxy }
    }

    /// Sends these bytes and a smuggled request behind them; exactly one answer comes, then the end.
    #[track_caller]
    fn refuses(&self, request: impl AsRef<[u8]>, status: u16, cause: &str) {
        let shown =
            String::from_utf8_lossy(&request.as_ref()[..request.as_ref().len().min(200)]).into_owned();
        let before = self.origin.requests();
        let mut client = Client::connect(self.proxy.addr());
        client.send([request.as_ref(), SMUGGLED.as_bytes()].concat());
        let response = client.try_response_to("GET");
        let response = response.unwrap_or_else(|error| panic!("no answer to {shown:?}: {error}"));
        assert_eq!(response.status(), status, "to {shown:?}: {:?} {}", response.head, response.text());
        let response = response.expect_failure(status, cause);
        assert_eq!(response.fields().all("connection"), ["close"], "to {shown:?}");
        client.end().unwrap_or_else(|error| panic!("after the answer to {shown:?}: {error}"));
        assert_eq!(self.origin.requests(), before, "{shown:?} reached the origin");
    }

    /// The same for a request line and fields, in lines of `\n`, with the end of a head behind them.
    #[track_caller]
    fn refuses_head(&self, lines: &str, status: u16, cause: &str) {
        self.refuses(format!("{}\r\n\r\n", lines.replace('\n', "\r\n")), status, cause);
    }

    /// The same for a POST with these further fields, and a body that some of them would fit.
    #[track_caller]
    fn refuses_fields(&self, fields: &str, status: u16, cause: &str) {
        let head = format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{fields}\r\n\r\n");
        self.refuses([head.as_bytes(), b"5\r\nhello\r\n0\r\n\r\n"].concat(), status, cause);
    }

    /// Nothing came through, and the proxy is as well as before.
    fn finish(self) {
        let echo = Echo::parse(&get(self.proxy.addr(), "/after").expect(200).body);
        assert_eq!(echo.target, "/after");
        assert_eq!(self.origin.requests(), 1, "only the last request is for the origin");
        self.proxy.expect_idle();
    }
}

fn ambiguous_lengths(engine: Engine) {
    let bench = Bench::new(engine, "");
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 5\r\nTransfer-Encoding: identity",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\ncontent-length: 0",
    ] {
        bench.refuses_fields(fields, 400, "bad_framing");
    }
    for length in [
        "5, 6",
        "5, 5",
        "5,",
        "+5",
        "-1",
        "-0",
        "0x5",
        "5 5",
        "5;",
        "5.0",
        "\"5\"",
        "five",
        "",
        " ",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        bench.refuses_fields(&format!("Content-Length: {length}"), 400, "bad_framing");
    }
    bench.finish();
}

fn transfer_codings(engine: Engine) {
    let bench = Bench::new(engine, "");
    for coding in
        ["chunked, chunked", "chunked,gzip", "", ",", "chunked;q=1", "\"chunked\"", "chunked chunked"]
    {
        bench.refuses_fields(&format!("Transfer-Encoding: {coding}"), 400, "bad_framing");
    }
    for coding in ["identity", "gzip, chunked", "gzip", "xchunked", "chunkedx", "cow"] {
        bench.refuses_fields(&format!("Transfer-Encoding: {coding}"), 501, "unknown_transfer_coding");
    }
    let two = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked";
    bench.refuses_fields(two, 400, "bad_framing");
    let hidden = "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked";
    bench.refuses_fields(hidden, 400, "bad_framing");
    bench.refuses_head("POST / HTTP/1.0\nHost: x\nTransfer-Encoding: chunked", 400, "bad_framing");
    bench.finish();
}

fn malformed_fields(engine: Engine) {
    let bench = Bench::new(engine, "");
    for field in [
        "X: a\r\n folded",
        "X: a\r\n\tfolded",
        "X : space before the colon",
        "X\t: tab before the colon",
        "Transfer-Encoding : chunked",
        "Content-Length : 5",
        "no colon",
        ": no name",
        "X(y): not a token",
        "X y: not a token",
        "X\"y: not a token",
        "X@: not a token",
        "X\u{e9}: not ASCII",
        "X: bare \r return",
        "X: bare\rTransfer-Encoding: chunked",
        "X\r: in the name",
        "X: bare \n feed",
        "X: nul \0 byte",
        "X\0: nul byte",
        "X: delete \x7f",
        "X: bell \x07",
        "X: vertical \x0b tab",
        "Transfer-Encoding: \x0bchunked",
        "Content-Length: \x0c5",
    ] {
        bench.refuses_fields(field, 400, "bad_request");
    }
    for line in [" Host: x", "\tHost: x", " \r\nHost: x"] {
        bench.refuses(format!("GET / HTTP/1.1\r\n{line}\r\n\r\n"), 400, "bad_request");
    }
    bench.refuses("GET / HTTP/1.1\nHost: x\n\n", 400, "bad_request");
    bench.refuses("GET / HTTP/1.1\r\nHost: x\n\r\n", 400, "bad_request");
    bench.refuses("GET / HTTP/1.1\r\nHost: x\r\n\n", 400, "bad_request");
    bench.finish();
}

fn missing_double_and_malformed_hosts(engine: Engine) {
    let bench = Bench::new(engine, "");
    bench.refuses_head("GET / HTTP/1.1", 400, "bad_host");
    bench.refuses_head("GET / HTTP/1.1\nX-Host: x", 400, "bad_host");
    bench.refuses_head("GET http://absolute.test/ HTTP/1.1", 400, "bad_host");
    bench.refuses_head("GET / HTTP/1.1\nHost: a\nHost: a", 400, "bad_host");
    bench.refuses_head("GET / HTTP/1.1\nHost: a\nhost: b", 400, "bad_host");
    bench.refuses_head("GET / HTTP/1.0\nHost: a\nHost: b", 400, "bad_host");
    for host in [
        "a b", "a/b", "user@a", "a:port", "a:1:2", "a, b", "http://a", "a?b", "a#b", "[::1", "::1", "a:99999",
    ] {
        bench.refuses_head(&format!("GET / HTTP/1.1\nHost: {host}"), 400, "bad_host");
        bench.refuses_head(&format!("GET / HTTP/1.0\nHost: {host}"), 400, "bad_host");
    }
    bench.finish();
}

fn malformed_request_lines(engine: Engine) {
    let bench = Bench::new(engine, "");
    for line in [
        "GET /",
        "GET",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / http/1.1",
        "GET / HTTP 1.1",
        "GET / HTTPS/1.1",
        "GET /a b HTTP/1.1",
        " GET / HTTP/1.1",
        "G@T / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "\"GET\" / HTTP/1.1",
        "HTTP/1.1 200 OK",
        "GET /\0 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
    ] {
        bench.refuses_head(&format!("{line}\nHost: proxy.test"), 400, "bad_request");
    }
    for target in [
        "*",
        "h:80",
        "ftp://h/",
        "http:/h",
        "http:///",
        "http://user@h/",
        "/#fragment",
        "/..",
        "/a/../..",
        "a",
        "?q",
    ] {
        bench.refuses_head(&format!("GET {target} HTTP/1.1\nHost: proxy.test"), 400, "bad_target");
    }
    bench.refuses("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request");
    bench.refuses("\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request");
    bench.finish();
}

fn other_versions_are_505(engine: Engine) {
    let bench = Bench::new(engine, "");
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9"] {
        bench.refuses_head(&format!("GET / {version}\nHost: proxy.test"), 505, "version_not_supported");
    }
    for version in ["HTTP/2", "HTTP/1", "HTTP/11", "HTTP/1.10", "HTTP/01.1", "HTTP/1.1.1", "HTTP/1."] {
        bench.refuses_head(&format!("GET / {version}\nHost: proxy.test"), 400, "bad_request");
    }
    bench.finish();
}

fn heads_beyond_the_limits(engine: Engine) {
    let bench = Bench::new(engine, "max_header_bytes = 2000\nmax_headers = 10");
    let x = "x".repeat(2000);
    bench.refuses_head(&format!("GET /{x} HTTP/1.1\nHost: proxy.test"), 414, "uri_too_long");
    bench.refuses_head(&format!("GET / HTTP/1.1\nHost: proxy.test\nX: {x}"), 431, "head_too_large");
    bench.refuses_head(
        &format!("GET / HTTP/1.1\nHost: proxy.test{}", "\nX: x".repeat(10)),
        431,
        "head_too_large",
    );
    // Without an end, too: nobody collects such a head.
    bench.refuses(format!("GET /{}", "x".repeat(3000)), 414, "uri_too_long");
    bench.refuses(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(3000)), 431, "head_too_large");
    let mut client = Client::connect(bench.proxy.addr());
    let nine = "X: x\r\n".repeat(9);
    client.send(format!("GET /fits HTTP/1.1\r\nHost: proxy.test\r\n{nine}\r\n"));
    client.response().expect(200);
    let fill = "x".repeat(2000 - "GET / HTTP/1.1\r\nHost: proxy.test\r\nX: \r\n\r\n".len());
    client.send(format!("GET / HTTP/1.1\r\nHost: proxy.test\r\nX: {fill}\r\n\r\n"));
    client.response().expect(200);
    client.send(format!("GET / HTTP/1.1\r\nHost: proxy.test\r\nX: {fill}x\r\n\r\n"));
    client.response().expect_failure(431, "head_too_large");
}

fn methods_expectations_and_connect(engine: Engine) {
    let bench = Bench::new(engine, "");
    bench.refuses_head(
        "CONNECT example.test:443 HTTP/1.1\nHost: example.test:443",
        405,
        "method_not_allowed",
    );
    bench.refuses_head("CONNECT / HTTP/1.1\nHost: proxy.test", 405, "method_not_allowed");
    let long = "M".repeat(33);
    bench.refuses_head(&format!("{long} / HTTP/1.1\nHost: proxy.test"), 501, "unknown_method");
    bench.refuses_fields("Content-Length: 5\r\nExpect: 200-ok", 417, "unknown_expectation");
    bench.refuses_fields("Content-Length: 5\r\nExpect: 100-continue, x", 417, "unknown_expectation");
    bench.finish();
}

/// The rest of a chunked body is never taken for a request, wherever its coding ends to make sense. Small ones are
/// refused before the origin hears of them.
fn malformed_chunks(engine: Engine) {
    let bench = Bench::new(engine, "");
    for body in [
        "+5\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5\r\nhello\r\n0\r\n X: folded\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : space\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nHost: proxy.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        bench.refuses(format!("{head}{body}"), 400, "bad_body");
    }
    bench.finish();
}

/// Where the body was passed on already, the request that the origin is reading must not end either.
fn a_bad_chunk_deep_in_a_large_body(engine: Engine) {
    let bench = Bench::new(engine, "");
    let mut client = Client::connect(bench.proxy.addr());
    client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let piece = chunk(&[b'x'; 50_000]);
    for _ in 0..10 {
        client.send(&piece);
    }
    // The answer may come while the rest is under way.
    drop(client.try_send(format!("5 \r\n{SMUGGLED}").as_bytes()));
    client.response_to("POST").expect_failure(400, "bad_body");
    client.end().expect("the end of the connection");
    bench.proxy.expect_idle();
    // The broken upload itself, if the origin got to see its head before the connection was closed.
    assert!(bench.origin.requests() <= 1, "nothing that was inside the upload");
    get(bench.proxy.addr(), "/after").expect(200);
}

/// Bytes that can't begin a request are refused when they arrive, not when a deadline passes, and however they are cut.
fn other_protocols_are_refused_at_once(engine: Engine) {
    let bench = Bench::new(engine, "header_timeout_secs = 60");
    let hello: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let cases: [(&[u8], u16, &str); 6] = [
        (hello, 400, "bad_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version_not_supported"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", 400, "bad_request"),
        (b"\x80\x2e\x01\x03\x01", 400, "bad_request"),
        (b"\0", 400, "bad_request"),
        (b"{\"json\": true}", 400, "bad_request"),
    ];
    for (bytes, status, cause) in cases {
        for whole in [true, false] {
            let started = Instant::now();
            let mut client = Client::connect(bench.proxy.addr());
            if whole {
                client.send(bytes);
            } else {
                bytes.iter().for_each(|byte| drop(client.try_send([*byte])));
            }
            client.response().expect_failure(status, cause);
            client.end().expect("the end of the connection");
            assert!(started.elapsed() < Duration::from_secs(5), "refused after {:?}", started.elapsed());
        }
    }
    bench.finish();
}

/// A refusal in the middle of a connection that was in order until then.
fn a_refusal_ends_a_kept_connection(engine: Engine) {
    let bench = Bench::new(engine, "");
    let mut client = Client::connect(bench.proxy.addr());
    client.get("/one").expect(200);
    client.send(format!(
        "GET /two HTTP/1.1\r\nHost: x\r\n\r\nGET /three HTTP/1.1\r\nHost : x\r\n\r\n{SMUGGLED}"
    ));
    let second = client.response().expect(200);
    assert_eq!(Echo::parse(&second.body).target, "/two");
    let refused = client.response().expect_failure(400, "bad_request");
    assert_eq!(refused.fields().all("connection"), ["close"]);
    client.expect_fin();
    assert_eq!(bench.origin.requests(), 2);
}

/// What lies in a body is a body, whatever it looks like.
fn a_request_in_a_body_is_a_body(engine: Engine) {
    let bench = Bench::new(engine, "");
    let mut client = Client::connect(bench.proxy.addr());
    let chunked = [&chunk(SMUGGLED.as_bytes()), LAST_CHUNK].concat();
    let cases = [
        (format!("Content-Length: {}", SMUGGLED.len()), SMUGGLED.as_bytes().to_vec()),
        ("Transfer-Encoding: chunked".into(), chunked),
    ];
    for method in ["GET", "POST", "DELETE", "OPTIONS"] {
        for (field, body) in &cases {
            client.send(format!("{method} /outer HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
            client.send(body);
            let echo = Echo::parse(&client.response_to(method).expect(200).body);
            assert_eq!((echo.method.as_str(), echo.target.as_str()), (method, "/outer"));
        }
    }
    client.get("/last").expect(200);
    assert_eq!(bench.origin.requests(), 9);
}

on_native!(
    ambiguous_lengths,
    transfer_codings,
    malformed_fields,
    missing_double_and_malformed_hosts,
    malformed_request_lines,
    other_versions_are_505,
    heads_beyond_the_limits,
    methods_expectations_and_connect,
    malformed_chunks,
    a_bad_chunk_deep_in_a_large_body,
    other_protocols_are_refused_at_once,
    a_refusal_ends_a_kept_connection,
    a_request_in_a_body_is_a_body,
);
