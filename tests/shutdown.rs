//! The drain: what is in flight finishes, nothing new begins, and the deadline holds.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::engines::on_both_engines;
use crate::support::{
    Client, Echo, Engine, Gate, Origin, PATIENCE, ScriptedBackend, TestProxy, get, hash_of, pattern, wait_for,
};

/// Sends a request that the origin holds, and waits until it does.
fn hold(addr: SocketAddr, origin: &Origin) -> Client {
    let before = origin.held();
    let mut client = Client::connect(addr);
    client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the request to be held", || match origin.held() {
        held if held > before => Ok(()),
        held => Err(held),
    });
    client
}

/// Waits until a new client is no longer served: refused, or closed without an answer.
fn wait_until_nobody_new_is_served(addr: SocketAddr) {
    wait_for("new connections to be refused", || {
        let Ok(mut client) = Client::try_connect(addr) else {
            return Ok(());
        };
        client.set_patience(Duration::from_millis(300));
        let sent = client.try_send("GET /new HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        match sent.and_then(|()| client.try_response_to("GET")) {
            Ok(response) => Err(format!("status {}", response.status())),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err("accepted, no answer".into()),
            Err(_) => Ok(()),
        }
    });
}

fn requests_in_flight_finish(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).shutdown_timeout("30").route("/", &[origin.addr()], "").start();
    let addr = proxy.addr();
    let mut clients: Vec<Client> = (0..4).map(|_| hold(addr, &origin)).collect();
    let drain = proxy.drain();
    wait_until_nobody_new_is_served(addr);
    assert!(drain.is_running(), "the drain did not wait for what is in flight");
    origin.release();
    for client in &mut clients {
        assert_eq!(Echo::parse(&client.response().expect(200).body).target, "/hold");
    }
    assert_eq!(drain.join(), 0, "exchanges cut off");
}

fn answers_during_the_drain_say_close(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).shutdown_timeout("30").route("/", &[origin.addr()], "").start();
    let addr = proxy.addr();
    let mut client = hold(addr, &origin);
    let drain = proxy.drain();
    wait_until_nobody_new_is_served(addr);
    origin.release();
    let response = client.response().expect(200);
    let connection = response.fields().all("connection").join(",").to_lowercase();
    assert!(connection.contains("close"), "Connection: {connection}");
    assert_eq!(drain.join(), 0);
}

fn bodies_in_flight_finish(engine: Engine) {
    let proceed = Gate::new();
    let gate = proceed.clone();
    let backend = ScriptedBackend::per_request(move |conn, _| {
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 200000"])?;
        conn.send(&[b'a'; 100_000])?;
        gate.wait("the drain to begin");
        conn.send(&[b'b'; 100_000])
    });
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .shutdown_timeout("30")
        .route("/down", &[backend.addr()], "")
        .route("/up", &[origin.addr()], "")
        .start();
    let addr = proxy.addr();
    let mut down = Client::connect(addr);
    down.send("GET /down HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let head = down.head("GET");
    let body = pattern(3, 400_000);
    let mut up = Client::connect(addr);
    up.send("POST /up HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 400000\r\n\r\n");
    up.send(&body[..200_000]);
    wait_for("the upload to reach the origin", || match origin.requests() {
        0 => Err(()),
        _ => Ok(()),
    });
    let drain = proxy.drain();
    wait_until_nobody_new_is_served(addr);
    proceed.open();
    up.send(&body[200_000..]);
    assert_eq!(down.rest(&head).expect("the rest of the download").len(), 200_000);
    assert_eq!(Echo::parse(&up.response_to("POST").expect(200).body).hash, hash_of(&body));
    assert_eq!(drain.join(), 0, "exchanges cut off");
}

fn an_idle_proxy_stops_at_once(engine: Engine) {
    let origin = Origin::echo();
    let check = "health_check = { path = \"/health\", interval_secs = 600 }";
    let builder = || TestProxy::builder(engine).shutdown_timeout("60").route("/", &[origin.addr()], check);
    let started = Instant::now();
    assert_eq!(builder().start().drain().join(), 0);

    let proxy = builder().start();
    let mut kept_alive = Client::connect(proxy.addr());
    kept_alive.get("/").expect(200);
    let _silent = Client::connect(proxy.addr());
    assert_eq!(proxy.drain().join(), 0);
    assert!(started.elapsed() < PATIENCE, "took {:?}", started.elapsed());
}

fn the_deadline_cuts_what_is_left(engine: Engine) {
    let hanging = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .shutdown_timeout("0.5")
        .route("/", &[hanging.addr()], "response_timeout_secs = 60")
        .route("/quick", &[origin.addr()], "")
        .start();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        clients.push(client);
    }
    wait_for("three requests in flight", || match proxy.in_flight() {
        counts if counts.iter().any(|(_, count)| *count == 3) => Ok(()),
        counts => Err(counts),
    });
    get(proxy.addr(), "/quick").expect(200);
    let started = Instant::now();
    assert_eq!(proxy.drain().join(), 3, "exchanges cut off");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(500), "cut after {took:?}, before the deadline");
    assert!(took < Duration::from_secs(6), "the drain took {took:?}");
}

fn a_port_can_be_used_again(engine: Engine) {
    let origin = Origin::echo();
    let builder = || TestProxy::builder(engine).route("/", &[origin.addr()], "");
    let proxy = builder().start();
    let addr = proxy.addr();
    get(addr, "/").expect(200);
    proxy.drain().join();
    // Whoever comes in the moment in which it is closed is accepted by the kernel, and reset.
    wait_for("the port to be closed", || match Client::try_connect(addr) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err("connected".to_owned()),
    });
}

on_both_engines!(
    requests_in_flight_finish,
    answers_during_the_drain_say_close,
    bodies_in_flight_finish,
    an_idle_proxy_stops_at_once,
    the_deadline_cuts_what_is_left,
    a_port_can_be_used_again,
);

/// The same with the program and its signals.
mod signals {
    use rustix::process::Signal;

    use super::*;
    use crate::support::ProxyProcess;

    fn config(engine: Engine, origin: &str, shutdown_timeout: &'static str) -> String {
        let keys = "response_timeout_secs = 60";
        let builder = TestProxy::builder(engine).shutdown_timeout(shutdown_timeout);
        builder.route("/", &[origin.to_owned()], keys).toml()
    }

    fn a_signal_lets_requests_finish(engine: Engine) {
        for signal in [Signal::TERM, Signal::INT] {
            let origin = Origin::echo();
            let (process, addr) = ProxyProcess::start(&config(engine, &origin.addr(), "30"));
            let mut clients = [hold(addr, &origin), hold(addr, &origin)];
            process.signal(signal);
            wait_until_nobody_new_is_served(addr);
            origin.release();
            for client in &mut clients {
                assert_eq!(Echo::parse(&client.response().expect(200).body).target, "/hold");
            }
            let exit = process.wait();
            assert!(exit.status.success(), "after {signal:?}: {exit:?}");
            assert!(!exit.output.contains("WARN"), "a clean drain warns of nothing\n{}", exit.output);
        }
    }

    fn a_signal_ends_an_idle_program_at_once(engine: Engine) {
        for signal in [Signal::TERM, Signal::INT] {
            let origin = Origin::echo();
            let (process, addr) = ProxyProcess::start(&config(engine, &origin.addr(), "60"));
            let mut kept_alive = Client::connect(addr);
            kept_alive.get("/").expect(200);
            process.signal(signal);
            let exit = process.wait_up_to(Duration::from_secs(5));
            assert!(exit.status.success(), "after {signal:?}: {exit:?}");
        }
    }

    fn past_the_deadline_one_warning_says_how_many(engine: Engine) {
        let origin = Origin::echo();
        let (process, addr) = ProxyProcess::start(&config(engine, &origin.addr(), "0.5"));
        let _clients = [hold(addr, &origin), hold(addr, &origin)];
        let started = Instant::now();
        process.signal(Signal::TERM);
        let exit = process.wait_up_to(Duration::from_secs(8));
        assert!(started.elapsed() >= Duration::from_millis(500), "it did not wait");
        assert!(exit.status.code().is_some(), "ended by a signal: {:?}", exit.status);
        let warnings: Vec<&str> = exit.output.lines().filter(|line| line.contains("WARN")).collect();
        let [warning] = warnings[..] else { panic!("not one warning: {warnings:?}\n{}", exit.output) };
        let message = warning.split_once("] ").map_or(warning, |(_, message)| message);
        let mut numbers = message.split(|char: char| !char.is_ascii_digit());
        assert!(numbers.any(|number| number == "2"), "the warning does not say how many: {warning}");
    }

    fn a_second_signal_ends_it_immediately(engine: Engine) {
        for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::INT], [Signal::TERM, Signal::INT]]
        {
            let origin = Origin::echo();
            let (process, addr) = ProxyProcess::start(&config(engine, &origin.addr(), "60"));
            let _client = hold(addr, &origin);
            process.signal(signals[0]);
            wait_until_nobody_new_is_served(addr);
            process.signal(signals[1]);
            let exit = process.wait_up_to(Duration::from_secs(5));
            assert!(!exit.status.success(), "requests were cut: {:?}\n{}", exit.status, exit.output);
        }
    }

    fn with_a_delay_new_connections_are_served_until_then(engine: Engine) {
        const DELAY: Duration = Duration::from_secs(2);
        let origin = Origin::echo();
        let builder = TestProxy::builder(engine).drain_delay("2").shutdown_timeout("30");
        let config = builder.route("/", &[origin.addr()], "").toml();
        let (mut process, addr) = ProxyProcess::start(&config);
        let mut held = hold(addr, &origin);
        let started = Instant::now();
        process.signal(Signal::TERM);
        process.wait_for_output("the delay", |line| line.contains("draining soon").then_some(()));
        let mut kept_alive = Client::connect(addr);
        let mut served = 0;
        while started.elapsed() < DELAY / 2 {
            get(addr, "/new").expect(200);
            kept_alive.get("/again").expect(200);
            served += 1;
        }
        assert!(served > 0, "half of the delay was over before the first request");
        wait_until_nobody_new_is_served(addr);
        assert!(started.elapsed() >= DELAY, "accepting ended after {:?}", started.elapsed());
        origin.release();
        held.response().expect(200);
        let exit = process.wait();
        assert!(exit.status.success(), "{exit:?}");
    }

    fn a_second_signal_ends_the_delay_too(engine: Engine) {
        let origin = Origin::echo();
        let builder = TestProxy::builder(engine).drain_delay("600").route("/", &[origin.addr()], "");
        let (mut process, addr) = ProxyProcess::start(&builder.toml());
        process.signal(Signal::TERM);
        process.wait_for_output("the delay", |line| line.contains("draining soon").then_some(()));
        get(addr, "/new").expect(200);
        process.signal(Signal::TERM);
        let exit = process.wait_up_to(Duration::from_secs(5));
        assert_eq!(exit.status.code(), Some(2), "{exit:?}");
    }

    on_both_engines!(
        a_signal_lets_requests_finish,
        a_signal_ends_an_idle_program_at_once,
        past_the_deadline_one_warning_says_how_many,
        a_second_signal_ends_it_immediately,
        with_a_delay_new_connections_are_served_until_then,
        a_second_signal_ends_the_delay_too,
    );
}
