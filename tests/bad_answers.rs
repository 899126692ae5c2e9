//! Answers that are wrong, odd or too much: what the client sees, and what becomes of the connection.

use std::time::Duration;

use reverse_proxy::error::Cause;

use crate::support::engines::on_both_engines;
use crate::support::{Client, Engine, Response, ScriptedBackend, TestProxy, get};

const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";

/// Answers the first request of each connection with these bytes and further ones with `WHOLE`. Closes after the first
/// one if `close`.
fn first_answer(answer: impl Into<Vec<u8>>, close: bool) -> ScriptedBackend {
    let answer = answer.into();
    ScriptedBackend::per_connection(move |mut conn| {
        let mut bytes = answer.as_slice();
        while let Some(request) = conn.request()? {
            if request.target == "/next" {
                conn.send(WHOLE)?;
                continue;
            }
            conn.send(bytes)?;
            if close {
                return Ok(());
            }
            bytes = b"the connection was used again";
        }
        Ok(())
    })
}

/// What a request brings when a backend answers with these bytes; whatever it is, the next answer is right.
#[track_caller]
fn answer_to(engine: Engine, method: &str, answer: &[u8], close: bool) -> Response {
    let backend = first_answer(answer, close);
    let proxy = TestProxy::to(engine, &[backend.addr()], "retries = 0\nresponse_timeout_secs = 3");
    let mut client = Client::connect(proxy.addr());
    client.set_patience(Duration::from_secs(4));
    client.send(format!("{method} / HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
    let response = client.response_to(method);
    proxy.expect_idle();
    for _ in 0..3 {
        assert_eq!(get(proxy.addr(), "/next").expect(200).text(), "whole", "after {}", shown(answer));
    }
    response
}

fn shown(answer: &[u8]) -> String {
    let start = answer.get(..200).unwrap_or(answer);
    String::from_utf8_lossy(start).into_owned()
}

#[track_caller]
fn expect_bad(engine: Engine, answer: &[u8]) {
    // A backend that goes on as if nothing was, and one that knows it is over.
    for close in [false, true] {
        let response = answer_to(engine, "GET", answer, close);
        assert_eq!(response.status(), 502, "after {}: {:?}", shown(answer), response.head);
        response.expect_failure(502, "bad_response");
    }
}

fn what_is_not_http_is_502(engine: Engine) {
    let answers: &[&[u8]] = &[
        b"\0\0\0\0\0\0\r\n\r\n",
        b"hello\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"220 mail.example ESMTP\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: me\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 Too low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ];
    answers.iter().for_each(|answer| expect_bad(engine, answer));
}

fn bad_bytes_in_a_head_are_502(engine: Engine) {
    let fields: &[&[u8]] = &[
        b"X-Nul: a\0b",
        b"X-Nul\0: ab",
        b"X Space: ab",
        b": no name",
        b"X-Return: a\rb",
        b"X-Bell: a\x07b",
        b"X-Delete: a\x7fb",
        b"\x80: high",
    ];
    for field in fields {
        let answer = [b"HTTP/1.1 200 OK\r\n", *field, b"\r\nContent-Length: 0\r\n\r\n"].concat();
        expect_bad(engine, &answer);
    }
}

fn codings_that_cannot_be_passed_on_are_502(engine: Engine) {
    let heads: &[&str] = &[
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;a=b",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: \"chunked\"",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: ",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 15",
    ];
    for head in heads {
        expect_bad(engine, format!("{head}\r\n\r\n5\r\nhello\r\n0\r\n\r\n").as_bytes());
    }
}

fn a_coding_in_capitals_is_the_same(engine: Engine) {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(answer_to(engine, "GET", answer, false).expect(200).text(), "hello");
}

fn lengths_that_differ_are_502(engine: Engine) {
    let lengths: &[&str] = &[
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: 5\r\nX-Between: them\r\ncontent-length: 0",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5.0",
        "Content-Length: 5 5",
        "Content-Length: ",
        "Content-Length: 99999999999999999999",
    ];
    for length in lengths {
        expect_bad(engine, format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\nhello").as_bytes());
    }
}

/// RFC 9110 §8.6 allows to take them for one, or to refuse them.
fn lengths_that_agree_are_one(engine: Engine) {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello";
    let response = answer_to(engine, "GET", answer, false).expect(200);
    assert_eq!(response.fields().all("content-length"), ["5"]);
    assert_eq!(response.text(), "hello");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello";
    let response = answer_to(engine, "GET", answer, false);
    if response.status() == 200 {
        assert_eq!(
            (response.fields().all("content-length"), response.text()),
            (vec!["5".into()], "hello".into())
        );
    } else {
        response.expect_failure(502, "bad_response");
    }
}

/// More than the answer is long: those bytes belong to nobody, least of all to the next request.
fn bytes_behind_an_answer_poison_their_connection_alone(engine: Engine) {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let answers: &[(&str, u16, &str, &str)] = &[
        ("GET", 200, "Content-Length: 5\r\n\r\nhello", "hello"),
        ("GET", 200, "Content-Length: 0\r\n\r\n", ""),
        ("GET", 200, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("GET", 204, "\r\n", ""),
        ("GET", 304, "Content-Length: 10\r\n\r\n", ""),
        ("HEAD", 200, "Content-Length: 10\r\n\r\n", ""),
        ("HEAD", 200, "Transfer-Encoding: chunked\r\n\r\n", ""),
    ];
    for (method, status, rest, body) in answers {
        for behind in [evil, "x", "\r\n", "0123456789"] {
            let answer = format!("HTTP/1.1 {status} Odd\r\n{rest}{behind}");
            let response = answer_to(engine, method, answer.as_bytes(), false);
            let shown = format!("{method} {answer:?}");
            assert_eq!((response.status(), response.text().as_str()), (*status, *body), "{shown}");
            assert!(response.broken.is_none(), "{shown}");
        }
    }
}

/// They come when the answer is through.
fn bytes_that_come_later_poison_it_as_well(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        while let Some(request) = conn.request()? {
            if request.target == "/next" {
                assert!(conn.number > 1, "a connection was used again behind bytes that nobody asked for");
                conn.send(WHOLE)?;
                continue;
            }
            conn.send(WHOLE)?;
            std::thread::sleep(Duration::from_millis(100));
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")?;
        }
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "keepalive_idle_secs = 60");
    assert_eq!(get(proxy.addr(), "/").expect(200).text(), "whole");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(get(proxy.addr(), "/next").expect(200).text(), "whole");
    assert_eq!(backend.connections(), 2);
}

/// Nothing was read of an answer that is already whole: its bytes are the client's, however the backend closes.
fn a_reset_behind_a_whole_answer_costs_nothing(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(WHOLE)?;
        conn.reset();
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    let (mut good, mut lost) = (0, 0);
    for _ in 0..30 {
        match client.get("/") {
            answer if answer.status() == 200 => {
                assert_eq!(answer.expect(200).text(), "whole");
                good += 1;
            }
            // A reset may take along what was on its way.
            answer => {
                answer.expect_failure(502, "backend_closed");
                lost += 1;
            }
        }
    }
    assert!(good > lost, "{good} were good, {lost} lost");
}

/// Cut anywhere, it is never taken for whole.
fn an_answer_that_is_cut_anywhere_never_looks_whole(engine: Engine) {
    // With the line of the last chunk, the second one is whole (RFC 9112 §8).
    let answers: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n world!\r\n0\r\n",
    ];
    for answer in answers {
        let whole = *answer;
        let backend = ScriptedBackend::per_connection(move |mut conn| {
            let Some(request) = conn.request()? else { return Ok(()) };
            let at: usize = request.target.trim_start_matches('/').parse().unwrap();
            conn.send(&whole[..at])
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "retries = 0");
        let places = (0..whole.len()).step_by(if engine == Engine::Native { 1 } else { 5 });
        let cuts = places.len();
        for at in places {
            let mut client = Client::connect(proxy.addr());
            client.send(format!("GET /{at} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
            let response = client.response_whose_end_may_be_missing(patience(engine));
            if response.broken.is_none() {
                let status = response.status();
                assert_eq!(status, 502, "cut at {at}: {:?} {}", response.head, response.text());
                response.expect_failure(502, "backend_closed");
            }
        }
        proxy.expect_idle();
        proxy.expect_counted(Cause::BackendClosed, cuts as u64);
    }
}

fn bad_chunks_never_look_whole(engine: Engine) {
    let bodies: &[&str] = &[
        "hello",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    for body in bodies {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        for close in [true, false] {
            if engine == Engine::TinyHttp && !close {
                continue;
            }
            let response = answer_to_impatient(engine, &answer, close);
            if response.broken.is_none() && response.status() == 200 {
                panic!("{body:?} came out as {:?}", response.text());
            }
        }
    }
}

/// As [`answer_to`], for answers that may leave the client waiting.
fn answer_to_impatient(engine: Engine, answer: &str, close: bool) -> Response {
    let backend = first_answer(answer, close);
    let keys = "retries = 0\nresponse_timeout_secs = 0.3\nidle_timeout_secs = 0.3";
    let proxy = TestProxy::to(engine, &[backend.addr()], keys);
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let response = client.response_whose_end_may_be_missing(patience(engine));
    proxy.expect_idle();
    assert_eq!(get(proxy.addr(), "/next").expect(200).text(), "whole", "after {answer:?}");
    response
}

/// How long a broken answer is waited for: tiny_http leaves its client waiting.
fn patience(engine: Engine) -> Duration {
    Duration::from_millis(if engine == Engine::Native { 2000 } else { 100 })
}

fn extensions_and_trailers_are_dropped(engine: Engine) {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;name=value\r\nhello\r\n0\r\nX-Trailer: from the backend\r\n\r\n";
    let response = answer_to(engine, "GET", answer, false).expect(200);
    assert_eq!(response.text(), "hello");
    assert!(!response.fields().has("x-trailer"));
}

fn interim_answers_are_swallowed(engine: Engine) {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
    let interim: &[String] = &[
        "HTTP/1.1 100 Continue\r\n\r\n".into(),
        "HTTP/1.1 102 Processing\r\n\r\n".into(),
        hints.into(),
        hints.repeat(100),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(100),
        format!("{hints}HTTP/1.1 100 Continue\r\n\r\n").repeat(50),
        format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", "x".repeat(20_000)).repeat(10),
        "HTTP/1.1 199 Odd\r\nContent-Length: 5\r\n\r\n".into(),
    ];
    for before in interim {
        for method in ["GET", "HEAD", "POST"] {
            let answer = format!("{before}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
            let body = if method == "HEAD" { "" } else { "whole" };
            let response = answer_to(engine, method, format!("{answer}{body}").as_bytes(), false);
            let response = response.expect(200);
            assert_eq!(response.text(), body, "{method} behind {}", shown(before.as_bytes()));
            assert!(!response.fields().has("link"), "a field of an interim answer");
        }
    }
}

fn interim_answers_without_end_are_504(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        loop {
            conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "response_timeout_secs = 0.5");
    get(proxy.addr(), "/").expect_failure(504, "response_timeout");
    proxy.expect_idle();
}

fn a_switch_nobody_asked_for_is_502(engine: Engine) {
    expect_bad(engine, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: upgrade\r\n\r\nraw");
    expect_bad(engine, b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
}

fn fields(count: usize) -> String {
    (0..count).map(|number| format!("X-{number}: x\r\n")).collect()
}

/// Told apart from a lost connection.
fn a_head_that_is_too_large_is_502(engine: Engine) {
    let one_large = format!("X-Large: {}\r\n", "x".repeat(66_000));
    let much_larger = format!("X-Large: {}\r\n", "x".repeat(1_000_000));
    let many_large: String = (0..100).map(|number| format!("X-{number}: {}\r\n", "x".repeat(1000))).collect();
    for lines in [one_large, much_larger, many_large, fields(1100)] {
        for close in [false, true] {
            let answer = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 5\r\n\r\nhello");
            answer_to(engine, "GET", answer.as_bytes(), close).expect_failure(502, "response_head_too_large");
        }
    }
}

fn a_head_just_within_the_limits_passes(engine: Engine) {
    let long = format!("X-Large: {}\r\n", "x".repeat(64_000));
    for lines in [long, fields(900)] {
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 5\r\n\r\nhello");
        assert_eq!(answer_to(engine, "GET", answer.as_bytes(), false).expect(200).text(), "hello");
    }
}

on_both_engines!(
    what_is_not_http_is_502,
    bad_bytes_in_a_head_are_502,
    codings_that_cannot_be_passed_on_are_502,
    a_coding_in_capitals_is_the_same,
    lengths_that_differ_are_502,
    lengths_that_agree_are_one,
    bytes_behind_an_answer_poison_their_connection_alone,
    bytes_that_come_later_poison_it_as_well,
    a_reset_behind_a_whole_answer_costs_nothing,
    an_answer_that_is_cut_anywhere_never_looks_whole,
    bad_chunks_never_look_whole,
    extensions_and_trailers_are_dropped,
    interim_answers_are_swallowed,
    interim_answers_without_end_are_504,
    a_switch_nobody_asked_for_is_502,
    a_head_that_is_too_large_is_502,
    a_head_just_within_the_limits_passes,
);
