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
