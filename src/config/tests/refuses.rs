//! What is refused, in the exact words.

use super::super::*;
use super::{FILE, accepted, refused, with_key, with_route};
use crate::config::raw::ROUTE;

#[test]
fn files_that_cannot_be_read() {
    let missing = Config::load(Path::new("no/such/file.toml")).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "no/such/file.toml: no such file; name another with --config FILE or REVERSE_PROXY_CONFIG_PATH"
    );
    let directory = Config::load(Path::new("src")).unwrap_err().to_string();
    assert!(directory.starts_with("src: cannot be read: "), "{directory}");

    let path = std::env::temp_dir().join(format!("reverse-proxy-not-utf8-{}.toml", std::process::id()));
    fs::write(&path, b"# one\n# tw\xf6\n").unwrap();
    let latin1 = Config::load(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(latin1.unwrap_err().to_string(), format!("{}:2: not a text in UTF-8", path.display()));
}

#[test]
fn not_toml() {
    for (text, message) in [
        (
            "listen_addr = 127.0.0.1:3000\n",
            ":1: not valid TOML at column 20: invalid float; the line is: listen_addr = 127.0.0.1:3000",
        ),
        (
            "# ä\nlisten_addr = \"ä\" x\n",
            ":2: not valid TOML at column 19: unexpected key or value, expected newline, `#`; \
             the line is: listen_addr = \"ä\" x",
        ),
        ("a = 1\na = 2", ":2: not valid TOML at column 1: duplicate key; the line is: a = 2"),
        ("[rout", ":1: not valid TOML at column 6: unclosed table, expected `]`; the line is: [rout"),
        ("\na = [\n\n", ":2: not valid TOML at column 6: unclosed array, expected `]`; the line is: a = ["),
    ] {
        assert_eq!(refused(text), [message], "{text}");
    }
}

#[test]
fn unknown_keys() {
    let route_keys = ROUTE.keys.join(", ");
    for (text, message) in [
        (
            format!("listen = 1\n{}", with_route("")),
            ":1: listen: unknown key; did you mean listen_addr? \
             allowed here: listen_addr, listen_mode, shutdown_timeout, drain_delay_secs, error_pages, certificates, tls, server, access_log, admin, backends, routes, expect"
                .to_owned(),
        ),
        (
            with_route("[prometheus]\nlisten_addr = \"127.0.0.1:9900\""),
            ":5: prometheus: unknown key; allowed here: listen_addr, listen_mode, shutdown_timeout, drain_delay_secs, error_pages, certificates, tls, server, access_log, admin, backends, routes, expect".to_owned(),
        ),
        (
            with_route("[server]\nwrokers = 4"),
            ":6: server.wrokers: unknown key; did you mean workers? allowed here: engine, workers, max_exchanges, \
             max_tunnels, max_compressing, queue_size, max_connections, max_connections_per_client, max_header_bytes, max_headers, header_timeout_secs, \
             keepalive_timeout_secs, read_timeout_secs, min_body_rate, min_answer_rate, write_timeout_secs, \
             trusted_proxies"
                .to_owned(),
        ),
        (
            with_route("\"odd key\" = 1"),
            format!(":5: routes[0].\"odd key\": unknown key; allowed here: {route_keys}"),
        ),
        (
            with_route("shutdown_timeout = 10"),
            format!(
                ":5: routes[0].shutdown_timeout: unknown key here, it belongs to the top level, above the first [table]; \
                 allowed here: {route_keys}"
            ),
        ),
        (
            with_route("interval_secs = 10"),
            format!(":5: routes[0].interval_secs: unknown key here, it belongs to health_check; allowed here: {route_keys}"),
        ),
        (
            with_route("health_check = { path = \"/\", interval = 5, interval_secs = 5 }"),
            ":5: routes[0].health_check.interval: unknown key; did you mean interval_secs? \
             allowed here: path, interval_secs, timeout_secs, healthy_threshold, unhealthy_threshold"
                .to_owned(),
        ),
        (
            with_key("backend_addrs = [\n\"a:1\",\n{ addr = \"b:1\", wieght = 2 },\n]"),
            ":5: routes[0].backend_addrs[1].wieght: unknown key; did you mean weight? allowed here: addr, weight, backup"
                .to_owned(),
        ),
    ] {
        assert_eq!(refused(&text), [message], "{text}");
    }
}

#[test]
fn hosts_and_names() {
    for (key, problem) in [
        ("hosts = []", "hosts: the list is empty; expected at least one host, or no such key for any host"),
        ("hosts = [\"a.b\", \"a.b\"]", "hosts: \"a.b\" is listed twice"),
        (
            "hosts = [\"a:80\"]",
            "hosts: \"a:80\" has a port; leave it out: a route is for its hosts on all ports listened on",
        ),
        (
            "hosts = [\"w*.a\"]",
            "hosts: \"w*.a\" has a \"*\" that does not stand for whole labels in front; write it as in \
             \"*.shop.example\"",
        ),
        ("hosts = \"a.b\"", "hosts: found \"a.b\"; expected a list in brackets"),
        (
            "name = \"a b\"",
            "name: \"a b\" is no name; expected up to 64 letters, digits, \"-\", \"_\", \".\" or \"/\"",
        ),
    ] {
        assert_eq!(refused(&with_route(key)), [format!(":5: routes[0].{problem}")], "{key}");
    }
}

#[test]
fn two_routes_for_the_same() {
    let routes = |keys: [&str; 2]| {
        let route = |key: &str| format!("[[routes]]\n{key}\nbackend_addrs = [\"a:1\"]\n");
        format!("listen_addr = \"127.0.0.1:3000\"\n{}{}", route(keys[0]), route(keys[1]))
    };
    for (keys, problem) in [
        (
            ["prefix = \"/\"\nhosts = [\"a\", \"b\"]", "prefix = \"/\"\nhosts = [\"c\", \"B.\"]"],
            ":7: routes[1].prefix: \"/\" is the prefix of routes[0] already for b, on line 3; \
             expected a different one for each route, or match_headers or methods that tell them apart",
        ),
        (
            ["prefix = \"/\"\nname = \"x\"", "prefix = \"/b\"\nname = \"x\""],
            ":8: routes[1].name: \"x\" is what routes[0] is called already, on line 4; expected a different name \
             for each route",
        ),
        (
            ["prefix = \"/\"\nname = \"/b\"", "prefix = \"/b\"\nhold_secs = 0"],
            ":7: routes[1].name: \"/b\" is what routes[0] is called already, on line 4; expected a different name \
             for each route",
        ),
    ] {
        assert_eq!(refused(&routes(keys)), [problem], "{keys:?}");
    }
    for keys in [
        ["prefix = \"/\"\nhosts = [\"a\"]", "prefix = \"/\"\nhosts = [\"b\"]"],
        ["prefix = \"/\"\nhosts = [\"a.b\"]", "prefix = \"/\"\nhosts = [\"*.b\"]"],
        ["prefix = \"/\"\nhosts = [\"a\"]", "prefix = \"/\"\nhold_secs = 0"],
    ] {
        let _ = accepted(&routes(keys));
    }
}

#[test]
fn a_backend_that_is_the_proxy_itself() {
    for (listen, backend) in [
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("127.0.0.1:3000", "localhost:3000"),
        ("0.0.0.0:3000", "127.0.0.7:3000"),
        ("[::]:3000", "[::1]:3000"),
        ("unix:/run/own.sock", "unix:/run/own.sock"),
    ] {
        let text = format!(
            "listen_addr = \"{listen}\"\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\n\"a:1\", \"{backend}\"]"
        );
        assert_eq!(
            refused(&text),
            [format!(
                ":5: routes[0].backend_addrs: \"{backend}\" is where the proxy itself listens: requests would go in \
                 circles; name another server"
            )],
            "{text}"
        );
    }
    for (listen, backend) in [
        ("127.0.0.1:3000", "127.0.0.1:3001"),
        ("127.0.0.1:3000", "127.0.0.2:3000"),
        ("0.0.0.0:3000", "192.0.2.1:3000"),
        ("0.0.0.0:3000", "app.test:3000"),
        ("127.0.0.1:0", "127.0.0.1:3000"),
    ] {
        let text = format!(
            "listen_addr = \"{listen}\"\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"{backend}\"]"
        );
        let _ = accepted(&text);
    }
}

#[test]
fn wrong_types() {
    for (text, message) in [
        (
            with_route("[server]\nworkers = \"four\""),
            ":6: server.workers: found \"four\"; expected a whole number",
        ),
        (with_route("[server]\nworkers = 1.5"), ":6: server.workers: found 1.5; expected a whole number"),
        (
            with_route("[server]\ntrusted_proxies = \"10.0.0.0/8\""),
            ":6: server.trusted_proxies: found \"10.0.0.0/8\"; expected a list in brackets",
        ),
        (
            with_route("[server]\nheader_timeout_secs = \"10s\""),
            ":6: server.header_timeout_secs: found \"10s\"; expected a number of seconds, for example 5 or 0.5",
        ),
        (
            with_route("[[server]]\nworkers = 1"),
            ":5: server: found [[server]]; expected a table that begins with the line [server]",
        ),
        (
            "server = 1\n".to_owned() + &with_route(""),
            ":1: server: found 1; expected a table that begins with the line [server]",
        ),
        (
            "listen_addr = \"127.0.0.1:0\"\n[routes]\nprefix = \"/\"\n".to_owned(),
            ":2: routes: found [routes]; expected tables that each begin with the line [[routes]], \
             in double brackets",
        ),
        (
            "listen_addr = \"127.0.0.1:0\"\nroutes = [1]\n".to_owned(),
            ":2: routes: found [1]; expected tables that each begin with the line [[routes]], in double brackets",
        ),
        (
            "listen_addr = 3000\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"a:1\"]\n".to_owned(),
            ":1: listen_addr: found 3000; expected a string or a list of strings, for example \"127.0.0.1:3000\"",
        ),
        (with_key("prefix = 5"), ":3: routes[0].prefix: found 5; expected a string in quotes"),
        (
            with_key("backend_addrs = \"a:1\""),
            ":3: routes[0].backend_addrs: found \"a:1\"; \
             expected a list, for example [\"127.0.0.1:8001\", \"127.0.0.1:8002\"]",
        ),
        (
            with_key("backend_addrs = [\"a:1\",\n8001]"),
            ":4: routes[0].backend_addrs: found 8001; \
             expected \"host:port\", \"unix:/path\" or { addr = \"host:port\", weight = 1 }",
        ),
        (
            with_key("backend_addrs = [{ addr = 8001 }]"),
            ":3: routes[0].backend_addrs[0].addr: found 8001; expected a string in quotes",
        ),
        (
            with_route("health_check = \"/health\""),
            ":5: routes[0].health_check: found \"/health\"; \
             expected a table, for example { path = \"/health\", interval_secs = 10 }",
        ),
        (
            with_route("health_check = [\"/health\", 5]"),
            ":5: routes[0].health_check: found [\"/health\", 5]; \
             expected a table, for example { path = \"/health\", interval_secs = 10 }",
        ),
        (
            with_route("[routes.health_check]\npath = \"/\"\ninterval_secs = \"often\""),
            ":7: routes[0].health_check.interval_secs: found \"often\"; \
             expected a number of seconds, for example 5 or 0.5",
        ),
        (
            with_route("preserve_host = \"yes\""),
            ":5: routes[0].preserve_host: found \"yes\"; expected true or false",
        ),
        (
            with_route("connect_timeout_secs = 1e400"),
            ":5: routes[0].connect_timeout_secs: found 1e400; floating-point number overflowed",
        ),
        (
            with_route("balancing_algorithm = [\n]"),
            ":5: routes[0].balancing_algorithm: found […; expected a string in quotes",
        ),
    ] {
        assert_eq!(refused(&text), [message], "{text}");
    }
}

#[test]
fn one_slip_in_a_required_key_is_one_message() {
    let text = "listn_addr = \"127.0.0.1:0\"\n[[routes]]\npath = \"/\"\nbackends = [\"a:1\"]\n";
    let errors = Config::parse(text, FILE).unwrap_err();
    let keys: Vec<_> = errors.iter().map(ConfigError::key).collect();
    assert_eq!(keys, ["listn_addr", "routes[0].path", "routes[0].backends"], "{errors}");
}

#[test]
fn what_is_required() {
    for (text, messages) in [
        (
            "",
            &[
                ": listen_addr: missing; expected an address to listen on, for example \"127.0.0.1:3000\"",
                ": routes: missing; expected at least one [[routes]] table with prefix and backend_addrs",
            ][..],
        ),
        (
            "listen_addr = []\nroutes = []\n",
            &[
                ": routes: missing; expected at least one [[routes]] table with prefix and backend_addrs",
                ":1: listen_addr: the list is empty; expected at least one address to listen on",
            ],
        ),
        (
            "listen_addr = \"127.0.0.1:0\"\n\n[[routes]]\nhealth_check = {}\n",
            &[
                ":3: routes[0].prefix: missing; expected the path prefix this route serves, \
                 for example prefix = \"/\"",
                ":3: routes[0].backend_addrs: missing; expected at least one backend, \
                 for example [\"127.0.0.1:8001\"]",
                ":4: routes[0].health_check.path: missing; expected what to ask a backend for, \
                 for example path = \"/health\"",
                ":4: routes[0].health_check.interval_secs: missing; expected seconds from one probe to the next, \
                 for example interval_secs = 10",
            ],
        ),
    ] {
        assert_eq!(refused(text), messages, "{text}");
    }
    for (key, message) in [
        (
            "backend_addrs = []",
            ":3: routes[0].backend_addrs: the list is empty; expected at least one backend, \
             for example [\"127.0.0.1:8001\"]",
        ),
        (
            "backend_addrs = [{ weight = 2 }]",
            ":3: routes[0].backend_addrs[0].addr: missing; expected the backend's address, \
             for example addr = \"127.0.0.1:8001\"",
        ),
    ] {
        assert_eq!(refused(&with_key(key)), [message]);
    }
}

#[test]
fn duplicates() {
    for (text, message) in [
        (
            with_route("[[routes]]\nbackend_addrs = [\"127.0.0.1:8001\"]\nprefix = \"/\"\n"),
            ":7: routes[1].prefix: \"/\" is the prefix of routes[0] already, on line 3; \
             expected a different one for each route, or match_headers or methods that tell them apart",
        ),
        (
            with_key("backend_addrs = [\n\"LOCALHOST:1\",\n\"localhost:01\"]"),
            ":5: routes[0].backend_addrs: \"localhost:01\" is listed already, on line 4; \
             for a larger share write { addr = \"localhost:1\", weight = 2 }",
        ),
        (
            "listen_addr = [\"127.0.0.1:80\",\n\"localhost:80\"]\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"a:1\"]"
                .to_owned(),
            ":2: listen_addr: \"localhost:80\" is listed twice",
        ),
    ] {
        assert_eq!(refused(&text), [message], "{text}");
    }
    let with_slash = "[[routes]]\nprefix = \"/api\"\nbackend_addrs = [\"a:1\"]\n\
                      [[routes]]\nprefix = \"/api/\"\nbackend_addrs = [\"a:1\"]\n";
    assert_eq!(
        refused(&with_route(with_slash)),
        [":9: routes[2].prefix: \"/api\" is the prefix of routes[1] already, on line 6; \
          expected a different one for each route, or match_headers or methods that tell them apart"]
    );
}

#[test]
fn values_of_strings() {
    for (key, problem) in [
        (
            "prefix = \"api\"",
            "prefix: \"api\" does not begin with \"/\"; expected a path, for example \"/api\"",
        ),
        (
            "prefix = \"/a?b\"",
            "prefix: \"/a?b\" contains '?'; expected a path alone, without query or fragment",
        ),
        (
            "backend_addrs = [\"foo\"]",
            "backend_addrs: \"foo\" is not an address; expected host:port or unix:/path, \
             for example \"127.0.0.1:8001\"",
        ),
        (
            "backend_addrs = [\"127.0.0.1\"]",
            "backend_addrs: \"127.0.0.1\" has no port; expected host:port, for example \"127.0.0.1:8001\"",
        ),
        (
            "backend_addrs = [{ addr = \"127.0.0.1:0\" }]",
            "backend_addrs: \"127.0.0.1:0\" has a port out of range; \
             expected host:port with a port from 1 to 65535",
        ),
        (
            "backend_addrs = [\"http://127.0.0.1:80\"]",
            "backend_addrs: \"http://127.0.0.1:80\" is a URL; expected no scheme: write \"127.0.0.1:80\"",
        ),
        (
            "backend_addrs = [\"https://a:\"]",
            "backend_addrs: \"https://a:\" is not an https address; expected https://host or https://host:port, \
             for example \"https://backend.example\"",
        ),
        (
            "balancing_algorithm = \"fastest\"",
            "balancing_algorithm: \"fastest\" is not an algorithm; \
             expected \"round_robin\" or \"least_connections\" or \"random_two_choices\" or \
             \"weighted_round_robin\" or \"least_time\" or \"consistent_hash\"",
        ),
        (
            "balancing_algorithm = \"round-robin\"",
            "balancing_algorithm: \"round-robin\" is not an algorithm; \
             expected \"round_robin\" or \"least_connections\" or \"random_two_choices\" or \
             \"weighted_round_robin\" or \"least_time\" or \"consistent_hash\"; did you mean \"round_robin\"?",
        ),
        (
            "health_check = { path = \"health\", interval_secs = 5 }",
            "health_check.path: \"health\" does not begin with \"/\"; expected a path, for example \"/health\"",
        ),
        (
            "health_check = { path = \"/a b\", interval_secs = 5 }",
            "health_check.path: \"/a b\" has characters no request target can have; \
             expected them percent-encoded",
        ),
        (
            "health_check = { path = \"/a#b\", interval_secs = 5 }",
            "health_check.path: \"/a#b\" has characters no request target can have; \
             expected them percent-encoded",
        ),
    ] {
        assert_eq!(refused(&with_key(key)), [format!(":3: routes[0].{problem}")]);
    }
    for (key, problem) in [
        ("engine = \"async\"", "engine: \"async\" is not an engine; expected \"native\" or \"tiny_http\""),
        (
            "trusted_proxies = [\"all\"]",
            "trusted_proxies: \"all\" is not a network; expected an address, CIDR notation or \"unix:\", \
             for example \"10.0.0.0/8\"",
        ),
        (
            "trusted_proxies = [\"::1\", \"10.0.0.1/8\"]",
            "trusted_proxies: \"10.0.0.1/8\" has bits set behind the network part; expected \"10.0.0.0/8\"",
        ),
    ] {
        assert_eq!(refused(&with_route(&format!("[server]\n{key}"))), [format!(":6: server.{problem}")]);
    }
    // In full at `ListenAddr`.
    for (addr, message) in [
        (
            "foo",
            "listen_addr: \"foo\" is not an address to listen on; write ip:port, for example \"127.0.0.1:3000\"",
        ),
        (
            ":80",
            "listen_addr: \":80\" has no address before its port; write \"0.0.0.0:80\" for every IPv4 address of this \
             machine, \"[::]:80\" for every IPv6 address, \"127.0.0.1:80\" for this machine alone",
        ),
    ] {
        let text = format!("listen_addr = {addr:?}\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"a:1\"]\n");
        assert_eq!(refused(&text), [format!(":1: {message}")]);
    }
    for mode in ["", "66", "0680", "01777", "u=rw", "+660"] {
        let message = format!(
            ":1: listen_mode: {mode:?} is no set of permissions; expected three octal digits, with or without a 0 \
             before them, for example \"0660\""
        );
        assert_eq!(refused(&format!("listen_mode = {mode:?}\n{}", with_route(""))), [message]);
    }
}

#[test]
#[cfg(feature = "classic")]
fn what_the_classic_engine_can_not_do() {
    let text = "listen_addr = \"127.0.0.1:80\"\n[server]\nengine = \"tiny_http\"\n[[routes]]\nprefix = \"/\"\n\
                backend_addrs = [\"unix:/run/b.sock\"]\ndeadline_secs = 60\n";
    let errors = refused(text);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with(":6: ") && errors[0].contains("take engine = \"native\""), "{errors:?}");
    assert!(errors[1].starts_with(":7: ") && errors[1].contains("takes engine = \"native\""), "{errors:?}");
    let problem = "takes engine = \"native\"; leave it out, or change the engine";
    assert_eq!(
        refused(&with_route("[server]\nengine = \"tiny_http\"\nmax_connections_per_client = 5")),
        [format!(":7: server.max_connections_per_client: {problem}")]
    );
}

#[test]
#[cfg(feature = "classic")]
fn unix_sockets_take_the_native_engine() {
    let text = "listen_addr = \"unix:/run/a.sock\"\n[server]\nengine = \"tiny_http\"\n[[routes]]\nprefix = \"/\"\n\
                backend_addrs = [\"a:1\"]\n";
    let problem = "which takes engine = \"native\"; write ip:port, or change the engine";
    assert_eq!(refused(text), [format!(":1: listen_addr: \"unix:/run/a.sock\" is a Unix socket, {problem}")]);
}

#[test]
fn what_is_allowed_is_listed_once_for_each_kind_of_table() {
    let text = "listn_addr = \"127.0.0.1:0\"\nshutdwn_timeout = 1\n[[routes]]\nprefx = \"/\"\nbakends = [\"a:1\"]\n\
                [[routes]]\nprefix = \"/a\"\nbackend_adrs = [\"a:1\"]\nhealth_chek = { path = \"/\" }\n";
    let errors = Config::parse(text, FILE).unwrap_err();
    let about_keys: Vec<String> =
        errors.iter().map(ToString::to_string).filter(|line| line.contains("unknown key")).collect();
    assert_eq!(about_keys.len(), 6, "{errors}");
    assert!(about_keys.iter().all(|line| line.contains("did you mean")), "{errors}");
    let with_lists: Vec<&str> = about_keys
        .iter()
        .filter(|line| line.contains("allowed here"))
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(with_lists, ["listn_addr:", "routes[0].prefx:"], "{errors}");
    assert!(errors.to_string().len() < 2000, "{} bytes:\n{errors}", errors.to_string().len());
}

#[test]
fn every_slip_of_syntax_in_the_order_of_the_file() {
    let text = "listen_addr = \"127.0.0.1:0\"\nshutdown_timeout = = 1\n[[routes]]\nprefix = /\nbackend_addrs = [\"a:1\"]\n\
                retries = 1\nretries = 2\n[[routes]\n";
    assert_eq!(
        refused(text),
        [
            ":2: not valid TOML at column 20: extra `=`; the line is: shutdown_timeout = = 1",
            ":4: not valid TOML at column 10: string values must be quoted, expected literal string; \
             the line is: prefix = /",
            ":7: not valid TOML at column 1: duplicate key; the line is: retries = 2",
            ":8: not valid TOML at column 10: unclosed array table, expected `]`; the line is: [[routes]",
        ]
    );
}

#[test]
fn values_of_numbers() {
    for found in
        ["0", "-1", "0.0", "nan", "-nan", "inf", "-inf", "0.0009", "604801", "1e300", "99999999999999999999"]
    {
        for key in ["connect_timeout_secs", "response_timeout_secs", "idle_timeout_secs", "deadline_secs"] {
            assert_eq!(
                refused(&with_route(&format!("{key} = {found}"))),
                [format!(":5: routes[0].{key}: found {found}; expected seconds from 0.001 to 604800")]
            );
        }
        for key in
            ["header_timeout_secs", "keepalive_timeout_secs", "read_timeout_secs", "write_timeout_secs"]
        {
            assert_eq!(
                refused(&with_route(&format!("[server]\n{key} = {found}"))),
                [format!(":6: server.{key}: found {found}; expected seconds from 0.001 to 604800")]
            );
        }
        assert_eq!(
            refused(&with_route(&format!("health_check = {{ path = \"/\", interval_secs = {found} }}"))),
            [format!(
                ":5: routes[0].health_check.interval_secs: found {found}; expected seconds from 0.001 to 604800"
            )]
        );
        assert_eq!(
            refused(&with_route(&format!(
                "health_check = {{ path = \"/\", interval_secs = 1, timeout_secs = {found} }}"
            ))),
            [format!(
                ":5: routes[0].health_check.timeout_secs: found {found}; expected seconds from 0.001 to 604800"
            )]
        );
    }
    for found in ["-1", "nan", "604801"] {
        assert_eq!(
            refused(&with_route(&format!("hold_secs = {found}"))),
            [format!(":5: routes[0].hold_secs: found {found}; expected seconds from 0 to 604800")]
        );
        assert_eq!(
            refused(&format!("shutdown_timeout = {found}\n{}", with_route(""))),
            [format!(":1: shutdown_timeout: found {found}; expected seconds from 0 to 604800")]
        );
    }
    for (key, found, range) in [
        ("server.workers", "0", "1 to 65536"),
        ("server.workers", "-1", "1 to 65536"),
        ("server.workers", "65537", "1 to 65536"),
        ("server.workers", "99999999999999999999", "1 to 65536"),
        ("server.max_tunnels", "-1", "0 to 65536"),
        ("server.max_compressing", "-1", "0 to 1000000"),
        ("server.queue_size", "0", "1 to 1000000"),
        ("server.max_connections", "0", "1 to 1000000"),
        ("server.max_header_bytes", "255", "256 to 1048576"),
        ("server.max_headers", "0", "1 to 10000"),
        ("server.min_body_rate", "-1", "0 to 1000000000"),
        ("server.min_answer_rate", "-1", "0 to 1000000000"),
        ("server.max_exchanges", "0", "1 to 1000000"),
        ("routes[0].max_body_bytes", "-1", "0 to 9223372036854775807"),
        ("routes[0].retries", "-1", "0 to 100"),
        ("routes[0].retries", "101", "0 to 100"),
        ("routes[0].max_in_flight", "0", "1 to 1000000"),
        ("routes[0].health_check.healthy_threshold", "0", "1 to 1000"),
        ("routes[0].health_check.unhealthy_threshold", "0", "1 to 1000"),
        ("routes[0].backend_addrs[0].weight", "0", "1 to 1000"),
    ] {
        let name = key.rsplit('.').next().unwrap();
        let (text, line) = match key.split('.').nth(1).unwrap() {
            _ if key.starts_with("server.") => (with_route(&format!("[server]\n{name} = {found}")), 6),
            "health_check" => (
                with_key(&format!("health_check = {{ path = \"/\", interval_secs = 1, {name} = {found} }}")),
                3,
            ),
            "backend_addrs[0]" => {
                (with_key(&format!("backend_addrs = [{{ addr = \"a:1\", {name} = {found} }}]")), 3)
            }
            _ => (with_route(&format!("{name} = {found}")), 5),
        };
        let message = format!(":{line}: {key}: found {found}; expected a whole number from {range}");
        assert_eq!(refused(&text), [message]);
    }
}

#[test]
fn all_errors_at_once_in_the_order_of_the_file() {
    let text = r#"
listen_addr = "nowhere"
[server]
wrokers = 4
queue_size = "long"
[[routes]]
prefix = "api"
backend_addrs = ["foo", "bar"]
balancing_algorithm = 7
[[routes]]
prefix = 7
backend_addrs = ["a:1"]
"#;
    let errors = Config::parse(text, FILE).unwrap_err();
    let places: Vec<_> = errors.iter().map(|error| (error.line().unwrap(), error.key())).collect();
    assert_eq!(
        places,
        [
            (2, "listen_addr"),
            (4, "server.wrokers"),
            (5, "server.queue_size"),
            (7, "routes[0].prefix"),
            (8, "routes[0].backend_addrs"),
            (8, "routes[0].backend_addrs"),
            (9, "routes[0].balancing_algorithm"),
            (11, "routes[1].prefix"),
        ]
    );
    assert_eq!(errors.to_string().lines().count(), places.len());
}

#[test]
fn windows_line_ends_and_a_byte_order_mark() {
    let text = format!("\u{feff}{}", with_route("retries = -1").replace('\n', "\r\n"));
    assert_eq!(refused(&text), [":5: routes[0].retries: found -1; expected a whole number from 0 to 100"]);
}

#[test]
#[cfg(feature = "tls")]
fn values_of_tls() {
    let backends = "backend_addrs = [\"https://a:443\"]\nprefix = \"/\"";
    let path = |file: &str| format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
    let (no_pem, missing) = (path("Cargo.toml"), path("no/such.pem"));
    let broken = std::env::temp_dir().join(format!("reverse-proxy-broken-{}.pem", std::process::id()));
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (key, problem) in [
        (
            format!("ca = {no_pem:?}"),
            format!(
                "ca: {no_pem:?} has no certificates in it; expected a file in PEM format, with at least one \
                 \"BEGIN CERTIFICATE\""
            ),
        ),
        (
            format!("ca = {missing:?}"),
            format!("ca: {missing:?} cannot be read: No such file or directory (os error 2)"),
        ),
        (
            format!("ca = {broken:?}"),
            format!(
                "ca: {broken:?} has a certificate that cannot be used, number 1: \
                 invalid peer certificate: BadEncoding"
            ),
        ),
        (
            "server_name = \"a b\"".to_owned(),
            "server_name: \"a b\" is not a name that a certificate can be for; \
             expected a host name or an IP address, for example \"backend.example\""
                .to_owned(),
        ),
        (
            "insecure_skip_verify = 1".to_owned(),
            "insecure_skip_verify: found 1; expected true or false".to_owned(),
        ),
        (
            "verify = false".to_owned(),
            "verify: unknown key; did you mean insecure_skip_verify? allowed here: ca, server_name, insecure_skip_verify".to_owned(),
        ),
    ] {
        let text = format!("listen_addr = \"127.0.0.1:0\"\n[[routes]]\n{backends}\ntls = {{ {key} }}");
        assert_eq!(refused(&text), [format!(":5: routes[0].tls.{problem}")], "{text}");
    }
    fs::remove_file(&broken).unwrap();
    assert_eq!(
        refused(&with_route("tls = {}")),
        [
            ":5: routes[0].tls: is for https backends, and this route has none; expected one in backend_addrs, \
          for example \"https://backend.example:443\""
        ]
    );
    assert_eq!(
        refused(&with_route("tls = true")),
        [":5: routes[0].tls: found true; expected a table, for example { ca = \"/etc/ssl/backends.pem\" }"]
    );
}

#[test]
#[cfg(not(feature = "tls"))]
fn https_without_tls() {
    let text = with_key("backend_addrs = [\"https://a:443\"]\ntls = { insecure_skip_verify = true }");
    assert_eq!(
        refused(&text),
        [":3: routes[0].backend_addrs: \"https://a:443\" asks for https, which is not part of this build; \
          it takes the cargo feature tls"]
    );
}
