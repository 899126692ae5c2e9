//! `[[backends]]`, and routes that refer to them.

use super::{accepted, refused};

/// Line 1 listens, line 2 begins a pool, which `more` ends on line 5, line 6 begins a route.
fn with_pool(more: &str, route: &str) -> String {
    format!(
        "listen_addr = \"127.0.0.1:80\"\n[[backends]]\nname = \"app\"\naddrs = [\"a:1\", \"127.0.0.1:2\"]\n{more}\n\
         [[routes]]\nprefix = \"/a\"\nbackends = \"app\"\n{route}\n\
         [[routes]]\nprefix = \"/b\"\nbackends = \"app\"\n"
    )
}

#[test]
fn routes_take_all_that_is_the_pools() {
    let config = accepted(&with_pool(
        "max_fails = 7\nslow_start_secs = 2\nmin_healthy = 1",
        "retries = 3\nname = \"shop\"",
    ));
    assert_eq!(config.pools, ["app"]);
    let [a, b] = &config.routes[..] else { panic!("two routes") };
    for route in [a, b] {
        assert_eq!(route.pool.as_deref(), Some("app"));
        assert_eq!((route.backends.len(), route.max_fails), (2, 7));
        let slow_start = Some(std::time::Duration::from_secs(2));
        assert_eq!((route.slow_start, route.min_healthy), (slow_start, std::num::NonZeroUsize::new(1)));
    }
    assert_eq!((a.retries, b.retries), (3, 1), "what is the route's stays so");
    assert_eq!((a.label(), b.label()), ("shop".to_owned(), "/b".to_owned()));
    assert!(a.has_pool_of(b));
    let alone =
        accepted("listen_addr = \"127.0.0.1:80\"\n[[routes]]\nprefix = \"/a\"\nbackend_addrs = [\"a:1\"]\n");
    assert!(!a.has_pool_of(&alone.routes[0]));
    assert_eq!(config.of_each_pool().map(|(n, _)| n).collect::<Vec<_>>(), [0]);
    assert_eq!(config.route_key(1, b, "max_fails"), "backends[0].max_fails");
    assert_eq!(config.route_key(1, b, "retries"), "routes[1].retries");
    assert_eq!(alone.route_key(0, &alone.routes[0], "max_fails"), "routes[0].max_fails");
}

#[test]
fn what_does_not_fit() {
    for (more, route, error) in [
        (
            "",
            "backend_addrs = [\"b:1\"]",
            ":9: routes[0].backend_addrs: stands beside backends; expected one of them",
        ),
        (
            "",
            "max_fails = 1",
            ":9: routes[0].max_fails: is a matter of the pool; expected it below [[backends]], beside name = \"app\"",
        ),
        (
            "",
            "tls = {}",
            ":9: routes[0].tls: is a matter of the pool; expected it below [[backends]], beside name = \"app\"",
        ),
        ("max_fails = -1", "", ":5: backends[0].max_fails: found -1; expected a whole number from 0 to 1000"),
        (
            "",
            "slow_start_secs = 1",
            ":9: routes[0].slow_start_secs: is a matter of the pool; expected it below [[backends]], beside name = \"app\"",
        ),
        (
            "",
            "min_healthy = 1",
            ":9: routes[0].min_healthy: is a matter of the pool; expected it below [[backends]], beside name = \"app\"",
        ),
        (
            "hash_on = \"client_address\"",
            "",
            ":5: backends[0].hash_on: has a meaning only with balancing_algorithm = \"consistent_hash\"; this route has \
             \"round_robin\"",
        ),
    ] {
        assert_eq!(refused(&with_pool(more, route)), [error], "{more} {route}");
    }
}

#[test]
fn names_lead_somewhere() {
    let text = with_pool("", "");
    let slip = text.replacen("backends = \"app\"", "backends = \"ap\"", 1);
    assert_eq!(
        refused(&slip),
        [":8: routes[0].backends: \"ap\" is not a pool; expected \"app\"; did you mean \"app\"?"]
    );
    let without = "listen_addr = \"127.0.0.1:80\"\n[[routes]]\nprefix = \"/\"\nbackends = \"app\"\n";
    assert_eq!(
        refused(without),
        [
            ":4: routes[0].backends: \"app\" is the name of no pool, and there are none; expected a table [[backends]] with \
             this name, or backend_addrs here"
        ]
    );
    let addresses = without.replace("\"app\"", "[\"127.0.0.1:1\"]");
    assert_eq!(
        refused(&addresses),
        [
            ":4: routes[0].backends: found [\"127.0.0.1:1\"]; expected the name of a [[backends]] table, or several with \
             their shares, as in { stable = 95, canary = 5 }; addresses are named by backend_addrs"
        ]
    );
    let twice = text.replacen("[[routes]]", "[[backends]]\nname = \"app\"\naddrs = [\"b:1\"]\n[[routes]]", 1);
    assert_eq!(
        refused(&twice),
        [
            ":7: backends[1].name: \"app\" is the name of another already, on line 3; expected a different one for each"
        ]
    );
    let nameless = text.replacen("name = \"app\"\n", "", 1);
    let errors = refused(&nameless);
    assert!(
        errors[0].starts_with(":2: backends[0].name: missing; expected what routes refer to it by"),
        "{errors:?}"
    );
}

#[test]
fn the_proxy_itself_is_in_no_pool() {
    let errors = refused(&with_pool("", "").replace("127.0.0.1:2", "127.0.0.1:80"));
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert!(error.starts_with(":4: backends[0].addrs: ") && error.contains("in circles"), "{error}");
}

#[test]
fn what_is_of_no_use_is_warned_about() {
    let warned = |text: &str| -> Vec<String> {
        accepted(text).warnings.iter().map(|warning| warning.to_string().replace("test.toml", "")).collect()
    };
    assert_eq!(warned(&with_pool("", "")), Vec::<String>::new());
    let weights = with_pool("max_fails = 0\nfail_timeout_secs = 1", "")
        .replace("\"a:1\"", "{ addr = \"127.0.0.1:1\", weight = 2 }")
        .replace("max_fails", "resolve_secs = 1\nmax_fails");
    let warnings = warned(&weights);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("backends[0].addrs[0].weight: has no use with"), "{warnings:?}");
    assert!(
        warnings[1].contains("backends[0].resolve_secs: has no use without a host name in addrs"),
        "{warnings:?}"
    );
    assert!(
        warnings[2].contains("backends[0].fail_timeout_secs: has no use with max_fails = 0"),
        "{warnings:?}"
    );
    let unused = "[[backends]]\nname = \"old\"\naddrs = [\"b:1\"]\n[[routes]]";
    let warnings = warned(&with_pool("", "").replacen("[[routes]]", unused, 1));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("backends[1].name: \"old\" is a pool that no route refers to"),
        "{warnings:?}"
    );
}

#[test]
fn an_explanation_names_the_pool_and_its_lines() {
    let config = accepted(&with_pool("max_fails = 7", "retries = 3"));
    let question = crate::explain::Question::new("GET http://shop.example/b", None).unwrap();
    let text = crate::explain::explain(&config, &question).text();
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    for part in
        ["backends of the pool app, chosen by round_robin:", "max_fails 7 backends[0].max_fails, line 5"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// Line 1 listens, two pools end on line 6, line 9 has the shares, `more` begins on line 10.
fn with_shares(shares: &str, more: &str) -> String {
    format!(
        "listen_addr = \"127.0.0.1:80\"\n[[backends]]\nname = \"stable\"\naddrs = [\"a:1\", \"a:2\"]\n\
         [[backends]]\nname = \"canary\"\naddrs = [\"b:1\"]\nmax_fails = 7\nsend_proxy = true\n\
         [[routes]]\nprefix = \"/\"\nbackends = {shares}\n{more}\n"
    )
}

#[test]
fn a_route_takes_shares_of_several_pools() {
    let config = accepted(&with_shares("{ stable = 95, canary = 5 }", "retries = 3"));
    let [route] = &config.routes[..] else { panic!("one route") };
    let shares: Vec<_> = route
        .shares
        .iter()
        .map(|share| (share.of.pool.as_deref(), share.share, share.of.backends.len(), share.of.max_fails))
        .collect();
    assert_eq!(shares, [(Some("stable"), 95, 2, 3), (Some("canary"), 5, 1, 7)], "in the order of the file");
    assert_eq!(route.all_backends().count(), 3);
    let pools: Vec<_> = config.of_each_pool().map(|(n, pool)| (n, pool.pool.as_deref())).collect();
    assert_eq!(pools, [(0, Some("stable")), (0, Some("canary"))]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    // Each pool once, whoever refers to it.
    let more = "[[routes]]\nprefix = \"/a\"\nbackends = \"canary\"\n\
                [[routes]]\nprefix = \"/b\"\nbackends = { canary = 1 }";
    assert_eq!(accepted(&with_shares("{ stable = 1 }", more)).of_each_pool().count(), 2);
}

#[test]
fn shares_that_do_not_fit() {
    for (shares, more, error) in [
        (
            "{}",
            "",
            ":12: routes[0].backends: has nothing in it; expected at least one pool and its share, for example \
             { stable = 95, canary = 5 }",
        ),
        (
            "{ stable = 0, canary = 0 }",
            "",
            ":12: routes[0].backends: has no share above 0: nobody would get anywhere; expected one at least",
        ),
        (
            "{ stable = 1001 }",
            "",
            ":12: routes[0].backends.stable: found 1001; expected a whole number from 0 to 1000",
        ),
        (
            "{ stable = -1, canary = 1 }",
            "",
            ":12: routes[0].backends.stable: found -1; expected a whole number from 0 to 1000",
        ),
        (
            "{ stable = \"95 %\" }",
            "",
            ":12: routes[0].backends.stable: found \"95 %\"; expected a whole number",
        ),
        (
            "{ stable = 1, canry = 1 }",
            "",
            ":12: routes[0].backends: \"canry\" is not a pool; expected \"stable\" or \"canary\"; did you mean \
             \"canary\"?",
        ),
        (
            "{ stable = 1 }",
            "backend_addrs = [\"c:1\"]",
            ":13: routes[0].backend_addrs: stands beside backends; expected one of them",
        ),
        (
            "{ stable = 1 }",
            "max_fails = 1",
            ":13: routes[0].max_fails: is a matter of the pool; expected it below [[backends]]",
        ),
    ] {
        assert_eq!(refused(&with_shares(shares, more)), [error], "{shares} {more}");
    }
    let without = "listen_addr = \"127.0.0.1:80\"\n[[routes]]\nprefix = \"/\"\nbackends = { app = 1 }\n";
    assert_eq!(
        refused(without),
        [
            ":4: routes[0].backends: \"app\" is the name of no pool, and there are none; expected a table [[backends]] with \
             this name, or backend_addrs here"
        ]
    );
    let own = with_shares("{ canary = 1, stable = 1 }", "").replace("b:1", "127.0.0.1:80");
    let errors = refused(&own);
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert!(error.starts_with(":7: backends[1].addrs: ") && error.contains("in circles"), "{error}");
}

#[test]
fn shares_that_do_nothing_are_warned_about() {
    let warned = |text: &str| -> Vec<String> {
        accepted(text).warnings.iter().map(|warning| warning.to_string().replace("f.toml", "")).collect()
    };
    assert_eq!(
        warned(&with_shares("{ stable = 1, canary = 0 }", "")),
        [
            ":12: routes[0].backends.canary: 0 keeps everybody out: without sticky_cookie no client stays in a pool; leave it \
             out, or raise it"
        ]
    );
    let sticky = "sticky_cookie = { name = \"stick\" }";
    assert_eq!(warned(&with_shares("{ stable = 1, canary = 0 }", sticky)), Vec::<String>::new());
    assert_eq!(
        warned(&with_shares("{ stable = 1 }", "")),
        [
            ":6: backends[1].name: \"canary\" is a pool that no route refers to; write backends = \"canary\" in one"
        ]
    );
}

#[test]
fn an_explanation_names_all_pools() {
    let expectation = "sticky_cookie = { name = \"stick\" }\n[[expect]]\nrequest = \"GET http://h/x\"\nroute = \"/\"\n\
                       backend_target = \"/x\"\n";
    let config = accepted(&with_shares("{ stable = 95, canary = 5 }", expectation));
    assert!(crate::explain::check(&config).is_ok());
    let question = crate::explain::Question::new("GET http://shop.example/b", None).unwrap();
    let explanation = crate::explain::explain(&config, &question);
    let text = explanation.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    for part in [
        "95 of 100 requests: backends of the pool stable, chosen by round_robin: a:1 weight 1 a:2 weight 1 no health check",
        "5 of 100 requests: backends of the pool canary, chosen by round_robin: b:1 weight 1 each connection begins with a \
         PROXY header",
        "a client with the cookie stick stays in its pool, and on its backend",
        "max_fails of stable 3 default",
        "max_fails of canary 7 backends[1].max_fails, line 8",
        "host shop.example -> a:1",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&explanation.json()).unwrap();
    assert_eq!(json["route"]["shares"][1]["pool"], "canary");
    assert_eq!(json["route"]["shares"][1]["backends"][0]["address"], "b:1");
    assert_eq!(json["route"]["backends"].as_array().unwrap().len(), 3);
    // One backend alone is wrong: that is enough.
    let wrong = with_shares(
        "{ stable = 95, canary = 5 }",
        "[[expect]]\nrequest = \"GET http://h/x\"\nrequest_header = { Host = \"a:1\" }\n",
    )
    .replace(", \"a:2\"", "");
    let error = crate::explain::check(&accepted(&wrong)).unwrap_err().to_string();
    assert!(error.contains("the backend b:1 gets \"b:1\""), "{error}");
}
