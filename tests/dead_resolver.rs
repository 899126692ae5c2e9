//! Host names in `backend_addrs`, and a resolver that does not answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reverse_proxy::upkeep::SharedLookup;

use crate::support::engines::on_both_engines;
use crate::support::{Client, Engine, Gate, Origin, TestProxy, get, wait_for};

/// Answers for `alive.test` at once; for the others when the gate opens.
fn resolver(gate: &Gate) -> SharedLookup {
    let gate = gate.clone();
    Arc::new(move |host, port| {
        if host != "alive.test" {
            gate.wait("the resolver to answer");
        }
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    })
}

fn named(host: &str, origin: &Origin) -> String {
    format!("{host}:{}", origin.addr().rsplit_once(':').unwrap().1)
}

fn it_delays_only_who_needs_it(engine: Engine) {
    let origin = Origin::echo();
    let gate = Gate::new();
    let started = Instant::now();
    let proxy = TestProxy::builder(engine)
        .route("/", &[origin.addr()], "")
        .route("/alive", &[named("alive.test", &origin)], "")
        .route("/dead", &[named("dead.test", &origin), named("dead-too.test", &origin)], "")
        .route("/both", &[named("dead.test", &origin), origin.addr()], "")
        .start_with_lookup(resolver(&gate));
    assert!(started.elapsed() < Duration::from_secs(3), "it listened after {:?}", started.elapsed());
    let mut client = Client::connect(proxy.addr());
    client.get("/").expect(200);
    client.get("/alive").expect(200);
    client.get("/both").expect(200);
    client.get("/dead").expect_failure(502, "name_not_resolved");
    gate.open();
    wait_for("the names to be known", || match get(proxy.addr(), "/dead").status() {
        200 => Ok(()),
        status => Err(status),
    });
}

fn a_resolver_that_works_is_waited_for(engine: Engine) {
    let origin = Origin::echo();
    let gate = Gate::new();
    gate.open();
    let lookup = resolver(&gate);
    let slowly: SharedLookup = Arc::new(move |host, port| {
        std::thread::sleep(Duration::from_millis(50));
        lookup(host, port)
    });
    let names: Vec<String> = (0..20).map(|number| named(&format!("n{number}.test"), &origin)).collect();
    let proxy = TestProxy::builder(engine).route("/", &names, "").start_with_lookup(slowly);
    get(proxy.addr(), "/").expect(200);
}

fn it_delays_no_end(engine: Engine) {
    let origin = Origin::echo();
    let gate = Gate::new();
    let proxy = TestProxy::builder(engine)
        .shutdown_timeout("60")
        .route("/", &[named("dead.test", &origin)], "")
        .start_with_lookup(resolver(&gate));
    let addr = proxy.addr();
    let started = Instant::now();
    assert_eq!(proxy.drain().join(), 0);
    assert!(started.elapsed() < Duration::from_secs(3), "it took {:?}", started.elapsed());
    assert!(Client::try_connect(addr).is_err(), "it still listens");
}

on_both_engines!(it_delays_only_who_needs_it, a_resolver_that_works_is_waited_for, it_delays_no_end);
