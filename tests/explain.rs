//! What becomes of a request is known before it happens: `--explain`, and `[[expect]]` in the file.

#[path = "support/golden.rs"]
mod golden;

use std::path::Path;

use rustix::process::Signal;

use crate::support::engines::on_both_engines;
use crate::support::process::{Exit, TempDir, program};
use crate::support::{Echo, Engine, Origin, ProxyProcess, TestProxy, get, send_once};

/// Has some of everything.
const CONFIG: &str = r#"listen_addr = "127.0.0.1:3000"

[server]
trusted_proxies = ["10.0.0.0/8"]
max_headers = 50

[[routes]]
prefix = "/"
backend_addrs = ["127.0.0.1:9001", { addr = "app.example:9002", weight = 2 }]
balancing_algorithm = "consistent_hash"
hash_on = "header:X-User"
health_check = { path = "/health", interval_secs = 10 }
deadline_secs = 120

[[routes]]
prefix = "/api"
hosts = ["shop.example"]
name = "api"
backend_addrs = ["127.0.0.1:9003"]
max_body_bytes = 1000
response_timeout_secs = 2.5

[[routes]]
prefix = "/api"
backend_addrs = ["unix:/run/app.sock"]
preserve_host = true
sticky_cookie = { name = "backend" }

[[routes]]
prefix = "/files"
hosts = ["*.example"]
backend_addrs = ["127.0.0.1:9005"]
max_in_flight_per_backend = 3
keepalive_connections = 0
"#;

/// What there is to be said of backends that are not all alike.
const BACKUPS: &str = r#"listen_addr = "127.0.0.1:3000"

[[backends]]
name = "app"
addrs = ["10.0.0.1:80", { addr = "10.0.0.2:80", weight = 3 }, { addr = "10.0.0.99:80", backup = true }]
balancing_algorithm = "least_time"
slow_start_secs = 30
min_healthy = 2

[[routes]]
prefix = "/"
backends = "app"
"#;

fn explain_with(config: &str, arguments: &[&str]) -> Exit {
    let directory = TempDir::new();
    let path = directory.file("reverse-proxy.toml", config);
    ProxyProcess::spawn(program().arg("--config").arg(path).arg("--explain").args(arguments)).wait()
}

fn explain(arguments: &[&str]) -> Exit {
    explain_with(CONFIG, arguments)
}

/// Goldens in `tests/golden/explain`.
#[test]
fn explanations_are_up_to_date() {
    for (name, code, arguments) in [
        (
            "fields.txt",
            0,
            &[
                "GET http://shop.example/api/x?y",
                "-H",
                "Accept: */*",
                "-H",
                "Connection: x-a, keep-alive",
                "-H",
                "X-A: b",
                "-H",
                "X_Forwarded_For: 192.0.2.1",
                "-H",
                "X-Forwarded-For: 192.0.2.1",
                "-H",
                "X-Forwarded-Proto: https",
                "-H",
                "TE: trailers, gzip",
                "-H",
                "Cookie: a=b",
                "-H",
                "Cookie: c=d",
            ][..],
        ),
        (
            "trusted.txt",
            0,
            &[
                "POST /upload",
                "-H",
                "Host: other.example:8080",
                "--from",
                "10.0.0.1",
                "-H",
                "X-Forwarded-For: 203.0.113.9",
                "-H",
                "X-Forwarded-Proto: https",
                "-H",
                "Content-Length: 5",
                "-H",
                "Expect: 100-continue",
            ],
        ),
        (
            "upgrade.txt",
            0,
            &[
                "GET http://localhost/api",
                "--from=unix:",
                "-H",
                "Connection: upgrade",
                "-H",
                "Upgrade: websocket",
            ],
        ),
        ("route.json", 0, &["GET http://www.shop.example/files/", "--json"]),
        ("too-large.txt", 1, &["PUT http://shop.example/api", "-H", "Content-Length: 1001"]),
        ("refused.txt", 1, &["GET /../etc/passwd", "-H", "Host: shop.example"]),
        ("refused.json", 1, &["GET /x", "--json"]),
        ("loop.txt", 1, &["GET http://h/", "-H", "Via: 1.1 reverse-proxy-ID"]),
        ("last-hop.txt", 0, &["OPTIONS * HTTP/1.1", "-H", "Host: h", "-H", "Max-Forwards: 0"]),
    ] {
        let exit = explain(arguments);
        assert_eq!(exit.status.code(), Some(code), "{name}: {exit:?}");
        check_golden(name, &exit.output);
    }
    for (name, arguments) in
        [("backups.txt", &["GET http://h/"][..]), ("backups.json", &["GET http://h/", "--json"])]
    {
        let exit = explain_with(BACKUPS, arguments);
        assert_eq!(exit.status.code(), Some(0), "{name}: {exit:?}");
        check_golden(name, &exit.output);
    }
}

#[track_caller]
fn check_golden(name: &str, output: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/explain").join(name);
    golden::check(&path, output);
}

#[test]
fn no_route_says_why_none() {
    let without_root = CONFIG.replacen("prefix = \"/\"", "prefix = \"/app\"", 1);
    let exit = explain_with(&without_root, &["GET http://h.test/apix"]);
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    for line in [
        "Refused: 404 no_route, nothing is served under this path",
        "  /app (routes[0], line 8): /apix is not below /app",
        "  api (routes[1], line 16): it is for shop.example, not for h.test, and /apix is not below /api",
        "  /api (routes[2], line 24): /apix is not below /api",
        "  *.example/files (routes[3], line 30): it is for *.example, not for h.test, and /apix is not below /files",
    ] {
        assert!(exit.output.lines().any(|found| found == line), "{line:?} is not in\n{}", exit.output);
    }
}

#[test]
fn nothing_that_a_terminal_could_obey_is_printed() {
    for arguments in [
        &["GET /\u{1b}[2J", "-H", "Host: h"][..],
        &["GET /\u{9b}2J", "-H", "Host: h", "--json"],
        &["GET\u{7f} /", "-H", "Host: h"],
        &["GET http://h/", "-H", "A: \u{202e}\u{9b}b"],
        &["GET http://h/", "-H", "A: \u{9b}b", "--json"],
        &["\u{1b}"],
        &["GET http://h/", "-H", "\u{1b}"],
        &["GET http://h/", "--from", "\u{1b}"],
    ] {
        let exit = explain(arguments);
        let bad = |char: char| (char.is_control() && char != '\n') || char == '\u{202e}';
        assert!(!exit.output.contains(bad) && !exit.output.is_empty(), "{exit:?}");
    }
}

#[test]
fn bad_usage() {
    for (arguments, word) in [
        (&["GET"][..], "is no request"),
        (&["GET /\r\nX: y"], "is no request"),
        (&["GET /", "-H", "no colon"], "is no header field"),
        (&["GET /", "-H", "a: b\r\nc: d"], "is no header field"),
        (&["GET /", "--from", "here"], "is no address"),
        (&["GET /", "--check"], "--check"),
        (&[], "--explain needs a request"),
    ] {
        let exit = explain(arguments);
        assert_eq!(exit.status.code(), Some(2), "{exit:?}");
        assert!(exit.output.contains(word), "{word:?} is missing in {}", exit.output);
    }
    let exit = explain_with("listen_addr = 1", &["GET /", "-H", "Host: h"]);
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    assert!(exit.output.contains("reverse-proxy.toml:1: listen_addr"), "{exit:?}");
}

/// What is explained is what a backend really gets, for each engine.
fn what_is_explained_is_what_happens(engine: Engine) {
    let origin = Origin::echo();
    let rules = "strip_prefix = true\nrequest_headers = { set = { X-Who = \"{client_ip} {host} {scheme} {route} {request_id}\" }, \
                 remove = [\"Accept\"] }";
    for rules in ["", rules] {
        explained_and_happened(engine, &origin, rules);
    }
}

fn explained_and_happened(engine: Engine, origin: &Origin, rules: &str) {
    let config = TestProxy::builder(engine).route("/a", &[origin.addr()], rules).toml();
    let (_process, addr) = ProxyProcess::start(&config);
    let fields = [
        "Connection: x-a",
        "X-A: b",
        "X_Forwarded_Host: c",
        "Accept: text/html",
        "TE: trailers",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Host: d",
        "Via: 1.0 e",
    ];
    let request =
        format!("GET /a/%41?q HTTP/1.1\r\nHost: shop.example:81\r\n{}\r\n\r\n", fields.join("\r\n"));
    let echo = Echo::parse(&send_once(addr, &request).expect(200).body);
    let mut arguments = vec!["GET /a/%41?q", "--json", "-H", "Host: shop.example:81"];
    fields.iter().for_each(|field| arguments.extend(["-H", field]));
    let exit = explain_with(&config, &arguments);
    let explained: serde_json::Value = serde_json::from_str(&exit.output).expect(&exit.output);
    let explained = &explained["to_backend"];
    assert_eq!(explained["target"], echo.target.as_str());
    let mut expected: Vec<(String, String)> = Vec::new();
    for field in explained["fields"].as_array().unwrap() {
        for value in field["sent"].as_array().unwrap() {
            expected.push((field["name"].as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned()));
        }
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut found: Vec<(String, String)> =
        echo.fields.0.iter().map(|(name, value)| (text(name).to_ascii_lowercase(), text(value))).collect();
    // What no explanation can know: here, the system chooses the port.
    found.retain(|(name, _)| name != "x-forwarded-port");
    for (name, value) in &mut found {
        if name == "x-request-id" {
            assert_eq!(value.len(), 32, "{value}");
            "ID".clone_into(value);
        }
        if name == "x-who" {
            let (before, id) = value.rsplit_once(' ').expect("the id of the request");
            assert_eq!(id.len(), 32, "{value}");
            *value = format!("{before} ID");
        }
        if name == "via" {
            let (before, id) = value.rsplit_once("reverse-proxy-").expect("our name");
            assert!(id.len() == 8, "{id}");
            *value = format!("{before}reverse-proxy-ID");
        }
    }
    expected.sort();
    found.sort();
    assert_eq!(expected, found);
}

on_both_engines!(what_is_explained_is_what_happens);

/// A file in front of `origin` that expects something.
fn expecting(origin: &Origin, expectation: &str) -> String {
    let config =
        TestProxy::builder(Engine::Native).route("/api", &[origin.addr()], "max_body_bytes = 10").toml();
    format!("{config}\n[[expect]]\n{expectation}\n")
}

#[test]
fn expectations_that_are_fulfilled() {
    let origin = Origin::echo();
    let directory = TempDir::new();
    let long = "x".repeat(40_000);
    for expectation in [
        &format!("request = \"GET http://h/{long}\"\nstatus = 414"),
        &format!("request = \"GET http://h/\"\nheaders = {{ X-A = \"{long}\" }}\nstatus = 431"),
        "request = \"GET http://shop.example/api/cart\"\nroute = \"/api\"\nbackend_target = \"/api/cart\"",
        "request = \"GET /api\"\nheaders = { Host = \"h\", X-A = \"b\" }\nrequest_header = { x-a = \"b\" }",
        "request = \"GET http://h/api\"\nfrom = \"192.0.2.7\"\nrequest_header = { X-Forwarded-For = \"192.0.2.7\" }",
        "request = \"GET http://h/api\"\nfrom = \"unix:\"\nrequest_header = { x-forwarded-for = \"unknown\" }",
        "request = \"GET http://h/\"\nstatus = 404",
        "request = \"PUT http://h/api\"\nheaders = { Content-Length = \"11\" }\nroute = \"/api\"\nstatus = 413",
        "request = \"GET /\"\nstatus = 400",
        "request = \"CONNECT h:1\"\nstatus = 405\nheaders = { host = \"h:1\" }",
        "request = \"PUT http://h/api\"\nheaders = { Content-Length = \"11\" }\nstatus = 413",
        "request = \"PUT http://h/api\"\nheaders = { Expect = \"x\" }\nstatus = 417",
        "request = \"GET https://h/api\"\nstatus = 421",
        "request = \"PUT http://h/api\"\nheaders = { Transfer-Encoding = \"x\" }\nstatus = 501",
        "request = \"GET http://h/api HTTP/2.0\"\nstatus = 505",
        "request = \"GET http://h/api\"\nheaders = { Via = \"1.1 reverse-proxy-ID\" }\nstatus = 508",
        "request = \"OPTIONS http://h/api\"\nheaders = { Max-Forwards = \"0\" }\nstatus = 200",
    ] {
        let path = directory.file("good.toml", &expecting(&origin, expectation));
        let exit = ProxyProcess::spawn(program().arg("--check").arg("--config").arg(&path)).wait();
        assert_eq!(exit.status.code(), Some(0), "{exit:?}");
    }
}

#[test]
fn expectations_that_are_not_fulfilled_stop_the_check_and_the_start() {
    let origin = Origin::echo();
    let directory = TempDir::new();
    let lines = expecting(&origin, "").lines().count();
    for (expectation, line, message) in [
        (
            "request = \"GET http://h/api\"\nroute = \"/\"",
            1,
            "expect[0].route: route \"/\" is expected, but route \"/api\" takes \"GET http://h/api\"; no route is \
             called \"/\", there are \"/api\"",
        ),
        (
            "request = \"GET http://h/apix\"\nroute = \"/api\"",
            1,
            "expect[0].route: route \"/api\" is expected, but \"GET http://h/apix\" is refused with 404, no_route: \
             nothing is served under this path",
        ),
        (
            "status = 404\nrequest = \"GET http://h/api\"",
            0,
            "expect[0].status: 404 is expected, but route \"/api\" takes \"GET http://h/api\"",
        ),
        (
            "request = \"GET http://h/api\"\nstatus = 413\nroute = \"/api\"",
            1,
            "expect[0].status: 413 is expected, but route \"/api\" takes \"GET http://h/api\"",
        ),
        (
            "request = \"GET http://h/\"\nroute = \"/api\"\nstatus = 404",
            1,
            "expect[0].route: route \"/api\" is expected, but \"GET http://h/\" is refused with 404, no_route",
        ),
        (
            "request = \"PUT http://h/api\"\nheaders = { Content-Length = \"11\" }\nroute = \"/api\"",
            2,
            "expect[0].route: it is expected to take the request, but route \"/api\" refuses \"PUT http://h/api\" \
             with 413, ",
        ),
        (
            "request = \"GET http://h/api\"\nbackend_target = \"/\"",
            1,
            "expect[0].backend_target: \"/\" is expected, but the backend gets \"/api\" of \"GET http://h/api\"",
        ),
        (
            "request = \"GET http://h/api\"\n\nrequest_header = { X-Forwarded-Proto = \"https\" }",
            2,
            "expect[0].request_header: x-forwarded-proto is expected to be \"https\", but the backend ",
        ),
        ("request = \"GET http://h/api\"\nrequest_header = { X-A = \"\" }", 1, " gets no such field"),
        ("request = \"GET\"\nstatus = 404", 0, "expect[0].request: \"GET\" is no request"),
        (
            "request = \"GET http://h/\"\nheaders = { A = \"b\\nc\" }\nstatus = 404",
            1,
            "expect[0].headers: \"A: b\\nc\" is no header field",
        ),
    ] {
        let path = directory.file("broken.toml", &expecting(&origin, expectation));
        let place = format!("broken.toml:{}: ", lines + line);
        for check in [&["--check"][..], &[]] {
            let exit = ProxyProcess::spawn(program().args(check).arg("--config").arg(&path)).wait();
            assert_eq!(exit.status.code(), Some(1), "{exit:?}");
            assert!(
                exit.output.contains(&place) && exit.output.contains(message),
                "{place}{message}\n{exit:?}"
            );
        }
    }
}

#[test]
fn expectations_that_make_no_sense_are_refused_when_they_are_read() {
    let origin = Origin::echo();
    let directory = TempDir::new();
    for (expectation, message) in [
        ("route = \"/\"", "expect[0].request: missing; expected a request"),
        ("request = \"GET /\"", "expect[0]: missing; expected what becomes of the request"),
        (
            "request = \"GET /\"\nstatus = 502",
            "expect[0].status: 502 is expected, but \"GET /\" is refused with 400",
        ),
        (
            "request = \"GET /api?a\"\nroute = \"/api\"",
            "; it names no host; write it with one, as in \"GET http://shop.example/api?a\"",
        ),
        (
            "request = \"GET /\"\nstatus = 404\nbackend_target = \"/\"",
            "expect[0].status: is that of an answer the proxy itself makes: no backend has the request then",
        ),
        (
            "request = \"GET /\"\nstatus = 404\nroute = \"/\"\nrequest_header = { A = \"b\" }",
            "expect[0].status: is that of an answer",
        ),
        (
            "request = \"GET /\"\nroute = \"/\"\nfrom = \"here\"",
            "expect[0].from: \"here\" is no address of a client",
        ),
        (
            "request = \"GET /\"\nroute = \"/\"\nheaders = { \"a b\" = \"c\" }",
            "\"a b\" is no name of a header field",
        ),
        (
            "request = \"GET /\"\nroute = \"/\"\nheaders = \"a: b\"",
            "expect[0].headers: found \"a: b\"; expected a table",
        ),
        ("request = \"GET /\"\nroutes = \"/\"", "expect[0].routes: unknown key"),
        ("request = \"GET /\"\nbackend = \"a:1\"", "expect[0].backend: unknown key; which backend"),
    ] {
        let path = directory.file("broken.toml", &expecting(&origin, expectation));
        let exit = ProxyProcess::spawn(program().arg("--check").arg("--config").arg(&path)).wait();
        assert_eq!(exit.status.code(), Some(1), "{exit:?}");
        assert!(exit.output.contains(message), "{message}\n{exit:?}");
    }
}

/// A reload that breaks what the file itself expects changes nothing.
#[test]
fn a_reload_that_breaks_routing_is_refused() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let directory = TempDir::new();
    let expectation = "request = \"GET http://h/api/cart\"\nroute = \"/api\"";
    let path = directory.file("reverse-proxy.toml", &expecting(&old, expectation));
    let mut process = ProxyProcess::spawn(program().arg("--config").arg(&path));
    let addr = process.wait_for_output("its address", |line| {
        let (_, rest) = line.split_once("listening addr=")?;
        rest.split(' ').next()?.parse().ok()
    });
    let broken = expecting(&new, expectation).replace("prefix = \"/api\"", "prefix = \"/apis\"");
    std::fs::write(&path, broken).unwrap();
    process.signal(Signal::HUP);
    for told in [
        "expect[0].route: route \"/api\" is expected, but \"GET http://h/api/cart\" is refused with 404",
        "not reloaded: the file has errors, and nothing was changed",
    ] {
        process.wait_for_output(told, |line| line.contains(told).then_some(()));
    }
    assert_eq!(Echo::parse(&get(addr, "/api/x").expect(200).body).origin, "old");
    std::fs::write(&path, expecting(&new, expectation)).unwrap();
    process.signal(Signal::HUP);
    process.wait_for_output("the reload", |line| line.contains("reloaded snapshot=2").then_some(()));
    assert_eq!(Echo::parse(&get(addr, "/api/x").expect(200).body).origin, "new");
    process.signal(Signal::TERM);
    assert!(process.wait().status.success());
}
