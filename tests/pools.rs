//! Pools: backends that several routes share.

use std::sync::Arc;

use crate::support::engines::on_both_engines;
use crate::support::origin::HEALTH;
use crate::support::proxy::Builder;
use crate::support::{DeadPort, Echo, Engine, Origin, TestProxy, get, spawn, wait_for};

fn pool(addrs: &[String], keys: &str) -> String {
    format!("[[backends]]\nname = \"app\"\naddrs = {addrs:?}\n{keys}\n")
}

/// Two routes, `/a` and `/b`, to one pool.
fn sharing(engine: Engine, addrs: &[String], keys: &str) -> Builder {
    TestProxy::builder(engine)
        .front(&pool(addrs, keys))
        .route_to_pool("/a", "app", "")
        .route_to_pool("/b", "app", "")
}

fn origin_of(proxy: &TestProxy, target: &str) -> String {
    Echo::parse(&get(proxy.addr(), target).expect(200).body).origin
}

fn turns_are_taken_together(engine: Engine) {
    let (first, second) = (Origin::named("first"), Origin::named("second"));
    let proxy = sharing(engine, &[first.addr(), second.addr()], "").start();
    let origins: Vec<_> = (0..10).map(|_| ["/a", "/b"].map(|target| origin_of(&proxy, target))).collect();
    let all = origins.iter().flatten();
    assert_eq!(all.clone().filter(|origin| *origin == "first").count(), 10);
    assert!(
        origins.windows(2).all(|pair| pair[0] == pair[1]),
        "each route in turn, one backend each: {origins:?}"
    );
}

fn one_thread_probes_for_all(engine: Engine) {
    let origin = Origin::echo();
    let check = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 60, timeout_secs = 5 }}");
    let proxy = sharing(engine, &[origin.addr()], &check).start();
    wait_for("the first probe", || if origin.probes() > 0 { Ok(()) } else { Err(()) });
    origin_of(&proxy, "/a");
    origin_of(&proxy, "/b");
    assert_eq!(origin.probes(), 1);
    assert_eq!(proxy.in_flight().len(), 1, "one backend");
}

fn health_is_that_of_all_routes(engine: Engine) {
    let origin = Origin::echo();
    let check = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 5 }}");
    let proxy = sharing(engine, &[origin.addr()], &check).start();
    let wait = |status: u16| {
        wait_for("both routes to see it", || {
            let seen = ["/a", "/b"].map(|target| get(proxy.addr(), target).status());
            if seen == [status; 2] { Ok(()) } else { Err(seen) }
        });
    };
    wait(200);
    origin.set_health(500);
    wait(503);
    origin.set_health(200);
    wait(200);
}

fn failures_of_one_route_count_for_the_others(engine: Engine) {
    let (origin, dead) = (Origin::echo(), DeadPort::reserve());
    let keys = "max_fails = 1\nfail_timeout_secs = 600";
    let proxy = sharing(engine, &[dead.addr(), origin.addr()], keys).start();
    // Whose turn it is meets the dead one once, and is tried again.
    for _ in 0..2 {
        origin_of(&proxy, "/a");
    }
    let retries = proxy.counters().retries.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(retries, 1);
    for _ in 0..4 {
        origin_of(&proxy, "/b");
    }
    let after = proxy.counters().retries.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(after, retries, "it is out for the other route too");
}

fn limits_hold_over_all_routes(engine: Engine) {
    let origin = Arc::new(Origin::echo());
    let builder = TestProxy::builder(engine)
        .front(&pool(&[origin.addr()], "max_in_flight_per_backend = 1"))
        .route_to_pool("/a", "app", "")
        .route_to_pool("/b", "app", "queue_timeout_secs = 0.1");
    let proxy = builder.start();
    let addr = proxy.addr();
    let held = spawn("the one", move || get(addr, "/a/hold").status());
    wait_for("it to be held", || if origin.held() == 1 { Ok(()) } else { Err(origin.held()) });
    get(addr, "/b").expect_failure(503, "backends_busy");
    origin.release();
    assert_eq!(held.join(), 200);
    get(addr, "/b").expect(200);
    proxy.expect_idle();
}

fn who_leaves_calls_who_waits_on_another_route(engine: Engine) {
    let origin = Arc::new(Origin::echo());
    let builder = TestProxy::builder(engine)
        .front(&pool(&[origin.addr()], "max_in_flight_per_backend = 1"))
        .route_to_pool("/a", "app", "")
        .route_to_pool("/b", "app", "queue_timeout_secs = 600");
    let proxy = builder.start();
    let addr = proxy.addr();
    let held = spawn("the one", move || get(addr, "/a/hold").status());
    wait_for("it to be held", || if origin.held() == 1 { Ok(()) } else { Err(origin.held()) });
    let waiting = spawn("the other", move || get(addr, "/b").status());
    origin.release();
    assert_eq!((held.join(), waiting.join()), (200, 200));
}

fn a_cookie_is_the_routes(engine: Engine) {
    let (first, second) = (Origin::named("first"), Origin::named("second"));
    let builder = TestProxy::builder(engine)
        .front(&pool(&[first.addr(), second.addr()], ""))
        .route_to_pool("/a", "app", "sticky_cookie = { name = \"stick\" }")
        .route_to_pool("/b", "app", "");
    let proxy = builder.start();
    let response = get(proxy.addr(), "/a").expect(200);
    let cookie = response.fields().one("set-cookie").expect("a cookie");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let origin = Echo::parse(&response.body).origin;
    assert!(!get(proxy.addr(), "/b").expect(200).fields().has("set-cookie"));
    let request =
        |target: &str| format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\nCookie: {cookie}\r\n\r\n");
    let of = |target: &str| {
        Echo::parse(&crate::support::send_once(proxy.addr(), request(target)).expect(200).body).origin
    };
    for _ in 0..4 {
        assert_eq!(of("/a"), origin);
    }
    assert_ne!(of("/b"), of("/b"), "there the cookie says nothing");
}

fn a_reload_keeps_a_pool_by_its_name(engine: Engine) {
    let (first, second) = (Origin::named("first"), Origin::named("second"));
    let check = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 600, timeout_secs = 5 }}");
    let mut proxy = sharing(engine, &[first.addr()], &check).start();
    wait_for("the first probe", || if first.probes() > 0 { Ok(()) } else { Err(()) });
    // Another route to it, and another order: the pool is as it was, and so is its thread.
    let another = TestProxy::builder(engine)
        .front(&pool(&[first.addr()], &check))
        .route_to_pool("/c", "app", "")
        .route_to_pool("/b", "app", "retries = 0");
    let reloaded = proxy.reload(&another).expect("a reload");
    assert_eq!(
        (&reloaded.added[..], &reloaded.removed[..]),
        (&["/c".to_owned()][..], &["/a".to_owned()][..])
    );
    assert_eq!(reloaded.changed, ["/b"]);
    assert_eq!(origin_of(&proxy, "/c"), "first");
    assert_eq!(first.probes(), 1, "nobody has begun to probe anew");
    // Now it has one more.
    let more = TestProxy::builder(engine)
        .front(&pool(&[first.addr(), second.addr()], &check))
        .route_to_pool("/c", "app", "")
        .route_to_pool("/b", "app", "retries = 0");
    let reloaded = proxy.reload(&more).expect("a reload");
    assert_eq!(reloaded.changed, ["/c", "/b"]);
    wait_for("the new one to be probed", || if second.probes() > 0 { Ok(()) } else { Err(()) });
    assert_eq!(proxy.in_flight().len(), 2);
    assert_ne!(origin_of(&proxy, "/c"), origin_of(&proxy, "/b"));
}

fn a_route_can_get_a_pool_and_lose_it(engine: Engine) {
    let (first, second) = (Origin::named("first"), Origin::named("second"));
    let mut proxy = TestProxy::builder(engine).route("/a", &[first.addr()], "").start();
    assert_eq!(origin_of(&proxy, "/a"), "first");
    proxy.reload(&sharing(engine, &[second.addr()], "")).expect("a reload");
    assert_eq!(
        (origin_of(&proxy, "/a"), origin_of(&proxy, "/b")),
        ("second".to_owned(), "second".to_owned())
    );
    proxy.reload(&TestProxy::builder(engine).route("/a", &[first.addr()], "")).expect("a reload");
    assert_eq!(origin_of(&proxy, "/a"), "first");
    get(proxy.addr(), "/b").expect(404);
}

fn kept_connections_are_for_all_routes(engine: Engine) {
    let origin = Origin::echo();
    let proxy = sharing(engine, &[origin.addr()], "").server("workers = 1").start();
    let mut client = crate::support::Client::connect(proxy.addr());
    for target in ["/a", "/b", "/a", "/b"] {
        client.get(target).expect(200);
        proxy.expect_idle();
    }
    assert_eq!(origin.connections(), 1);
}

fn names_are_looked_up_once(engine: Engine) {
    let origin = Origin::echo();
    let port = origin.addr().rsplit_once(':').unwrap().1.to_owned();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lookup: reverse_proxy::upkeep::SharedLookup = Arc::new(move |_, port| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(vec![std::net::SocketAddr::from(([127, 0, 0, 1], port))])
    });
    let proxy =
        sharing(engine, &[format!("app.test:{port}")], "resolve_secs = 600").start_with_lookup(lookup);
    for target in ["/a", "/b"] {
        assert_eq!(origin_of(&proxy, target), "origin");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[cfg(feature = "admin")]
fn each_answer_is_counted_once(engine: Engine) {
    let (first, second) = (Origin::named("first"), Origin::named("second"));
    let proxy = sharing(engine, &[first.addr(), second.addr()], "")
        .server("[admin]\nlisten_addr = \"127.0.0.1:0\"")
        .start();
    for target in ["/a", "/a", "/a", "/b"] {
        origin_of(&proxy, target);
    }
    let admin = proxy.admin_addr().expect("an admin listener");
    let ask = |target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        crate::support::send_once(admin, request).expect(200).text()
    };
    let expected = |(name, labels, value): (&str, &str, u32)| format!("{name}{{{labels}}} {value}");
    let (first, second) = (first.addr(), second.addr());
    let of = |addr: &str| format!("route=\"pool:app\",backend=\"{addr}\",class=\"2xx\"");
    let up = |addr: &str| format!("route=\"pool:app\",backend=\"{addr}\"");
    let lines = [
        ("reverse_proxy_requests_total", "route=\"/a\",backend=\"pool:app\",class=\"2xx\"", 3),
        ("reverse_proxy_requests_total", "route=\"/b\",backend=\"pool:app\",class=\"2xx\"", 1),
        ("reverse_proxy_pool_answers_total", &of(&first), 2),
        ("reverse_proxy_pool_answers_total", &of(&second), 2),
        ("reverse_proxy_backend_up", &up(&first), 1),
    ]
    .map(expected);
    wait_for("the numbers", || {
        let text = ask("/metrics");
        let is_there =
            |line: &String| text.lines().any(|seen| seen.strip_suffix(".0").unwrap_or(seen) == line);
        if lines.iter().all(is_there) { Ok(()) } else { Err(text) }
    });
    let text = ask("/metrics");
    assert_eq!(text.lines().filter(|line| line.starts_with("reverse_proxy_backend_up{")).count(), 2);
    let status = ask("/status.json");
    assert_eq!(status.matches("\"pool\":\"app\"").count(), 2, "{status}");
    assert!(status.contains("\"answers\":{\"2xx\":3}"), "{status}");
}

#[cfg(feature = "admin")]
mod with_admin {
    use super::{each_answer_is_counted_once, on_both_engines};

    on_both_engines!(each_answer_is_counted_once);
}

on_both_engines!(
    turns_are_taken_together,
    one_thread_probes_for_all,
    health_is_that_of_all_routes,
    failures_of_one_route_count_for_the_others,
    limits_hold_over_all_routes,
    who_leaves_calls_who_waits_on_another_route,
    a_cookie_is_the_routes,
    a_reload_keeps_a_pool_by_its_name,
    a_route_can_get_a_pool_and_lose_it,
    kept_connections_are_for_all_routes,
    names_are_looked_up_once,
);
