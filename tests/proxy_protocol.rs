//! The PROXY protocol: from load balancers in front, and to backends.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use reverse_proxy::config::Config;

use crate::support::backend::{Conn, each_request};
use crate::support::engines::on_native;
use crate::support::origin::HEALTH;
use crate::support::process::TempDir;
use crate::support::proxy::Builder;
use crate::support::{Client, Echo, Engine, Origin, ScriptedBackend, TestProxy, wait_for};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n";

/// Of version 2.
fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// From 192.0.2.7, port 4711, with what else there is to say.
fn v2(tlvs: &[u8]) -> Vec<u8> {
    header(0x21, 0x11, &[&[192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 1, 187], tlvs].concat())
}

/// A proxy that trusts this machine, and takes headers from it.
fn behind_a_balancer() -> Builder {
    TestProxy::builder(Engine::Native)
        .listen("{ addr = \"127.0.0.1:0\", proxy_protocol = true }")
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
}

fn start(origin: &Origin) -> TestProxy {
    behind_a_balancer().route("/", &[origin.addr()], "").start()
}

#[track_caller]
fn forwarded_for(client: &mut Client) -> Option<String> {
    Echo::parse(&client.response().expect(200).body).fields.one("x-forwarded-for")
}

/// What the backend is told of a client that begins with these bytes, and asks in the same packet.
#[track_caller]
fn told_of(proxy: &TestProxy, begins: &[u8]) -> Option<String> {
    let mut client = Client::connect(proxy.addr());
    client.send([begins, GET].concat());
    let told = forwarded_for(&mut client);
    client.send(GET);
    assert_eq!(forwarded_for(&mut client), told, "it holds for the whole connection");
    told
}

fn refused(proxy: &TestProxy) -> u64 {
    proxy.counters().proxy_headers_refused.load(Ordering::Relaxed)
}

fn the_address_is_that_of_the_client(_: Engine) {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let expected = Some("192.0.2.7".to_owned());
    assert_eq!(told_of(&proxy, V1), expected);
    assert_eq!(told_of(&proxy, &v2(&[])), expected);
    let tlvs = [&[2, 0, 9][..], b"shop.test", &[4, 1, 0], &[0; 256], &[0xEE, 0, 1, 7]].concat();
    assert_eq!(told_of(&proxy, &v2(&tlvs)), expected);
    let v6 = Some("2001:db8::7".to_owned());
    assert_eq!(told_of(&proxy, b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n"), v6);
    let mut addresses = [0; 36];
    addresses[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    addresses[15] = 7;
    assert_eq!(told_of(&proxy, &header(0x21, 0x21, &addresses)), v6);
    assert_eq!(refused(&proxy), 0);
}

fn a_connection_of_the_balancer_itself_keeps_its_address(_: Engine) {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let expected = Some("127.0.0.1".to_owned());
    assert_eq!(told_of(&proxy, b"PROXY UNKNOWN\r\n"), expected);
    assert_eq!(told_of(&proxy, &header(0x20, 0, &[])), expected);
    assert_eq!(told_of(&proxy, &header(0x20, 0x11, &[192, 0, 2, 7, 1, 1, 1, 1, 0, 1, 0, 1])), expected);
    assert_eq!(told_of(&proxy, &header(0x21, 0, &[4, 0, 1, 0])), expected);
    assert_eq!(told_of(&proxy, b"PROXY TCP4 0.0.0.0 198.51.100.1 1 2\r\n"), expected);
}

fn what_a_client_behind_it_says_of_others_is_not_believed(_: Engine) {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut client = Client::connect(proxy.addr());
    client.send([V1, b"GET / HTTP/1.1\r\nHost: proxy.test\r\nX-Forwarded-Proto: gopher\r\n\r\n"].concat());
    let echo = Echo::parse(&client.response().expect(200).body);
    assert_eq!(echo.fields.one("x-forwarded-proto").as_deref(), Some("http"));
}

fn log_and_balancing_go_by_it(_: Engine) {
    let directory = TempDir::new();
    let path = directory.path().join("access.log");
    let (first, second) = (Origin::named("first"), Origin::named("second"));
    let proxy = behind_a_balancer()
        .server(&format!("[access_log]\npath = {path:?}"))
        .route("/", &[first.addr(), second.addr()], "balancing_algorithm = \"consistent_hash\"")
        .start();
    let mut seen = std::collections::HashSet::new();
    for n in 0..40 {
        let mut origins = (0..2).map(|_| {
            let mut client = Client::connect(proxy.addr());
            client.send([format!("PROXY TCP4 192.0.2.{n} 198.51.100.1 1 2\r\n").as_bytes(), GET].concat());
            Echo::parse(&client.response().expect(200).body).origin
        });
        let origin = origins.next().unwrap();
        assert_eq!(origins.next().as_ref(), Some(&origin), "the same client, the same backend");
        seen.insert(origin);
    }
    assert_eq!(seen.len(), 2, "clients are spread, although they all come from one machine");
    wait_for("the lines of the log", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let of = |n: u8| text.lines().filter(|line| line.starts_with(&format!("192.0.2.{n} "))).count();
        if (0..40).all(|n| of(n) == 2) { Ok(()) } else { Err(text) }
    });
}

fn a_header_may_come_byte_by_byte(_: Engine) {
    let origin = Origin::echo();
    let proxy = start(&origin);
    for header in [V1, &v2(&[0xEE, 0, 1, 7])] {
        let mut client = Client::connect(proxy.addr());
        for byte in [header, GET].concat() {
            client.send([byte]);
        }
        assert_eq!(forwarded_for(&mut client).as_deref(), Some("192.0.2.7"));
    }
}

fn strangers_are_closed(_: Engine) {
    let origin = Origin::echo();
    let proxy = behind_a_balancer().server("# 127.0.0.1 is none of them").route("/", &[origin.addr()], "");
    let toml = proxy.toml().replace("127.0.0.0/8", "192.0.2.0/24");
    let proxy = reverse_proxy::proxy::Proxy::start(Config::parse(&toml, "test.toml").unwrap()).unwrap();
    for begins in [V1, GET] {
        let mut client = Client::connect(proxy.local_addrs()[0]);
        drop(client.try_send(begins));
        client.end().expect("closed without an answer");
    }
    assert_eq!(proxy.counters().proxy_headers_refused.load(Ordering::Relaxed), 2);
    assert_eq!(origin.requests(), 0);
    assert_eq!(proxy.drain().cut, 0);
}

fn what_is_no_header_is_closed_without_an_answer(_: Engine) {
    let origin = Origin::echo();
    // None of them is closed for being late.
    let proxy =
        behind_a_balancer().server("header_timeout_secs = 600").route("/", &[origin.addr()], "").start();
    let too_long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    let mut count = 0;
    for begins in [
        GET,
        b"P\0",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n",
        b"PROXY TCP4 192.0.2.7 2001:db8::1 4711 443\r\n",
        &[22, 3, 1, 0],
        &too_long,
        &header(0x31, 0x11, &[0; 12]),
        &header(0x21, 0x11, &[0; 4]),
        &header(0x21, 0x11, &[0; 5000])[..16],
    ] {
        let mut client = Client::connect(proxy.addr());
        client.send(begins);
        client.end().unwrap_or_else(|error| panic!("{begins:?}: {error}"));
        count += 1;
        wait_for("it to be counted", || if refused(&proxy) == count { Ok(()) } else { Err(refused(&proxy)) });
    }
    for cut in [&V1[..1], &V1[..40], &v2(&[])[..5], &v2(&[])[..27]] {
        let mut client = Client::connect(proxy.addr());
        client.send(cut);
        client.finish();
        client.end().expect("closed without an answer");
        count += 1;
        wait_for("it to be counted", || if refused(&proxy) == count { Ok(()) } else { Err(refused(&proxy)) });
    }
    // Some balancers look in this way whether anybody listens.
    let mut client = Client::connect(proxy.addr());
    client.finish();
    client.end().expect("closed without an answer");
    assert_eq!((refused(&proxy), origin.requests()), (count, 0));
}

fn a_header_has_a_deadline(_: Engine) {
    let origin = Origin::echo();
    let proxy =
        behind_a_balancer().server("header_timeout_secs = 0.3").route("/", &[origin.addr()], "").start();
    for begins in [&b""[..], b"PROXY ", &v2(&[])[..20]] {
        let mut client = Client::connect(proxy.addr());
        client.send(begins);
        client.end().expect("closed without an answer");
    }
    assert_eq!(refused(&proxy), 3);
}

fn a_drain_does_not_wait_for_headers(_: Engine) {
    let origin = Origin::echo();
    let proxy = behind_a_balancer().shutdown_timeout("60").route("/", &[origin.addr()], "").start();
    let mut client = Client::connect(proxy.addr());
    client.send(&V1[..10]);
    assert_eq!(proxy.drain().join(), 0);
    client.end().expect("closed without an answer");
}

fn a_reload_switches_it(_: Engine) {
    let origin = Origin::echo();
    let plain = behind_a_balancer().route("/", &[origin.addr()], "");
    let mut proxy = plain.clone().listen("\"127.0.0.1:0\"").start();
    Client::connect(proxy.addr()).get("/").expect(200);
    let listen = |more: &str| format!("{{ addr = \"{}\"{more} }}", proxy.addr());
    let (with, without) = (listen(", proxy_protocol = true"), listen(""));
    proxy.reload(&plain.clone().listen(&with)).expect("a reload");
    wait_for("headers to be taken", || {
        let mut client = Client::connect(proxy.addr());
        client.send([V1, GET].concat());
        match client.response().status() {
            200 => Ok(()),
            status => Err(status),
        }
    });
    proxy.reload(&plain.clone().listen(&without)).expect("a reload");
    wait_for("requests to come without one", || {
        let mut client = Client::connect(proxy.addr());
        client.send(GET);
        client.try_response_to("GET").map(|response| response.expect(200)).map(drop)
    });
}

/// What each connection began with, and what was asked on it.
type Seen = Arc<Mutex<Vec<(Vec<u8>, String)>>>;

/// A backend that reads a header of version 2 and then answers requests.
fn behind_us(seen: &Seen) -> ScriptedBackend {
    let seen = Arc::clone(seen);
    ScriptedBackend::per_connection(move |mut conn: Conn| {
        let mut begins = conn.exactly(16)?;
        let length = u16::from_be_bytes([begins[14], begins[15]]);
        begins.extend(conn.exactly(length.into())?);
        let seen = Arc::clone(&seen);
        each_request(move |conn, request| {
            seen.lock().unwrap().push((begins.clone(), request.target.clone()));
            conn.body(request)?;
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        })(conn)
    })
}

/// The header for a connection between two IPv4 addresses.
fn between(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ip = |addr: SocketAddr| match addr.ip() {
        std::net::IpAddr::V4(ip) => ip.octets(),
        std::net::IpAddr::V6(_) => panic!("{addr}"),
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    header(0x21, 0x11, &[&ip(source)[..], &ip(destination), &ports].concat())
}

fn backends_are_told_whose_connection_it_is(_: Engine) {
    let seen = Seen::default();
    let backend = behind_us(&seen);
    let proxy = TestProxy::to(Engine::Native, &[backend.addr()], "send_proxy = true");
    let mut expected = Vec::new();
    for target in ["/first", "/second"] {
        let mut client = Client::connect(proxy.addr());
        let own = client.stream().local_addr().unwrap();
        for _ in 0..2 {
            client.get(target).expect(200);
            expected.push((between(own, proxy.addr()), target.to_owned()));
        }
    }
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(backend.connections(), 4, "none is kept for another exchange");
}

fn what_came_in_goes_out(_: Engine) {
    let seen = Seen::default();
    let backend = behind_us(&seen);
    let proxy = behind_a_balancer().route("/", &[backend.addr()], "send_proxy = true").start();
    for begins in [V1.to_vec(), v2(&[0xEE, 0, 1, 7])] {
        let mut client = Client::connect(proxy.addr());
        client.send(begins);
        client.get("/").expect(200);
    }
    let expected = (v2(&[]), "/".to_owned());
    assert_eq!(*seen.lock().unwrap(), [expected.clone(), expected]);
}

fn a_large_body_follows_the_header(_: Engine) {
    let seen = Seen::default();
    let backend = behind_us(&seen);
    let proxy = TestProxy::to(Engine::Native, &[backend.addr()], "send_proxy = true");
    let mut client = Client::connect(proxy.addr());
    let body = vec![b'x'; 1_000_000];
    client.send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(body);
    client.response_to("POST").expect(200);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

fn probes_are_of_the_proxy_itself(_: Engine) {
    let seen = Seen::default();
    let backend = behind_us(&seen);
    let keys = format!(
        "send_proxy = true\nhealth_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 2 }}"
    );
    let _proxy = TestProxy::to(Engine::Native, &[backend.addr()], &keys);
    wait_for("a probe", || {
        let seen = seen.lock().unwrap();
        if seen.len() >= 2 { Ok(()) } else { Err(seen.len()) }
    });
    let local = (header(0x20, 0, &[]), HEALTH.to_owned());
    assert!(seen.lock().unwrap().iter().all(|seen| *seen == local), "{seen:?}");
}

fn a_reload_begins_to_send_it(_: Engine) {
    let origin = Origin::echo();
    let mut proxy = TestProxy::to(Engine::Native, &[origin.addr()], "");
    Client::connect(proxy.addr()).get("/").expect(200);
    let seen = Seen::default();
    let backend = behind_us(&seen);
    let after = TestProxy::builder(Engine::Native).route("/", &[backend.addr()], "send_proxy = true");
    proxy.reload(&after).expect("a reload");
    Client::connect(proxy.addr()).get("/").expect(200);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

fn clients_of_a_unix_socket_have_no_address(_: Engine) {
    let directory = TempDir::new();
    let path = directory.path().join("http.sock");
    let seen = Seen::default();
    let backend = behind_us(&seen);
    let listen = format!("[\"127.0.0.1:0\", \"unix:{}\"]", path.display());
    let _proxy = TestProxy::builder(Engine::Native)
        .listen(&listen)
        .route("/", &[backend.addr()], "send_proxy = true")
        .start();
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.write_all(GET).unwrap();
    let mut answer = [0; 15];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_eq!(*seen.lock().unwrap(), [(header(0x20, 0, &[]), "/".to_owned())]);
}

#[cfg(feature = "tls")]
mod tls {
    use std::net::TcpStream;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    };

    use super::*;

    fn file(name: &str) -> String {
        format!("{}/tests/certs/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn trust() -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(builder.unwrap().with_root_certificates(roots).with_no_client_auth())
    }

    fn front(origin: &Origin) -> Builder {
        let pair = format!("[[certificates]]\ncert = {:?}\nkey = {:?}", file("shop.pem"), file("shop.key"));
        behind_a_balancer()
            .listen("{ addr = \"127.0.0.1:0\", tls = true, proxy_protocol = true }")
            .front(&pair)
            .route("/", &[origin.addr()], "")
    }

    fn it_comes_before_tls(_: Engine) {
        let origin = Origin::echo();
        let proxy = front(&origin).start();
        for begins in [V1, &v2(&[0xEE, 0, 1, 7])] {
            let mut client = Client::connect(proxy.addr());
            client.send(begins);
            let mut client = client.with_tls(&trust(), "shop.test");
            client.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n");
            assert_eq!(forwarded_for(&mut client).as_deref(), Some("192.0.2.7"));
        }
        assert_eq!(proxy.counters().handshakes.load(Ordering::Relaxed), 2);
    }

    fn the_hello_may_come_with_it(_: Engine) {
        let origin = Origin::echo();
        let proxy = front(&origin).start();
        let patience = Some(crate::support::PATIENCE);
        for dribbles in [false, true] {
            let name = ServerName::try_from("shop.test").unwrap();
            let mut session = ClientConnection::new(trust(), name).unwrap();
            let mut first = V1.to_vec();
            session.write_tls(&mut first).unwrap();
            let mut stream = TcpStream::connect(proxy.addr()).unwrap();
            stream.set_read_timeout(patience).unwrap();
            stream.set_nodelay(true).unwrap();
            for piece in first.chunks(if dribbles { 1 } else { first.len() }) {
                stream.write_all(piece).unwrap();
            }
            let mut tls = StreamOwned::new(session, stream);
            tls.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            tls.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            assert!(answer.to_ascii_lowercase().contains("x-forwarded-for: 192.0.2.7"), "{answer}");
        }
    }

    fn tls_without_it_is_closed(_: Engine) {
        let origin = Origin::echo();
        let proxy = front(&origin).start();
        let mut client = Client::connect(proxy.addr()).with_tls(&trust(), "shop.test");
        let answer = client.try_send(GET).and_then(|()| client.try_response_to("GET").map(drop));
        answer.expect_err("no handshake");
        assert_eq!((refused(&proxy), proxy.counters().handshakes_failed.load(Ordering::Relaxed)), (1, 0));
        // Behind a header it is TLS that is spoken.
        let mut client = Client::connect(proxy.addr());
        client.send([V1, GET].concat());
        assert!(client.response().expect(400).text().contains("https"));
    }

    fn it_goes_out_before_tls(_: Engine) {
        let certificate = CertificateDer::from_pem_file(file("shop.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("shop.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key);
        let config = Arc::new(config.unwrap());
        let begun = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&begun);
        let backend = ScriptedBackend::per_connection(move |conn| {
            let mut stream = conn.stream()?;
            let mut begins = vec![0; 16];
            stream.read_exact(&mut begins)?;
            let mut rest = vec![0; begins[15].into()];
            stream.read_exact(&mut rest)?;
            begins.append(&mut rest);
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                tls.read_exact(&mut byte)?;
                request.push(byte[0]);
            }
            seen.lock().unwrap().push((begins, request.starts_with(b"GET /health")));
            tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            tls.conn.send_close_notify();
            tls.flush()
        });
        let keys = format!(
            "send_proxy = true\nhealth_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 2 }}\n\
             tls = {{ ca = {:?}, server_name = \"shop.test\" }}",
            file("ca.pem")
        );
        let proxy = TestProxy::to(Engine::Native, &[format!("https://{}", backend.addr())], &keys);
        let mut client = Client::connect(proxy.addr());
        let own = client.stream().local_addr().unwrap();
        client.get("/").expect(200);
        let expected = (between(own, proxy.addr()), false);
        assert!(begun.lock().unwrap().contains(&expected), "{begun:?}");
        let local = (header(0x20, 0, &[]), true);
        wait_for("a probe", || {
            let begun = begun.lock().unwrap();
            if begun.contains(&local) { Ok(()) } else { Err(begun.clone()) }
        });
    }

    on_native!(
        it_comes_before_tls,
        the_hello_may_come_with_it,
        tls_without_it_is_closed,
        it_goes_out_before_tls,
    );
}

/// Who comes through a balancer is counted by whom the header names.
fn clients_have_so_many_connections(_: Engine) {
    let origin = Origin::echo();
    let proxy =
        behind_a_balancer().server("max_connections_per_client = 1").route("/", &[origin.addr()], "").start();
    let begin = |host: u8| {
        let mut client = Client::connect(proxy.addr());
        client.send([format!("PROXY TCP4 192.0.2.{host} 198.51.100.1 1 2\r\n").as_bytes(), GET].concat());
        client
    };
    let (mut one, mut other) = (begin(1), begin(2));
    one.response().expect(200);
    other.response().expect(200);
    let mut refused = begin(1);
    refused.response().expect_failure(429, "too_many_connections");
    refused.expect_fin();
    drop(one);
    wait_for("a free place", || match begin(1).response().status() {
        200 => Ok(()),
        status => Err(status),
    });
    // The balancer's own are not counted.
    let own: Vec<_> = (0..3).map(|_| told_of(&proxy, b"PROXY UNKNOWN\r\n")).collect();
    assert_eq!(own.len(), 3);
}

on_native!(
    the_address_is_that_of_the_client,
    a_connection_of_the_balancer_itself_keeps_its_address,
    what_a_client_behind_it_says_of_others_is_not_believed,
    log_and_balancing_go_by_it,
    a_header_may_come_byte_by_byte,
    strangers_are_closed,
    what_is_no_header_is_closed_without_an_answer,
    a_header_has_a_deadline,
    a_drain_does_not_wait_for_headers,
    a_reload_switches_it,
    backends_are_told_whose_connection_it_is,
    what_came_in_goes_out,
    a_large_body_follows_the_header,
    probes_are_of_the_proxy_itself,
    a_reload_begins_to_send_it,
    clients_of_a_unix_socket_have_no_address,
    clients_have_so_many_connections,
);
