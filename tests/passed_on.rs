//! Large bodies of known length, which are passed from socket to socket: nothing is lost or added, every time limit
//! holds in their midst, and the connections carry the next exchange.

use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;

use crate::support::backend::Conn;
use crate::support::engines::on_native;
use crate::support::wire::Body;
use crate::support::{Client, Engine, Gate, ScriptedBackend, TestProxy, pattern, wait_for};

/// What the clients receive before something happens, and half of what they are promised. More than any buffer.
const HALF: usize = 600_000;
const SOON: Duration = Duration::from_secs(4);

/// Around every buffer an answer or an upload passes, and from there on.
const LENGTHS: &[usize] = &[
    1, 16_383, 16_384, 16_385, 32_768, 65_535, 65_536, 65_537, 98_304, 131_071, 131_072, 131_073, 500_001,
    1_048_576, 3_000_003,
];

/// Answers each request with what `answer` says of its target, a length.
fn of_any_length(fields: &'static str) -> ScriptedBackend {
    ScriptedBackend::per_request(move |conn, request| {
        let length: usize = request.target[1..].parse().expect("a length");
        conn.send_head(&["HTTP/1.1 200 OK", &format!("Content-Length: {length}{fields}")])?;
        conn.send(&pattern(length as u64, length))
    })
}

/// Promises a body, sends half of it, and goes on with `then` when the client has that.
fn half(then: impl Fn(Conn) -> std::io::Result<()> + Send + Sync + 'static) -> (ScriptedBackend, Gate) {
    let seen = Gate::new();
    let gate = seen.clone();
    let backend = ScriptedBackend::per_connection(move |mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 200 OK", &format!("Content-Length: {}", 2 * HALF)])?;
        conn.send(&pattern(1, HALF))?;
        gate.wait("the client to have half of the answer");
        then(conn)
    });
    (backend, seen)
}

/// A client that has received half of the answer, and what remains of it.
fn client_with_half(proxy: &TestProxy) -> (Client, Body) {
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let head = client.head("GET");
    let mut body = Body::new(head.framing);
    let mut received = Vec::new();
    while received.len() < HALF {
        let piece = client.piece(&mut body).expect("half of the answer").expect("half of the answer");
        received.extend_from_slice(&piece);
    }
    assert!(received == pattern(1, HALF), "the answer has changed");
    (client, body)
}

#[track_caller]
fn expect_broken(client: &mut Client, body: &mut Body, proxy: &TestProxy, cause: Cause) {
    let error = loop {
        match client.piece(body) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the answer looks whole"),
            Err(error) => break error,
        }
    };
    assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "the client is left waiting");
    proxy.expect_counted(cause, 1);
    proxy.expect_idle();
}

fn answers_of_any_length_on_one_connection(engine: Engine) {
    let backend = of_any_length("");
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for &length in LENGTHS {
        let body = client.get(&format!("/{length}")).expect(200).body;
        assert!(body == pattern(length as u64, length), "an answer of {length} bytes has changed");
    }
    assert_eq!(backend.connections(), 1, "the connection to the backend is kept");
}

fn uploads_of_any_length_on_one_connection(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        let received = conn.body(request)?;
        conn.send_head(&["HTTP/1.1 200 OK", &format!("Content-Length: {}", received.len())])?;
        conn.send(&received)
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for &length in LENGTHS {
        client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {length}\r\n\r\n"));
        client.send(pattern(length as u64, length));
        let body = client.response_to("POST").expect(200).body;
        assert!(body == pattern(length as u64, length), "an upload of {length} bytes has changed");
    }
    assert_eq!(backend.connections(), 1, "the connection to the backend is kept");
}

/// The next request has come together with the last bytes of the upload.
fn requests_behind_uploads(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        let received = conn.body(request)?;
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{:010}", received.len()).as_bytes())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for &length in LENGTHS {
        let head = format!("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {length}\r\n\r\n");
        let once = [head.as_bytes(), &pattern(7, length)].concat();
        let get = b"GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n";
        client.send([&once[..], &once[..], get].concat());
        for (method, expected) in [("POST", length), ("POST", length), ("GET", 0)] {
            assert_eq!(client.response_to(method).expect(200).text(), format!("{expected:010}"));
        }
    }
}

fn requests_behind_an_answer(engine: Engine) {
    let backend = of_any_length("");
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    let lengths = [1_000_000, 1, 500_000, 200_000];
    let requests = lengths.map(|length| format!("GET /{length} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
    client.send(requests.concat());
    for length in lengths {
        assert!(
            client.response().expect(200).body == pattern(length as u64, length),
            "{length} bytes have changed"
        );
    }
}

fn a_backend_that_closes_after_it_is_believed(engine: Engine) {
    let backend = of_any_length("\r\nConnection: close");
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for number in 1..=3 {
        assert_eq!(client.get("/300000").expect(200).body.len(), 300_000);
        assert_eq!(backend.connections(), number, "a connection was used again that closes");
    }
}

fn bytes_behind_it_are_no_answer(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, _| {
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 300000"])?;
        conn.send(&[&pattern(1, 300_000)[..], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"].concat())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..3 {
        assert!(client.get("/").expect(200).body == pattern(1, 300_000), "the answer has changed");
    }
}

fn a_backend_that_closes_or_resets_in_the_midst(engine: Engine) {
    for reset in [false, true] {
        let (backend, seen) = half(move |conn| {
            if reset {
                conn.reset();
            }
            Ok(())
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let (mut client, mut body) = client_with_half(&proxy);
        seen.open();
        expect_broken(&mut client, &mut body, &proxy, Cause::BackendClosed);
    }
}

fn silence_in_the_midst(engine: Engine) {
    let (backend, seen) = half(|mut conn| conn.hang());
    let proxy = TestProxy::to(engine, &[backend.addr()], "idle_timeout_secs = 0.7");
    let (mut client, mut body) = client_with_half(&proxy);
    let started = Instant::now();
    seen.open();
    expect_broken(&mut client, &mut body, &proxy, Cause::ResponseTimeout);
    assert!(started.elapsed() >= Duration::from_millis(600), "over after {:?}", started.elapsed());
    assert!(started.elapsed() < SOON, "over after {:?}", started.elapsed());
}

/// Each pause is shorter than `idle_timeout_secs`, together they are longer.
fn pauses_in_the_midst_are_no_silence(engine: Engine) {
    let (backend, seen) = half(|mut conn| {
        for piece in pattern(2, HALF).chunks(HALF / 8) {
            std::thread::sleep(Duration::from_millis(150));
            conn.send(piece)?;
        }
        conn.hang()
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "idle_timeout_secs = 1");
    let (mut client, mut body) = client_with_half(&proxy);
    seen.open();
    let mut rest = Vec::new();
    while let Some(piece) = client.piece(&mut body).expect("the rest") {
        rest.extend_from_slice(&piece);
    }
    assert!(rest == pattern(2, HALF), "the answer has changed");
}

fn the_deadline_in_the_midst(engine: Engine) {
    let (backend, seen) = half(|mut conn| {
        loop {
            conn.send(b"x")?;
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "deadline_secs = 1");
    let started = Instant::now();
    let (mut client, mut body) = client_with_half(&proxy);
    seen.open();
    expect_broken(&mut client, &mut body, &proxy, Cause::DeadlineExceeded);
    assert!(started.elapsed() < SOON, "over after {:?}", started.elapsed());
}

/// With a deadline nothing may wait in the kernel: another way to write.
fn a_reader_in_no_hurry_gets_all_of_it_before_the_deadline(engine: Engine) {
    let backend = of_any_length("");
    let proxy = TestProxy::to(engine, &[backend.addr()], "deadline_secs = 60");
    let mut client = Client::with_small_window(proxy.addr());
    for length in [1_000_000, 2_000_000] {
        client.send(format!("GET /{length} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        assert!(
            client.response().expect(200).body == pattern(length as u64, length),
            "the answer has changed"
        );
    }
    assert_eq!(backend.connections(), 1, "the connection to the backend is kept");
}

fn a_client_that_leaves_in_the_midst(engine: Engine) {
    for reset in [false, true] {
        let (backend, seen) = half(|mut conn| conn.hang());
        let proxy = TestProxy::to(engine, &[backend.addr()], "idle_timeout_secs = 60");
        let (client, _) = client_with_half(&proxy);
        seen.open();
        let left = Instant::now();
        client.leave(reset);
        proxy.expect_idle();
        wait_for("the backend's connection to be closed", || {
            if backend.ended() == 1 { Ok(()) } else { Err(()) }
        });
        assert!(left.elapsed() < SOON, "free after {:?}", left.elapsed());
        proxy.expect_count(Cause::ClientLeft, 1);
    }
}

fn an_answer_while_the_proxy_drains(engine: Engine) {
    let (backend, seen) = half(|mut conn| {
        conn.send(&pattern(2, HALF))?;
        conn.hang()
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let (mut client, mut body) = client_with_half(&proxy);
    let drain = proxy.drain();
    seen.open();
    let mut rest = Vec::new();
    while let Some(piece) = client.piece(&mut body).expect("the rest") {
        rest.extend_from_slice(&piece);
    }
    assert!(rest == pattern(2, HALF), "the answer has changed");
    assert_eq!(drain.join(), 0, "an exchange was cut off");
}

/// An upload of which the backend takes half, and then no more of.
fn a_backend_that_leaves_an_upload(engine: Engine) {
    for reset in [false, true] {
        let backend = ScriptedBackend::per_connection(move |mut conn| {
            conn.request()?;
            conn.exactly(HALF)?;
            if reset {
                conn.reset();
            }
            Ok(())
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let mut client = Client::connect(proxy.addr());
        client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {}\r\n\r\n", 2 * HALF));
        client.send(pattern(1, HALF));
        wait_for("the backend to leave", || if backend.ended() == 1 { Ok(()) } else { Err(()) });
        // Whether it gets so far depends on when the proxy has noticed.
        drop(client.try_send(pattern(1, HALF)));
        client.response_to("POST").expect_failure(502, "backend_closed");
        proxy.expect_idle();
    }
}

on_native!(
    answers_of_any_length_on_one_connection,
    uploads_of_any_length_on_one_connection,
    requests_behind_uploads,
    requests_behind_an_answer,
    a_backend_that_closes_after_it_is_believed,
    bytes_behind_it_are_no_answer,
    a_backend_that_closes_or_resets_in_the_midst,
    silence_in_the_midst,
    pauses_in_the_midst_are_no_silence,
    the_deadline_in_the_midst,
    a_reader_in_no_hurry_gets_all_of_it_before_the_deadline,
    a_client_that_leaves_in_the_midst,
    an_answer_while_the_proxy_drains,
    a_backend_that_leaves_an_upload,
);
