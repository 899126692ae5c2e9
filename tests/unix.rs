//! Backends on Unix-domain sockets.

use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::backend::each_request;
use crate::support::engines::on_native;
use crate::support::process::TempDir;
use crate::support::wait::Task;
use crate::support::{Client, Engine, ScriptedBackend, TestProxy, get, pattern, spawn, wait_for};

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

/// A socket in whose backlog there is no room, until somebody accepts.
struct Crowded {
    listener: Socket,
    crowd: Vec<Socket>,
}

impl Crowded {
    fn new(directory: &TempDir) -> Self {
        let addr = SockAddr::unix(socket(directory)).unwrap();
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&addr).unwrap();
        listener.listen(0).unwrap();
        let mut crowd = Vec::new();
        loop {
            let one = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            one.set_nonblocking(true).unwrap();
            if one.connect(&addr).is_err() {
                return Self { listener, crowd };
            }
            crowd.push(one);
            assert!(crowd.len() < 100, "the backlog does not fill");
        }
    }

    /// From now on they are accepted, and each request is answered with 200.
    fn accept(self, directory: &TempDir) -> ScriptedBackend {
        drop(self.crowd);
        let script = each_request(|conn, _| conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"]));
        ScriptedBackend::on_unix_listener(&socket(directory), self.listener, script)
    }
}

fn a_full_backlog_is_waited_for(engine: Engine) {
    let directory = TempDir::new();
    let crowded = Crowded::new(&directory);
    let proxy = TestProxy::to(engine, &[addr(&directory)], "connect_timeout_secs = 9\nretries = 0");
    let at = proxy.addr();
    let clients: Vec<Task<u16>> = (0..3).map(|_| spawn("client", move || get(at, "/").status())).collect();
    proxy.expect_in_flight(&addr(&directory), 3);
    assert!(clients.iter().all(Task::is_running), "they wait");
    let backend = crowded.accept(&directory);
    clients.into_iter().for_each(|client| assert_eq!(client.join(), 200));
    proxy.expect_idle();
    assert_eq!(backend.requests(), 3);
}

fn a_backlog_that_stays_full_is_504(engine: Engine) {
    let directory = TempDir::new();
    let _crowded = Crowded::new(&directory);
    let proxy = TestProxy::to(engine, &[addr(&directory)], "connect_timeout_secs = 0.3\nretries = 0");
    get(proxy.addr(), "/").expect_failure(504, "connect_timeout");
    proxy.expect_idle();
}

/// A probe waits as a request does: that a backend has much to do is no reason to leave it.
fn a_probe_waits_for_a_full_backlog(engine: Engine) {
    let directory = TempDir::new();
    let crowded = Crowded::new(&directory);
    let check = "health_check = { path = \"/health\", interval_secs = 60, timeout_secs = 9 }";
    let proxy = TestProxy::to(engine, &[addr(&directory)], &format!("{check}\nconnect_timeout_secs = 9"));
    let at = proxy.addr();
    let client = spawn("client", move || get(at, "/").status());
    proxy.expect_in_flight(&addr(&directory), 1);
    // Time for a probe to fail, if it were to.
    std::thread::sleep(Duration::from_millis(300));
    let backend = crowded.accept(&directory);
    assert_eq!(client.join(), 200);
    wait_for("the probe to be answered", || match backend.requests() {
        2 => Ok(()),
        requests => Err(requests),
    });
    get(proxy.addr(), "/").expect(200);
}

on_native!(
    a_full_backlog_is_waited_for,
    a_backlog_that_stays_full_is_504,
    a_probe_waits_for_a_full_backlog,
    requests_and_answers_pass_and_the_connection_is_reused,
    the_clients_host_is_kept_where_asked,
    a_missing_socket_is_502,
    a_socket_nobody_listens_on_is_502,
    a_backend_that_closes_is_502,
    health_checks_find_it_gone_and_back,
);
