//! How many exchanges are carried at once, and what happens to those beyond.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::engines::on_native;
use crate::support::wait::Task;
use crate::support::{
    Client, Echo, Engine, Origin, PATIENCE, ProxyProcess, ScriptedBackend, Task, TestProxy, get, spawn,
    wait_for,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n";

/// Answers with far more than the buffers on the way hold.
fn large() -> ScriptedBackend {
    ScriptedBackend::per_request(|conn, _| {
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 10485760"])?;
        (0..160).try_for_each(|_| conn.send(&[b'x'; 65_536]))
    })
}

/// Clients that ask for such an answer and do not read it.
fn slow_readers(addr: SocketAddr, count: usize) -> Vec<Client> {
    let ask = |_| {
        let mut client = Client::with_small_window(addr);
        client.send("GET /large HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        client
    };
    (0..count).map(ask).collect()
}

/// A request that all workers are too busy for, and that is answered when the first of them is free.
fn expect_to_wait(addr: SocketAddr, mut readers: Vec<Client>) {
    let mut waiting = Client::connect(addr);
    waiting.send(GET);
    waiting.set_patience(Duration::from_millis(300));
    assert!(waiting.any_head("GET").is_err(), "answered though all workers are held");
    waiting.set_patience(PATIENCE);
    readers.pop().expect("a slow reader").leave(true);
    waiting.response().expect(200);
    readers.into_iter().for_each(|reader| reader.leave(true));
}

fn slow_readers_hold_all_workers_and_that_is_counted(engine: Engine) {
    let (large, origin) = (large(), Origin::echo());
    let proxy = TestProxy::builder(engine)
        .server("workers = 8")
        .route("/large", &[large.addr()], "max_in_flight = 8")
        .route("/", &[origin.addr()], "")
        .start();
    let readers = slow_readers(proxy.addr(), 8);
    proxy.expect_in_flight(&large.addr(), 8);
    let exhausted = || proxy.counters().pool_exhausted.load(Ordering::Relaxed);
    assert_eq!(exhausted(), 0, "nobody waits yet");
    expect_to_wait(proxy.addr(), readers);
    assert_eq!(exhausted(), 1, "once per episode");
    proxy.expect_idle();
    get(proxy.addr(), "/").expect(200);
}

fn slow_readers_hold_all_workers_and_that_is_logged(engine: Engine) {
    let (large, origin) = (large(), Origin::echo());
    let config = TestProxy::builder(engine)
        .server("workers = 8")
        .route("/large", &[large.addr()], "max_in_flight = 8")
        .route("/", &[origin.addr()], "");
    let (mut process, addr) = ProxyProcess::start(&config.toml());
    let readers = slow_readers(addr, 8);
    wait_for("all workers to be held", || match large.requests() {
        8 => Ok(()),
        requests => Err(requests),
    });
    expect_to_wait(addr, readers);
    let warning = process.wait_for_output("a warning", |line| line.contains("WARN").then(|| line.to_owned()));
    assert!(warning.contains("workers are held"), "{warning}");
    process.wait_for_output("the all-clear", |line| line.contains("workers are free again").then_some(()));
    assert_eq!(process.output().matches("workers are held").count(), 1, "{}", process.output());
}

/// With the default number of workers, hundreds of exchanges that wait for somebody are nobody else's concern.
fn hundreds_that_wait_delay_nobody(engine: Engine) {
    let pausing = ScriptedBackend::per_connection(|mut conn| {
        if conn.request()?.is_some_and(|request| request.target == "/pausing") {
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ")?;
        }
        conn.hang()
    });
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .shutdown_timeout("0")
        .route("/pausing", &[pausing.addr()], "")
        .route("/thinking", &[pausing.addr()], "")
        .route("/quick", &[origin.addr()], "")
        .start();
    let mut clients = Vec::new();
    for number in 0..350 {
        let target = if number < 300 { "/pausing" } else { "/thinking" };
        let mut client = Client::connect(proxy.addr());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        clients.push(client);
    }
    let addr = proxy.addr();
    // While they come in, and when all are there. One of them may be late for the machine's own reasons.
    let quick = || {
        let mut times = [(); 21].map(|()| {
            let started = Instant::now();
            get(addr, "/quick").expect(200);
            started.elapsed()
        });
        times.sort();
        times[10]
    };
    let usual = quick();
    assert!(usual < Duration::from_millis(500), "a quick request took {usual:?} while others came in");
    wait_for("all to be carried", || match pausing.requests() {
        350 => Ok(()),
        requests => Err(requests),
    });
    let usual = quick();
    assert!(usual < Duration::from_millis(500), "a quick request took {usual:?} beside others");
    assert_eq!(proxy.counters().pool_exhausted.load(Ordering::Relaxed), 0);
    drop(clients);
}

fn beyond_the_queue_is_503_at_once(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("workers = 1\nqueue_size = 3")
        .route("/", &[origin.addr()], "")
        .start();
    let ask = |target| {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        client
    };
    let mut held = ask("/hold");
    wait_for("the only worker to be held", || if origin.held() == 1 { Ok(()) } else { Err(()) });
    let mut clients = [(); 4].map(|()| ask("/queued"));
    // Three wait in the queue; which one came last is the system's choice.
    let number = wait_for("one request too many to be refused", || {
        clients.iter().position(Client::has_input).ok_or(())
    });
    let refused = clients[number].response().expect_failure(503, "overloaded");
    assert!(refused.fields().one("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()));
    assert_eq!(refused.fields().all("connection"), ["close"]);
    clients[number].expect_fin();
    for _ in 0..5 {
        let started = Instant::now();
        ask("/late").response().expect_failure(503, "overloaded");
        assert!(started.elapsed() < Duration::from_secs(1), "refused after {:?}", started.elapsed());
    }
    origin.release();
    held.response().expect(200);
    for (other, client) in clients.iter_mut().enumerate() {
        if other != number {
            client.response().expect(200);
        }
    }
    get(proxy.addr(), "/after").expect(200);
}

fn one_route_cannot_take_all(engine: Engine) {
    let (slow, quick) = (Origin::named("slow"), Origin::named("quick"));
    let proxy = TestProxy::builder(engine)
        .route("/slow", &[slow.addr()], "max_in_flight = 2")
        .route("/", &[quick.addr()], "")
        .start();
    let mut held = [(); 2].map(|()| {
        let mut client = Client::connect(proxy.addr());
        client.send("GET /slow/hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        client
    });
    wait_for("two requests to be held", || if slow.held() == 2 { Ok(()) } else { Err(slow.held()) });
    let mut client = Client::connect(proxy.addr());
    for _ in 0..3 {
        let refused = client.get("/slow/more").expect_failure(503, "route_full");
        assert!(refused.fields().has("retry-after"));
        assert_eq!(Echo::parse(&client.get("/else").expect(200).body).origin, "quick");
    }
    slow.release();
    for client in &mut held {
        client.response().expect(200);
    }
    proxy.expect_idle();
    assert_eq!(Echo::parse(&client.get("/slow/again").expect(200).body).origin, "slow");
}

/// By default one route leaves a quarter of the workers to the others, whoever hangs in it.
fn a_hung_backend_leaves_workers_to_others(engine: Engine) {
    let hung = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("workers = 8")
        .shutdown_timeout("0")
        .route("/hung", &[hung.addr()], "response_timeout_secs = 60")
        .route("/", &[origin.addr()], "")
        .start();
    let addr = proxy.addr();
    let clients: Vec<_> = (0..30)
        .map(|number| {
            spawn(&format!("client-{number}"), move || {
                let mut client = Client::connect(addr);
                client.set_patience(Duration::from_millis(700));
                client.send("GET /hung HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
                client.try_response_to("GET").is_ok_and(|response| response.status() == 503)
            })
        })
        .collect();
    for _ in 0..10 {
        get(addr, "/else").expect(200);
    }
    let refused = clients.into_iter().map(Task::join).filter(|refused| *refused).count();
    assert_eq!(refused, 24, "of 30 requests, with 6 carried");
}

on_native!(
    slow_readers_hold_all_workers_and_that_is_counted,
    slow_readers_hold_all_workers_and_that_is_logged,
    hundreds_that_wait_delay_nobody,
    beyond_the_queue_is_503_at_once,
    one_route_cannot_take_all,
    a_hung_backend_leaves_workers_to_others,
);
