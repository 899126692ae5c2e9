//! [`BackendAddr`] as people write it: `host:port`, `[v6]:port`, `https://host:port`, `unix:/path`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use super::BackendAddr;

/// As in the configuration: `127.0.0.1:80`, `[::1]:80`, `https://[::1]:443`, `unix:/path`.
impl fmt::Display for BackendAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Https { host, port } if host.contains(':') => write!(f, "https://[{host}]:{port}"),
            Self::Https { host, port } => write!(f, "https://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl BackendAddr {
    /// Host and port; `None` for a Unix-domain socket.
    #[must_use]
    pub fn host_port(&self) -> Option<(&str, u16)> {
        match self {
            Self::Tcp { host, port } | Self::Https { host, port } => Some((host, *port)),
            Self::Unix(_) => None,
        }
    }
}

/// Names are not looked up here; they become lower case, so that two spellings of one backend are seen as one.
impl FromStr for BackendAddr {
    type Err = BackendAddrError;

    fn from_str(text: &str) -> Result<Self, BackendAddrError> {
        use BackendAddrError as Error;
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => return https(rest),
            Some(_) => return Err(Error::Scheme),
            None => {}
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(Error::BareV6);
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            // `backend.internal`, `10.0.0.1`, `[::1]`: an address that lacks its port, more than a word by chance.
            _ if text.contains('.') && tcp_host(text).is_some() => return Err(Error::NoPort),
            _ if text == "localhost" || text.starts_with('[') => return Err(Error::NoPort),
            _ => return Err(Error::NotAnAddress),
        };
        let host = tcp_host(host).ok_or(Error::NotAnAddress)?;
        if port.is_empty() {
            return Err(Error::NoPort);
        }
        // Only digits: `u16::from_str` would take a plus sign.
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::NotAnAddress);
        }
        match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Self::Tcp { host, port }),
            _ => Err(Error::PortRange),
        }
    }
}

/// What stands behind `https://`.
fn https(text: &str) -> Result<BackendAddr, BackendAddrError> {
    match text.parse() {
        Ok(BackendAddr::Tcp { host, port }) => Ok(BackendAddr::Https { host, port }),
        Err(error @ (BackendAddrError::PortRange | BackendAddrError::BareV6)) => Err(error),
        _ => Err(BackendAddrError::Https),
    }
}

/// The host in its canonical form, without brackets; `None` when it is neither an address nor a possible name.
fn tcp_host(host: &str) -> Option<String> {
    if let Some(v6) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Some(v6.parse::<Ipv6Addr>().ok()?.to_string());
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    let last = labels.rsplit('.').next()?;
    // A name whose last label is a number is meant as an IPv4 address (`10.0.0.256`); the resolver's ideas about such
    // forms (`127.1`, octal) differ between systems.
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Some(host.parse::<Ipv4Addr>().ok()?.to_string());
    }
    // Underscores are not in RFC 1123, but container networks use them.
    let possible = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (host.len() <= 253 && labels.split('.').all(possible)).then(|| host.to_ascii_lowercase())
}

#[cfg(unix)]
fn unix(path: &str) -> Result<BackendAddr, BackendAddrError> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(BackendAddrError::UnixPath);
    }
    // Knows how long the kernel lets a socket's path be.
    match std::os::unix::net::SocketAddr::from_pathname(path) {
        Ok(_) => Ok(BackendAddr::Unix(PathBuf::from(path))),
        Err(_) => Err(BackendAddrError::UnixPathRefused),
    }
}

#[cfg(not(unix))]
fn unix(_: &str) -> Result<BackendAddr, BackendAddrError> {
    Err(BackendAddrError::NoUnix)
}

/// Why a text is not a [`BackendAddr`]. `Display` says so as the end of a sentence that begins with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendAddrError {
    /// None of the forms.
    NotAnAddress,
    /// A host, but no port.
    NoPort,
    /// The port is 0 or above 65535.
    PortRange,
    /// It begins with `https://`, but what follows is not `host:port` alone.
    Https,
    /// It is a URL.
    Scheme,
    /// An IPv6 address without brackets: where it ends and the port begins cannot be told.
    BareV6,
    /// `unix:` without an absolute path to a file.
    UnixPath,
    /// `unix:` with a path that no socket can have.
    UnixPathRefused,
    /// `unix:` on a system without such sockets.
    NoUnix,
}

impl fmt::Display for BackendAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnAddress => {
                "is not an address; expected host:port or unix:/path, for example \"127.0.0.1:8001\""
            }
            Self::NoPort => "has no port; expected host:port, for example \"127.0.0.1:8001\"",
            Self::PortRange => "has a port out of range; expected host:port with a port from 1 to 65535",
            Self::Https => {
                "is not an https address; expected https://host:port and no path, \
                 for example \"https://backend.example:443\""
            }
            Self::Scheme => {
                "is a URL; expected host:port or unix:/path without a scheme, for example \"127.0.0.1:8001\""
            }
            Self::BareV6 => "lacks brackets or a port; expected [address]:port, for example \"[::1]:8001\"",
            Self::UnixPath => {
                "names no socket; expected unix: and an absolute path, for example \"unix:/run/app.sock\""
            }
            Self::UnixPathRefused => {
                "is too long for a Unix socket, or contains NUL; expected about 100 bytes at most"
            }
            Self::NoUnix => "is a Unix socket, which this system lacks; expected host:port",
        })
    }
}

impl std::error::Error for BackendAddrError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_and_back() {
        for (text, canonical) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("localhost:8001", "localhost:8001"),
            ("Backend_1.Internal.:65535", "backend_1.internal.:65535"),
            ("a-b:1", "a-b:1"),
            ("[::1]:80", "[::1]:80"),
            ("[0:0::0:1]:80", "[::1]:80"),
            ("https://Backend.internal:443", "https://backend.internal:443"),
            ("HTTPS://[::1]:8443", "https://[::1]:8443"),
            #[cfg(unix)]
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
        ] {
            let addr: BackendAddr = text.parse().unwrap();
            assert_eq!(addr.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(addr));
        }
        assert_eq!("https://a:1".parse(), Ok(BackendAddr::Https { host: "a".into(), port: 1 }));
        assert_eq!("[::1]:80".parse(), Ok(BackendAddr::Tcp { host: "::1".into(), port: 80 }));
    }

    #[test]
    fn refuses_everything_else() {
        use BackendAddrError::*;
        for (text, expected) in [
            ("", NotAnAddress),
            ("foo", NotAnAddress),
            (":80", NotAnAddress),
            ("a b:80", NotAnAddress),
            ("a:+80", NotAnAddress),
            ("a:80/", NotAnAddress),
            ("user@a:80", NotAnAddress),
            ("-a:80", NotAnAddress),
            ("a..b:80", NotAnAddress),
            ("127.1:80", NotAnAddress),
            ("10.0.0.256:80", NotAnAddress),
            ("[::g]:80", NotAnAddress),
            ("[127.0.0.1]:80", NotAnAddress),
            ("::1", BareV6),
            ("fe80::1:80", BareV6),
            ("127.0.0.1", NoPort),
            ("example.com", NoPort),
            ("localhost", NoPort),
            ("[::1]", NoPort),
            ("a:", NoPort),
            ("a:0", PortRange),
            ("a:65536", PortRange),
            ("http://a:80", Scheme),
            ("https://a", Https),
            ("https://a:443/", Https),
            ("https://a:443/path", Https),
            ("https://user@a:443", Https),
            ("https://https://a:443", Https),
            ("https://unix:/a", Https),
            ("https://", Https),
            ("https://a:0", PortRange),
            ("https://::1", BareV6),
            #[cfg(unix)]
            ("unix:", UnixPath),
            #[cfg(unix)]
            ("unix:run/a.sock", UnixPath),
            #[cfg(unix)]
            ("unix:/run/", UnixPath),
            #[cfg(unix)]
            ("unix:/a\0b", UnixPathRefused),
        ] {
            assert_eq!(text.parse::<BackendAddr>(), Err(expected), "{text}");
        }
        #[cfg(unix)]
        assert_eq!(format!("unix:/{}", "x".repeat(200)).parse::<BackendAddr>(), Err(UnixPathRefused));
    }
}
