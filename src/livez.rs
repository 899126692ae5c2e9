//! Asks a running proxy whether it is well, by its admin listener: `--health`, for a container that has no shell to do it with.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::{AdminConfig, ListenAddr};

/// For each step.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks `/livez` of the proxy that has this configuration. What it says.
///
/// # Errors
/// It can't be reached, does not answer within some seconds, or is not well: what it says then.
pub fn ask(admin: &AdminConfig) -> io::Result<String> {
    let mut answer = Vec::new();
    match &admin.listen_addr {
        ListenAddr::Tcp(addr) => {
            let mut stream = TcpStream::connect_timeout(&reachable(*addr), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            exchange(&mut stream, &mut answer)?;
        }
        ListenAddr::Unix(path) => {
            let mut stream = std::os::unix::net::UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            exchange(&mut stream, &mut answer)?;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    let body = body.trim_end();
    if status == "200" {
        Ok(body.to_owned())
    } else {
        Err(io::Error::other(format!("status {status}: {body}")))
    }
}

fn exchange(stream: &mut (impl Read + Write), answer: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    // It is a line of text.
    stream.take(64 * 1024).read_to_end(answer)?;
    Ok(())
}

/// Who listens on all addresses is reached by the loopback one.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
