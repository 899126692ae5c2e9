//! What is in flight is counted off again, however an exchange ends.

use std::time::Duration;

use crate::support::engines::on_both_engines;
use crate::support::{Client, DeadPort, Engine, Gate, Origin, ScriptedBackend, TestProxy, get, wait_for};

#[track_caller]
fn wait_for_in_flight(proxy: &TestProxy, addr: &str, count: usize) {
    wait_for("the in-flight count", || {
        let counts = proxy.in_flight();
        if counts.iter().any(|(name, seen)| name == addr && *seen == count) { Ok(()) } else { Err(counts) }
    });
}

fn success(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(proxy.addr())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        wait_for_in_flight(&proxy, &origin.addr(), number + 1);
    }
    origin.release();
    clients.iter_mut().for_each(|client| drop(client.response().expect(200)));
    proxy.expect_idle();
}

fn failure(engine: Engine) {
    let dead = DeadPort::reserve();
    let hanging = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let resetting = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.reset();
        Ok(())
    });
    let garbage = ScriptedBackend::answering("this is not HTTP\r\n\r\n");
    let keys = "retries = 0\nresponse_timeout_secs = 0.2";
    let proxy = TestProxy::builder(engine)
        .route("/dead", &[dead.addr()], keys)
        .route("/hanging", &[hanging.addr()], keys)
        .route("/resetting", &[resetting.addr()], keys)
        .route("/garbage", &[garbage.addr()], keys)
        .start();
    for target in ["/dead", "/hanging", "/resetting", "/garbage", "/nowhere"] {
        let status = get(proxy.addr(), target).status();
        assert!(status >= 400, "{target}: {status}");
    }
    proxy.expect_idle();
}

fn a_backend_that_breaks_off(engine: Engine) {
    let breaking = ScriptedBackend::per_connection(|mut conn| {
        let Some(request) = conn.request()? else {
            return Ok(());
        };
        let length =
            if request.target == "/length" { "Content-Length: 1000" } else { "Transfer-Encoding: chunked" };
        conn.send_head(&["HTTP/1.1 200 OK", length])?;
        conn.send(b"5\r\nhello\r\n")?;
        if request.fields.has("x-reset") {
            conn.reset();
        }
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[breaking.addr()], "");
    let mut clients = Vec::new();
    for target in ["/length", "/chunked"] {
        for how in ["X-Reset: 1\r\n", ""] {
            let mut client = Client::connect(proxy.addr());
            client.send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\n{how}\r\n"));
            clients.push(client);
        }
    }
    wait_for("all to be broken off", || match breaking.ended() {
        ended if ended >= 4 => Ok(()),
        ended => Err(ended),
    });
    proxy.expect_idle();
}

fn a_client_that_leaves_during_the_answer(engine: Engine) {
    let endless = ScriptedBackend::per_connection(|mut conn| {
        let Some(request) = conn.request()? else {
            return Ok(());
        };
        let length =
            if request.target == "/length" { "Content-Length: 99999999999" } else { "X-No-Length: 1" };
        conn.send_head(&["HTTP/1.1 200 OK", length])?;
        loop {
            conn.send(&[b'x'; 10_000])?;
        }
    });
    let proxy = TestProxy::to(engine, &[endless.addr()], "");
    let mut connections = 0;
    for target in ["/length", "/no-length"] {
        for reset in [true, false] {
            let mut client = Client::connect(proxy.addr());
            client.send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
            assert_eq!(client.head("GET").status, 200);
            wait_for_in_flight(&proxy, &endless.addr(), 1);
            client.leave(reset);
            connections += 1;
            proxy.expect_idle();
            wait_for("the backend's connection to be closed", || match endless.ended() {
                ended if ended == connections => Ok(()),
                ended => Err(ended),
            });
        }
    }
}

fn a_client_that_leaves_during_its_request(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    for framing in ["Content-Length: 10000000", "Transfer-Encoding: chunked"] {
        for reset in [true, false] {
            let mut client = Client::connect(proxy.addr());
            client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{framing}\r\n\r\n"));
            // More than what is collected before a backend is chosen.
            client.send(format!("30000\r\n{}\r\n", "x".repeat(0x30000)));
            wait_for_in_flight(&proxy, &origin.addr(), 1);
            client.leave(reset);
            proxy.expect_idle();
        }
    }
}

/// The answer comes, but nobody is there to read it any more.
fn a_client_that_leaves_before_the_answer(engine: Engine) {
    let proceed = Gate::new();
    let gate = proceed.clone();
    let backend = ScriptedBackend::per_request(move |conn, _| {
        gate.wait("the client to leave");
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 300000"])?;
        conn.send(&[b'x'; 300_000])
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for_in_flight(&proxy, &backend.addr(), 1);
    client.leave(true);
    proceed.open();
    proxy.expect_idle();
    let mut next = Client::connect(proxy.addr());
    next.set_patience(Duration::from_secs(5));
    assert_eq!(next.get("/").expect(200).body.len(), 300_000, "the next client is served");
}

on_both_engines!(
    success,
    failure,
    a_backend_that_breaks_off,
    a_client_that_leaves_during_the_answer,
    a_client_that_leaves_during_its_request,
    a_client_that_leaves_before_the_answer,
);
