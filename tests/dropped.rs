//! A [`Proxy`] that is dropped instead of drained, and one that could not be started as a whole.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reverse_proxy::config::Config;
use reverse_proxy::proxy::{Proxy, StartError};
use reverse_proxy::upkeep::SharedLookup;

use crate::support::engines::on_both_engines;
use crate::support::{Client, Engine, Origin, TestProxy, wait_for};

fn lookup() -> SharedLookup {
    Arc::new(|_, port| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]))
}

fn config(engine: Engine, origin: &Origin) -> String {
    let name = format!("name.test:{}", origin.addr().rsplit_once(':').unwrap().1);
    let check = "health_check = { path = \"/health\", interval_secs = 0.05 }";
    TestProxy::builder(engine).shutdown_timeout("60").route("/", &[name], check).toml()
}

/// Nobody asks for names, nobody probes, nobody listens.
#[track_caller]
fn expect_no_thread_left(lookup: &SharedLookup, origin: &Origin) {
    assert_eq!(Arc::strong_count(lookup), 1, "the housekeeper runs on");
    let probes = origin.probes();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(origin.probes(), probes, "the backends are still probed");
}

fn dropping_it_ends_its_threads_at_once(engine: Engine) {
    let origin = Origin::echo();
    let lookup = lookup();
    let config = Config::parse(&config(engine, &origin), "test.toml").unwrap();
    let proxy = Proxy::start_with_lookup(config, Arc::clone(&lookup)).unwrap();
    let addr = proxy.local_addrs()[0];
    let mut client = Client::connect(addr);
    client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the request to be held", || match origin.held() {
        0 => Err(()),
        _ => Ok(()),
    });
    let started = Instant::now();
    drop(proxy);
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    assert!(Client::try_connect(addr).is_err(), "it still listens");
    assert!(client.try_response_to("GET").is_err(), "the request goes on");
    expect_no_thread_left(&lookup, &origin);
}

fn what_can_not_be_started_leaves_nothing_behind(engine: Engine) {
    let origin = Origin::echo();
    let lookup = lookup();
    let occupant = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = occupant.local_addr().unwrap().to_string();
    let config = config(engine, &origin).replace("127.0.0.1:0", &taken);
    let config = Config::parse(&config, "test.toml").unwrap();
    let failed = Proxy::start_with_lookup(config, Arc::clone(&lookup));
    assert!(matches!(failed, Err(StartError::Listen(..))), "{failed:?}");
    expect_no_thread_left(&lookup, &origin);
}

on_both_engines!(dropping_it_ends_its_threads_at_once, what_can_not_be_started_leaves_nothing_behind);
