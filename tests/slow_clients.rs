//! Clients that are slow, on purpose or not, cost a buffer and not a worker, and are gone when their time is over.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;

use crate::basic_auth::{Users, basic, request};
use crate::support::engines::{kib_of_tls, on_native, on_native_over_tls};
use crate::support::wire::chunk;
use crate::support::{
    Client, Echo, Engine, Origin, PATIENCE, ScriptedBackend, TestProxy, get, send_once, wait_for,
};

/// The limit in these tests, and what is far beyond it.
const LIMIT: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_secs(4);

/// Sends one byte of `bytes` after the other, until the proxy says something or there are no more.
fn dribble(client: &mut Client, bytes: &[u8]) {
    for byte in bytes {
        if client.has_input() || client.try_send([*byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nobody minded how slow the client is");
}

#[track_caller]
fn expect_in_time(started: Instant) {
    let took = started.elapsed();
    assert!(took >= LIMIT - Duration::from_millis(20), "ended after {took:?}, too soon");
    assert!(took < LATE, "ended after {took:?}, too late");
}

fn a_dribbled_head_is_408(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("header_timeout_secs = 0.5\nkeepalive_timeout_secs = 60")
        .route("/", &[origin.addr()], "")
        .start();
    let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1000));
    for kept_alive in [false, true] {
        let mut client = Client::connect(proxy.addr());
        if kept_alive {
            client.get("/").expect(200);
        }
        let started = Instant::now();
        dribble(&mut client, head.as_bytes());
        let response = client.response().expect_failure(408, "head_timeout");
        assert_eq!(response.fields().all("connection"), ["close"]);
        expect_in_time(started);
        client.end().expect("the end of the connection");
    }
    assert_eq!(origin.requests(), 1);
}

/// Head by head, each within its time: the limit is for one head, not for the connection.
fn many_slow_heads_in_time_are_fine(engine: Engine) {
    let origin = Origin::echo();
    let proxy =
        TestProxy::builder(engine).server("header_timeout_secs = 1").route("/", &[origin.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        for piece in ["GET / HT", "TP/1.1\r\nHo", "st: proxy.test\r\n\r", "\n"] {
            client.send(piece);
            std::thread::sleep(Duration::from_millis(40));
        }
        client.response().expect(200);
    }
}

fn a_small_body_that_stops_is_408(engine: Engine) {
    let origin = Origin::echo();
    let proxy =
        TestProxy::builder(engine).server("read_timeout_secs = 0.5").route("/", &[origin.addr()], "").start();
    let started = Instant::now();
    let mut client = Client::connect(proxy.addr());
    client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 1000\r\n\r\nsome of it");
    let response = client.response_to("POST").expect_failure(408, "body_timeout");
    assert_eq!(response.fields().all("connection"), ["close"]);
    expect_in_time(started);
    client.end().expect("the end of the connection");
    assert_eq!(origin.connections(), 0, "no backend hears of a small body that is not complete");
}

/// A chunked body is handed on as it comes; one that stops ends for everybody.
fn a_body_that_stops_while_it_streams_is_408(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        if let Some(request) = conn.request()? {
            conn.body(&request)?;
            panic!("the body cannot be complete");
        }
        Ok(())
    });
    let proxy = TestProxy::builder(engine)
        .server("read_timeout_secs = 0.5")
        .route("/", &[backend.addr()], "")
        .start();
    let large = vec![b'x'; 300_000];
    let length = [b"Content-Length: 1000000\r\n\r\n", &large[..]].concat();
    let chunked = [b"Transfer-Encoding: chunked\r\n\r\n", &chunk(&large)[..]].concat();
    let small = [b"Transfer-Encoding: chunked\r\n\r\n", &chunk(b"small")[..]].concat();
    for (number, framed) in [length, chunked, small].into_iter().enumerate() {
        let started = Instant::now();
        let mut client = Client::connect(proxy.addr());
        client.send([b"POST / HTTP/1.1\r\nHost: proxy.test\r\n", &framed[..]].concat());
        client.response_to("POST").expect_failure(408, "body_timeout");
        expect_in_time(started);
        client.end().expect("the end of the connection");
        proxy.expect_idle();
        wait_for("the backend's connection to be closed", || match backend.ended() {
            ended if ended > number => Ok(()),
            ended => Err(ended),
        });
    }
}

/// No request, no answer: whatever came in would be taken for the answer to the next one.
fn idle_connections_are_closed_silently(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("keepalive_timeout_secs = 0.5")
        .route("/", &[origin.addr()], "")
        .start();
    let fresh_since = Instant::now();
    let mut fresh = Client::connect(proxy.addr());
    let mut used = Client::connect(proxy.addr());
    used.get("/").expect(200);
    let used_since = Instant::now();
    fresh.expect_fin();
    expect_in_time(fresh_since);
    used.expect_fin();
    expect_in_time(used_since);
}

/// A client that does not read is given up, and its backend is free again.
fn a_client_that_does_not_read_is_given_up(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 100000000"])?;
        loop {
            conn.send(&[b'x'; 100_000])?;
        }
    });
    let proxy = TestProxy::builder(engine)
        .server("write_timeout_secs = 0.5")
        .route("/", &[backend.addr()], "")
        .start();
    let mut client = Client::with_small_window(proxy.addr());
    let started = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    proxy.expect_in_flight(&backend.addr(), 1);
    proxy.expect_idle();
    expect_in_time(started);
    wait_for("the backend's connection to be closed", || if backend.ended() == 1 { Ok(()) } else { Err(()) });
    proxy.expect_count(Cause::WriteTimeout, 1);
}

/// Each round sends one more byte of every slow client and one quick request.
fn quick_beside(addr: SocketAddr, slow: &mut [(Client, Vec<u8>)], rounds: usize) -> Duration {
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        for (client, bytes) in slow.iter_mut() {
            client.send([bytes[round]]);
        }
        let started = Instant::now();
        let echo = Echo::parse(&get(addr, "/quick").expect(200).body);
        assert_eq!(echo.target, "/quick");
        longest = longest.max(started.elapsed());
    }
    longest
}

/// 200 dribbled heads and 100 dribbled bodies beside two workers.
fn dribblers_hold_no_worker(engine: Engine) {
    use crate::support::ProxyProcess;
    let origin = Origin::echo();
    let config = TestProxy::builder(engine)
        .server("workers = 2\nheader_timeout_secs = 2\nread_timeout_secs = 2")
        .route("/", &[origin.addr()], "");
    let (process, addr) = ProxyProcess::start(&config.toml());
    get(addr, "/quick").expect(200);
    let (threads, memory) = (process.threads(), process.resident_kib());

    let started = Instant::now();
    let post = "POST /slow HTTP/1.1\r\nHost: proxy.test\r\n";
    let mut slow = Vec::new();
    for number in 0..300 {
        let (start, rest) = match number % 6 {
            0 => (format!("{post}Content-Length: 1000\r\n\r\n"), "x".repeat(1000)),
            1 => {
                (format!("{post}Transfer-Encoding: chunked\r\n\r\n"), format!("3e8\r\n{}", "x".repeat(1000)))
            }
            _ => (String::new(), format!("GET /slow HTTP/1.1\r\nX: {}", "x".repeat(1000))),
        };
        let mut client = Client::connect(addr);
        client.send(start);
        slow.push((client, rest.into_bytes()));
    }
    let longest = quick_beside(addr, &mut slow, 10);
    assert!(longest < Duration::from_secs(1), "a quick request took {longest:?} beside slow ones");
    assert_eq!(process.threads(), threads, "a slow client costs no thread");
    let grown = process.resident_kib().saturating_sub(memory);
    assert!(grown < 300 * (16 + kib_of_tls()), "300 slow clients cost {grown} KiB");

    for (client, _) in &mut slow {
        client.response_to("POST").expect(408);
        client.end().expect("the end of the connection");
    }
    assert!(started.elapsed() < PATIENCE, "the last one was gone after {:?}", started.elapsed());
    get(addr, "/quick").expect(200);
    assert_eq!(process.threads(), threads);
}

/// What a connection held of its last request is given back while it waits for the next.
fn idle_connections_hold_no_buffers(engine: Engine) {
    use crate::support::ProxyProcess;
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).route("/", &[origin.addr()], "");
    let (process, addr) = ProxyProcess::start(&config.toml());
    let ask = || {
        let mut client = Client::connect(addr);
        client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 60000\r\n\r\n");
        client.send([b'x'; 60_000]);
        client.response_to("POST").expect(200);
        client
    };
    let warm: Vec<_> = (0..50).map(|_| ask()).collect();
    let memory = process.resident_kib();
    let idle: Vec<_> = (0..300).map(|_| ask()).collect();
    let grown = process.resident_kib().saturating_sub(memory);
    assert!(grown < 300 * (16 + kib_of_tls()), "300 idle connections cost {grown} KiB");
    drop((warm, idle));
}

/// Clients that are told to go on and then do not.
fn clients_that_were_told_to_continue_hold_no_worker(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("workers = 2\nread_timeout_secs = 5")
        .route("/", &[origin.addr()], "max_in_flight = 2")
        .start();
    let mut slow = Vec::new();
    for number in 0..20 {
        let framing = if number % 2 == 0 { "Content-Length: 1000" } else { "Transfer-Encoding: chunked" };
        let mut client = Client::connect(proxy.addr());
        client.send(format!(
            "POST /slow HTTP/1.1\r\nHost: proxy.test\r\nExpect: 100-continue\r\n{framing}\r\n\r\n"
        ));
        let interim = client.any_head("POST").expect("100 Continue").expect("100 Continue");
        assert_eq!(interim.status, 100);
        slow.push((client, [b"3e8\r\n", &[b'x'; 1000][..]].concat()));
    }
    let longest = quick_beside(proxy.addr(), &mut slow, 5);
    assert!(longest < Duration::from_secs(1), "a quick request took {longest:?} beside slow ones");
}

/// Some clients end a body with a line that is no part of anything: it begins no request.
fn a_lone_line_end_is_no_request(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("header_timeout_secs = 0.3\nkeepalive_timeout_secs = 1")
        .route("/", &[origin.addr()], "")
        .start();
    let post = "POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 4\r\n\r\nbody";
    for line_end in ["\r\n", "\r"] {
        for at_once in [false, true] {
            let mut client = Client::connect(proxy.addr());
            client.send(if at_once { format!("{post}{line_end}") } else { post.to_owned() });
            client.response_to("POST").expect(200);
            if !at_once {
                client.send(line_end);
            }
            // Longer than a head may take.
            std::thread::sleep(Duration::from_millis(500));
            let rest = if line_end == "\r" { "\n" } else { "" };
            client.send(format!("{rest}GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
            client.response().expect(200);
            client.send(line_end);
            client.expect_fin();
        }
    }
    let fresh = Client::connect(proxy.addr());
    for line_end in ["\r\n", "\r"] {
        let mut client = Client::connect(proxy.addr());
        client.send(line_end);
        client.expect_fin();
    }
    drop(fresh);
}

/// A client that takes none of its answers has none kept for it but the one that is on its way, and that one is shared.
fn answers_that_nobody_takes_are_not_kept(engine: Engine) {
    use crate::support::ProxyProcess;
    use crate::support::process::TempDir;
    /// More than fits into the buffers of the kernel.
    const COUNT: usize = 8;
    let directory = TempDir::new();
    let page = "x".repeat(1 << 20);
    let file = directory.file("large.html", &page).display().to_string();
    let config = TestProxy::builder(engine)
        .front(&format!("error_pages = {{ 4xx = {file:?} }}"))
        .server("workers = 1")
        .answering_route("/respond", &format!("respond = {{ file = {file:?} }}"))
        .answering_route("/denied", "respond = {}\ndeny = [\"127.0.0.1\"]");
    let (process, addr) = ProxyProcess::start(&config.toml());
    get(addr, "/denied").expect_failure(403, "client_denied");
    let before = process.resident_kib();
    let targets = [("/", 404), ("/respond", 200), ("/denied", 403)];
    let mut clients: Vec<_> =
        targets.iter().cycle().take(30).map(|target| (Client::connect(addr), *target)).collect();
    for (client, (target, _)) in &mut clients {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n").repeat(COUNT));
    }
    // Whoever comes behind them is served, and by then the one worker has seen them all.
    get(addr, "/denied").expect_failure(403, "client_denied");
    let grown = process.resident_kib().saturating_sub(before);
    assert!(grown < 2 * 1024, "{grown} KiB more");
    for (mut client, (_, status)) in clients.into_iter().take(targets.len()) {
        for _ in 0..COUNT {
            let response = client.response().expect(status);
            assert!(response.text() == page, "not the page");
        }
    }
}

/// Nor does such an answer wait for ever.
fn who_does_not_take_such_an_answer_is_cut(engine: Engine) {
    use crate::support::process::TempDir;
    let directory = TempDir::new();
    let file = directory.file("large.html", &"x".repeat(1 << 20)).display().to_string();
    let proxy = TestProxy::builder(engine)
        .server("write_timeout_secs = 0.5")
        .answering_route("/", &format!("respond = {{ file = {file:?} }}"))
        .start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n".repeat(8));
    proxy.expect_count(Cause::WriteTimeout, 1);
    let answers = std::iter::from_fn(|| client.try_response_to("GET").ok());
    let whole = answers.take_while(|response| response.broken.is_none()).count();
    assert!((1..8).contains(&whole), "{whole} were whole");
}

/// A client that waits to be told to go on with its body is not slow meanwhile.
fn a_body_that_waits_for_a_password_is_not_slow(engine: Engine) {
    let (origin, users) = (Origin::echo(), Users::new(&[]));
    users.set(&[("anna", "secret")], 10);
    let proxy = TestProxy::builder(engine)
        .server("read_timeout_secs = 1")
        .route("/", &[origin.addr()], &users.key(""))
        .start();
    // Others come first, so many that it takes longer than that.
    let guess = |n: usize| request("GET", "/", &basic(&format!("anna:{n}")));
    let began = Instant::now();
    send_once(proxy.addr(), guess(0)).expect(401);
    let each = began.elapsed();
    let guesses = (1_500 / each.as_millis().max(1)).clamp(1, 60) as usize;
    let _others: Vec<_> = (1..=guesses)
        .map(|n| {
            let mut client = Client::connect(proxy.addr());
            client.send(guess(n));
            client
        })
        .collect();
    wait_for("the others to be in line", || match proxy.counters().in_flight.load(Ordering::Relaxed) {
        0 => Err(0),
        count => Ok(count),
    });
    let mut client = Client::connect(proxy.addr());
    let fields = format!("Authorization: {}\r\nContent-Length: 5", basic("anna:secret"));
    client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{fields}\r\n\r\n"));
    client.any_head("POST").expect("a head");
    client.send("hello");
    assert_eq!(Echo::parse(&client.response().expect(200).body).framing, "length 5");
}

on_native!(
    a_lone_line_end_is_no_request,
    a_dribbled_head_is_408,
    many_slow_heads_in_time_are_fine,
    a_small_body_that_stops_is_408,
    a_body_that_stops_while_it_streams_is_408,
    idle_connections_are_closed_silently,
    a_client_that_does_not_read_is_given_up,
    dribblers_hold_no_worker,
    idle_connections_hold_no_buffers,
    clients_that_were_told_to_continue_hold_no_worker,
    answers_that_nobody_takes_are_not_kept,
    who_does_not_take_such_an_answer_is_cut,
    a_body_that_waits_for_a_password_is_not_slow,
);

on_native_over_tls!(
    a_lone_line_end_is_no_request,
    a_dribbled_head_is_408,
    many_slow_heads_in_time_are_fine,
    a_small_body_that_stops_is_408,
    a_body_that_stops_while_it_streams_is_408,
    idle_connections_are_closed_silently,
    a_client_that_does_not_read_is_given_up,
    dribblers_hold_no_worker,
    idle_connections_hold_no_buffers,
);
