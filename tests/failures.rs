//! What a client is told when there is no answer to pass on: status and cause.

use crate::support::engines::on_both_engines;
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{
    Client, DeadPort, Echo, Engine, Gate, Origin, Response, ScriptedBackend, TestProxy, get, send_once,
    wait_for,
};

/// What a GET brings through a proxy to this backend, without further tries.
#[track_caller]
fn answer_from(engine: Engine, addr: String, keys: &str) -> Response {
    let proxy = TestProxy::to(engine, &[addr], &format!("retries = 0\n{keys}"));
    let response = get(proxy.addr(), "/");
    proxy.expect_idle();
    response
}

fn a_backend_that_refuses_is_502(engine: Engine) {
    let dead = DeadPort::reserve();
    answer_from(engine, dead.addr(), "").expect_failure(502, "connect_refused");
}

fn a_backend_that_resets_is_502(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.reset();
        Ok(())
    });
    answer_from(engine, backend.addr(), "").expect_failure(502, "backend_closed");
}

fn a_backend_that_closes_is_502(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| conn.request().map(drop));
    answer_from(engine, backend.addr(), "").expect_failure(502, "backend_closed");
}

fn a_backend_that_closes_within_the_head_is_502(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Len")
    });
    answer_from(engine, backend.addr(), "").expect_failure(502, "backend_closed");
}

fn nonsense_from_a_backend_is_502(engine: Engine) {
    let nonsense: &[&[u8]] = &[
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x15\x03\x03\x00\x02\x02\x50\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nName : space\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    for answer in nonsense {
        let backend = ScriptedBackend::answering(*answer);
        let response = answer_from(engine, backend.addr(), "");
        let shown = String::from_utf8_lossy(answer);
        assert_eq!(response.status(), 502, "after {shown:?}: {:?}", response.head);
        response.expect_failure(502, "bad_response");
    }
}

/// A client that shares a connection with others must never see a body cut where the backend did not end it.
fn a_chunked_answer_is_not_cut_at_its_length(engine: Engine) {
    let backend = ScriptedBackend::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let response = answer_from(engine, backend.addr(), "");
    if response.status() == 200 {
        let lengths = response.fields().all("content-length");
        assert!(lengths.is_empty() || lengths == ["5"], "{lengths:?}");
        assert_eq!(response.text(), "hello");
    } else {
        response.expect_failure(502, "bad_response");
    }
}

fn a_backend_that_is_too_slow_is_504(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| conn.hang());
    answer_from(engine, backend.addr(), "response_timeout_secs = 0.3")
        .expect_failure(504, "response_timeout");
}

/// One byte now and then is no answer.
fn a_backend_that_drips_its_head_is_504(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nX-Long: ")?;
        loop {
            conn.send(b"x")?;
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    answer_from(engine, backend.addr(), "response_timeout_secs = 0.5")
        .expect_failure(504, "response_timeout");
}

fn a_backend_that_does_not_accept_is_504(engine: Engine) {
    let full = crate::support::backend::FullBacklog::new();
    answer_from(engine, full.addr(), "connect_timeout_secs = 0.3").expect_failure(504, "connect_timeout");
}

fn no_route_is_404(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).route("/here", &[origin.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    client.get("/nowhere").expect_failure(404, "no_route");
    client.get("/here").expect(200);
    client.send("POST /nowhere HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 4\r\n\r\nbody");
    client.response_to("POST").expect_failure(404, "no_route");
    assert_eq!(origin.requests(), 1);
}

/// Whatever becomes of its connection, a refused request's body is never taken for the next request.
fn an_unread_body_is_no_request(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).route("/here", &[origin.addr()], "").start();
    let inner = "GET /here/smuggled HTTP/1.1\r\nHost: proxy.test\r\n\r\n";
    for framing in ["length", "chunked"] {
        let mut client = Client::connect(proxy.addr());
        let (field, body) = match framing {
            "length" => (format!("Content-Length: {}", inner.len()), inner.as_bytes().to_vec()),
            _ => ("Transfer-Encoding: chunked".into(), [&chunk(inner.as_bytes()), LAST_CHUNK].concat()),
        };
        client.send(format!("POST /nowhere HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
        client.send(body);
        client.response_to("POST").expect_failure(404, "no_route");
        let next = client.try_send("GET /here/next HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        if next.is_ok()
            && let Ok(response) = client.try_response_to("GET")
        {
            assert_eq!(
                Echo::parse(&response.expect(200).body).target,
                "/here/next",
                "after a {framing} body"
            );
        }
        assert!(origin.requests() <= 1 + usize::from(framing == "chunked"), "smuggled in a {framing} body");
    }
}

fn a_body_that_is_too_large_is_413(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "max_body_bytes = 1000");
    let post = |field: &str, body: &[u8]| {
        let head = format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n");
        send_once(proxy.addr(), [head.as_bytes(), body].concat())
    };
    let full = [b'x'; 1000];
    post("Content-Length: 1000", &full).expect(200);
    post("Transfer-Encoding: chunked", &[&chunk(&full[..600]), &chunk(&full[..400]), LAST_CHUNK].concat())
        .expect(200);

    post("Content-Length: 1001", &[&full[..], b"x"].concat()).expect_failure(413, "body_too_large");
    let too_much = [&chunk(&full[..600]), &chunk(&full[..401]), LAST_CHUNK].concat();
    post("Transfer-Encoding: chunked", &too_much).expect_failure(413, "body_too_large");
    proxy.expect_idle();
    get(proxy.addr(), "/").expect(200);
}

/// A length that is too large is refused before the body has come.
fn a_declared_length_that_is_too_large_is_413_at_once(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "max_body_bytes = 1000");
    let request = "POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 5000\r\n\r\n";
    send_once(proxy.addr(), request).expect_failure(413, "body_too_large");
    assert_eq!(origin.requests(), 0);
}

/// tiny_http would allocate what is missing when the client leaves, and the process would end.
fn a_declared_length_beyond_all_memory_harms_nobody(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    for line in ["Host: proxy.test", "Host: not a host"] {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("POST / HTTP/1.1\r\n{line}\r\nContent-Length: 100000000000000\r\n\r\nsome"));
        client.leave(false);
    }
    for _ in 0..20 {
        send_once(proxy.addr(), "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n").expect(200);
    }
}

fn overload_is_503(engine: Engine) {
    let released = Gate::new();
    let gate = released.clone();
    let backend = ScriptedBackend::per_request(move |conn, _| {
        gate.wait("the test to release the held requests");
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"])
    });
    let limits = match engine {
        Engine::Native => "max_exchanges = 2",
        Engine::TinyHttp => "workers = 1\nqueue_size = 1",
    };
    let proxy = TestProxy::builder(engine).server(limits).route("/", &[backend.addr()], "").start();
    let send = || {
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        client
    };
    let mut held = send();
    wait_for("the first to be carried", || match backend.requests() {
        0 => Err(()),
        _ => Ok(()),
    });
    // One of these finds a place; the next one is too many.
    let mut others = [send(), send(), send()];
    let refused = wait_for("a request to be refused", || {
        for client in &mut others {
            client.set_patience(std::time::Duration::from_millis(50));
            if let Ok(response) = client.try_response_to("GET") {
                return Ok(response);
            }
        }
        Err(())
    });
    let refused = refused.expect_failure(503, "overloaded");
    assert!(refused.fields().one("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()));
    released.open();
    held.response().expect(200);
}

/// An answer of the proxy's own is a complete message like any other.
fn failures_leave_the_connection_usable(engine: Engine) {
    let dead = DeadPort::reserve();
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .route("/dead", &[dead.addr()], "retries = 0")
        .route("/", &[origin.addr()], "")
        .start();
    let mut client = Client::connect(proxy.addr());
    for _ in 0..3 {
        client.get("/dead").expect_failure(502, "connect_refused");
        client.get("/").expect(200);
    }
}

on_both_engines!(
    a_backend_that_refuses_is_502,
    a_backend_that_resets_is_502,
    a_backend_that_closes_is_502,
    a_backend_that_closes_within_the_head_is_502,
    nonsense_from_a_backend_is_502,
    a_chunked_answer_is_not_cut_at_its_length,
    a_backend_that_is_too_slow_is_504,
    a_backend_that_drips_its_head_is_504,
    no_route_is_404,
    an_unread_body_is_no_request,
    a_body_that_is_too_large_is_413,
    a_declared_length_that_is_too_large_is_413_at_once,
    a_declared_length_beyond_all_memory_harms_nobody,
    overload_is_503,
    failures_leave_the_connection_usable,
);

mod linux {
    use super::a_backend_that_does_not_accept_is_504;
    crate::support::engines::on_both_engines!(a_backend_that_does_not_accept_is_504);
}
