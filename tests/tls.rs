//! Backends at `https://`.

use std::io::Result;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig, SupportedProtocolVersion};

use crate::support::backend::{Conn, Request, each_request};
use crate::support::engines::on_native;
use crate::support::process::{ProxyProcess, TempDir, program};
use crate::support::wire::{Body, LAST_CHUNK, chunk};
use crate::support::{
    Client, Engine, Framing, Gate, Hash, Origin, PATIENCE, ScriptedBackend, TestProxy, get, hash_of, pattern,
    wait_for,
};

/// A file of tests/certs.
fn file(name: &str) -> String {
    format!("{}/tests/certs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The key `tls` of a route that trusts the CA of tests/certs.
pub fn trusting(more: &str) -> String {
    format!("tls = {{ ca = {:?}{more} }}", file("ca.pem"))
}

/// A server with one of the certificates of tests/certs.
pub fn server(leaf: &str) -> Arc<ServerConfig> {
    server_speaking(leaf, rustls::ALL_VERSIONS)
}

fn server_speaking(leaf: &str, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(file(&format!("{leaf}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(file(&format!("{leaf}.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Answers with the hash of what it has received.
fn answer(conn: &mut Conn, request: &Request) -> Result<()> {
    let mut hash = Hash::new();
    conn.body_pieces(request, |piece| hash.update(piece))?;
    let body = hash.finish();
    conn.send_head(&["HTTP/1.1 200 OK", &format!("Content-Length: {}", body.len())])?;
    conn.send(body.as_bytes())
}

fn backend(leaf: &str) -> ScriptedBackend {
    ScriptedBackend::tls(server(leaf), each_request(answer))
}

fn a_request_and_its_answer_pass(engine: Engine) {
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let backend = ScriptedBackend::tls(server("loopback"), move |mut conn| {
        let alpn = conn.tls()?.alpn_protocol().map(<[u8]>::to_vec);
        let Some(request) = conn.request()? else { return Ok(()) };
        let host = request.fields.one("host");
        *note.lock().unwrap() = Some((alpn, host, request.fields.one("x-forwarded-proto")));
        answer(&mut conn, &request)
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], &trusting(""));
    let mut client = Client::connect(proxy.addr());
    client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response_to("POST").expect(200).text(), hash_of(b"hello"));
    let host = backend.addr().trim_start_matches("https://").to_owned();
    let expected = (Some(b"http/1.1".to_vec()), Some(host), Some("http".to_owned()));
    assert_eq!(seen.lock().unwrap().take(), Some(expected), "ALPN, Host and how the client came in");
    proxy.expect_idle();
}

/// With TLS 1.3, session tickets come after the handshake and make the socket of an idle connection readable.
fn one_handshake_serves_many_requests(engine: Engine) {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let backend = ScriptedBackend::tls(server_speaking("loopback", &[version]), each_request(answer));
        let proxy = TestProxy::to(engine, &[backend.addr()], &trusting(""));
        let mut client = Client::connect(proxy.addr());
        for _ in 0..20 {
            client.get("/").expect(200);
        }
        assert_eq!(backend.connections(), 1, "{version:?}");
    }
}

/// What TLS says for itself on an idle connection does not make it unusable; what HTTP says does.
fn an_idle_connection_survives_new_keys_but_no_stray_bytes(engine: Engine) {
    for (stray, connections) in [(&b""[..], 1), (b"HTTP/1.1 408 Request Timeout\r\n\r\n", 5)] {
        let sent = Arc::new(Mutex::new(0));
        let count = Arc::clone(&sent);
        let script = each_request(move |conn, request| {
            answer(conn, request)?;
            conn.tls()?.refresh_traffic_keys().unwrap();
            conn.send(stray)?;
            *count.lock().unwrap() += 1;
            Ok(())
        });
        let backend = ScriptedBackend::tls(server_speaking("loopback", &[&rustls::version::TLS13]), script);
        let proxy = TestProxy::to(engine, &[backend.addr()], &trusting(""));
        let mut client = Client::connect(proxy.addr());
        for number in 1..=5 {
            assert_eq!(client.get("/").expect(200).text(), hash_of(b""));
            wait_for("the backend to say more", || match *sent.lock().unwrap() {
                sent if sent == number => Ok(()),
                sent => Err(sent),
            });
        }
        assert_eq!(backend.connections(), connections);
    }
}

fn later_connections_resume_the_session(engine: Engine) {
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&kinds);
    let backend = ScriptedBackend::tls(server("loopback"), move |mut conn| {
        while let Some(request) = conn.request()? {
            note.lock().unwrap().push(conn.tls()?.handshake_kind());
            answer(&mut conn, &request)?;
        }
        Ok(())
    });
    let keys = format!("keepalive_connections = 0\n{}", trusting(""));
    let proxy = TestProxy::to(engine, &[backend.addr()], &keys);
    for _ in 0..3 {
        get(proxy.addr(), "/").expect(200);
    }
    let (full, resumed) = (Some(HandshakeKind::Full), Some(HandshakeKind::Resumed));
    assert_eq!(*kinds.lock().unwrap(), [full, resumed, resumed]);
}

#[track_caller]
fn expect_refused(engine: Engine, leaf: &str, tls: &str) {
    let backend = backend(leaf);
    let proxy = TestProxy::to(engine, &[backend.addr()], &format!("{tls}\nmax_fails = 0"));
    let response = get(proxy.addr(), "/").expect_failure(502, "tls_failed");
    let status = response.fields().one("proxy-status").unwrap();
    assert!(status.contains("tls_certificate_error"), "{leaf}, {tls}: {status}");
    assert_eq!(backend.requests(), 0, "{leaf}, {tls}");
    proxy.expect_idle();
}

fn a_certificate_that_is_not_good_is_502(engine: Engine) {
    expect_refused(engine, "loopback", &format!("tls = {{ ca = {:?} }}", file("stranger.pem")));
    expect_refused(engine, "named", &trusting(""));
    expect_refused(engine, "loopback", &trusting(", server_name = \"backend.test\""));
    expect_refused(engine, "expired", &trusting(""));
}

/// What `openssl req -x509` makes says of itself that it is a CA's. Given as `ca` it is trusted all the same, for its own
/// names only.
fn a_self_signed_certificate_can_be_pinned(engine: Engine) {
    let backend = backend("self-signed");
    let pinned = format!("tls = {{ ca = {:?} }}", file("self-signed.pem"));
    let proxy = TestProxy::to(engine, &[backend.addr()], &pinned);
    get(proxy.addr(), "/").expect(200);
    expect_refused(engine, "self-signed", &trusting(""));
    let other_name = format!("tls = {{ ca = {:?}, server_name = \"other.test\" }}", file("self-signed.pem"));
    expect_refused(engine, "self-signed", &other_name);
}

fn the_server_name_can_be_told(engine: Engine) {
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let backend = ScriptedBackend::tls(server("named"), move |mut conn| {
        *note.lock().unwrap() = conn.tls()?.server_name().map(str::to_owned);
        let Some(request) = conn.request()? else { return Ok(()) };
        answer(&mut conn, &request)
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], &trusting(", server_name = \"backend.test\""));
    get(proxy.addr(), "/").expect(200);
    assert_eq!(seen.lock().unwrap().as_deref(), Some("backend.test"));
}

fn a_host_name_is_verified(engine: Engine) {
    let backend = backend("loopback");
    let addr = backend.addr().replace("127.0.0.1", "localhost");
    let proxy = TestProxy::to(engine, &[addr], &trusting(""));
    get(proxy.addr(), "/").expect(200);
}

fn any_certificate_will_do_where_nobody_verifies(engine: Engine) {
    for leaf in ["named", "expired"] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let backend = ScriptedBackend::tls(server_speaking(leaf, &[version]), each_request(answer));
            let proxy = TestProxy::to(engine, &[backend.addr()], "tls = { insecure_skip_verify = true }");
            get(proxy.addr(), "/").expect(200);
        }
    }
}

/// Nothing of a request is sent before the backend has shown who it is: even a POST goes to another one.
fn a_refused_backend_is_replaced(engine: Engine) {
    let (bad, good) = (backend("expired"), backend("loopback"));
    let keys = format!("max_fails = 0\n{}", trusting(""));
    let proxy = TestProxy::to(engine, &[bad.addr(), good.addr()], &keys);
    let mut client = Client::connect(proxy.addr());
    for _ in 0..6 {
        client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.response_to("POST").expect(200).text(), hash_of(b"hello"));
    }
    assert_eq!((bad.requests(), good.requests()), (0, 6));
    assert!(bad.connections() > 0);
}

fn plain_backends_may_stand_beside(engine: Engine) {
    let plain = ScriptedBackend::per_connection(each_request(answer));
    let tls = backend("loopback");
    let proxy = TestProxy::to(engine, &[plain.addr(), tls.addr()], &trusting(""));
    for _ in 0..4 {
        get(proxy.addr(), "/").expect(200);
    }
    assert_eq!((plain.requests(), tls.requests()), (2, 2));
}

fn large_bodies_pass_unchanged(engine: Engine) {
    const SIZE: usize = 8 * 1024 * 1024;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let script = each_request(|conn, request| {
            let body = conn.body(request)?;
            conn.send_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"])?;
            for piece in body.chunks(10_007) {
                conn.send(&chunk(piece))?;
            }
            conn.send(LAST_CHUNK)
        });
        let backend = ScriptedBackend::tls(server_speaking("loopback", &[version]), script);
        let proxy = TestProxy::to(engine, &[backend.addr()], &trusting(""));
        let mut client = Client::connect(proxy.addr());
        for seed in 0..2 {
            let body = pattern(seed, SIZE);
            client.send(format!("PUT / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {SIZE}\r\n\r\n"));
            client.send(&body);
            let (head, hash) = client.hashed_response();
            assert_eq!((head.status, head.framing), (200, Framing::Chunked));
            assert_eq!(hash.finish(), hash_of(&body), "{version:?}");
        }
        assert_eq!(backend.connections(), 1);
    }
}

fn a_chunk_arrives_before_the_body_ends(engine: Engine) {
    let arrived = Gate::new();
    let gate = arrived.clone();
    let backend = ScriptedBackend::tls(server("loopback"), move |mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
        gate.wait("the client to receive the first bytes while the body goes on");
        // Several records in one go: what is decrypted but not read yet must not wait for the socket.
        for _ in 0..100 {
            conn.send(b"3\r\none\r\n")?;
        }
        conn.send(LAST_CHUNK)
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], &trusting(""));
    let mut client = Client::connect(proxy.addr());
    client.set_patience(PATIENCE / 2);
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let head = client.head("GET");
    let mut body = Body::new(head.framing);
    assert_eq!(client.piece(&mut body).unwrap().unwrap(), b"first");
    arrived.open();
    let mut rest = Vec::new();
    while let Some(piece) = client.piece(&mut body).unwrap() {
        rest.extend(piece);
    }
    assert_eq!(rest, b"one".repeat(100));
}

/// Whoever can cut the connection must not be able to shorten a body without being noticed.
fn an_end_that_is_not_announced_is_a_truncation(engine: Engine) {
    for announced in [true, false] {
        let arrived = Gate::new();
        let gate = arrived.clone();
        let backend = ScriptedBackend::tls(server("loopback"), move |mut conn| {
            conn.request()?;
            conn.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")?;
            gate.wait("the client to receive what there is");
            if announced { conn.close_notify() } else { Ok(()) }
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], &trusting(""));
        let mut client = Client::connect(proxy.addr());
        client.set_patience(std::time::Duration::from_secs(1));
        client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        let head = client.head("GET");
        let mut body = Body::new(head.framing);
        assert_eq!(client.piece(&mut body).unwrap().unwrap(), b"all of it");
        arrived.open();
        let end = client.piece(&mut body);
        assert_eq!(end.is_ok(), announced, "{end:?}");
        assert!(matches!(end, Ok(None) | Err(_)), "{end:?}");
        proxy.expect_idle();
    }
}

fn a_backend_that_hangs_up_before_its_answer_is_502(engine: Engine) {
    for announced in [true, false] {
        let backend = ScriptedBackend::tls(server("loopback"), move |mut conn| {
            conn.request()?;
            if announced { conn.close_notify() } else { Ok(()) }
        });
        let proxy = TestProxy::to(engine, &[backend.addr()], &format!("retries = 0\n{}", trusting("")));
        get(proxy.addr(), "/").expect_failure(502, "backend_closed");
    }
}

fn a_handshake_that_hangs_is_504(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let keys = format!("retries = 0\nconnect_timeout_secs = 0.3\n{}", trusting(""));
    let proxy = TestProxy::to(engine, &[format!("https://{}", backend.addr())], &keys);
    get(proxy.addr(), "/").expect_failure(504, "connect_timeout");
    proxy.expect_idle();
}

/// Neither time-out is renewed by a byte now and then.
fn a_backend_that_drips_its_records_is_504(engine: Engine) {
    let backend = ScriptedBackend::tls(server("loopback"), |mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nX-Long: ")?;
        loop {
            conn.send(b"x")?;
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    let keys = format!("retries = 0\nresponse_timeout_secs = 0.5\n{}", trusting(""));
    let proxy = TestProxy::to(engine, &[backend.addr()], &keys);
    get(proxy.addr(), "/").expect_failure(504, "response_timeout");

    // One byte of a handshake record that never ends.
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.send(b"\x16\x03\x03\x40\x00")?;
        loop {
            conn.send(b"\x02")?;
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    let keys = format!("retries = 0\nconnect_timeout_secs = 0.5\n{}", trusting(""));
    let proxy = TestProxy::to(engine, &[format!("https://{}", backend.addr())], &keys);
    let response = get(proxy.addr(), "/");
    assert!([502, 504].contains(&response.status()), "{response:?}");
}

fn a_backend_without_tls_is_502(engine: Engine) {
    let plain = ScriptedBackend::per_connection(|mut conn| {
        conn.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
        conn.hang()
    });
    let closing = ScriptedBackend::per_connection(|mut conn| {
        conn.bytes()?;
        Ok(())
    });
    for backend in [plain, closing] {
        let addr = format!("https://{}", backend.addr());
        let proxy = TestProxy::to(engine, &[addr], &format!("retries = 0\n{}", trusting("")));
        let response = get(proxy.addr(), "/").expect_failure(502, "tls_failed");
        let status = response.fields().one("proxy-status").unwrap();
        assert!(status.contains("tls_protocol_error"), "{status}");
    }
}

fn health_checks_speak_tls(engine: Engine) {
    let (good, bad) = (backend("loopback"), backend("expired"));
    let keys = format!(
        "health_check = {{ path = \"/health\", interval_secs = 0.05 }}\nretries = 0\n{}",
        trusting("")
    );
    let proxy = TestProxy::to(engine, &[good.addr(), bad.addr()], &keys);
    wait_for("the bad certificate to be noticed", || {
        let failed = (0..10).filter(|_| get(proxy.addr(), "/").status() != 200).count();
        if failed == 0 { Ok(()) } else { Err(failed) }
    });
    let proxy = TestProxy::to(engine, &[bad.addr()], &keys);
    wait_for("the last backend to be left", || match get(proxy.addr(), "/").status() {
        503 => Ok(()),
        status => Err(status),
    });
    assert_eq!(bad.requests(), 0);
}

/// The backend answers, and neither reads the upload nor closes.
fn an_early_answer_ends_the_upload(engine: Engine) {
    const SIZE: usize = 32 * 1024 * 1024;
    let backend = ScriptedBackend::tls(server("loopback"), |mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nenof")?;
        std::thread::sleep(PATIENCE / 10);
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], &trusting(""));
    let mut client = Client::connect(proxy.addr());
    client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {SIZE}\r\n\r\n"));
    // The proxy may close once it has answered.
    drop(client.try_send(pattern(1, SIZE)));
    assert_eq!(client.response_to("POST").expect(413).text(), "enof");
    proxy.expect_idle();
}

/// A client that pauses in its upload does not make the proxy take a session ticket for an answer.
fn a_slow_upload_is_not_taken_for_answered(engine: Engine) {
    let backend = backend("loopback");
    let proxy = TestProxy::to(engine, &[backend.addr()], &trusting(""));
    let mut client = Client::connect(proxy.addr());
    let body = pattern(5, 600_000);
    client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {}\r\n\r\n", body.len()));
    for piece in body.chunks(200_000) {
        client.send(piece);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(client.response_to("POST").expect(200).text(), hash_of(&body));
}

on_native!(
    a_request_and_its_answer_pass,
    one_handshake_serves_many_requests,
    an_idle_connection_survives_new_keys_but_no_stray_bytes,
    later_connections_resume_the_session,
    a_certificate_that_is_not_good_is_502,
    a_self_signed_certificate_can_be_pinned,
    the_server_name_can_be_told,
    a_host_name_is_verified,
    any_certificate_will_do_where_nobody_verifies,
    a_refused_backend_is_replaced,
    plain_backends_may_stand_beside,
    large_bodies_pass_unchanged,
    a_chunk_arrives_before_the_body_ends,
    an_end_that_is_not_announced_is_a_truncation,
    a_backend_that_hangs_up_before_its_answer_is_502,
    a_handshake_that_hangs_is_504,
    a_backend_that_drips_its_records_is_504,
    a_backend_without_tls_is_502,
    health_checks_speak_tls,
    an_early_answer_ends_the_upload,
    a_slow_upload_is_not_taken_for_answered,
);

/// Only the native engine has tunnels.
#[test]
fn an_upgrade_becomes_a_tunnel() {
    const SIZE: usize = 2 * 1024 * 1024;
    let backend = ScriptedBackend::tls(server("loopback"), |mut conn| {
        let request = conn.request()?.expect("a request");
        assert_eq!(request.fields.one("upgrade").as_deref(), Some("test"));
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\nhello")?;
        // Echoes until the client has no more, then says good-bye.
        while let Some(bytes) = conn.bytes()? {
            conn.send(&bytes)?;
        }
        conn.send(b"bye")?;
        conn.close_notify()
    });
    let proxy = TestProxy::to(Engine::Native, &[backend.addr()], &trusting(""));
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n");
    let head = client.head("GET");
    assert_eq!(head.status, 101);
    let body = pattern(9, SIZE);
    let (mut stream, mut received) = (Body::new(Framing::UntilClose), Vec::new());
    for piece in body.chunks(64 * 1024) {
        client.send(piece);
        while received.len() < "hello".len() + piece.len() {
            received.extend(client.piece(&mut stream).unwrap().unwrap());
        }
        received.drain(..piece.len());
    }
    client.finish();
    while let Some(piece) = client.piece(&mut stream).unwrap() {
        received.extend(piece);
    }
    assert_eq!(received.len(), "hellobye".len());
    assert!(received.ends_with(b"bye"));
    proxy.expect_idle();
}

/// Only the native engine sees a client leave.
#[test]
fn a_client_that_leaves_ends_the_handshake() {
    let backend = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let keys = format!("retries = 0\nconnect_timeout_secs = 600\n{}", trusting(""));
    let proxy = TestProxy::to(Engine::Native, &[format!("https://{}", backend.addr())], &keys);
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the proxy to connect", || match backend.connections() {
        0 => Err(()),
        _ => Ok(()),
    });
    drop(client);
    wait_for("the connection to be given up", || match backend.ended() {
        0 => Err(()),
        _ => Ok(()),
    });
    proxy.expect_idle();
}

/// What an operator sees: the CA certificates of the system are found, the warning, the reason of a failed probe.
#[test]
fn the_log_says_what_matters() {
    let (good, bad) = (backend("loopback"), backend("expired"));
    let directory = TempDir::new();
    let config = format!(
        "listen_addr = \"127.0.0.1:0\"\n\
         [[routes]]\nprefix = \"/system\"\nbackend_addrs = [{:?}]\n\
         [[routes]]\nprefix = \"/bad\"\nbackend_addrs = [{:?}]\n\
         health_check = {{ path = \"/\", interval_secs = 5 }}\n{}\n\
         [[routes]]\nprefix = \"/any\"\nbackend_addrs = [{:?}]\ntls = {{ insecure_skip_verify = true }}\n",
        good.addr(),
        bad.addr(),
        trusting(""),
        bad.addr(),
    );
    let path = directory.file("reverse-proxy.toml", &config);
    let mut process =
        ProxyProcess::spawn(program().env("SSL_CERT_FILE", file("ca.pem")).arg("--config").arg(path));
    let addr = process.wait_for_output("the address it listens on", |line| {
        line.split_once("listening addr=")?.1.split(' ').next()?.parse().ok()
    });
    process.wait_for_output("the warning", |line| {
        (line.contains("WARN") && line.contains("not verified route=/any ")).then_some(())
    });
    process.wait_for_output("the reason of the failed probe", |line| {
        (line.contains("unhealthy") && line.contains("TLS failed") && line.contains("certificate expired"))
            .then_some(())
    });
    get(addr, "/system").expect(200);
    get(addr, "/any").expect(200);
    assert_eq!(process.output().matches("not verified").count(), 1);
}

/// Found at start, not at the first request.
#[test]
fn a_system_without_certificates_is_told_at_start() {
    let directory = TempDir::new();
    let config = "listen_addr = \"127.0.0.1:0\"\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"https://localhost:1\"]\n";
    let path = directory.file("reverse-proxy.toml", config);
    let empty = directory.file("empty.pem", "");
    let process = ProxyProcess::spawn(
        program().env("SSL_CERT_FILE", empty).env("SSL_CERT_DIR", directory.path()).arg("--config").arg(path),
    );
    let exit = process.wait();
    assert_eq!(exit.status.code(), Some(1));
    assert!(exit.output.contains("the system has no CA certificates"), "{}", exit.output);
}

/// The service of `forward_auth`: who cannot show that it is it lets nobody in.
#[test]
fn who_may_come_is_asked_by_https() {
    let directory = TempDir::new();
    let (good, bad, origin) = (backend("loopback"), backend("expired"), Origin::echo());
    let route = |prefix: &str, service: &ScriptedBackend| {
        format!(
            "[[routes]]\nprefix = {prefix:?}\nbackend_addrs = [{:?}]\n\
             forward_auth = {{ addr = {:?}, path = \"/\", timeout_secs = 20 }}\n",
            origin.addr(),
            service.addr()
        )
    };
    let config = format!("listen_addr = \"127.0.0.1:0\"\n{}{}", route("/good", &good), route("/bad", &bad));
    let path = directory.file("reverse-proxy.toml", &config);
    let mut process =
        ProxyProcess::spawn(program().env("SSL_CERT_FILE", file("ca.pem")).arg("--config").arg(path));
    let addr = process.wait_for_output("the address it listens on", |line| {
        line.split_once("listening addr=")?.1.split(' ').next()?.parse().ok()
    });
    get(addr, "/good").expect(200);
    get(addr, "/bad").expect_failure(503, "auth_unavailable");
    assert_eq!(origin.requests(), 1);
}
