//! What a route does beside passing requests on: the rules, on both engines.

use reverse_proxy::error::Cause;

use crate::support::engines::on_both_engines;
use crate::support::{Engine, Origin, TestProxy, get, send_once};

fn who_may_come(engine: Engine) {
    let origin = Origin::echo();
    let backend = [origin.addr()];
    let proxy = TestProxy::builder(engine)
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .route(
            "/",
            &backend,
            "allow = [\"127.0.0.0/8\", \"192.0.2.0/24\"]\ndeny = [\"192.0.2.1\"]\nmax_body_bytes = 1",
        )
        .route("/others", &backend, "deny = [\"127.0.0.1\"]")
        .start();
    get(proxy.addr(), "/").expect(200);
    get(proxy.addr(), "/others").expect_failure(403, "client_denied");
    let for_client = |client: &str, length: usize| {
        let fields = format!("Host: proxy.test\r\nX-Forwarded-For: {client}\r\nContent-Length: {length}");
        send_once(proxy.addr(), format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n{}", "x".repeat(length)))
    };
    for_client("192.0.2.2", 1).expect(200);
    for_client("192.0.2.1", 1).expect_failure(403, "client_denied");
    for_client("198.51.100.7, 192.0.2.1", 1).expect_failure(403, "client_denied");
    for_client("192.0.2.1, 198.51.100.7", 1).expect_failure(403, "client_denied");
    for_client("192.0.2.2", 2).expect_failure(413, "body_too_large");
    // Who may not come is told nothing about the route.
    for_client("198.51.100.7", 2).expect_failure(403, "client_denied");
    proxy.expect_counted(Cause::ClientDenied, 5);
    assert_eq!(origin.requests(), 2);
}

on_both_engines!(who_may_come);
