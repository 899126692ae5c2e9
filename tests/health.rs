//! Health checks: who is asked, how often, and what follows from the answer.

use std::time::{Duration, Instant};

use crate::support::engines::on_both_engines;
use crate::support::origin::HEALTH;
use crate::support::wait::wait_for_up_to;
use crate::support::{
    Client, DeadPort, Echo, Engine, Origin, PATIENCE, ScriptedBackend, TestProxy, get, wait_for,
};

/// A route's `health_check`, probing ten times a second.
fn check(more: &str) -> String {
    format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, {more} }}")
}

#[track_caller]
fn wait_for_status(proxy: &TestProxy, status: u16, why: &str) {
    wait_for(why, || match get(proxy.addr(), "/").status() {
        seen if seen == status => Ok(()),
        seen => Err(seen),
    });
}

fn failure_and_recovery_are_detected(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], &check("timeout_secs = 2"));
    for status in [500, 404, 400] {
        wait_for_status(&proxy, 200, "a healthy backend to be used");
        origin.set_health(status);
        wait_for_status(&proxy, 503, "a failed probe to be noticed");
        origin.set_health(if status == 404 { 302 } else { 204 });
    }
    wait_for_status(&proxy, 200, "a good probe to be noticed");
}

fn a_stopped_backend_is_left_and_found_again(engine: Engine) {
    let (first, mut second) = (Origin::named("first"), Origin::named("second"));
    let backends = [first.addr(), second.addr()];
    let proxy = TestProxy::to(engine, &backends, &check("timeout_secs = 2"));
    let of_ten = |name: &str| {
        let all = (0..10).map(|_| Echo::parse(&get(proxy.addr(), "/").expect(200).body).origin);
        all.filter(|origin| origin == name).count()
    };
    assert_eq!(of_ten("second"), 5);
    second.stop();
    // Until the next probe, requests may meet the stopped one.
    wait_for("the stopped backend to be left", || {
        let bad = (0..10).filter(|_| get(proxy.addr(), "/").status() != 200).count();
        if bad == 0 && of_ten("first") == 10 { Ok(()) } else { Err(bad) }
    });
    second.restart();
    wait_for("the restarted backend to be used", || match of_ten("second") {
        0 => Err(()),
        _ => Ok(()),
    });
}

fn without_a_healthy_backend_it_is_503(engine: Engine) {
    let (first, second) = (Origin::echo(), Origin::echo());
    first.set_health(500);
    second.set_health(500);
    let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], &check("timeout_secs = 2"));
    wait_for_status(&proxy, 503, "both backends to be found unhealthy");
    let mut client = Client::connect(proxy.addr());
    let response = client.get("/").expect_failure(503, "no_healthy_backend");
    let retry_after = response.fields().one("retry-after").expect("Retry-After");
    assert!(retry_after.parse::<u32>().is_ok(), "Retry-After: {retry_after}");
    assert_eq!(client.get("/again").status(), 503, "the connection is still good");
}

fn the_first_probe_comes_at_once(engine: Engine) {
    let dead = DeadPort::reserve();
    let keys = format!("health_check = {{ path = {HEALTH:?}, interval_secs = 600 }}");
    let proxy = TestProxy::to(engine, &[dead.addr()], &keys);
    wait_for("the first probe to find the backend dead", || {
        let response = get(proxy.addr(), "/");
        // Refused while the probe is under way, then not even tried.
        assert!(matches!(response.status(), 502 | 503), "{:?}", response.head);
        if response.status() == 503 { Ok(()) } else { Err(response.status()) }
    });
    let started = Instant::now();
    proxy.drain().join();
    assert!(started.elapsed() < PATIENCE / 2, "the health thread slept on while told to stop");
}

fn without_a_health_check_nobody_probes(engine: Engine) {
    let origin = Origin::echo();
    origin.set_health(500);
    let checked = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .route("/", &[origin.addr()], "")
        .route("/checked", &[checked.addr()], &check("timeout_secs = 2"))
        .start();
    wait_for(
        "probes of the other route",
        || {
            if checked.probes() > 3 { Ok(()) } else { Err(checked.probes()) }
        },
    );
    get(proxy.addr(), "/").expect(200);
    assert_eq!(origin.probes(), 0);
    assert_eq!(checked.requests(), 0);
}

fn a_probe_is_a_plain_get(engine: Engine) {
    let (send, received) = std::sync::mpsc::channel();
    let backend = ScriptedBackend::per_request(move |conn, request| {
        drop(send.send(request.clone()));
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"])
    });
    let keys = "health_check = { path = \"/ping?deep=1\", interval_secs = 600 }";
    let _proxy = TestProxy::to(engine, &[backend.addr()], keys);
    let probe = received.recv_timeout(PATIENCE).expect("a probe");
    assert_eq!((probe.method.as_str(), probe.target.as_str()), ("GET", "/ping?deep=1"));
    assert_eq!(probe.fields.one("host"), Some(backend.addr()));
}

fn thresholds_count_probes_in_a_row(engine: Engine) {
    let origin = Origin::echo();
    let thresholds = "timeout_secs = 2, healthy_threshold = 3, unhealthy_threshold = 3";
    let proxy = TestProxy::to(engine, &[origin.addr()], &check(thresholds));
    let expect_during = |status: u16, script: [u16; 9], why: &str| {
        origin.script_health(script);
        while origin.scripted_probes_left() > 0 {
            assert_eq!(get(proxy.addr(), "/").status(), status, "{why}");
        }
    };
    expect_during(200, [500, 500, 200, 500, 500, 200, 500, 500, 200], "two bad ones are not three");
    origin.set_health(500);
    wait_for_status(&proxy, 503, "the third bad probe in a row");
    expect_during(503, [200, 200, 500, 200, 200, 500, 200, 200, 500], "two good ones are not three");
    origin.set_health(200);
    wait_for_status(&proxy, 200, "the third good probe in a row");
}

/// The hanging backend's probes take three seconds each; its neighbour's must not.
fn a_hanging_probe_delays_nobody(engine: Engine) {
    let hanging = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let (neighbour, elsewhere) = (Origin::named("neighbour"), Origin::named("elsewhere"));
    let keys = check("timeout_secs = 3");
    let proxy = TestProxy::builder(engine)
        .route("/", &[hanging.addr(), neighbour.addr()], &keys)
        .route("/elsewhere", &[elsewhere.addr()], &keys)
        .start();
    wait_for("the first probe to hang", || match hanging.connections() {
        0 => Err(()),
        _ => Ok(()),
    });
    let before = (neighbour.probes(), elsewhere.probes());
    wait_for_up_to(Duration::from_secs(3), "five more probes of each of the others", || {
        let seen = (neighbour.probes() - before.0, elsewhere.probes() - before.1);
        if seen.0 >= 5 && seen.1 >= 5 { Ok(()) } else { Err(seen) }
    });
    assert_eq!(hanging.ended(), 0, "the probe was to hang meanwhile");
    let started = Instant::now();
    proxy.drain().join();
    assert!(started.elapsed() < Duration::from_secs(6), "the drain took {:?}", started.elapsed());
}

fn a_hanging_backend_is_unhealthy_after_the_timeout(engine: Engine) {
    let hanging = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let keys = format!("{}\nresponse_timeout_secs = 0.2", check("timeout_secs = 0.3"));
    let proxy = TestProxy::to(engine, &[hanging.addr()], &keys);
    wait_for_status(&proxy, 503, "a probe that takes too long to count as failed");
}

/// To close a connection with unread bytes resets it, and the backend would log an error at each probe.
fn a_long_answer_to_a_probe_is_read(engine: Engine) {
    let (send, received) = std::sync::mpsc::channel();
    let backend = ScriptedBackend::per_request(move |conn, request| {
        if request.target != HEALTH {
            return conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"]);
        }
        let answered = conn
            .send_head(&["HTTP/1.1 200 OK", "Content-Length: 150000"])
            .and_then(|()| conn.send(&[b'x'; 150_000]))
            .and_then(|()| conn.rest());
        drop(send.send(answered.map(|rest| rest.len()).map_err(|error| error.to_string())));
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], &check("timeout_secs = 5"));
    for _ in 0..3 {
        let answered = received.recv_timeout(PATIENCE).expect("a probe");
        assert_eq!(answered, Ok(0), "the end, and nothing before it");
    }
    get(proxy.addr(), "/").expect(200);
}

on_both_engines!(
    a_long_answer_to_a_probe_is_read,
    failure_and_recovery_are_detected,
    a_stopped_backend_is_left_and_found_again,
    without_a_healthy_backend_it_is_503,
    the_first_probe_comes_at_once,
    without_a_health_check_nobody_probes,
    a_probe_is_a_plain_get,
    thresholds_count_probes_in_a_row,
    a_hanging_probe_delays_nobody,
    a_hanging_backend_is_unhealthy_after_the_timeout,
);
