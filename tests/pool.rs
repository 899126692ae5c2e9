//! How many exchanges are carried at once, and what happens to those beyond.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::engines::on_native;
use crate::support::{Client, Echo, Engine, Origin, ScriptedBackend, Task, TestProxy, get, spawn, wait_for};

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

/// Whoever does not read costs memory, bounded, and no thread.
fn slow_readers_hold_nobody(engine: Engine) {
    let (large, origin) = (large(), Origin::echo());
    let proxy = TestProxy::builder(engine)
        .server("workers = 1")
        .shutdown_timeout("0")
        .route("/large", &[large.addr()], "")
        .route("/", &[origin.addr()], "")
        .start();
    let readers = slow_readers(proxy.addr(), 50);
    proxy.expect_in_flight(&large.addr(), 50);
    let mut client = Client::connect(proxy.addr());
    for _ in 0..20 {
        let started = Instant::now();
        client.get("/").expect(200);
        assert!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
    }
    readers.into_iter().for_each(|reader| reader.leave(true));
    proxy.expect_idle();
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
    drop(clients);
}

fn beyond_max_exchanges_is_503_at_once(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("max_exchanges = 4")
        .route("/", &[origin.addr()], "max_in_flight = 4")
        .start();
    let ask = |target| {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        client
    };
    let mut held = [(); 4].map(|()| ask("/hold"));
    wait_for("four to be held", || if origin.held() == 4 { Ok(()) } else { Err(origin.held()) });
    let mut late = Client::connect(proxy.addr());
    for _ in 0..5 {
        let started = Instant::now();
        let refused = late.get("/late").expect_failure(503, "overloaded");
        assert!(refused.fields().one("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()));
        assert!(started.elapsed() < Duration::from_secs(1), "refused after {:?}", started.elapsed());
    }
    origin.release();
    held.iter_mut().for_each(|client| drop(client.response().expect(200)));
    late.get("/after").expect(200);
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

/// By default one route leaves a quarter of all exchanges to the others, whoever hangs in it.
fn a_hung_backend_leaves_places_to_others(engine: Engine) {
    let hung = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server("max_exchanges = 8")
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
    slow_readers_hold_nobody,
    hundreds_that_wait_delay_nobody,
    beyond_max_exchanges_is_503_at_once,
    one_route_cannot_take_all,
    a_hung_backend_leaves_places_to_others,
);
