//! [`BackendAddr`] as people write it: `host:port`, `[v6]:port`, `https://host`, `https://host:port`, `unix:/path`.

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
            Some((scheme, rest)) => return Err(url(scheme, rest)),
            None => {}
        }
        if let Some((authority, _)) = text.split_once('/')
            && let Ok(addr) = authority.parse::<Self>()
        {
            return Err(Error::Path(Some(addr)));
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

/// What stands behind `https://`. Without a port it is that of HTTPS.
fn https(text: &str) -> Result<BackendAddr, BackendAddrError> {
    use BackendAddrError as Error;
    let (authority, has_path) = match text.split_once('/') {
        Some((authority, _)) => (authority, true),
        None => (text, false),
    };
    let addr = match authority.parse() {
        Ok(BackendAddr::Tcp { host, port }) => BackendAddr::Https { host, port },
        Err(error @ (Error::PortRange | Error::BareV6)) => return Err(error),
        // A colon at the end is a port that was forgotten, rather than one that was left out.
        _ if authority.ends_with(':') => return Err(Error::Https),
        _ => BackendAddr::Https { host: tcp_host(authority).ok_or(Error::Https)?, port: 443 },
    };
    if has_path { Err(Error::Path(Some(addr))) } else { Ok(addr) }
}

/// What is wrong with `scheme://rest`: everything at once.
fn url(scheme: &str, rest: &str) -> BackendAddrError {
    let (authority, path) = match rest.split_once('/') {
        Some((authority, _)) => (authority, true),
        None => (rest, false),
    };
    let is_http = ["http", "tcp", "ws"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let write = match authority.parse() {
        Ok(addr @ BackendAddr::Tcp { .. }) if is_http => Some(addr),
        // Without a port it is that of HTTP.
        Err(BackendAddrError::NoPort | BackendAddrError::NotAnAddress) if is_http => {
            tcp_host(authority).map(|host| BackendAddr::Tcp { host, port: 80 })
        }
        _ => None,
    };
    BackendAddrError::Scheme { path, write }
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

/// Why a text is not a [`BackendAddr`]. `Display` says so as the end of a sentence that begins with the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendAddrError {
    /// None of the forms.
    NotAnAddress,
    /// A host, but no port.
    NoPort,
    /// The port is 0 or above 65535.
    PortRange,
    /// It begins with `https://`, but what follows is neither `host` nor `host:port`.
    Https,
    /// It begins with a scheme.
    Scheme {
        /// It has a path as well.
        path: bool,
        /// The address in it, if it can be told.
        write: Option<BackendAddr>,
    },
    /// It has a path; the address before it.
    Path(Option<BackendAddr>),
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
            Self::Scheme { path, write: found } => {
                let parts = if *path { "no scheme and no path" } else { "no scheme" };
                return write!(f, "is a URL; expected {parts}: {}", Written(found.as_ref()));
            }
            Self::Path(found) => {
                return write!(
                    f,
                    "has a path; expected no path, requests are passed on with their own: {}",
                    Written(found.as_ref())
                );
            }
            Self::NotAnAddress => {
                "is not an address; expected host:port or unix:/path, for example \"127.0.0.1:8001\""
            }
            Self::NoPort => "has no port; expected host:port, for example \"127.0.0.1:8001\"",
            Self::PortRange => "has a port out of range; expected host:port with a port from 1 to 65535",
            Self::Https => {
                "is not an https address; expected https://host or https://host:port, \
                 for example \"https://backend.example\""
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

/// What to write instead of what was found.
struct Written<'a>(Option<&'a BackendAddr>);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => write!(f, "write \"{addr}\""),
            None => f.write_str("write host:port or unix:/path, for example \"127.0.0.1:8001\""),
        }
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
            ("https://app.example", "https://app.example:443"),
            ("https://[::1]", "https://[::1]:443"),
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
            ("foo/", NotAnAddress),
            ("a:x/y", NotAnAddress),
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
            ("https://a:", Https),
            ("https://user@a:443", Https),
            ("https://https://a:443", Https),
            ("https://unix:/a", Https),
            ("https://", Https),
            ("https://a:0", PortRange),
            ("https://::1", BareV6),
            ("unix:", UnixPath),
            ("unix:run/a.sock", UnixPath),
            ("unix:/run/", UnixPath),
            ("unix:/a\0b", UnixPathRefused),
        ] {
            assert_eq!(text.parse::<BackendAddr>(), Err(expected), "{text}");
        }
        assert_eq!(format!("unix:/{}", "x".repeat(200)).parse::<BackendAddr>(), Err(UnixPathRefused));
    }

    #[test]
    fn says_all_that_is_wrong_with_a_url() {
        for (text, expected) in [
            ("http://h:9001", "is a URL; expected no scheme: write \"h:9001\""),
            ("HTTP://h", "is a URL; expected no scheme: write \"h:80\""),
            ("http://[::1]/", "is a URL; expected no scheme and no path: write \"[::1]:80\""),
            ("http://h:9001/app", "is a URL; expected no scheme and no path: write \"h:9001\""),
            (
                "ftp://h:21",
                "is a URL; expected no scheme: write host:port or unix:/path, for example \"127.0.0.1:8001\"",
            ),
            (
                "h:9001/app",
                "has a path; expected no path, requests are passed on with their own: write \"h:9001\"",
            ),
            (
                "https://h/app",
                "has a path; expected no path, requests are passed on with their own: write \"https://h:443\"",
            ),
            (
                "https://h:8443/",
                "has a path; expected no path, requests are passed on with their own: write \"https://h:8443\"",
            ),
        ] {
            assert_eq!(text.parse::<BackendAddr>().unwrap_err().to_string(), expected, "{text}");
        }
    }
}
