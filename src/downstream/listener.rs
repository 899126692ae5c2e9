//! Listening: sockets with a long backlog, and those a service manager passed.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// What is asked for; the kernel grants at most `net.core.somaxconn`. std asks for 128, with which a burst of 5,000
/// connections takes twenty seconds instead of one.
pub(crate) const BACKLOG: u16 = 4096;

/// A socket that listens, and the address it really has.
#[derive(Debug)]
pub(crate) struct Listener {
    pub socket: Socket,
    pub addr: SocketAddr,
}

/// The listeners for `addrs`: sockets passed in `LISTEN_FDS` where one fits, newly bound ones elsewhere. Passed sockets
/// that fit no address are served too: whoever passed them wants that.
///
/// # Errors
/// The address that can't be bound, and why.
pub(crate) fn open(addrs: &[SocketAddr]) -> Result<Vec<Listener>, (SocketAddr, io::Error)> {
    let mut passed = passed_sockets();
    let mut listeners = Vec::new();
    for addr in addrs {
        let listener = match passed.iter().position(|listener| listener.addr == *addr) {
            Some(place) => passed.swap_remove(place),
            None => bind(*addr).map_err(|error| (*addr, error))?,
        };
        listeners.push(listener);
    }
    listeners.append(&mut passed);
    Ok(listeners)
}

fn bind(addr: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // On Windows the option means something else: that somebody may take over the port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // As in nginx: 0.0.0.0 and :: are two listeners.
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG.into())?;
    with_address(socket)
}

fn with_address(socket: Socket) -> io::Result<Listener> {
    socket.set_tcp_nodelay(true)?;
    let addr = socket.local_addr()?.as_socket();
    let addr = addr.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a TCP socket"))?;
    Ok(Listener { socket, addr })
}

/// Sockets passed by systemd or the like.
#[cfg(unix)]
fn passed_sockets() -> Vec<Listener> {
    let mut fds = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..fds.len() {
        let listener = match fds.take_tcp_listener(index) {
            Ok(None) => continue,
            Ok(Some(listener)) => with_address(Socket::from(listener)),
            Err(error) => Err(error),
        };
        match listener {
            Ok(listener) => {
                log::info!("using the socket passed in LISTEN_FDS addr={}", listener.addr);
                listeners.push(listener);
            }
            Err(error) => log::warn!("socket {index} passed in LISTEN_FDS is not used: {error}"),
        }
    }
    listeners
}

#[cfg(not(unix))]
fn passed_sockets() -> Vec<Listener> {
    Vec::new()
}

impl Listener {
    /// For an engine of std.
    #[cfg(feature = "tiny-http")]
    pub(crate) fn into_std(self) -> std::net::TcpListener {
        self.socket.into()
    }

    /// Prepares it for a thread that never waits in `accept`.
    pub(crate) fn into_polled(self) -> io::Result<Socket> {
        self.socket.set_nonblocking(true)?;
        Ok(self.socket)
    }
}
