//! One route's hung backend does not stop another route.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;

use crate::support::engines::on_both_engines;
use crate::support::wait::Task;
use crate::support::{Client, Engine, Gate, Origin, ScriptedBackend, TestProxy, spawn, wait_for};

/// Of 32 exchanges a route may have 24.
const SHARE: usize = 24;
const CLIENTS: usize = 64;

fn a_hung_backend_stops_no_other_route(engine: Engine) {
    let released = Gate::new();
    let gate = released.clone();
    let hung = ScriptedBackend::per_request(move |conn, _| {
        gate.wait("the test to release what hangs");
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server(&engine.carries(32))
        .route("/hung", &[hung.addr()], "response_timeout_secs = 60")
        .route("/quick", &[origin.addr()], "")
        .start();
    let addr = proxy.addr();
    // One by one: tiny_http leaves connections that come at the same moment to one thread.
    let mut waiting: Vec<Client> = (1..=CLIENTS)
        .map(|number| {
            let mut client = Client::connect(addr);
            client.send("GET /hung HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
            wait_for("it to be held or refused", || {
                let refused = usize::try_from(proxy.counters().of(Cause::RouteFull)).unwrap();
                match hung.requests() + refused {
                    seen if seen == number => Ok(()),
                    seen => Err(seen),
                }
            });
            client
        })
        .collect();
    proxy.expect_in_flight(&hung.addr(), SHARE);
    // Who comes too late for a place is told so at once, and does not wait with the others.
    proxy.expect_counted(Cause::RouteFull, (CLIENTS - SHARE) as u64);
    let clients: Vec<Task<Duration>> = (0..4)
        .map(|_| {
            let mut client = Client::connect(addr);
            client.get("/quick").expect(200);
            spawn("quick client", move || {
                let slowest = (0..50).map(|_| {
                    let started = Instant::now();
                    client.get("/quick").expect(200);
                    started.elapsed()
                });
                slowest.max().unwrap_or_default()
            })
        })
        .collect();
    for client in clients {
        let slowest = client.join();
        assert!(slowest < Duration::from_secs(2), "one took {slowest:?}");
    }
    assert_eq!(hung.ended(), 0, "the others were to hang meanwhile");
    released.open();
    let answers: Vec<u16> = waiting.iter_mut().map(|client| client.response().status()).collect();
    let count = |status: u16| answers.iter().filter(|seen| **seen == status).count();
    assert_eq!((count(200), count(503)), (SHARE, CLIENTS - SHARE), "{answers:?}");
    proxy.expect_idle();
}

/// A backend that takes no connections holds exchanges as well.
fn nor_does_one_that_takes_no_connections(engine: Engine) {
    let full = crate::support::backend::FullBacklog::new();
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server(&engine.carries(8))
        .route("/full", &[full.addr()], "connect_timeout_secs = 2\nretries = 0")
        .route("/quick", &[origin.addr()], "")
        .start();
    let mut client = Client::connect(proxy.addr());
    client.get("/quick").expect(200);
    // One by one, as above.
    let mut waiting: Vec<Client> = (2..=17)
        .map(|number| {
            let mut client = Client::connect(proxy.addr());
            client.send("GET /full HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
            wait_for("it to be an exchange", || match proxy.counters().exchanges.load(Ordering::Relaxed) {
                seen if seen == number => Ok(()),
                seen => Err(seen),
            });
            client
        })
        .collect();
    // Some hang, and for the others there is no place.
    let hang = |(backend, count): &(String, usize)| *backend == full.addr() && *count > 0;
    assert!(proxy.in_flight().iter().any(hang), "{:?}", proxy.in_flight());
    for _ in 0..20 {
        let started = Instant::now();
        client.get("/quick").expect(200);
        assert!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
    }
    for client in &mut waiting {
        let status = client.response().status();
        assert!(matches!(status, 503 | 504), "{status}");
    }
}

on_both_engines!(a_hung_backend_stops_no_other_route);

mod linux {
    use super::nor_does_one_that_takes_no_connections;
    crate::support::engines::on_both_engines!(nor_does_one_that_takes_no_connections);
}
