//! [`ListenAddr`] as people write it: `ip:port`, `localhost:port`, `unix:/path`; and what is wrong with what is none.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::BackendAddr;

/// Where the proxy listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// A TCP port. Port 0: whichever is free.
    Tcp(SocketAddr),
    /// A Unix-domain socket: an absolute path.
    Unix(PathBuf),
}

impl ListenAddr {
    /// The address; `None` for a Unix-domain socket.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// Whether what is sent to `backend` arrives here, as far as that can be seen without looking up a name.
    pub(super) fn is_reached_by(&self, backend: &BackendAddr) -> bool {
        match (self, backend) {
            (Self::Unix(own), BackendAddr::Unix(path)) => own == path,
            (Self::Tcp(own), BackendAddr::Tcp { host, port } | BackendAddr::Https { host, port })
                if own.port() == *port =>
            {
                let ip = match host.as_str() {
                    "localhost" => Some(IpAddr::from(Ipv4Addr::LOCALHOST)),
                    host => host.parse().ok(),
                };
                ip.is_some_and(|ip| {
                    let takes_all = own.ip().is_unspecified() && own.is_ipv4() == ip.is_ipv4();
                    ip == own.ip() || takes_all && (ip.is_loopback() || ip.is_unspecified())
                })
            }
            _ => false,
        }
    }
}

/// As in the configuration.
impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

/// Names other than `localhost` are not looked up: where the proxy can be reached must not depend on what a resolver
/// says at the moment it starts.
impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, ListenAddrError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        let addr = match text.strip_prefix("localhost:").and_then(port) {
            Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            None => text.parse().ok(),
        };
        addr.map(Self::Tcp).ok_or_else(|| ListenAddrError(what_is_wrong(text)))
    }
}

/// Why a text is not a [`ListenAddr`]. `Display` says so as the end of a sentence that begins with the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddrError(String);

impl fmt::Display for ListenAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ListenAddrError {}

fn unix(path: &str) -> Result<ListenAddr, ListenAddrError> {
    let refuse = |problem: &str| Err(ListenAddrError(problem.to_owned()));
    if !path.starts_with('/') || path.ends_with('/') {
        return refuse(
            "names no socket; write unix: and an absolute path, for example \"unix:/run/reverse-proxy/http.sock\"",
        );
    }
    // Knows how long the kernel lets a socket's path be.
    match std::os::unix::net::SocketAddr::from_pathname(path) {
        Ok(_) => Ok(ListenAddr::Unix(PathBuf::from(path))),
        Err(_) => refuse("is too long for a Unix socket, or contains NUL; write a path of at most 100 bytes"),
    }
}

/// Only digits: `u16::from_str` would take a plus sign.
fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What is wrong with an address, and what to write instead.
fn what_is_wrong(text: &str) -> String {
    if text.trim().is_empty() {
        return "is empty; write ip:port, for example \"127.0.0.1:3000\"".to_owned();
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = rest.split('/').next().unwrap_or_default();
        let tls = if scheme == "https" {
            ", and TLS takes a table, { addr = \"ip:port\", tls = true }"
        } else {
            ""
        };
        return format!("begins with a scheme{tls}; {}", write_instead(authority));
    }
    if text.starts_with('/') {
        return format!("is a path; to listen on a Unix socket write \"unix:{text}\"");
    }
    if let Some((first, rest)) = text.trim().split_once(char::is_whitespace) {
        let rest = rest.trim();
        let tls = rest.split_whitespace().any(|word| matches!(word, "ssl" | "tls" | "https"));
        let tls = if tls { "; TLS takes a table, { addr = \"ip:port\", tls = true }" } else { "" };
        return format!("has {rest:?} behind the address{tls}; {}", write_instead(first));
    }
    if text.trim() != text {
        return format!("has a space before or behind it; {}", write_instead(text.trim()));
    }
    if let Some((authority, _)) = text.split_once('/') {
        return format!("has a path, and listening is for all paths; {}", write_instead(authority));
    }
    if is_number(text) {
        return format!("is a port without an address; {}", every_address(text));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        // Where the address ends and the port begins can only be guessed.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && is_number(port) => (host, port),
            _ => (text, "3000"),
        };
        return format!("is an IPv6 address without brackets; write \"[{host}]:{port}\"");
    }
    let Some((host, port_text)) = text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) else {
        return match text {
            _ if text.starts_with('[') => format!("has no port; write ip:port, for example \"{text}:3000\""),
            "localhost" => "has no port; write \"localhost:3000\", for example".to_owned(),
            "*" => format!("has neither address nor port; {}", every_address("3000")),
            _ if text.parse::<Ipv4Addr>().is_ok() => {
                format!("has no port; write ip:port, for example \"{text}:3000\"")
            }
            _ => "is not an address to listen on; write ip:port, for example \"127.0.0.1:3000\"".to_owned(),
        };
    };
    if host.parse::<Ipv6Addr>().is_ok() {
        return match port(port_text) {
            Some(port) => format!("is an IPv6 address without brackets; write \"[{host}]:{port}\""),
            None => format!("is an IPv6 address without brackets; write [{host}]:port"),
        };
    }
    if port_text.is_empty() {
        return format!("has no port; write ip:port, for example \"{text}3000\"");
    }
    if !is_number(port_text) {
        return format!(
            "has {port_text:?} where its port should be; write a number, for example \"{host}:3000\""
        );
    }
    if port_text.parse::<u16>().is_err() {
        return format!("has the port {port_text}, and there are none above 65535; write a smaller one");
    }
    match host {
        "" => format!("has no address before its port; {}", every_address(port_text)),
        "*" => format!("has \"*\" for an address; {}", every_address(port_text)),
        _ if host.contains('%') => format!(
            "has a zone that is not a number; write the index of the interface, for example \"[fe80::1%2]:{port_text}\""
        ),
        _ if host.starts_with('[') => {
            format!("has no IPv6 address in its brackets; write one, for example \"[::1]:{port_text}\"")
        }
        _ if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            format!(
                "has no IPv4 address before its port: those are four numbers up to 255; write, for example, \
                 \"127.0.0.1:{port_text}\""
            )
        }
        _ => format!(
            "has a name for an address, and names other than localhost are not looked up; write the IP address, \
             for example \"127.0.0.1:{port_text}\""
        ),
    }
}

/// What to write when `text` is the part that was meant.
fn write_instead(text: &str) -> String {
    match text.parse::<ListenAddr>() {
        Ok(_) => format!("write \"{text}\""),
        Err(_) => "write ip:port alone, for example \"127.0.0.1:3000\"".to_owned(),
    }
}

fn every_address(port: &str) -> String {
    if port.parse::<u16>().is_err() {
        return format!(
            "and there is no port {port}: the highest is 65535; write ip:port, for example \"127.0.0.1:3000\""
        );
    }
    format!(
        "write \"0.0.0.0:{port}\" for every IPv4 address of this machine, \"[::]:{port}\" for every IPv6 address, \
         \"127.0.0.1:{port}\" for this machine alone"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_listened_on() {
        for (text, expected) in [
            ("127.0.0.1:3000", "127.0.0.1:3000"),
            ("localhost:80", "127.0.0.1:80"),
            ("[::]:0", "[::]:0"),
            ("[0:0::1]:65535", "[::1]:65535"),
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
        ] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn says_what_is_wrong_and_what_to_write() {
        for (text, wrong, write) in [
            ("", "is empty", "127.0.0.1:3000"),
            (":80", "has no address before its port", "\"0.0.0.0:80\""),
            ("*:80", "has \"*\" for an address", "\"[::]:80\""),
            ("*", "has neither", "\"0.0.0.0:3000\""),
            ("80", "is a port without an address", "\"127.0.0.1:80\""),
            ("99999", "is a port without an address", "65535"),
            ("::1:3000", "without brackets", "\"[::1]:3000\""),
            ("::1", "without brackets", "\"[::1]:3000\""),
            ("1:2:3:4:5:6:7:8:80", "without brackets", "\"[1:2:3:4:5:6:7:8]:80\""),
            ("127.0.0.1:99999", "the port 99999", "65535"),
            ("[::]:99999", "the port 99999", "65535"),
            ("localhost:99999", "the port 99999", "65535"),
            (":99999", "the port 99999", "65535"),
            ("[::]:443 ssl", "\"ssl\" behind the address; TLS takes a table", "write \"[::]:443\""),
            ("[::]:443 ssl http2", "TLS takes a table", "write \"[::]:443\""),
            ("443 ssl", "TLS takes a table", "ip:port"),
            (
                "127.0.0.1:80 default_server",
                "\"default_server\" behind the address",
                "write \"127.0.0.1:80\"",
            ),
            (" 127.0.0.1:80", "a space", "write \"127.0.0.1:80\""),
            ("http://127.0.0.1:80", "begins with a scheme", "write \"127.0.0.1:80\""),
            ("https://127.0.0.1:80/", "TLS takes a table", "write \"127.0.0.1:80\""),
            ("http://example.com", "begins with a scheme", "ip:port"),
            ("127.0.0.1:80/app", "has a path", "write \"127.0.0.1:80\""),
            ("/run/http.sock", "is a path", "\"unix:/run/http.sock\""),
            ("127.0.0.1", "has no port", "\"127.0.0.1:3000\""),
            ("127.0.0.1:", "has no port", "\"127.0.0.1:3000\""),
            ("localhost", "has no port", "\"localhost:3000\""),
            ("localhost:", "has no port", "\"localhost:3000\""),
            ("localhost:+1", "has \"+1\" where its port", "\"localhost:3000\""),
            ("127.0.0.1:http", "has \"http\" where its port", "\"127.0.0.1:3000\""),
            ("[::1]", "has no port", "\"[::1]:3000\""),
            ("[::g]:80", "no IPv6 address in its brackets", "\"[::1]:80\""),
            ("[fe80::1%eth0]:80", "a zone", "\"[fe80::1%2]:80\""),
            ("10.0.0.256:80", "no IPv4 address", "\"127.0.0.1:80\""),
            ("example.com:80", "a name for an address", "\"127.0.0.1:80\""),
            ("somewhere", "is not an address", "\"127.0.0.1:3000\""),
            ("unix:run/a.sock", "names no socket", "unix:/run"),
            ("unix:/run/", "names no socket", "unix:/run"),
            ("unix:", "names no socket", "unix:/run"),
        ] {
            let problem = text.parse::<ListenAddr>().unwrap_err().to_string();
            assert!(problem.contains(wrong) && problem.contains(write), "{text:?} {problem}");
        }
    }
}
