//! The rules of a route: what is refused, and what an explanation says of them.

use super::{accepted, refused, with_key, with_route};
use crate::config::Config;
use crate::explain::{self, Question};
use crate::rules::Compress;

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
    let wrong = expect("192.0.2.1", "route = \"/\"").unwrap_err();
    let problem = "expect[0].route: it is expected to take the request, but route \"/\" refuses \"GET http://h/\" with \
                   403, client_denied: this path is not for clients of your network; if that is meant, say so with \
                   status = 403";
    assert!(wrong.contains(problem), "{wrong}");
    assert_eq!(expect("192.0.2.1", "route = \"/\"\nstatus = 403"), Ok(()));
    assert!(
        expect("192.0.2.1", "route = \"/\"\nstatus = 401").unwrap_err().contains("expect[0].status: 401")
    );
    assert!(expect("192.0.2.1", "route = \"x\"\nstatus = 403").unwrap_err().contains("expect[0].route: "));
}

/// A file with one route that has no backends; `key` is on line 3.
fn without_backends(key: &str) -> String {
    format!("listen_addr = \"127.0.0.1:0\"\n[[routes]]\n{key}\nprefix = \"/\"\n")
}

#[test]
fn answers() {
    const NOWHERE: &str = "leads nowhere for certain; expected a URL with a host or a path, for example \
                           \"https://{host}{target}\" or \"/new{target}\"";
    for (key, problem) in [
        (
            "redirect = { status = 301 }",
            "redirect.to: missing; expected where to, for example to = \"https://{host}{target}\"".to_owned(),
        ),
        (
            "redirect = { to = \"https://h/\", status = 304 }",
            "redirect.status: found 304; expected one of 301, 302, 303, 307, 308".to_owned(),
        ),
        ("redirect = { to = \"h\" }", format!("redirect.to: \"h\" {NOWHERE}")),
        ("redirect = { to = \"\" }", format!("redirect.to: \"\" {NOWHERE}")),
        ("redirect = { to = \"{target}\" }", format!("redirect.to: \"{{target}}\" {NOWHERE}")),
        ("redirect = { to = \"/{path}\" }", format!("redirect.to: \"/{{path}}\" {NOWHERE}")),
        ("redirect = { to = \"//h{path}\" }", format!("redirect.to: \"//h{{path}}\" {NOWHERE}")),
        ("redirect = { to = \"https://{path}\" }", format!("redirect.to: \"https://{{path}}\" {NOWHERE}")),
        ("redirect = { to = \"https:///x\" }", format!("redirect.to: \"https:///x\" {NOWHERE}")),
        ("redirect = { to = \"{scheme}:{path}\" }", format!("redirect.to: \"{{scheme}}:{{path}}\" {NOWHERE}")),
        (
            "redirect = { to = \"/a b\" }",
            "redirect.to: \"/a b\" has characters no URL can have; expected them percent-encoded".to_owned(),
        ),
        (
            "redirect = { to = \"/a{colour}\" }",
            "redirect.to: \"/a{colour}\" has the placeholder {colour}; expected {host}, {target}, {path}, {query}, \
             {scheme}, {client_ip}, {request_id}, or {{ and }} for braces"
                .to_owned(),
        ),
        (
            "redirect = { to = \"/a{path\" }",
            "redirect.to: \"/a{path\" has a brace without the other; write {{ or }} for one that is no placeholder's"
                .to_owned(),
        ),
        (
            "redirect = \"/a\"",
            "redirect: found \"/a\"; expected a table, for example { to = \"https://{host}{target}\" }".to_owned(),
        ),
        (
            "respond = { status = 101 }",
            "respond.status: found 101; expected a whole number from 200 to 599".to_owned(),
        ),
        (
            "respond = { body = \"a\", file = \"b\" }",
            "respond.file: is beside body, and an answer has one content; leave one of them out".to_owned(),
        ),
        (
            "respond = { status = 204, body = \"a\" }",
            "respond.body: an answer of status 204 has no content; leave this out".to_owned(),
        ),
        (
            "respond = { file = \"/dev/null\" }",
            "respond.file: \"/dev/null\" is no file; expected the path of a plain one".to_owned(),
        ),
        (
            "respond = { content_type = \"text/html\" }",
            "respond.content_type: is that of a content, and there is none; expected body or file beside it".to_owned(),
        ),
        (
            "respond = { body = \"a\", content_type = \"html\" }",
            "respond.content_type: \"html\" is no type of a content; expected one, for example \"text/html; \
             charset=utf-8\""
                .to_owned(),
        ),
        (
            "respond = { headers = { \"a b\" = \"\" } }",
            "respond.headers: \"a b\" is no name of a header field".to_owned(),
        ),
        (
            "respond = { headers = { Content-Type = \"text/html\" } }",
            "respond.headers: Content-Type is said by content_type, beside headers".to_owned(),
        ),
        (
            "respond = { headers = { Content-Length = \"1\" } }",
            "respond.headers: \"Content-Length\" is about one connection, or about how a message is sent; the proxy alone \
             decides about it"
                .to_owned(),
        ),
        (
            "respond = { headers = { X-Request-Id = \"1\" } }",
            "respond.headers: \"X-Request-Id\" is a field that the proxy itself answers for".to_owned(),
        ),
        (
            "respond = { headers = { X-A = \"a\\r\\nX-B: b\" } }",
            "respond.headers: \"a\\r\\nX-B: b\" is no value of a header field; expected visible characters of ASCII, with \
             spaces between them"
                .to_owned(),
        ),
    ] {
        assert_eq!(refused(&without_backends(key)), [format!(":3: routes[0].{problem}")], "{key}");
    }
    let large = format!("respond = {{ body = \"{}\" }}", "x".repeat((1 << 20) + 1));
    assert!(refused(&without_backends(&large))[0].contains("respond.body: is larger than 1 MiB"));
    let file = std::env::temp_dir().join(format!("reverse-proxy-respond-{}", std::process::id()));
    let from_file = without_backends(&format!("respond = {{ file = {:?} }}", file.display().to_string()));
    assert!(refused(&from_file)[0].contains("cannot be read: "));
    std::fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(accepted(&from_file).routes[0].backends, []);
    std::fs::write(&file, vec![b'x'; (1 << 20) + 1]).unwrap();
    assert!(refused(&from_file)[0].contains("is larger than 1 MiB"));
    std::fs::remove_file(&file).unwrap();
    for to in ["/", "/new", "/new{target}", "/{query}", "/a/{path}", "http://h", "{scheme}://{host}{path}"] {
        accepted(&without_backends(&format!("redirect = {{ to = {to:?} }}")));
    }
}

#[test]
fn answers_have_no_backends() {
    let problem = |key: &str| {
        format!(
            "routes[0].{key}: is beside redirect, which answers every request of the route: no backend is ever asked; leave \
             one of them out"
        )
    };
    assert_eq!(
        refused(&with_route(
            "redirect = { to = \"/x\" }\nhealth_check = { path = \"/\", interval_secs = 1 }"
        )),
        [format!(":4: {}", problem("backend_addrs")), format!(":6: {}", problem("health_check"))]
    );
    assert_eq!(
        refused(&without_backends("redirect = { to = \"/x\" }\nrespond = {}")),
        [":4: routes[0].respond: is beside redirect, and a request has one answer; leave one of them out"]
    );
    let warnings = accepted(&without_backends("retries = 1\nrespond = {}")).warnings;
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["f.toml:3: routes[0].retries: has no use beside respond: no backend is ever asked; leave it out"]
    );
}

#[test]
fn answers_are_explained_and_expected() {
    let rules = "redirect = { to = \"{scheme}://new.{host}{target}\" }\nallow = [\"10.0.0.0/8\"]";
    let explained = |request: &str, from: &str| {
        let question = Question::new(request, from.parse().ok()).unwrap();
        explain::explain(&accepted(&without_backends(rules)), &question).text()
    };
    has_lines(
        &explained("GET http://h:81/a?b", "10.0.0.1"),
        &[
            "Answered by the proxy itself: 308, by redirect of its route",
            "    who may come  only 10.0.0.0/8   (routes[0].allow, line 4)",
            "    answer here   308 to http://new.h/a?b   (routes[0].redirect, line 3)",
        ],
    );
    assert!(explained("GET http://h/a", "192.0.2.1").contains("Refused: 403 client_denied"));
    let expect = |rules: &str, request: &str, expected: &str| {
        let expectation = format!("[[expect]]\nrequest = {request:?}\n{expected}\n");
        let text = format!("{}{expectation}", without_backends(rules));
        explain::check(&accepted(&text)).map_err(|errors| errors.to_string())
    };
    let redirect = "redirect = { to = \"https://{host}/\", status = 307 }";
    assert_eq!(expect(redirect, "GET http://h/", "status = 307"), Ok(()));
    assert_eq!(expect(redirect, "GET / HTTP/1.0", "status = 400"), Ok(()));
    assert_eq!(expect("respond = { status = 503 }", "GET http://h/", "status = 503"), Ok(()));
    // It is taken by a route that answers it, and no backend gets it.
    assert_eq!(expect(redirect, "GET http://h/", "route = \"/\""), Ok(()));
    assert_eq!(expect(redirect, "GET http://h/", "route = \"/\"\nstatus = 307"), Ok(()));
    for wrong in ["status = 308", "backend_target = \"/\""] {
        let wrong = expect(redirect, "GET http://h/", &format!("route = \"/\"\n{wrong}")).unwrap_err();
        assert!(wrong.contains("but route \"/\" itself answers \"GET http://h/\" with 307"), "{wrong}");
    }
}

#[test]
fn another_path() {
    check(&[
        ("strip_prefix = \"yes\"", "strip_prefix: found \"yes\"; expected true or false"),
        ("strip_prefix = true", "strip_prefix: there is nothing to strip: the prefix is \"/\"; leave it out"),
        (
            "replace_prefix = \"v2\"",
            "replace_prefix: \"v2\" does not begin with \"/\"; expected a path, for example \"/api\"",
        ),
        (
            "replace_prefix = \"/a/../b\"",
            "replace_prefix: \"/a/../b\" has a dot segment; expected a path without \".\" and \"..\"",
        ),
        (
            "replace_prefix = \"/v2?x\"",
            "replace_prefix: \"/v2?x\" contains '?'; expected a path alone, without query or fragment",
        ),
        (
            "replace_prefix = \"/<\"",
            "replace_prefix: \"/<\" has characters no request target can have; expected them percent-encoded",
        ),
    ]);
    let both = with_route("strip_prefix = true\nreplace_prefix = \"/v2\"").replacen("\"/\"", "\"/api\"", 1);
    assert_eq!(
        refused(&both),
        [
            ":6: routes[0].replace_prefix: is beside strip_prefix = true, and a prefix is either stripped or replaced; leave \
          one of them out"
        ]
    );
    let strip = with_route("strip_prefix = true").replacen("\"/\"", "\"/api\"", 1);
    let question = Question::new("GET http://h/api/x?y", None).unwrap();
    has_lines(
        &explain::explain(&accepted(&strip), &question).text(),
        &[
            "    rewrite  /api/x?y -> /x?y   (routes[0].strip_prefix, line 5)",
            "The backend gets GET /x?y",
            "  added      x-forwarded-prefix  /api   (the prefix of the route, which is not in the target)",
        ],
    );
    let expect = |target: &str| {
        let expectation = format!(
            "replace_prefix = \"/v2\"\n[[expect]]\nrequest = \"GET http://h/a\"\nbackend_target = {target:?}\n\
             request_header = {{ X-Forwarded-Prefix = \"/\" }}"
        );
        fulfils(&expectation)
    };
    assert_eq!(expect("/v2/a"), Ok(()));
    assert!(expect("/a").unwrap_err().contains("but the backend gets \"/v2/a\""));
    // A target that becomes too long is refused before it is sent.
    let long = format!("GET http://h/{}", "a".repeat(65_533));
    let limits = "replace_prefix = \"/v2\"\n[server]\nmax_header_bytes = 1000000";
    assert!(explained(limits, &long, "127.0.0.1").contains("Refused: 414 uri_too_long"));
}

#[test]
fn header_fields() {
    const OWN: &str = "is a field that the proxy itself answers for";
    const SENT: &str =
        "is about one connection, or about how a message is sent; the proxy alone decides about it";
    for table in ["request_headers", "response_headers"] {
        for (rules, problem) in [
            ("", ": has nothing in it; expected set, add or remove".to_owned()),
            ("set = { \"a b\" = \"\" }", ".set: \"a b\" is no name of a header field".to_owned()),
            ("set = { Host = \"a\" }", format!(".set: \"Host\" {OWN}")),
            ("add = { X-Forwarded-For = \"a\" }", format!(".add: \"X-Forwarded-For\" {OWN}")),
            ("remove = [\"Via\"]", format!(".remove: \"Via\" {OWN}")),
            ("add = { X-Request-ID = \"a\" }", format!(".add: \"X-Request-ID\" {OWN}")),
            ("remove = [\"Transfer-Encoding\"]", format!(".remove: \"Transfer-Encoding\" {SENT}")),
            ("set = { Content-Length = \"1\" }", format!(".set: \"Content-Length\" {SENT}")),
            ("set = { Connection = \"x-a\" }", format!(".set: \"Connection\" {SENT}")),
            (
                "set = { X_Forwarded_For = \"a\" }",
                ".set: \"X_Forwarded_For\" is taken for a field of the proxy by servers that read _ as -".to_owned(),
            ),
            (
                "set = { X-A = \"{target}\" }",
                ".set: \"{target}\" has the placeholder {target}; expected {host}, {scheme}, {client_ip}, {request_id}, \
                 {route}, {tls_client_subject}, {tls_client_fingerprint}, {user}, or {{ and }} for braces"
                    .to_owned(),
            ),
            (
                "add = { X-A = \"a\\nb\" }",
                ".add: \"a\\nb\" is no value of a header field; expected visible characters of ASCII, with spaces between \
                 them"
                .to_owned(),
            ),
            ("set = { X-A = \"a\", x-a = \"b\" }", ".set: \"x-a\" is listed twice".to_owned()),
            (
                "set = { X-A = \"a\" }, remove = [\"x-a\"]",
                ".remove: \"x-a\" is in set or in this list already; leave one of them out".to_owned(),
            ),
            ("remove = \"X-A\"", ".remove: found \"X-A\"; expected a list in brackets".to_owned()),
        ] {
            let key = format!("{table} = {{ {rules} }}");
            assert_eq!(refused(&with_key(&key)), [format!(":3: routes[0].{table}{problem}")], "{key}");
        }
    }
    let rules = "request_headers = { set = { X-Real-IP = \"{client_ip}\" }, remove = [\"Cookie\"] }\n\
                 response_headers = { add = { X-Frame-Options = \"DENY\" } }\n";
    let question = Question::new("GET http://h/", "10.0.0.1".parse().ok()).unwrap();
    let question = question.field("Cookie: a").unwrap().field("X-Real-IP: 192.0.2.1").unwrap();
    let text = explain::explain(&accepted(&with_route(rules)), &question).text();
    has_lines(
        &text,
        &[
            "    request headers   set x-real-ip: 10.0.0.1; remove cookie   (routes[0].request_headers, line 5)",
            "    response headers  add x-frame-options: DENY   (routes[0].response_headers, line 6)",
            "  removed    cookie             a   (by request_headers of the route)",
            "  rewritten  x-real-ip          192.0.2.1 -> 10.0.0.1   (by request_headers of the route)",
        ],
    );
    let expect = |value: &str| {
        let expectation = format!("request_header = {{ X-Real-IP = {value:?} }}");
        fulfils(&format!(
            "{rules}[[expect]]\nrequest = \"GET http://h/\"\nfrom = \"10.0.0.1\"\n{expectation}"
        ))
    };
    assert_eq!(expect("10.0.0.1"), Ok(()));
    assert!(expect("10.0.0.2").unwrap_err().contains("but the backend 127.0.0.1:8001 gets \"10.0.0.1\""));
}

#[test]
fn methods() {
    let known = "expected \"GET\" or \"HEAD\" or \"POST\"";
    for (list, problem) in [
        ("[]", "the list is empty; expected at least one method, or no such key"),
        ("[\"GET\", \"GET\"]", "\"GET\" is listed twice"),
        ("\"GET\"", "found \"GET\"; expected a list in brackets"),
    ] {
        check(&[(&format!("methods = {list}"), &format!("methods: {problem}"))]);
    }
    let unknown = refused(&with_key("methods = [\"get\"]"));
    assert!(unknown[0].starts_with(&format!(
        ":3: routes[0].methods: \"get\" is not a method that a route can be for; {known}"
    )));
    let rules = "methods = [\"HEAD\", \"GET\"]";
    has_lines(
        &explained(rules, "POST http://h/", "127.0.0.1"),
        &[
            "Refused: 405 method_not_allowed, this path takes other methods",
            "    methods  only GET, HEAD   (routes[0].methods, line 5)",
        ],
    );
    let expect = |method: &str, expected: &str| {
        fulfils(&format!("{rules}\n[[expect]]\nrequest = \"{method} http://h/\"\n{expected}"))
    };
    assert_eq!(expect("DELETE", "status = 405"), Ok(()));
    assert_eq!(expect("HEAD", "route = \"/\""), Ok(()));
    assert!(expect("GET", "status = 405").is_err());
}

#[test]
fn match_headers() {
    check(&[
        (
            "match_headers = {}",
            "match_headers: has nothing in it; expected at least one field and its value, or no such key",
        ),
        ("match_headers = { \"x y\" = \"1\" }", "match_headers: \"x y\" is no name of a header field"),
        (
            "match_headers = { X-A = 1 }",
            "match_headers.X-A: found 1; expected a value in quotes, true (the field is there) or false (it is not)",
        ),
        (
            "match_headers = { X-A = \" 1\" }",
            "match_headers: \" 1\" is no value of a header field; expected visible characters of ASCII, with spaces \
             between them",
        ),
        ("match_headers = { X-A = \"1\", x-a = \"2\" }", "match_headers: \"x-a\" is listed twice"),
        (
            "match_headers = { Connection = \"close\" }",
            "match_headers: \"Connection\" is about one connection, or about how a message is sent; the proxy alone \
             decides about it",
        ),
        (
            "match_headers = { Content-Length = true }",
            "match_headers: \"Content-Length\" is about one connection, or about how a message is sent; the proxy alone \
             decides about it",
        ),
        (
            "match_headers = { Host = \"a\" }",
            "match_headers: \"Host\" is what hosts is about; expected the host there",
        ),
    ]);
    let rules = "match_headers = { X-B = true, x-a = \"1\" }\nname = \"beta\"\n[[routes]]\nprefix = \"/\"\n\
                 methods = [\"GET\"]\nbackend_addrs = [\"a:1\"]\n";
    let with = |fields: &[&str], line: &str| {
        let question = Question::new(line, None).unwrap();
        let question = fields.iter().fold(question, |question, field| question.field(field).unwrap());
        explain::explain(&accepted(&with_route(rules)), &question).text()
    };
    has_lines(
        &with(&["X-A: 1", "X-B: 2"], "GET http://h/"),
        &[
            "Route beta (routes[0], line 3)",
            "    match  only with x-a: 1 and any x-b   (routes[0].match_headers, line 5)",
            "  / (routes[1], line 8): one for the same paths asks for more, and comes first",
        ],
    );
    has_lines(
        &with(&["X-B: 2"], "GET http://h/"),
        &["Route / (routes[1], line 8)", "  beta (routes[0], line 3): it is for requests with x-a: 1"],
    );
    has_lines(
        &with(&[], "POST http://h/"),
        &["Refused: 405 method_not_allowed, this path takes other methods", "Route / (routes[1], line 8)"],
    );
    let expect = |headers: &str, expected: &str| {
        fulfils(&format!(
            "{rules}[[expect]]\nrequest = \"GET http://h/\"\nheaders = {{ {headers} }}\n{expected}"
        ))
    };
    assert_eq!(expect("X-A = \"1\", X-B = \"2\"", "route = \"beta\""), Ok(()));
    assert_eq!(expect("X-A = \"2\", X-B = \"2\"", "route = \"/\""), Ok(()));
    assert!(expect("X-A = \"1\"", "route = \"beta\"").is_err());
}

#[test]
fn routes_for_the_same_paths_are_told_apart() {
    let second = |first: &str, second: &str| {
        Config::parse(
            &with_route(&format!(
                "{first}\n[[routes]]\nname = \"second\"\nprefix = \"/\"\nbackend_addrs = [\"a:1\"]\n{second}\n"
            )),
            "f.toml",
        )
        .map_err(|errors| errors.to_string())
    };
    for (one, other) in [
        ("", "methods = [\"GET\"]"),
        ("methods = [\"GET\"]", "methods = [\"POST\"]"),
        ("match_headers = { a = \"1\" }", "match_headers = { a = \"2\" }"),
        ("match_headers = { a = true }", "match_headers = { a = true }\nmethods = [\"GET\"]"),
        ("match_headers = { a = true }", "match_headers = { a = true, b = true }"),
        ("match_headers = { a = \"b\" }", "match_headers = { a = \"B\" }"),
    ] {
        assert_eq!(second(one, other).map(|config| config.routes.len()), Ok(2), "{one} | {other}");
    }
    for (one, other, also) in [
        ("methods = [\"GET\"]", "methods = [\"POST\", \"GET\"]", ", which takes GET as well"),
        ("match_headers = { a = \"1\" }", "match_headers = { A = \"1\" }", ""),
    ] {
        let errors = second(one, other).unwrap_err();
        assert_eq!(
            errors,
            format!(
                "f.toml:8: routes[1].prefix: \"/\" is the prefix of routes[0] already, on line 3{also}; expected a \
                 different one for each route, or match_headers or methods that tell them apart"
            )
        );
    }
    // Whatever they are for, they need names of their own.
    let nameless = with_route("[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"a:1\"]\nmethods = [\"GET\"]\n");
    assert_eq!(
        refused(&nameless),
        [
            ":6: routes[1].name: \"/\" is what routes[0] is called already, on line 3; expected a different name for each \
          route"
        ]
    );
}

#[test]
fn a_star_is_no_pattern() {
    let text = with_route("match_headers = { X-A = \"*\", X-B = \"a*\" }");
    let warnings: Vec<_> = accepted(&text).warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "f.toml:5: routes[0].match_headers: \"*\" is compared letter by letter; true takes a x-a of any value"
        ]
    );
}

#[test]
fn rate_limits() {
    check(&[
        (
            "rate_limit = 10",
            "rate_limit: found 10; expected a table, for example { requests_per_sec = 10, burst = 20, per = \"client\" }",
        ),
        (
            "rate_limit = {}",
            "rate_limit.requests_per_sec: missing; expected how many requests, for example requests_per_sec = 10",
        ),
        (
            "rate_limit = { requests_per_sec = 0 }",
            "rate_limit.requests_per_sec: found 0; expected a whole number from 1 to 1000000",
        ),
        (
            "rate_limit = { requests_per_sec = 1, burst = 1000001 }",
            "rate_limit.burst: found 1000001; expected a whole number from 1 to 1000000",
        ),
        (
            "rate_limit = { requests_per_sec = 1, per = \"clients\" }",
            "rate_limit.per: \"clients\" is not whose they are, nor \"header:NAME\"; expected \"client\" or \"route\"; did you \
             mean \"client\"?",
        ),
        (
            "rate_limit = { requests_per_sec = 1, per = \"header:\" }",
            "rate_limit.per: \"header:\" has no name of a header field; expected one, for example \"header:X-Api-Key\"",
        ),
        (
            "rate_limit = { requests_per_sec = 1, dry_run = 1 }",
            "rate_limit.dry_run: found 1; expected true or false",
        ),
    ]);
    has_lines(
        &explained(
            "rate_limit = { requests_per_sec = 2, burst = 3, per = \"header:X-Key\", dry_run = true }",
            "GET http://h/",
            "127.0.0.1",
        ),
        &[
            "    rate limit  2 requests a second of each value of x-key, 3 at once; a dry run, which refuses nothing   \
           (routes[0].rate_limit, line 5)",
        ],
    );
    has_lines(
        &explained("rate_limit = { requests_per_sec = 10 }", "GET http://h/", "127.0.0.1"),
        &["    rate limit  10 requests a second of each client, 10 at once   (routes[0].rate_limit, line 5)"],
    );
    // Time decides about it, and not the head of a request: an expectation is about what is taken.
    let expectation = "[[expect]]\nrequest = \"GET http://h/\"\nroute = \"/\"";
    assert_eq!(
        fulfils(&format!("rate_limit = {{ requests_per_sec = 1, per = \"route\" }}\n{expectation}")),
        Ok(())
    );
}

#[test]
fn forward_auth() {
    const ADDR: &str = "addr = \"127.0.0.1:9091\", path = \"/v\"";
    for (inside, problem) in [
        (
            "path = \"/v\"",
            "addr: missing; expected where the service is, for example addr = \"127.0.0.1:9091\"",
        ),
        ("addr = \"a:1\"", "path: missing; expected what it is asked for, for example path = \"/verify\""),
        (
            "addr = \"http://a:1\", path = \"/v\"",
            "addr: \"http://a:1\" is a URL; expected no scheme: write \"a:1\"",
        ),
        (
            "addr = \"a:1\", path = \"v\"",
            "path: \"v\" does not begin with \"/\"; expected a path, for example \"/health\"",
        ),
        (
            "addr = \"a:1\", path = \"/a b\"",
            "path: \"/a b\" has characters no request target can have; expected them percent-encoded",
        ),
        (
            &format!("{ADDR}, timeout_secs = 0"),
            "timeout_secs: found 0; expected seconds from 0.001 to 604800",
        ),
        (&format!("{ADDR}, copy_headers = [\"X-A\", \"x-a\"]"), "copy_headers: \"x-a\" is listed twice"),
        (
            &format!("{ADDR}, copy_headers = [\"Set-Cookie\"]"),
            "copy_headers: \"Set-Cookie\" is for clients, and what is copied is for backends; leave it out",
        ),
        (
            &format!("{ADDR}, copy_headers = [\"X-Forwarded-For\"]"),
            "copy_headers: \"X-Forwarded-For\" is a field that the proxy itself answers for",
        ),
        (&format!("{ADDR}, copy_headers = [\"a b\"]"), "copy_headers: \"a b\" is no name of a header field"),
        (
            &format!("{ADDR}, copy_headers = \"X-A\""),
            "copy_headers: found \"X-A\"; expected a list in brackets",
        ),
        (
            &format!("{ADDR}, uri = \"/v\""),
            "uri: unknown key; did you mean path? allowed here: addr, path, copy_headers, timeout_secs",
        ),
    ] {
        let found = refused(&with_key(&format!("forward_auth = {{ {inside} }}")));
        assert_eq!(found, [format!(":3: routes[0].forward_auth.{problem}")], "{inside}");
    }
    check(&[(
        "forward_auth = \"127.0.0.1:9091\"",
        "forward_auth: found \"127.0.0.1:9091\"; expected a table, for example { addr = \"127.0.0.1:9091\", path = \"/verify\" }",
    )]);
    // The proxy itself, and what the classic engine cannot ask.
    let circle = "listen_addr = \"127.0.0.1:81\"\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"a:1\"]\n\
                  forward_auth = { addr = \"127.0.0.1:81\", path = \"/v\" }\n";
    assert_eq!(
        refused(circle),
        [
            ":5: routes[0].forward_auth.addr: \"127.0.0.1:81\" is where the proxy itself listens: requests would go in \
          circles; name the service itself"
        ]
    );
    if cfg!(feature = "classic") {
        for addr in ["https://a", "unix:/a"] {
            let text = with_route(&format!("forward_auth = {{ addr = {addr:?}, path = \"/v\" }}"));
            let text = text.replacen("[[routes]]", "server.engine = \"tiny_http\"\n[[routes]]", 1);
            let problem = "takes engine = \"native\"; write host:port, or change the engine";
            assert!(refused(&text)[0].ends_with(&format!("routes[0].forward_auth.addr: {addr:?} {problem}")));
        }
    }
    for addr in ["auth.internal:9091", "[::1]:9091", "unix:/run/auth.sock"] {
        accepted(&with_route(&format!("forward_auth = {{ addr = {addr:?}, path = \"/v?a=b\" }}")));
    }
}

#[test]
fn forward_auth_is_explained_and_expected_as_if_it_had_passed() {
    let rules = "forward_auth = { addr = \"auth.test:9091\", path = \"/v?a\", copy_headers = [\"Remote-User\"] }\n\
                 deny = [\"192.0.2.1\"]\n";
    let question = Question::new("GET http://h/", "10.0.0.1".parse().ok()).unwrap();
    let question = question.field("Remote-User: admin").unwrap().field("remote_user: admin").unwrap();
    let text = explain::explain(&accepted(&with_route(rules)), &question).text();
    has_lines(
        &text,
        &[
            "    who may come  not 192.0.2.1/32   (routes[0].deny, line 6)",
            "    forward auth  only what auth.test:9091 lets in with a 2xx, with its remote-user; GET /v?a within 5 s   \
             (routes[0].forward_auth, line 5)",
            "  removed    remote-user        admin   (only the service of forward_auth may say it)",
            "  removed    remote_user        admin   (only the service of forward_auth may say it)",
        ],
    );
    let expect = |expected: &str| {
        fulfils(&format!("{rules}[[expect]]\nrequest = \"GET http://h/\"\nfrom = \"10.0.0.1\"\n{expected}"))
    };
    assert_eq!(expect("route = \"/\""), Ok(()));
    assert!(expect("status = 401").is_err());
    assert!(expect("request_header = { Remote-User = \"admin\" }").is_err());
}

#[test]
fn compressing() {
    const NO_TYPE: &str = "is no type of a content; expected one without parameters, for example \"text/css\", \"text/*\" or \"+json\"";
    const EXPECTED: &str =
        "expected true, false or a table, for example { min_bytes = 1024, types = [\"text/*\"], level = 5 }";
    for (key, problem) in [
        ("compress = \"gzip\"", format!("compress: found \"gzip\"; {EXPECTED}")),
        ("compress = 5", format!("compress: found 5; {EXPECTED}")),
        ("compress = [\"gzip\"]", format!("compress: found [\"gzip\"]; {EXPECTED}")),
        (
            "compress = { min_bytes = -1 }",
            "compress.min_bytes: found -1; expected a whole number from 0 to 9223372036854775807".to_owned(),
        ),
        (
            "compress = { level = 0 }",
            "compress.level: found 0; expected a whole number from 1 to 9".to_owned(),
        ),
        (
            "compress = { types = [] }",
            "compress.types: the list is empty; expected at least one type, or no such key".to_owned(),
        ),
        (
            "compress = { types = \"text/*\" }",
            "compress.types: found \"text/*\"; expected a list in brackets".to_owned(),
        ),
        ("compress = { types = [\"html\"] }", format!("compress.types: \"html\" {NO_TYPE}")),
        (
            "compress = { types = [\"text/html; charset=utf-8\"] }",
            format!("compress.types: \"text/html; charset=utf-8\" {NO_TYPE}"),
        ),
        (
            "compress = { types = [\"text/a\", \"Text/A\"] }",
            "compress.types: \"Text/A\" is listed twice".to_owned(),
        ),
        (
            "compress = { gzip_types = [\"text/a\"] }",
            "compress.gzip_types: unknown key; did you mean types? allowed here: min_bytes, types, level".to_owned(),
        ),
        (
            "compress = { algorithm = \"zstd\" }",
            "compress.algorithm: unknown key; gzip is the one coding there is; allowed here: min_bytes, types, level"
                .to_owned(),
        ),
    ] {
        check(&[(key, &problem)]);
    }
    assert_eq!(
        refused(&without_backends("respond = { body = \"a\" }\ncompress = true")),
        [
            ":4: routes[0].compress: is beside respond, which answers every request of the route: no backend is ever \
          asked; leave one of them out"
        ]
    );
    let rule =
        |value: &str| accepted(&with_key(&format!("compress = {value}"))).routes.remove(0).rules.compress;
    assert_eq!(rule("false"), None);
    assert_eq!(rule("true"), Some(Compress::default()));
    assert_eq!(rule("{}"), Some(Compress::default()));
    assert_eq!(rule("{ level = 1 }"), Some(Compress { level: 1, ..Compress::default() }));
    has_lines(
        &explained("compress = true", "GET http://h/", "127.0.0.1"),
        &[
            "    compress  not for this request, whose Accept-Encoding asks for no gzip   (routes[0].compress, line 5)",
            "  max_compressing            1024 answers       default",
        ],
    );
    let question = Question::new("GET http://h/", None).unwrap();
    let question = question.field("Accept-Encoding: gzip").unwrap();
    has_lines(
        &explain::explain(&accepted(&with_route("compress = { level = 9 }")), &question).text(),
        &["    compress  gzip at level 9, of answers of 1024 bytes or more, if their type is worth it   \
             (routes[0].compress, line 5)"],
    );
}

/// A file of users that ends with the test.
struct UsersFile(std::path::PathBuf);

impl UsersFile {
    fn new(name: &str, content: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("reverse-proxy-users-{name}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        Self(path)
    }

    /// `basic_auth` with it and these further keys.
    fn key(&self, more: &str) -> String {
        format!("basic_auth = {{ users_file = {:?}{more} }}", self.0.display().to_string())
    }
}

impl Drop for UsersFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The password of anna is `myPassword`.
const ANNA: &str = "anna:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n";

#[test]
fn names_and_passwords() {
    check(&[
        (
            "basic_auth = \"/etc/users\"",
            "basic_auth: found \"/etc/users\"; expected a table, for example { users_file = \"/etc/reverse-proxy/users\", \
             realm = \"Staff\" }",
        ),
        (
            "basic_auth = {}",
            "basic_auth.users_file: missing; expected a file that htpasswd -B has written, for example users_file = \
             \"/etc/reverse-proxy/users\"",
        ),
        (
            "basic_auth = { users_file = \"/dev/null\" }",
            "basic_auth.users_file: \"/dev/null\" is no file; expected the path of a plain one",
        ),
        (
            "request_headers = { set = { X-User = \"{user}\" } }",
            "request_headers: has the placeholder {user}, and the route asks nobody for a name; expected basic_auth beside it",
        ),
    ]);
    assert!(
        refused(&with_key("basic_auth = { users = [] }"))[0]
            .contains("are in a file of their own, users_file")
    );
    assert!(
        refused(&with_key("basic_auth = { users_file = \"/none\" }"))[0]
            .contains("\"/none\" cannot be read: ")
    );
    for (n, (content, problem)) in [
        (
            "anna:$apr1$a$b\n",
            "cannot be used: line 1 has a hash of another kind for \"anna\"; expected bcrypt",
        ),
        ("# nobody\n", "has no user in it; htpasswd -B FILE NAME adds one"),
        (&"#".repeat((1 << 20) + 1), "is larger than 1 MiB"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = UsersFile::new(&format!("bad-{n}"), content);
        let problems = refused(&with_key(&file.key("")));
        assert!(problems.len() == 1 && problems[0].contains(problem), "{problems:?}");
    }
    let file = UsersFile::new("good", ANNA);
    assert_eq!(
        refused(&with_key(&file.key(", realm = \"a\\nb\""))),
        [
            ":3: routes[0].basic_auth.realm: \"a\\nb\" cannot be shown by browsers; expected visible characters of ASCII, and \
          spaces"
        ]
    );
    let config = accepted(&with_key(&file.key("")));
    assert_eq!(config.warnings, []);
    let auth = config.routes[0].rules.basic_auth.as_ref().unwrap();
    assert_eq!((auth.realm.as_str(), auth.forward_authorization), ("Restricted", false));
}

#[test]
fn names_and_passwords_are_explained_and_expected() {
    let file = UsersFile::new("explained", ANNA);
    let rules = format!(
        "{}\nrequest_headers = {{ set = {{ X-User = \"{{user}}\" }} }}",
        file.key(", realm = \"Staff\"")
    );
    let text = explained(&rules, "GET http://h/", "10.1.0.1");
    has_lines(
        &text,
        &[
            "Refused: 401 unauthorized, this path takes a name and a password",
            "    basic auth       the one user of \"Staff\"; backends get it without Authorization   \
             (routes[0].basic_auth, line 5)",
        ],
    );
    let expect = |password: &str, expected: &str| {
        let headers = format!("headers = {{ Authorization = {password:?} }}");
        fulfils(&format!("{rules}\n[[expect]]\nrequest = \"GET http://h/\"\n{headers}\n{expected}"))
    };
    let (right, wrong) = ("Basic YW5uYTpteVBhc3N3b3Jk", "Basic YW5uYTpteXBhc3N3b3Jk");
    assert_eq!(expect(right, "route = \"/\"\nrequest_header = { X-User = \"anna\" }"), Ok(()));
    assert_eq!(expect(wrong, "status = 401"), Ok(()));
    assert!(expect(wrong, "route = \"/\"").unwrap_err().contains("401, unauthorized"));
    let sent = expect(right, "request_header = { Authorization = \"any\" }").unwrap_err();
    assert!(sent.contains("gets no such field"), "{sent}");
    let question =
        Question::new("GET http://h/", None).unwrap().field(&format!("Authorization: {right}")).unwrap();
    let text = explain::explain(&accepted(&with_route(&rules)), &question).text();
    assert!(text.contains("it was for basic_auth of the route"), "{text}");
}

#[test]
fn passwords_that_others_may_see_are_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let other = "bert:$2b$04$abcdefghijklmnopqrstuu0HtfOlPbTiymk5tcV.3TsFPDd3SYZqu\n";
    let file = UsersFile::new("warned", &format!("{ANNA}{other}"));
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warned = |listen: &str, more: &str| {
        let text = with_key(&file.key("")).replacen("\"127.0.0.1:0\"", listen, 1);
        let warnings = accepted(&format!("{text}{more}")).warnings;
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let warnings = warned("[\"0.0.0.0:80\"]", "");
    let path = file.0.display();
    let of_file = |problem: &str| format!("f.toml:3: routes[0].basic_auth.users_file: \"{path}\" {problem}");
    let expected = [
        of_file("can be read or written by everybody on this machine; chmod o-rw"),
        of_file(
            "has hashes of different costs: how long an answer takes tells whether there is a name; write all of them with \
             the same -C of htpasswd",
        ),
        "f.toml:3: routes[0].basic_auth: passwords cross the network in the clear to 0.0.0.0:80; expected tls = true there, \
         https_redirect = true, or the proxy where TLS ends in trusted_proxies"
            .to_owned(),
    ];
    assert_eq!(warnings, expected);
    assert_eq!(warned("[\"127.0.0.1:80\", \"[::1]:80\", \"unix:/x\"]", "").len(), 2);
    assert_eq!(warned("[\"0.0.0.0:80\"]", "[server]\ntrusted_proxies = [\"10.0.0.1\"]").len(), 2);
}
