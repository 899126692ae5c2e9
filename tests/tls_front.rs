//! Clients at `https://`.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reverse_proxy::error::Cause;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};

use crate::support::backend::each_request;
use crate::support::engines::on_native;
use crate::support::process::{ProxyProcess, TempDir, program, program_after};
use crate::support::proxy::Builder;
use crate::support::wire::{Body, Framing, LAST_CHUNK, chunk};
use crate::support::{
    Client, Echo, Engine, Hash, Origin, PATIENCE, Response, ScriptedBackend, Task, TestProxy, hash_of,
    pattern, spawn, wait_for,
};

/// A file of tests/certs.
fn file(name: &str) -> String {
    format!("{}/tests/certs/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn certificate(cert: &str, key: &str) -> String {
    format!("[[certificates]]\ncert = {:?}\nkey = {:?}", file(cert), file(key))
}

fn shop() -> String {
    certificate("shop.pem", "shop.key")
}

const LISTEN: &str = "{ addr = \"127.0.0.1:0\", tls = true }";

/// A proxy that speaks TLS on its one port.
fn front(tables: &str) -> Builder {
    TestProxy::builder(Engine::Native).listen(LISTEN).front(tables)
}

fn start(backend: &str) -> TestProxy {
    front(&shop()).route("/", &[backend.to_owned()], "").start()
}

fn trusting(versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    client_with(versions, None)
}

fn client_with(versions: &[&'static SupportedProtocolVersion], own: Option<&str>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let certificate = CertificateDer::from_pem_file(file(&format!("{name}.pem"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    }
}

/// What trusts the CA of tests/certs, and remembers sessions.
fn trust() -> Arc<ClientConfig> {
    Arc::new(trusting(rustls::ALL_VERSIONS))
}

fn connect(addr: SocketAddr, name: &str) -> Client {
    Client::connect_tls(addr, &trust(), name)
}

fn get(addr: SocketAddr, name: &str) -> Response {
    connect(addr, name).get("/").expect(200)
}

/// The certificate that is shown to whoever asks for `name`, as it is in a file.
#[track_caller]
fn expect_shown(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str, cert: &str) {
    let mut client = Client::connect_tls(addr, config, name);
    client.get("/").expect(200);
    let expected = CertificateDer::from_pem_slice(&std::fs::read(cert).unwrap()).unwrap();
    assert_eq!(client.tls().peer_certificates().unwrap()[0], expected, "{name} is shown {cert}");
}

#[track_caller]
fn expect_handshake_fails(client: &mut Client) -> String {
    let tried = client
        .try_send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .and_then(|()| client.try_response_to("GET").map(|response| response.status()));
    tried.expect_err("a handshake that fails").to_string()
}

fn two_sites_share_a_port(_: Engine) {
    let origin = Origin::echo();
    let tables = format!("{}\n{}", shop(), certificate("other.pem", "other.key"));
    let proxy = front(&tables).route("/", &[origin.addr()], "").start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = Arc::new(trusting(&[version]));
        for (name, cert) in
            [("shop.test", "shop.pem"), ("a.shop.test", "shop.pem"), ("other.test", "other.pem")]
        {
            expect_shown(proxy.addr(), &config, name, &file(cert));
        }
    }
    let mut client = connect(proxy.addr(), "shop.test");
    client
        .send("GET / HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 1\r\n\r\n");
    let echo = Echo::parse(&client.response().expect(200).body);
    assert_eq!(echo.fields.one("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(echo.fields.one("x-forwarded-port"), Some(proxy.addr().port().to_string()));
    assert_eq!(client.tls().alpn_protocol(), None, "nobody has offered any");
    let mut config = trusting(rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = Client::connect_tls(proxy.addr(), &Arc::new(config), "shop.test");
    client.get("/").expect(200);
    assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(proxy.counters().handshakes.load(Ordering::Relaxed), 8);
    assert_eq!(proxy.counters().handshakes_failed.load(Ordering::Relaxed), 0);
    proxy.expect_idle();
}

fn who_names_nobody_known_is_shown_the_first_or_refused(_: Engine) {
    let origin = Origin::echo();
    let tables = format!("{}\n{}", certificate("other.pem", "other.key"), shop());
    let mut proxy = front(&tables).route("/", &[origin.addr()], "").start();
    // Names in a certificate are no addresses, so that none is sent as SNI; which is shown is seen by what is refused.
    let mut by_address = connect(proxy.addr(), "127.0.0.1");
    assert!(expect_handshake_fails(&mut by_address).contains("other.test"));
    let mut unknown = connect(proxy.addr(), "nobody.test");
    assert!(expect_handshake_fails(&mut unknown).contains("other.test"));
    let strict = format!("{tables}\n[tls]\nstrict_sni = true");
    proxy.reload(&front(&strict).route("/", &[origin.addr()], "")).unwrap();
    for name in ["127.0.0.1", "nobody.test"] {
        let error = expect_handshake_fails(&mut connect(proxy.addr(), name));
        assert!(error.contains("alert"), "{error}");
    }
    get(proxy.addr(), "shop.test");
}

fn keys_of_every_kind_fit(_: Engine) {
    let origin = Origin::echo();
    for (cert, key, name) in [
        ("shop.pem", "shop.sec1.key", "shop.test"),
        ("other.pem", "other.pkcs1.key", "other.test"),
        ("chained.pem", "chained.key", "chained.test"),
    ] {
        let proxy = front(&certificate(cert, key)).route("/", &[origin.addr()], "").start();
        get(proxy.addr(), name);
    }
}

fn plain_http_is_told_so(_: Engine) {
    let origin = Origin::echo();
    let proxy = start(&origin.addr());
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "G", "get it, now"] {
        let mut client = Client::connect(proxy.addr());
        client.send(request);
        let response = client.response().expect_failure(400, "bad_request");
        assert!(response.text().contains("TLS is spoken on this port"), "{}", response.text());
        client.expect_fin();
    }
    assert_eq!(origin.requests(), 0);
}

/// Whoever stays in the middle of a handshake takes a place, but no place from others and no thread.
fn half_open_handshakes_disturb_nobody(_: Engine) {
    const SILENT: u64 = 2000;
    const PLACES: u64 = 100;
    let origin = Origin::echo();
    let tables = format!("{}\n[tls]\nmax_handshakes = {PLACES}\nhandshake_timeout_secs = 60", shop());
    let proxy = front(&tables).server("workers = 2").route("/", &[origin.addr()], "").start();
    let hello = hello(b"shop.test");
    let mut silent = Vec::new();
    for number in 0..usize::try_from(SILENT).unwrap() {
        let client = TcpStream::connect(proxy.addr()).unwrap();
        let begun = match number % 3 {
            0 => &b""[..],
            // A record that never ends.
            1 => &hello[..hello.len() / 2],
            // A handshake that has got its answer.
            _ => &hello,
        };
        // Some are given up at once.
        let _ = (&client).write_all(begun);
        silent.push(client);
        if number % 100 == 0 {
            get(proxy.addr(), "shop.test");
        }
    }
    for _ in 0..20 {
        get(proxy.addr(), "shop.test");
    }
    wait_for("all others to be given up", || {
        match proxy.counters().handshakes_failed.load(Ordering::Relaxed) {
            failed if failed >= SILENT - PLACES => Ok(()),
            failed => Err(failed),
        }
    });
}

/// The first flight of a client that asks for `name`, whatever that is.
fn hello(name: &[u8]) -> Vec<u8> {
    const NAMED: &[u8] = b"a-name.test";
    let server = str::from_utf8(NAMED).unwrap().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(trust(), server).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let at = hello.windows(NAMED.len()).position(|part| part == NAMED).unwrap();
    // Record, handshake, version, random; then the id of the session, the suites and the compressions with their lengths.
    let mut extensions = 5 + 4 + 2 + 32;
    extensions += 1 + usize::from(hello[extensions]);
    extensions += 2 + usize::from(u16::from_be_bytes([hello[extensions], hello[extensions + 1]]));
    extensions += 1 + usize::from(hello[extensions]);
    // All lengths that the name is part of: of the record, the handshake, the extensions, this one, its list, the name.
    for place in [3, 7, extensions, at - 7, at - 5, at - 2] {
        let length = u16::from_be_bytes([hello[place], hello[place + 1]]);
        let length = usize::from(length) - NAMED.len() + name.len();
        hello[place..place + 2].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    }
    hello.splice(at..at + NAMED.len(), name.iter().copied());
    hello
}

/// How the proxy answers to these bytes: the type of the first record, and of what is in it.
fn first_answer(addr: SocketAddr, bytes: &[u8]) -> Option<(u8, u8)> {
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // Who has read enough may close before all of it is sent.
    let _ = client.write_all(bytes);
    let mut head = [0; 6];
    match std::io::Read::read_exact(&mut client, &mut head) {
        Ok(()) => Some((head[0], head[5])),
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "neither answered nor closed");
            None
        }
    }
}

const ALERT: u8 = 21;
const SERVER_HELLO: (u8, u8) = (22, 2);

fn what_is_no_handshake_is_refused_at_once(_: Engine) {
    let origin = Origin::echo();
    let tables = format!("{}\n[tls]\nhandshake_timeout_secs = 60", shop());
    let proxy = front(&tables).server("workers = 1").route("/", &[origin.addr()], "").start();
    let good = hello(b"shop.test");
    assert_eq!(first_answer(proxy.addr(), &good), Some(SERVER_HELLO));
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    let kinds: Vec<Vec<u8>> = vec![
        pattern(1, 2000),
        vec![0; 100],
        vec![0xff; 70_000],
        // No record is as long.
        b"\x16\x03\x01\xff\xff".to_vec(),
        // Application data, an alert, a change of ciphers where a handshake has to begin.
        b"\x17\x03\x03\x00\x02hi".to_vec(),
        b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
        b"\x14\x03\x03\x00\x01\x01".repeat(1000),
        b"\x16\x03\x01\x00\x00".repeat(10_000),
        // That of SSL 2.
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".repeat(5),
        // A message of 16 MiB.
        [b"\x16\x03\x01\x40\x00\x01\xff\xff\xff".to_vec(), vec![0; 0x4000 - 4]].concat().repeat(5),
        // Another message, a length that is too short or too long for what is in it.
        changed(5, 2),
        changed(8, good[8] - 1),
        changed(43, 200),
    ];
    for (number, bytes) in kinds.iter().enumerate() {
        let answer = first_answer(proxy.addr(), bytes);
        assert!(answer.is_none_or(|(record, _)| record == ALERT), "number {number}: {answer:?}");
        get(proxy.addr(), "shop.test");
    }
    assert_eq!(origin.requests(), kinds.len());
}

fn names_that_are_none_find_no_site(_: Engine) {
    let origin = Origin::echo();
    let tables = format!("{}\n{}", certificate("other.pem", "other.key"), shop());
    let mut proxy = front(&tables).route("/", &[origin.addr()], "").start();
    let is_refused = |name: &[u8]| {
        let answer = first_answer(proxy.addr(), &hello(name)).expect("an answer");
        assert!(answer == SERVER_HELLO || answer.0 == ALERT, "{answer:?}");
        answer.0 == ALERT
    };
    let longest = [&[b'a'; 60][..]; 4].join(&b'.');
    assert!(!is_refused(b"shop.test"));
    assert!(!is_refused(&longest), "a long one that nobody knows");
    for name in [
        &b""[..],
        b"shop.test\0",
        b"shop\0.test",
        b"shop.test\0.evil.test",
        b"a b",
        b"\xff",
        &[b'a'; 255],
        &[b'.'; 9],
    ] {
        assert!(is_refused(name), "{name:?}");
    }
    // RFC 6066 §3 has no addresses in it. Clients that send one all the same mean nobody in particular.
    for name in [&b"192.0.2.1"[..], b"127.0.0.1"] {
        assert!(!is_refused(name), "{name:?}");
    }
    let strict = format!("{tables}\n[tls]\nstrict_sni = true");
    proxy.reload(&front(&strict).route("/", &[origin.addr()], "")).unwrap();
    for name in [&b"192.0.2.1"[..], &longest] {
        assert_eq!(
            first_answer(proxy.addr(), &hello(name)).map(|(record, _)| record),
            Some(ALERT),
            "{name:?}"
        );
    }
    get(proxy.addr(), "shop.test");
}

/// No extension can be longer than 64 KiB, and no more of one is kept.
fn a_hello_may_be_as_large_as_they_get(_: Engine) {
    let origin = Origin::echo();
    let proxy = start(&origin.addr());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = trusting(&[version]);
        config.alpn_protocols = (0..250).map(|number| vec![number; 250]).collect();
        config.alpn_protocols.push(b"http/1.1".to_vec());
        let config = Arc::new(config);
        let mut client = Client::connect_tls(proxy.addr(), &config, "shop.test");
        client.get("/").expect(200);
        assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut client = Client::connect_tls(byte_by_byte(proxy.addr()), &config, "shop.test");
        client.get("/").expect(200);
    }
}

/// They are sealed with keys that nobody has any more.
fn tickets_from_before_a_restart_are_of_no_use(_: Engine) {
    let origin = Origin::echo();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = Arc::new(trusting(&[version]));
        let kind = |proxy: &TestProxy| {
            let mut client = Client::connect_tls(proxy.addr(), &config, "shop.test");
            client.get("/").expect(200);
            client.tls().handshake_kind().unwrap()
        };
        let proxy = start(&origin.addr());
        assert_eq!((kind(&proxy), kind(&proxy)), (HandshakeKind::Full, HandshakeKind::Resumed));
        drop(proxy);
        let proxy = start(&origin.addr());
        assert_eq!((kind(&proxy), kind(&proxy)), (HandshakeKind::Full, HandshakeKind::Resumed));
    }
}

fn a_handshake_has_a_deadline(_: Engine) {
    let origin = Origin::echo();
    let tables = format!("{}\n[tls]\nhandshake_timeout_secs = 0.3", shop());
    let proxy = front(&tables).route("/", &[origin.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    let begin = Instant::now();
    assert_eq!(client.end().map_err(|error| error.kind()), Ok(()), "nothing is said to who has said nothing");
    assert!(begin.elapsed() >= Duration::from_millis(250));
    assert_eq!(proxy.counters().handshakes_failed.load(Ordering::Relaxed), 1);
    // It is over with the handshake.
    let mut client = connect(proxy.addr(), "shop.test");
    client.get("/").expect(200);
    std::thread::sleep(Duration::from_millis(500));
    client.get("/").expect(200);
}

/// Passes on what comes, one byte at a time in the first direction.
fn byte_by_byte(addr: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap();
    let relay = move || {
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(addr).unwrap();
        server.set_nodelay(true).unwrap();
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        drop(spawn("answers", move || std::io::copy(&mut from, &mut to)));
        for byte in std::io::Read::bytes(client) {
            let Ok(byte) = byte else { return };
            (&server).write_all(&[byte]).unwrap();
            std::thread::yield_now();
        }
    };
    drop(spawn("byte by byte", relay));
    own
}

fn a_handshake_may_come_byte_by_byte(_: Engine) {
    let origin = Origin::echo();
    let proxy = start(&origin.addr());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = Arc::new(trusting(&[version]));
        let mut client = Client::connect_tls(byte_by_byte(proxy.addr()), &config, "shop.test");
        client.get("/").expect(200);
        client.get("/").expect(200);
    }
    proxy.expect_idle();
}

fn bodies_pass_whole(_: Engine) {
    const SIZE: usize = 5_000_000;
    let body = Arc::new(pattern(7, SIZE));
    let answer = Arc::clone(&body);
    let backend = ScriptedBackend::per_connection(each_request(move |conn, request| {
        let mut hash = Hash::new();
        conn.body_pieces(request, |piece| hash.update(piece))?;
        assert_eq!(hash.length(), SIZE as u64, "{:?}", request.fields);
        conn.send_head(&[
            "HTTP/1.1 200 OK",
            &format!("X-Hash: {}", hash.finish()),
            "Transfer-Encoding: chunked",
        ])?;
        for piece in answer.chunks(50_000) {
            conn.send(&chunk(piece))?;
        }
        conn.send(LAST_CHUNK)
    }));
    let proxy = start(&backend.addr());
    let mut client = connect(proxy.addr(), "shop.test");
    for is_chunked in [false, true] {
        let framing = if is_chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {SIZE}")
        };
        client.send(format!("POST / HTTP/1.1\r\nHost: shop.test\r\n{framing}\r\n\r\n"));
        if is_chunked {
            body.chunks(70_000).for_each(|piece| client.send(chunk(piece)));
            client.send(LAST_CHUNK);
        } else {
            client.send(&body[..]);
        }
        let (head, hash) = client.hashed_response();
        assert_eq!(head.fields.one("x-hash"), Some(hash_of(&body)));
        assert_eq!(hash.finish(), hash_of(&body));
    }
    proxy.expect_idle();
}

/// Large bodies of known length would go through pipes without TLS.
fn a_large_answer_of_known_length_passes_to_a_slow_client(_: Engine) {
    const SIZE: usize = 3_000_000;
    let backend = ScriptedBackend::per_connection(each_request(move |conn, _| {
        conn.send_head(&["HTTP/1.1 200 OK", &format!("Content-Length: {SIZE}")])?;
        conn.send(&pattern(3, SIZE))
    }));
    let proxy = start(&backend.addr());
    let mut client = Client::with_small_window(proxy.addr()).with_tls(&trust(), "shop.test");
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    let head = client.head("GET");
    let (mut rest, mut hash) = (Body::new(head.framing), Hash::new());
    let begin = Instant::now();
    while let Some(piece) = client.piece(&mut rest).unwrap() {
        hash.update(&piece);
        // For a second some is taken now and then, though never much.
        if begin.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert_eq!(hash.finish(), hash_of(&pattern(3, SIZE)));
}

fn the_end_is_announced(_: Engine) {
    let origin = Origin::echo();
    let proxy = start(&origin.addr());
    let mut client = connect(proxy.addr(), "shop.test");
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
    client.response().expect(200);
    // Without a close_notify this would be an error.
    client.expect_fin();
    let mut client = connect(proxy.addr(), "shop.test");
    client.send("nonsense\r\n\r\n");
    client.response().expect_failure(400, "bad_request");
    client.expect_fin();
    // That of a client, too.
    let mut client = connect(proxy.addr(), "shop.test");
    client.get("/").expect(200);
    client.close_notify();
    client.expect_fin();
}

/// An answer that ends with its connection and broke off must not look whole.
fn an_answer_that_broke_off_is_not_announced_as_whole(_: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 100"])?;
        conn.send(b"a part")
    });
    let proxy = start(&backend.addr());
    let mut client = connect(proxy.addr(), "shop.test");
    client.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n");
    assert!(client.response().broken.is_some());
    // As long as the backend itself has no length to say, only the end of TLS can tell.
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"])?;
        conn.send(&chunk(b"a part"))
    });
    let proxy = start(&backend.addr());
    let mut client = connect(proxy.addr(), "shop.test");
    client.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n");
    let response = client.response();
    assert_eq!(response.head.framing, Framing::UntilClose);
    assert!(response.broken.is_some(), "{response:?}");
}

/// A request body without its end, and without the end of TLS, reaches no backend as if it were whole.
fn a_truncated_request_is_none(_: Engine) {
    let origin = Origin::echo();
    let proxy = start(&origin.addr());
    for is_announced in [false, true] {
        let mut client = connect(proxy.addr(), "shop.test");
        client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunk(b"a part"));
        if is_announced {
            client.close_notify();
        }
        client.truncate();
        let _ = client.try_response_to("POST");
    }
    proxy.expect_count(Cause::ClientLeft, 2);
    proxy.expect_idle();
}

/// TLS 1.3 lets either side go on when the other has said that it sends no more (RFC 8446 §6.1).
fn a_client_that_has_announced_its_end_gets_its_answer(_: Engine) {
    let origin = Origin::echo();
    let proxy = start(&origin.addr());
    let mut client = connect(proxy.addr(), "shop.test");
    client.get("/").expect(200);
    client.send("GET /last HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    client.close_notify();
    assert_eq!(Echo::parse(&client.response().expect(200).body).target, "/last");
    client.expect_fin();
}

/// What it has not taken is given up, and it cannot take what it has got for the whole.
fn a_client_that_does_not_read_is_cut(_: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 200 OK", "Connection: close"])?;
        let piece = pattern(1, 100_000);
        loop {
            conn.send(&piece)?;
        }
    });
    let proxy = front(&shop()).server("write_timeout_secs = 0.3").route("/", &[backend.addr()], "").start();
    let mut client = Client::with_small_window(proxy.addr()).with_tls(&trust(), "shop.test");
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    proxy.expect_count(Cause::WriteTimeout, 1);
    let begin = Instant::now();
    assert!(client.response().broken.is_some());
    assert!(begin.elapsed() < Duration::from_secs(4), "nobody waits for it to take the rest");
    proxy.expect_idle();
}

/// More than TLS and the kernel take at once.
fn a_large_answer_of_the_proxy_comes_whole(_: Engine) {
    let (directory, page) = (TempDir::new(), pattern(1, 1 << 20));
    let path = directory.path().join("large");
    std::fs::write(&path, &page).unwrap();
    let respond = format!("respond = {{ file = {path:?} }}");
    let proxy = front(&shop()).answering_route("/", &respond).start();
    let mut client = Client::with_small_window(proxy.addr()).with_tls(&trust(), "shop.test");
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n".repeat(6));
    for _ in 0..6 {
        assert!(client.response().expect(200).body == page, "not what is in the file");
    }
}

fn an_upgrade_becomes_a_tunnel(_: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send_head(&["HTTP/1.1 101 Switching Protocols", "Upgrade: echo", "Connection: upgrade"])?;
        while let Some(bytes) = conn.bytes()? {
            conn.send(&bytes)?;
        }
        conn.send(b"bye")
    });
    let proxy = start(&backend.addr());
    let mut client = connect(proxy.addr(), "shop.test");
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly");
    assert_eq!(client.head("GET").status, 101);
    let expect = |client: &mut Client, expected: &[u8]| {
        let (mut body, mut seen) = (Body::new(Framing::Length(expected.len() as u64)), Vec::new());
        while let Some(piece) = client.piece(&mut body).unwrap() {
            seen.extend_from_slice(&piece);
        }
        assert!(seen == expected, "{} bytes", seen.len());
    };
    expect(&mut client, b"early");
    for size in [1, 1000, 100_000] {
        let bytes = pattern(size as u64, size);
        client.send(&bytes);
        expect(&mut client, &bytes);
    }
    client.close_notify();
    expect(&mut client, b"bye");
    client.expect_fin();
    proxy.expect_idle();
}

/// There is nobody to answer before the handshake, and none is made for that.
fn beyond_max_connections_per_client_it_is_closed(_: Engine) {
    let origin = Origin::echo();
    let proxy =
        front(&shop()).server("max_connections_per_client = 1").route("/", &[origin.addr()], "").start();
    let mut inside = connect(proxy.addr(), "shop.test");
    inside.get("/").expect(200);
    Client::connect(proxy.addr()).expect_fin();
    proxy.expect_counted(Cause::TooManyConnections, 1);
    inside.get("/").expect(200);
}

/// On both sides, over the same code.
fn tls_on_both_sides(_: Engine) {
    let backend = ScriptedBackend::tls(
        crate::tls::server("loopback"),
        each_request(|conn, request| {
            let mut hash = Hash::new();
            conn.body_pieces(request, |piece| hash.update(piece))?;
            let hash = hash.finish();
            conn.send_head(&["HTTP/1.1 200 OK", &format!("Content-Length: {}", hash.len())])?;
            conn.send(hash.as_bytes())
        }),
    );
    let proxy = front(&shop()).route("/", &[backend.addr()], &crate::tls::trusting("")).start();
    let mut client = connect(proxy.addr(), "shop.test");
    let body = pattern(1, 1_000_000);
    for _ in 0..3 {
        client.send(format!("PUT / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        assert_eq!(client.response_to("PUT").expect(200).text(), hash_of(&body));
    }
}

/// Copies a pair to where the proxy looks for it, as programs that renew certificates do.
fn install(dir: &Path, cert: &str, key: &str) {
    for (from, to) in [(key, "key.pem"), (cert, "cert.pem")] {
        let new = dir.join(format!("{to}.new"));
        std::fs::copy(file(from), &new).unwrap();
        std::fs::rename(new, dir.join(to)).unwrap();
    }
}

fn installed(dir: &Path) -> String {
    format!("[[certificates]]\ncert = {:?}\nkey = {:?}", dir.join("cert.pem"), dir.join("key.pem"))
}

fn a_reload_replaces_a_certificate_under_load(_: Engine) {
    let origin = Origin::echo();
    let dir = TempDir::new();
    install(dir.path(), "shop.pem", "shop.key");
    let builder = front(&installed(dir.path())).route("/", &[origin.addr()], "");
    let mut proxy = builder.clone().start();
    let addr = proxy.addr();
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let is_over = Arc::clone(&is_over);
            spawn("a client", move || {
                let config = trust();
                let mut kept = Client::connect_tls(addr, &config, "shop.test");
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) || count < 10 {
                    kept.get("/").expect(200);
                    // Some resume, others do not.
                    if number % 2 == 0 {
                        get(addr, "shop.test")
                    } else {
                        kept.get("/").expect(200)
                    };
                    Client::connect_tls(addr, &config, "a.shop.test").get("/").expect(200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    expect_shown(addr, &trust(), "shop.test", &file("shop.pem"));
    let before = trust();
    Client::connect_tls(addr, &before, "shop.test").get("/").expect(200);
    for (cert, key) in [("shop-renewed.pem", "shop-renewed.key"), ("shop.pem", "shop.key")].repeat(3) {
        install(dir.path(), cert, key);
        proxy.reload(&builder).unwrap();
        expect_shown(addr, &trust(), "shop.test", &file(cert));
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(clients.into_iter().map(Task::join).sum::<i32>() >= 40);
    let mut resumed = Client::connect_tls(addr, &before, "shop.test");
    resumed.get("/").expect(200);
    assert_eq!(resumed.tls().handshake_kind(), Some(HandshakeKind::Resumed), "tickets outlive a reload");
    proxy.expect_one_snapshot();
}

fn new_files_are_seen_and_bad_ones_are_not_taken(_: Engine) {
    let origin = Origin::echo();
    let dir = TempDir::new();
    install(dir.path(), "shop.pem", "shop.key");
    let proxy = front(&installed(dir.path())).route("/", &[origin.addr()], "").start();
    let expect_soon = |cert: &str| {
        let expected = CertificateDer::from_pem_file(file(cert)).unwrap();
        wait_for("the other certificate", || {
            let mut client = connect(proxy.addr(), "shop.test");
            client.get("/").expect(200);
            let shown = client.tls().peer_certificates().unwrap()[0].clone();
            if shown == expected { Ok(()) } else { Err(shown) }
        });
    };
    install(dir.path(), "shop-renewed.pem", "shop-renewed.key");
    expect_soon("shop-renewed.pem");
    let refused = &proxy.counters().certificates_refused;
    let before = refused.load(Ordering::Relaxed);
    // A key that is not its key.
    install(dir.path(), "shop.pem", "other.key");
    wait_for("the refusal", || match refused.load(Ordering::Relaxed) {
        now if now > before => Ok(()),
        now => Err(now),
    });
    expect_shown(proxy.addr(), &trust(), "shop.test", &file("shop-renewed.pem"));
    install(dir.path(), "shop.pem", "shop.key");
    expect_soon("shop.pem");
    assert!(proxy.counters().certificates_renewed.load(Ordering::Relaxed) >= 2);
}

fn plain_listeners_redirect_and_serve_challenges(_: Engine) {
    let origin = Origin::echo();
    let dir = TempDir::new();
    dir.file("a-Token_1", "a-Token_1.thumb");
    let tables = format!("{}\n[tls]\nacme_challenge_dir = {:?}", shop(), dir.path());
    let listen = format!("[{{ addr = \"127.0.0.1:0\", https_redirect = true }}, {LISTEN}, \"127.0.0.1:0\"]");
    let proxy = front(&tables).listen(&listen).route("/", &[origin.addr()], "hsts_secs = 300").start();
    let addrs = proxy.addrs();
    let (redirecting, tls, plain) = (addrs[0], addrs[1], addrs[2]);
    let mut client = Client::connect(redirecting);
    for (method, target) in [("GET", "/a/b?c=%20d"), ("HEAD", "/"), ("OPTIONS", "/x"), ("DELETE", "/y")] {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: shop.test:{}\r\n\r\n", redirecting.port()));
        let response = client.response_to(method).expect(308);
        let location = format!("https://shop.test:{}{target}", tls.port());
        assert_eq!(response.fields().one("location"), Some(location));
        assert!(!response.fields().has("strict-transport-security"));
    }
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello");
    let response = client.response_to("POST").expect(308);
    assert_eq!(response.fields().one("location").as_deref(), Some("https://shop.test/"));
    let mut old = Client::connect(redirecting);
    old.send("GET / HTTP/1.0\r\n\r\n");
    old.response().expect_failure(400, "bad_host");
    for addr in [redirecting, plain] {
        let mut client = Client::connect(addr);
        let answer = client.get("/.well-known/acme-challenge/a-Token_1").expect(200);
        assert_eq!(answer.text(), "a-Token_1.thumb");
        for other in ["none", "", "a-Token_1/", "..%2fx", "%61-Token_2"] {
            client.get(&format!("/.well-known/acme-challenge/{other}")).expect_failure(404, "no_route");
        }
    }
    assert_eq!(origin.requests(), 0);
    let answer = crate::support::get(plain, "/").expect(200);
    assert!(!answer.fields().has("strict-transport-security"));
    let answer = get(tls, "shop.test");
    assert_eq!(answer.fields().one("strict-transport-security").as_deref(), Some("max-age=300"));
    // There it is what any path is.
    connect(tls, "shop.test").get("/.well-known/acme-challenge/a-Token_1").expect(200);
    assert_eq!(origin.requests(), 3);
}

fn what_a_backend_says_of_hsts_stays(_: Engine) {
    let backend = ScriptedBackend::answering(
        "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=5\r\nContent-Length: 0\r\n\r\n",
    );
    let proxy = front(&shop()).route("/", &[backend.addr()], "hsts_secs = 300").start();
    let answer = get(proxy.addr(), "shop.test");
    assert_eq!(answer.fields().one("strict-transport-security").as_deref(), Some("max-age=5"));
}

fn answers_of_the_proxy_itself_have_hsts_too(_: Engine) {
    let backend = ScriptedBackend::answering("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    let respond = "respond = { headers = { Strict-Transport-Security = \"max-age=5\" } }\nhsts_secs = 300";
    let proxy = front(&shop())
        .listen(&format!("[{LISTEN}, \"127.0.0.1:0\"]"))
        .answering_route("/moved", "redirect = { to = \"https://shop.test/\" }\nhsts_secs = 300")
        .answering_route("/own", respond)
        .answering_route("/denied", "respond = {}\ndeny = [\"127.0.0.1\"]\nhsts_secs = 300")
        .answering_route("/none", "respond = {}")
        .route("/failing", &[backend.addr()], "intercept_errors = [\"5xx\"]\nhsts_secs = 300")
        .start();
    let mut client = connect(proxy.addr(), "shop.test");
    for (target, status, expected) in [
        ("/moved", 308, &["max-age=300"][..]),
        ("/own", 200, &["max-age=5"]),
        ("/denied", 403, &["max-age=300"]),
        ("/none", 200, &[]),
        ("/failing", 500, &["max-age=300"]),
    ] {
        let answer = client.get(target).expect(status);
        assert_eq!(answer.fields().all("strict-transport-security"), expected, "{target}");
        let plain = crate::support::get(proxy.addrs()[1], target);
        let own: &[&str] = if target == "/own" { expected } else { &[] };
        assert_eq!(plain.fields().all("strict-transport-security"), own, "{target}");
    }
}

fn clients_can_be_asked_for_certificates(_: Engine) {
    let origin = Origin::echo();
    let tables =
        |auth: &str| format!("{}\n[tls]\nclient_ca = {:?}\nclient_auth = {auth:?}", shop(), file("ca.pem"));
    let builder = |auth: &str| front(&tables(auth)).route("/", &[origin.addr()], "");
    let mut proxy = builder("request").start();
    let addr = proxy.addr();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        proxy.reload(&builder("request")).unwrap();
        let unknown = Arc::new(trusting(&[version]));
        let known = Arc::new(client_with(&[version], Some("client")));
        // Its certificate is not one of a client.
        let wrong = Arc::new(client_with(&[version], Some("other")));
        let foreign = Arc::new(client_with(&[version], Some("odd")));
        Client::connect_tls(addr, &unknown, "shop.test").get("/").expect(200);
        Client::connect_tls(addr, &known, "shop.test").get("/").expect(200);
        for config in [&wrong, &foreign] {
            expect_handshake_fails(&mut Client::connect_tls(addr, config, "shop.test"));
        }
        proxy.reload(&builder("require")).unwrap();
        Client::connect_tls(addr, &known, "shop.test").get("/").expect(200);
        for config in [&unknown, &wrong, &foreign] {
            let error = expect_handshake_fails(&mut Client::connect_tls(addr, config, "shop.test"));
            assert!(error.contains("alert"), "who is refused learns why: {error}");
        }
    }
    assert!(proxy.counters().handshakes_failed.load(Ordering::Relaxed) >= 10);
    let tables = format!("{}\n[tls]\nclient_ca = {:?}", shop(), file("client-expired.pem"));
    proxy.reload(&front(&tables).route("/", &[origin.addr()], "")).unwrap();
    let expired = Arc::new(client_with(rustls::ALL_VERSIONS, Some("client-expired")));
    let error = expect_handshake_fails(&mut Client::connect_tls(addr, &expired, "shop.test"));
    assert!(error.contains("alert") && error.to_lowercase().contains("expired"), "{error}");
}

/// As `openssl x509 -subject -fingerprint -nameopt RFC2253` has it. There is a line end in the name.
const ODD: &str = "C=DE,O=M\\C3\\BCller \\+ S\\C3\\B6hne\\; \\0D\\0AX-Admin: yes,CN=\\#1 \\\"a\\,b\\\"";
const ODD_SHA256: &str = "7b7c766a75a6edd240c576925e85ce4891beffb229b6b3955c660326a2f83fe0";

fn backends_are_told_whose_certificate_it_is(_: Engine) {
    const FALSE: &str = "X-Client-Cert-Subject: CN=admin\r\nx_client-cert_subject: CN=admin\r\n\
                         X-Client-Cert-Fingerprint: 00\r\nX-User: CN=admin\r\nX-Client-Cert: mine\r\n";
    let origin = Origin::echo();
    let rules = "request_headers = { set = { X-User = \"{tls_client_subject}|{tls_client_fingerprint}\" } }\n\
                 response_headers = { set = { X-You = \"{tls_client_fingerprint}\" } }";
    let builder = |keys: &str| {
        let tables = format!(
            "{}\n[tls]\nclient_ca = {:?}\nclient_auth = \"request\"\n{keys}",
            shop(),
            file("odd.pem")
        );
        let listen = format!("[{LISTEN}, \"127.0.0.1:0\"]");
        front(&tables).listen(&listen).route("/", &[origin.addr()], rules)
    };
    let mut proxy = builder("client_cert_headers = true").start();
    let (secured, plain) = (proxy.addrs()[0], proxy.addrs()[1]);
    let ask = |client: &mut Client| {
        client.send(format!("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: x-user\r\n{FALSE}\r\n"));
        let response = client.response().expect(200);
        (Echo::parse(&response.body).fields, response.fields().one("x-you").unwrap())
    };
    let expect = |client: &mut Client, is_known: bool| {
        let (fields, you) = ask(client);
        let shown = |text: &str| is_known.then(|| text.to_owned());
        assert_eq!(fields.one("x-client-cert-subject"), shown(ODD));
        assert_eq!(fields.one("x-client-cert-fingerprint"), shown(ODD_SHA256));
        assert!(!fields.has("x_client-cert_subject"), "{fields:?}");
        assert_eq!(fields.one("x-client-cert").as_deref(), Some("mine"), "that is no field of ours");
        let (subject, sha256) = if is_known { (ODD, ODD_SHA256) } else { ("", "") };
        assert_eq!(fields.one("x-user"), Some(format!("{subject}|{sha256}")));
        assert_eq!(you, sha256);
    };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let known = Arc::new(client_with(&[version], Some("odd")));
        let unknown = Arc::new(trusting(&[version]));
        for (config, is_known) in [(known, true), (unknown, false)] {
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut client = Client::connect_tls(secured, &config, "shop.test");
                expect(&mut client, is_known);
                expect(&mut client, is_known);
                assert_eq!(client.tls().handshake_kind(), Some(kind));
            }
        }
    }
    expect(&mut Client::connect(plain), false);
    proxy.reload(&builder("")).unwrap();
    let known = Arc::new(client_with(rustls::ALL_VERSIONS, Some("odd")));
    let (fields, you) = ask(&mut Client::connect_tls(secured, &known, "shop.test"));
    assert_eq!(fields.one("x-client-cert-subject").as_deref(), Some("CN=admin"), "nobody has asked for it");
    assert_eq!(you, ODD_SHA256);
}

fn sticky_cookies_stay_with_tls(_: Engine) {
    let origin = Origin::echo();
    let listen = format!("[{LISTEN}, \"127.0.0.1:0\"]");
    let builder = |server: &str| {
        let keys = "sticky_cookie = { name = \"stick\" }";
        front(&shop()).server(server).listen(&listen).route("/", &[origin.addr()], keys)
    };
    let mut proxy = builder("").start();
    let (secured, plain) = (proxy.addrs()[0], proxy.addrs()[1]);
    let is_secure = |mut client: Client, fields: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n"));
        let cookie = client.response().expect(200).fields().one("set-cookie").unwrap();
        assert!(cookie.starts_with("stick="), "{cookie}");
        cookie.split("; ").any(|part| part == "Secure")
    };
    assert!(is_secure(connect(secured, "shop.test"), ""));
    assert!(!is_secure(Client::connect(plain), ""));
    assert!(!is_secure(Client::connect(plain), "X-Forwarded-Proto: https\r\n"), "anybody can say that");
    proxy.reload(&builder("trusted_proxies = [\"127.0.0.1\"]")).unwrap();
    assert!(is_secure(Client::connect(plain), "X-Forwarded-Proto: https\r\n"));
    assert!(!is_secure(Client::connect(plain), "X-Forwarded-Proto: http\r\n"));
}

fn a_connection_is_for_the_sites_of_its_certificate(_: Engine) {
    let origin = Origin::echo();
    let tables = format!("{}\n{}", shop(), certificate("other.pem", "other.key"));
    let proxy = front(&tables).route("/", &[origin.addr()], "").start();
    let ask = |target: &str, host: &str| {
        let mut client = connect(proxy.addr(), "shop.test");
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.response()
    };
    for host in ["shop.test", "SHOP.test:443", "b.shop.test", "unknown.test", "127.0.0.1"] {
        ask("/", host).expect(200);
    }
    ask("https://shop.test/a", "shop.test").expect(200);
    for (target, host) in [("/", "other.test"), ("/", "OTHER.test.:1"), ("https://other.test/", "shop.test")]
    {
        ask(target, host).expect_failure(421, "misdirected");
    }
}

fn old_versions_can_be_refused(_: Engine) {
    let origin = Origin::echo();
    let tables = format!("{}\n[tls]\nmin_version = \"1.3\"", shop());
    let proxy = front(&tables).route("/", &[origin.addr()], "").start();
    get(proxy.addr(), "shop.test");
    let old = Arc::new(trusting(&[&rustls::version::TLS12]));
    let error = expect_handshake_fails(&mut Client::connect_tls(proxy.addr(), &old, "shop.test"));
    assert!(error.contains("alert"), "{error}");
}

/// Where the others are seen, too: status, metrics, the access log.
#[test]
#[cfg(feature = "admin")]
fn certificates_and_versions_are_shown() {
    use crate::support::send_once;
    let (origin, directory) = (Origin::echo(), TempDir::new());
    let log = directory.path().join("access.log");
    let tables = format!(
        "{}\n[access_log]\npath = {log:?}\nformat = \"json\"\n[admin]\nlisten_addr = \"127.0.0.1:0\"\n",
        shop()
    );
    let proxy = front(&tables).route("/", &[origin.addr()], "").start();
    get(proxy.addr(), "shop.test").expect(200);
    let admin = proxy.admin_addr().expect("an admin listener");
    let ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        send_once(admin, request).expect(200).text()
    };
    let metrics = ask("/metrics");
    assert!(metrics.contains("\nreverse_proxy_certificate_not_after_timestamp_seconds{cert=\""), "{metrics}");
    for counter in ["certificates_renewed", "certificates_refused"] {
        assert!(metrics.contains(&format!("\nreverse_proxy_{counter}_total 0.0\n")), "{metrics}");
    }
    assert!(ask("/status.json").contains("\"certificates_refused\":0"));
    assert!(ask("/status.json").contains("\"certificates\":[{\"cert\":\""));
    let line = wait_for("the line", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.ends_with('\n') { Ok(text) } else { Err(text) }
    });
    assert!(line.contains("\"version\":\"1.1\",\"tls\":\"1.3\""), "{line}");
}

fn a_drain_lets_requests_end(_: Engine) {
    let origin = Origin::echo();
    let proxy = front(&shop()).shutdown_timeout("10").route("/", &[origin.addr()], "").start();
    let addr = proxy.addr();
    let mut idle = connect(addr, "shop.test");
    idle.get("/").expect(200);
    let mut held = connect(addr, "shop.test");
    held.send("GET /hold HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    wait_for("the request to be held", || if origin.held() == 1 { Ok(()) } else { Err(()) });
    // In the middle of its handshake.
    let half = TcpStream::connect(addr).unwrap();
    (&half).write_all(b"\x16\x03\x01").unwrap();
    let begin = Instant::now();
    let drain = proxy.drain();
    idle.expect_fin();
    origin.release();
    let response = held.response().expect(200);
    assert_eq!(response.fields().one("connection").as_deref(), Some("close"));
    held.expect_fin();
    drop(held);
    assert_eq!(drain.join(), 0);
    assert!(begin.elapsed() < Duration::from_secs(8), "nobody waited for a handshake");
}

fn listeners_change_to_tls_and_back(_: Engine) {
    let origin = Origin::echo();
    let mut proxy = TestProxy::to(Engine::Native, &[origin.addr()], "");
    let addr = proxy.addr();
    let mut kept = Client::connect(addr);
    kept.get("/").expect(200);
    proxy.reload(&front(&shop()).route("/", &[origin.addr()], "")).unwrap();
    wait_for("TLS to be spoken", || {
        let mut client = connect(addr, "shop.test");
        client.set_patience(PATIENCE);
        let sent = client.try_send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        sent.and_then(|()| client.try_response_to("GET")).map(drop)
    });
    kept.get("/").expect(200);
    let mut secured = connect(addr, "shop.test");
    secured.get("/").expect(200);
    proxy.reload(&TestProxy::builder(Engine::Native).route("/", &[origin.addr()], "")).unwrap();
    wait_for("TLS to be spoken no more", || {
        let mut client = Client::connect(addr);
        client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        match client.try_response_to("GET") {
            Ok(response) if response.status() == 200 => Ok(()),
            other => Err(other.map_err(|error| error.kind() == ErrorKind::TimedOut)),
        }
    });
    secured.get("/").expect(200);
    assert_eq!(proxy.addr(), addr);
}

fn explanations_know_of_it(_: Engine) {
    let dir = TempDir::new();
    let listen =
        "[{ addr = \"127.0.0.1:80\", https_redirect = true }, { addr = \"127.0.0.1:8443\", tls = true }]";
    let tables = format!(
        "{}\n[tls]\nacme_challenge_dir = {:?}\nclient_ca = {:?}\nclient_cert_headers = true",
        shop(),
        dir.path(),
        file("ca.pem")
    );
    let config = front(&tables).listen(listen).route("/", &["127.0.0.1:9".to_owned()], "").toml();
    let path = dir.file("reverse-proxy.toml", &config);
    for (request, words) in [
        ("GET http://shop.test/a", &["308", "https_redirect"][..]),
        ("GET http://shop.test/.well-known/acme-challenge/x", &["200", "acme_challenge_dir"]),
        ("GET https://shop.test/a", &["x-forwarded-proto", "https", "x-forwarded-port", "8443"]),
        ("GET https://shop.test/a", &["x-client-cert-subject", "SUBJECT", "of the client's certificate, if"]),
        ("GET /a", &["308", "https_redirect"]),
    ] {
        let arguments = ["--explain", request, "-H", "Host: shop.test"];
        let mut command = program();
        let exit = ProxyProcess::spawn(command.arg("--config").arg(&path).args(arguments)).wait();
        assert!(exit.status.success(), "{exit:?}");
        assert!(words.iter().all(|word| exit.output.contains(word)), "{request} {words:?}\n{}", exit.output);
    }
}

fn passed_sockets_and_reloads_by_signal(_: Engine) {
    let origin = Origin::echo();
    let dir = TempDir::new();
    install(dir.path(), "shop.pem", "shop.key");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let config = front(&installed(dir.path())).listen(&format!("{{ addr = \"{addr}\", tls = true }}"));
    let config = config.route("/", &[origin.addr()], "");
    let mut command = program_after("exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1");
    command.stdin(std::os::fd::OwnedFd::from(listener));
    let (mut process, _) = ProxyProcess::start_with(&config.toml(), command);
    expect_shown(addr, &trust(), "shop.test", &file("shop.pem"));
    install(dir.path(), "shop-renewed.pem", "shop-renewed.key");
    process.signal(rustix::process::Signal::HUP);
    process.wait_for_output("the reload", |line| line.contains("reloaded snapshot=2").then_some(()));
    expect_shown(addr, &trust(), "shop.test", &file("shop-renewed.pem"));
    // The key of another one: nothing is reloaded, and the file that is seen to have changed is not taken.
    install(dir.path(), "shop.pem", "other.key");
    process.signal(rustix::process::Signal::HUP);
    let refusal = "is not the key of the certificate in";
    process.wait_for_output("the refusal", |line| {
        (line.contains("certificates[0].key") && line.contains(refusal)).then_some(())
    });
    process.wait_for_output("that it was seen", |line| {
        (line.contains("certificate not replaced") && line.contains(refusal)).then_some(())
    });
    expect_shown(addr, &trust(), "shop.test", &file("shop-renewed.pem"));
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().status.code(), Some(0));
}

on_native!(
    explanations_know_of_it,
    passed_sockets_and_reloads_by_signal,
    two_sites_share_a_port,
    who_names_nobody_known_is_shown_the_first_or_refused,
    keys_of_every_kind_fit,
    plain_http_is_told_so,
    half_open_handshakes_disturb_nobody,
    what_is_no_handshake_is_refused_at_once,
    names_that_are_none_find_no_site,
    a_hello_may_be_as_large_as_they_get,
    tickets_from_before_a_restart_are_of_no_use,
    a_handshake_has_a_deadline,
    a_handshake_may_come_byte_by_byte,
    bodies_pass_whole,
    a_large_answer_of_known_length_passes_to_a_slow_client,
    the_end_is_announced,
    an_answer_that_broke_off_is_not_announced_as_whole,
    a_truncated_request_is_none,
    a_client_that_has_announced_its_end_gets_its_answer,
    a_client_that_does_not_read_is_cut,
    a_large_answer_of_the_proxy_comes_whole,
    an_upgrade_becomes_a_tunnel,
    tls_on_both_sides,
    beyond_max_connections_per_client_it_is_closed,
    a_reload_replaces_a_certificate_under_load,
    new_files_are_seen_and_bad_ones_are_not_taken,
    plain_listeners_redirect_and_serve_challenges,
    what_a_backend_says_of_hsts_stays,
    answers_of_the_proxy_itself_have_hsts_too,
    clients_can_be_asked_for_certificates,
    backends_are_told_whose_certificate_it_is,
    sticky_cookies_stay_with_tls,
    a_connection_is_for_the_sites_of_its_certificate,
    old_versions_can_be_refused,
    a_drain_lets_requests_end,
    listeners_change_to_tls_and_back,
);
