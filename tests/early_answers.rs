//! A backend may answer before it has the whole upload; the client gets that answer. A client that stops in the middle
//! of one ends the exchange for everybody.

use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;

#[cfg(feature = "tls")]
use crate::support::backend::each_request;
use crate::support::backend::{Conn, Request};
use crate::support::engines::{on_native, on_native_over_tls};
use crate::support::wire::{Body, LAST_CHUNK, chunk};
use crate::support::{
    Client, Engine, Framing, Hash, ScriptedBackend, TestProxy, hash_of, pattern, spawn, wait_for,
};

const SIZE: usize = 5 * 1024 * 1024;

/// What a backend does when it has answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Closes,
    Resets,
    StopsReading,
}

/// Answers as soon as it has the head. Any other target is read and answered in order.
fn impatient(status: u16, then: Then) -> ScriptedBackend {
    ScriptedBackend::per_connection(move |mut conn| {
        while let Some(request) = conn.request()? {
            if request.target == "/next" {
                conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"])?;
                continue;
            }
            let status = format!("HTTP/1.1 {status} early");
            conn.send_head(&[&status, "Location: /elsewhere", "Content-Length: 5"])?;
            conn.send(b"early")?;
            match then {
                Then::Closes => return Ok(()),
                Then::Resets => {
                    conn.reset();
                    return Ok(());
                }
                Then::StopsReading => return wait_for_close(&conn),
            }
        }
        Ok(())
    })
}

/// Waits for the proxy to close without reading what it sends.
fn wait_for_close(conn: &Conn) -> std::io::Result<()> {
    let stream = conn.stream()?;
    let socket = socket2::SockRef::from(&stream);
    wait_for("the proxy to give up the connection", || {
        // The state after a FIN or a reset; the bytes before it stay where they are.
        match socket.send(&[]) {
            Ok(_) if !has_hung_up(&socket) => Err(()),
            _ => Ok(()),
        }
    });
    Ok(())
}

/// Whether the other side has closed the connection, or its sending half.
fn has_hung_up(socket: &socket2::Socket) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().is_empty()
}

fn upload(chunked: bool) -> (&'static str, Vec<u8>) {
    let body = vec![b'u'; SIZE];
    if !chunked {
        return ("Content-Length: 5242880", body);
    }
    let mut bytes: Vec<u8> = body.chunks(50_000).flat_map(chunk).collect();
    bytes.extend_from_slice(LAST_CHUNK);
    ("Transfer-Encoding: chunked", bytes)
}

/// A client that sends everything first, and looks for the answer then.
fn the_answer_arrives(engine: Engine, then: Then) {
    for status in [413, 401, 302] {
        for chunked in [false, true] {
            let backend = impatient(status, then);
            let proxy = TestProxy::to(engine, &[backend.addr()], "");
            let (field, bytes) = upload(chunked);
            let mut client = Client::connect(proxy.addr());
            client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
            client.send(&bytes);
            let response = client.response_to("POST").expect(status);
            assert_eq!(response.text(), "early");
            assert_eq!(response.fields().all("location"), ["/elsewhere"]);
            proxy.expect_idle();
            Client::connect(proxy.addr()).get("/next").expect(200);
        }
    }
}

fn from_a_backend_that_closes(engine: Engine) {
    the_answer_arrives(engine, Then::Closes);
}

fn from_a_backend_that_resets(engine: Engine) {
    the_answer_arrives(engine, Then::Resets);
}

fn from_a_backend_that_stops_reading(engine: Engine) {
    the_answer_arrives(engine, Then::StopsReading);
}

/// A client that pauses: it is told at once, not when it goes on or its time is over.
fn a_waiting_client_is_told_at_once(engine: Engine) {
    for then in [Then::Closes, Then::Resets, Then::StopsReading] {
        for chunked in [false, true] {
            let backend = impatient(413, then);
            let proxy = TestProxy::to(engine, &[backend.addr()], "");
            let (field, bytes) = upload(chunked);
            let started = Instant::now();
            let mut client = Client::connect(proxy.addr());
            client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
            client.send(&bytes[..SIZE / 4]);
            let response = client.response_to("POST").expect(413);
            assert_eq!(
                response.fields().all("connection"),
                ["close"],
                "the rest of the upload is not wanted"
            );
            assert!(started.elapsed() < Duration::from_secs(5), "told after {:?}", started.elapsed());
            proxy.expect_idle();
        }
    }
}

/// The rest of the upload goes nowhere, and takes nothing of the answer away.
fn an_intercepted_one_arrives_as_well(engine: Engine) {
    let backend = impatient(500, Then::StopsReading);
    let proxy = TestProxy::to(engine, &[backend.addr()], "intercept_errors = [500]");
    for chunked in [false, true] {
        let (framing, body) = upload(chunked);
        let mut client = Client::connect(proxy.addr());
        client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{framing}\r\n\r\n"));
        let mut stream = client.stream();
        let sending = spawn("an upload", move || drop(std::io::Write::write_all(&mut stream, &body)));
        let response = client.response_to("POST").expect(500);
        assert!(response.text().contains("(intercepted)"), "{}", response.text());
        assert_eq!(response.fields().one("connection").as_deref(), Some("close"));
        sending.join();
        client.expect_fin();
    }
    proxy.expect_idle();
}

/// An interim answer is no answer: the upload goes on.
fn an_interim_answer_does_not_end_the_upload(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        conn.send_head(&["HTTP/1.1 102 Processing"])?;
        let received = conn.body(request)?.len();
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0", &format!("X-Received: {received}")])
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    for chunked in [false, true] {
        let (field, bytes) = upload(chunked);
        let mut client = Client::connect(proxy.addr());
        client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
        client.send(&bytes);
        let response = client.response_to("POST").expect(200);
        assert_eq!(response.fields().one("x-received"), Some(SIZE.to_string()));
    }
}

/// A backend that takes what comes, and panics the test should it ever be whole.
fn patient() -> ScriptedBackend {
    ScriptedBackend::per_connection(|mut conn| {
        if let Some(request) = conn.request()? {
            conn.body(&request)?;
            panic!("an upload that was broken off looked whole");
        }
        Ok(())
    })
}

fn a_client_that_stops_is_ended(engine: Engine) {
    for chunked in [false, true] {
        let backend = patient();
        let proxy = TestProxy::builder(engine)
            .server("read_timeout_secs = 0.5")
            .route("/", &[backend.addr()], "")
            .start();
        let (field, bytes) = upload(chunked);
        let started = Instant::now();
        let mut client = Client::connect(proxy.addr());
        client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
        client.send(&bytes[..SIZE / 2]);
        client.response_to("POST").expect_failure(408, "body_timeout");
        assert!(started.elapsed() < Duration::from_secs(5), "ended after {:?}", started.elapsed());
        proxy.expect_idle();
        wait_for("the backend's connection to be closed", || {
            if backend.ended() == 1 { Ok(()) } else { Err(()) }
        });
    }
}

fn a_client_that_leaves_is_ended(engine: Engine) {
    for chunked in [false, true] {
        for reset in [false, true] {
            let backend = patient();
            let proxy = TestProxy::to(engine, &[backend.addr()], "");
            let (field, bytes) = upload(chunked);
            let mut client = Client::connect(proxy.addr());
            client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
            client.send(&bytes[..SIZE / 2]);
            proxy.expect_in_flight(&backend.addr(), 1);
            client.leave(reset);
            proxy.expect_idle();
            wait_for("the backend's connection to be closed", || {
                if backend.ended() == 1 { Ok(()) } else { Err(()) }
            });
            proxy.expect_count(Cause::ClientLeft, 1);
        }
    }
}

/// Sends back what it reads while it reads it, framed as it came.
fn echoing(conn: &mut Conn, request: &Request) -> std::io::Result<()> {
    let framing = request.framing();
    let field = match framing {
        Framing::Length(length) => format!("Content-Length: {length}"),
        _ => "Transfer-Encoding: chunked".into(),
    };
    conn.send_head(&["HTTP/1.1 200 OK", &field])?;
    let mut body = Body::new(framing);
    while let Some(piece) = conn.piece(&mut body)? {
        if framing == Framing::Chunked && !piece.is_empty() {
            conn.send(&chunk(&piece))?;
        } else {
            conn.send(&piece)?;
        }
    }
    if framing == Framing::Chunked { conn.send(LAST_CHUNK) } else { Ok(()) }
}

/// The answer has begun before the upload ends, and from then on both are under way at the same time.
#[track_caller]
fn expect_echo(engine: Engine, backend: &ScriptedBackend, keys: &str) {
    // Each worker keeps its own connections.
    let proxy = TestProxy::builder(engine).server("workers = 1").route("/", &[backend.addr()], keys).start();
    for chunked in [false, true] {
        let mut client = Client::connect(proxy.addr());
        let body = pattern(9, SIZE);
        let (field, mut bytes) = upload(chunked);
        if chunked {
            bytes = body.chunks(50_000).flat_map(chunk).collect();
            bytes.extend_from_slice(LAST_CHUNK);
        } else {
            bytes.copy_from_slice(&body);
        }
        client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
        // No more than fits into the buffers on the way and back: nobody reads it yet.
        let rest = bytes.split_off(100_000);
        client.send(&bytes);
        let head = client.head("POST");
        assert_eq!(head.status, 200);
        let (mut answer, mut hash, mut received) = (Body::new(head.framing), Hash::new(), 0);
        while received < 60_000 {
            let piece = client.piece(&mut answer).expect("the echo").expect("more of the echo");
            received += piece.len();
            hash.update(&piece);
        }
        let mut stream = client.stream();
        let upload = spawn("the rest of the upload", move || std::io::Write::write_all(&mut stream, &rest));
        while let Some(piece) = client.piece(&mut answer).expect("the echo") {
            received += piece.len();
            hash.update(&piece);
        }
        upload.join().expect("the whole upload is taken");
        assert_eq!((received, hash.finish()), (SIZE, hash_of(&body)), "chunked: {chunked}");
    }
    proxy.expect_idle();
    assert_eq!(backend.connections(), 1, "the backend's connection can be used again");
}

fn an_upload_and_its_echo_go_on_together(engine: Engine) {
    expect_echo(engine, &ScriptedBackend::per_request(echoing), "");
}

fn an_upload_and_its_echo_go_on_together_over_tls(engine: Engine) {
    #[cfg(feature = "tls")]
    {
        use crate::tls::{server, trusting};
        let backend = ScriptedBackend::tls(server("loopback"), each_request(echoing));
        expect_echo(engine, &backend, &trusting(""));
    }
    #[cfg(not(feature = "tls"))]
    let _ = engine;
}

on_native!(
    an_upload_and_its_echo_go_on_together,
    an_upload_and_its_echo_go_on_together_over_tls,
    from_a_backend_that_closes,
    from_a_backend_that_resets,
    from_a_backend_that_stops_reading,
    a_waiting_client_is_told_at_once,
    an_intercepted_one_arrives_as_well,
    an_interim_answer_does_not_end_the_upload,
    a_client_that_stops_is_ended,
    a_client_that_leaves_is_ended,
);

on_native_over_tls!(
    from_a_backend_that_closes,
    from_a_backend_that_resets,
    from_a_backend_that_stops_reading,
    a_waiting_client_is_told_at_once,
    an_interim_answer_does_not_end_the_upload,
    a_client_that_stops_is_ended,
    a_client_that_leaves_is_ended,
);
