use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn any_host(prefix: &str) -> RouteKey {
    RouteKey { hosts: Vec::new(), prefix: Prefix::for_tests(prefix) }
}

fn table(prefixes: &[&str]) -> RouteTable<String> {
    RouteTable::new(prefixes.iter().map(|p| (any_host(p), (*p).to_owned())).collect())
}

#[track_caller]
fn assert_route(table: &RouteTable<String>, path: &str, expected: Option<&str>) {
    assert_eq!(table.find(b"", path).map(String::as_str), expected, "{path}");
}

#[test]
fn a_prefix_takes_whole_segments() {
    let table = table(&["/api"]);
    for path in ["/api", "/api/", "/api/x", "/api//x", "/api/x/y/"] {
        assert_route(&table, path, Some("/api"));
    }
    for path in ["/apix", "/ap", "/", "", "/API", "//api", "api", "/x/api", "*"] {
        assert_route(&table, path, None);
    }
}

#[test]
fn the_longest_prefix_wins_in_any_order() {
    for prefixes in [["/", "/api", "/api/v2"], ["/api/v2", "/api", "/"], ["/api", "/", "/api/v2"]] {
        let table = table(&prefixes);
        assert_route(&table, "/api/v2/users", Some("/api/v2"));
        assert_route(&table, "/api/v2", Some("/api/v2"));
        assert_route(&table, "/api/v20", Some("/api"));
        assert_route(&table, "/api", Some("/api"));
        assert_route(&table, "/apix", Some("/"));
        assert_route(&table, "/", Some("/"));
        assert_route(&table, "*", Some("/"));
    }
}

#[test]
fn a_prefix_may_skip_levels_without_a_route() {
    let table = table(&["/a/b/c", "/a"]);
    assert_route(&table, "/a/b", Some("/a"));
    assert_route(&table, "/a/b/c", Some("/a/b/c"));
}

#[test]
fn a_trailing_slash_of_a_prefix_means_nothing() {
    let table = table(&["/api/"]);
    assert_route(&table, "/api", Some("/api/"));
    assert_route(&table, "/api/x", Some("/api/"));
    assert_route(&table, "/apix", None);
}

#[test]
fn an_empty_table_finds_nothing() {
    assert_route(&table(&[]), "/", None);
}

#[test]
fn a_path_of_slashes_finds_the_root() {
    let table = table(&["/", "/api"]);
    assert_route(&table, &"/".repeat(32 * 1024), Some("/"));
    assert_route(&table, &format!("/api{}", "/".repeat(32 * 1024)), Some("/api"));
}

#[test]
fn iterates_in_the_order_given() {
    let table = table(&["/b", "/", "/a"]);
    assert_eq!(table.iter().map(|(key, _)| key.prefix.as_str()).collect::<Vec<_>>(), ["/b", "/", "/a"]);
}

/// Looks at every prefix, at every byte.
fn naive<'t>(prefixes: &'t [String], path: &str) -> Option<&'t String> {
    let mut longest: Option<&String> = None;
    for prefix in prefixes {
        let bare = prefix.strip_suffix('/').unwrap_or(prefix);
        let takes = match path.strip_prefix(bare) {
            Some(rest) => bare.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        if takes && longest.is_none_or(|l| bare.len() > l.strip_suffix('/').unwrap_or(l).len()) {
            longest = Some(prefix);
        }
    }
    longest
}

fn paths(segments: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    vec(select(vec!["", "a", "b", "ab", "a.b", "ä"]), segments).prop_map(|s| format!("/{}", s.join("/")))
}

proptest! {
    #[test]
    fn finds_what_a_naive_scan_finds(prefixes in vec(paths(0..4), 0..12), path in paths(0..6)) {
        let table = RouteTable::new(prefixes.iter().map(|p| (any_host(p), p.clone())).collect());
        prop_assert_eq!(table.find(b"", &path), naive(&prefixes, &path));
    }
}

fn by_host(routes: &[(&[&str], &str)]) -> RouteTable<usize> {
    let key = |hosts: &[&str], prefix: &str| RouteKey {
        hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
        prefix: Prefix::for_tests(prefix),
    };
    RouteTable::new(routes.iter().enumerate().map(|(n, (hosts, prefix))| (key(hosts, prefix), n)).collect())
}

#[test]
fn exact_before_below_before_any_and_then_the_longest_prefix() {
    let mut routes: Vec<(&[&str], &str)> = vec![
        (&[], "/"),
        (&["*.example"], "/"),
        (&["*.shop.example"], "/api"),
        (&["a.shop.example", "shop.example"], "/"),
        (&["a.shop.example"], "/api"),
    ];
    for reversed in [false, true] {
        let table = by_host(&routes);
        for (host, path, expected) in [
            ("other.test", "/api", 0),
            ("example", "/", 0),
            ("", "/", 0),
            ("x.example", "/api", 1),
            ("x.y.example", "/", 1),
            ("b.shop.example", "/api/x", 2),
            ("b.shop.example", "/other", 1),
            ("A.Shop.Example.:8080", "/", 3),
            ("shop.example", "/api", 3),
            ("a.shop.example:80", "/api/x", 4),
            ("evila.shop.example", "/", 1),
            ("a.shop.example.evil", "/", 0),
        ] {
            let expected = if reversed { routes.len() - 1 - expected } else { expected };
            assert_eq!(table.find(host.as_bytes(), path), Some(&expected), "{host} {path}");
        }
        routes.reverse();
    }
    assert_eq!(by_host(&[(&["a.example"], "/")]).find(b"b.example", "/"), None);
}

/// Looks at every route and every host.
fn naive_by_host(routes: &[(Vec<String>, String)], host: &str, path: &str) -> Option<usize> {
    let host = host.to_ascii_lowercase();
    let rank = |pattern: &String| match pattern.strip_prefix('*') {
        None => (host == *pattern).then_some(1000),
        Some(end) => host.ends_with(end).then_some(end.len()),
    };
    let mut best: Option<((usize, usize), usize)> = None;
    for (n, (hosts, prefix)) in routes.iter().enumerate() {
        let bare = prefix.strip_suffix('/').unwrap_or(prefix);
        let takes = path
            .strip_prefix(bare)
            .is_some_and(|rest| bare.is_empty() || rest.is_empty() || rest.starts_with('/'));
        let host_rank = if hosts.is_empty() { Some(0) } else { hosts.iter().filter_map(rank).max() };
        if let (true, Some(host_rank)) = (takes, host_rank) {
            let rank = (host_rank, bare.len());
            if best.is_none_or(|(best, _)| rank > best) {
                best = Some((rank, n));
            }
        }
    }
    best.map(|(_, n)| n)
}

fn hosts() -> impl Strategy<Value = Vec<String>> {
    vec(select(vec!["a.b", "b", "*.b", "*.a.b", "c.a.b", "*.c"]).prop_map(str::to_owned), 0..3)
}

proptest! {
    #[test]
    fn finds_by_host_what_a_naive_scan_finds(
        routes in vec((hosts(), paths(0..3)), 0..10),
        host in select(vec!["a.b", "A.B", "b", "c.a.b", "x.c", "d.c.a.b", "", "ab"]),
        path in paths(0..4),
    ) {
        let key = |(hosts, prefix): &(Vec<String>, String)| RouteKey {
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            prefix: Prefix::for_tests(prefix),
        };
        let table = RouteTable::new(routes.iter().enumerate().map(|(n, route)| (key(route), n)).collect());
        prop_assert_eq!(table.find(host.as_bytes(), &path).copied(), naive_by_host(&routes, host, &path));
    }
}
