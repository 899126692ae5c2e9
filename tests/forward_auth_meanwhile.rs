//! What happens while the service of `forward_auth` thinks, and what only the native engine has.

use reverse_proxy::error::Cause;

use crate::forward_auth::{YES, answering, asks, held, service};
use crate::support::backend::each_request;
use crate::support::engines::on_native;
use crate::support::process::TempDir;
use crate::support::wire::Body;
use crate::support::{
    Client, Echo, Engine, Framing, Origin, ScriptedBackend, TestProxy, get, hash_of, send_once, wait_for,
};

fn a_client_that_leaves_meanwhile(engine: Engine) {
    let origin = Origin::echo();
    let auth = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let keys = asks(&auth.addr(), ", timeout_secs = 60");
    let proxy = TestProxy::to(engine, &[origin.addr()], &keys);
    for (number, reset) in [(1, false), (2, true)] {
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        proxy.expect_in_flight(&auth.addr(), 1);
        client.leave(reset);
        proxy.expect_idle();
        wait_for("its connection to be closed", || match auth.ended() {
            ended if ended == number => Ok(()),
            ended => Err(ended),
        });
        proxy.expect_count(Cause::ClientLeft, number as u64);
    }
    assert_eq!(proxy.counters().of(Cause::AuthUnavailable), 0, "held against the service");
    assert_eq!(origin.requests(), 0);
}

/// Its end together with its request is none.
fn a_client_that_has_closed_its_side(engine: Engine) {
    let origin = Origin::echo();
    let (auth, gate) = held();
    let proxy = TestProxy::to(engine, &[origin.addr()], &asks(&auth.addr(), ""));
    let mut client = Client::connect(proxy.addr());
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
    client.finish();
    proxy.expect_in_flight(&auth.addr(), 1);
    gate.open();
    assert_eq!(Echo::parse(&client.response_to("POST").expect(200).body).hash, hash_of(b"body"));
}

fn a_drain_meanwhile(engine: Engine) {
    let origin = Origin::echo();
    let (auth, gate) = held();
    let keys = asks(&auth.addr(), ", timeout_secs = 60");
    let builder = TestProxy::builder(engine).shutdown_timeout("20").route("/", &[origin.addr()], &keys);
    let proxy = builder.clone().start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    proxy.expect_in_flight(&auth.addr(), 1);
    let drain = proxy.drain();
    gate.open();
    client.response().expect(200);
    assert_eq!(drain.join(), 0);
    // At its end it is cut.
    let silent = ScriptedBackend::per_connection(|mut conn| conn.hang());
    let keys = asks(&silent.addr(), ", timeout_secs = 60");
    let proxy =
        TestProxy::builder(engine).shutdown_timeout("0.1").route("/", &[origin.addr()], &keys).start();
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    proxy.expect_in_flight(&silent.addr(), 1);
    assert_eq!(proxy.drain().join(), 1);
}

/// Nothing of an upgrade goes to the service, and a refusal is an ordinary answer.
fn an_upgrade(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        let user = request.fields.one("remote-user").unwrap_or_default();
        conn.send_head(&["HTTP/1.1 101 Switching Protocols", "Upgrade: echo", "Connection: upgrade"])?;
        let said = conn.exactly(5)?;
        conn.send(&[&said, user.as_bytes()].concat())
    });
    let (auth, asked) = service(|conn, request| match request.fields.one("cookie") {
        Some(_) => conn.send(YES.as_bytes()),
        None => conn.send(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno"),
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], &asks(&auth.addr(), ""));
    let mut client = Client::connect(proxy.addr());
    let request = |fields: &str| {
        format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n{fields}\r\n")
    };
    client.send(request(""));
    assert_eq!(client.response().expect(401).text(), "no");
    client.send(request("Cookie: a\r\n"));
    assert_eq!(client.any_head("GET").unwrap().expect("a head").status, 101);
    client.send("hello");
    let mut body = Body::new(Framing::Length(8));
    let mut said = Vec::new();
    while let Some(piece) = client.piece(&mut body).unwrap() {
        said.extend_from_slice(&piece);
    }
    assert_eq!(said, b"helloeve");
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|request| !request.fields.has("upgrade") && !request.fields.has("connection")));
    drop(client);
    proxy.expect_idle();
}

/// What only the service may say does not come behind the body either.
fn trailers(engine: Engine) {
    let backend = ScriptedBackend::per_request(|conn, request| {
        conn.body(request)?;
        let names = conn.trailers().names().join(",");
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Length: 0", &format!("X-Trailers: {names}")])
    });
    let (auth, _) = answering(YES);
    let proxy = TestProxy::to(engine, &[backend.addr()], &asks(&auth.addr(), ""));
    let response = send_once(
        proxy.addr(),
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nRemote-User: a\r\nRemote_User: a\r\nX-Other: b\r\n\r\n",
    );
    assert_eq!(response.expect(200).fields().all("x-trailers"), ["x-other"]);
}

fn by_a_unix_socket(engine: Engine) {
    let origin = Origin::echo();
    let directory = TempDir::new();
    let path = directory.file("auth.sock", "");
    let auth = ScriptedBackend::unix(
        &path,
        each_request(|conn, request| {
            assert_eq!(request.fields.all("host"), ["localhost"]);
            conn.send(YES.as_bytes())
        }),
    );
    let proxy = TestProxy::to(engine, &[origin.addr()], &asks(&auth.addr(), ""));
    get(proxy.addr(), "/").expect(200);
    assert_eq!(auth.requests(), 1);
}

on_native!(
    a_client_that_leaves_meanwhile,
    a_client_that_has_closed_its_side,
    a_drain_meanwhile,
    an_upgrade,
    trailers,
    by_a_unix_socket,
);
