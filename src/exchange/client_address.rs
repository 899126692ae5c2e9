//! Who a request is from.

use std::net::{IpAddr, SocketAddr};

use crate::config::IpNetwork;
use crate::http::fields::{Fields, list_elements};
use crate::http::headers::FORWARDED_FOR;

/// The client of a connection from `peer`. If that is one of the `trusted` proxies, it is the last one in
/// `X-Forwarded-For` that is not: all behind it were written by proxies that are trusted, and those before it by anybody.
pub(crate) fn client_address(peer: IpAddr, fields: &Fields, trusted: &[IpNetwork]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    let elements: Vec<_> = list_elements(fields.get_all(&FORWARDED_FOR)).collect();
    for element in elements.into_iter().rev() {
        // What is no address was written by nobody whom one could trust.
        let Some(address) = address(element) else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// An address, with brackets or a port or without.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(element).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|addr| addr.ip()));
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(peer: &str, lines: &[&'static str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let line = |line: &&'static str| (FORWARDED_FOR, HeaderValue::from_static(line));
        client_address(peer.parse().unwrap(), &lines.iter().map(line).collect(), &trusted).to_string()
    }

    #[test]
    fn it_is_the_last_who_is_not_trusted() {
        assert_eq!(client("192.0.2.1", &["198.51.100.1"]), "192.0.2.1", "anybody can write the field");
        assert_eq!(client("10.0.0.1", &["203.0.113.9, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1", "10.0.0.2, fd00::1"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1:80, ::ffff:10.0.0.3"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.2"]), "10.0.0.2");
    }
}
