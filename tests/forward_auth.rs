//! Another service decides who may come: `forward_auth`, on both engines.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reverse_proxy::error::Cause;

use crate::support::backend::{Conn, Request};
use crate::support::engines::on_both_engines;
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{
    Client, DeadPort, Echo, Engine, Gate, Origin, ScriptedBackend, TestProxy, get, hash_of, pattern,
    send_once, wait_for,
};

pub(crate) const YES: &str = "HTTP/1.1 200 OK\r\nRemote-User: eve\r\nContent-Length: 2\r\n\r\nok";

/// The key of a route whose requests are asked about at `addr`.
pub(crate) fn asks(addr: &str, more: &str) -> String {
    format!(
        "forward_auth = {{ addr = {addr:?}, path = \"/verify?x=y\", copy_headers = [\"Remote-User\"]{more} }}"
    )
}

/// A service that answers as its script says, and what it was asked.
pub(crate) fn service(
    script: impl Fn(&mut Conn, &Request) -> std::io::Result<()> + Send + Sync + 'static,
) -> (ScriptedBackend, Arc<Mutex<Vec<Request>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let service = ScriptedBackend::per_request(move |conn, request| {
        seen.lock().unwrap().push(request.clone());
        script(conn, request)
    });
    (service, asked)
}

pub(crate) fn answering(answer: &'static str) -> (ScriptedBackend, Arc<Mutex<Vec<Request>>>) {
    service(move |conn, _| conn.send(answer.as_bytes()))
}

/// A service that lets everybody in when the gate is open.
pub(crate) fn held() -> (ScriptedBackend, Gate) {
    let gate = Gate::new();
    let waits = gate.clone();
    let (auth, _) = service(move |conn, _| {
        waits.wait("the test");
        conn.send(YES.as_bytes())
    });
    (auth, gate)
}

fn who_is_let_in_brings_what_the_service_says(engine: Engine) {
    let origin = Origin::echo();
    let (auth, asked) = service(|conn, request| match request.fields.one("cookie").as_deref() {
        Some("who=eve") => conn.send(YES.as_bytes()),
        _ => conn.send(b"HTTP/1.1 204 No Content\r\nX-Other: o\r\n\r\n"),
    });
    let proxy = TestProxy::to(engine, &[origin.addr()], &asks(&auth.addr(), ""));
    let mut client = Client::connect(proxy.addr());
    let fields = "Host: shop.test\r\nRemote-User: admin\r\nRemote_User: admin\r\nConnection: remote-user\r\nX-Other: mine\r\n\
                  X-Original-URL: /public\r\nX-Forwarded-Uri: /public\r\nAuthorization: b";
    for (cookie, user) in [("who=eve", &["eve"][..]), ("who=nobody", &[])] {
        client.send(format!("GET /a%2Fb?c HTTP/1.1\r\n{fields}\r\nCookie: {cookie}\r\n\r\n"));
        let echo = Echo::parse(&client.response().expect(200).body);
        assert_eq!(echo.target, "/a%2Fb?c");
        assert_eq!(echo.fields.all("remote-user"), user);
        assert_eq!(echo.fields.all("remote_user"), [""; 0]);
        assert_eq!(echo.fields.all("x-other"), ["mine"]);
        assert_eq!(echo.fields.all("cookie"), [cookie]);
    }
    let asked = asked.lock().unwrap();
    let Request { method, target, fields, .. } = &asked[0];
    assert_eq!((method.as_str(), target.as_str()), ("GET", "/verify?x=y"));
    for (name, value) in [
        ("host", &auth.addr()[..]),
        ("cookie", "who=eve"),
        ("authorization", "b"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-uri", "/a%2Fb?c"),
        ("x-forwarded-host", "shop.test"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(fields.all(name), [value], "{name}");
    }
    assert!(fields.has("x-request-id") && !fields.has("x-original-url"));
    drop(asked);
    // One connection is enough for all that is asked.
    assert_eq!((auth.requests(), auth.connections(), origin.requests()), (2, 1, 2));
    proxy.expect_idle();
}

fn who_is_kept_out_gets_the_answer_of_the_service(engine: Engine) {
    let origin = Origin::echo();
    let (auth, _) = service(|conn, request| {
        match request.fields.one("accept").as_deref() {
        Some("text/html") => conn.send(
            b"HTTP/1.1 302 Found\r\nLocation: https://login.test/?rd=1\r\nSet-Cookie: a=b; Path=/\r\n\
              Set-Cookie: c=d\r\nContent-Length: 0\r\n\r\n",
        ),
        Some("long") => {
            conn.send_head(&["HTTP/1.1 403 Forbidden", "Transfer-Encoding: chunked"])?;
            conn.send(&[&chunk(&pattern(1, 200_000)), LAST_CHUNK].concat())
        }
        _ => conn.send(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nRemote-User: x\r\nContent-Length: 5\r\n\r\nwho?\n",
        ),
    }
    });
    let rules = "strip_prefix = true\nresponse_headers = { set = { Location = \"/none\" } }\nsticky_cookie = { name = \"s\" }";
    let proxy = TestProxy::builder(engine)
        .route("/api", &[origin.addr()], &format!("{}\n{rules}", asks(&auth.addr(), "")))
        .start();
    let mut client = Client::connect(proxy.addr());
    for _ in 0..2 {
        for method in ["GET", "HEAD", "DELETE"] {
            client.send(format!("{method} /api/x HTTP/1.1\r\nHost: h\r\n\r\n"));
            let response = client.response_to(method).expect(401);
            assert_eq!(response.text(), if method == "HEAD" { "" } else { "who?\n" });
            assert_eq!(response.fields().all("www-authenticate"), ["Bearer"]);
            assert_eq!(response.fields().all("content-length"), ["5"]);
            assert!(!response.fields().has("set-cookie") && !response.fields().has("proxy-status"));
        }
        client.send("GET /api/x HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n");
        let response = client.response().expect(302);
        assert_eq!(response.fields().all("location"), ["https://login.test/?rd=1"]);
        assert_eq!(response.fields().all("set-cookie"), ["a=b; Path=/", "c=d"]);
        client.send("GET /api/x HTTP/1.1\r\nHost: h\r\nAccept: long\r\n\r\n");
        assert_eq!(hash_of(&client.response().expect(403).body), hash_of(&pattern(1, 200_000)));
    }
    assert_eq!(origin.requests(), 0);
    proxy.expect_idle();
}

/// The time it takes is not taken from that in which backends are tried.
fn a_slow_service_leaves_time_for_another_try(engine: Engine) {
    // Each connection is good for one request.
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        conn.request().map(drop)
    });
    let (auth, _) = service(|conn, request| {
        if request.fields.has("x-slow") {
            std::thread::sleep(Duration::from_millis(1_500));
        }
        conn.send(YES.as_bytes())
    });
    let keys = format!("{}\nresponse_timeout_secs = 1", asks(&auth.addr(), ""));
    let proxy = TestProxy::builder(engine).route("/", &[backend.addr()], &keys).start();
    let mut client = Client::connect(proxy.addr());
    for slow in ["", "X-Slow: 1\r\n"] {
        client.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{slow}\r\n"));
        client.response().expect(200);
    }
    assert_eq!(backend.connections(), 2);
}

/// What it was is said before the service is asked, and what else there is behind it.
fn its_place_among_the_rules(engine: Engine) {
    let origin = Origin::echo();
    let (auth, _) = service(|conn, request| match request.fields.one("cookie") {
        Some(_) => conn.send(YES.as_bytes()),
        None => conn.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
    });
    let with = |more: &str| format!("{}\n{more}", asks(&auth.addr(), ""));
    let proxy = TestProxy::builder(engine)
        .server("workers = 1")
        .route("/denied", &[origin.addr()], &with("deny = [\"127.0.0.1\"]"))
        .route("/get", &[origin.addr()], &with("methods = [\"GET\"]"))
        .route("/set", &[origin.addr()], &with("request_headers = { add = { Remote-User = \"ours\" } }"))
        .route("/open", &[origin.addr()], "")
        .answering_route("/page", &with("respond = { body = \"secret\" }"))
        .start();
    let ask = |line: &str, fields: &str| {
        send_once(proxy.addr(), format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
    };
    ask("GET /denied", "").expect_failure(403, "client_denied");
    ask("DELETE /get", "").expect_failure(405, "method_not_allowed");
    ask("GET /open", "").expect(200);
    assert_eq!(auth.requests(), 0);
    assert_eq!(ask("GET /page", "").expect(401).text(), "");
    assert_eq!(ask("GET /page", "Cookie: a\r\n").expect(200).text(), "secret");
    let echo = Echo::parse(&ask("GET /set", "Cookie: a\r\nRemote-User: me\r\n").expect(200).body);
    assert_eq!(echo.fields.all("remote-user"), ["eve", "ours"]);
    // Two routes, one service: one connection.
    assert_eq!(auth.connections(), 1);
}

fn a_body_waits_for_the_service(engine: Engine) {
    let origin = Origin::echo();
    let (auth, asked) = answering(YES);
    let proxy = TestProxy::to(engine, &[origin.addr()], &asks(&auth.addr(), ""));
    let mut client = Client::connect(proxy.addr());
    for size in [1, 5_000, 400_000] {
        let body = pattern(1, size);
        let head =
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: {size}\r\n\r\n");
        client.send([head.as_bytes(), &body].concat());
        assert_eq!(Echo::parse(&client.response_to("POST").expect(200).body).hash, hash_of(&body));
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send([&chunk(&body), LAST_CHUNK].concat());
        assert_eq!(Echo::parse(&client.response_to("POST").expect(200).body).hash, hash_of(&body));
    }
    for request in asked.lock().unwrap().iter() {
        for name in ["content-length", "transfer-encoding", "content-type", "te", "connection"] {
            assert!(!request.fields.has(name), "{name}");
        }
    }
}

/// Who is kept out with an upload under way gets the answer, and nothing of the upload is taken for a request.
fn an_upload_that_is_kept_out(engine: Engine) {
    let origin = Origin::echo();
    let (auth, _) = answering("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno");
    let proxy = TestProxy::to(engine, &[origin.addr()], &asks(&auth.addr(), ""));
    for size in [10, 5 * 1024 * 1024] {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n"));
        client.send(vec![b'u'; size]);
        assert_eq!(client.response_to("POST").expect(401).text(), "no");
        proxy.expect_idle();
    }
    assert_eq!(origin.requests(), 0);
}

fn nobody_is_told_to_continue_before(engine: Engine) {
    let origin = Origin::echo();
    let (gate, asked) = (Gate::new(), Gate::new());
    let (waits, opens) = (gate.clone(), asked.clone());
    let (auth, _) = service(move |conn, request| {
        opens.open();
        if request.fields.has("cookie") {
            waits.wait("the test");
            return conn.send(YES.as_bytes());
        }
        conn.send(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
    });
    let proxy = TestProxy::to(engine, &[origin.addr()], &asks(&auth.addr(), ""));
    let head = |fields: &str| {
        format!("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n{fields}\r\n")
    };
    let mut client = Client::connect(proxy.addr());
    client.send(head("Cookie: a\r\n"));
    asked.wait("the service to be asked");
    assert!(!client.has_input(), "told before");
    gate.open();
    assert_eq!(client.any_head("POST").unwrap().expect("a head").status, 100);
    client.send("body");
    assert_eq!(Echo::parse(&client.response_to("POST").expect(200).body).hash, hash_of(b"body"));
    let mut client = Client::connect(proxy.addr());
    client.send(head(""));
    assert_eq!(client.any_head("POST").unwrap().expect("a head").status, 401);
}

fn a_service_that_is_not_there_lets_nobody_in(engine: Engine) {
    let origin = Origin::echo();
    let dead = DeadPort::reserve();
    let silent = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let closing = ScriptedBackend::per_request(|_, _| Err(std::io::ErrorKind::Other.into()));
    let broken = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nRemote-User: e")
    });
    let garbage = ScriptedBackend::answering("220 mail.test ESMTP\r\n\r\n");
    let switching =
        ScriptedBackend::answering("HTTP/1.1 101 Switching\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n");
    let large = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\n\r\n", "x".repeat(70_000));
    let large = ScriptedBackend::answering(large);
    let mut proxy = TestProxy::builder(engine);
    let cases = [
        (dead.addr(), Cause::AuthUnavailable),
        ("no-such-host.invalid:80".to_owned(), Cause::AuthUnavailable),
        (closing.addr(), Cause::AuthUnavailable),
        (broken.addr(), Cause::AuthUnavailable),
        (silent.addr(), Cause::AuthTimeout),
        (garbage.addr(), Cause::AuthBadResponse),
        (switching.addr(), Cause::AuthBadResponse),
        (large.addr(), Cause::AuthBadResponse),
    ];
    for (n, (addr, _)) in cases.iter().enumerate() {
        // The others have enough time on the slowest machine.
        let timeout = if *addr == silent.addr() { ", timeout_secs = 0.2" } else { ", timeout_secs = 20" };
        proxy = proxy.route(&format!("/{n}"), &[origin.addr()], &asks(addr, timeout));
    }
    let proxy = proxy.start();
    for (n, (_, cause)) in cases.iter().enumerate() {
        let response = get(proxy.addr(), &format!("/{n}")).expect_failure(cause.status(), cause.word());
        assert_eq!(response.fields().has("retry-after"), cause.status() == 503);
    }
    assert_eq!(origin.requests(), 0);
    for (cause, count) in [(Cause::AuthUnavailable, 4), (Cause::AuthTimeout, 1), (Cause::AuthBadResponse, 3)]
    {
        proxy.expect_counted(cause, count);
    }
    proxy.expect_idle();
}

/// Of a head that comes byte by byte only the whole has a time.
fn a_service_that_trickles(engine: Engine) {
    let origin = Origin::echo();
    let auth = ScriptedBackend::per_request(|conn, _| {
        conn.send(b"HTTP/1.1 200 OK\r\nX-Long: ")?;
        loop {
            conn.send(b"x")?;
            std::thread::yield_now();
        }
    });
    let slow = asks(&auth.addr(), ", timeout_secs = 0.05");
    let proxy = TestProxy::to(engine, &[origin.addr()], &slow);
    // As fast as it goes, the head is too large in the end.
    let response = get(proxy.addr(), "/");
    assert!([502, 504].contains(&response.status()), "{}", response.status());
    assert_eq!(origin.requests(), 0);
    proxy.expect_idle();
}

fn a_kept_connection_that_was_closed_is_no_failure(engine: Engine) {
    let origin = Origin::echo();
    // The second request on each connection finds nobody.
    let auth = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(YES.as_bytes())?;
        conn.request()?;
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[origin.addr()], &asks(&auth.addr(), ""));
    let mut client = Client::connect(proxy.addr());
    for _ in 0..4 {
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        client.response_to("POST").expect(200);
    }
    assert_eq!(origin.requests(), 4);
    assert_eq!(
        proxy.counters().retries.load(std::sync::atomic::Ordering::Relaxed),
        0,
        "no other try of the request"
    );
}

/// A short one is read, however it comes, so that the connection can be used again.
fn the_body_of_a_yes_is_nobodys(engine: Engine) {
    let origin = Origin::echo();
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n{}", "x".repeat(200_000));
    for (answer, kept) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n|2\r\nok|\r\n0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n|o|k|o|k", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", false),
        ("HTTP/1.0 200 OK\r\n\r\nok", false),
        (&long, false),
    ] {
        let pieces: Vec<String> = answer.split('|').map(str::to_owned).collect();
        let (auth, _) =
            service(move |conn, _| pieces.iter().try_for_each(|piece| conn.send(piece.as_bytes())));
        let proxy = TestProxy::to(engine, &[origin.addr()], &asks(&auth.addr(), ""));
        let mut client = Client::connect(proxy.addr());
        for _ in 0..2 {
            client.get("/").expect(200);
        }
        if engine == Engine::Native {
            assert_eq!(auth.connections(), if kept { 1 } else { 2 }, "{answer:.80?}");
        }
        proxy.expect_idle();
    }
}

/// What says that its answer has more, and breaks off, has not said yes.
fn a_yes_that_is_not_whole_lets_nobody_in(engine: Engine) {
    let origin = Origin::echo();
    let silent = answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok").0;
    let closing = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok")
    });
    let broken = answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nok?\r\n").0;
    let twice = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok").0;
    let proxy = TestProxy::builder(engine)
        .route("/silent", &[origin.addr()], &asks(&silent.addr(), ", timeout_secs = 0.2"))
        .route("/closing", &[origin.addr()], &asks(&closing.addr(), ""))
        .route("/broken", &[origin.addr()], &asks(&broken.addr(), ""))
        .route("/twice", &[origin.addr()], &asks(&twice.addr(), ""))
        .start();
    get(proxy.addr(), "/silent").expect_failure(504, "auth_timeout");
    get(proxy.addr(), "/closing").expect_failure(503, "auth_unavailable");
    get(proxy.addr(), "/broken").expect_failure(502, "auth_bad_response");
    get(proxy.addr(), "/twice").expect_failure(502, "auth_bad_response");
    assert_eq!(origin.requests(), 0);
    proxy.expect_idle();
}

/// Who a client is for the balancer, it does not say itself.
fn backends_are_chosen_by_what_the_service_says(engine: Engine) {
    let origins: Vec<Origin> = (0..4).map(|n| Origin::named(&n.to_string())).collect();
    let addrs: Vec<String> = origins.iter().map(Origin::addr).collect();
    let (auth, _) = answering(YES);
    let keys = "balancing_algorithm = \"consistent_hash\"\nhash_on = \"header:Remote-User\"";
    let proxy = TestProxy::to(engine, &addrs, &format!("{}\n{keys}", asks(&auth.addr(), "")));
    for n in 0..20 {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\nRemote-User: user-{n}\r\n\r\n");
        send_once(proxy.addr(), request).expect(200);
    }
    let counts: Vec<usize> = origins.iter().map(Origin::requests).collect();
    assert!(counts.contains(&20), "{counts:?}");
}

/// Its addresses are looked up as those of backends are.
fn a_service_with_a_name(engine: Engine) {
    let origin = Origin::echo();
    let (auth, asked) = answering(YES);
    let port: u16 = auth.addr().rsplit_once(':').unwrap().1.parse().unwrap();
    let name = format!("auth.test:{port}");
    let proxy = TestProxy::builder(engine)
        .route("/", &[origin.addr()], &asks(&name, ""))
        .start_with_lookup(Arc::new(|_, port| Ok(vec![std::net::SocketAddr::from(([127, 0, 0, 1], port))])));
    get(proxy.addr(), "/").expect(200);
    assert_eq!(asked.lock().unwrap()[0].fields.all("host"), [name]);
}

fn interim_answers_of_the_service_are_not_passed_on(engine: Engine) {
    let origin = Origin::echo();
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let (yes, no) =
        ([interim, YES].concat(), [interim, "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"].concat());
    for (answer, status) in [(yes, 200), (no, 401)] {
        let auth = ScriptedBackend::answering(answer);
        let proxy = TestProxy::to(engine, &[origin.addr()], &asks(&auth.addr(), ""));
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.any_head("GET").unwrap().expect("a head").status, status);
    }
}

fn pipelined_requests_are_asked_about_one_by_one(engine: Engine) {
    let origin = Origin::echo();
    let (auth, asked) = service(|conn, request| match request.fields.one("x-forwarded-uri").as_deref() {
        Some("/2") => conn.send(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno"),
        _ => conn.send(YES.as_bytes()),
    });
    let proxy = TestProxy::to(engine, &[origin.addr()], &asks(&auth.addr(), ""));
    let mut client = Client::connect(proxy.addr());
    let requests: Vec<String> =
        (1..=3).map(|n| format!("PUT /{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")).collect();
    client.send(requests.concat());
    for status in [200, 401, 200] {
        client.response_to("PUT").expect(status);
    }
    assert_eq!(asked.lock().unwrap().len(), 3);
}

/// The service may be another one after a reload; what it was asked before is answered.
fn a_reload_meanwhile(engine: Engine) {
    let origin = Origin::echo();
    let ((before, gate), (after, _)) = (held(), answering(YES));
    let with = |addr: &str| TestProxy::builder(engine).route("/", &[origin.addr()], &asks(addr, ""));
    let mut proxy = with(&before.addr()).start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    proxy.expect_in_flight(&before.addr(), 1);
    proxy.reload(&with(&after.addr())).unwrap();
    get(proxy.addr(), "/").expect(200);
    gate.open();
    client.response().expect(200);
    assert_eq!((before.requests(), after.requests()), (1, 1));
    proxy.expect_one_snapshot();
}

/// As many as the route may carry, and nobody waits for a place of the service.
fn requests_that_are_asked_about_count_for_the_route(engine: Engine) {
    let origin = Origin::echo();
    let (auth, gate) = held();
    let keys = format!("{}\nmax_in_flight = 1", asks(&auth.addr(), ""));
    let proxy = TestProxy::to(engine, &[origin.addr()], &keys);
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    proxy.expect_in_flight(&auth.addr(), 1);
    get(proxy.addr(), "/").expect_failure(503, "route_full");
    gate.open();
    client.response().expect(200);
    wait_for("the place to be free", || match get(proxy.addr(), "/").status() {
        200 => Ok(()),
        status => Err(status),
    });
}

on_both_engines!(
    who_is_let_in_brings_what_the_service_says,
    who_is_kept_out_gets_the_answer_of_the_service,
    a_slow_service_leaves_time_for_another_try,
    its_place_among_the_rules,
    a_body_waits_for_the_service,
    an_upload_that_is_kept_out,
    nobody_is_told_to_continue_before,
    a_service_that_is_not_there_lets_nobody_in,
    a_service_that_trickles,
    a_kept_connection_that_was_closed_is_no_failure,
    the_body_of_a_yes_is_nobodys,
    a_yes_that_is_not_whole_lets_nobody_in,
    a_service_with_a_name,
    backends_are_chosen_by_what_the_service_says,
    interim_answers_of_the_service_are_not_passed_on,
    pipelined_requests_are_asked_about_one_by_one,
    a_reload_meanwhile,
    requests_that_are_asked_about_count_for_the_route,
);
