//! The drain under load: no request that a client sent in good faith goes unanswered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::engines::{on_native, on_native_over_tls};
use crate::support::{Client, Echo, Engine, Origin, ProxyProcess, Task, TestProxy, get, spawn, wait_for};

/// How one client's connection came to its end.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    /// The last answer said that the connection closes, or it was closed before the next request was sent, or it was
    /// enough.
    InOrder,
    /// A request was sent, less than this long after the last answer, and there was no answer.
    Unanswered(u64, String),
    /// A request was sent so late after the last answer that the connection had been idle.
    Idle,
}

/// An idle connection may be closed. One on which the next request follows its answer within this time is not idle;
/// the proxy itself waits longer.
const BUSY: Duration = Duration::from_millis(200);

/// One request after the other on one connection, until it ends or it is enough.
pub(crate) fn carry_on(addr: SocketAddr, answered: &AtomicUsize, enough: &AtomicBool) -> End {
    let mut client = Client::connect(addr);
    let mut since = Instant::now();
    for number in 0.. {
        if enough.load(Ordering::Relaxed) || client.is_closed() {
            return End::InOrder;
        }
        let target = format!("/{number}");
        let sent = client.try_send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        let gap = since.elapsed();
        match sent.and_then(|()| client.try_response_to("GET")) {
            Ok(response) => {
                let response = response.expect(200);
                assert_eq!(Echo::parse(&response.body).target, target);
                answered.fetch_add(1, Ordering::Relaxed);
                since = Instant::now();
                if response.fields().all("connection").contains(&"close".to_owned()) {
                    client.expect_fin();
                    return End::InOrder;
                }
            }
            Err(_) if gap >= BUSY => return End::Idle,
            Err(error) => return End::Unanswered(number, error.to_string()),
        }
    }
    unreachable!("the loop ends by itself")
}

fn under_load_every_request_is_answered(engine: Engine) {
    for signal in [Signal::TERM, Signal::INT] {
        let origin = Origin::echo();
        let config = TestProxy::builder(engine).shutdown_timeout("10").route("/", &[origin.addr()], "");
        let (process, addr) = ProxyProcess::start(&config.toml());
        let answered = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let answered = Arc::clone(&answered);
                spawn(&format!("client-{number}"), move || carry_on(addr, &answered, &AtomicBool::new(false)))
            })
            .collect();
        wait_for("the load to be on", || match answered.load(Ordering::Relaxed) {
            200.. => Ok(()),
            count => Err(count),
        });
        process.signal(signal);
        let ends: Vec<End> = clients.into_iter().map(Task::join).collect();
        assert!(!ends.iter().any(|end| matches!(end, End::Unanswered(..))), "{ends:?}");
        assert!(ends.contains(&End::InOrder), "nothing was shown: {ends:?}");
        let exit = process.wait();
        assert_eq!(exit.status.code(), Some(0), "{}", exit.output);
        // Everybody can read the key of the tests.
        let is_bad = |line: &str| line.contains("WARN") && !line.contains("certificates[0].key");
        assert!(!exit.output.lines().any(is_bad), "{}", exit.output);
    }
}

/// The program is stopped while clients connect: they lie in the backlog when it learns that it is to end.
fn what_lies_in_the_backlog_is_answered(engine: Engine) {
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).shutdown_timeout("10").route("/", &[origin.addr()], "");
    let (process, addr) = ProxyProcess::start(&config.toml());
    get(addr, "/").expect(200);
    process.signal(Signal::STOP);
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(addr)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
    }
    process.signal(Signal::TERM);
    process.signal(Signal::CONT);
    for (number, client) in clients.iter_mut().enumerate() {
        let response = client.response().expect(200);
        assert_eq!(Echo::parse(&response.body).target, format!("/{number}"));
    }
    drop(clients);
    assert_eq!(process.wait().status.code(), Some(0));
}

/// The same for those who wait there because `max_connections` are open.
fn who_waits_for_a_place_is_answered(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("max_connections = 2")
        .shutdown_timeout("10")
        .route("/", &[origin.addr()], "")
        .start();
    let mut inside = [(); 2].map(|()| Client::connect(proxy.addr()));
    inside.iter_mut().for_each(|client| drop(client.get("/").expect(200)));
    let mut waiting: Vec<Client> = (0..5).map(|_| Client::connect(proxy.addr())).collect();
    waiting.iter_mut().for_each(|client| client.send("GET /waiting HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
    let drain = proxy.drain();
    while !waiting.is_empty() {
        let answered = wait_for("an answer to one of those who wait", || {
            waiting.iter_mut().position(Client::has_input).ok_or(waiting.len())
        });
        waiting.remove(answered).response().expect(200);
    }
    assert_eq!(drain.join(), 0);
}

/// All places are taken, and whenever one is free there is somebody for it. The drain ends all the same, long before its
/// deadline.
fn those_who_keep_coming_do_not_hold_it_up(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("max_connections = 2")
        .shutdown_timeout("60")
        .route("/", &[origin.addr()], "")
        .start();
    let (addr, started) = (proxy.addr(), Instant::now());
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..16 {
            let come = || {
                while let Ok(mut stream) = TcpStream::connect(addr) {
                    let request = "GET / HTTP/1.1\r\nHost: proxy.test\r\nConnection: close\r\n\r\n";
                    let mut answer = Vec::new();
                    if stream.write_all(request.as_bytes()).is_ok() && stream.read_to_end(&mut answer).is_ok()
                    {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            thread::Builder::new().name(format!("client-{number}")).spawn_scoped(scope, come).unwrap();
        }
        wait_for("clients that keep coming", || {
            let served = served.load(Ordering::Relaxed);
            (served > 50).then_some(()).ok_or(served)
        });
        assert_eq!(proxy.drain().join_within(Duration::from_secs(40)), 0);
    });
    assert!(started.elapsed() < Duration::from_secs(40), "took {:?}", started.elapsed());
}

/// Idle ones go at once, fresh ones and half-sent ones in time, and nobody keeps the drain from ending.
fn connections_without_a_request_do_not_hold_it_up(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).shutdown_timeout("3").route("/", &[origin.addr()], "").start();
    let mut idle = Client::connect(proxy.addr());
    idle.get("/").expect(200);
    let mut fresh = Client::connect(proxy.addr());
    let started = Instant::now();
    let drain = proxy.drain();
    idle.expect_fin();
    fresh.expect_fin();
    assert_eq!(drain.join(), 0);
    assert!(started.elapsed() < Duration::from_secs(2), "took {:?}", started.elapsed());
}

/// When the drain is over, no connection is left behind, whatever it was waiting for.
fn the_deadline_closes_what_never_became_a_request(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).shutdown_timeout("0.5").route("/", &[origin.addr()], "").start();
    let mut half = Client::connect(proxy.addr());
    half.get("/").expect(200);
    half.send("GET / HTTP/1.1\r\nHo");
    let mut body = Client::connect(proxy.addr());
    body.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 10\r\n\r\nhalf");
    let started = Instant::now();
    assert_eq!(proxy.drain().join(), 2, "a client would miss an answer to each");
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    half.end().expect("the end of the connection");
    body.end().expect("the end of the connection");
}

on_native!(
    under_load_every_request_is_answered,
    what_lies_in_the_backlog_is_answered,
    who_waits_for_a_place_is_answered,
    those_who_keep_coming_do_not_hold_it_up,
    connections_without_a_request_do_not_hold_it_up,
    the_deadline_closes_what_never_became_a_request,
);

on_native_over_tls!(
    under_load_every_request_is_answered,
    those_who_keep_coming_do_not_hold_it_up,
    connections_without_a_request_do_not_hold_it_up,
    the_deadline_closes_what_never_became_a_request,
);
