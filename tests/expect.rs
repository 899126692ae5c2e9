//! `Expect: 100-continue` is answered when the body is wanted, and only then.

use crate::support::engines::on_both_engines;
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{Client, DeadPort, Echo, Engine, Origin, TestProxy, get, hash_of, pattern, wait_for};

fn head(version: &str, target: &str, framing: &str) -> String {
    format!("POST {target} HTTP/{version}\r\nHost: proxy.test\r\nExpect: 100-continue\r\n{framing}\r\n\r\n")
}

/// The status of the next head, interim ones too.
#[track_caller]
fn next_status(client: &mut Client) -> u16 {
    client.any_head("POST").expect("a head").expect("a head").status
}

fn bodies_of_any_size_and_framing(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for size in [1, 5_000, 400_000] {
        let body = pattern(1, size);
        client.send(head("1.1", "/length", &format!("Content-Length: {size}")));
        assert_eq!(next_status(&mut client), 100);
        client.send(&body);
        assert_eq!(Echo::parse(&client.response_to("POST").expect(200).body).hash, hash_of(&body));
        client.send(head("1.1", "/chunked", "Transfer-Encoding: chunked"));
        assert_eq!(next_status(&mut client), 100);
        client.send([&chunk(&body), LAST_CHUNK].concat());
        assert_eq!(Echo::parse(&client.response_to("POST").expect(200).body).hash, hash_of(&body));
    }
}

/// RFC 9110 §10.1.1: a client need not wait, and a server may leave out the 100 then.
fn a_body_that_comes_unasked(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..20 {
        client.send([head("1.1", "/", "Content-Length: 4").as_bytes(), b"body"].concat());
        let echo = Echo::parse(&client.response_to("POST").expect(200).body);
        assert_eq!(echo.hash, hash_of(b"body"));
    }
}

/// The first thing such a client hears is the refusal.
fn a_refused_request_is_not_told_to_continue(engine: Engine) {
    let origin = Origin::echo();
    let dead = DeadPort::reserve();
    let proxy = TestProxy::builder(engine)
        .route("/here", &[origin.addr()], "max_body_bytes = 1000")
        .route("/dead", &[dead.addr()], "health_check = { path = \"/\", interval_secs = 60 }")
        .start();
    wait_for("the dead backend to be found out", || match get(proxy.addr(), "/dead").status() {
        503 => Ok(()),
        status => Err(status),
    });
    for (target, length, status) in
        [("/nowhere", 10, 404), ("/here", 1001, 413), ("/here/..", 10, 404), ("/dead", 10, 503)]
    {
        let mut client = Client::connect(proxy.addr());
        client.send(head("1.1", target, &format!("Content-Length: {length}")));
        assert_eq!(next_status(&mut client), status, "the first answer to a request for {target}");
    }
    assert_eq!(origin.requests(), 0);
}

fn an_old_client_gets_no_100(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send([head("1.0", "/", "Content-Length: 4").as_bytes(), b"body"].concat());
    assert_eq!(next_status(&mut client), 200);
}

fn no_100_without_a_body(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    for framing in ["X: y", "Content-Length: 0"] {
        let mut client = Client::connect(proxy.addr());
        client.send(head("1.1", "/", framing));
        assert_eq!(next_status(&mut client), 200);
    }
}

on_both_engines!(
    bodies_of_any_size_and_framing,
    a_body_that_comes_unasked,
    a_refused_request_is_not_told_to_continue,
    an_old_client_gets_no_100,
    no_100_without_a_body,
);
