//! Routes that take part of a prefix: by header fields, and by methods.

use reverse_proxy::error::Cause;

use crate::support::engines::on_both_engines;
use crate::support::{Client, Echo, Engine, Origin, TestProxy, get, send_once};

/// The backend that a request with these fields gets to.
fn origin_of(proxy: &TestProxy, line: &str, fields: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nHost: proxy.test\r\n{fields}\r\n");
    Echo::parse(&send_once(proxy.addr(), request).expect(200).body).origin
}

fn fields_choose_the_route(engine: Engine) {
    let [stable, beta, both, mobile] = ["stable", "beta", "both", "mobile"].map(Origin::named);
    let proxy = TestProxy::builder(engine)
        .route("/", &[stable.addr()], "name = \"stable\"")
        .route("/", &[beta.addr()], "name = \"beta\"\nmatch_headers = { X-Beta = \"1\" }")
        .route("/", &[both.addr()], "name = \"both\"\nmatch_headers = { X-Beta = \"1\", X-Group = \"a b\" }")
        .route("/", &[mobile.addr()], "name = \"mobile\"\nmatch_headers = { X-App = true, X-Beta = false }")
        .start();
    for (fields, expected) in [
        ("", "stable"),
        ("X-Beta: 1\r\n", "beta"),
        ("x-beta:1  \r\n", "beta"),
        ("X-Beta: 0\r\nX-Beta:\t1\r\n", "beta"),
        ("X-Beta: 1, 0\r\n", "stable"),
        ("X-Beta: 11\r\n", "stable"),
        ("X-Beta:\r\n", "stable"),
        ("X_Beta: 1\r\n", "stable"),
        ("X-Group: a b\r\n", "stable"),
        ("X-Group: a b\r\nX-Beta: 1\r\n", "both"),
        ("X-Group: A b\r\nX-Beta: 1\r\n", "beta"),
        ("X-App:\r\n", "mobile"),
        ("X-App: x\r\nX-Beta: 1\r\n", "beta"),
        ("X-App: x\r\nX-Beta: 0\r\n", "stable"),
    ] {
        assert_eq!(origin_of(&proxy, "GET /x", fields), expected, "{fields:?}");
    }
    // What has chosen the route is passed on as any other field.
    let echo = send_once(proxy.addr(), "GET / HTTP/1.1\r\nHost: h\r\nX-Beta: 1\r\n\r\n").expect(200);
    assert_eq!(Echo::parse(&echo.body).fields.one("x-beta").as_deref(), Some("1"));
}

fn methods_choose_the_route(engine: Engine) {
    let [reads, writes] = ["reads", "writes"].map(Origin::named);
    let proxy = TestProxy::builder(engine)
        .route("/", &[reads.addr()], "name = \"reads\"\nmethods = [\"GET\", \"HEAD\"]")
        .route("/", &[writes.addr()], "name = \"writes\"\nmethods = [\"POST\", \"PUT\"]")
        .start();
    assert_eq!(origin_of(&proxy, "GET /x", ""), "reads");
    assert_eq!(origin_of(&proxy, "POST /x", "Content-Length: 0\r\n"), "writes");
    let mut client = Client::connect(proxy.addr());
    client.send("DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = client.response_to("DELETE").expect(405);
    assert_eq!(response.fields().one("allow").as_deref(), Some("GET, HEAD, POST, PUT"));
    proxy.expect_counted(Cause::MethodNotAllowed(reverse_proxy::routing::Methods::default()), 1);
}

fn fields_fall_on_and_methods_do_not(engine: Engine) {
    let [all, api] = ["all", "api"].map(Origin::named);
    let proxy = TestProxy::builder(engine)
        .route("/", &[all.addr()], "")
        .route("/api", &[api.addr()], "match_headers = { X-Key = true }\nmethods = [\"GET\"]")
        .start();
    assert_eq!(origin_of(&proxy, "GET /api/x", "X-Key: 1\r\n"), "api");
    assert_eq!(origin_of(&proxy, "GET /api/x", ""), "all");
    assert_eq!(origin_of(&proxy, "PUT /api/x", "Content-Length: 0\r\n"), "all");
    let refused = send_once(proxy.addr(), "DELETE /api HTTP/1.1\r\nHost: h\r\nX-Key: 1\r\n\r\n");
    assert_eq!(refused.fields().one("allow").as_deref(), Some("GET"));
    refused.expect_failure(405, "method_not_allowed");
}

fn without_a_catch_all_there_is_no_route(engine: Engine) {
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .route("/", &[origin.addr()], "match_headers = { X-Key = \"k\" }\nhosts = [\"proxy.test\"]")
        .start();
    get(proxy.addr(), "/").expect_failure(404, "no_route");
    assert_eq!(origin_of(&proxy, "GET /", "X-Key: k\r\n"), "origin");
}

/// Who may not come is told nothing else, of routes side by side neither.
fn the_first_that_would_take_it_says_who_may_come(engine: Engine) {
    let origin = Origin::echo();
    let backend = [origin.addr()];
    let proxy = TestProxy::builder(engine)
        .route("/", &backend, "name = \"a\"\nmethods = [\"GET\"]\ndeny = [\"127.0.0.1\"]")
        .route("/", &backend, "name = \"b\"\nmethods = [\"POST\"]")
        .start();
    get(proxy.addr(), "/").expect_failure(403, "client_denied");
    let of = |line: &str| {
        send_once(proxy.addr(), format!("{line} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"))
    };
    of("POST /").expect(200);
    of("DELETE /").expect_failure(403, "client_denied");
}

fn a_reload_changes_what_is_asked_for(engine: Engine) {
    let [stable, beta] = ["stable", "beta"].map(Origin::named);
    let with = |value: &str| {
        let keys = format!("name = \"beta\"\nmatch_headers = {{ X-Beta = {value} }}");
        TestProxy::builder(engine).route("/", &[stable.addr()], "").route("/", &[beta.addr()], &keys)
    };
    let mut proxy = with("\"1\"").start();
    assert_eq!(origin_of(&proxy, "GET /", "X-Beta: 2\r\n"), "stable");
    assert_eq!(proxy.reload(&with("\"2\"")).expect("a reload").changed, ["beta"]);
    assert_eq!(origin_of(&proxy, "GET /", "X-Beta: 2\r\n"), "beta");
    assert_eq!(origin_of(&proxy, "GET /", "X-Beta: 1\r\n"), "stable");
}

on_both_engines!(
    fields_choose_the_route,
    methods_choose_the_route,
    fields_fall_on_and_methods_do_not,
    without_a_catch_all_there_is_no_route,
    the_first_that_would_take_it_says_who_may_come,
    a_reload_changes_what_is_asked_for,
);
