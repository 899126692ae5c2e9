//! Why a route does not take a request. Whether one would is asked of the routing that serves: of a table with this one
//! route in it.

use crate::routing::{Asked, Conditions, HostPattern, Prefix, RouteKey, RouteTable};

/// Why `loser` does not take the request that `winner` takes or refuses for its method, if any does.
pub(super) fn reason(winner: Option<&RouteKey>, loser: &RouteKey, asked: &Asked<'_>) -> String {
    let (host, path) = (asked.host, asked.path);
    let takes = |key: RouteKey| RouteTable::new(vec![(key, ())]).find(asked).is_some();
    let fits_host = takes(of_hosts(loser.hosts.clone()));
    let fits_path = takes(RouteKey { prefix: loser.prefix.clone(), ..of_hosts(Vec::new()) });
    let Conditions { headers, methods } = &loser.conditions;
    let missing: Vec<_> = headers.iter().filter(|condition| !condition.fits(asked.fields)).collect();
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
        (true, true, _) if !missing.is_empty() => {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            format!("it is for requests with {}", missing.join(" and "))
        }
        (true, true, Some(winner)) => match (pattern(winner, &takes), pattern(loser, &takes)) {
            (Some(first), None) => format!("it is for any host, and a route for {first} comes first"),
            (Some(first), Some(second)) if first != second => {
                format!("it is for {second}, and a route for {first} comes first")
            }
            _ if loser.prefix != winner.prefix => {
                format!("its prefix is shorter: {} instead of {}", loser.prefix, winner.prefix)
            }
            _ => match methods {
                Some(methods) if !methods.has(asked.method) => {
                    format!("it is for {methods}, not for {}", asked.method)
                }
                _ if loser.conditions.rank() > winner.conditions.rank() => {
                    "one for the same paths asks for more, and comes first".to_owned()
                }
                _ => "one for the same paths that asks for as much is before it in the file".to_owned(),
            },
        },
        // No route can be both fit and passed over for nothing.
        (true, true, None) => "another one comes first".to_owned(),
    }
}

/// A key for these hosts, and for whatever is asked of them.
fn of_hosts(hosts: Vec<HostPattern>) -> RouteKey {
    RouteKey { hosts, prefix: Prefix::root(), conditions: Conditions::default() }
}

/// Which of the hosts of a route is that of the request, the most exact first. `None`: it is for any.
fn pattern<'k>(key: &'k RouteKey, takes: &impl Fn(RouteKey) -> bool) -> Option<&'k HostPattern> {
    let fits = |pattern: &&HostPattern| takes(of_hosts(vec![(*pattern).clone()]));
    let exactness = |pattern: &&HostPattern| match pattern {
        HostPattern::Exact(_) => (1, 0),
        HostPattern::Below(name) => (0, name.len()),
    };
    key.hosts.iter().filter(fits).max_by_key(exactness)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use crate::http::fields::Fields;
    use crate::routing::{HeaderCondition, Methods, Wanted};

    use super::*;

    proptest! {
        /// Whatever the routes are: a reason names what the loser lacks, and who comes first is never less exact.
        #[test]
        fn there_is_always_a_reason(
            keys in proptest::collection::vec(
                (
                    subsequence(vec!["a.b.c", "b.c", "*.b.c", "*.c"], 0..=4),
                    select(vec!["/", "/x", "/x/y", "/z"]),
                    subsequence(vec!["a", "b"], 0..=2),
                    select(vec!["", "GET", "POST"]),
                ),
                1..6,
            ),
            host in select(vec!["a.b.c", "b.c", "d.b.c:80", "c", ""]),
            path in select(vec!["/", "/x", "/x/y/z", "/xx"]),
            sent in subsequence(vec!["a", "b"], 0..=2),
        ) {
            let keys: Vec<_> = keys
                .iter()
                .map(|(hosts, prefix, headers, method)| key_for(hosts, prefix, headers, method))
                .collect();
            let fields = sent.iter().map(|name| (name.parse().unwrap(), "1".parse().unwrap())).collect();
            let asked = Asked { host: host.as_bytes(), path, method: &Method::GET, fields: &fields };
            let table = RouteTable::new(keys.iter().cloned().enumerate().map(|(n, key)| (key, n)).collect());
            let winner = table.find(&asked).map(|found| (*found.route, &keys[*found.route]));
            let takes = |key: RouteKey| RouteTable::new(vec![(key, ())]).find(&asked).is_some();
            for (_, loser) in keys.iter().enumerate().filter(|(n, _)| Some(*n) != winner.map(|(n, _)| n)) {
                let reason = reason(winner.map(|(_, key)| key), loser, &asked);
                prop_assert_ne!(&reason, "another one comes first");
                prop_assert_eq!(!takes(loser.clone()), reason.contains("not below") || reason.contains("not for h")
                    || ["a.b.c", "b.c", "d.b.c:80", "c"].iter().any(|host| reason.contains(&format!("not for {host}")))
                    || reason.contains("none was asked for") || reason.contains("for requests with"), "{}", reason);
                let Some((_, winner)) = winner else { continue };
                if reason.contains("shorter") {
                    prop_assert!(loser.prefix.as_str().len() < winner.prefix.as_str().len(), "{}", reason);
                }
                if reason.contains("same paths") {
                    prop_assert_eq!(&loser.prefix, &winner.prefix, "{}", reason);
                    prop_assert_eq!(
                        loser.conditions.rank() > winner.conditions.rank(), reason.contains("more"), "{}", reason
                    );
                }
                if reason.contains("it is for POST") {
                    prop_assert_eq!(loser.conditions.methods.unwrap().to_string(), "POST");
                }
            }
        }
    }

    fn key(hosts: &[&str], prefix: &str) -> RouteKey {
        key_for(hosts, prefix, &[], "")
    }

    /// A key that asks for these fields, whatever their values, and for this method.
    fn key_for(hosts: &[&str], prefix: &str, headers: &[&str], method: &str) -> RouteKey {
        let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
        let present = |name: &&str| HeaderCondition { name: name.parse().unwrap(), wanted: Wanted::Present };
        let mut methods = Methods::default();
        let methods = methods.add(method).then_some(methods);
        let conditions = Conditions { headers: headers.iter().map(present).collect(), methods };
        RouteKey { hosts, prefix: Prefix::parse(prefix).unwrap(), conditions }
    }

    fn asked<'a>(host: &'a str, path: &'a str) -> Asked<'a> {
        static NO_FIELDS: Fields = Fields::new();
        Asked { host: host.as_bytes(), path, method: &Method::GET, fields: &NO_FIELDS }
    }

    #[test]
    fn the_conditions_are_the_last_reason() {
        let keys = [
            key_for(&[], "/", &[], ""),
            key_for(&[], "/", &[], "GET"),
            key_for(&[], "/", &[], "POST"),
            key_for(&[], "/", &["a", "b"], ""),
            key_for(&[], "/", &["b"], "GET"),
            key_for(&[], "/", &["c"], "GET"),
        ];
        let fields = [("b", "1"), ("c", "1")]
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let asked = Asked { fields: &fields, ..asked("h", "/x") };
        let reasons: Vec<_> = keys.iter().map(|key| reason(Some(&keys[4]), key, &asked)).collect();
        assert_eq!(
            reasons,
            [
                "one for the same paths asks for more, and comes first",
                "one for the same paths asks for more, and comes first",
                "it is for POST, not for GET",
                "it is for requests with any a",
                "one for the same paths that asks for as much is before it in the file",
                "one for the same paths that asks for as much is before it in the file",
            ]
        );
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
            let entries: Vec<_> = keys.iter().cloned().enumerate().map(|(n, key)| (key, n)).collect();
            let asked = asked(host, path);
            let found = RouteTable::new(entries).find(&asked).map(|found| *found.route);
            assert_eq!(found, winner, "{host}{path}");
            for (n, (key, expected)) in keys.iter().zip(expected).enumerate() {
                if Some(n) == winner {
                    continue;
                }
                assert_eq!(reason(winner.map(|n| &keys[n]), key, &asked), expected, "{n}");
            }
        }
    }
}
