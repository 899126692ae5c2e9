//! Which route a request takes, and that its target arrives unchanged.

use crate::support::engines::on_both_engines;
use crate::support::{Echo, Engine, Origin, TestProxy, get, send_once};

/// A proxy whose routes are for hosts, and lead to origins that are named after both.
fn routes_by_host(engine: Engine, routes: &[(&str, &str)]) -> (TestProxy, Vec<Origin>) {
    let mut builder = TestProxy::builder(engine);
    let mut origins = Vec::new();
    for (hosts, prefix) in routes {
        let origin = Origin::named(&format!("{hosts} {prefix}"));
        let keys = if hosts.is_empty() { String::new() } else { format!("hosts = {hosts}") };
        builder = builder.route(prefix, &[origin.addr()], &keys);
        origins.push(origin);
    }
    (builder.start(), origins)
}

fn the_host_comes_before_the_prefix(engine: Engine) {
    const SHOP: &str = "[\"shop.example\", \"www.shop.example\"]";
    const BELOW: &str = "[\"*.shop.example\"]";
    let routes = [("", "/"), (BELOW, "/"), (SHOP, "/api"), ("", "/api/v2"), (SHOP, "/")];
    let (proxy, _origins) = routes_by_host(engine, &routes);
    for (start, host, hosts, prefix) in [
        ("GET /", "other.example", "", "/"),
        ("GET /api/v2/x", "other.example", "", "/api/v2"),
        ("GET /api/v2/x", "shop.example", SHOP, "/api"),
        ("GET /x", "WWW.Shop.Example.:8080", SHOP, "/"),
        ("GET /api", "a.b.shop.example", BELOW, "/"),
        ("GET /", "evilshop.example", "", "/"),
        // The authority of the target is what counts (RFC 9112 §3.2.2).
        ("GET http://shop.example/x", "other.example", SHOP, "/"),
        ("GET http://other.example/x", "shop.example", "", "/"),
    ] {
        let answer = send_once(proxy.addr(), format!("{start} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let echo = Echo::parse(&answer.expect(200).body);
        assert_eq!(echo.origin, format!("{hosts} {prefix}"), "{start} for {host}");
    }
}

fn a_host_that_nobody_serves_gets_404(engine: Engine) {
    let (proxy, _origins) = routes_by_host(engine, &[("[\"shop.example\"]", "/")]);
    for request in [
        "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: www.shop.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        send_once(proxy.addr(), request).expect_failure(404, "no_route");
    }
    send_once(proxy.addr(), "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").expect(200);
}

/// A proxy whose routes lead to origins that are named after their prefixes.
fn routes(engine: Engine, prefixes: &[&str]) -> (TestProxy, Vec<Origin>) {
    let mut builder = TestProxy::builder(engine);
    let mut origins = Vec::new();
    for prefix in prefixes {
        let origin = Origin::named(prefix);
        builder = builder.route(prefix, &[origin.addr()], "");
        origins.push(origin);
    }
    (builder.start(), origins)
}

#[track_caller]
fn expect_routes(proxy: &TestProxy, expected: &[(&str, &str)]) {
    for (target, prefix) in expected {
        let echo = Echo::parse(&get(proxy.addr(), target).expect(200).body);
        assert_eq!(echo.origin, *prefix, "route of {target}");
        assert_eq!(echo.target, *target, "the target that was forwarded");
    }
}

fn the_longest_prefix_wins_in_any_order(engine: Engine) {
    for prefixes in [["/", "/api", "/api/v2"], ["/api/v2", "/api", "/"], ["/api", "/", "/api/v2"]] {
        let (proxy, _origins) = routes(engine, &prefixes);
        expect_routes(
            &proxy,
            &[
                ("/", "/"),
                ("/other", "/"),
                ("/api", "/api"),
                ("/api/v1/x", "/api"),
                ("/api/v2", "/api/v2"),
                ("/api/v2/x", "/api/v2"),
            ],
        );
    }
}

fn a_prefix_matches_whole_segments(engine: Engine) {
    let (proxy, _origins) = routes(engine, &["/", "/api"]);
    expect_routes(
        &proxy,
        &[
            ("/api", "/api"),
            ("/api/", "/api"),
            ("/api?q=1", "/api"),
            ("/api/x", "/api"),
            ("/apix", "/"),
            ("/api.json", "/"),
            ("/API", "/"),
            ("/x/api", "/"),
            ("/?/api", "/"),
        ],
    );
}

fn dot_segments_are_resolved_for_routing(engine: Engine) {
    let (proxy, _origins) = routes(engine, &["/", "/public", "/admin"]);
    expect_routes(
        &proxy,
        &[
            ("/public/../admin", "/admin"),
            ("/public/../admin/x?y=/../public", "/admin"),
            ("/public/./../admin", "/admin"),
            ("/public/x/../../admin", "/admin"),
            ("/public/%2e%2e/admin", "/admin"),
            ("/public/%2E./admin", "/admin"),
            ("/public/.%2e/admin", "/admin"),
            ("/./admin", "/admin"),
            ("/%2e/admin", "/admin"),
            ("/admin/..", "/"),
            ("/public/.../admin", "/public"),
            ("/public/x?/../../admin", "/public"),
        ],
    );
}

fn a_path_above_the_root_is_refused(engine: Engine) {
    let (proxy, origins) = routes(engine, &["/", "/admin"]);
    for target in ["/..", "/../admin", "/%2e%2e/admin", "/admin/../../admin", "/x/%2E%2E/.%2e/admin"] {
        get(proxy.addr(), target).expect(400);
    }
    assert!(origins.iter().all(|origin| origin.requests() == 0), "a refused request was forwarded");
}

fn without_a_route_it_is_404(engine: Engine) {
    let (proxy, origins) = routes(engine, &["/api", "/static"]);
    for target in ["/", "/apix", "/other/api", "/api/../other"] {
        get(proxy.addr(), target).expect_failure(404, "no_route");
    }
    assert!(origins.iter().all(|origin| origin.requests() == 0));
}

/// A backend that merges or decodes slashes must not be led past the rules of the other route.
fn a_path_of_two_routes_is_of_neither(engine: Engine) {
    let (proxy, origins) = routes(engine, &["/", "/reports"]);
    for target in
        ["//reports", "///reports/x", "/%2Freports/x", "/%2freports", "/a/..%2Freports", "/a//..//../reports"]
    {
        get(proxy.addr(), target).expect_failure(400, "bad_target");
    }
    assert!(origins.iter().all(|origin| origin.requests() == 0));
    for target in ["/reports//x", "/reports/%2Fx", "/a//b", "/a%2Fb", "//", "//reportsx"] {
        get(proxy.addr(), target).expect(200);
    }
}

fn the_target_arrives_byte_for_byte(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let targets = [
        "/?",
        "/a?",
        "/a//b///c",
        "//a",
        "/a/./b/../c",
        "/a%20b/%2F/%2f/%7Euser/~user",
        "/a;v=1,2/b:c@d!$&'()*+=",
        "/%C3%A9/%ff/%00",
        "/a|b{c}[d]^e",
        "/x?a=1&b=%26&c=a+b&&=;/?:@",
        "/x?a=/../b&c=%2e%2e",
        "/x?q=a|b{c}[d]",
    ];
    for target in targets {
        let echo = Echo::parse(&get(proxy.addr(), target).expect(200).body);
        assert_eq!(echo.target, target);
    }
    let long = format!("/{}?{}", "p".repeat(3000), "q=%41&".repeat(500));
    let request = format!("GET {long} HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    assert_eq!(Echo::parse(&send_once(proxy.addr(), request).expect(200).body).target, long);
}

on_both_engines!(
    the_longest_prefix_wins_in_any_order,
    the_host_comes_before_the_prefix,
    a_path_of_two_routes_is_of_neither,
    a_host_that_nobody_serves_gets_404,
    a_prefix_matches_whole_segments,
    dot_segments_are_resolved_for_routing,
    a_path_above_the_root_is_refused,
    without_a_route_it_is_404,
    the_target_arrives_byte_for_byte,
);
