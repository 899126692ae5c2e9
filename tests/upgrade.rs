//! Upgrades: after a 101 the proxy is a wire between two sockets, whatever is spoken on it.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tungstenite::{Message, WebSocket, client::IntoClientRequest};

use crate::support::backend::Conn;
use crate::support::engines::{on_native, on_native_over_tls};
use crate::support::wire::Body;
use crate::support::{
    Client, Echo, Engine, Framing, Origin, PATIENCE, ScriptedBackend, TestProxy, get, pattern, wait_for,
};

/// A WebSocket server that sends back what it gets.
fn websocket_echo() -> ScriptedBackend {
    ScriptedBackend::per_connection(|conn| {
        let stream = conn.stream()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let Ok(mut socket) = tungstenite::accept(stream) else { return Ok(()) };
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                socket.send(message).expect("send an echo");
            }
        }
        Ok(())
    })
}

fn websocket(addr: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(addr).expect("connect to the proxy");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
    let request = "ws://proxy.test/chat?room=1".into_client_request().expect("a request");
    tungstenite::client(request, stream).expect("a WebSocket").0
}

fn a_websocket_echoes(engine: Engine) {
    let backend = websocket_echo();
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut socket = websocket(proxy.addr());
    for number in 0..100 {
        let text = Message::text(format!("message {number}"));
        socket.send(text.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), text);
    }
    for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        let binary = Message::binary(pattern(size as u64, size));
        socket.send(binary.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), binary);
    }
    socket.send(Message::Ping("are you there".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("are you there".into()));
    let frame = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    socket.close(Some(frame)).unwrap();
    assert!(matches!(socket.read().unwrap(), Message::Close(Some(frame)) if frame.code == CloseCode::Normal));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    // The server has closed; until the client does so as well, one direction is still open.
    drop(socket);
    proxy.expect_idle();
}

fn many_at_once(engine: Engine) {
    let backend = websocket_echo();
    // More than there are workers.
    let proxy = TestProxy::builder(engine)
        .server("workers = 2")
        .route("/", &[backend.addr()], "max_in_flight = 1000")
        .start();
    let mut sockets: Vec<_> = (0..20).map(|_| websocket(proxy.addr())).collect();
    for round in 0..3 {
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.send(Message::text(format!("{round} {number}"))).unwrap();
        }
        for (number, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.read().unwrap(), Message::text(format!("{round} {number}")));
        }
    }
    proxy.expect_in_flight(&backend.addr(), 20);
    drop(sockets);
    proxy.expect_idle();
}

const ASK: &str = "GET /up HTTP/1.1\r\nHost: proxy.test\r\nConnection: Upgrade\r\nUpgrade: wire/1\r\n\r\n";
const AGREE: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: wire/1\r\nX-Mine: kept\r\n\r\n";

/// A backend that agrees to any upgrade and goes on by `then`. Anything else is answered with an empty 200.
fn agreeing(then: impl Fn(Conn) -> std::io::Result<()> + Send + Sync + 'static) -> ScriptedBackend {
    ScriptedBackend::per_connection(move |mut conn| {
        while let Some(request) = conn.request()? {
            if request.fields.has("upgrade") {
                assert_eq!(request.fields.all("upgrade"), ["wire/1"]);
                assert_eq!(request.fields.all("connection").join(",").to_lowercase(), "upgrade");
                conn.send(AGREE.as_bytes())?;
                return then(conn);
            }
            conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0"])?;
        }
        Ok(())
    })
}

/// Asks for a tunnel and gets it.
fn open(addr: SocketAddr) -> Client {
    let mut client = Client::connect(addr);
    client.send(ASK);
    let head = client.any_head("GET").expect("an answer").expect("an answer");
    assert_eq!(head.status, 101, "{head:?}");
    assert_eq!(head.fields.all("upgrade"), ["wire/1"]);
    assert_eq!(head.fields.all("connection").join(",").to_lowercase(), "upgrade");
    assert_eq!(head.fields.all("x-mine"), ["kept"]);
    assert!(!head.fields.has("content-length") && !head.fields.has("transfer-encoding"), "{head:?}");
    client
}

#[track_caller]
fn expect_bytes(client: &mut Client, wanted: &[u8]) {
    let (mut body, mut bytes) = (Body::new(Framing::Length(wanted.len() as u64)), Vec::new());
    while let Some(piece) = client.piece(&mut body).expect("bytes through the tunnel") {
        bytes.extend(piece);
    }
    assert!(bytes == wanted, "other bytes than were sent: {:?}", String::from_utf8_lossy(&bytes));
}

/// Either side may speak before it has heard the other.
fn bytes_behind_the_heads_are_not_lost(engine: Engine) {
    for size in [5, 200_000] {
        let early = pattern(1, size);
        let same = early.clone();
        let backend = ScriptedBackend::per_connection(move |mut conn| {
            conn.request()?;
            conn.send(&[AGREE.as_bytes(), &same].concat())?;
            assert!(conn.exactly(same.len())? == same, "the client's first bytes");
            conn.send(b"end")
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let mut client = Client::connect(proxy.addr());
        client.send([ASK.as_bytes(), &early].concat());
        assert_eq!(client.any_head("GET").unwrap().unwrap().status, 101);
        expect_bytes(&mut client, &early);
        expect_bytes(&mut client, b"end");
        client.expect_fin();
        drop(client);
        proxy.expect_idle();
    }
}

fn large_volumes_pass_both_ways_at_once(engine: Engine) {
    const SIZE: usize = 8 * 1024 * 1024;
    let backend = agreeing(|mut conn| {
        let mut writer = conn.stream()?;
        let sending = crate::support::spawn("sender", move || {
            std::io::Write::write_all(&mut writer, &pattern(7, SIZE)).expect("send through the tunnel");
        });
        assert!(conn.exactly(SIZE)? == pattern(8, SIZE), "what the client sent");
        sending.join();
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = open(proxy.addr());
    let mut writer = client.stream();
    let sending = crate::support::spawn("sender", move || {
        std::io::Write::write_all(&mut writer, &pattern(8, SIZE)).expect("send through the tunnel");
    });
    expect_bytes(&mut client, &pattern(7, SIZE));
    sending.join();
    client.expect_fin();
    drop(client);
    proxy.expect_idle();
}

/// One side has nothing more to say; the other one goes on.
fn half_closes_are_passed_on(engine: Engine) {
    let backend = agreeing(|mut conn| {
        assert_eq!(conn.rest()?, b"all I have to say");
        conn.send(b"an answer to that")
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = open(proxy.addr());
    client.send("all I have to say");
    client.finish();
    expect_bytes(&mut client, b"an answer to that");
    client.expect_fin();
    proxy.expect_idle();

    let backend = agreeing(|mut conn| {
        conn.send(b"all I have to say")?;
        conn.stream()?.shutdown(std::net::Shutdown::Write)?;
        assert_eq!(conn.rest()?, b"an answer to that");
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = open(proxy.addr());
    expect_bytes(&mut client, b"all I have to say");
    client.expect_fin();
    // The proxy would notice within half a second, if it took this for the end.
    std::thread::sleep(Duration::from_millis(700));
    client.send("an answer to that");
    client.finish();
    proxy.expect_idle();
}

/// The backend's last bytes reach a client that has half-closed and takes its time to read.
fn what_a_backend_sent_before_it_ended_is_not_lost(engine: Engine) {
    const SIZE: usize = 6 * 1024 * 1024;
    let backend = agreeing(|mut conn| {
        assert_eq!(conn.rest()?, b"tell me all");
        conn.send(&pattern(9, SIZE))
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::with_small_window(proxy.addr());
    client.send(ASK);
    assert_eq!(client.any_head("GET").expect("an answer").expect("an answer").status, 101);
    client.send("tell me all");
    client.finish();
    let (mut body, mut bytes) = (Body::new(Framing::Length(SIZE as u64)), Vec::new());
    while let Some(piece) = client.piece(&mut body).expect("bytes through the tunnel") {
        bytes.extend(piece);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(bytes == pattern(9, SIZE));
    client.expect_fin();
    proxy.expect_idle();
}

/// A tunnel that stands shows that its backend is in order again.
fn a_tunnel_counts_as_success(engine: Engine) {
    let mut backend = agreeing(|mut conn| conn.hang());
    let other = agreeing(|mut conn| conn.hang());
    let keys = "max_fails = 1\nfail_timeout_secs = 0.2\nidle_timeout_secs = 60";
    let proxy = TestProxy::to(engine, &[backend.addr(), other.addr()], keys);
    backend.stop();
    let mut clients = vec![open(proxy.addr()), open(proxy.addr())];
    proxy.expect_in_flight(&other.addr(), 2);
    backend.restart(|mut conn| {
        conn.request()?;
        conn.send(AGREE.as_bytes())?;
        conn.hang()
    });
    std::thread::sleep(Duration::from_millis(300));
    clients.extend((0..6).map(|_| open(proxy.addr())));
    proxy.expect_in_flight(&backend.addr(), 3);
}

fn either_side_may_end_it(engine: Engine) {
    let backend = agreeing(|mut conn| conn.hang());
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    for (number, reset) in [(1, false), (2, true)] {
        let client = open(proxy.addr());
        proxy.expect_in_flight(&backend.addr(), 1);
        client.leave(reset);
        proxy.expect_idle();
        wait_for("the backend's connection to be closed", || match backend.ended() {
            ended if ended == number => Ok(()),
            ended => Err(ended),
        });
    }
    for reset in [false, true] {
        let backend = agreeing(move |mut conn| {
            conn.exactly(4)?;
            if reset {
                conn.reset();
            }
            Ok(())
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], "");
        let mut client = open(proxy.addr());
        client.send("stop");
        client.end().expect("the end of the connection");
        drop(client);
        proxy.expect_idle();
    }
}

/// A backend that stays with HTTP: the answer is one like any other, and so is the connection.
fn another_answer_is_forwarded_as_usual(engine: Engine) {
    let origin = Origin::echo();
    let refusing = ScriptedBackend::answering(
        "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: wire/2\r\nContent-Length: 2\r\n\r\nno",
    );
    let proxy = TestProxy::builder(engine)
        .route("/", &[origin.addr()], "")
        .route("/refusing", &[refusing.addr()], "")
        .start();
    let mut client = Client::connect(proxy.addr());
    for _ in 0..3 {
        client.send(ASK);
        let echo = Echo::parse(&client.response().expect(200).body);
        assert_eq!(echo.target, "/up");
        assert_eq!(echo.fields.all("upgrade"), ["wire/1"]);
        client.send(ASK.replace("/up", "/refusing"));
        assert_eq!(client.response().expect(426).text(), "no");
        client.get("/next").expect(200);
    }
    proxy.expect_idle();
    assert!(origin.connections() < 6, "{} connections for 6 requests", origin.connections());
}

/// A POST that asks for an upgrade brings its body first.
fn the_body_of_the_request_comes_first(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        let Some(request) = conn.request()? else { return Ok(()) };
        assert_eq!(conn.body(&request)?, b"body");
        conn.send(AGREE.as_bytes())?;
        assert_eq!(conn.exactly(4)?, b"more");
        conn.send(b"end")
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    let ask = ASK.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbodymore");
    client.send(ask);
    assert_eq!(client.any_head("POST").unwrap().unwrap().status, 101);
    expect_bytes(&mut client, b"end");
    client.expect_fin();
}

fn what_is_no_upgrade_is_not_passed_on(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: wire/1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUpgrade: wire/1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: wire/1, H2C\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: wire/1\r\n\r\n",
    ] {
        let mut client = Client::connect(proxy.addr());
        client.send(request);
        let echo = Echo::parse(&client.response().expect(200).body);
        assert!(!echo.fields.has("upgrade"), "passed on: {request:?}");
        let connection = echo.fields.all("connection").join(",").to_lowercase();
        assert!(!connection.contains("upgrade"), "Connection: {connection} from {request:?}");
        assert!(!echo.fields.has("http2-settings"));
    }
}

/// Beyond such an answer nothing would be HTTP any more, and nobody asked for that.
fn a_101_that_nobody_asked_for_is_502(engine: Engine) {
    let backend = ScriptedBackend::answering(AGREE);
    let proxy = TestProxy::to(engine, &[backend.addr()], "retries = 0");
    get(proxy.addr(), "/").expect_failure(502, "bad_response");
    proxy.expect_idle();
}

fn no_more_than_max_tunnels(engine: Engine) {
    let backend = agreeing(|mut conn| conn.hang());
    let proxy =
        TestProxy::builder(engine).server("max_tunnels = 2").route("/", &[backend.addr()], "").start();
    let first = open(proxy.addr());
    let _second = open(proxy.addr());
    let mut third = Client::connect(proxy.addr());
    third.send(ASK);
    let refused = third.response().expect_failure(503, "tunnels_full");
    assert!(refused.fields().has("retry-after"));
    third.get("/else").expect(200);
    drop(first);
    // The place is free when the tunnel has ended; nobody is told when that is.
    wait_for("a place for another tunnel", || {
        let mut client = Client::connect(proxy.addr());
        client.send(ASK);
        match client.any_head("GET").expect("an answer").expect("an answer").status {
            101 => Ok(()),
            status => Err(status),
        }
    });
    proxy.expect_in_flight(&backend.addr(), 1);
}

fn silence_ends_it(engine: Engine) {
    let backend = agreeing(|mut conn| {
        for _ in 0..6 {
            conn.exactly(1)?;
        }
        conn.hang()
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "idle_timeout_secs = 0.5");
    let mut client = open(proxy.addr());
    // Traffic in either direction keeps it open.
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(150));
        client.send("x");
    }
    assert!(!client.is_closed(), "closed while it was in use");
    let started = Instant::now();
    client.end().expect("the end of the connection");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(350) && took < Duration::from_secs(4), "ended after {took:?}");
    proxy.expect_idle();
    wait_for("the backend's connection to be closed", || if backend.ended() == 1 { Ok(()) } else { Err(()) });
}

fn the_drain_waits_for_tunnels_and_ends_them_at_its_deadline(engine: Engine) {
    let backend = agreeing(|mut conn| conn.hang());
    let proxy = TestProxy::builder(engine).shutdown_timeout("0.5").route("/", &[backend.addr()], "").start();
    let mut clients = [open(proxy.addr()), open(proxy.addr())];
    let started = Instant::now();
    assert_eq!(proxy.drain().join(), 2, "tunnels cut off");
    assert!(started.elapsed() >= Duration::from_millis(500), "ended after {:?}", started.elapsed());
    for client in &mut clients {
        client.end().expect("the end of the connection");
    }
    wait_for(
        "the backend's connections to be closed",
        || if backend.ended() == 2 { Ok(()) } else { Err(()) },
    );

    let proxy = TestProxy::builder(engine).shutdown_timeout("30").route("/", &[backend.addr()], "").start();
    let client = open(proxy.addr());
    let addr = proxy.addr();
    let drain = proxy.drain();
    wait_for("new connections to be refused", || Client::try_connect(addr).map_or(Ok(()), Err));
    assert!(drain.is_running(), "the drain did not wait for the tunnel");
    drop(client);
    assert_eq!(drain.join(), 0, "tunnels cut off");
}

/// A tunnel sleeps for as long as it may be silent, and yet the drain does not wait for that.
fn the_drain_wakes_tunnels_whatever_they_wait_for(engine: Engine) {
    let silent = agreeing(|mut conn| conn.hang());
    let (over, until_over) = std::sync::mpsc::channel::<()>();
    let until_over = std::sync::Mutex::new(until_over);
    let patient = agreeing(move |mut conn| {
        conn.rest()?;
        // Nothing comes: until the test lets go of the other end.
        let _ = until_over.lock().unwrap().recv();
        Ok(())
    });
    let ended = agreeing(|mut conn| {
        conn.stream()?.shutdown(std::net::Shutdown::Write)?;
        conn.hang()
    });
    let flooding = agreeing(|mut conn| {
        let flood = pattern(3, 1024 * 1024);
        while conn.send(&flood).is_ok() {}
        Ok(())
    });
    let proxy = TestProxy::builder(engine)
        .shutdown_timeout("0.1")
        .route("/", &[silent.addr()], "idle_timeout_secs = 600")
        .route("/patient", &[patient.addr()], "idle_timeout_secs = 600")
        .route("/ended", &[ended.addr()], "idle_timeout_secs = 600")
        .route("/flooding", &[flooding.addr()], "idle_timeout_secs = 600")
        .start();
    let mut clients = vec![open(proxy.addr())];
    for path in ["/patient", "/ended", "/flooding"] {
        let mut client = Client::connect(proxy.addr());
        client.send(ASK.replace("/up", path));
        assert_eq!(client.any_head("GET").expect("an answer").expect("an answer").status, 101);
        if path == "/patient" {
            client.finish();
        }
        clients.push(client);
    }
    // Longer than they stay half awake.
    std::thread::sleep(Duration::from_millis(1200));
    let started = Instant::now();
    assert_eq!(proxy.drain().join(), 4, "tunnels cut off");
    assert!(started.elapsed() < Duration::from_secs(5), "ended after {:?}", started.elapsed());
    drop((clients, over));
}

/// The memory a tunnel has given back while nobody spoke is there again when somebody does.
fn after_a_silence_it_goes_on(engine: Engine) {
    let backend = agreeing(|mut conn| {
        for size in [10, 100_000, 10] {
            assert!(conn.exactly(size)? == pattern(4, size), "what the client sent");
            conn.send(&pattern(5, size))?;
        }
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = open(proxy.addr());
    for size in [10, 100_000, 10] {
        std::thread::sleep(Duration::from_millis(1100));
        client.send(pattern(4, size));
        expect_bytes(&mut client, &pattern(5, size));
    }
    client.expect_fin();
    drop(client);
    proxy.expect_idle();
}

/// Without places for tunnels, and where the other protocol is TLS, the request is one like any other.
#[track_caller]
fn expect_ordinary(proxy: &TestProxy, origin: &Origin, ask: &str) {
    let mut client = Client::connect(proxy.addr());
    for number in 1..=3 {
        client.send(ask);
        let echo = Echo::parse(&client.response().expect(200).body);
        assert_eq!(echo.target, "/up");
        assert!(!echo.fields.has("upgrade") && !echo.fields.has("connection"), "{:?}", echo.fields);
        assert_eq!(origin.requests(), number);
    }
    client.send("POST /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(Echo::parse(&client.response_to("POST").expect(200).body).framing, "length 4");
    assert_eq!(origin.connections(), 1);
    proxy.expect_idle();
}

fn without_tunnels_it_is_an_ordinary_request(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine).server("max_tunnels = 0").route("/", &[origin.addr()], "").start();
    expect_ordinary(&proxy, &origin, ASK);
}

fn an_upgrade_to_tls_is_an_ordinary_request(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    expect_ordinary(&proxy, &origin, &ASK.replace("wire/1", "TLS/1.0"));
}

fn an_upgrade_that_is_not_granted_costs_no_connection(engine: Engine) {
    let origin = Origin::echo();
    // One place: who was not granted a tunnel has given it back.
    let proxy = TestProxy::builder(engine).server("max_tunnels = 1").route("/", &[origin.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    for _ in 0..5 {
        client.send(ASK);
        let echo = Echo::parse(&client.response().expect(200).body);
        assert_eq!(echo.fields.all("upgrade"), ["wire/1"]);
        proxy.expect_idle();
        client.get("/next").expect(200);
        proxy.expect_idle();
    }
    assert_eq!(origin.connections(), 1);
}

on_native!(
    without_tunnels_it_is_an_ordinary_request,
    an_upgrade_to_tls_is_an_ordinary_request,
    an_upgrade_that_is_not_granted_costs_no_connection,
    a_websocket_echoes,
    many_at_once,
    bytes_behind_the_heads_are_not_lost,
    large_volumes_pass_both_ways_at_once,
    half_closes_are_passed_on,
    what_a_backend_sent_before_it_ended_is_not_lost,
    a_tunnel_counts_as_success,
    either_side_may_end_it,
    another_answer_is_forwarded_as_usual,
    the_body_of_the_request_comes_first,
    what_is_no_upgrade_is_not_passed_on,
    a_101_that_nobody_asked_for_is_502,
    no_more_than_max_tunnels,
    silence_ends_it,
    after_a_silence_it_goes_on,
    the_drain_waits_for_tunnels_and_ends_them_at_its_deadline,
    the_drain_wakes_tunnels_whatever_they_wait_for,
);

on_native_over_tls!(
    without_tunnels_it_is_an_ordinary_request,
    an_upgrade_to_tls_is_an_ordinary_request,
    an_upgrade_that_is_not_granted_costs_no_connection,
    bytes_behind_the_heads_are_not_lost,
    half_closes_are_passed_on,
    what_a_backend_sent_before_it_ended_is_not_lost,
    a_tunnel_counts_as_success,
    either_side_may_end_it,
    another_answer_is_forwarded_as_usual,
    the_body_of_the_request_comes_first,
    what_is_no_upgrade_is_not_passed_on,
    a_101_that_nobody_asked_for_is_502,
    no_more_than_max_tunnels,
    silence_ends_it,
    after_a_silence_it_goes_on,
    the_drain_waits_for_tunnels_and_ends_them_at_its_deadline,
    the_drain_wakes_tunnels_whatever_they_wait_for,
);
