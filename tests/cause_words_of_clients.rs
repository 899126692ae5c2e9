//! What is the client's doing has its word as well, though there may be nobody left to read it.

use reverse_proxy::error::Cause;

use crate::support::engines::on_native;
use crate::support::process::program;
use crate::support::proxy::Builder;
use crate::support::{Client, Engine, ProxyProcess, ScriptedBackend, TestProxy, wait_for};

/// Lets clients of both the program and a proxy in this process do `act`, and looks for `cause`. What `act` returns
/// stays connected until then.
#[track_caller]
fn check(config: Builder, cause: Cause, act: impl Fn(Client) -> Option<Client>) {
    let mut command = program();
    command.env("RUST_LOG", "reverse_proxy=debug");
    let (mut process, addr) = ProxyProcess::start_with(&config.toml(), command);
    let client = act(Client::connect(addr));
    let found = format!("cause={}", cause.word());
    process.wait_for_output(&format!("a line with {found}"), |line| {
        let is_exchange = line.contains(" exchange ") || line.contains(" refused ");
        (is_exchange && line.split_whitespace().any(|part| part == found)).then_some(())
    });
    drop((process, client));
    let proxy = config.start();
    let client = act(Client::connect(proxy.addr()));
    proxy.expect_counted(cause, 1);
    drop(client);
}

fn one_that_left(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.hang()
    });
    let config = TestProxy::builder(engine).shutdown_timeout("0").route("/", &[backend.addr()], "");
    check(config, Cause::ClientLeft, |mut client| {
        let before = backend.requests();
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        // A reset takes away what was not read yet: then there was no request.
        wait_for(
            "the request to be an exchange",
            || if backend.requests() > before { Ok(()) } else { Err(()) },
        );
        client.leave(true);
        None
    });
}

fn one_that_stops_sending(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let config = TestProxy::builder(engine).shutdown_timeout("0").server("read_timeout_secs = 0.2").route(
        "/",
        &[backend.addr()],
        "",
    );
    for body in [10, 100_000] {
        check(config.clone(), Cause::BodyTimeout, |mut client| {
            client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 1000000\r\n\r\n");
            client.send(vec![b'x'; body]);
            client.response_to("POST").expect_failure(408, "body_timeout");
            None
        });
    }
}

fn one_that_does_not_read(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 50000000"])?;
        conn.send(&vec![b'x'; 50_000_000])
    });
    let config = TestProxy::builder(engine).shutdown_timeout("0").server("write_timeout_secs = 0.1").route(
        "/",
        &[backend.addr()],
        "",
    );
    // With a deadline far away, too.
    let patient = TestProxy::builder(engine).shutdown_timeout("0").server("write_timeout_secs = 0.1").route(
        "/",
        &[backend.addr()],
        "deadline_secs = 30",
    );
    for config in [config, patient] {
        check(config, Cause::WriteTimeout, |mut client| {
            client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
            Some(client)
        });
    }
}

fn one_that_wants_to_switch(engine: Engine) {
    const SWITCH: &str = "GET / HTTP/1.1\r\nHost: proxy.test\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n";
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")?;
        conn.hang()
    });
    let config = TestProxy::builder(engine).shutdown_timeout("0").server("max_tunnels = 1").route(
        "/",
        &[backend.addr()],
        "",
    );
    let open = std::cell::RefCell::new(Vec::new());
    check(config, Cause::TunnelsFull, |mut client| {
        let mut first = Client::connect(client.stream().peer_addr().expect("the address of the proxy"));
        first.send(SWITCH);
        first.any_head("GET").expect("101");
        open.borrow_mut().push(first);
        client.send(SWITCH);
        client.response().expect_failure(503, "tunnels_full");
        None
    });
}

on_native!(one_that_left, one_that_stops_sending, one_that_does_not_read, one_that_wants_to_switch);
