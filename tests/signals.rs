//! Signals that other proxies take for orders: here they end nothing and cut nothing.

use std::process::Command;

use rustix::process::Signal;

use crate::support::engines::on_both_engines;
use crate::support::process::{TempDir, program};
use crate::support::{Client, Engine, Origin, ProxyProcess, TestProxy, get, wait_for};

const ORDERS: [Signal; 4] = [Signal::HUP, Signal::USR1, Signal::USR2, Signal::WINCH];

fn an_order_cuts_no_request_and_ends_nothing(engine: Engine) {
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).shutdown_timeout("30").route("/", &[origin.addr()], "").toml();
    let (mut process, addr) = ProxyProcess::start(&config);
    let mut client = Client::connect(addr);
    client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    wait_for("the request to be held", || match origin.held() {
        0 => Err(()),
        _ => Ok(()),
    });
    for signal in ORDERS {
        process.signal(signal);
        process.signal(signal);
    }
    for told in ["reloaded snapshot=", "no access log", "exchanges in_flight="] {
        process.wait_for_output(told, |line| line.contains(told).then_some(()));
    }
    origin.release();
    client.response().expect(200);
    get(addr, "/new").expect(200);
    process.signal(Signal::TERM);
    // An order during the drain is none either.
    process.signal(Signal::HUP);
    let exit = process.wait();
    assert!(exit.status.success(), "{exit:?}");
}

on_both_engines!(an_order_cuts_no_request_and_ends_nothing);

/// A supervisor may send it as soon as the process exists: before the configuration was read.
#[test]
fn an_order_at_the_very_start_ends_nothing() {
    let origin = Origin::echo();
    let config = TestProxy::builder(Engine::Native).route("/", &[origin.addr()], "").toml();
    let directory = TempDir::new();
    let path = directory.path().join("reverse-proxy.toml");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut process = ProxyProcess::spawn(program().arg("--config").arg(&path));
    // Waits until the program opens it to read.
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for signal in ORDERS {
        process.signal(signal);
    }
    std::io::Write::write_all(&mut file, config.as_bytes()).unwrap();
    drop(file);
    process.wait_for_output("that it listens", |line| line.contains("listening").then_some(()));
    process.signal(Signal::TERM);
    assert!(process.wait().status.success());
}

/// What ends a process still ends it while there is nothing to drain.
#[test]
fn an_end_at_the_very_start_is_one() {
    let directory = TempDir::new();
    let path = directory.path().join("reverse-proxy.toml");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let process = ProxyProcess::spawn(program().arg("--config").arg(&path));
    let _file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    process.signal(Signal::TERM);
    assert!(!process.wait().status.success());
}
