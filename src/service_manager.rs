//! What the service manager (systemd, or whoever else sets `NOTIFY_SOCKET`) is told, as in sd_notify(3): a line per fact, in
//! one datagram.

use std::time::Duration;

/// What the end takes beside the time-outs: threads are joined, the last lines of the log are written.
const MARGIN: Duration = Duration::from_secs(5);

/// Clients are let in: units that wait for this one can start.
pub(crate) fn ready() {
    notify("READY=1\n");
}

/// The configuration is being read again; [`ready`] follows. `MONOTONIC_USEC` tells this from what was said before
/// (`Type=notify-reload`, systemd.service(5)).
pub(crate) fn reloading() {
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_micros()));
}

fn monotonic_micros() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// The end has begun and may take `longest`, so that the process is not killed before that, whatever `TimeoutStopSec` is.
pub(crate) fn stopping(longest: Duration) {
    let micros = (longest + MARGIN).as_micros();
    notify(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\n"));
}

fn notify(facts: &str) {
    // Without a service manager, there is nobody to tell.
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&address, facts.as_bytes()) {
        let fact = facts.lines().next().unwrap_or_default();
        log::warn!("cannot tell the service manager {fact:?} socket={address:?}: {error}");
    }
}

fn send(address: &std::ffi::OsStr, facts: &[u8]) -> std::io::Result<()> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    // Nobody who reads slowly may hold up the proxy.
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    if let Some(name) = address.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        let abstract_address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return socket.send_to_addr(facts, &abstract_address).map(|_| ());
    }
    socket.send_to(facts, address).map(|_| ())
}
