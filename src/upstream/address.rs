//! [`Upstream`]: where one backend is, how to speak to it, and how many idle connections to it are kept.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{BackendAddr, RouteConfig};
use crate::net::stream::Stream;
use crate::net::tls::TlsClient;

/// Where to connect to.
#[derive(Debug)]
enum Destination {
    /// `None`: nobody knows where.
    Tcp(Option<SocketAddr>),
    Unix(PathBuf),
}

/// What the connections to one backend have in common.
#[derive(Debug)]
pub struct Upstream {
    destination: Destination,
    tls: Option<TlsClient>,
    host: HeaderValue,
    /// Tells the idle connections of one backend from those of others.
    id: usize,
    /// Connections to it begin with a PROXY header.
    send_proxy: bool,
    max_idle: usize,
    max_idle_age: Duration,
    /// Idle connections that all workers keep together. A bound and nothing else: `Relaxed`.
    idle: Arc<AtomicUsize>,
}

/// One of the places for idle connections to a backend. Given back when dropped.
#[derive(Debug)]
pub(crate) struct IdlePlace(Arc<AtomicUsize>);

impl Drop for IdlePlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The address of a backend as the value of a `Host` field.
///
/// # Errors
/// It can't be written in one.
pub(crate) fn host_of(addr: &BackendAddr) -> io::Result<HeaderValue> {
    let host = match addr {
        BackendAddr::Tcp { host, port } => authority(host, *port, 80),
        BackendAddr::Https { host, port } => authority(host, *port, 443),
        // What nginx sends for a Unix-domain backend.
        BackendAddr::Unix(_) => "localhost".to_owned(),
    };
    HeaderValue::from_str(&host)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error}")))
}

/// As in a `Host` field: without the port where it is the scheme's own (RFC 9110 §4.2.3).
fn authority(host: &str, port: u16, default_port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == default_port { host } else { format!("{host}:{port}") }
}

impl Upstream {
    /// For the backend at `addr`, with what `route` says of connections. `resolved`: where that is, unless it is a
    /// Unix-domain socket.
    ///
    /// # Errors
    /// The address can't be written in a `Host` field, or the system has no CA certificates.
    pub fn new(addr: &BackendAddr, resolved: Option<SocketAddr>, route: &RouteConfig) -> io::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut tls = None;
        let destination = match addr {
            BackendAddr::Tcp { .. } => Destination::Tcp(resolved),
            BackendAddr::Https { host, .. } => {
                tls = Some(TlsClient::new(host, &route.tls)?);
                Destination::Tcp(resolved)
            }
            BackendAddr::Unix(path) => Destination::Unix(path.clone()),
        };
        Ok(Self {
            destination,
            tls,
            host: host_of(addr)?,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            send_proxy: route.send_proxy,
            max_idle: route.kept_connections(),
            max_idle_age: route.keepalive_idle,
            idle: Arc::default(),
        })
    }

    /// Its address as the value of a `Host` field.
    #[must_use]
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    pub(crate) fn id(&self) -> usize {
        self.id
    }

    /// Whether connections to it begin with a PROXY header.
    pub(crate) fn sends_proxy(&self) -> bool {
        self.send_proxy
    }

    /// How long an idle connection is kept.
    pub(crate) fn max_idle_age(&self) -> Duration {
        self.max_idle_age
    }

    /// Connections to it that are kept now.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// A place for one more idle connection. `None`: as many as `keepalive_connections` are kept.
    pub(crate) fn idle_place(&self) -> Option<IdlePlace> {
        let one_more = |now: usize| (now < self.max_idle).then_some(now + 1);
        self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(IdlePlace(Arc::clone(&self.idle)))
    }

    /// The name has no address.
    pub(crate) fn is_unresolved(&self) -> bool {
        matches!(self.destination, Destination::Tcp(None))
    }

    /// Begins to connect, without waiting. `WouldBlock` is a Unix-domain socket whose backlog is full: try again soon.
    ///
    /// # Errors
    /// As `socket(2)` and `connect(2)`.
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        let (domain, addr) = match &self.destination {
            Destination::Tcp(Some(addr)) => (Domain::for_address(*addr), SockAddr::from(*addr)),
            Destination::Tcp(None) => {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            Destination::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
        if domain != Domain::UNIX {
            socket.set_tcp_nodelay(true)?;
        }
        match socket.connect(&addr) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            // The permissions of a socket file are the backend's affair, those of a firewall are not (`shortage.rs`).
            Err(error) if domain == Domain::UNIX && error.kind() == io::ErrorKind::PermissionDenied => {
                let advice = "no permission to write to the socket; let the proxy's user or group have it";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, advice));
            }
            Err(error) => return Err(error),
        }
        let session = self.tls.as_ref().map(TlsClient::session).transpose()?;
        Ok(Stream::connecting(socket, session))
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            destination: Destination::Tcp(None),
            tls: None,
            host: HeaderValue::from_static("127.0.0.1:1"),
            id: 0,
            send_proxy: false,
            max_idle: 0,
            max_idle_age: Duration::ZERO,
            idle: Arc::default(),
        }
    }
}
