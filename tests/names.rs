//! Host names in `backend_addrs`.

use std::time::{Duration, Instant};

use crate::support::engines::on_both_engines;
use crate::support::process::program;
use crate::support::{Client, Echo, Engine, Origin, ProxyProcess, TestProxy, get};

/// RFC 6761 §6.4: there is never such a name.
const NOBODY: &str = "no-such-host.invalid:80";

/// An origin of 127.0.0.1, by name. Where the name has an IPv6 address too, nobody listens there.
fn a_name_leads_to_its_backend(engine: Engine) {
    let origin = Origin::echo();
    let (_, port) =
        origin.addr().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    let name = format!("localhost:{port}");
    let proxy = TestProxy::to(engine, std::slice::from_ref(&name), "");
    let mut client = Client::connect(proxy.addr());
    for _ in 0..10 {
        let echo = Echo::parse(&client.get("/").expect(200).body);
        assert_eq!(echo.fields.one("host"), Some(name.clone()), "the name, not its address");
    }
    assert_eq!(origin.requests(), 10);
    let labels = proxy.in_flight();
    assert!(!labels.is_empty());
    for (label, _) in labels {
        assert!(label.starts_with(&format!("{name}/")), "{label} names entry and address");
    }
}

/// The proxy starts all the same, and everything else works.
fn a_name_without_an_address_is_502(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .route("/nobody", &[NOBODY.into()], "retries = 2")
        .route("/probed", &[NOBODY.into()], "health_check = { path = \"/\", interval_secs = 0.1 }")
        .route("/both", &[NOBODY.into(), origin.addr()], "")
        .route("/", &[origin.addr()], "")
        .start();
    let mut client = Client::connect(proxy.addr());
    for _ in 0..3 {
        client.get("/nobody").expect_failure(502, "name_not_resolved");
        client.get("/probed").expect_failure(502, "name_not_resolved");
        client.get("/both").expect(200);
        client.get("/").expect(200);
    }
    let started = Instant::now();
    get(proxy.addr(), "/nobody").expect_failure(502, "name_not_resolved");
    assert!(started.elapsed() < Duration::from_secs(2), "looked up on the request path?");
}

/// It is looked up again each second, and that is no news.
fn it_is_said_once(engine: Engine) {
    let origin = Origin::echo();
    let config = TestProxy::builder(engine)
        .route("/nobody", &[NOBODY.into()], "resolve_secs = 1")
        .route("/", &[origin.addr()], "")
        .toml();
    let mut command = program();
    command.env("RUST_LOG", "reverse_proxy=debug");
    let (mut process, addr) = ProxyProcess::start_with(&config, command);
    process.wait_for_output("the second look-up", |line| line.contains("still no address").then_some(()));
    get(addr, "/").expect(200);
    let output = process.output();
    let warnings: Vec<&str> = output.lines().filter(|line| line.contains("WARN")).collect();
    let about_it = warnings.iter().filter(|line| line.contains("no-such-host")).count();
    assert_eq!(about_it, 1, "{warnings:#?}");
}

on_both_engines!(a_name_leads_to_its_backend, a_name_without_an_address_is_502, it_is_said_once);
