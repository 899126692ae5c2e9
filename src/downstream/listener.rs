//! Listening: sockets with a long backlog, and those a service manager passed.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{ListenAddr, ListenConfig};

/// What is asked for; the kernel grants at most `net.core.somaxconn`. std asks for 128, with which a burst of 5,000
/// connections takes twenty seconds instead of one.
pub(crate) const BACKLOG: u16 = 4096;

/// A socket that listens, and the address it really has.
#[derive(Debug)]
pub(crate) struct Listener {
    pub socket: Socket,
    pub addr: ListenAddr,
    pub entrance: Entrance,
}

/// How those are served who come in by one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entrance {
    /// `None`: a Unix-domain socket.
    pub port: Option<u16>,
    pub tls: bool,
    pub https_redirect: bool,
    /// A PROXY header comes before all else.
    pub proxy_protocol: bool,
}

impl Entrance {
    /// Of a listener with the address `addr`, as `config` has it.
    pub(crate) fn new(addr: &ListenAddr, config: &ListenConfig) -> Self {
        let &ListenConfig { tls, https_redirect, proxy_protocol, .. } = config;
        Self { port: addr.tcp().map(|addr| addr.port()), tls, https_redirect, proxy_protocol }
    }
}

/// What a reload changes about accepting.
#[derive(Debug)]
pub(crate) struct Change {
    pub added: Vec<Listener>,
    /// Who comes in by these is served in another way from now on.
    pub changed: Vec<(ListenAddr, Entrance)>,
    /// They take what is in their backlogs, and close.
    pub removed: Vec<ListenAddr>,
    /// Connections there may be from now on. Those beyond it stay.
    pub max_connections: usize,
}

/// The listeners for `addrs`: sockets passed in `LISTEN_FDS` where one fits, newly bound ones elsewhere. Passed sockets
/// that fit no address are served too: whoever passed them wants that. `mode` is what the permissions of Unix-domain
/// sockets become; a passed one keeps those it has.
///
/// # Errors
/// The address that can't be bound, and why.
pub(crate) fn open(
    addrs: &[ListenConfig],
    mode: Option<u32>,
) -> Result<Vec<Listener>, (ListenAddr, io::Error)> {
    let mut passed = passed_sockets();
    let mut listeners = Vec::new();
    for config in addrs {
        let mut listener = match passed.iter().position(|listener| listener.addr == config.addr) {
            Some(place) => passed.swap_remove(place),
            None => open_one(config, mode).map_err(|error| (config.addr.clone(), error))?,
        };
        listener.entrance = Entrance::new(&listener.addr, config);
        listeners.push(listener);
    }
    listeners.append(&mut passed);
    Ok(listeners)
}

/// A new listener.
///
/// # Errors
/// The address can't be bound.
pub(crate) fn open_one(config: &ListenConfig, mode: Option<u32>) -> io::Result<Listener> {
    let mut listener = match &config.addr {
        ListenAddr::Tcp(addr) => bind(*addr),
        ListenAddr::Unix(path) => bind_unix(path, mode),
    }?;
    listener.entrance = Entrance::new(&listener.addr, config);
    Ok(listener)
}

fn bind(addr: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // On Windows the option means something else: that somebody may take over the port.
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
    let addr = socket.local_addr()?;
    let addr = match addr.as_socket() {
        Some(addr) => {
            socket.set_tcp_nodelay(true)?;
            ListenAddr::Tcp(addr)
        }
        None => path_of(&addr).map(ListenAddr::Unix).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "neither a TCP socket nor a Unix socket with a path")
        })?,
    };
    let entrance = Entrance::new(&addr, &addr.clone().into());
    Ok(Listener { socket, addr, entrance })
}

fn path_of(addr: &SockAddr) -> Option<PathBuf> {
    addr.as_pathname().map(Path::to_owned)
}

fn bind_unix(path: &Path, mode: Option<u32>) -> io::Result<Listener> {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    let addr = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&addr) {
        // A proxy that was killed leaves its file behind.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path, &addr) => {
            std::fs::remove_file(path)?;
            socket.bind(&addr)?;
        }
        bound => bound?,
    }
    // Before it listens, so that nobody gets in whom the permissions would keep out.
    if let Some(mode) = mode {
        set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG.into())?;
    with_address(socket)
}

/// Whether `path` is a socket that nobody listens on. Any other file stays where it is.
fn is_stale(path: &Path, addr: &SockAddr) -> bool {
    use std::os::unix::fs::FileTypeExt;

    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket && {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None);
        // A full backlog must not hold up the start, and whoever has one is there.
        let answer = client.and_then(|client| {
            client.set_nonblocking(true)?;
            client.connect(addr)
        });
        answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// Sockets passed by systemd or the like.
fn passed_sockets() -> Vec<Listener> {
    let mut fds = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..fds.len() {
        // What is no TCP socket stays there and may be one of the other kind.
        let taken = match fds.take_tcp_listener(index) {
            Ok(listener) => Ok(listener.map(Socket::from)),
            Err(_) => fds.take_unix_listener(index).map(|listener| listener.map(Socket::from)),
        };
        let listener = match taken {
            Ok(None) => continue,
            Ok(Some(socket)) => with_address(socket),
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

impl Listener {
    /// For the classic engine, which takes TCP connections only.
    ///
    /// # Errors
    /// It listens on a Unix-domain socket.
    #[cfg(feature = "classic")]
    pub(crate) fn into_std(self) -> io::Result<std::net::TcpListener> {
        match self.addr.tcp() {
            Some(_) => Ok(self.socket.into()),
            None => Err(io::Error::other(format!("engine = \"tiny_http\" can not listen on {}", self.addr))),
        }
    }

    /// Prepares it for a thread that never waits in `accept`.
    pub(crate) fn into_polled(self) -> io::Result<Socket> {
        self.socket.set_nonblocking(true)?;
        Ok(self.socket)
    }
}
