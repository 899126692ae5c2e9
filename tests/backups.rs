//! What happens when few backends are left: `backup = true` and `min_healthy`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::engines::on_both_engines;
use crate::support::origin::HEALTH;
use crate::support::process::program;
use crate::support::{Client, Echo, Engine, Origin, ProxyProcess, TestProxy, get, spawn, wait_for};

fn check() -> String {
    format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 5 }}")
}

/// `backend_addrs`: the first are no backups.
fn entries(primaries: &[&Origin], backups: &[&Origin]) -> String {
    let primaries = primaries.iter().map(|origin| format!("{:?}", origin.addr()));
    let backups = backups.iter().map(|origin| format!("{{ addr = {:?}, backup = true }}", origin.addr()));
    format!("[{}]", primaries.chain(backups).collect::<Vec<_>>().join(", "))
}

fn start(engine: Engine, entries: &str, keys: &str) -> TestProxy {
    TestProxy::builder(engine).route_to("/", entries, keys).start()
}

fn origin_of(proxy: &TestProxy) -> String {
    Echo::parse(&get(proxy.addr(), "/").expect(200).body).origin
}

fn seen(proxy: &TestProxy) -> BTreeSet<String> {
    (0..12).map(|_| origin_of(proxy)).collect()
}

#[track_caller]
fn wait_for_seen(proxy: &TestProxy, expected: &[&str]) {
    wait_for("the backends that are used", || {
        let seen = seen(proxy);
        if seen.iter().eq(expected) { Ok(()) } else { Err(seen) }
    });
}

fn they_serve_while_nobody_else_can(engine: Engine) {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Origin::named);
    // By least_time, one of two may be so much faster that the other one is not seen.
    for algorithm in ["round_robin", "weighted_round_robin", "least_connections", "random_two_choices"] {
        let keys = format!("balancing_algorithm = {algorithm:?}\n{}", check());
        let proxy = start(engine, &entries(&[&a, &b], &[&c, &d]), &keys);
        let before = [c.requests(), d.requests()];
        wait_for("both to be used", || {
            let seen = seen(&proxy);
            if seen.iter().eq(["a", "b"]) { Ok(()) } else { Err(seen) }
        });
        assert_eq!([c.requests(), d.requests()], before, "{algorithm}: nobody has asked a backup");
        a.set_health(500);
        wait_for_seen(&proxy, &["b"]);
        b.set_health(500);
        wait_for_seen(&proxy, &["c", "d"]);
        c.set_health(500);
        wait_for_seen(&proxy, &["d"]);
        a.set_health(200);
        wait_for_seen(&proxy, &["a"]);
        for origin in [&b, &c] {
            origin.set_health(200);
        }
    }
}

fn a_full_one_is_waited_for(engine: Engine) {
    let (a, b) = (Arc::new(Origin::named("a")), Origin::named("b"));
    let keys = "max_in_flight_per_backend = 1\nqueue_timeout_secs = 600";
    let proxy = start(engine, &entries(&[&a], &[&b]), keys);
    let addr = proxy.addr();
    let held = spawn("the one", move || get(addr, "/hold").status());
    wait_for("it to be held", || if a.held() == 1 { Ok(()) } else { Err(a.held()) });
    let waiting = spawn("the other", move || Echo::parse(&get(addr, "/").expect(200).body).origin);
    a.release();
    assert_eq!((held.join(), waiting.join().as_str()), (200, "a"));
    assert_eq!(b.requests(), 0);
}

fn a_request_that_fails_elsewhere_is_tried_on_one(engine: Engine) {
    let (mut a, b) = (Origin::named("a"), Origin::named("b"));
    a.stop();
    let proxy = start(engine, &entries(&[&a], &[&b]), "retries = 1\nmax_fails = 0");
    (0..5).for_each(|_| assert_eq!(origin_of(&proxy), "b"));
    a.restart();
    assert_eq!(origin_of(&proxy), "a", "nothing has taken it out");
}

/// Without a health check: it is taken out, and one request at a time asks whether it is back.
fn failures_hand_over_and_a_trial_hands_back(engine: Engine) {
    let (mut a, b) = (Origin::named("a"), Origin::named("b"));
    let proxy = start(engine, &entries(&[&a], &[&b]), "retries = 1\nmax_fails = 1\nfail_timeout_secs = 0.2");
    assert_eq!(origin_of(&proxy), "a");
    a.stop();
    (0..10).for_each(|_| assert_eq!(origin_of(&proxy), "b"));
    a.restart();
    wait_for_seen(&proxy, &["a"]);
}

fn sticky_clients_go_there_and_come_back(engine: Engine) {
    let [a, b, c] = ["a", "b", "c"].map(Origin::named);
    let keys = format!("sticky_cookie = {{ name = \"stick\" }}\n{}", check());
    let proxy = start(engine, &entries(&[&a], &[&b, &c]), &keys);
    let mut client = Client::connect(proxy.addr());
    let mut cookie = String::new();
    // Where a request goes that brings the cookie it was given last, and whether it was given another one.
    let mut visit = || {
        client.send(format!("GET / HTTP/1.1\r\nHost: proxy.test\r\nCookie: {cookie}\r\n\r\n"));
        let response = client.response().expect(200);
        let given = response.fields().one("set-cookie");
        if let Some(value) = &given {
            value.split(';').next().unwrap().clone_into(&mut cookie);
        }
        (Echo::parse(&response.body).origin, given.is_some())
    };
    assert_eq!(visit(), ("a".to_owned(), true));
    assert_eq!(visit(), ("a".to_owned(), false));
    a.set_health(500);
    let (backup, given) = wait_for("a backup to be used", || match visit() {
        (origin, _) if origin == "a" => Err(origin),
        other => Ok(other),
    });
    assert!(given, "it is to stay there");
    (0..6).for_each(|_| assert_eq!(visit(), (backup.clone(), false)));
    a.set_health(200);
    let (_, given) = wait_for("it to be back", || match visit() {
        (origin, given) if origin == "a" => Ok((origin, given)),
        (origin, _) => Err(origin),
    });
    assert!(given, "and to stay here");
    assert_eq!(visit(), ("a".to_owned(), false));
}

/// Held while there is none at all, and served by whoever comes first, if it is a backup.
fn a_held_request_takes_what_comes(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let proxy = start(engine, &entries(&[&a], &[&b]), &format!("hold_secs = 600\n{}", check()));
    for origin in [&a, &b] {
        origin.set_health(500);
    }
    let addr = proxy.addr();
    let held = wait_for("a request to be held", || {
        let before = a.requests() + b.requests();
        let probes = a.probes() + b.probes();
        let task = spawn("a request", move || Echo::parse(&get(addr, "/").expect(200).body).origin);
        wait_for(
            "two rounds of probes",
            || if a.probes() + b.probes() > probes + 4 { Ok(()) } else { Err(()) },
        );
        if a.requests() + b.requests() == before { Ok(task) } else { Err(task.join()) }
    });
    b.set_health(200);
    assert_eq!(held.join(), "b");
}

fn a_reload_makes_one_of_it(engine: Engine) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let builder = |entries: &str| TestProxy::builder(engine).route_to("/", entries, "");
    let mut proxy = builder(&entries(&[&a, &b], &[])).start();
    assert!(seen(&proxy).iter().eq(["a", "b"]));
    proxy.reload(&builder(&entries(&[&b], &[&a]))).unwrap();
    assert!(seen(&proxy).iter().eq(["b"]));
    proxy.reload(&builder(&entries(&[&a], &[&b]))).unwrap();
    assert!(seen(&proxy).iter().eq(["a"]));
}

fn too_few_healthy_ones_open_the_others(engine: Engine) {
    let [a, b, c] = ["a", "b", "c"].map(Origin::named);
    let keys = format!("min_healthy = 2\n{}", check());
    let proxy = start(engine, &entries(&[&a, &b, &c], &[]), &keys);
    a.set_health(500);
    wait_for_seen(&proxy, &["b", "c"]);
    b.set_health(500);
    wait_for_seen(&proxy, &["a", "b", "c"]);
    c.set_health(500);
    let probes = c.probes();
    wait_for("the last one to be known for ill", || if c.probes() > probes + 2 { Ok(()) } else { Err(()) });
    wait_for_seen(&proxy, &["a", "b", "c"]);
    for origin in [&b, &c] {
        origin.set_health(200);
    }
    wait_for_seen(&proxy, &["b", "c"]);
}

/// What the log says: once when it begins and once when it ends.
fn the_log_tells_of_both(engine: Engine) {
    let [a, b, c] = ["a", "b", "c"].map(Origin::named);
    let config = TestProxy::builder(engine)
        .front(&format!(
            "[[backends]]\nname = \"app\"\naddrs = {}\nmin_healthy = 1\n{}",
            entries(&[&a, &b], &[&c]),
            check()
        ))
        .route_to_pool("/", "app", "")
        .toml();
    let mut command = program();
    command.env("RUST_LOG", "reverse_proxy=info");
    let (mut process, addr) = ProxyProcess::start_with(&config, command);
    let mut wait_for_line = |line: &str| {
        process.wait_for_output(line, |output| output.contains(line).then_some(()));
    };
    let origin_of = || Echo::parse(&get(addr, "/").expect(200).body).origin;
    for origin in [&a, &b] {
        origin.set_health(500);
    }
    wait_for_line("no backend left but backups pool=app healthy=1");
    assert_eq!(origin_of(), "c");
    c.set_health(500);
    wait_for_line("too few healthy backends, all are tried pool=app healthy=0 min_healthy=1");
    let seen: BTreeSet<String> = (0..12).map(|_| origin_of()).collect();
    assert!(seen.iter().eq(["a", "b", "c"]), "{seen:?}");
    a.set_health(200);
    wait_for_line("enough healthy backends again, only they are used pool=app healthy=1 min_healthy=1");
    assert_eq!(origin_of(), "a");
    let output = process.output();
    for (line, count) in [
        ("no backend left but backups", 1),
        ("no backup left either", 1),
        ("too few healthy backends", 1),
        ("enough healthy backends again", 1),
    ] {
        assert_eq!(output.matches(line).count(), count, "{line}: {output}");
    }
}

#[cfg(feature = "admin")]
fn operators_are_obeyed_and_told(engine: Engine) {
    let [a, b, c] = ["a", "b", "c"].map(Origin::named);
    let keys = format!("name = \"app\"\nmin_healthy = 2\nslow_start_secs = 600\n{}", check());
    let proxy = TestProxy::builder(engine)
        .server("\n[admin]\nlisten_addr = \"127.0.0.1:0\"\ncontrol = true")
        .route_to("/", &entries(&[&a, &b], &[&c]), &keys)
        .start();
    let admin = proxy.admin_addr().expect("an admin listener");
    let ask = |request: &str| {
        let request = format!("{request} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        crate::support::send_once(admin, request).expect(200).text()
    };
    let order = |origin: &Origin, word: &str| {
        ask(&format!("POST /backends/app/{}/{word}", origin.addr()));
    };
    let status = || -> serde_json::Value { serde_json::from_str(&ask("GET /status.json")).unwrap() };
    let expect = |fails_open: bool, on_backups: bool| {
        wait_for("the status", || {
            let route = status()["routes"][0].clone();
            let seen = (route["fails_open"] == true, route["on_backups"] == true);
            if seen == (fails_open, on_backups) { Ok(()) } else { Err(route) }
        });
        let metrics = ask("GET /metrics");
        for (name, is) in [("fails_open", fails_open), ("on_backups", on_backups)] {
            let line = format!("reverse_proxy_pool_{name}{{route=\"app\"}} {}.0", u8::from(is));
            assert!(metrics.contains(&line), "{line}\n{metrics}");
        }
    };
    expect(false, false);
    let backends = status()["routes"][0]["backends"].clone();
    let of_all = |key: &str| -> Vec<serde_json::Value> {
        backends.as_array().unwrap().iter().map(|backend| backend[key].clone()).collect()
    };
    assert_eq!(of_all("backup"), [false, false, true]);
    assert_eq!(of_all("share"), [1.0, 1.0, 1.0], "they were there at the start");
    // Drained by an order: it gets nothing, and nobody is ill who could be tried.
    order(&a, "drain");
    order(&b, "drain");
    expect(false, true);
    assert!(seen(&proxy).iter().eq(["c"]));
    order(&a, "ready");
    expect(false, false);
    assert!(seen(&proxy).iter().eq(["a"]));
    c.set_health(500);
    expect(true, false);
    wait_for("who is ill to be tried, and not who is drained", || {
        let seen = seen(&proxy);
        assert!(!seen.contains("b"), "{seen:?}");
        if seen.contains("c") { Ok(()) } else { Err(seen) }
    });
    let share = status()["routes"][0]["backends"][0]["share"].as_f64().unwrap();
    assert!(share > 0.0 && share < 0.1, "{share} of what it will get in 600 s");
    let metrics = ask("GET /metrics");
    let series = format!("reverse_proxy_backend_share{{route=\"app\",backend=\"{}\"}} ", b.addr());
    assert!(metrics.contains(&format!("{series}1.0")), "{metrics}");
}

#[cfg(feature = "admin")]
mod with_admin {
    use super::{on_both_engines, operators_are_obeyed_and_told};

    on_both_engines!(operators_are_obeyed_and_told);
}

on_both_engines!(
    they_serve_while_nobody_else_can,
    a_full_one_is_waited_for,
    a_request_that_fails_elsewhere_is_tried_on_one,
    failures_hand_over_and_a_trial_hands_back,
    sticky_clients_go_there_and_come_back,
    a_held_request_takes_what_comes,
    a_reload_makes_one_of_it,
    too_few_healthy_ones_open_the_others,
    the_log_tells_of_both,
);
