//! Host names → addresses. Never on the request path.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::config::BackendAddr;

/// How a name is looked up; tests have their own.
pub type Lookup<'a> = &'a dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Asks the system's resolver, which may take many seconds.
///
/// # Errors
/// There is no such name, or nobody who knows answers.
pub fn system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Whether the address is a name, whose addresses may change.
#[must_use]
pub fn is_name(addr: &BackendAddr) -> bool {
    addr.host_port().is_some_and(|(host, _)| host.parse::<std::net::IpAddr>().is_err())
}

/// The addresses behind `addr`, sorted, each once; one `None` for a Unix-domain socket, which has none.
///
/// # Errors
/// As `lookup`; also when it finds nothing.
pub fn addresses(addr: &BackendAddr, lookup: Lookup<'_>) -> io::Result<Vec<Option<SocketAddr>>> {
    let Some((host, port)) = addr.host_port() else { return Ok(vec![None]) };
    if let Ok(ip) = host.parse() {
        return Ok(vec![Some(SocketAddr::new(ip, port))]);
    }
    let mut found = lookup(host, port)?;
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found.into_iter().map(Some).collect())
}
