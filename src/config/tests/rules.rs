//! The rules of a route: what is refused, and what an explanation says of them.

use super::{accepted, refused, with_key, with_route};
use crate::explain::{self, Question};

/// Each key is refused with this problem.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (key, problem) in cases {
        assert_eq!(refused(&with_key(key)), [format!(":3: routes[0].{problem}")], "{key}");
    }
}

/// What is said of a request to the file with these further lines in its route.
fn explained(more: &str, request: &str, from: &str) -> String {
    let question = Question::new(request, from.parse().ok()).unwrap();
    explain::explain(&accepted(&with_route(more)), &question).text()
}

#[track_caller]
fn has_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line:?} is not in\n{text}");
    }
}

/// Whether the file with these further lines does what it expects.
fn fulfils(more: &str) -> Result<(), String> {
    explain::check(&accepted(&with_route(more))).map_err(|errors| errors.to_string())
}

#[test]
fn networks() {
    check(&[
        ("allow = []", "allow: the list is empty; expected at least one network, or no such key"),
        ("deny = []", "deny: the list is empty; expected at least one network, or no such key"),
        (
            "allow = [\"all\"]",
            "allow: \"all\" is not a network; expected an address, CIDR notation or \"unix:\", for example \
             \"10.0.0.0/8\"",
        ),
        (
            "deny = [\"unix:\", \"10.0.0.1/8\"]",
            "deny: \"10.0.0.1/8\" has bits set behind the network part; expected \"10.0.0.0/8\"",
        ),
        ("deny = \"10.0.0.1\"", "deny: found \"10.0.0.1\"; expected a list in brackets"),
    ]);
    let rules = "deny = [\"10.1.0.0/16\"]\nallow = [\"10.0.0.0/8\", \"unix:\"]";
    let text = explained(rules, "GET http://h/", "10.1.0.1");
    has_lines(
        &text,
        &[
            "Refused: 403 client_denied, this path is not for clients of your network",
            "Route / (routes[0], line 3)",
            "  rules, in this order:",
            "    who may come  not 10.1.0.0/16   (routes[0].deny, line 5)",
            "    who may come  only 10.0.0.0/8, unix:   (routes[0].allow, line 6)",
        ],
    );
    assert!(explained(rules, "GET http://h/", "10.2.0.1").contains("The backend gets GET /"));
    // An expectation is for a client as well.
    let expect = |from: &str, expected: &str| {
        fulfils(&format!("{rules}\n[[expect]]\nrequest = \"GET http://h/\"\nfrom = {from:?}\n{expected}"))
    };
    assert_eq!(expect("10.1.0.1", "status = 403"), Ok(()));
    assert_eq!(expect("192.0.2.1", "status = 403"), Ok(()));
    assert_eq!(expect("unix:", "route = \"/\""), Ok(()));
    assert!(expect("192.0.2.1", "route = \"/\"").unwrap_err().contains("client_denied"));
}
