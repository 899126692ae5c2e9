//! Why a route does not take a request. Whether one would is asked of the routing that serves: of a table with this one
//! route in it.

use crate::routing::{HostPattern, Prefix, RouteKey, RouteTable};

/// Why `loser` does not take a request for `host` and `path`, which `winner` takes, if any does.
pub(super) fn reason(winner: Option<&RouteKey>, loser: &RouteKey, host: &[u8], path: &str) -> String {
    let takes = |key: RouteKey| RouteTable::new(vec![(key, ())]).find(host, path).is_some();
    let fits_host = takes(RouteKey { hosts: loser.hosts.clone(), prefix: Prefix::root() });
    let fits_path = takes(RouteKey { hosts: Vec::new(), prefix: loser.prefix.clone() });
    let other_host = || {
        let asked = if host.is_empty() { "none was asked for".into() } else { String::from_utf8_lossy(host) };
        let hosts: Vec<_> = loser.hosts.iter().map(ToString::to_string).collect();
        let not = if host.is_empty() { "and" } else { "not for" };
        format!("it is for {}, {not} {asked}", hosts.join(", "))
    };
    let other_path = || format!("{path} is not below {}", loser.prefix);
    match (fits_host, fits_path, winner) {
        (false, false, _) => format!("{}, and {}", other_host(), other_path()),
        (false, true, _) => other_host(),
        (true, false, _) => other_path(),
        (true, true, Some(winner)) => match (pattern(winner, &takes), pattern(loser, &takes)) {
            (Some(first), None) => format!("it is for any host, and a route for {first} comes first"),
            (Some(first), Some(second)) if first != second => {
                format!("it is for {second}, and a route for {first} comes first")
            }
            _ => format!("its prefix is shorter: {} instead of {}", loser.prefix, winner.prefix),
        },
        // No route can be both fit and passed over for nothing.
        (true, true, None) => "another one comes first".to_owned(),
    }
}

/// Which of the hosts of a route is that of the request, the most exact first. `None`: it is for any.
fn pattern<'k>(key: &'k RouteKey, takes: &impl Fn(RouteKey) -> bool) -> Option<&'k HostPattern> {
    let fits =
        |pattern: &&HostPattern| takes(RouteKey { hosts: vec![(*pattern).clone()], prefix: Prefix::root() });
    let exactness = |pattern: &&HostPattern| match pattern {
        HostPattern::Exact(_) => (1, 0),
        HostPattern::Below(name) => (0, name.len()),
    };
    key.hosts.iter().filter(fits).max_by_key(exactness)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;

    proptest! {
        /// Whatever the routes are: a reason names what the loser lacks, and who comes first is never less exact.
        #[test]
        fn there_is_always_a_reason(
            keys in proptest::collection::vec(
                (
                    subsequence(vec!["a.b.c", "b.c", "*.b.c", "*.c"], 0..=4),
                    select(vec!["/", "/x", "/x/y", "/z"]),
                ),
                1..6,
            ),
            host in select(vec!["a.b.c", "b.c", "d.b.c:80", "c", ""]),
            path in select(vec!["/", "/x", "/x/y/z", "/xx"]),
        ) {
            let keys: Vec<_> = keys.iter().map(|(hosts, prefix)| key(hosts, prefix)).collect();
            let table = RouteTable::new(keys.iter().cloned().enumerate().map(|(n, key)| (key, n)).collect());
            let winner = table.find(host.as_bytes(), path).map(|n| &keys[*n]);
            let takes = |key: RouteKey| RouteTable::new(vec![(key, ())]).find(host.as_bytes(), path).is_some();
            for loser in keys.iter().filter(|key| Some(*key) != winner) {
                let reason = reason(winner, loser, host.as_bytes(), path);
                prop_assert_ne!(&reason, "another one comes first");
                prop_assert_eq!(!takes(loser.clone()), reason.contains("not below") || reason.contains("not for")
                    || reason.contains("none was asked for"), "{}", reason);
                if let (true, Some(winner)) = (reason.contains("shorter"), winner) {
                    prop_assert!(loser.prefix.as_str().len() <= winner.prefix.as_str().len(), "{}", reason);
                }
            }
        }
    }

    fn key(hosts: &[&str], prefix: &str) -> RouteKey {
        let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
        RouteKey { hosts, prefix: Prefix::parse(prefix).unwrap() }
    }

    #[test]
    fn the_reason_is_the_one_that_routing_had() {
        let keys = [
            key(&[], "/"),
            key(&[], "/api"),
            key(&["shop.example"], "/"),
            key(&["shop.example", "*.example"], "/api"),
            key(&["*.example"], "/"),
            key(&["*.a.example"], "/api/x"),
        ];
        for (host, path, winner, expected) in [
            (
                "shop.example:80",
                "/api/x",
                Some(3),
                [
                    "it is for any host, and a route for shop.example comes first",
                    "it is for any host, and a route for shop.example comes first",
                    "its prefix is shorter: / instead of /api",
                    "",
                    "it is for *.example, and a route for shop.example comes first",
                    "it is for *.a.example, not for shop.example:80",
                ],
            ),
            (
                "b.a.example",
                "/apix",
                Some(4),
                [
                    "it is for any host, and a route for *.example comes first",
                    "/apix is not below /api",
                    "it is for shop.example, not for b.a.example",
                    "/apix is not below /api",
                    "",
                    "/apix is not below /api/x",
                ],
            ),
            (
                "",
                "/api",
                Some(1),
                [
                    "its prefix is shorter: / instead of /api",
                    "",
                    "it is for shop.example, and none was asked for",
                    "it is for shop.example, *.example, and none was asked for",
                    "it is for *.example, and none was asked for",
                    "it is for *.a.example, and none was asked for, and /api is not below /api/x",
                ],
            ),
        ] {
            let entries = keys.iter().cloned().enumerate().map(|(n, key)| (key, n)).collect();
            assert_eq!(RouteTable::new(entries).find(host.as_bytes(), path).copied(), winner, "{host}{path}");
            for (n, (key, expected)) in keys.iter().zip(expected).enumerate() {
                if Some(n) == winner {
                    continue;
                }
                assert_eq!(reason(winner.map(|n| &keys[n]), key, host.as_bytes(), path), expected, "{n}");
            }
        }
    }
}
