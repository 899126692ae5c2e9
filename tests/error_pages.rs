//! What clients are shown where an answer failed: pages, JSON for who prefers it, a line of text; and answers of backends that
//! count as failed.

use reverse_proxy::error::Cause;
use serde_json::Value;

use crate::support::engines::on_both_engines;
use crate::support::process::TempDir;
use crate::support::{
    Client, DeadPort, Engine, Origin, Response, ScriptedBackend, TestProxy, get, send_once, wait_for,
};

/// A directory with pages.
struct Pages(TempDir);

impl Pages {
    fn new() -> Self {
        let directory = TempDir::new();
        for (name, content) in [
            ("404.html", "<p>nothing here</p>"),
            ("5xx.txt", "sorry"),
            ("app.html", "<p>the app is down</p>"),
            ("api.json", "{\"sorry\":true}"),
        ] {
            directory.file(name, content);
        }
        Self(directory)
    }

    /// The value of `error_pages`.
    fn table(&self, pages: &[(&str, &str)]) -> String {
        let entry = |(status, file): &(&str, &str)| {
            format!("{status} = {:?}", self.0.path().join(file).display().to_string())
        };
        format!("error_pages = {{ {} }}", pages.iter().map(entry).collect::<Vec<_>>().join(", "))
    }
}

#[track_caller]
fn expect_content(response: &Response, content_type: &str, content: &str) {
    let of = |name: &str| response.fields().one(name);
    assert_eq!(of("content-type").as_deref(), Some(content_type));
    assert_eq!(of("content-length"), Some(content.len().to_string()));
    assert_eq!(response.text(), content);
}

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/problem+json";

fn pages_by_status(engine: Engine) {
    let (pages, origin, dead) = (Pages::new(), Origin::echo(), DeadPort::reserve());
    let own = pages.table(&[("502", "app.html"), ("4xx", "api.json")]);
    let own_class = pages.table(&[("5xx", "app.html")]);
    let proxy = TestProxy::builder(engine)
        .front(&pages.table(&[("404", "404.html"), ("5xx", "5xx.txt"), ("502", "404.html")]))
        .route("/app", &[dead.addr()], &format!("{own}\nmethods = [\"GET\", \"HEAD\"]\nmax_body_bytes = 1"))
        .route("/plain", &[dead.addr()], "deny = [\"192.0.2.1\"]")
        .route("/class", &[dead.addr()], &own_class)
        .route("/denied", &[origin.addr()], "deny = [\"127.0.0.1\"]")
        .start();
    let mut client = Client::connect(proxy.addr());
    for (method, target, status, cause, content_type, content) in [
        ("GET", "/", 404, "no_route", HTML, "<p>nothing here</p>"),
        // What a route has comes first, its own classes too.
        ("GET", "/app", 502, "connect_refused", HTML, "<p>the app is down</p>"),
        ("GET", "/class", 502, "connect_refused", HTML, "<p>the app is down</p>"),
        // Of the top level, the status comes before its class.
        ("GET", "/plain", 502, "connect_refused", HTML, "<p>nothing here</p>"),
        ("DELETE", "/app", 405, "method_not_allowed", "application/json", "{\"sorry\":true}"),
        (
            "GET",
            "/denied",
            403,
            "client_denied",
            TEXT,
            "403 Forbidden: this path is not for clients of your network (client_denied)\n",
        ),
    ] {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        let response = client.response_to(method).expect_failure(status, cause);
        expect_content(&response, content_type, content);
        let varies = content_type != "application/json";
        assert_eq!(response.fields().one("vary").as_deref(), varies.then_some("accept"), "{target}");
        assert!(response.fields().has("x-request-id") && response.fields().has("date"));
        let allow = response.fields().one("allow");
        assert_eq!(allow.as_deref(), (status == 405).then_some("GET, HEAD"));
        // The same without its content, on the same connection.
        if method == "GET" {
            client.send(format!("HEAD {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
            let head = client.response_to("HEAD").expect_failure(status, cause);
            assert_eq!(head.fields().one("content-type").as_deref(), Some(content_type));
            assert_eq!(head.fields().one("content-length"), Some(content.len().to_string()));
        }
    }
    // Where the next request begins is unknown behind this one.
    let post = "POST /class HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 2\r\n\r\nab";
    send_once(proxy.addr(), post).expect_failure(502, "connect_refused");
    proxy.expect_counted(Cause::NoRoute, 2);
}

fn a_request_that_is_none_has_the_page_of_all(engine: Engine) {
    let (pages, origin) = (Pages::new(), Origin::echo());
    let proxy = TestProxy::builder(engine)
        .front(&pages.table(&[("400", "404.html"), ("431", "5xx.txt")]))
        .server("max_headers = 3")
        .route("/", &[origin.addr()], &pages.table(&[("4xx", "app.html")]))
        .start();
    // Its fields are not looked at: nobody knows how far they can be believed.
    let no_host = "GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n";
    let response = send_once(proxy.addr(), no_host).expect_failure(400, "bad_host");
    expect_content(&response, HTML, "<p>nothing here</p>");
    assert!(!response.fields().has("vary"));
    let many = "GET / HTTP/1.1\r\nHost: proxy.test\r\nA: a\r\nB: b\r\nC: c\r\n\r\n";
    expect_content(&send_once(proxy.addr(), many).expect_failure(431, "head_too_large"), TEXT, "sorry");
    assert_eq!(origin.requests(), 0);
}

/// What a refusal of these fields is.
fn object(response: &Response) -> Value {
    assert_eq!(response.fields().one("content-type").as_deref(), Some(JSON));
    assert_eq!(response.fields().one("vary").as_deref(), Some("accept"));
    serde_json::from_slice(&response.body).expect("JSON")
}

fn json_for_who_prefers_it(engine: Engine) {
    let (pages, dead) = (Pages::new(), DeadPort::reserve());
    let proxy = TestProxy::builder(engine)
        .route("/", &[dead.addr()], "")
        .route("/page", &[dead.addr()], &pages.table(&[("5xx", "app.html")]))
        .route("/json", &[dead.addr()], &pages.table(&[("5xx", "api.json")]))
        .start();
    let ask = |target: &str, accept: &str| {
        let fields = format!("Host: proxy.test\r\nX-Request-Id: some-id\r\nAccept: {accept}");
        let request = format!("GET {target} HTTP/1.1\r\n{fields}\r\n\r\n");
        send_once(proxy.addr(), request).expect_failure(502, "connect_refused")
    };
    for target in ["/", "/page"] {
        let response = ask(target, "application/json");
        assert_eq!(response.fields().one("content-length"), Some(response.body.len().to_string()));
        let expected = serde_json::json!({
            "title": "Bad Gateway",
            "status": 502,
            "detail": "the server refused the connection",
            "cause": "connect_refused",
            "request_id": "some-id",
        });
        assert_eq!(object(&response), expected);
        object(&ask(target, "application/json, text/plain, */*"));
    }
    for browser in ["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "*/*"] {
        expect_content(&ask("/page", browser), HTML, "<p>the app is down</p>");
        assert_eq!(ask("/", browser).fields().one("content-type").as_deref(), Some(TEXT));
    }
    // A page that is JSON is what they prefer.
    expect_content(&ask("/json", "application/json"), "application/json", "{\"sorry\":true}");
    let head = "HEAD /page HTTP/1.1\r\nHost: proxy.test\r\nAccept: application/json\r\n\r\n";
    let response = send_once(proxy.addr(), head).expect_failure(502, "connect_refused");
    assert_eq!(response.fields().one("content-type").as_deref(), Some(JSON));
    assert!(response.fields().one("content-length").is_some_and(|length| length != "0"));
}

/// Answers with the status that the target names.
fn failing() -> ScriptedBackend {
    ScriptedBackend::per_request(|conn, request| {
        conn.body(request)?;
        let status = request.target.rsplit('/').next().unwrap_or_default();
        let body = if request.method == "HEAD" { "" } else { "a trace" };
        let answer = format!(
            "HTTP/1.1 {status} Theirs\r\nSet-Cookie: a=b\r\nWWW-Authenticate: Basic\r\nRetry-After: 7\r\n\
             Allow: GET\r\nX-Secret: s\r\nETag: \"e\"\r\nContent-Type: text/x-trace\r\nContent-Length: 7\r\n\r\n{body}"
        );
        conn.send(answer.as_bytes())
    })
}

#[track_caller]
fn expect_intercepted(response: &Response, status: u16) {
    assert_eq!(response.status(), status);
    assert!(response.broken.is_none());
    let proxy_status = format!("reverse-proxy; received-status={status}; details=\"intercepted\"");
    assert_eq!(response.fields().one("proxy-status"), Some(proxy_status));
}

fn answers_of_backends(engine: Engine) {
    let (pages, backend) = (Pages::new(), failing());
    let table = pages.table(&[("500", "app.html"), ("404", "404.html")]);
    let proxy = TestProxy::to(
        engine,
        &[backend.addr()],
        &format!("{table}\nintercept_errors = [\"5xx\", 401, 405]\nhsts_secs = 5\nmax_fails = 1"),
    );
    let mut client = Client::connect(proxy.addr());
    for method in ["GET", "HEAD", "POST"] {
        let mut ask = |target: &str, accept: &str| {
            let body = if method == "POST" { "Content-Length: 2\r\n\r\nab" } else { "\r\n" };
            let fields = format!("Host: proxy.test\r\nAccept: {accept}\r\n{body}");
            client.send(format!("{method} {target} HTTP/1.1\r\n{fields}"));
            client.response_to(method)
        };
        let is_head = method == "HEAD";
        let response = ask("/500", "*/*");
        expect_intercepted(&response, 500);
        let of = |name: &str| response.fields().one(name);
        assert_eq!(of("content-type").as_deref(), Some(HTML));
        assert_eq!(of("content-length").as_deref(), Some("22"));
        assert_eq!(response.text(), if is_head { "" } else { "<p>the app is down</p>" });
        // Only what the status has no meaning without is the backend's.
        for (name, value) in [
            ("www-authenticate", Some("Basic")),
            ("retry-after", Some("7")),
            ("allow", Some("GET")),
            ("vary", Some("accept")),
            ("set-cookie", None),
            ("x-secret", None),
            ("etag", None),
        ] {
            assert_eq!(of(name).as_deref(), value, "{name}");
        }
        assert_eq!(response.head.reason, "Internal Server Error");
        let response = ask("/502", "text/html");
        expect_intercepted(&response, 502);
        let line =
            "502 Bad Gateway: this is what the server has answered; its words are left out (intercepted)\n";
        assert_eq!(of_type(&response), TEXT);
        assert_eq!(response.text(), if is_head { "" } else { line });
        let response = ask("/401", "application/json");
        expect_intercepted(&response, 401);
        assert_eq!(of_type(&response), JSON);
        if !is_head {
            let object = object(&response);
            assert_eq!((object["status"].as_u64(), &object["cause"]), (Some(401), &"intercepted".into()));
        }
        // No reason phrase is known for it.
        let response = ask("/599", "*/*");
        expect_intercepted(&response, 599);
        assert!(is_head || response.text().starts_with("599: this is"), "{}", response.text());
        // A page alone intercepts nothing, and what is not in the list passes.
        for (target, status) in [("/404", 404), ("/200", 200), ("/400", 400)] {
            let response = ask(target, "*/*").expect(status);
            assert_eq!(response.text(), if is_head { "" } else { "a trace" });
            assert_eq!(response.fields().one("set-cookie").as_deref(), Some("a=b"));
            assert!(!response.fields().has("proxy-status"));
        }
    }
    if engine == Engine::Native {
        assert_eq!(backend.connections(), 1, "what is read to its end is kept");
    }
    assert_eq!(backend.requests(), 3 * 7);
    proxy.expect_idle();
}

#[track_caller]
fn of_type(response: &Response) -> String {
    response.fields().one("content-type").expect("a type")
}

/// Nobody waits for what nobody gets.
fn a_body_without_an_end_is_given_up(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        let framing = if request.target == "/long" {
            "Content-Length: 1000000000"
        } else {
            "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde"
        };
        conn.send(format!("HTTP/1.1 500 No\r\n{framing}\r\n\r\n").as_bytes())?;
        conn.hang()
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "intercept_errors = [500]");
    let mut client = Client::connect(proxy.addr());
    for (n, target) in ["/long", "/chunked"].into_iter().enumerate() {
        let response = client.get(target);
        expect_intercepted(&response, 500);
        assert!(response.text().contains("(intercepted)"), "{}", response.text());
        wait_for("the backend's connection to be closed", || {
            if backend.ended() == n + 1 { Ok(()) } else { Err(backend.ended()) }
        });
    }
}

/// Interim answers and switches of protocols are none.
fn only_final_answers_are(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, _| {
        conn.send(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nno")
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "intercept_errors = [\"4xx\"]");
    let response = get(proxy.addr(), "/").expect(426);
    assert_eq!(
        (response.text().as_str(), response.fields().one("upgrade").as_deref()),
        ("no", Some("TLS/1.3"))
    );
}

fn the_log_has_them_as_answers(engine: Engine) {
    let (pages, backend) = (Pages::new(), failing());
    let log = pages.0.path().join("access.log");
    let proxy = TestProxy::builder(engine)
        .server(&format!("\n[access_log]\npath = {log:?}\nformat = \"json\""))
        .route(
            "/",
            &[backend.addr()],
            &format!(
                "{}\nintercept_errors = [500]",
                pages.table(&[("500", "app.html"), ("404", "404.html")])
            ),
        )
        .start();
    expect_intercepted(&get(proxy.addr(), "/500"), 500);
    let line = wait_for("a line", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        serde_json::from_str::<Value>(&text).map_err(|_| text)
    });
    assert_eq!(line["status"], 500);
    assert_eq!(line["cause"], Value::Null);
    assert_eq!(line["backend"], backend.addr());
    assert_eq!(line["bytes_sent"], 22);
    proxy.expect_count(Cause::BadResponse, 0);
    proxy.expect_count(Cause::Internal, 0);
}

fn a_reload_reads_them_again(engine: Engine) {
    let pages = Pages::new();
    let backend = failing();
    let builder = TestProxy::builder(engine).front(&pages.table(&[("404", "404.html")])).route(
        "/app",
        &[backend.addr()],
        &format!("{}\nintercept_errors = [500]", pages.table(&[("500", "app.html")])),
    );
    let mut proxy = builder.clone().start();
    let shown = |addr, target: &str| get(addr, target).text();
    assert_eq!(shown(proxy.addr(), "/"), "<p>nothing here</p>");
    assert_eq!(shown(proxy.addr(), "/app/500"), "<p>the app is down</p>");
    pages.0.file("404.html", "gone");
    pages.0.file("app.html", "down");
    assert_eq!(shown(proxy.addr(), "/"), "<p>nothing here</p>");
    proxy.reload(&builder).expect("a reload");
    assert_eq!(shown(proxy.addr(), "/"), "gone");
    assert_eq!(shown(proxy.addr(), "/app/500"), "down");
    proxy.reload(&TestProxy::builder(engine).route("/app", &[backend.addr()], "")).expect("a reload");
    get(proxy.addr(), "/").expect_failure(404, "no_route");
    assert!(shown(proxy.addr(), "/").starts_with("404 Not Found: "));
}

on_both_engines!(
    pages_by_status,
    a_request_that_is_none_has_the_page_of_all,
    json_for_who_prefers_it,
    answers_of_backends,
    a_body_without_an_end_is_given_up,
    only_final_answers_are,
    the_log_has_them_as_answers,
    a_reload_reads_them_again,
);
