//! Interim answers: hints of the backend pass to clients that know of them, as often and in whatever pieces they come.

use std::time::Duration;

use crate::support::engines::{on_native, on_native_over_tls};
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{Client, Engine, Gate, ScriptedBackend, TestProxy, spawn, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n";

const HINTS: &str = "HTTP/1.1 102 Working on it\r\nX-Step: one\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
    Keep-Alive: timeout=7\r\nProxy-Authenticate: Basic\r\nUpgrade: wire/1\r\nTE: trailers\r\nX-Kept: yes\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal";

/// What a client that speaks HTTP/1.1 gets to see of [`HINTS`] and [`FINAL`].
#[track_caller]
fn expect_hints(client: &mut Client) {
    let working = client.any_head("GET").unwrap().expect("the first interim answer");
    assert_eq!((working.status, working.reason.as_str()), (102, "Working on it"));
    assert_eq!(working.fields.one("x-step").as_deref(), Some("one"));
    let hints = client.any_head("GET").unwrap().expect("the second interim answer");
    assert_eq!(hints.status, 103);
    assert_eq!(hints.fields.all("link"), ["</a.css>; rel=preload", "</b.js>"]);
    assert_eq!(hints.fields.names(), ["link", "x-kept"], "fields of the backend's connection stay there");
    let last = client.any_head("GET").unwrap().expect("the answer");
    assert_eq!(last.status, 200);
    assert_eq!(client.rest(&last).unwrap(), b"final");
}

fn hints_pass_without_the_fields_of_the_connection(engine: Engine) {
    let backend = ScriptedBackend::answering([HINTS, FINAL].concat());
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..3 {
        client.send(GET);
        expect_hints(&mut client);
    }
    assert_eq!(backend.connections(), 1);
}

fn hints_pass_in_any_pieces(engine: Engine) {
    let answer = [HINTS, FINAL].concat().into_bytes();
    let length = answer.len();
    let backend = ScriptedBackend::per_request(move |conn, request| {
        let split: usize = request.fields.one("x-split").expect("where to split").parse().expect("a number");
        if split == 0 {
            return answer.chunks(1).try_for_each(|byte| conn.send(byte));
        }
        conn.send(&answer[..split])?;
        std::thread::sleep(Duration::from_millis(1));
        conn.send(&answer[split..])
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for split in 0..length {
        client.send(format!("GET / HTTP/1.1\r\nHost: proxy.test\r\nX-Split: {split}\r\n\r\n"));
        expect_hints(&mut client);
    }
}

/// The client has the hint while the backend is still at work.
fn a_hint_passes_at_once(engine: Engine) {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = ScriptedBackend::per_request(move |conn, _| {
        conn.send_head(&["HTTP/1.1 103 Early Hints", "Link: </a.css>"])?;
        opened.wait("the client to have the hint");
        conn.send(FINAL.as_bytes())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send(GET);
    assert_eq!(client.any_head("GET").unwrap().expect("a hint").status, 103);
    gate.open();
    assert_eq!(client.response().expect(200).body, b"final");
}

fn many_pass(engine: Engine) {
    const MANY: usize = 250;
    let answer = [&"HTTP/1.1 102 Processing\r\nX-Kept: yes\r\n\r\n".repeat(MANY), FINAL].concat();
    let backend = ScriptedBackend::answering(answer);
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send(GET);
    for _ in 0..MANY {
        assert_eq!(client.any_head("GET").unwrap().expect("an interim answer").status, 102);
    }
    assert_eq!(client.response().expect(200).body, b"final");
}

fn an_old_client_gets_none(engine: Engine) {
    let backend = ScriptedBackend::answering([HINTS, FINAL].concat());
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.0\r\nHost: proxy.test\r\n\r\n");
    let head = client.any_head("GET").unwrap().expect("an answer");
    assert_eq!(head.status, 200);
    assert_eq!(client.rest(&head).unwrap(), b"final");
}

/// The proxy itself says when it wants a body.
fn the_hundred_of_a_backend_is_not_passed_on(engine: Engine) {
    let answer =
        format!("HTTP/1.1 100 Continue\r\nX-Mine: 1\r\n\r\n{HINTS}HTTP/1.1 100 Continue\r\n\r\n{FINAL}");
    let backend = ScriptedBackend::answering(answer);
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..2 {
        client.send(GET);
        expect_hints(&mut client);
    }
}

fn a_flood_is_cut(engine: Engine) {
    for hint in ["HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let backend = ScriptedBackend::per_request(move |conn, _| {
            loop {
                conn.send(hint.repeat(10).as_bytes())?;
            }
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let mut client = Client::connect(proxy.addr());
        client.send(GET);
        client.response().expect_failure(502, "bad_response");
        proxy.expect_idle();
        wait_for("the backend's connection to be closed", || {
            if backend.ended() == 1 { Ok(()) } else { Err(()) }
        });
        assert_eq!(backend.requests(), 1, "it is not asked again");
    }
}

/// Hints are for who listens: for a client that does not read they must not pile up.
fn they_do_not_pile_up_for_a_client_that_does_not_read(engine: Engine) {
    const SENT: usize = 250;
    let done = Gate::new();
    let opens = done.clone();
    let backend = ScriptedBackend::per_request(move |conn, _| {
        let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", "x".repeat(60_000));
        (0..SENT).try_for_each(|_| conn.send(hint.as_bytes()))?;
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"])?;
        opens.open();
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::with_small_window(proxy.addr());
    client.send(GET);
    done.wait("the backend to have sent all");
    let mut hints = 0;
    while client.any_head("GET").unwrap().expect("a head").status == 103 {
        hints += 1;
    }
    // As many as the kernel takes for the connection.
    assert!((1..SENT - 50).contains(&hints), "{hints} hints of {SENT} were kept");
    proxy.expect_idle();
}

/// A backend that drips hints would keep the exchange for ever.
fn a_client_that_leaves_a_dribbled_flood_is_seen(engine: Engine) {
    for reset in [false, true] {
        let backend = ScriptedBackend::per_connection(|mut conn| {
            conn.request()?;
            loop {
                for byte in b"HTTP/1.1 102 Processing\r\n\r\n" {
                    conn.send(&[*byte])?;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let mut client = Client::connect(proxy.addr());
        client.send(GET);
        assert_eq!(client.any_head("GET").unwrap().expect("a hint").status, 102);
        proxy.expect_in_flight(&backend.addr(), 1);
        client.leave(reset);
        proxy.expect_idle();
        wait_for("the backend's connection to be closed", || {
            if backend.ended() == 1 { Ok(()) } else { Err(()) }
        });
    }
}

/// Hints and the answer come while the client is still sending.
fn hints_pass_while_the_upload_runs(engine: Engine) {
    for chunked in [false, true] {
        let backend = ScriptedBackend::per_request(|conn, request| {
            conn.send(HINTS.as_bytes())?;
            let length = conn.body(request)?.len();
            conn.send_head(&["HTTP/1.1 200 OK", &format!("X-Length: {length}"), "Content-Length: 5"])?;
            conn.send(b"final")
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let mut client = Client::connect(proxy.addr());
        let half = vec![b'u'; 200_000];
        let (field, half, end) = if chunked {
            ("Transfer-Encoding: chunked", chunk(&half), LAST_CHUNK)
        } else {
            ("Content-Length: 400000", half, &b""[..])
        };
        client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
        client.send(&half);
        for status in [102, 103] {
            assert_eq!(client.any_head("POST").unwrap().expect("a hint").status, status);
        }
        client.send([&half, end].concat());
        let response = client.response_to("POST").expect(200);
        assert_eq!(response.fields().one("x-length").as_deref(), Some("400000"));
        assert_eq!(response.body, b"final");
        client.send(GET);
        client.response().expect(200);
    }
}

/// Also when the hint and the answer come before the client has sent half of its body.
fn a_hint_and_the_answer_pass_before_the_upload_ends(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        conn.send(HINTS.as_bytes())?;
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 400000"])?;
        conn.body(request)?;
        conn.send(&[b'd'; 400_000])
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    let half = vec![b'u'; 200_000];
    client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 400000\r\n\r\n");
    client.send(&half);
    let statuses = [(); 3].map(|()| client.any_head("POST").unwrap().expect("a head").status);
    assert_eq!(statuses, [102, 103, 200]);
    let mut stream = client.stream();
    let upload = spawn("the rest of the upload", move || std::io::Write::write_all(&mut stream, &half));
    let mut body = crate::support::wire::Body::new(crate::support::Framing::Length(400_000));
    let mut received = 0;
    while let Some(piece) = client.piece(&mut body).expect("the answer") {
        received += piece.len();
    }
    assert_eq!(received, 400_000);
    upload.join().expect("the whole upload is taken");
}

on_native!(
    hints_pass_without_the_fields_of_the_connection,
    hints_pass_in_any_pieces,
    a_hint_passes_at_once,
    many_pass,
    an_old_client_gets_none,
    the_hundred_of_a_backend_is_not_passed_on,
    a_flood_is_cut,
    they_do_not_pile_up_for_a_client_that_does_not_read,
    a_client_that_leaves_a_dribbled_flood_is_seen,
    hints_pass_while_the_upload_runs,
    a_hint_and_the_answer_pass_before_the_upload_ends,
);

on_native_over_tls!(
    hints_pass_without_the_fields_of_the_connection,
    hints_pass_in_any_pieces,
    a_hint_passes_at_once,
    many_pass,
    an_old_client_gets_none,
    the_hundred_of_a_backend_is_not_passed_on,
    a_flood_is_cut,
    they_do_not_pile_up_for_a_client_that_does_not_read,
    a_client_that_leaves_a_dribbled_flood_is_seen,
    hints_pass_while_the_upload_runs,
);
