//! How much a backend gets: little at first with `slow_start_secs`, and with `least_time` more, the faster it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::support::engines::on_both_engines;
use crate::support::origin::HEALTH;
use crate::support::wait::wait_for_up_to;
use crate::support::{Client, DeadPort, Echo, Engine, Origin, ScriptedBackend, TestProxy, wait_for};

/// Longer than any test: shares stay small.
const FOR_GOOD: &str = "slow_start_secs = 100000";

fn check() -> String {
    format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 5 }}")
}

/// How many of so many requests each origin has answered.
fn shares(proxy: &TestProxy, requests: usize) -> BTreeMap<String, usize> {
    let mut client = Client::connect(proxy.addr());
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let origin = Echo::parse(&client.get("/").expect(200).body).origin;
        *shares.entry(origin).or_insert(0) += 1;
    }
    shares
}

fn who_comes_back_gets_little_at_first(engine: Engine) {
    for algorithm in ["round_robin", "weighted_round_robin", "least_connections", "random_two_choices"] {
        let (a, b) = (Origin::named("a"), Origin::named("b"));
        let keys = format!("balancing_algorithm = {algorithm:?}\n{FOR_GOOD}\n{}", check());
        let proxy = TestProxy::to(engine, &[a.addr(), b.addr()], &keys);
        let at_start = shares(&proxy, 60);
        assert!(at_start.len() == 2 && at_start.values().all(|share| *share >= 10), "{at_start:?}");
        b.set_health(500);
        wait_for("the unhealthy one to be left", || {
            let seen = shares(&proxy, 20);
            if seen.contains_key("b") { Err(seen) } else { Ok(()) }
        });
        b.set_health(200);
        wait_for(
            "it to be asked again",
            || if shares(&proxy, 50).contains_key("b") { Ok(()) } else { Err(()) },
        );
        let share = shares(&proxy, 300).get("b").copied().unwrap_or(0);
        assert!(share <= 60, "{algorithm}: {share} of 300, where a 64th of its share are 5");
    }
}

fn after_its_time_it_has_its_whole_share(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let proxy = TestProxy::to(engine, &[a.addr(), b.addr()], &format!("slow_start_secs = 0.5\n{}", check()));
    b.set_health(500);
    wait_for("the unhealthy one to be left", || {
        let seen = shares(&proxy, 20);
        if seen.contains_key("b") { Err(seen) } else { Ok(()) }
    });
    b.set_health(200);
    wait_for("turns to be even", || {
        let seen = shares(&proxy, 40);
        if seen.values().eq([&20, &20]) { Ok(()) } else { Err(seen) }
    });
}

fn where_all_have_come_back_all_serve(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let proxy = TestProxy::to(engine, &[a.addr(), b.addr()], &format!("{FOR_GOOD}\n{}", check()));
    for origin in [&a, &b] {
        origin.set_health(500);
    }
    wait_for("both to be ill", || {
        let status = Client::connect(proxy.addr()).get("/").status();
        if status == 503 { Ok(()) } else { Err(status) }
    });
    for origin in [&a, &b] {
        origin.set_health(200);
    }
    wait_for("both to serve", || {
        let mut client = Client::connect(proxy.addr());
        let seen: Vec<u16> = (0..2).map(|_| client.get("/").status()).collect();
        if seen == [200, 200] { Ok(()) } else { Err(seen) }
    });
    wait_for("both to be well", || {
        let seen = shares(&proxy, 100);
        if seen.len() == 2 && seen.values().all(|share| *share >= 20) { Ok(()) } else { Err(seen) }
    });
}

fn what_a_reload_adds_begins_slowly(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut proxy = TestProxy::to(engine, &[a.addr()], FOR_GOOD);
    proxy.reload(&TestProxy::builder(engine).route("/", &[a.addr(), b.addr()], FOR_GOOD)).expect("a reload");
    let share = shares(&proxy, 300).get("b").copied().unwrap_or(0);
    assert!(share <= 60, "{share} of 300");
    // Another pool, in which nobody was before.
    proxy
        .reload(&TestProxy::builder(engine).route(
            "/",
            &[a.addr(), b.addr()],
            &format!("name = \"other\"\n{FOR_GOOD}"),
        ))
        .expect("a reload");
    let shares = shares(&proxy, 40);
    assert!(shares.values().eq([&20, &20]), "{shares:?}");
}

/// An origin that takes so many milliseconds for its answer.
fn taking(millis: &Arc<AtomicU64>) -> ScriptedBackend {
    let millis = Arc::clone(millis);
    ScriptedBackend::per_request(move |conn, request| {
        conn.body(request)?;
        sleep(Duration::from_millis(millis.load(Ordering::SeqCst)));
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    })
}

fn the_fast_one_gets_most_and_who_becomes_fast_returns(engine: Engine) {
    let times = [90, 30].map(|millis| Arc::new(AtomicU64::new(millis)));
    let [slow, fast] = times.each_ref().map(taking);
    let proxy = TestProxy::to(engine, &[slow.addr(), fast.addr()], "balancing_algorithm = \"least_time\"");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..40 {
        client.get("/").expect(200);
    }
    assert!(slow.requests() >= 1, "nobody knows how slow it is before");
    assert!(slow.requests() <= 13, "{} of 40", slow.requests());
    // Nobody tells that it is fast now: it has to be asked.
    times[0].store(0, Ordering::SeqCst);
    let before = slow.requests();
    wait_for_up_to(Duration::from_secs(60), "the one that is fast now to get most", || {
        client.get("/").expect(200);
        let of_late = slow.requests() - before;
        if of_late >= 20 { Ok(()) } else { Err(of_late) }
    });
    let (before, others) = (slow.requests(), fast.requests());
    for _ in 0..40 {
        client.get("/").expect(200);
    }
    assert!(slow.requests() - before > fast.requests() - others, "{} of 40", slow.requests() - before);
}

/// One that refuses connections begins no answer, and would be one of which nothing is known for ever.
fn who_fails_is_not_taken_for_unknown(engine: Engine) {
    let (dead, fine) = (DeadPort::reserve(), Origin::named("a"));
    let keys = "balancing_algorithm = \"least_time\"\nmax_fails = 0\nretries = 1";
    let proxy = TestProxy::to(engine, &[dead.addr(), fine.addr()], keys);
    assert_eq!(shares(&proxy, 30).get("a"), Some(&30));
    let retries = proxy.counters().retries.load(Ordering::Relaxed);
    assert!(retries <= 3, "{retries} of 30 have met it");
}

/// What a client takes to send its request, and what is behind the beginning of an answer, are no matter of the backend.
fn only_the_backends_time_counts(engine: Engine) {
    let times = [0, 200].map(|millis| Arc::new(AtomicU64::new(millis)));
    let [first, second] = times.each_ref().map(taking);
    let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], "balancing_algorithm = \"least_time\"");
    let mut client = Client::connect(proxy.addr());
    // It goes to the first, and takes longer than the other one does.
    client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 200000\r\n\r\n");
    client.send([b'x'; 100_000]);
    wait_for("the request to arrive", || if first.requests() == 1 { Ok(()) } else { Err(()) });
    sleep(Duration::from_millis(800));
    client.send([b'x'; 100_000]);
    client.response().expect(200);
    client.get("/").expect(200);
    assert_eq!(second.requests(), 1, "one of which nothing is known comes first");
    for _ in 0..10 {
        client.get("/").expect(200);
    }
    assert!(first.requests() >= 6, "{}", first.requests());
}

on_both_engines!(
    who_comes_back_gets_little_at_first,
    after_its_time_it_has_its_whole_share,
    where_all_have_come_back_all_serve,
    what_a_reload_adds_begins_slowly,
    the_fast_one_gets_most_and_who_becomes_fast_returns,
    who_fails_is_not_taken_for_unknown,
    only_the_backends_time_counts,
);
