//! Who may come: `allow` and `deny` of a route.

use std::net::IpAddr;

use crate::ip_network::IpNetwork;

/// Networks whose clients are let in, and those whose are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Absent: everybody who is not denied.
    pub allow: Option<Vec<IpNetwork>>,
    /// Comes first.
    pub deny: Vec<IpNetwork>,
}

impl Access {
    /// Whether `client` is let in.
    #[must_use]
    pub fn lets_in(&self, client: IpAddr) -> bool {
        let is_in = |networks: &[IpNetwork]| networks.iter().any(|network| network.contains(client));
        !is_in(&self.deny) && self.allow.as_deref().is_none_or(is_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNetwork> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn deny_comes_first_and_allow_shuts_out_everybody_else() {
        let lets_in = |access: &Access, client: &str| access.lets_in(client.parse().unwrap());
        let both = Access {
            allow: Some(networks(&["10.0.0.0/8", "2001:db8::/32"])),
            deny: networks(&["10.1.0.0/16", "192.0.2.1"]),
        };
        for (client, expected) in [
            ("10.0.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("10.1.2.3", false),
            ("192.0.2.1", false),
            ("192.0.2.2", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(lets_in(&both, client), expected, "{client}");
        }
        let only_deny = Access { allow: None, ..both };
        assert!(lets_in(&only_deny, "192.0.2.2") && lets_in(&only_deny, "::1"));
        assert!(!lets_in(&only_deny, "10.1.0.0"));
        let unix = Access { allow: Some(vec![IpNetwork::UNIX_CLIENTS]), deny: Vec::new() };
        assert!(lets_in(&unix, "0.0.0.0") && !lets_in(&unix, "127.0.0.1"));
    }
}
