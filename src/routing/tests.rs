use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

fn any_host(prefix: &str) -> RouteKey {
    key(&[], prefix, Conditions::default())
}

fn key(hosts: &[&str], prefix: &str, conditions: Conditions) -> RouteKey {
    let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    RouteKey { hosts, prefix: Prefix::for_tests(prefix), conditions }
}

static NO_FIELDS: Fields = Fields::new();

/// A GET without any field.
fn asked<'a>(host: &'a str, path: &'a str) -> Asked<'a> {
    Asked { host: host.as_bytes(), path, method: &Method::GET, fields: &NO_FIELDS }
}

fn find<'t, T>(table: &'t RouteTable<T>, host: &str, path: &str) -> Option<&'t T> {
    table.find(&asked(host, path)).map(|found| found.route)
}

fn table(prefixes: &[&str]) -> RouteTable<String> {
    RouteTable::new(prefixes.iter().map(|p| (any_host(p), (*p).to_owned())).collect())
}

#[track_caller]
fn assert_route(table: &RouteTable<String>, path: &str, expected: Option<&str>) {
    assert_eq!(find(table, "", path).map(String::as_str), expected, "{path}");
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
        prop_assert_eq!(find(&table, "", &path), naive(&prefixes, &path));
    }
}

fn by_host(routes: &[(&[&str], &str)]) -> RouteTable<usize> {
    RouteTable::new(
        routes
            .iter()
            .enumerate()
            .map(|(n, (hosts, prefix))| (key(hosts, prefix, Conditions::default()), n))
            .collect(),
    )
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
            assert_eq!(find(&table, host, path), Some(&expected), "{host} {path}");
        }
        routes.reverse();
    }
    assert_eq!(find(&by_host(&[(&["a.example"], "/")]), "b.example", "/"), None);
}

/// A route of the reference: hosts, prefix, fields that must be there, the methods it takes (none: all).
type Written = (Vec<String>, String, Vec<&'static str>, Vec<&'static str>);

/// Looks at every route and every host. The route, and the methods in its place if it does not take GET.
fn naive_by_all(routes: &[Written], host: &str, path: &str, sent: &[&str]) -> Option<(usize, String)> {
    let host = host.to_ascii_lowercase();
    let rank = |pattern: &String| match pattern.strip_prefix('*') {
        None => (host == *pattern).then_some(1000),
        Some(end) => host.ends_with(end).then_some(end.len()),
    };
    let mut fitting = Vec::new();
    for (n, (hosts, prefix, fields, methods)) in routes.iter().enumerate() {
        let bare = prefix.strip_suffix('/').unwrap_or(prefix);
        let takes = path
            .strip_prefix(bare)
            .is_some_and(|rest| bare.is_empty() || rest.is_empty() || rest.starts_with('/'));
        let host_rank = if hosts.is_empty() { Some(0) } else { hosts.iter().filter_map(rank).max() };
        if let (true, Some(host_rank), true) =
            (takes, host_rank, fields.iter().all(|name| sent.contains(name)))
        {
            fitting.push(((host_rank, bare.len()), fields.len(), !methods.is_empty(), n));
        }
    }
    let best = fitting.iter().map(|(place, ..)| *place).max()?;
    let mut beside: Vec<_> = fitting.into_iter().filter(|(place, ..)| *place == best).collect();
    beside.sort_by_key(|(_, fields, has_methods, n)| (-(*fields as isize), !*has_methods, *n));
    let takes_get = |n: usize| routes[n].3.is_empty() || routes[n].3.contains(&"GET");
    if let Some((.., n)) = beside.iter().find(|(.., n)| takes_get(*n)) {
        return Some((*n, String::new()));
    }
    let all = ["HEAD", "POST", "PUT"];
    let allowed = all.into_iter().filter(|method| beside.iter().any(|(.., n)| routes[*n].3.contains(method)));
    Some((beside[0].3, allowed.collect::<Vec<_>>().join(", ")))
}

fn hosts() -> impl Strategy<Value = Vec<String>> {
    vec(select(vec!["a.b", "b", "*.b", "*.a.b", "c.a.b", "*.c"]).prop_map(str::to_owned), 0..3)
}

fn methods(names: &[&str]) -> Option<Methods> {
    let mut methods = Methods::default();
    names.iter().for_each(|name| assert!(methods.add(name)));
    (!names.is_empty()).then_some(methods)
}

/// Asks for these fields, whatever their values, and for one of these methods.
fn conditions(fields: &[&str], names: &[&str]) -> Conditions {
    let present = |name: &&str| HeaderCondition { name: name.parse().unwrap(), wanted: Wanted::Present };
    Conditions { headers: fields.iter().map(present).collect(), methods: methods(names) }
}

proptest! {
    #[test]
    fn finds_by_all_there_is_what_a_naive_scan_finds(
        routes in vec(
            (
                hosts(),
                paths(0..3),
                subsequence(vec!["x-a", "x-b", "x-c"], 0..=2),
                subsequence(vec!["GET", "HEAD", "POST", "PUT"], 0..=4),
            ),
            0..12,
        ),
        host in select(vec!["a.b", "A.B", "b", "c.a.b", "x.c", "d.c.a.b", "", "ab"]),
        path in paths(0..4),
        sent in subsequence(vec!["x-a", "x-b", "x-c"], 0..=3),
    ) {
        let entry = |(n, (hosts, prefix, fields, methods)): (usize, &Written)| {
            let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
            (key(&hosts, prefix, conditions(fields, methods)), n)
        };
        let table = RouteTable::new(routes.iter().enumerate().map(entry).collect());
        let fields = sent.iter().map(|name| (name.parse().unwrap(), "1".parse().unwrap())).collect();
        let found = table.find(&Asked { fields: &fields, ..asked(host, &path) });
        let found = found.map(|Found { route, other_methods }| {
            (*route, other_methods.map(|methods| methods.to_string()).unwrap_or_default())
        });
        prop_assert_eq!(found, naive_by_all(&routes, host, &path, &sent));
    }
}

/// Routes with these prefixes, fields and methods; which of them takes a request.
#[track_caller]
fn assert_found(
    routes: &[(&str, &[&str], &[&str])],
    (method, path, sent): (Method, &str, &[&str]),
    expected: Option<(usize, Option<&str>)>,
) {
    let entry = |(n, (prefix, fields, methods)): (usize, &(&str, &[&str], &[&str]))| {
        (key(&[], prefix, conditions(fields, methods)), n)
    };
    let table = RouteTable::new(routes.iter().enumerate().map(entry).collect());
    let fields = sent.iter().map(|name| (name.parse().unwrap(), "1".parse().unwrap())).collect();
    let found = table.find(&Asked { method: &method, fields: &fields, ..asked("", path) });
    let found = found.map(|found| (*found.route, found.other_methods.map(|methods| methods.to_string())));
    let expected = expected.map(|(n, methods)| (n, methods.map(str::to_owned)));
    assert_eq!(found, expected, "{method} {path} {sent:?}");
}

#[test]
fn more_conditions_come_first() {
    let routes: &[(&str, &[&str], &[&str])] = &[
        ("/", &[], &[]),
        ("/", &[], &["GET"]),
        ("/", &["x-a"], &[]),
        ("/", &["x-a"], &["GET"]),
        ("/", &["x-a", "x-b"], &[]),
        ("/", &["x-b"], &[]),
    ];
    for (method, sent, expected) in [
        (Method::PUT, &[][..], 0),
        (Method::GET, &[], 1),
        (Method::PUT, &["x-a"], 2),
        (Method::GET, &["x-a"], 3),
        (Method::GET, &["x-b", "x-a"], 4),
        (Method::GET, &["x-b"], 5),
    ] {
        assert_found(routes, (method, "/x", sent), Some((expected, None)));
    }
}

#[test]
fn among_equals_the_first_in_the_file_comes_first() {
    let both = (Method::GET, "/", &["x-a", "x-b"][..]);
    assert_found(&[("/", &["x-a"], &[]), ("/", &["x-b"], &[])], both.clone(), Some((0, None)));
    assert_found(&[("/", &["x-b"], &[]), ("/", &["x-a"], &[])], both, Some((0, None)));
}

#[test]
fn fields_that_do_not_fit_lead_to_a_shorter_prefix_and_methods_do_not() {
    let routes: &[(&str, &[&str], &[&str])] =
        &[("/api", &["x-a"], &["POST"]), ("/api", &["x-a"], &["PUT"]), ("/", &[], &["GET", "POST"])];
    for (method, path, sent, expected) in [
        (Method::POST, "/api/x", &["x-a"][..], Some((0, None))),
        (Method::PUT, "/api", &["x-a"], Some((1, None))),
        (Method::GET, "/api", &["x-a"], Some((0, Some("POST, PUT")))),
        (Method::GET, "/api", &[], Some((2, None))),
        (Method::PUT, "/api", &[], Some((2, Some("GET, POST")))),
        (Method::GET, "/apix", &["x-a"], Some((2, None))),
    ] {
        assert_found(routes, (method, path, sent), expected);
    }
    assert_found(&[("/", &["x-a"], &[])], (Method::GET, "/", &[]), None);
}

#[test]
fn fields_that_do_not_fit_lead_to_a_less_exact_host() {
    let entries = [(&["a.b"][..], &["x-a"][..]), (&["*.b"], &["x-b"]), (&[], &[])];
    let entry =
        |(n, (hosts, fields)): (usize, &(&[&str], &[&str]))| (key(hosts, "/", conditions(fields, &[])), n);
    let table = RouteTable::new(entries.iter().enumerate().map(entry).collect());
    for (sent, expected) in [("x-a", 0), ("x-b", 1), ("x-c", 2)] {
        let fields = [(sent.parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
        let found = table.find(&Asked { fields: &fields, ..asked("a.b", "/") }).unwrap();
        assert_eq!(*found.route, expected, "{sent}");
    }
}
