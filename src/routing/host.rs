//! [`HostPattern`]: for which host names a route is, as the configuration says it; and the host of a request, as it is
//! compared with it.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

/// No name is longer (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// The hosts a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This one, in lower case.
    Exact(String),
    /// All names that end with a dot and this: `*.shop.example`.
    Below(String),
}

impl HostPattern {
    /// Checks a host from the configuration: a name, an address, or `*.` and a name. Upper case and a trailing dot make no
    /// difference.
    ///
    /// # Errors
    /// When no request could be for it: see [`HostError`].
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if !text.is_ascii() {
            return Err(HostError::NotAscii);
        }
        if text.contains("://") || text.contains('/') {
            return Err(HostError::NotAHost);
        }
        let lower = text.to_ascii_lowercase();
        if let Some(inner) = lower.strip_prefix('[') {
            let Some((inner, rest)) = inner.split_once(']') else { return Err(HostError::NotAHost) };
            return match (inner.parse::<Ipv6Addr>(), rest) {
                (Ok(_), "") => Ok(Self::Exact(lower.clone())),
                (Ok(_), _) => Err(HostError::Port),
                _ => Err(HostError::NotAHost),
            };
        }
        if lower.parse::<Ipv6Addr>().is_ok() {
            return Err(HostError::Brackets);
        }
        if lower.contains(':') {
            return Err(HostError::Port);
        }
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        let (name, is_below) = match name.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (name, false),
        };
        if name.contains('*') {
            return Err(HostError::Star);
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if name.len() > MAX_NAME || !name.split('.').all(is_label) {
            return Err(HostError::NotAHost);
        }
        Ok(if is_below { Self::Below(name.to_owned()) } else { Self::Exact(name.to_owned()) })
    }
}

/// As in the configuration.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// Why a text is not a [`HostPattern`]. `Display` says so as the end of a sentence that begins with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// Neither a name nor an address.
    NotAHost,
    /// A name that is not in ASCII.
    NotAscii,
    /// A host with a port.
    Port,
    /// An IPv6 address without brackets.
    Brackets,
    /// A star elsewhere than in front, or for a part of a label.
    Star,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAHost => {
                "is no host name; expected one, for example \"shop.example\" or \"*.shop.example\""
            }
            Self::NotAscii => {
                "is not in ASCII; write the name as clients send it, for example \"xn--80ak6aa92e.example\""
            }
            Self::Port => "has a port; leave it out: a route is for its hosts on all ports listened on",
            Self::Brackets => {
                "is an IPv6 address without brackets; write it as in a URL, for example \"[::1]\""
            }
            Self::Star => {
                "has a \"*\" that does not stand for whole labels in front; write it as in \"*.shop.example\""
            }
        })
    }
}

impl std::error::Error for HostError {}

/// The host of a request without what makes no difference: its port, upper case, a trailing dot (RFC 9110 §4.2.3).
/// `None`: no name that anybody could have written down.
pub(super) fn comparable(host: &[u8]) -> Option<Cow<'_, str>> {
    let host = str::from_utf8(host).ok()?;
    let name = match host.rfind([':', ']']) {
        Some(at) if host.as_bytes().get(at) == Some(&b':') => host.get(..at)?,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > MAX_NAME {
        return None;
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(name.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hosts_look_like() {
        let exact = |name: &str| Ok(HostPattern::Exact(name.to_owned()));
        let below = |name: &str| Ok(HostPattern::Below(name.to_owned()));
        for (text, expected) in [
            ("shop.example", exact("shop.example")),
            ("Shop.Example.", exact("shop.example")),
            ("localhost", exact("localhost")),
            ("127.0.0.1", exact("127.0.0.1")),
            ("[::1]", exact("[::1]")),
            ("my_host", exact("my_host")),
            ("xn--80ak6aa92e.example", exact("xn--80ak6aa92e.example")),
            ("*.shop.example", below("shop.example")),
            ("*.example", below("example")),
            ("", Err(HostError::NotAHost)),
            (".", Err(HostError::NotAHost)),
            ("a..b", Err(HostError::NotAHost)),
            ("a b", Err(HostError::NotAHost)),
            ("http://a", Err(HostError::NotAHost)),
            ("a/b", Err(HostError::NotAHost)),
            ("*", Err(HostError::Star)),
            ("*.*.example", Err(HostError::Star)),
            ("w*.example", Err(HostError::Star)),
            ("www.*", Err(HostError::Star)),
            ("a:80", Err(HostError::Port)),
            ("[::1]:80", Err(HostError::Port)),
            ("::1", Err(HostError::Brackets)),
            ("[::1", Err(HostError::NotAHost)),
            ("café.example", Err(HostError::NotAscii)),
        ] {
            assert_eq!(HostPattern::parse(text), expected, "{text}");
        }
        assert!(HostPattern::parse(&format!("{}.example", "a".repeat(64))).is_err());
    }

    #[test]
    fn what_makes_no_difference_in_a_request() {
        for (host, expected) in [
            ("shop.example", Some("shop.example")),
            ("SHOP.example:8443", Some("shop.example")),
            ("shop.example.:80", Some("shop.example")),
            ("shop.example:", Some("shop.example")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (":80", None),
            (".", None),
        ] {
            assert_eq!(comparable(host.as_bytes()).as_deref(), expected, "{host}");
        }
        assert_eq!(comparable(b"\xff"), None);
        assert_eq!(comparable(&[b'a'; 254]), None);
    }
}
