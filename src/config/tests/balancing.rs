//! `balancing_algorithm`, `hash_on`, `sticky_cookie`.

use http::HeaderName;

use super::super::*;
use super::{accepted, refused, with_key, with_route};

#[test]
fn every_algorithm_has_its_word() {
    for (word, expected) in [
        ("round_robin", Algorithm::RoundRobin),
        ("least_connections", Algorithm::LeastConnections),
        ("random_two_choices", Algorithm::RandomTwoChoices),
        ("weighted_round_robin", Algorithm::WeightedRoundRobin),
        ("least_time", Algorithm::LeastTime),
        ("consistent_hash", Algorithm::ConsistentHash(HashOn::ClientAddress)),
    ] {
        let config = accepted(&with_route(&format!("balancing_algorithm = {word:?}")));
        assert_eq!(config.routes[0].algorithm, expected);
        assert_eq!(expected.to_string(), word);
    }
}

#[test]
fn hash_on() {
    for (text, expected) in [
        ("client_address", HashOn::ClientAddress),
        ("header:X-User", HashOn::Header(HeaderName::from_static("x-user"))),
        ("cookie:Session", HashOn::Cookie("Session".to_owned())),
    ] {
        let keys = format!("hash_on = {text:?}\nbalancing_algorithm = \"consistent_hash\"");
        assert_eq!(accepted(&with_route(&keys)).routes[0].algorithm, Algorithm::ConsistentHash(expected));
    }
    for text in
        ["", "Client_Address", "header", "header:", "header:X User", "cookie:", "cookie:a=b", "query:x"]
    {
        let keys = format!("balancing_algorithm = \"consistent_hash\"\nhash_on = {text:?}");
        let message = format!(
            ":6: routes[0].hash_on: {text:?} is nothing to hash on; \
             expected \"client_address\", \"header:NAME\" or \"cookie:NAME\", for example \"cookie:session\""
        );
        assert_eq!(refused(&with_route(&keys)), [message]);
    }
}

#[test]
fn hash_on_needs_something_that_hashes() {
    for (algorithm, word) in
        [("", "round_robin"), ("\nbalancing_algorithm = \"least_connections\"", "least_connections")]
    {
        let message = format!(
            ":5: routes[0].hash_on: has a meaning only with balancing_algorithm = \"consistent_hash\"; \
             this route has \"{word}\""
        );
        assert_eq!(refused(&with_route(&format!("hash_on = \"client_address\"{algorithm}"))), [message]);
    }
    // One slip, one message.
    let slip = refused(&with_route("hash_on = \"cookie:a\"\nbalancing_algorithm = \"consistent-hash\""));
    assert_eq!(slip.len(), 1, "{slip:?}");
    assert!(slip[0].ends_with("did you mean \"consistent_hash\"?"), "{slip:?}");
}

#[test]
fn slow_start() {
    for (text, expected) in [("30", 30_000), ("0.5", 500)] {
        let route = &accepted(&with_route(&format!("slow_start_secs = {text}"))).routes[0];
        assert_eq!(route.slow_start, Some(Duration::from_millis(expected)));
    }
    let route = accepted(&with_route("")).routes[0].clone();
    assert_eq!((route.slow_start, route.min_healthy), (None, None));
    assert_eq!(
        refused(&with_route("slow_start_secs = 0")),
        [":5: routes[0].slow_start_secs: found 0; expected seconds from 0.001 to 604800"]
    );
    for keys in [
        "slow_start_secs = 30\nbalancing_algorithm = \"consistent_hash\"",
        "slow_start = 30\nbalancing_algorithm = \"round_robin\"",
    ] {
        let found = refused(&with_route(keys));
        assert_eq!(found.len(), 1, "{found:?}");
    }
    assert_eq!(
        refused(&with_route("slow_start_secs = 30\nbalancing_algorithm = \"consistent_hash\"")),
        [
            ":5: routes[0].slow_start_secs: has no meaning with balancing_algorithm = \"consistent_hash\", where who asks \
          decides, and not how much a backend has to do; leave it out, or take another algorithm"
        ]
    );
}

#[test]
fn min_healthy() {
    let route = |keys: &str| accepted(&with_route(keys)).routes[0].clone();
    assert_eq!(route("min_healthy = 3").min_healthy, NonZeroUsize::new(3));
    for (value, found) in [("0", "0"), ("65537", "65537")] {
        assert_eq!(
            refused(&with_route(&format!("min_healthy = {value}"))),
            [format!(":5: routes[0].min_healthy: found {found}; expected a whole number from 1 to 65536")]
        );
    }
    let percent = refused(&with_route("min_healthy = \"50%\""));
    assert!(percent[0].starts_with(":5: routes[0].min_healthy: found \"50%\""), "{percent:?}");
    let envoy = refused(&with_route("panic_threshold = 2"));
    assert!(envoy[0].contains("min_healthy"), "{envoy:?}");
}

#[test]
fn backups() {
    let of = |list: &str| with_key(&format!("backend_addrs = {list}"));
    let config =
        accepted(&of("[\"a:1\", { addr = \"b:1\", backup = true }, { addr = \"c:1\", backup = false }]"));
    let backups: Vec<bool> = config.routes[0].backends.iter().map(|backend| backend.backup).collect();
    assert_eq!(backups, [false, true, false]);
    let all =
        ":3: routes[0].backend_addrs: all of them are backups; expected at least one without backup = true";
    for list in [
        "[{ addr = \"a:1\", backup = true }]",
        "[{ addr = \"a:1\", backup = true }, { addr = \"b:1\", backup = true }]",
    ] {
        assert_eq!(refused(&of(list)), [all], "{list}");
    }
    assert_eq!(
        refused(&of("[]")),
        [
            ":3: routes[0].backend_addrs: the list is empty; expected at least one backend, for example [\"127.0.0.1:8001\"]"
        ],
        "that is said alone"
    );
    let fallback = refused(&of("[\"a:1\", { addr = \"b:1\", fallback = true }]"));
    assert!(fallback[0].contains("backup"), "{fallback:?}");
    let slow = refused(&of("[\"a:1\", { addr = \"b:1\", slow_start = 3 }]"));
    assert!(slow[0].contains("slow_start_secs beside it"), "{slow:?}");
}

#[test]
fn sticky_cookie() {
    let of = |table: &str| {
        let keys = format!("sticky_cookie = {table}\nbalancing_algorithm = \"least_connections\"");
        accepted(&with_route(&keys)).routes[0].sticky_cookie.clone().unwrap()
    };
    let expected = |name: &str, max_age_secs: Option<u32>| StickyCookieConfig {
        name: name.to_owned(),
        max_age_secs: max_age_secs.and_then(NonZeroU32::new),
    };
    assert_eq!(of("{ name = \"a.b-c\" }"), expected("a.b-c", None));
    assert_eq!(of("{ name = \"x\", max_age_secs = 34560000 }"), expected("x", Some(34_560_000)));
}

#[test]
fn what_no_browser_would_keep() {
    for (table, message) in [
        ("{}", ".name: missing; expected a name, for example name = \"backend\""),
        (
            "{ name = \"\" }",
            ".name: \"\" is not the name of a cookie; expected letters, digits and !#$%&'*+-.^_`|~",
        ),
        (
            "{ name = \"a=b\" }",
            ".name: \"a=b\" is not the name of a cookie; expected letters, digits and !#$%&'*+-.^_`|~",
        ),
        (
            "{ name = \"__host-a\" }",
            ".name: \"__host-a\" begins as only cookies with the attribute Secure may, which this one lacks; \
             expected another name",
        ),
        (
            "{ name = \"a\", max_age_secs = 0 }",
            ".max_age_secs: found 0; expected a whole number from 1 to 34560000",
        ),
        (
            "{ name = \"a\", path = \"/\" }",
            ".path: unknown key here, it belongs to health_check; allowed here: name, max_age_secs",
        ),
        ("\"a\"", ": found \"a\"; expected a table, for example { name = \"backend\" }"),
    ] {
        let found = refused(&with_route(&format!("sticky_cookie = {table}")));
        assert_eq!(found, [format!(":5: routes[0].sticky_cookie{message}")]);
    }
    assert_eq!(
        refused(&with_key("prefix = \"/a;b\"\nsticky_cookie = { name = \"a\" }")),
        [
            ":4: routes[0].sticky_cookie: the cookie's path would be the prefix \"/a;b\", and no cookie's path has a \
          semicolon; expected none in the prefix, or no sticky_cookie"
        ]
    );
}
