//! Backend connections are used again, and a backend that closes one between two requests costs nothing.

use crate::support::engines::on_both_engines;
use crate::support::{Client, Engine, ScriptedBackend, TestProxy, wait_for};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const GET: &str = "GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 4\r\n\r\nbody";

/// Answers one request on each connection as if more could follow, then closes it.
fn closing_after_each() -> ScriptedBackend {
    ScriptedBackend::per_connection(|mut conn| {
        let Some(request) = conn.request()? else {
            return Ok(());
        };
        conn.body(&request)?;
        conn.send(OK)
    })
}

/// The close has reached the proxy before it sends the next request.
fn a_connection_closed_while_idle_is_replaced(engine: Engine) {
    let backend = closing_after_each();
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for (number, request) in [GET, POST, POST, GET, POST, GET].into_iter().enumerate() {
        client.send(request);
        client.response().expect(200);
        wait_for("the backend to close the connection", || match backend.ended() {
            ended if ended > number => Ok(()),
            ended => Err(ended),
        });
    }
    assert_eq!(backend.requests(), 6, "no request was sent twice");
}

/// The close is on its way while the next request is sent.
fn a_connection_that_closes_meanwhile_is_replaced(engine: Engine) {
    let backend = closing_after_each();
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..100 {
        assert_eq!(client.get("/").expect(200).text(), "ok");
    }
    proxy.expect_idle();
}

/// Closes each connection when its second request arrives, without an answer.
fn closing_on_second() -> ScriptedBackend {
    ScriptedBackend::per_connection(|mut conn| {
        let Some(request) = conn.request()? else {
            return Ok(());
        };
        conn.body(&request)?;
        conn.send(OK)?;
        conn.request().map(drop)
    })
}

/// An idempotent request on a used connection that dies without a byte of answer goes out again on a fresh one.
fn a_get_on_a_dying_connection_is_sent_again(engine: Engine) {
    let backend = closing_on_second();
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..20 {
        assert_eq!(client.get("/").expect(200).text(), "ok");
    }
    proxy.expect_idle();
}

/// A POST may have been carried out before the connection died: it is never sent twice.
fn a_post_on_a_dying_connection_is_not(engine: Engine) {
    let backend = closing_on_second();
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    let (mut good, mut failed) = (0, 0);
    for _ in 0..40 {
        client.send(POST);
        let response = client.response_to("POST");
        if response.status() == 200 {
            good += 1;
        } else {
            response.expect_failure(502, "backend_closed");
            failed += 1;
        }
    }
    assert_eq!(backend.requests(), good + failed, "each POST was sent exactly once");
    assert!(failed > 0, "no connection was used again, so nothing is shown");
}

fn a_connection_is_not_used_after_stray_bytes(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        while conn.request()?.is_some() {
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")?;
        }
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..20 {
        assert_eq!(client.get("/").expect(200).text(), "ok", "the answer to another request");
    }
}

fn connection_close_from_a_backend_is_honoured(engine: Engine) {
    let backend = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")?;
        assert!(conn.request().ok().flatten().is_none(), "a request after Connection: close");
        Ok(())
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..5 {
        let response = client.get("/").expect(200);
        assert!(
            !response.fields().has("connection")
                || !response.fields().all("connection").contains(&"close".into())
        );
    }
}

on_both_engines!(
    a_connection_closed_while_idle_is_replaced,
    a_connection_that_closes_meanwhile_is_replaced,
    a_get_on_a_dying_connection_is_sent_again,
    a_post_on_a_dying_connection_is_not,
    a_connection_is_not_used_after_stray_bytes,
    connection_close_from_a_backend_is_honoured,
);
