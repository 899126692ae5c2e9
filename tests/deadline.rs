//! `deadline_secs` bounds the whole exchange, in whatever phase it is.

use std::thread::sleep;
use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;

use crate::support::backend::Conn;
use crate::support::engines::on_native;
use crate::support::{Client, Engine, Origin, ScriptedBackend, TestProxy, get};

/// Every other limit is 8 s or more.
const DEADLINE: &str = "deadline_secs = 0.5";
/// The proxy looks twice a second; the rest is for slow machines.
const SOON: Duration = Duration::from_secs(4);

/// Sends one byte now and then until the proxy closes.
fn drip(conn: &mut Conn) -> std::io::Result<()> {
    loop {
        conn.send(b"x")?;
        sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn expect_soon(started: Instant) {
    assert!(started.elapsed() >= Duration::from_millis(490), "over after {:?}", started.elapsed());
    assert!(started.elapsed() < SOON, "over after {:?}", started.elapsed());
}

#[track_caller]
fn expect_504(proxy: &TestProxy) {
    let started = Instant::now();
    let mut client = Client::connect(proxy.addr());
    client.get("/").expect_failure(504, "deadline_exceeded");
    expect_soon(started);
    proxy.expect_idle();
    proxy.expect_counted(Cause::DeadlineExceeded, 1);
}

fn a_quick_answer_is_not_touched(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "deadline_secs = 5");
    let mut client = Client::connect(proxy.addr());
    (0..5).for_each(|_| drop(client.get("/").expect(200)));
}

fn no_answer_is_504(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| conn.hang());
    expect_504(&TestProxy::to(engine, &[backend.addr()], DEADLINE));
    assert_eq!(backend.connections(), 1, "there is no time for another try");
}

fn a_head_that_drips_is_504(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nX-Long: ")?;
        drip(&mut conn)
    });
    expect_504(&TestProxy::to(engine, &[backend.addr()], DEADLINE));
}

fn interim_answers_without_end_are_504(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        loop {
            conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
            sleep(Duration::from_millis(20));
        }
    });
    expect_504(&TestProxy::to(engine, &[backend.addr()], DEADLINE));
}

/// The beginning is with the client: all it can see is that there is no end.
fn a_body_that_drips_breaks_off(engine: Engine) {
    for head in ["Content-Length: 100000", "X-Unknown: length"] {
        let backend = ScriptedBackend::per_connection(move |mut conn| {
            conn.request()?;
            conn.send_head(&["HTTP/1.1 200 OK", head])?;
            drip(&mut conn)
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], DEADLINE);
        let started = Instant::now();
        let mut client = Client::connect(proxy.addr());
        client.set_patience(Duration::from_millis(700));
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        let answer = client.response();
        assert_eq!(answer.status(), 200);
        assert!(!answer.body.is_empty());
        answer.broken.expect("an answer that broke off");
        expect_soon(started);
        proxy.expect_idle();
        proxy.expect_counted(Cause::DeadlineExceeded, 1);
    }
}

/// Not even one that is fast.
fn a_body_without_end_breaks_off(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 200 OK"])?;
        loop {
            conn.send(&[b'x'; 5000])?;
            sleep(Duration::from_millis(1));
        }
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], DEADLINE);
    let started = Instant::now();
    let mut client = Client::connect(proxy.addr());
    client.set_patience(Duration::from_millis(700));
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    client.response().broken.expect("an answer that broke off");
    expect_soon(started);
    proxy.expect_idle();
}

/// A backend that does not read what is sent to it.
fn an_upload_that_nobody_reads_is_504(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        sleep(Duration::from_millis(900));
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], DEADLINE);
    let started = Instant::now();
    let mut client = Client::connect(proxy.addr());
    client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 50000000\r\n\r\n");
    let upload = vec![b'u'; 50_000_000];
    // The answer comes before the upload is through.
    let sent = client.try_send(&upload);
    match client.try_response_to("POST") {
        Ok(answer) => drop(answer.expect_failure(504, "deadline_exceeded")),
        // The rest of the upload, which nobody took, may have cost the answer.
        Err(_) => assert!(sent.is_err()),
    }
    assert!(started.elapsed() < SOON, "over after {:?}", started.elapsed());
    proxy.expect_idle();
    proxy.expect_counted(Cause::DeadlineExceeded, 1);
}

/// Time is over for a backend whatever the other limits say, and nobody else pays for it.
fn the_next_exchange_has_its_own(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        if request.target == "/hangs" {
            return conn.hang();
        }
        sleep(Duration::from_millis(100));
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "deadline_secs = 0.7");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..9 {
        client.get("/").expect(200);
    }
    client.get("/hangs").expect_failure(504, "deadline_exceeded");
    get(proxy.addr(), "/").expect(200);
}

on_native!(
    a_quick_answer_is_not_touched,
    no_answer_is_504,
    a_head_that_drips_is_504,
    interim_answers_without_end_are_504,
    a_body_that_drips_breaks_off,
    a_body_without_end_breaks_off,
    an_upload_that_nobody_reads_is_504,
    the_next_exchange_has_its_own,
);
