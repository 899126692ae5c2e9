//! Whom to believe. The listener has no passwords: who reaches it may ask. But a browser on the same machine reaches it for
//! any page it shows, and a page must neither give orders nor, by a name that leads to 127.0.0.1, read.

use std::net::{IpAddr, SocketAddr};

/// Whether `host` (of a request that came in over a loopback address) is an address or `localhost`. A page that has had its own name
/// resolve to this machine sends that name.
pub(super) fn is_direct(host: &str) -> bool {
    let name = match host.parse::<SocketAddr>() {
        Ok(_) => return true,
        Err(_) => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// Whether an order comes from a page of another origin. Browsers say whose page it is in `Origin`; other programs do not. A
/// page under a name, even if that is what was asked for, may be anybody's.
pub(super) fn is_foreign(origin: Option<&str>, host: &str) -> bool {
    origin.is_some_and(|origin| origin.strip_prefix("http://") != Some(host) || !is_direct(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_direct() {
        for host in
            ["127.0.0.1:9900", "127.0.0.1", "localhost:9900", "LOCALHOST", "[::1]:9900", "[::1]", "10.1.2.3"]
        {
            assert!(is_direct(host), "{host}");
        }
        for host in ["rebound.example:9900", "127.0.0.1.example", "", "localhost.example"] {
            assert!(!is_direct(host), "{host}");
        }
    }

    #[test]
    fn pages_of_others_give_no_orders() {
        assert!(!is_foreign(None, "127.0.0.1:9900"));
        assert!(!is_foreign(Some("http://127.0.0.1:9900"), "127.0.0.1:9900"));
        for origin in ["https://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1:9900"] {
            assert!(is_foreign(Some(origin), "127.0.0.1:9900"), "{origin}");
        }
        assert!(is_foreign(Some("http://rebound.example"), "rebound.example"));
    }
}
