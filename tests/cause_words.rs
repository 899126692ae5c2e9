//! One word for each cause: the same in `Proxy-Status`, in the log and in the counters.

use std::net::SocketAddr;

use reverse_proxy::error::Cause;

use crate::support::engines::on_both_engines;
use crate::support::process::program;
use crate::support::proxy::Builder;
use crate::support::{
    Client, DeadPort, Engine, Gate, Origin, ProxyProcess, Response, ScriptedBackend, TestProxy, get,
    send_once, wait_for,
};

/// Lets a proxy fail for `cause`, by the program for its log and in this process for its counters.
#[track_caller]
fn check(config: Builder, cause: Cause, provoke: impl Fn(SocketAddr) -> Response) {
    let (word, status) = (cause.word(), cause.status());
    let expected = |response: Response| {
        let response = response.expect_failure(status, word);
        let proxy_status = response.fields().one("proxy-status").expect("Proxy-Status");
        let details = format!("reverse-proxy; error={}; details=\"{word}\"", cause.proxy_error_type());
        assert_eq!(proxy_status, details);
        assert!(response.text().contains(&format!("({word})")), "{}", response.text());
        assert_eq!(response.fields().has("retry-after"), status == 503);
    };

    let mut command = program();
    command.env("RUST_LOG", "reverse_proxy=debug");
    let (mut process, addr) = ProxyProcess::start_with(&config.toml(), command);
    expected(provoke(addr));
    let found = format!("cause={word}");
    let is_it = |line: &str| {
        let is_exchange = line.contains(" exchange ") || line.contains(" refused ");
        (is_exchange && line.split_whitespace().any(|part| part == found)).then_some(())
    };
    process.wait_for_output(&format!("a line of the exchange with {found}"), is_it);
    drop(process);

    let proxy = config.start();
    expected(provoke(proxy.addr()));
    proxy.expect_counted(cause, 1);
}

fn to(engine: Engine, backend: String, keys: &str) -> Builder {
    // What is held when a test is over is not waited for.
    TestProxy::builder(engine).shutdown_timeout("0").route("/", &[backend], &format!("retries = 0\n{keys}"))
}

fn post(addr: SocketAddr, rest: &str) -> Response {
    send_once(addr, format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{rest}"))
}

fn of_requests(engine: Engine) {
    let origin = Origin::echo();
    let here = TestProxy::builder(engine).route("/here", &[origin.addr()], "");
    check(here, Cause::NoRoute, |addr| get(addr, "/nowhere"));
    let small = to(engine, origin.addr(), "max_body_bytes = 10");
    check(small, Cause::BodyTooLarge, |addr| post(addr, "Content-Length: 11\r\n\r\nhello world"));
    check(to(engine, origin.addr(), ""), Cause::BadBody, |addr| {
        post(addr, "Transfer-Encoding: chunked\r\n\r\nnonsense\r\n\r\n")
    });
}

/// A head that is refused has a word of its own.
fn of_heads(engine: Engine) {
    let origin = Origin::echo();
    let config = to(engine, origin.addr(), "").server("max_headers = 10");
    let fields = "X: y\r\n".repeat(12);
    let request = format!("GET / HTTP/1.1\r\nHost: proxy.test\r\n{fields}\r\n");
    let mut command = program();
    command.env("RUST_LOG", "reverse_proxy=debug");
    let (mut process, addr) = ProxyProcess::start_with(&config.toml(), command);
    let response = send_once(addr, &request).expect(431);
    let proxy_status = response.fields().one("proxy-status").expect("Proxy-Status");
    let (_, details) = proxy_status.split_once("details=\"").expect("details");
    let word = details.trim_end_matches('"');
    process.wait_for_output("the word in the log", |line| {
        (line.contains("refused") && line.ends_with(&format!("cause={word}"))).then_some(())
    });
    let proxy = config.start();
    send_once(proxy.addr(), &request).expect(431);
    // All refused heads are counted as one kind.
    proxy.expect_counted(Cause::HEAD_TIMEOUT, 1);
}

fn of_connections(engine: Engine) {
    let dead = DeadPort::reserve();
    check(to(engine, dead.addr(), ""), Cause::ConnectRefused, |addr| get(addr, "/"));
    let nowhere = to(engine, "unix:/nowhere/at/all.sock".into(), "");
    check(nowhere, Cause::ConnectFailed, |addr| get(addr, "/"));
    let nobody = to(engine, "no-such-host.invalid:80".into(), "");
    check(nobody, Cause::NameNotResolved, |addr| get(addr, "/"));
}

fn of_connections_in_time(engine: Engine) {
    let full = crate::support::backend::FullBacklog::new();
    check(to(engine, full.addr(), "connect_timeout_secs = 0.1"), Cause::ConnectTimeout, |addr| {
        get(addr, "/")
    });
}

fn of_answers(engine: Engine) {
    let answers: &[(Cause, String)] = &[
        (Cause::BackendClosed, "HTTP/1.1 200 OK\r\nContent-Le".into()),
        (Cause::BadResponse, "nonsense\r\n\r\n".into()),
        (Cause::ResponseHeadTooLarge, format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\n\r\n", "x".repeat(70_000))),
    ];
    for (cause, answer) in answers {
        let answer = answer.clone();
        let backend = ScriptedBackend::per_connection(move |mut conn| {
            conn.request()?;
            conn.send(answer.as_bytes())
        });
        check(to(engine, backend.addr(), ""), *cause, |addr| get(addr, "/"));
    }
    let hanging = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let limits =
        [("response_timeout_secs", Cause::ResponseTimeout), ("deadline_secs", Cause::DeadlineExceeded)];
    for (key, cause) in limits {
        check(to(engine, hanging.addr(), &format!("{key} = 0.1")), cause, |addr| get(addr, "/"));
    }
}

/// Of the service of `forward_auth`.
fn of_who_may_come(engine: Engine) {
    let (origin, dead) = (Origin::echo(), DeadPort::reserve());
    let hanging = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let nonsense = ScriptedBackend::answering("nonsense\r\n\r\n");
    for (cause, service, seconds) in [
        (Cause::AuthUnavailable, dead.addr(), 8.0),
        (Cause::AuthTimeout, hanging.addr(), 0.1),
        (Cause::AuthBadResponse, nonsense.addr(), 8.0),
    ] {
        let keys = format!("forward_auth = {{ addr = {service:?}, path = \"/\", timeout_secs = {seconds} }}");
        check(to(engine, origin.addr(), &keys), cause, |addr| get(addr, "/"));
    }
    assert_eq!(origin.requests(), 0);
}

fn of_health(engine: Engine) {
    let sick = Origin::echo();
    sick.set_health(500);
    let keys = "health_check = { path = \"/health\", interval_secs = 0.1 }";
    check(to(engine, sick.addr(), keys), Cause::NoHealthyBackend, |addr| {
        wait_for("the backend to be found unhealthy", || match get(addr, "/") {
            // Until then it answers, and after that only this one is counted.
            response if response.status() == 503 => Ok(response),
            response => Err(response.status()),
        })
    });
}

/// Holds one request, and sends another that is too many.
fn of_limits(engine: Engine) {
    let limits = [
        ("max_in_flight = 1", Cause::RouteFull),
        ("max_in_flight_per_backend = 1\nqueue_timeout_secs = 0.1", Cause::BackendsBusy),
    ];
    for (keys, cause) in limits {
        let (gate, released) = (Gate::new(), Gate::new());
        let (opens, waits) = (gate.clone(), released.clone());
        let backend = ScriptedBackend::per_request(move |conn, _| {
            opens.open();
            waits.wait("the test to release the held request");
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        });
        let held = std::cell::RefCell::new(Vec::new());
        check(to(engine, backend.addr(), keys), cause, |addr| {
            let before = backend.requests();
            let mut client = Client::connect(addr);
            client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
            wait_for("it to be held", || if backend.requests() > before { Ok(()) } else { Err(before) });
            held.borrow_mut().push(client);
            get(addr, "/")
        });
        gate.wait("a request");
        released.open();
    }
}

/// Two clients fill the worker and the queue; the third is one too many.
fn of_overload(engine: Engine) {
    let released = Gate::new();
    let waits = released.clone();
    let backend = ScriptedBackend::per_request(move |conn, _| {
        waits.wait("the test to release the held request");
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let held = std::cell::RefCell::new(Vec::new());
    let limits = match engine {
        Engine::Native => "max_exchanges = 1",
        Engine::TinyHttp => "workers = 1\nqueue_size = 1",
    };
    let config = to(engine, backend.addr(), "max_in_flight = 1").server(limits);
    check(config, Cause::Overloaded, |addr| {
        let before = backend.requests();
        let send = || {
            let mut client = Client::connect(addr);
            client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
            client.set_patience(std::time::Duration::from_millis(50));
            client
        };
        let mut clients = vec![send()];
        wait_for("it to be carried", || if backend.requests() > before { Ok(()) } else { Err(before) });
        if engine == Engine::TinyHttp {
            // This one waits in the queue.
            clients.push(send());
        }
        let most = clients.len() + 1;
        let refused = wait_for("one to be refused", || {
            // Not too many: each that is refused is counted.
            if clients.len() < most {
                clients.push(send());
            }
            clients.iter_mut().find_map(|client| client.try_response_to("GET").ok()).ok_or(())
        });
        held.borrow_mut().extend(clients);
        refused
    });
    released.open();
}

on_both_engines!(
    of_requests,
    of_heads,
    of_connections,
    of_answers,
    of_who_may_come,
    of_health,
    of_limits,
    of_overload,
);

mod linux {
    use super::of_connections_in_time;
    crate::support::engines::on_both_engines!(of_connections_in_time);
}
