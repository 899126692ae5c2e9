//! Where connections come in: several addresses, both families, long backlogs, sockets that were passed on.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::engines::on_native;
use crate::support::process::program_after;
use crate::support::{Client, Echo, Engine, Origin, ProxyProcess, ScriptedBackend, TestProxy, get, wait_for};

fn several_addresses(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .listen("[\"127.0.0.1:0\", \"127.0.0.2:0\", \"127.0.0.3:0\"]")
        .route("/", &[origin.addr()], "")
        .start();
    let addrs = proxy.addrs();
    assert_eq!(addrs.len(), 3);
    let mut clients: Vec<Client> = addrs.iter().map(|addr| Client::connect(*addr)).collect();
    for _ in 0..3 {
        for client in &mut clients {
            client.get("/").expect(200);
        }
    }
}

fn ipv6(engine: Engine) {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .listen("[\"127.0.0.1:0\", \"[::1]:0\"]")
        .route("/", &[origin.addr()], "")
        .start();
    let addrs = proxy.addrs();
    assert_eq!(addrs.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);
    for (addr, client) in addrs.into_iter().zip(["127.0.0.1", "::1"]) {
        let echo = Echo::parse(&get(addr, "/").expect(200).body);
        assert_eq!(echo.fields.all("x-forwarded-for"), [client]);
    }
}

/// 0.0.0.0 and :: on the same port are two listeners.
fn both_families_on_one_port(engine: Engine) {
    let Ok(free) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    let port = free.local_addr().unwrap().port();
    drop(free);
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .listen(&format!("[\"0.0.0.0:{port}\", \"[::]:{port}\"]"))
        .route("/", &[origin.addr()], "")
        .start();
    for (addr, client) in [
        (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "127.0.0.1"),
        (SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "::1"),
    ] {
        let echo = Echo::parse(&get(addr, "/").expect(200).body);
        assert_eq!(echo.fields.all("x-forwarded-for"), [client]);
    }
    assert_eq!(proxy.addrs().len(), 2);
}

/// As with systemd: the socket outlives the program, and so does what waits in it.
fn passed_sockets_lose_nothing_over_a_restart(engine: Engine) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).listen(&format!("\"{addr}\"")).route("/", &[origin.addr()], "");
    let ask = |target: &str| {
        let mut client = Client::connect(addr);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        client
    };
    for round in ["/first", "/second"] {
        // Nobody is there to accept it.
        let mut early = ask(round);
        let mut command = program_after("exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1");
        command.stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
        let (mut process, listening) = ProxyProcess::start_with(&config.toml(), command);
        assert_eq!(listening, addr);
        process
            .wait_for_output("where the socket comes from", |line| line.contains("LISTEN_FDS").then_some(()));
        assert_eq!(Echo::parse(&early.response().expect(200).body).target, round);
        get(addr, "/now").expect(200);
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(process.wait().status.code(), Some(0));
    }
}

/// Whoever waited in the backlog of a passed socket has the same time as everybody else.
fn limits_hold_for_who_waited_in_a_passed_socket(engine: Engine) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let backend = ScriptedBackend::per_request(|conn, request| {
        conn.body(request)?;
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 100000000"])?;
        loop {
            conn.send(&[b'x'; 100_000])?;
        }
    });
    let config = TestProxy::builder(engine)
        .listen(&format!("\"{addr}\""))
        .server("read_timeout_secs = 0.5\nwrite_timeout_secs = 0.5")
        .server("header_timeout_secs = 0.5\nkeepalive_timeout_secs = 0.5")
        .route("/", &[backend.addr()], "");
    let mut uploads: Vec<Client> = [1000, 1_000_000]
        .into_iter()
        .map(|length| {
            let mut client = Client::connect(addr);
            let head = format!("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {length}\r\n\r\n");
            client.send(format!("{head}{}", "x".repeat(length / 10)));
            client
        })
        .collect();
    let mut half_a_head = Client::connect(addr);
    half_a_head.send("GET / HTTP/1.1\r\nHost");
    let mut silent = Client::connect(addr);
    let mut download = Client::with_small_window(addr);
    download.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");

    let mut command = program_after("exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1");
    command.stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
    let (_process, _) = ProxyProcess::start_with(&config.toml(), command);
    let started = Instant::now();
    for client in &mut uploads {
        client.response_to("POST").expect_failure(408, "body_timeout");
        client.end().expect("the end of the connection");
    }
    half_a_head.response().expect_failure(408, "head_timeout");
    silent.expect_fin();
    // That of the large upload, and that of the client that does not read.
    wait_for("the backend's connections to be closed", || match backend.ended() {
        2 => Ok(()),
        ended => Err(ended),
    });
    assert!(started.elapsed() < Duration::from_secs(5), "over after {:?}", started.elapsed());
    assert_eq!(backend.connections(), 2);
    drop(download);
}

/// std asks for 128.
fn the_backlog_is_long(engine: Engine) {
    const WANTED: usize = 400;
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    if most.trim().parse::<usize>().is_ok_and(|most| most < WANTED) {
        println!("skipped: the kernel allows no backlog longer than {most}");
        return;
    }
    let origin = Origin::echo();
    let proxy =
        TestProxy::builder(engine).server("max_connections = 1").route("/", &[origin.addr()], "").start();
    let mut inside = Client::connect(proxy.addr());
    inside.get("/").expect(200);
    let connect = |number| {
        let patience = Duration::from_millis(900);
        TcpStream::connect_timeout(&proxy.addr(), patience)
            .unwrap_or_else(|error| panic!("connection {number} found the backlog full: {error}"))
    };
    let waiting: Vec<TcpStream> = (0..WANTED).map(connect).collect();
    inside.get("/").expect(200);
    drop(waiting);
}

on_native!(
    limits_hold_for_who_waited_in_a_passed_socket,
    several_addresses,
    ipv6,
    both_families_on_one_port,
    passed_sockets_lose_nothing_over_a_restart,
    the_backlog_is_long,
);
