//! The admin listener: what it shows, what it says of readiness, and which orders it takes.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::support::client::Response;
use crate::support::engines::on_both_engines;
use crate::support::process::{TempDir, program};
use crate::support::proxy::Builder;
use crate::support::{
    Client, DeadPort, Echo, Engine, Gate, Origin, ProxyProcess, ScriptedBackend, TestProxy, get, send_once,
    wait_for,
};

fn with_admin(engine: Engine, keys: &str) -> Builder {
    TestProxy::builder(engine).server(&format!("\n[admin]\nlisten_addr = \"127.0.0.1:0\"\n{keys}"))
}

fn admin(proxy: &TestProxy) -> SocketAddr {
    proxy.admin_addr().expect("an admin listener")
}

fn ask(addr: SocketAddr, request: &str) -> Response {
    send_once(addr, format!("{request} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"))
}

fn status(addr: SocketAddr) -> Value {
    serde_json::from_str(&ask(addr, "GET /status.json").expect(200).text()).unwrap()
}

/// The value of a series, by its name and labels as they are written.
fn metric(addr: SocketAddr, series: &str) -> Option<f64> {
    let text = ask(addr, "GET /metrics").expect(200).text();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

#[track_caller]
fn expect_metric(addr: SocketAddr, series: &str, value: f64) {
    wait_for(series, || {
        let found = metric(addr, series);
        if found == Some(value) { Ok(()) } else { Err(found) }
    });
}

/// Whichever of them has accepted them.
fn few_connections_are_dealt_out_evenly_among_the_workers(engine: Engine) {
    let origin = Origin::echo();
    let builder = TestProxy::builder(engine).server("workers = 4\n\n[admin]\nlisten_addr = \"127.0.0.1:0\"");
    let proxy = builder.route("/", &[origin.addr()], "").start();
    let _clients: Vec<Client> = (0..12).map(|_| Client::connect(proxy.addr())).collect();
    wait_for("three of twelve connections for each of four workers", || {
        let workers = status(admin(&proxy))["workers"].as_array().cloned().unwrap_or_default();
        let carried: Vec<_> = workers.iter().map(|worker| worker["connections"].as_u64()).collect();
        if carried == [Some(3); 4] { Ok(()) } else { Err(carried) }
    });
}

fn each_metric_moves_when_it_should(engine: Engine) {
    let (origin, dead) = (Origin::named("a"), DeadPort::reserve());
    let (up, down) = (origin.addr(), dead.addr());
    let proxy = with_admin(engine, "")
        .route("/", std::slice::from_ref(&up), "name = \"good\"")
        .route("/dead", std::slice::from_ref(&down), "name = \"dead\"\nretries = 1")
        .start();
    let addr = admin(&proxy);
    let request =
        "POST /x HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let answer = send_once(proxy.addr(), request).expect(200);
    get(proxy.addr(), "/dead").expect(502);
    let length = answer.body.len();
    #[expect(clippy::cast_precision_loss, reason = "it is short")]
    for (series, value) in [
        (format!("reverse_proxy_requests_total{{route=\"good\",backend=\"{up}\",class=\"2xx\"}}"), 1.0),
        (format!("reverse_proxy_requests_total{{route=\"dead\",backend=\"{down}\",class=\"5xx\"}}"), 1.0),
        ("reverse_proxy_route_failures_total{route=\"dead\",cause=\"connect_refused\"}".to_owned(), 1.0),
        ("reverse_proxy_failures_total{cause=\"connect_refused\"}".to_owned(), 1.0),
        ("reverse_proxy_retries_total{route=\"dead\"}".to_owned(), 1.0),
        ("reverse_proxy_retries_total{route=\"good\"}".to_owned(), 0.0),
        ("reverse_proxy_received_bytes_total{route=\"good\"}".to_owned(), 5.0),
        ("reverse_proxy_sent_bytes_total{route=\"good\"}".to_owned(), length as f64),
        ("reverse_proxy_first_byte_seconds_count{route=\"good\"}".to_owned(), 1.0),
        ("reverse_proxy_request_duration_seconds_count{route=\"good\"}".to_owned(), 1.0),
        ("reverse_proxy_request_duration_seconds_bucket{route=\"dead\",le=\"+Inf\"}".to_owned(), 1.0),
        ("reverse_proxy_failures_total{cause=\"no_route\"}".to_owned(), 0.0),
        ("reverse_proxy_route_in_flight{route=\"good\"}".to_owned(), 0.0),
        (format!("reverse_proxy_backend_up{{route=\"good\",backend=\"{up}\"}}"), 1.0),
        ("reverse_proxy_exchanges_total".to_owned(), 2.0),
        ("reverse_proxy_snapshots_in_use".to_owned(), 1.0),
        ("reverse_proxy_ready".to_owned(), 1.0),
    ] {
        expect_metric(addr, &series, value);
    }
    for there in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        assert!(metric(addr, there).is_some_and(|value| value > 0.0), "{there}");
    }
    let text = ask(addr, "GET /metrics").expect(200).text();
    assert!(text.contains("reverse_proxy_build_info{version="), "{text}");
    assert!(!text.contains("e+308"), "{text}");
}

/// As Prometheus' own tool has it, where it is installed.
fn the_metrics_are_as_prometheus_wants_them(engine: Engine) {
    let origin = Origin::echo();
    let proxy = with_admin(engine, "").route("/", &[origin.addr()], "").start();
    get(proxy.addr(), "/").expect(200);
    get(proxy.addr(), "/").expect(200);
    let response = ask(admin(&proxy), "GET /metrics").expect(200);
    assert!(response.fields().all("content-type")[0].starts_with("text/plain; version=0.0.4"));
    let text = response.text();
    let mut seen = std::collections::HashSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "{line} is there twice");
    }
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
    else {
        println!("not looked at by promtool, which is not installed");
        return;
    };
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && words.is_empty(), "{words}\n{text}");
}

fn the_status_shows_what_is_going_on(engine: Engine) {
    let (origin, ill) = (Origin::named("a"), Origin::named("ill"));
    ill.set_health(503);
    let keys = "name = \"shop\"\nhosts = [\"proxy.test\"]\nhealth_check = { path = \"/health\", interval_secs = 60 }";
    let proxy = with_admin(engine, "").route("/", &[origin.addr(), ill.addr()], keys).start();
    let addr = admin(&proxy);
    let mut client = Client::connect(proxy.addr());
    client.send("GET /hold?x HTTP/1.1\r\nHost: proxy.test\r\nX-Request-Id: mine\r\n\r\n");
    wait_for("the request to be held", || if origin.held() == 1 { Ok(()) } else { Err(()) });
    let seen = wait_for("the probes", || {
        let seen = status(addr);
        let is_ill = seen["routes"][0]["backends"][1]["state"] == "unhealthy";
        if is_ill { Ok(seen) } else { Err(seen) }
    });
    let route = &seen["routes"][0];
    assert_eq!((&route["name"], &route["in_flight"]), (&"shop".into(), &1.into()));
    assert_eq!(route["backends"][0]["state"], "up");
    assert_eq!(route["backends"][0]["in_flight"], 1);
    assert_eq!(route["backends"][1]["last_probe"]["word"], "status 503");
    assert_eq!((&seen["phase"], &seen["control"]), (&"serving".into(), &false.into()));
    if engine == Engine::Native {
        let exchange = &seen["exchanges"][0];
        for (key, value) in [
            ("request_id", "mine"),
            ("stage", "await_head"),
            ("client", "127.0.0.1"),
            ("method", "GET"),
            ("target", "/hold?x"),
            ("route", "shop"),
            ("backend", &origin.addr()),
        ] {
            assert_eq!(exchange[key], value, "{exchange}");
        }
    } else {
        assert!(seen["exchanges"].is_null());
    }
    origin.release();
    client.response().expect(200);
    wait_for("the exchange to be over", || {
        let seen = status(addr);
        let is_over = seen["routes"][0]["answers"]["2xx"] == 1 && seen["in_flight"] == 0;
        if is_over { Ok(()) } else { Err(seen) }
    });
}

/// While the service of `forward_auth` thinks.
fn who_is_asked_about_is_seen(engine: Engine) {
    let (origin, gate) = (Origin::echo(), Gate::new());
    let waits = gate.clone();
    let auth = ScriptedBackend::per_request(move |conn, request| {
        waits.wait("the test");
        let answer = if request.fields.has("cookie") { "401 No" } else { "200 Yes" };
        conn.send_head(&[&format!("HTTP/1.1 {answer}"), "Content-Length: 0"])
    });
    let keys = format!("forward_auth = {{ addr = {:?}, path = \"/v\" }}", auth.addr());
    let proxy = with_admin(engine, "").route("/", &[origin.addr()], &keys).start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the service to be asked", || if auth.requests() == 1 { Ok(()) } else { Err(()) });
    let seen = status(admin(&proxy));
    assert_eq!((&seen["in_flight"], &seen["routes"][0]["in_flight"]), (&1.into(), &1.into()));
    if engine == Engine::Native {
        let exchange = &seen["exchanges"][0];
        assert_eq!((&exchange["stage"], &exchange["backend"]), (&"auth".into(), &auth.addr().into()));
    }
    gate.open();
    client.response().expect(200);
    wait_for("the exchange to be over", || {
        let seen = status(admin(&proxy));
        let is_over = seen["routes"][0]["in_flight"] == 0 && seen["in_flight"] == 0;
        if is_over { Ok(()) } else { Err(seen) }
    });
    // Its answers are not those of a backend.
    send_once(proxy.addr(), "GET / HTTP/1.1\r\nHost: h\r\nCookie: a\r\n\r\n").expect(401);
    for (backend, class, count) in [("", "4xx", 1.0), ("", "2xx", 0.0), (&*origin.addr(), "2xx", 1.0)] {
        let labels = format!("route=\"/\",backend={backend:?},class={class:?}");
        expect_metric(admin(&proxy), &format!("reverse_proxy_requests_total{{{labels}}}"), count);
    }
}

fn the_page_needs_nothing_from_elsewhere(engine: Engine) {
    let proxy = with_admin(engine, "").route("/", &[Origin::echo().addr()], "").start();
    let page = ask(admin(&proxy), "GET /").expect(200);
    assert_eq!(page.fields().all("content-type"), ["text/html; charset=utf-8"]);
    assert!(page.fields().all("content-security-policy")[0].starts_with("default-src 'none'"));
    let text = page.text();
    assert!(text.contains("<title>reverse-proxy</title>"));
    for elsewhere in ["src=\"http", "href=\"http", "@import", "url("] {
        assert!(!text.contains(elsewhere), "{elsewhere}");
    }
    ask(admin(&proxy), "GET /nothing").expect(404);
    ask(admin(&proxy), "DELETE /").expect(405);
}

fn it_answers_when_the_proxy_is_full(engine: Engine) {
    let origin = Origin::echo();
    let server = if engine == Engine::Native {
        "max_connections = 1\nmax_exchanges = 1"
    } else {
        "workers = 1\nqueue_size = 1"
    };
    let proxy = TestProxy::builder(engine)
        .server(&format!("{server}\n[admin]\nlisten_addr = \"127.0.0.1:0\""))
        .route("/", &[origin.addr()], "")
        .start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the request to be held", || if origin.held() == 1 { Ok(()) } else { Err(()) });
    ask(admin(&proxy), "GET /livez").expect(200);
    ask(admin(&proxy), "GET /readyz").expect(200);
    assert_eq!(metric(admin(&proxy), "reverse_proxy_in_flight"), Some(1.0));
    origin.release();
    client.response().expect(200);
}

fn readiness_fails_first(engine: Engine) {
    let origin = Origin::echo();
    let directory = TempDir::new();
    let socket = directory.path().join("admin.sock");
    let config = TestProxy::builder(engine)
        .server(&format!("\n[admin]\nlisten_addr = \"unix:{}\"", socket.display()))
        .drain_delay("30")
        .route("/", &[origin.addr()], "")
        .toml();
    let (mut process, addr) = ProxyProcess::start(&config);
    let ask = |path: &str| {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("/readyz").starts_with("HTTP/1.1 200"));
    process.signal(rustix::process::Signal::TERM);
    process.wait_for_output("that it drains soon", |line| line.contains("draining soon").then_some(()));
    wait_for("readiness to fail", || {
        let answer = ask("/readyz");
        if answer.starts_with("HTTP/1.1 503") && answer.contains("leaving") { Ok(()) } else { Err(answer) }
    });
    assert!(ask("/livez").starts_with("HTTP/1.1 200"));
    get(addr, "/").expect(200);
    // The program asks itself.
    let file = directory.file("reverse-proxy.toml", &config);
    let exit = ProxyProcess::spawn(program().arg("--health").arg("--config").arg(&file)).wait();
    assert!(exit.status.success() && exit.output == "ok\n", "{exit:?}");
    // A second signal does not wait for the delay.
    process.signal(rustix::process::Signal::TERM);
    process.wait();
    let exit = ProxyProcess::spawn(program().arg("--health").arg("--config").arg(&file)).wait();
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    assert!(exit.output.contains("admin.sock: "), "{exit:?}");
}

fn readiness_can_require_backends(engine: Engine) {
    let origin = Origin::echo();
    origin.set_health(503);
    let check = "health_check = { path = \"/health\", interval_secs = 0.1 }";
    let keys = "ready_requires_backends = true";
    let answering = "respond = { body = \"always\" }";
    let alone = with_admin(engine, keys).answering_route("/", answering).start();
    assert_eq!(ask(admin(&alone), "GET /readyz").status(), 200, "there is no backend to wait for");
    for path in ["GET /status.json", "GET /metrics"] {
        assert_eq!(ask(admin(&alone), path).status(), 200, "{path}");
    }
    // Beside others, what is always there says nothing.
    let builder = with_admin(engine, keys).answering_route("/hello", answering);
    let proxy = builder.route("/", &[origin.addr()], check).start();
    let expect = |status: u16| {
        wait_for("readiness to change", || {
            let found = ask(admin(&proxy), "GET /readyz").status();
            if found == status { Ok(()) } else { Err(found) }
        });
    };
    expect(503);
    origin.set_health(200);
    expect(200);
}

fn origins_seen(proxy: &TestProxy) -> Vec<String> {
    (0..6).map(|_| Echo::parse(&get(proxy.addr(), "/").expect(200).body).origin).collect()
}

fn a_backend_can_be_taken_out_and_let_in_again(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let builder = |keys: &str| {
        with_admin(engine, "control = true").route(
            "/",
            &[a.addr(), b.addr()],
            &format!("name = \"x/y\"\n{keys}"),
        )
    };
    let mut proxy = builder("").start();
    let addr = admin(&proxy);
    let mut client = Client::connect(proxy.addr());
    // What is under way on it goes on.
    client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the request to be held", || if a.held() + b.held() == 1 { Ok(()) } else { Err(()) });
    let holds = if a.held() == 1 { &a } else { &b };
    let told = ask(addr, &format!("POST /backends/x/y/{}/drain", holds.addr())).expect(200).text();
    assert!(told.ends_with("drain, 1 in flight\n"), "{told}");
    let left: std::collections::HashSet<String> = origins_seen(&proxy).into_iter().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    holds.release();
    let held = Echo::parse(&client.response().expect(200).body).origin;
    assert!(!left.contains(&held));
    // Over a reload, too.
    proxy.reload(&builder("retries = 0")).unwrap();
    assert!(!origins_seen(&proxy).contains(&held));
    let backends = status(addr)["routes"][0]["backends"].clone();
    let state_of = |addr: &str| {
        let backends = backends.as_array().unwrap();
        backends.iter().find(|backend| backend["name"] == addr).unwrap()["state"].clone()
    };
    assert_eq!(state_of(&holds.addr()), "drain");
    ask(addr, &format!("POST /backends/x%2Fy/{}/ready", holds.addr())).expect(200);
    assert!(origins_seen(&proxy).contains(&held));
}

fn sticky_clients_move(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let keys = "name = \"shop\"\nsticky_cookie = { name = \"stick\" }";
    let proxy = with_admin(engine, "control = true").route("/", &[a.addr(), b.addr()], keys).start();
    let first = get(proxy.addr(), "/").expect(200);
    let cookie = first.fields().all("set-cookie")[0].split(';').next().unwrap().to_owned();
    let origin = Echo::parse(&first.body).origin;
    let again = || {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
        Echo::parse(&send_once(proxy.addr(), request).expect(200).body).origin
    };
    assert_eq!(again(), origin);
    let addr = if origin == "a" { a.addr() } else { b.addr() };
    ask(admin(&proxy), &format!("POST /backends/shop/{addr}/down")).expect(200);
    assert_ne!(again(), origin);
}

fn orders_are_not_taken_from_anybody(engine: Engine) {
    let origin = Origin::echo();
    let proxy = with_admin(engine, "").route("/", &[origin.addr()], "").start();
    let addr = admin(&proxy);
    let path = format!("/backends/%2F/{}/drain", origin.addr());
    let refused = ask(addr, &format!("POST {path}")).expect(403).text();
    assert!(refused.contains("control = true"), "{refused}");
    let proxy = with_admin(engine, "control = true").route("/", &[origin.addr()], "").start();
    let addr = admin(&proxy);
    let order = |fields: &str| {
        send_once(addr, format!("POST {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n")).status()
    };
    assert_eq!(order(&format!("Host: {addr}\r\nOrigin: https://evil.example\r\n")), 403);
    assert_eq!(order("Host: evil.example\r\n"), 421);
    get(proxy.addr(), "/").expect(200);
    assert_eq!(order(&format!("Host: {addr}\r\nOrigin: http://{addr}\r\n")), 200);
    get(proxy.addr(), "/").expect(503);
    // What does not exist is named.
    let unknown = ask(addr, "POST /backends/nope/127.0.0.1:1/drain").expect(404).text();
    assert!(unknown.contains("there are: /"), "{unknown}");
    let unknown = ask(addr, "POST /backends/%2F/127.0.0.1:1/drain").expect(404).text();
    assert!(unknown.contains(&origin.addr()), "{unknown}");
}

fn the_exchanges_can_be_had_in_the_log(engine: Engine) {
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).route("/", &[origin.addr()], "").toml();
    let (mut process, addr) = ProxyProcess::start(&config);
    let mut client = Client::connect(addr);
    client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the request to be held", || if origin.held() == 1 { Ok(()) } else { Err(()) });
    process.signal(rustix::process::Signal::USR2);
    process.wait_for_output("how many", |line| line.contains("exchanges in_flight=1").then_some(()));
    if engine == Engine::Native {
        let is_it = |line: &str| {
            (line.contains("stage=await_head") && line.contains("target=\"/hold\"")).then_some(())
        };
        process.wait_for_output("the exchange", is_it);
    }
    origin.release();
    client.response().expect(200);
}

/// Neither a length that cannot be allocated, nor clients that stop, nor one that does not read.
fn it_is_hurt_by_nobody(engine: Engine) {
    let origin = Origin::echo();
    let config = with_admin(engine, "").route("/", &[origin.addr()], "").toml();
    let (mut process, addr) = ProxyProcess::start(&config);
    let admin = process.wait_for_output("the admin listener", |line| {
        line.split_once("admin listener ready addr=")?.1.trim().parse::<SocketAddr>().ok()
    });
    let huge = format!("GET /nope HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 100000000000000\r\n\r\n");
    send_once(admin, huge).expect(404);
    let mut stopped: Vec<_> = (0..8).map(|_| Client::connect(admin)).collect();
    for (number, client) in stopped.iter_mut().enumerate() {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 5000\r\n\r\n");
        client.send(if number % 2 == 0 { request.as_str() } else { "GET / HT" });
    }
    ask(admin, "GET /livez").expect(200);
    get(addr, "/").expect(200);
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait_up_to(std::time::Duration::from_secs(8)).status.success());
    drop(stopped);
}

on_both_engines!(
    who_is_asked_about_is_seen,
    it_is_hurt_by_nobody,
    few_connections_are_dealt_out_evenly_among_the_workers,
    each_metric_moves_when_it_should,
    the_metrics_are_as_prometheus_wants_them,
    the_status_shows_what_is_going_on,
    the_page_needs_nothing_from_elsewhere,
    it_answers_when_the_proxy_is_full,
    readiness_fails_first,
    readiness_can_require_backends,
    a_backend_can_be_taken_out_and_let_in_again,
    sticky_clients_move,
    orders_are_not_taken_from_anybody,
    the_exchanges_can_be_had_in_the_log,
);
