//! Requests that come back to a proxy they have passed are refused, whatever lies in between.

use std::sync::Arc;

use crate::support::engines::on_native;
use crate::support::{DeadPort, Echo, Engine, Origin, TestProxy, get, send_once};

/// A proxy that listens on this port, which others know already.
fn proxy_on(engine: Engine, port: &DeadPort, backend: String) -> TestProxy {
    let listen = format!("{:?}", port.addr());
    TestProxy::builder(engine).listen(&listen).route("/", &[backend], "retries = 3").start()
}

/// Three ports: of the proxies of a loop.
fn ports(count: usize) -> Vec<DeadPort> {
    (0..count).map(|_| DeadPort::reserve()).collect()
}

fn a_proxy_that_is_its_own_backend_says_508(engine: Engine) {
    // By a name: the address would be refused before.
    let port = DeadPort::reserve();
    let own: std::net::SocketAddr = port.addr().parse().unwrap();
    let proxy = TestProxy::builder(engine)
        .listen(&format!("{:?}", port.addr()))
        .route("/", &[format!("proxy.test:{}", own.port())], "retries = 3")
        .start_with_lookup(Arc::new(move |_, _| Ok(vec![own])));
    for _ in 0..3 {
        get(proxy.addr(), "/").expect_failure(508, "loop_detected");
    }
    proxy.expect_idle();
    // A request of a client, and the same once more from itself.
    proxy.expect_counted(reverse_proxy::error::Cause::LoopDetected, 3);
}

fn a_loop_over_other_proxies_says_508(engine: Engine) {
    for count in [2, 3] {
        let ports = ports(count);
        let next = |number: usize| ports[(number + 1) % count].addr();
        let proxies: Vec<TestProxy> =
            (0..count).map(|number| proxy_on(engine, &ports[number], next(number))).collect();
        for proxy in &proxies {
            get(proxy.addr(), "/").expect_failure(508, "loop_detected");
        }
        // Each of the requests has ended where it began, and nowhere else.
        for proxy in &proxies {
            proxy.expect_counted(reverse_proxy::error::Cause::LoopDetected, 1);
            proxy.expect_idle();
        }
        let mut client = crate::support::Client::connect(proxies[0].addr());
        client.send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 4\r\n\r\nbody");
        client.response_to("POST").expect_failure(508, "loop_detected");
    }
}

/// The name in `Via` is the instance's own: a request may pass as many others as there are.
fn two_proxies_in_a_row_are_no_loop(engine: Engine) {
    let origin = Origin::echo();
    let last = TestProxy::to(engine, &[origin.addr()], "");
    let middle = TestProxy::to(engine, &[last.addr().to_string()], "");
    let first = TestProxy::to(engine, &[middle.addr().to_string()], "");
    let echo = Echo::parse(&get(first.addr(), "/").expect(200).body);
    let via = echo.fields.one("via").expect("Via");
    assert_eq!(via.matches("1.1 reverse-proxy-").count(), 3, "{via}");
}

fn a_foreign_via_passes(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    for via in ["1.1 reverse-proxy", "1.0 fred, 1.1 reverse-proxy-00000000", "1.1 [::1]:8080 (reverse-proxy)"]
    {
        let request = format!("GET / HTTP/1.1\r\nHost: proxy.test\r\nVia: {via}\r\n\r\n");
        let echo = Echo::parse(&send_once(proxy.addr(), request).expect(200).body);
        let seen = echo.fields.one("via").expect("Via");
        assert!(seen.starts_with(&format!("{via}, 1.1 reverse-proxy-")), "{seen}");
    }
}

/// What it says about itself is no secret: a client that says it is refused.
fn its_own_name_is_known_again(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let echo = Echo::parse(&get(proxy.addr(), "/").expect(200).body);
    let via = echo.fields.one("via").expect("Via");
    for via in [via.clone(), format!("1.0 fred, {via} (comment), 1.1 other")] {
        let request = format!("GET / HTTP/1.1\r\nHost: proxy.test\r\nVia: 1.1 first\r\nVia: {via}\r\n\r\n");
        send_once(proxy.addr(), request).expect_failure(508, "loop_detected");
    }
    assert_eq!(origin.requests(), 1);
}

on_native!(
    a_proxy_that_is_its_own_backend_says_508,
    a_loop_over_other_proxies_says_508,
    two_proxies_in_a_row_are_no_loop,
    a_foreign_via_passes,
    its_own_name_is_known_again,
);
