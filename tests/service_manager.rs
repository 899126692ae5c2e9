//! What the service manager hears, in place of which there is a datagram socket here.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::process::Signal;

use crate::support::engines::on_both_engines;
use crate::support::process::{TempDir, program};
use crate::support::{Engine, Origin, PATIENCE, ProxyProcess, TestProxy, get};

/// The next datagram.
fn heard(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let length = manager.recv(&mut buffer).expect("the service manager hears something");
    String::from_utf8(buffer[..length].to_vec()).expect("text")
}

fn start_and_stop(engine: Engine, manager: &UnixDatagram, address: OsString) {
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let origin = Origin::echo();
    let builder = TestProxy::builder(engine).drain_delay("0.25").shutdown_timeout("4");
    let config = builder.route("/", &[origin.addr()], "").toml();
    let mut command = program();
    command.env("NOTIFY_SOCKET", address);
    let (process, addr) = ProxyProcess::start_with(&config, command);
    assert_eq!(heard(manager), "READY=1\n");
    get(addr, "/").expect(200);
    process.signal(Signal::TERM);
    // The delay, the time-out, and some seconds more.
    assert_eq!(heard(manager), "STOPPING=1\nEXTEND_TIMEOUT_USEC=9250000\n");
    let exit = process.wait();
    assert!(exit.status.success(), "{exit:?}");
    assert!(!exit.output.contains("WARN"), "{}", exit.output);
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0]).is_err(), "more than two messages");
}

fn it_hears_when_clients_are_let_in_and_when_the_end_begins(engine: Engine) {
    let directory = TempDir::new();
    let path = directory.path().join("notify.sock");
    start_and_stop(engine, &UnixDatagram::bind(&path).unwrap(), path.into());
}

fn its_address_may_be_abstract(engine: Engine) {
    let name = format!("reverse-proxy-test-{}-{}", std::process::id(), engine.name());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    start_and_stop(engine, &UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into());
}

/// A proxy that runs is worth more than a service manager that knows.
fn one_that_is_not_there_is_no_reason_not_to_run(engine: Engine) {
    let directory = TempDir::new();
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).route("/", &[origin.addr()], "").toml();
    let mut command = program();
    command.env("NOTIFY_SOCKET", directory.path().join("nobody.sock"));
    let (mut process, addr) = ProxyProcess::start_with(&config, command);
    get(addr, "/").expect(200);
    process.wait_for_output("a warning", |line| {
        (line.contains("WARN") && line.contains("READY=1") && line.contains("nobody.sock")).then_some(())
    });
}

on_both_engines!(
    it_hears_when_clients_are_let_in_and_when_the_end_begins,
    its_address_may_be_abstract,
    one_that_is_not_there_is_no_reason_not_to_run,
);
