//! What is accepted with a warning.

use super::{FILE, accepted, with_key, with_route};

/// The warnings about `text`, without the file name each of them begins with.
fn warned(text: &str) -> Vec<String> {
    let warnings = accepted(text).warnings;
    warnings.iter().map(|warning| warning.to_string().strip_prefix(FILE).unwrap().to_owned()).collect()
}

#[track_caller]
fn expect(text: &str, messages: &[&str]) {
    assert_eq!(warned(text), messages, "{text}");
}

#[test]
fn prefixes_that_look_like_patterns() {
    for (prefix, plain) in [
        ("/api/*", "/api"),
        ("/*", "/"),
        ("/{id}", "/"),
        ("/users/{id}/files", "/users"),
        ("/users/:id", "/users"),
        ("/users/<id>", "/users"),
        ("/^api", "/"),
        ("/api/v[12]", "/api"),
        ("/api$", "/"),
        ("/a|b", "/"),
    ] {
        let message = format!(
            ":3: routes[0].prefix: \"{prefix}\" looks like a pattern, and prefixes are compared letter by letter; \
             \"{plain}\" takes every path below it"
        );
        expect(&with_key(&format!("prefix = {prefix:?}")), &[&message]);
    }
    for prefix in ["/", "/api", "/$metadata", "/~user", "/a(1)", "/a+b", "/a:b", "/a%2Ab"] {
        expect(&with_key(&format!("prefix = {prefix:?}")), &[]);
    }
}

#[test]
fn prefixes_that_are_never_found() {
    for (prefix, compared) in [("/%61pi", "/api"), ("/%c3%bc", "/%C3%BC")] {
        let message = format!(
            ":3: routes[0].prefix: \"{prefix}\" is never found: in a request \"{compared}\" is the same, and is what is \
             compared; write that"
        );
        expect(&with_key(&format!("prefix = {prefix:?}")), &[&message]);
    }
}

#[test]
fn limits_that_are_never_reached() {
    expect(
        &with_route("max_in_flight = 101\n[server]\nmax_exchanges = 100"),
        &[
            ":5: routes[0].max_in_flight: 101 is never reached: max_exchanges of [server] is 100; lower this or raise that",
        ],
    );
    expect(
        &with_route("max_in_flight = 10001"),
        &[":5: routes[0].max_in_flight: 10001 is never reached: max_exchanges of [server] is 10000; \
           lower this or raise that"],
    );
    expect(
        &with_route("max_in_flight = 51\n[server]\nmax_connections = 50"),
        &[
            ":5: routes[0].max_in_flight: 51 is never reached: max_connections of [server] is 50; lower this or raise that",
        ],
    );
    expect(&with_route("max_in_flight = 100\n[server]\nmax_exchanges = 100"), &[]);
    expect(
        &with_route("[server]\nmax_connections_per_client = 10001"),
        &[
            ":6: server.max_connections_per_client: 10001 is never reached: max_connections is 10000; lower this or raise that",
        ],
    );
    expect(
        &with_route("max_in_flight = 10\nmax_in_flight_per_backend = 11"),
        &[":6: routes[0].max_in_flight_per_backend: 11 is never reached: max_in_flight of the route is 10; \
           lower this or raise that"],
    );
    expect(
        &with_route("[server]\nmax_exchanges = 20000\nmax_tunnels = 10001"),
        &[
            ":6: server.max_exchanges: 20000 is never reached: each takes a connection, and max_connections is 10000; \
           lower this or raise that",
            ":7: server.max_tunnels: 10001 is never reached: each takes a connection, and max_connections is 10000; \
           lower this or raise that",
        ],
    );
    // A default is nobody's mistake.
    expect(&with_route("[server]\nmax_connections = 50"), &[]);
}

#[test]
#[cfg(feature = "classic")]
fn tiny_http_carries_one_exchange_on_each_worker() {
    expect(
        &with_route("max_in_flight = 101\n[server]\nengine = \"tiny_http\"\nworkers = 100"),
        &[
            ":5: routes[0].max_in_flight: 101 is never reached: workers of [server] is 100; lower this or raise that",
        ],
    );
    expect(&with_route("max_in_flight = 100\n[server]\nengine = \"tiny_http\"\nworkers = 100"), &[]);
}

#[test]
fn times_that_are_never_reached() {
    expect(
        &with_route("deadline_secs = 5"),
        &[
            ":5: routes[0].deadline_secs: 5 is shorter than response_timeout_secs, 60, which is then never reached, and \
           a backend that hangs is not noticed; lower response_timeout_secs or raise this",
        ],
    );
    expect(&with_route("deadline_secs = 5\nresponse_timeout_secs = 5"), &[]);
    let others = "connect_timeout_secs = 6\nidle_timeout_secs = 6\nqueue_timeout_secs = 6\nhold_secs = 6\n\
                  forward_auth = { addr = \"a:1\", path = \"/\", timeout_secs = 6 }";
    let warnings = warned(&with_route(&format!(
        "deadline_secs = 5\nresponse_timeout_secs = 2\nmax_in_flight_per_backend = 1\n{others}"
    )));
    assert_eq!(warnings.len(), 5, "{warnings:?}");
    assert!(
        warnings.iter().all(|line| line.contains("6 is never reached: deadline_secs is 5")),
        "{warnings:?}"
    );
    expect(
        &with_route("health_check = { path = \"/\", interval_secs = 1, timeout_secs = 1.5 }"),
        &[
            ":5: routes[0].health_check.timeout_secs: 1.5 is longer than interval_secs, 1: while a probe hangs, the next \
           ones are left out; lower this or raise that",
        ],
    );
}

#[test]
fn keys_without_use_beside_others() {
    for (keys, key, reason) in [
        ("queue_timeout_secs = 1", "queue_timeout_secs", "without max_in_flight_per_backend"),
        ("fail_timeout_secs = 1\nmax_fails = 0", "fail_timeout_secs", "with max_fails = 0"),
        (
            "keepalive_idle_secs = 1\nkeepalive_connections = 0",
            "keepalive_idle_secs",
            "with keepalive_connections = 0",
        ),
        ("resolve_secs = 1", "resolve_secs", "without a host name in backend_addrs"),
        (
            "keepalive_connections = 9\nsend_proxy = true",
            "keepalive_connections",
            "with send_proxy = true, where no connection is for two clients",
        ),
    ] {
        expect(&with_route(keys), &[&format!(":5: routes[0].{key}: has no use {reason}; leave it out")]);
    }
    expect(&with_key("backend_addrs = [\"a.example:1\"]\nresolve_secs = 1"), &[]);
    let weights = "backend_addrs = [\"a:1\", { addr = \"b:1\", weight = 2 }]";
    expect(
        &with_key(weights),
        &[":3: routes[0].backend_addrs[1].weight: has no use with balancing_algorithm = \"round_robin\"; \
           take \"weighted_round_robin\", or leave it out"],
    );
    expect(&with_key(&format!("{weights}\nbalancing_algorithm = \"least_connections\"")), &[]);
    expect(
        &format!("listen_mode = \"0660\"\n{}", with_route("")),
        &[":1: listen_mode: has no use without a Unix socket in listen_addr; leave it out"],
    );
}

#[test]
fn what_is_for_several_backends() {
    let with = |backends: &str, keys: &str| with_key(&format!("backend_addrs = {backends}\n{keys}"));
    let (one, two, name) = ("[\"127.0.0.1:1\"]", "[\"127.0.0.1:1\", \"127.0.0.1:2\"]", "[\"app.test:1\"]");
    let single = ":4: routes[0].slow_start_secs: has no use with a single backend; leave it out";
    let unreachable = ":4: routes[0].min_healthy: 3 is more than there are backends: who is unhealthy is always tried all the \
                       same; lower it, or leave the health check out";
    let nobody = ":4: routes[0].min_healthy: has no use with max_fails = 0 and no health check: all are taken for healthy; \
                  leave it out";
    for (backends, keys, messages) in [
        (one, "slow_start_secs = 5", &[single][..]),
        (two, "slow_start_secs = 5", &[]),
        (name, "slow_start_secs = 5", &[]),
        (two, "min_healthy = 3", &[unreachable]),
        (two, "min_healthy = 2", &[]),
        (name, "min_healthy = 3", &[]),
        (two, "min_healthy = 1\nmax_fails = 0", &[nobody]),
        (two, "min_healthy = 1\nmax_fails = 0\nhealth_check = { path = \"/\", interval_secs = 9 }", &[]),
    ] {
        expect(&with(backends, keys), messages);
    }
}

#[test]
fn keys_without_use_with_the_native_engine() {
    expect(
        &with_route("[server]\nqueue_size = 5"),
        &[":6: server.queue_size: has no use with engine = \"native\"; leave it out"],
    );
}

#[test]
#[cfg(feature = "classic")]
fn keys_without_use_with_tiny_http() {
    let keys = [
        "max_exchanges = 1",
        "max_tunnels = 1",
        "max_connections = 1",
        "header_timeout_secs = 1",
        "keepalive_timeout_secs = 1",
        "read_timeout_secs = 1",
        "min_body_rate = 1",
        "min_answer_rate = 1",
        "write_timeout_secs = 1",
    ];
    let warnings = warned(&with_route(&format!(
        "[server]\nengine = \"tiny_http\"\nqueue_size = 1\nmax_headers = 50\n{}",
        keys.join("\n")
    )));
    assert_eq!(warnings.len(), keys.len(), "{warnings:?}");
    assert!(
        warnings.iter().all(|line| line.contains("has no use with engine = \"tiny_http\"")),
        "{warnings:?}"
    );
}

#[test]
fn addresses_that_get_in_each_others_way() {
    let route = "[[routes]]\nprefix = \"/\"\nbackend_addrs = ";
    expect(
        &format!(
            "listen_addr = [\"0.0.0.0:80\",\n\"127.0.0.1:80\", \"[::]:80\", \"127.0.0.1:81\"]\n{route}[\"a:1\"]"
        ),
        &[
            ":2: listen_addr: \"127.0.0.1:80\" is among the addresses of \"0.0.0.0:80\" and cannot be had beside it; \
           leave one of them out",
        ],
    );
}
