//! Who gets the next request.

use crate::support::engines::on_both_engines;
use crate::support::origin::HEALTH;
use crate::support::wait::Task;
use crate::support::{Client, DeadPort, Echo, Engine, Origin, TestProxy, get, spawn, wait_for};

fn origins(count: usize) -> (Vec<Origin>, Vec<String>) {
    let origins: Vec<Origin> = (0..count).map(|number| Origin::named(&format!("origin-{number}"))).collect();
    let addrs = origins.iter().map(Origin::addr).collect();
    (origins, addrs)
}

fn requests(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(Origin::requests).collect()
}

fn round_robin_is_the_default_and_even(engine: Engine) {
    for keys in ["", "balancing_algorithm = \"round_robin\""] {
        let (origins, addrs) = origins(3);
        let proxy = TestProxy::to(engine, &addrs, keys);
        let mut client = Client::connect(proxy.addr());
        let mut order = Vec::new();
        for _ in 0..90 {
            order.push(Echo::parse(&client.get("/").expect(200).body).origin);
        }
        assert_eq!(requests(&origins), [30, 30, 30]);
        let in_turn =
            order.windows(4).all(|four| four[0] == four[3] && four[0] != four[1] && four[1] != four[2]);
        assert!(in_turn, "not in turn: {order:?}");
    }
}

fn round_robin_stays_even_under_concurrency(engine: Engine) {
    let (origins, addrs) = origins(3);
    let proxy = TestProxy::to(engine, &addrs, "");
    let addr = proxy.addr();
    let clients: Vec<_> = (0..9)
        .map(|number| {
            spawn(&format!("client-{number}"), move || {
                let mut client = Client::connect(addr);
                (0..30).for_each(|_| drop(client.get("/").expect(200)));
            })
        })
        .collect();
    clients.into_iter().for_each(Task::join);
    assert_eq!(requests(&origins), [90, 90, 90]);
}

/// A backend that is known to be unhealthy must not leave its turn to its neighbour.
fn a_dead_neighbour_doubles_nobodys_share(engine: Engine) {
    for dead in 0..4 {
        let (origins, addrs) = origins(4);
        origins[dead].set_health(500);
        let keys = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 600 }}");
        let proxy = TestProxy::to(engine, &addrs, &keys);
        let mut client = Client::connect(proxy.addr());
        wait_for("the dead backend to be left out", || {
            let before = origins[dead].requests();
            (0..8).for_each(|_| drop(client.get("/").expect(200)));
            if origins[dead].requests() == before { Ok(()) } else { Err(requests(&origins)) }
        });
        let before = requests(&origins);
        (0..90).for_each(|_| drop(client.get("/").expect(200)));
        let shares: Vec<usize> = requests(&origins).iter().zip(before).map(|(now, was)| now - was).collect();
        let expected: Vec<usize> = (0..4).map(|number| if number == dead { 0 } else { 30 }).collect();
        assert_eq!(shares, expected, "number {dead} is dead");
    }
}

fn least_connections_prefers_the_idle(engine: Engine) {
    let (origins, addrs) = origins(3);
    let proxy = TestProxy::to(engine, &addrs, "balancing_algorithm = \"least_connections\"");
    let held = |count: usize| {
        wait_for("the held requests to arrive", || {
            let held: Vec<usize> = origins.iter().map(Origin::held).collect();
            if held.iter().sum::<usize>() == count { Ok(held) } else { Err(held) }
        })
    };
    let mut clients = Vec::new();
    let mut hold = || {
        let mut client = Client::connect(proxy.addr());
        client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        clients.push(client);
    };
    hold();
    held(1);
    hold();
    let busy = held(2);
    assert_eq!(busy.iter().max(), Some(&1), "two requests, two backends: {busy:?}");
    let idle = busy.iter().position(|count| *count == 0).unwrap();
    for _ in 0..10 {
        proxy_settles(&proxy, 2);
        let echo = Echo::parse(&get(proxy.addr(), "/").expect(200).body);
        assert_eq!(echo.origin, format!("origin-{idle}"), "the only one with nothing in flight");
    }
    (3..=6).for_each(|count| {
        hold();
        held(count);
    });
    assert_eq!(held(6), [2, 2, 2], "six held requests are spread evenly");
    origins.iter().for_each(Origin::release);
    clients.iter_mut().for_each(|client| drop(client.response().expect(200)));
    proxy.expect_idle();
}

/// An answer is complete at the client a moment before it is counted off.
#[track_caller]
fn proxy_settles(proxy: &TestProxy, in_flight: usize) {
    wait_for("finished exchanges to be counted off", || {
        let counts = proxy.in_flight();
        let sum: usize = counts.iter().map(|(_, count)| count).sum();
        if sum == in_flight { Ok(()) } else { Err(counts) }
    });
}

fn least_connections_breaks_ties_in_rotation(engine: Engine) {
    let (origins, addrs) = origins(3);
    let proxy = TestProxy::to(engine, &addrs, "balancing_algorithm = \"least_connections\"");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..30 {
        proxy_settles(&proxy, 0);
        client.get("/").expect(200);
    }
    assert_eq!(requests(&origins), [10, 10, 10]);
}

fn routes_balance_independently(engine: Engine) {
    let (origins, addrs) = origins(2);
    let proxy = TestProxy::builder(engine).route("/a", &addrs, "").route("/b", &addrs, "").start();
    let mut client = Client::connect(proxy.addr());
    let mut seen = Vec::new();
    for _ in 0..10 {
        seen.push(Echo::parse(&client.get("/a").expect(200).body).origin);
        client.get("/b").expect(200);
    }
    assert_eq!(requests(&origins), [10, 10]);
    assert_eq!(seen.iter().filter(|origin| *origin == "origin-0").count(), 5, "{seen:?}");
}

/// Nothing of a request is sent to a backend that refuses the connection, so another one may have it.
fn a_backend_that_refuses_is_passed_over(engine: Engine) {
    let dead = DeadPort::reserve();
    let alive = Origin::echo();
    for algorithm in ["round_robin", "least_connections"] {
        let keys = format!("balancing_algorithm = {algorithm:?}\nretries = 1");
        let proxy = TestProxy::to(engine, &[dead.addr(), alive.addr()], &keys);
        let mut client = Client::connect(proxy.addr());
        for _ in 0..10 {
            client.get("/").expect(200);
            client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 4\r\n\r\nbody");
            client.response_to("POST").expect(200);
        }
        proxy.expect_idle();
    }
}

on_both_engines!(
    round_robin_is_the_default_and_even,
    round_robin_stays_even_under_concurrency,
    a_dead_neighbour_doubles_nobodys_share,
    least_connections_prefers_the_idle,
    least_connections_breaks_ties_in_rotation,
    routes_balance_independently,
    a_backend_that_refuses_is_passed_over,
);
