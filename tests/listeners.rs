//! Where connections come in: several addresses, both families, long backlogs, sockets that were passed on.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::drain::{End, carry_on};
use crate::support::engines::on_native;
use crate::support::process::{TempDir, program, program_after};
use crate::support::proxy::Builder;
use crate::support::{
    Client, Echo, Engine, Origin, ProxyProcess, ScriptedBackend, Task, TestProxy, get, spawn, wait_for,
};

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
        let mut process = start_on(&listener, &config);
        process
            .wait_for_output("where the socket comes from", |line| line.contains("LISTEN_FDS").then_some(()));
        assert_eq!(Echo::parse(&early.response().expect(200).body).target, round);
        get(addr, "/now").expect(200);
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(process.wait().status.code(), Some(0));
    }
}

/// The program, which gets `listener` as systemd would pass it.
fn start_on(listener: &TcpListener, config: &Builder) -> ProxyProcess {
    let mut command = program_after("exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1");
    command.stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
    let (process, listening) = ProxyProcess::start_with(&config.toml(), command);
    assert_eq!(listening, listener.local_addr().unwrap());
    process
}

/// While one program after the other takes over the socket, clients come and go, and every request is answered. What
/// `systemctl restart` does is to stop one and then start the next; with an overlap it is the same to the clients.
fn under_load_passed_sockets_lose_nothing_over_restarts(engine: Engine) {
    const CLIENTS: usize = 8;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).listen(&format!("\"{addr}\"")).shutdown_timeout("10").route(
        "/",
        &[origin.addr()],
        "",
    );
    let answered = Arc::new(AtomicUsize::new(0));
    let enough = Arc::new(AtomicBool::new(false));
    let mut process = start_on(&listener, &config);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (answered, enough) = (Arc::clone(&answered), Arc::clone(&enough));
            spawn(&format!("client-{number}"), move || {
                let mut connections = 0;
                while !enough.load(Ordering::Relaxed) {
                    // Half of them have a new connection for each request, the others for as long as it lasts.
                    if number % 2 == 0 {
                        get(addr, "/new").expect(200);
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let end = carry_on(addr, &answered, &enough);
                        assert!(!matches!(end, End::Unanswered(..)), "{end:?}");
                    }
                    connections += 1;
                }
                connections
            })
        })
        .collect();
    let wait_for_answers = || {
        let before = answered.load(Ordering::Relaxed);
        wait_for("a hundred answers more", || match answered.load(Ordering::Relaxed) - before {
            100.. => Ok(()),
            count => Err(count),
        });
    };
    for overlap in [false, true, false, true] {
        wait_for_answers();
        process.signal(rustix::process::Signal::TERM);
        let exit = if overlap {
            let next = start_on(&listener, &config);
            std::mem::replace(&mut process, next).wait()
        } else {
            let exit = process.wait();
            process = start_on(&listener, &config);
            exit
        };
        assert_eq!(exit.status.code(), Some(0), "{}", exit.output);
        assert!(!exit.output.contains("WARN"), "{}", exit.output);
    }
    wait_for_answers();
    enough.store(true, Ordering::Relaxed);
    let connections: Vec<usize> = clients.into_iter().map(Task::join).collect();
    assert!(connections.iter().all(|count| *count > 1), "a client saw no restart: {connections:?}");
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().status.code(), Some(0));
}

/// std asks for 128.
fn the_backlog_is_long(engine: Engine) {
    const WANTED: usize = 400;
    let most = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
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

/// The answer to a GET through the socket at `path`.
fn get_through(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).expect("connect to the socket");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let fields = "Host: proxy.test\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n";
    stream.write_all(format!("GET /x HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn unix_sockets(engine: Engine) {
    let directory = TempDir::new();
    let path = directory.path().join("http.sock");
    // Left behind by a proxy that was killed.
    drop(UnixListener::bind(&path).unwrap());
    let origin = Origin::echo();
    let config = TestProxy::builder(engine)
        .listen(&format!("[\"127.0.0.1:0\", \"unix:{}\"]\nlisten_mode = \"0600\"", path.display()))
        .server("trusted_proxies = [\"unix:\"]")
        .route("/", &[origin.addr()], "");
    let (mut process, addr) = ProxyProcess::start(&config.toml());
    process.wait_for_output("the socket it listens on", |line| {
        line.contains(&format!("listening addr=unix:{}", path.display())).then_some(())
    });
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = get_through(&path);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let fields = Echo::parse(body.as_bytes()).fields;
    assert_eq!(fields.all("x-forwarded-for"), ["unknown"]);
    assert_eq!(fields.all("x-forwarded-proto"), ["https"]);
    get(addr, "/x").expect(200);

    // It is taken now, and stays so.
    let directory = TempDir::new();
    let file = directory.file("second.toml", &config.toml());
    let second = ProxyProcess::spawn(program().arg("--config").arg(file)).wait();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(second.output.contains("another program listens there"), "{second:?}");
    get_through(&path);
}

/// Whatever it is, it is somebody's.
fn a_file_in_the_way_of_a_unix_socket_stays(engine: Engine) {
    let directory = TempDir::new();
    let path = directory.file("http.sock", "precious");
    for (path, words) in
        [(path.clone(), "in the way"), (directory.path().join("no/http.sock"), "directory is missing")]
    {
        let config = TestProxy::builder(engine).listen(&format!("\"unix:{}\"", path.display())).route(
            "/",
            &["127.0.0.1:9".into()],
            "",
        );
        let file = directory.file("reverse-proxy.toml", &config.toml());
        let exit = ProxyProcess::spawn(program().arg("--config").arg(file)).wait();
        assert_eq!(exit.status.code(), Some(1), "{exit:?}");
        assert!(exit.output.contains(words), "{exit:?}");
    }
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
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

on_native!(
    limits_hold_for_who_waited_in_a_passed_socket,
    unix_sockets,
    a_file_in_the_way_of_a_unix_socket_stays,
    several_addresses,
    ipv6,
    both_families_on_one_port,
    passed_sockets_lose_nothing_over_a_restart,
    under_load_passed_sockets_lose_nothing_over_restarts,
    the_backlog_is_long,
);
