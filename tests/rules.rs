//! What a route does beside passing requests on: the rules, on both engines.

use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;

use crate::support::engines::on_both_engines;
use crate::support::process::TempDir;
use crate::support::{Client, Echo, Engine, Origin, ScriptedBackend, TestProxy, get, send_once, wait_for};

fn who_may_come(engine: Engine) {
    let origin = Origin::echo();
    let backend = [origin.addr()];
    let proxy = TestProxy::builder(engine)
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .route(
            "/",
            &backend,
            "allow = [\"127.0.0.0/8\", \"192.0.2.0/24\"]\ndeny = [\"192.0.2.1\"]\nmax_body_bytes = 1",
        )
        .route("/others", &backend, "deny = [\"127.0.0.1\"]")
        .start();
    get(proxy.addr(), "/").expect(200);
    get(proxy.addr(), "/others").expect_failure(403, "client_denied");
    let for_client = |client: &str, length: usize| {
        let fields = format!("Host: proxy.test\r\nX-Forwarded-For: {client}\r\nContent-Length: {length}");
        send_once(proxy.addr(), format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n{}", "x".repeat(length)))
    };
    for_client("192.0.2.2", 1).expect(200);
    for_client("192.0.2.1", 1).expect_failure(403, "client_denied");
    for_client("198.51.100.7, 192.0.2.1", 1).expect_failure(403, "client_denied");
    for_client("192.0.2.1, 198.51.100.7", 1).expect_failure(403, "client_denied");
    for_client("192.0.2.2", 2).expect_failure(413, "body_too_large");
    // Who may not come is told nothing about the route.
    for_client("198.51.100.7", 2).expect_failure(403, "client_denied");
    proxy.expect_counted(Cause::ClientDenied, 5);
    assert_eq!(origin.requests(), 2);
}

fn redirects(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .answering_route("/", "redirect = { to = \"https://{host}{target}\" }")
        .answering_route("/old", "redirect = { to = \"/new{query}\", status = 303 }")
        .answering_route(
            "/same",
            "redirect = { to = \"{scheme}://www.{host}/{client_ip}\" }\ndeny = [\"192.0.2.1\"]",
        )
        .route("/app", &[origin.addr()], "")
        .start();
    let mut client = Client::connect(proxy.addr());
    for (target, status, location) in [
        ("/a%2F?b={c}", 308, "https://proxy.test/a%2F?b={c}"),
        ("/old/x?y", 303, "/new?y"),
        ("/old", 303, "/new"),
        ("/same", 308, "http://www.proxy.test/127.0.0.1"),
    ] {
        for method in ["GET", "HEAD"] {
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: proxy.test:81\r\n\r\n"));
            let response = client.response_to(method).expect(status);
            assert_eq!(response.fields().one("location").as_deref(), Some(location));
            assert_eq!(response.fields().one("content-length").as_deref(), Some("0"));
            assert!(response.fields().has("date") && response.fields().has("x-request-id"));
        }
    }
    // Behind a proxy that is trusted.
    let with =
        |fields: &str| send_once(proxy.addr(), format!("GET /same HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n"));
    let response = with("X-Forwarded-For: 192.0.2.2\r\nX-Forwarded-Proto: https").expect(308);
    assert_eq!(response.fields().one("location").as_deref(), Some("https://www.h/192.0.2.2"));
    with("X-Forwarded-For: 192.0.2.1").expect_failure(403, "client_denied");
    send_once(proxy.addr(), "GET / HTTP/1.0\r\n\r\n").expect_failure(400, "bad_host");
    // A client cannot choose where to.
    let response = send_once(proxy.addr(), "GET //evil.test/ HTTP/1.1\r\nHost: h\r\n\r\n").expect(308);
    assert_eq!(response.fields().one("location").as_deref(), Some("https://h//evil.test/"));
    get(proxy.addr(), "/app").expect(200);
    assert_eq!(origin.requests(), 1);
}

fn responses(engine: Engine) {
    let directory = TempDir::new();
    let file = directory.file("page.html", "<p>{host}</p>");
    let html = format!(
        "respond = {{ status = 503, file = {:?}, content_type = \"text/html\" }}",
        file.display().to_string()
    );
    let mut builder = TestProxy::builder(engine)
        .answering_route("/", "respond = { body = \"hello\", headers = { X-A = \"{request_id} {{}}\" } }")
        .answering_route("/page", &html)
        .answering_route("/none", "respond = { status = 204 }");
    let mut proxy = builder.clone().start();
    let mut client = Client::connect(proxy.addr());
    let request = |method: &str, target: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: proxy.test\r\nX-Request-Id: some-id\r\n\r\n")
    };
    for (method, body) in [("GET", "hello"), ("HEAD", ""), ("GET", "hello"), ("DELETE", "hello")] {
        client.send(request(method, "/"));
        let response = client.response_to(method).expect(200);
        assert_eq!(response.text(), body);
        for (name, value) in [
            ("content-length", "5"),
            ("content-type", "text/plain; charset=utf-8"),
            ("x-a", "some-id {}"),
            ("x-request-id", "some-id"),
        ] {
            assert_eq!(response.fields().one(name).as_deref(), Some(value), "{name}");
        }
    }
    client.send(request("GET", "/page/x"));
    let response = client.response().expect(503);
    assert_eq!(response.text(), "<p>{host}</p>");
    assert_eq!(response.fields().one("content-type").as_deref(), Some("text/html"));
    client.send(request("GET", "/none"));
    let response = client.response().expect(204);
    assert!(!response.fields().has("content-length") && !response.fields().has("content-type"));
    // A body that is not read ends with the connection, and not as the next request.
    client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 5\r\n\r\nGET /");
    assert_eq!(client.response_to("POST").expect(200).text(), "hello");
    // The file is read again on a reload.
    std::fs::write(&file, "new").expect("write");
    assert_eq!(get(proxy.addr(), "/page").text(), "<p>{host}</p>");
    builder = builder.server("max_headers = 50");
    proxy.reload(&builder).expect("a reload");
    assert_eq!(get(proxy.addr(), "/page").text(), "new");
}

fn another_path(engine: Engine) {
    let origin = Origin::echo();
    let backend = [origin.addr()];
    let proxy = TestProxy::builder(engine)
        .server("trusted_proxies = [\"127.0.0.2\"]")
        .route("/api", &backend, "strip_prefix = true")
        .route("/old", &backend, "replace_prefix = \"/v2\"")
        .route("/", &backend, "")
        .start();
    for (target, sent, prefix) in [
        ("/api/a%2Fb/%41?c=%2e", "/a%2Fb/%41?c=%2e", Some("/api")),
        ("/api", "/", Some("/api")),
        ("/api?q", "/?q", Some("/api")),
        ("/%61pi/x/", "/x/", Some("/api")),
        ("/x/../api//y", "//y", Some("/api")),
        ("/old", "/v2", Some("/old")),
        ("/old/x?y", "/v2/x?y", Some("/old")),
        ("/apis/x", "/apis/x", None),
    ] {
        let echo = Echo::parse(&get(proxy.addr(), target).expect(200).body);
        assert_eq!((echo.target.as_str(), echo.fields.one("x-forwarded-prefix").as_deref()), (sent, prefix));
    }
    // What anybody says of it is not believed, where it is the proxy's word.
    let with = |target: &str| {
        let fields = "Host: h\r\nConnection: x-forwarded-prefix\r\nX-Forwarded-Prefix: /evil";
        let response = send_once(proxy.addr(), format!("GET {target} HTTP/1.1\r\n{fields}\r\n\r\n"));
        Echo::parse(&response.expect(200).body).fields.all("x-forwarded-prefix")
    };
    assert_eq!(with("/api/x"), ["/api"]);
    assert_eq!(with("/x"), ["/evil"]);
}

/// Paths of the backend, as the client knows them.
fn what_the_backend_says_of_paths(engine: Engine) {
    let backend = ScriptedBackend::answering(
        "HTTP/1.1 302 Found\r\nLocation: /v2/there?x#y\r\nContent-Location: /elsewhere\r\n\
         Refresh: 5; url=/v2/there\r\nSet-Cookie: a=b; Path=/v2/x; HttpOnly\r\nSet-Cookie: c=d; path=/v2\r\nContent-Length: 0\r\n\r\n",
    );
    let own = backend.addr();
    let absolute = ScriptedBackend::per_request(move |conn, request| {
        let host = request.fields.one("host").expect("a host");
        let location = format!("Location: http://{host}/x");
        conn.send_head(&["HTTP/1.1 201 Created", &location, "Content-Length: 0"])
    });
    let proxy = TestProxy::builder(engine)
        .route("/api", &[own], "replace_prefix = \"/v2\"")
        .route("/own", &[absolute.addr()], "strip_prefix = true")
        .route("/kept", &[absolute.addr()], "strip_prefix = true\npreserve_host = true")
        .start();
    let response = get(proxy.addr(), "/api/here").expect(302);
    let of = |name: &str| response.fields().all(name);
    assert_eq!(of("location"), ["/api/there?x#y"]);
    assert_eq!(of("content-location"), ["/elsewhere"]);
    assert_eq!(of("refresh"), ["5; url=/api/there"]);
    assert_eq!(of("set-cookie"), ["a=b; Path=/api/x; HttpOnly", "c=d; Path=/api"]);
    let location = |target: &str| get(proxy.addr(), target).expect(201).fields().one("location");
    assert_eq!(location("/own/y").as_deref(), Some("/own/x"));
    assert_eq!(location("/kept/y").as_deref(), Some("http://proxy.test/kept/x"));
}

fn fields_of_requests(engine: Engine) {
    let origin = Origin::echo();
    let rules = "name = \"shop\"\nrequest_headers = { set = { X-Real-IP = \"{client_ip}\", X-Seen = \"{scheme} {host} {route} \
                 {request_id}\" }, add = { X-Twice = \"ours\" }, remove = [\"Cookie\"] }";
    let proxy = TestProxy::builder(engine)
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .route("/", &[origin.addr()], rules)
        .start();
    let fields = "Host: shop.example:81\r\nX-Real-IP: 192.0.2.66\r\nX_Real_IP: 192.0.2.66\r\nX-Twice: theirs\r\nCookie: a=b\r\n\
                  Connection: x-seen, x-real-ip, x-twice\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
                  X-Request-Id: some-id";
    let response = send_once(proxy.addr(), format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")).expect(200);
    let echo = Echo::parse(&response.body);
    for (name, values) in [
        ("x-real-ip", &["192.0.2.7"][..]),
        ("x_real_ip", &[]),
        ("x-seen", &["https shop.example shop some-id"]),
        ("x-twice", &["ours"]),
        ("cookie", &[]),
        ("x-forwarded-for", &["192.0.2.7, 127.0.0.1"]),
    ] {
        assert_eq!(echo.fields.all(name), values, "{name}");
    }
    let response =
        send_once(proxy.addr(), "GET / HTTP/1.1\r\nHost: h\r\nX-Twice: theirs\r\n\r\n").expect(200);
    let echo = Echo::parse(&response.body);
    assert_eq!(echo.fields.all("x-twice"), ["theirs", "ours"]);
}

/// Nor do they come behind the body.
fn fields_in_trailers(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        conn.body(request)?;
        let names = conn.trailers().names().join(",");
        conn.send_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", &format!("X-Trailers: {names}")])?;
        conn.send(b"0\r\nX-Secret: a\r\nX-Open: b\r\n\r\n")
    });
    let rules = "request_headers = { remove = [\"X-User\"] }\nresponse_headers = { remove = [\"X-Secret\"] }";
    let proxy = TestProxy::builder(engine).route("/", &[backend.addr()], rules).start();
    let mut client = Client::connect(proxy.addr());
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-User: a\r\nX-Other: b\r\n\r\n");
    let response = client.response_to("POST").expect(200);
    assert_eq!(response.fields().one("x-trailers").as_deref(), Some("x-other"));
    assert_eq!(client.trailers().names(), ["x-open"]);
}

fn fields_of_answers(engine: Engine) {
    let backend = ScriptedBackend::answering(
        "HTTP/1.1 200 OK\r\nServer: s\r\nX-Frame-Options: SAMEORIGIN\r\nVary: a\r\nConnection: x-id\r\nContent-Length: 2\r\n\r\nok",
    );
    let rules = "response_headers = { set = { X-Frame-Options = \"DENY\", X-Id = \"{request_id}\" }, add = { Vary = \"b\" }, \
                 remove = [\"server\"] }";
    let proxy = TestProxy::builder(engine).route("/", &[backend.addr()], rules).start();
    let request = "GET / HTTP/1.1\r\nHost: h\r\nX-Request-Id: some-id\r\n\r\n";
    let response = send_once(proxy.addr(), request).expect(200);
    assert_eq!(response.text(), "ok");
    for (name, values) in
        [("server", &[][..]), ("x-frame-options", &["DENY"]), ("x-id", &["some-id"]), ("vary", &["a", "b"])]
    {
        assert_eq!(response.fields().all(name), values, "{name}");
    }
}

fn methods(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .route("/", &[origin.addr()], "methods = [\"HEAD\", \"GET\"]")
        .route("/closed", &[origin.addr()], "methods = [\"GET\"]\ndeny = [\"127.0.0.1\"]")
        .start();
    let mut client = Client::connect(proxy.addr());
    for (method, target, status) in [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("DELETE", "/", 405),
        ("get", "/", 405),
        ("POST", "/closed", 403),
    ] {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let response = client.response_to(method).expect(status);
        let allow = (status == 405).then_some("GET, HEAD");
        assert_eq!(response.fields().one("allow").as_deref(), allow);
    }
    assert_eq!(origin.requests(), 2);
    client.send("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.response().expect_failure(405, "method_not_allowed");
}

/// What is taken comes back after a second: tried again, if the machine was so slow that it may have.
fn in_less_than_a_second(prepare: impl Fn(), mut act: impl FnMut(usize) -> Vec<u16>) -> Vec<u16> {
    for attempt in 0..20 {
        prepare();
        let began = Instant::now();
        let statuses = act(attempt);
        if began.elapsed() < Duration::from_millis(900) {
            return statuses;
        }
    }
    panic!("this machine takes seconds for a handful of requests");
}

fn rate_limits(engine: Engine) {
    let origin = Origin::echo();
    let backend = [origin.addr()];
    let builder = TestProxy::builder(engine)
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .route("/", &backend, "rate_limit = { requests_per_sec = 1, burst = 2 }")
        .route("/all", &backend, "rate_limit = { requests_per_sec = 1, burst = 1, per = \"route\" }")
        .route("/puts", &backend, "rate_limit = { requests_per_sec = 1, burst = 1 }\nmethods = [\"PUT\"]");
    let mut proxy = builder.clone().start();
    let addr = proxy.addr();
    let ask = |target: &str, client: &str| {
        let fields = format!("Host: h\r\nX-Forwarded-For: {client}");
        send_once(addr, format!("GET {target} HTTP/1.1\r\n{fields}\r\n\r\n"))
    };
    let statuses = in_less_than_a_second(
        || {},
        |n| {
            let (v4, v6) =
                (|host: usize| format!("192.0.{n}.{host}"), |host: usize| format!("2001:db8:0:{n}::{host}"));
            let clients = [v4(1), v4(1), v4(1), v4(2), v6(1), v6(2), v6(3)];
            clients.iter().map(|client| ask("/", client).status()).collect()
        },
    );
    assert_eq!(statuses, [200, 200, 429, 200, 200, 200, 429]);
    for _ in 0..3 {
        assert_eq!(ask("/puts", "192.0.2.3").status(), 405, "what is refused before is not counted");
    }
    // Since then the bucket of all is empty.
    let take_the_last = || {
        wait_for("a request to be taken", || match ask("/all", "192.0.2.3").status() {
            200 => Ok(()),
            status => Err(status),
        });
    };
    let again = in_less_than_a_second(take_the_last, |_| {
        let refused = ask("/all", "192.0.2.4");
        let says_when = refused.fields().one("retry-after").as_deref() == Some("1");
        vec![refused.status(), u16::from(says_when)]
    });
    assert_eq!(again, [429, 1]);
    // A reload gives nobody a full bucket.
    let builder = builder.server("max_headers = 50");
    let after = in_less_than_a_second(take_the_last, |n| {
        proxy.reload(&builder.clone().server(&format!("max_tunnels = {n}"))).expect("a reload");
        vec![ask("/all", "192.0.2.5").status()]
    });
    assert_eq!(after, [429]);
}

fn rate_limits_by_a_field_and_dry_runs(engine: Engine) {
    let limit = "respond = {}\nrate_limit = { requests_per_sec = 1, burst = 1";
    let by_key = format!("{limit}, per = \"header:X-Key\" }}");
    let dry = |dry_run: bool| {
        TestProxy::builder(engine)
            .answering_route("/", &by_key)
            .answering_route("/dry", &format!("{limit}, dry_run = {dry_run} }}"))
    };
    let mut proxy = dry(true).start();
    let addr = proxy.addr();
    let ask = |target: &str, fields: &str| {
        send_once(addr, format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).status()
    };
    let statuses = in_less_than_a_second(
        || {},
        |n| {
            let keys = [format!("X-Key: a{n}\r\n"), format!("X-Key: b{n}\r\n")];
            vec![ask("/", &keys[0]), ask("/", &keys[0]), ask("/", &keys[1])]
        },
    );
    assert_eq!(statuses, [200, 429, 200]);
    // Without one, by client; and a dry run refuses nothing.
    let take_the_last = || {
        wait_for("a request to be taken", || match ask("/", "") {
            200 => Ok(()),
            status => Err(status),
        });
    };
    assert_eq!(in_less_than_a_second(take_the_last, |_| vec![ask("/", "")]), [429]);
    assert_eq!([ask("/dry", ""), ask("/dry", ""), ask("/dry", "")], [200, 200, 200]);
    // What was counted meanwhile counts when it is meant.
    let after = in_less_than_a_second(
        || {},
        |n| {
            proxy.reload(&dry(true).server(&format!("max_tunnels = {n}"))).expect("a reload");
            assert_eq!([ask("/dry", ""), ask("/dry", "")], [200, 200]);
            proxy.reload(&dry(false)).expect("a reload");
            vec![ask("/dry", "")]
        },
    );
    assert_eq!(after, [429]);
}

on_both_engines!(
    who_may_come,
    redirects,
    responses,
    another_path,
    what_the_backend_says_of_paths,
    fields_of_requests,
    fields_in_trailers,
    fields_of_answers,
    methods,
    rate_limits,
    rate_limits_by_a_field_and_dry_runs,
);
