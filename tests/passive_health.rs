//! What the exchanges themselves say about a backend: who is taken out, who comes back, and what does not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::engines::on_both_engines;
use crate::support::origin::HEALTH;
use crate::support::process::program;
use crate::support::wait::Task;
use crate::support::{
    Client, DeadPort, Echo, Engine, Gate, Origin, ProxyProcess, ScriptedBackend, TestProxy, get, send_once,
    spawn, wait_for,
};

/// Once out, out for the rest of the test.
const FOR_GOOD: &str = "fail_timeout_secs = 600";

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn retries(proxy: &TestProxy) -> u64 {
    proxy.counters().retries.load(Ordering::Relaxed)
}

#[track_caller]
fn all_good(proxy: &TestProxy, requests: usize) {
    for _ in 0..requests {
        get(proxy.addr(), "/").expect(200);
    }
}

fn refused_connections_take_a_backend_out(engine: Engine) {
    for max_fails in [1, 3, 5] {
        let (mut gone, other) = (Origin::named("gone"), Origin::named("other"));
        gone.stop();
        let keys = format!("{FOR_GOOD}\nmax_fails = {max_fails}");
        let proxy = TestProxy::to(engine, &[gone.addr(), other.addr()], &keys);
        all_good(&proxy, 30);
        assert_eq!(retries(&proxy), max_fails, "as many met the backend that is gone");
        gone.restart();
        all_good(&proxy, 10);
        assert_eq!((gone.connections(), other.requests()), (0, 40), "nobody asks whether it is back");
    }
}

/// How long an answer takes depends on what is asked: a slow page takes nobody out.
fn time_outs_take_nobody_out(engine: Engine) {
    let (first, second) = (touchy("first"), touchy("second"));
    let keys = format!("{FOR_GOOD}\nmax_fails = 1\nresponse_timeout_secs = 0.2");
    let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], &keys);
    for _ in 0..4 {
        get(proxy.addr(), "/hangs").expect_failure(504, "response_timeout");
    }
    let names: Vec<String> = (0..10).map(|_| get(proxy.addr(), "/").expect(200).text()).collect();
    assert_eq!(names.iter().filter(|name| *name == "first").count(), 5, "{names:?}");
}

/// One that takes every request and closes, where another one answers the very same.
fn closing_without_a_word_takes_a_backend_out(engine: Engine) {
    let closing = ScriptedBackend::per_connection(|mut conn| conn.request().map(drop));
    let other = Origin::named("other");
    let proxy = TestProxy::to(engine, &[closing.addr(), other.addr()], FOR_GOOD);
    all_good(&proxy, 30);
    assert_eq!(closing.requests(), 3, "as many as max_fails met it");
}

fn connections_that_do_not_stand_take_a_backend_out(engine: Engine) {
    let (full, other) = (crate::support::backend::FullBacklog::new(), Origin::named("other"));
    let keys = format!("{FOR_GOOD}\nconnect_timeout_secs = 0.2");
    let proxy = TestProxy::to(engine, &[full.addr(), other.addr()], &keys);
    all_good(&proxy, 20);
    assert_eq!(retries(&proxy), 3);
}

fn zero_takes_nobody_out(engine: Engine) {
    let (dead, other) = (DeadPort::reserve(), Origin::named("other"));
    let proxy = TestProxy::to(engine, &[dead.addr(), other.addr()], "max_fails = 0");
    all_good(&proxy, 20);
    assert!(retries(&proxy) >= 9, "{} of 20 met the dead one", retries(&proxy));
}

/// Failures count when they come in a row, with no good answer between them.
fn a_good_answer_begins_the_count_again(engine: Engine) {
    let mut first = Origin::named("first");
    let second = Origin::named("second");
    let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], FOR_GOOD);
    for _ in 0..4 {
        first.stop();
        let before = retries(&proxy);
        while retries(&proxy) < before + 2 {
            all_good(&proxy, 1);
        }
        first.restart();
        let before = first.requests();
        wait_for("the backend to be asked again", || {
            all_good(&proxy, 2);
            if first.requests() > before { Ok(()) } else { Err(()) }
        });
    }
}

/// With a health check, a good probe brings it back, and time alone does not.
fn a_probe_brings_it_back(engine: Engine) {
    let (works, may_be_probed) = (Arc::new(AtomicBool::new(false)), Gate::new());
    let (same, gate) = (Arc::clone(&works), may_be_probed.clone());
    let first = ScriptedBackend::per_request(move |conn, request| {
        if request.target == HEALTH {
            if conn.number > 1 {
                gate.wait("the test to let the probe through");
            }
            return conn.send(OK);
        }
        if same.load(Ordering::SeqCst) {
            conn.send(OK)
        } else {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    });
    let second = Origin::named("second");
    let keys = format!(
        "health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 9 }}\n\
         max_fails = 1\nfail_timeout_secs = 0.1"
    );
    let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], &keys);
    // The second probe is under way, and keeps the others from coming.
    wait_for("the first two probes", || if first.requests() >= 2 { Ok(()) } else { Err(first.requests()) });
    let probes = first.requests();
    wait_for("a request to meet the backend that closes", || {
        all_good(&proxy, 1);
        if retries(&proxy) > 0 { Ok(()) } else { Err(()) }
    });
    works.store(true, Ordering::SeqCst);
    sleep(Duration::from_millis(200));
    for _ in 0..10 {
        get(proxy.addr(), "/");
    }
    assert_eq!(first.requests(), probes + 1, "out, though its fail_timeout is over");
    may_be_probed.open();
    wait_for("requests to go there again", || match get(proxy.addr(), "/").text().as_str() {
        "ok" => Ok(()),
        other => Err(other.lines().next().unwrap_or_default().to_owned()),
    });
}

/// Without a health check, one request at a time asks.
fn after_a_while_one_request_asks(engine: Engine) {
    let mut first = Origin::named("first");
    let second = Origin::named("second");
    first.stop();
    let keys = "max_fails = 1\nfail_timeout_secs = 0.5";
    let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], keys);
    while retries(&proxy) == 0 {
        all_good(&proxy, 1);
    }
    let out_at = Instant::now();
    first.restart();
    sleep(Duration::from_millis(600).saturating_sub(out_at.elapsed()));
    let addr = proxy.addr();
    let ask = move || Echo::parse(&get(addr, "/hold").expect(200).body).origin;
    // One by one: tiny_http leaves connections that come at the same moment to one thread.
    let clients = (1..=12).map(|number| {
        let client = spawn("client", ask);
        wait_for("it to be held", || match first.held() + second.held() {
            held if held == number => Ok(()),
            held => Err(held),
        });
        client
    });
    let clients: Vec<Task<String>> = clients.collect();
    assert_eq!(first.held(), 1, "one asks, all others go where it is safe");
    first.release();
    second.release();
    let origins: Vec<String> = clients.into_iter().map(Task::join).collect();
    assert_eq!(origins.iter().filter(|origin| *origin == "first").count(), 1);
    proxy.expect_idle();
    let (before, of) = (first.requests(), 10);
    all_good(&proxy, of);
    assert_eq!(first.requests() - before, of / 2, "its share again");
}

fn the_only_backend_is_never_taken_out(engine: Engine) {
    let mut only = Origin::named("only");
    only.stop();
    let proxy = TestProxy::to(engine, &[only.addr()], FOR_GOOD);
    for _ in 0..10 {
        get(proxy.addr(), "/").expect_failure(502, "connect_refused");
    }
    only.restart();
    get(proxy.addr(), "/").expect(200);
}

/// Whichever of them comes back is found at once.
fn the_last_backend_is_never_taken_out(engine: Engine) {
    let mut backends = [Origin::named("one"), Origin::named("two"), Origin::named("three")];
    let addrs = backends.each_ref().map(Origin::addr);
    backends.iter_mut().for_each(Origin::stop);
    for back in &mut backends {
        let proxy = TestProxy::to(engine, &addrs, &format!("{FOR_GOOD}\nretries = 2"));
        for _ in 0..15 {
            get(proxy.addr(), "/").expect_failure(502, "connect_refused");
        }
        back.restart();
        get(proxy.addr(), "/").expect(200);
        all_good(&proxy, 5);
        back.stop();
    }
}

/// Two backends that do what the target says; each says its name.
fn touchy(name: &'static str) -> ScriptedBackend {
    ScriptedBackend::per_request(move |conn, request| {
        if request.target == "/closes" {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        if request.target == "/hangs" {
            return conn.hang();
        }
        conn.body(request)?;
        if request.target == "/quiet" {
            conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 5"])?;
            return conn.hang();
        }
        match request.target.as_str() {
            "/nonsense" => conn.send(b"nonsense\r\n\r\n"),
            "/fails" => conn.send_head(&["HTTP/1.1 500 Oops", "Content-Length: 0"]),
            _ => {
                conn.send_head(&["HTTP/1.1 200 OK", &format!("Content-Length: {}", name.len())])?;
                conn.send(name.as_bytes())
            }
        }
    })
}

/// Or else one client could take all backends but one from all others.
fn what_a_client_can_provoke_does_not_count(engine: Engine) {
    let (first, second) = (touchy("first"), touchy("second"));
    let keys = format!("{FOR_GOOD}\nmax_fails = 2\nidle_timeout_secs = 0.1");
    let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], &keys);
    let both_are_asked = |after: &str| {
        proxy.expect_idle();
        let names: Vec<String> = (0..10).map(|_| get(proxy.addr(), "/").expect(200).text()).collect();
        let firsts = names.iter().filter(|name| *name == "first").count();
        // Half of them, but for turns taken by what comes to its end only now.
        assert!((3..=7).contains(&firsts), "after {after}: {names:?}");
    };
    both_are_asked("nothing");
    for (target, status) in [("/closes", 502), ("/nonsense", 502), ("/fails", 500)] {
        for method in ["GET", "POST"] {
            let request =
                format!("{method} {target} HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 4\r\n\r\nbody");
            (0..10).for_each(|_| drop(send_once(proxy.addr(), &request).expect(status)));
            both_are_asked(&format!("{method} {target}"));
        }
    }
    for field in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        for reset in [false, true] {
            if reset && engine == Engine::TinyHttp {
                // A client that resets can cost it a thread.
                continue;
            }
            for _ in 0..10 {
                let mut client = Client::connect(proxy.addr());
                client.send(format!("POST /upload HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n\r\n"));
                client.send(format!("20000\r\n{}", "x".repeat(0x1ffff)));
                client.leave(reset);
            }
            both_are_asked("uploads that stop");
        }
    }
    for _ in 0..10 {
        let head = "POST / HTTP/1.1\r\nHost: proxy.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        send_once(proxy.addr(), format!("{head}nonsense\r\n\r\n")).expect(400);
    }
    both_are_asked("bodies that are nonsense");
    if engine == Engine::Native {
        // The other way in does not notice.
        for reset in [false, true] {
            for _ in 0..10 {
                let mut client = Client::connect(proxy.addr());
                client.send("GET /hangs HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
                client.leave(reset);
            }
            both_are_asked("clients that leave");
        }
        for _ in 0..10 {
            let mut client = Client::connect(proxy.addr());
            client.send("GET /quiet HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
            assert!(client.response().broken.is_some(), "an answer that stops");
        }
        both_are_asked("answers that stop");
    }
    assert_eq!(proxy.counters().of(reverse_proxy::error::Cause::ConnectRefused), 0);
}

/// Up and down, once and again: one line when it went, one when it came back, and no more for a minute.
fn a_flapping_backend_does_not_fill_the_log(engine: Engine) {
    let mut flapping = Origin::named("flapping");
    let steady = Origin::named("steady");
    let config = TestProxy::builder(engine)
        .route("/", &[flapping.addr(), steady.addr()], "max_fails = 1\nfail_timeout_secs = 0.05")
        .toml();
    let mut command = program();
    command.env("RUST_LOG", "reverse_proxy=info");
    let (process, addr) = ProxyProcess::start_with(&config, command);
    for _ in 0..8 {
        flapping.stop();
        (0..6).for_each(|_| drop(get(addr, "/").expect(200)));
        flapping.restart();
        let before = flapping.requests();
        wait_for("the backend to be back", || {
            get(addr, "/").expect(200);
            if flapping.requests() > before { Ok(()) } else { Err(()) }
        });
    }
    let output = process.output();
    let of = |level: &str| -> Vec<&str> {
        let about = |line: &&str| line.contains(level) && line.contains(&flapping.addr());
        output.lines().filter(about).filter(|line| !line.contains("route prefix=")).collect()
    };
    let (warnings, infos) = (of("WARN"), of("INFO"));
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("taken out"), "{warnings:?}");
    assert!(warnings[0].contains("connect_refused"), "{warnings:?}");
    // Who reads that it went must be able to read that it came back.
    assert_eq!(infos.len(), 1, "{infos:#?}");
    assert!(infos[0].contains("answers again"), "{infos:?}");
    assert!(output.find(warnings[0]) < output.find(infos[0]));
}

on_both_engines!(
    refused_connections_take_a_backend_out,
    time_outs_take_nobody_out,
    closing_without_a_word_takes_a_backend_out,
    zero_takes_nobody_out,
    a_good_answer_begins_the_count_again,
    a_probe_brings_it_back,
    after_a_while_one_request_asks,
    the_only_backend_is_never_taken_out,
    the_last_backend_is_never_taken_out,
    what_a_client_can_provoke_does_not_count,
    a_flapping_backend_does_not_fill_the_log,
);

mod linux {
    use super::connections_that_do_not_stand_take_a_backend_out;
    crate::support::engines::on_both_engines!(connections_that_do_not_stand_take_a_backend_out);
}
