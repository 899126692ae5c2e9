//! Routes whose requests are shared out among several pools.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::forward_auth::{answering, asks};
use crate::support::engines::on_both_engines;
use crate::support::origin::HEALTH;
use crate::support::process::TempDir;
use crate::support::proxy::Builder;
use crate::support::wait::Task;
use crate::support::{DeadPort, Echo, Engine, Origin, Response, TestProxy, get, send_once, spawn, wait_for};

/// A pool of these backends.
fn pool(name: &str, addrs: &[String], keys: &str) -> String {
    format!("[[backends]]\nname = {name:?}\naddrs = {addrs:?}\n{keys}\n")
}

/// The pools `stable` and `canary`, and a route, `/`, with these shares.
fn sharing(engine: Engine, stable: &[String], canary: &[String], shares: &str, keys: &str) -> Builder {
    TestProxy::builder(engine)
        .front(&pool("stable", stable, ""))
        .front(&pool("canary", canary, ""))
        .route_to_shares("/", shares, keys)
}

fn origin_of(response: Response) -> String {
    Echo::parse(&response.expect(200).body).origin
}

/// How many of so many requests each origin has answered.
fn counts(proxy: &TestProxy, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(origin_of(get(proxy.addr(), "/"))).or_default() += 1;
    }
    counts
}

fn expected(shares: &[(&str, usize)]) -> BTreeMap<String, usize> {
    shares.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn with_cookie(proxy: &TestProxy, cookie: &str) -> Response {
    send_once(proxy.addr(), format!("GET / HTTP/1.1\r\nHost: proxy.test\r\nCookie: {cookie}\r\n\r\n"))
}

/// The cookie that an answer sets.
fn cookie_of(response: &Response) -> Option<String> {
    let cookie = response.fields().one("set-cookie")?;
    cookie.split(';').next().map(str::to_owned)
}

/// A cookie of a client that was taken to this origin.
fn cookie_to(proxy: &TestProxy, origin: &str) -> String {
    wait_for("a turn of the pool", || {
        let response = get(proxy.addr(), "/").expect(200);
        let cookie = cookie_of(&response).expect("a cookie");
        let found = origin_of(response);
        if found == origin { Ok(cookie) } else { Err(found) }
    })
}

const STICKY: &str = "sticky_cookie = { name = \"stick\" }";

fn requests_are_shared_out_evenly(engine: Engine) {
    let [one, two, canary] = ["one", "two", "canary"].map(Origin::named);
    let shares = "{ stable = 90, canary = 10 }";
    let proxy = sharing(engine, &[one.addr(), two.addr()], &[canary.addr()], shares, "").start();
    let origins: Vec<_> = (0..30).map(|_| origin_of(get(proxy.addr(), "/"))).collect();
    let at: Vec<_> = (0..30).filter(|n| origins[*n] == "canary").collect();
    assert_eq!(at.len(), 3, "{origins:?}");
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] == 10), "{origins:?}");
    // The pool has its own way among its backends.
    let stable: Vec<_> = origins.iter().filter(|origin| *origin != "canary").collect();
    assert!(stable.windows(2).all(|pair| pair[0] != pair[1]), "{origins:?}");
    proxy.expect_idle();
}

fn a_pool_that_refuses_connections_leaves_its_requests_to_the_others(engine: Engine) {
    let (stable, dead) = (Origin::named("stable"), DeadPort::reserve());
    let shares = "{ stable = 1, canary = 1 }";
    let proxy = sharing(engine, &[stable.addr()], &[dead.addr()], shares, "").start();
    assert_eq!(counts(&proxy, 10), expected(&[("stable", 10)]));
    assert_eq!(proxy.counters().retries.load(Ordering::Relaxed), 5, "half of them had their turn there");
    // A retry stays in its pool as long as that has another backend.
    let other = Origin::named("other");
    let builder = TestProxy::builder(engine)
        .front(&pool("stable", &[stable.addr()], ""))
        .front(&pool("canary", &[dead.addr(), other.addr()], "max_fails = 0"))
        .route_to_shares("/", shares, "");
    assert_eq!(counts(&builder.start(), 12), expected(&[("stable", 6), ("other", 6)]));
}

fn a_pool_that_is_unhealthy_is_passed_over(engine: Engine) {
    let [stable, canary] = ["stable", "canary"].map(Origin::named);
    let check = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 5 }}");
    let proxy = TestProxy::builder(engine)
        .front(&pool("stable", &[stable.addr()], &check))
        .front(&pool("canary", &[canary.addr()], &check))
        .route_to_shares("/", "{ stable = 1, canary = 1 }", "")
        .start();
    assert_eq!(counts(&proxy, 4), expected(&[("stable", 2), ("canary", 2)]));
    canary.set_health(500);
    wait_for("the canary to be out", || {
        let found = counts(&proxy, 2);
        if found == expected(&[("stable", 2)]) { Ok(()) } else { Err(found) }
    });
    assert_eq!(counts(&proxy, 6), expected(&[("stable", 6)]));
    stable.set_health(500);
    wait_for("both to be out", || match get(proxy.addr(), "/") {
        response if response.status() == 503 => Ok(()),
        response => Err(response.status()),
    });
    get(proxy.addr(), "/").expect_failure(503, "no_healthy_backend");
    canary.set_health(200);
    wait_for("the canary to be back", || match get(proxy.addr(), "/") {
        response if response.status() == 200 => Ok(()),
        response => Err(response.status()),
    });
    assert_eq!(counts(&proxy, 6), expected(&[("canary", 6)]));
}

fn a_held_request_takes_whichever_pool_comes_back(engine: Engine) {
    let [stable, canary] = ["stable", "canary"].map(Origin::named);
    let check = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 5 }}");
    for back in [&stable, &canary] {
        stable.set_health(500);
        canary.set_health(500);
        let proxy = TestProxy::builder(engine)
            .front(&pool("stable", &[stable.addr()], &check))
            .front(&pool("canary", &[canary.addr()], &check))
            .route_to_shares("/now", "{ stable = 1, canary = 1 }", "")
            .route_to_shares("/", "{ stable = 1, canary = 1 }", "hold_secs = 600")
            .start();
        let addr = proxy.addr();
        wait_for("both to be out", || match get(addr, "/now").status() {
            503 => Ok(()),
            status => Err(status),
        });
        let held = [(); 2].map(|()| spawn("a held one", move || get(addr, "/").expect(200).status()));
        back.set_health(200);
        assert_eq!(held.map(Task::join), [200; 2]);
        proxy.expect_idle();
    }
}

/// A place that becomes free in one pool is found by who waits for either.
fn full_pools_are_passed_over_and_then_waited_for(engine: Engine) {
    for which in 0..2 {
        let origins = ["stable", "canary"].map(Origin::named);
        let one = "max_in_flight_per_backend = 1";
        let proxy = TestProxy::builder(engine)
            .front(&pool("stable", &[origins[0].addr()], one))
            .front(&pool("canary", &[origins[1].addr()], one))
            .route_to_shares("/", "{ stable = 9, canary = 1 }", "queue_timeout_secs = 600")
            .route_to_shares("/now", "{ stable = 9, canary = 1 }", "queue_timeout_secs = 0.1")
            .start();
        let addr = proxy.addr();
        let held = [(); 2].map(|()| spawn("a held one", move || get(addr, "/hold").status()));
        wait_for("one in each pool", || match origins.each_ref().map(Origin::held) {
            [1, 1] => Ok(()),
            seen => Err(seen),
        });
        get(addr, "/now").expect_failure(503, "backends_busy");
        let waiting = spawn("the one that waits", move || origin_of(get(addr, "/x")));
        origins[which].release();
        assert_eq!(waiting.join(), ["stable", "canary"][which]);
        origins.iter().for_each(Origin::release);
        assert_eq!(held.map(Task::join), [200; 2]);
        proxy.expect_idle();
    }
}

fn a_client_stays_in_its_pool(engine: Engine) {
    let [stable, one, two] = ["stable", "one", "two"].map(Origin::named);
    let check = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 5 }}");
    let proxy = TestProxy::builder(engine)
        .front(&pool("stable", &[stable.addr()], ""))
        .front(&pool("canary", &[one.addr(), two.addr()], &check))
        .route_to_shares("/", "{ stable = 1, canary = 1 }", STICKY)
        .start();
    let (to_one, to_stable) = (cookie_to(&proxy, "one"), cookie_to(&proxy, "stable"));
    for _ in 0..4 {
        for (cookie, origin) in [(&to_one, "one"), (&to_stable, "stable")] {
            let response = with_cookie(&proxy, cookie).expect(200);
            assert_eq!(cookie_of(&response), None);
            assert_eq!(origin_of(response), origin);
        }
    }
    one.set_health(500);
    let moved = wait_for("another backend of the pool", || {
        let response = with_cookie(&proxy, &to_one).expect(200);
        match cookie_of(&response) {
            Some(cookie) => Ok((cookie, origin_of(response))),
            None => Err(origin_of(response)),
        }
    });
    assert_eq!(moved.1, "two", "in the same pool, although the other one has a turn");
    two.set_health(500);
    wait_for("another pool", || match origin_of(with_cookie(&proxy, &moved.0)) {
        origin if origin == "stable" => Ok(()),
        origin => Err(origin),
    });
}

fn a_pool_without_a_share_empties(engine: Engine) {
    let [stable, old] = ["stable", "old"].map(Origin::named);
    let builder = |shares: &str| {
        TestProxy::builder(engine)
            .front(&pool("stable", &[stable.addr()], ""))
            .front(&pool("old", &[old.addr()], ""))
            .route_to_shares("/", shares, STICKY)
    };
    let mut proxy = builder("{ stable = 1, old = 1 }").start();
    let cookie = cookie_to(&proxy, "old");
    assert_eq!(proxy.reload(&builder("{ stable = 1, old = 0 }")).expect("a reload").changed, ["/"]);
    assert_eq!(counts(&proxy, 6), expected(&[("stable", 6)]));
    assert_eq!(origin_of(with_cookie(&proxy, &cookie)), "old", "who is there stays");
    // A route that has one pool again knows the backends of cookies all the same.
    let alone = TestProxy::builder(engine)
        .front(&pool("old", &[stable.addr(), old.addr()], ""))
        .route_to_pool("/", "old", STICKY);
    proxy.reload(&alone).expect("a reload");
    for _ in 0..3 {
        let response = with_cookie(&proxy, &cookie).expect(200);
        assert_eq!(cookie_of(&response), None);
        assert_eq!(origin_of(response), "old");
    }
}

fn a_reload_changes_shares_and_keeps_the_pools(engine: Engine) {
    let [stable, canary] = ["stable", "canary"].map(Origin::named);
    let check = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 600, timeout_secs = 5 }}");
    let builder = |shares: &str| {
        TestProxy::builder(engine)
            .front(&pool("stable", &[stable.addr()], &check))
            .front(&pool("canary", &[canary.addr()], &check))
            .route_to_shares("/", shares, "")
            .route_to_pool("/canary", "canary", "")
    };
    canary.set_health(500);
    let mut proxy = builder("{ stable = 1, canary = 1 }").start();
    wait_for("the first probe", || match get(proxy.addr(), "/canary").status() {
        503 => Ok(()),
        status => Err(status),
    });
    assert_eq!(counts(&proxy, 4), expected(&[("stable", 4)]));
    assert_eq!(proxy.reload(&builder("{ stable = 1, canary = 3 }")).expect("a reload").changed, ["/"]);
    assert_eq!(counts(&proxy, 4), expected(&[("stable", 4)]), "it is as unhealthy as it was");
    assert_eq!((stable.probes(), canary.probes()), (1, 1), "nobody has begun to probe anew");
    // From one pool to several, and back.
    let one = TestProxy::builder(engine)
        .front(&pool("stable", &[stable.addr()], &check))
        .front(&pool("canary", &[canary.addr()], &check))
        .route_to_pool("/", "canary", "");
    assert_eq!(proxy.reload(&one).expect("a reload").changed, ["/"]);
    get(proxy.addr(), "/").expect_failure(503, "no_healthy_backend");
    assert_eq!((stable.probes(), canary.probes()), (1, 1));
}

fn the_access_log_names_the_pool(engine: Engine) {
    let [stable, canary] = ["stable", "canary"].map(Origin::named);
    let (auth, _) = answering("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    let directory = TempDir::new();
    let path = directory.path().join("access.log");
    let builder = sharing(engine, &[stable.addr()], &[canary.addr()], "{ stable = 1, canary = 1 }", "")
        .route_to_pool("/alone", "canary", "")
        .route_to_shares("/asked", "{ stable = 1, canary = 1 }", &asks(&auth.addr(), ""))
        .server(&format!("\n[access_log]\npath = {path:?}\nformat = \"json\""));
    let proxy = builder.start();
    counts(&proxy, 2);
    get(proxy.addr(), "/alone").expect(200);
    get(proxy.addr(), "/asked").expect(401);
    let lines = wait_for("the lines of the log", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        if lines.len() == 4 { Ok(lines) } else { Err(text) }
    });
    for line in lines {
        let (pool, backend) = (line["pool"].as_str(), line["backend"].as_str().unwrap());
        let expected = match line["target"].as_str() {
            // The service of `forward_auth` is in neither of them.
            Some("/alone" | "/asked") => None,
            _ if backend == stable.addr() => Some("stable"),
            _ => Some("canary"),
        };
        assert_eq!(pool, expected, "{line}");
    }
}

#[cfg(feature = "admin")]
fn each_pool_is_counted(engine: Engine) {
    let [stable, canary] = ["stable", "canary"].map(Origin::named);
    let shares = "{ stable = 3, canary = 1 }";
    let proxy = sharing(engine, &[stable.addr()], &[canary.addr()], shares, "")
        .server("[admin]\nlisten_addr = \"127.0.0.1:0\"")
        .start();
    counts(&proxy, 8);
    let admin = proxy.admin_addr().expect("an admin listener");
    let ask = |target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        send_once(admin, request).expect(200).text()
    };
    let lines = [("stable", 6), ("canary", 2)].map(|(pool, count)| {
        let labels = format!("route=\"/\",backend=\"pool:{pool}\",class=\"2xx\"");
        format!("reverse_proxy_requests_total{{{labels}}} {count}")
    });
    wait_for("the numbers", || {
        let text = ask("/metrics");
        let is_there =
            |line: &String| text.lines().any(|seen| seen.strip_suffix(".0").unwrap_or(seen) == line);
        if lines.iter().all(is_there) { Ok(()) } else { Err(text) }
    });
    let status: serde_json::Value = serde_json::from_str(&ask("/status.json")).expect("JSON");
    let route = &status["routes"][0];
    let seen: Vec<_> = route["shares"]
        .as_array()
        .expect("shares")
        .iter()
        .map(|share| (share["pool"].as_str(), share["share"].as_u64(), share["answers"]["2xx"].as_u64()))
        .collect();
    assert_eq!(seen, [(Some("stable"), Some(3), Some(6)), (Some("canary"), Some(1), Some(2))]);
    let pools: Vec<_> = route["backends"].as_array().unwrap().iter().map(|it| it["pool"].as_str()).collect();
    assert_eq!(pools, [Some("stable"), Some("canary")]);
}

#[cfg(feature = "admin")]
mod with_admin {
    use super::{each_pool_is_counted, on_both_engines};

    on_both_engines!(each_pool_is_counted);
}

on_both_engines!(
    requests_are_shared_out_evenly,
    a_pool_that_refuses_connections_leaves_its_requests_to_the_others,
    a_pool_that_is_unhealthy_is_passed_over,
    a_held_request_takes_whichever_pool_comes_back,
    full_pools_are_passed_over_and_then_waited_for,
    a_client_stays_in_its_pool,
    a_pool_without_a_share_empties,
    a_reload_changes_shares_and_keeps_the_pools,
    the_access_log_names_the_pool,
);
