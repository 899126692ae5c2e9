//! Backends on Unix-domain sockets.

use std::path::PathBuf;

use crate::support::backend::each_request;
use crate::support::engines::on_native;
use crate::support::process::TempDir;
use crate::support::{Client, Engine, ScriptedBackend, TestProxy, get, pattern, wait_for};

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("app.sock")
}

fn addr(directory: &TempDir) -> String {
    format!("unix:{}", socket(directory).display())
}

/// Answers with the request's `Host` and body.
fn echo(directory: &TempDir) -> ScriptedBackend {
    let script = each_request(|conn, request| {
        let body = conn.body(request)?;
        let host = request.fields.one("host").unwrap_or_default();
        conn.send_head(&[
            "HTTP/1.1 200 OK",
            &format!("X-Host: {host}"),
            &format!("Content-Length: {}", body.len()),
        ])?;
        conn.send(&body)
    });
    ScriptedBackend::unix(&socket(directory), script)
}

fn requests_and_answers_pass_and_the_connection_is_reused(engine: Engine) {
    let directory = TempDir::new();
    let backend = echo(&directory);
    assert_eq!(backend.addr(), addr(&directory));
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    let body = pattern(3, 300_000);
    for _ in 0..20 {
        client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        let response = client.response_to("POST").expect(200);
        assert!(response.body == body, "the body has changed");
        assert_eq!(response.fields().one("x-host").as_deref(), Some("localhost"));
    }
    assert_eq!(backend.connections(), 1);
    proxy.expect_idle();
}

fn the_clients_host_is_kept_where_asked(engine: Engine) {
    let directory = TempDir::new();
    let backend = echo(&directory);
    let proxy = TestProxy::to(engine, &[backend.addr()], "preserve_host = true");
    let response = get(proxy.addr(), "/").expect(200);
    assert_eq!(response.fields().one("x-host").as_deref(), Some("proxy.test"));
}

fn a_missing_socket_is_502(engine: Engine) {
    let directory = TempDir::new();
    let proxy = TestProxy::to(engine, &[addr(&directory)], "");
    get(proxy.addr(), "/").expect_failure(502, "connect_failed");
    proxy.expect_idle();
}

fn a_socket_nobody_listens_on_is_502(engine: Engine) {
    let directory = TempDir::new();
    drop(std::os::unix::net::UnixListener::bind(socket(&directory)).unwrap());
    let proxy = TestProxy::to(engine, &[addr(&directory)], "");
    get(proxy.addr(), "/").expect_failure(502, "connect_refused");
}

fn a_backend_that_closes_is_502(engine: Engine) {
    let directory = TempDir::new();
    let backend = ScriptedBackend::unix(&socket(&directory), |mut conn| conn.request().map(drop));
    let proxy = TestProxy::to(engine, &[backend.addr()], "retries = 0");
    get(proxy.addr(), "/").expect_failure(502, "backend_closed");
}

fn health_checks_find_it_gone_and_back(engine: Engine) {
    let directory = TempDir::new();
    let check = "health_check = { path = \"/health\", interval_secs = 0.05 }";
    let proxy = TestProxy::to(engine, &[addr(&directory)], check);
    let wait_for_status = |status| {
        wait_for("a probe to be noticed", || match get(proxy.addr(), "/").status() {
            seen if seen == status => Ok(()),
            seen => Err(seen),
        });
    };
    wait_for_status(503);
    let mut backend = echo(&directory);
    wait_for_status(200);
    backend.stop();
    wait_for_status(503);
    backend.restart(|mut conn| {
        while conn.request()?.is_some() {
            conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"])?;
        }
        Ok(())
    });
    wait_for_status(200);
}

on_native!(
    requests_and_answers_pass_and_the_connection_is_reused,
    the_clients_host_is_kept_where_asked,
    a_missing_socket_is_502,
    a_socket_nobody_listens_on_is_502,
    a_backend_that_closes_is_502,
    health_checks_find_it_gone_and_back,
);
