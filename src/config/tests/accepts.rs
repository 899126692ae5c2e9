//! What is accepted, and what it means.

use super::super::*;
use super::{accepted, with_key, with_route};
use crate::routing::{HeaderCondition, HostPattern, Methods, Wanted};
use crate::rules::{
    Access, Compress, FieldRules, ForwardAuth, Intercept, PathRewrite, Per, Placeholder, RateLimit, Rules,
    Statuses, Template,
};

fn listen(addr: &str) -> ListenConfig {
    addr.parse::<ListenAddr>().unwrap().into()
}

#[test]
fn the_contract_file() {
    let config = accepted(
        r#"
listen_addr = "127.0.0.1:3000"
shutdown_timeout = 10
[[routes]]
prefix = "/"
backend_addrs = ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"]
health_check = { path = "/health", interval_secs = 10 }
balancing_algorithm = "round_robin"
[[routes]]
prefix = "/api"
backend_addrs = ["127.0.0.1:9001"]
health_check = { path = "/ping", interval_secs = 5 }
balancing_algorithm = "least_connections"
"#,
    );
    let backends = |ports: &[u16]| -> Vec<BackendConfig> {
        let addr = |&port: &u16| BackendAddr::Tcp { host: "127.0.0.1".into(), port };
        ports.iter().map(|port| BackendConfig::new(addr(port))).collect()
    };
    let server = ServerConfig::default();
    let route = |prefix, ports: &[u16], path: &str, interval, algorithm| RouteConfig {
        health_check: Some(HealthCheckConfig::new(path.to_owned(), Duration::from_secs(interval))),
        algorithm,
        ..RouteConfig::new(Prefix::parse(prefix).unwrap(), backends(ports), &server)
    };
    assert_eq!(
        config,
        Config {
            pools: Vec::new(),
            listen_addrs: vec![listen("127.0.0.1:3000")],
            listen_mode: None,
            access_log: None,
            admin: None,
            drain_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(10),
            error_pages: None,
            front: FrontConfig::default(),
            routes: vec![
                route("/", &[8001, 8002, 8003], "/health", 10, Algorithm::RoundRobin),
                route("/api", &[9001], "/ping", 5, Algorithm::LeastConnections),
            ],
            server,
            warnings: Vec::new(),
            expectations: Vec::new(),
            written: config.written.clone(),
        }
    );
}

#[test]
fn every_key_arrives_where_it_belongs() {
    let config = accepted(
        r#"
listen_addr = ["localhost:3000", "[::1]:0", "[::1]:0"]
shutdown_timeout = 0
drain_delay_secs = 2.5
[server]
engine = "native"
workers = 1
max_exchanges = 12
max_tunnels = 2
max_compressing = 3
queue_size = 3
max_connections = 4
max_connections_per_client = 3
max_header_bytes = 500
max_headers = 6
header_timeout_secs = 7
keepalive_timeout_secs = 8.5
read_timeout_secs = 9
min_body_rate = 0
min_answer_rate = 100
write_timeout_secs = 0.001
trusted_proxies = ["10.0.0.0/8", "::1"]
[[routes]]
prefix = "/a/"
hosts = ["Shop.example", "*.shop.example"]
name = "shop"
backend_addrs = ["A.example:1", { addr = "[::1]:2", weight = 3 }, { addr = "b:4", backup = true }]
slow_start_secs = 27
min_healthy = 2
connect_timeout_secs = 1
response_timeout_secs = 2
idle_timeout_secs = 3
deadline_secs = 4
max_body_bytes = 0
retries = 0
max_in_flight = 7
max_in_flight_per_backend = 8
queue_timeout_secs = 9
hold_secs = 10
max_fails = 0
fail_timeout_secs = 11
keepalive_connections = 0
keepalive_idle_secs = 12
resolve_secs = 13
preserve_host = true
allow = ["10.0.0.0/8", "unix:"]
deny = ["10.0.0.1"]
methods = ["GET", "PURGE"]
match_headers = { X-Beta = "1", a = true, b = false }
forward_auth = { addr = "unix:/auth", path = "/verify?a", copy_headers = ["Remote-User"], timeout_secs = 16 }
rate_limit = { requests_per_sec = 14, burst = 15, per = "header:X-Key", dry_run = true }
strip_prefix = false
replace_prefix = "/v2/"
request_headers = { set = { X-A = "{client_ip}" }, add = { X-B = "b" }, remove = ["X-C"] }
response_headers = { remove = ["Server"] }
intercept_errors = [500, "4xx"]
compress = { min_bytes = 16, types = ["text/CSS", "+json"], level = 9 }
hsts_secs = 300
send_proxy = true
[routes.health_check]
path = "/p?q=1"
interval_secs = 0.5
timeout_secs = 10
healthy_threshold = 2
unhealthy_threshold = 3
[[routes]]
prefix = "/"
backend_addrs = ["c:1"]
health_check = { path = "/", interval_secs = 0.5 }
"#,
    );
    let n = |n| NonZeroUsize::new(n).unwrap();
    let secs = Duration::from_secs;
    assert_eq!(config.listen_addrs, ["127.0.0.1:3000", "[::1]:0", "[::1]:0"].map(listen));
    assert_eq!(config.shutdown_timeout, Duration::ZERO);
    assert_eq!(config.drain_delay, Duration::from_millis(2_500));
    let server = ServerConfig {
        engine: Engine::Native,
        workers: n(1),
        max_exchanges: n(12),
        max_tunnels: 2,
        max_compressing: 3,
        queue_size: n(3),
        max_connections: n(4),
        max_connections_per_client: Some(n(3)),
        max_header_bytes: n(500),
        max_headers: n(6),
        header_timeout: secs(7),
        keepalive_timeout: Duration::from_millis(8_500),
        read_timeout: secs(9),
        min_body_rate: 0,
        min_answer_rate: 100,
        write_timeout: Duration::from_millis(1),
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
    };
    assert_eq!(config.server, server);
    let weights = [("a.example:1", 1), ("[::1]:2", 3), ("b:4", 1)];
    let mut methods = Methods::default();
    assert!(methods.add("GET") && methods.add("PURGE"));
    let forward_auth =
        ForwardAuth { path: "/verify?a".to_owned(), copy_headers: vec!["remote-user".parse().unwrap()] };
    let service = RouteConfig::of_auth_service("unix:/auth".parse().unwrap(), secs(16), &server);
    let route = RouteConfig {
        key: RouteKey {
            hosts: vec![
                HostPattern::Exact("shop.example".to_owned()),
                HostPattern::Below("shop.example".to_owned()),
            ],
            prefix: Prefix::parse("/a").unwrap(),
            conditions: Conditions {
                headers: [
                    ("a", Wanted::Present),
                    ("b", Wanted::Absent),
                    ("x-beta", Wanted::Value(http::HeaderValue::from_static("1"))),
                ]
                .map(|(name, wanted)| HeaderCondition { name: name.parse().unwrap(), wanted })
                .to_vec(),
                methods: Some(methods),
            },
        },
        name: Some("shop".to_owned()),
        pool: None,
        shares: Vec::new(),
        backends: weights
            .map(|(addr, weight)| BackendConfig {
                addr: addr.parse().unwrap(),
                weight: NonZeroU32::new(weight).unwrap(),
                backup: addr == "b:4",
            })
            .to_vec(),
        algorithm: Algorithm::RoundRobin,
        slow_start: Some(secs(27)),
        min_healthy: NonZeroUsize::new(2),
        sticky_cookie: None,
        health_check: Some(HealthCheckConfig {
            path: "/p?q=1".to_owned(),
            interval: Duration::from_millis(500),
            timeout: secs(10),
            healthy_threshold: NonZeroU32::new(2).unwrap(),
            unhealthy_threshold: NonZeroU32::new(3).unwrap(),
        }),
        connect_timeout: secs(1),
        response_timeout: secs(2),
        idle_timeout: secs(3),
        deadline: Some(secs(4)),
        max_body_bytes: Some(0),
        retries: 0,
        max_in_flight: n(7),
        max_in_flight_per_backend: Some(n(8)),
        queue_timeout: secs(9),
        hold: secs(10),
        max_fails: 0,
        fail_timeout: secs(11),
        keepalive_connections: 0,
        keepalive_idle: secs(12),
        resolve_interval: secs(13),
        preserve_host: true,
        rules: Rules {
            access: Some(Access {
                allow: Some(vec!["10.0.0.0/8".parse().unwrap(), IpNetwork::UNIX_CLIENTS]),
                deny: vec!["10.0.0.1/32".parse().unwrap()],
            }),
            answer: None,
            forward_auth: Some(forward_auth),
            basic_auth: None,
            rate_limit: Some(RateLimit {
                requests_per_sec: NonZeroU32::new(14).unwrap(),
                burst: NonZeroU32::new(15).unwrap(),
                per: Per::Header("x-key".parse().unwrap()),
                dry_run: true,
            }),
            request_headers: Some(FieldRules {
                set: vec![(
                    "x-a".parse().unwrap(),
                    Template::parse("{client_ip}", &[Placeholder::ClientIp]).unwrap(),
                )],
                add: vec![("x-b".parse().unwrap(), Template::parse("b", &[]).unwrap())],
                remove: vec!["x-c".parse().unwrap()],
            }),
            response_headers: Some(FieldRules {
                remove: vec!["server".parse().unwrap()],
                ..FieldRules::default()
            }),
            compress: Some(Compress {
                level: 9,
                min_bytes: 16,
                types: vec!["text/css".parse().unwrap(), "+json".parse().unwrap()],
            }),
            rewrite: Some(PathRewrite::new(&Prefix::parse("/a").unwrap(), &Prefix::parse("/v2").unwrap())),
            intercept: Some(Intercept::new(vec![Statuses::One(500), Statuses::Class(4)])),
            error_pages: None,
        },
        hsts: Some(300),
        send_proxy: true,
        auth_service: Some(Box::new(service)),
        tls: TlsConfig::default(),
    };
    assert_eq!(config.routes[0], route);
    let second = &config.routes[1];
    assert_eq!((config.routes[0].label(), second.label()), ("shop".to_owned(), "/".to_owned()));
    assert_eq!(second.max_in_flight, n(9), "three quarters of max_exchanges");
    assert_eq!(second.health_check.as_ref().unwrap().timeout, Duration::from_millis(500));
}

#[test]
#[cfg(feature = "classic")]
fn the_other_engine() {
    assert_eq!(accepted(&with_route("[server]\nengine = \"tiny_http\"")).server.engine, Engine::TinyHttp);
}

#[test]
#[cfg(not(feature = "classic"))]
fn the_other_engine() {
    let message =
        ":6: server.engine: \"tiny_http\" is not part of this build; it takes the cargo feature classic";
    assert_eq!(super::refused(&with_route("[server]\nengine = \"tiny_http\"")), [message]);
}

#[test]
fn unix_sockets_to_listen_on() {
    let text = "listen_addr = [\"unix:/run/a.sock\", \"127.0.0.1:80\"]\nlisten_mode = \"0660\"\n[[routes]]\nprefix = \"/\"\n\
                backend_addrs = [\"a:1\"]\n";
    let config = accepted(text);
    let expected = [ListenAddr::Unix("/run/a.sock".into()), ListenAddr::Tcp("127.0.0.1:80".parse().unwrap())];
    assert_eq!(config.listen_addrs, expected.map(ListenConfig::from));
    assert_eq!(config.listen_mode, Some(0o660));
    let trusting = accepted(&with_route("[server]\ntrusted_proxies = [\"unix:\"]"));
    assert_eq!(trusting.server.trusted_proxies, [IpNetwork::UNIX_CLIENTS]);
    assert_eq!(accepted(&text.replace("\"0660\"", "\"600\"")).listen_mode, Some(0o600));
}

#[test]
fn unix_sockets() {
    let text = with_key("backend_addrs = [\"unix:/run/app.sock\"]");
    assert_eq!(accepted(&text).routes[0].backends[0].addr, BackendAddr::Unix("/run/app.sock".into()));
}

#[test]
fn three_quarters_of_the_exchanges() {
    for (all, expected) in [(1, 1), (2, 2), (3, 3), (4, 3), (100, 75), (1024, 768)] {
        let config = accepted(&with_route(&format!("[server]\nengine = \"native\"\nmax_exchanges = {all}")));
        assert_eq!(config.routes[0].max_in_flight.get(), expected, "{all}");
    }
    let config = accepted(&with_route("[server]\nengine = \"native\""));
    assert_eq!(config.routes[0].max_in_flight.get(), 7500);
}

#[test]
fn a_worker_per_core_or_as_many_as_tiny_http_needs() {
    let cores = std::thread::available_parallelism().unwrap();
    assert_eq!(Engine::Native.default_workers(), cores);
    assert_eq!(accepted(&with_route("[server]\nengine = \"native\"")).server.workers, cores);
    assert_eq!(Engine::TinyHttp.default_workers().get(), 256);
}

#[test]
#[cfg(feature = "classic")]
fn with_tiny_http_the_share_is_that_of_the_workers() {
    let config = accepted(&with_route("[server]\nengine = \"tiny_http\"\nworkers = 100"));
    assert_eq!(config.routes[0].max_in_flight.get(), 75);
}

#[test]
#[cfg(feature = "tls")]
fn https_backends() {
    let backends = "backend_addrs = [\"https://A.example:443\", \"a.example:443\"]";
    let route = accepted(&with_key(backends)).routes.remove(0);
    let https = BackendAddr::Https { host: "a.example".into(), port: 443 };
    assert_eq!(route.backends[0].addr, https);
    assert_eq!(route.backends[1].addr, BackendAddr::Tcp { host: "a.example".into(), port: 443 });
    assert_eq!(route.tls, TlsConfig::default());

    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certs/ca.pem");
    for name in ["b.example", "10.0.0.1", "::1"] {
        let text = format!(
            "{backends}\ntls = {{ ca = {ca:?}, server_name = {name:?}, insecure_skip_verify = true }}"
        );
        let tls = accepted(&with_key(&text)).routes.remove(0).tls;
        assert_eq!(tls.server_name.as_deref(), Some(name));
        assert!(tls.insecure_skip_verify);
        let read = tls.ca.unwrap();
        assert_eq!(read.path, Path::new(ca));
        assert_eq!(read.certificates.len(), 1);
    }
}
