//! How the program starts, and what it says when it does not.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use crate::support::engines::on_both_engines;
use crate::support::process::{Exit, TempDir, program};
use crate::support::{Echo, Engine, Origin, ProxyProcess, TestProxy, get};

/// The file that existing users have.
const EXISTING: &str = r#"listen_addr = "127.0.0.1:3000"
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
"#;

/// Lines 1 to 6 of a file whose fault follows.
const TOP: &str = "listen_addr = \"127.0.0.1:0\"\nshutdown_timeout = 1\n\n[[routes]]\nprefix = \"/\"\n";

const BACKEND: &str = "backend_addrs = [\"127.0.0.1:9\"]\n";

fn run(command: &mut Command) -> Exit {
    ProxyProcess::spawn(command).wait()
}

#[track_caller]
fn expect_refused(exit: &Exit, words: &[&str]) {
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    assert!(exit.after < Duration::from_secs(5), "it took {:?} to refuse", exit.after);
    for word in words {
        assert!(exit.output.contains(word), "{word:?} is missing in:\n{}", exit.output);
    }
    assert!(!exit.output.contains("panicked"), "{}", exit.output);
}

/// Starts the program, and checks the same file, with what must be refused.
#[track_caller]
fn expect_config_refused(config: &str, words: &[&str]) {
    let directory = TempDir::new();
    let path = directory.file("broken.toml", config);
    expect_refused(&run(program().arg("--config").arg(&path)), words);
    expect_refused(&run(program().arg("--check").arg("--config").arg(&path)), words);
}

#[test]
fn a_missing_file_is_named() {
    let directory = TempDir::new();
    expect_refused(&run(program().current_dir(directory.path())), &["reverse-proxy.toml"]);
    let elsewhere = directory.path().join("elsewhere.toml");
    expect_refused(&run(program().arg("--config").arg(elsewhere)), &["elsewhere.toml"]);
}

#[test]
fn bad_toml() {
    expect_config_refused("listen_addr = \"127.0.0.1:0\"\nshutdown_timeout = = 1\n", &["broken.toml:2"]);
    expect_config_refused("listen_addr = \"127.0.0.1:0\n", &["broken.toml:1"]);
}

#[test]
fn an_unknown_key() {
    let config = format!("{TOP}{BACKEND}colour = \"red\"\n");
    expect_config_refused(&config, &["broken.toml:7", "colour", "backend_addrs"]);
    expect_config_refused(&format!("speed = 3\n{TOP}{BACKEND}"), &["broken.toml:1", "speed", "listen_addr"]);
    let config = format!("{TOP}{BACKEND}health_check = {{ path = \"/\", interval_secs = 5, every = 2 }}\n");
    expect_config_refused(&config, &["broken.toml:7", "every", "interval_secs"]);
    let config = format!("{TOP}{BACKEND}[server]\nengines = \"native\"\n");
    expect_config_refused(&config, &["broken.toml:8", "engines", "engine"]);
}

#[test]
fn a_wrong_type() {
    let config = format!("{TOP}{BACKEND}").replace("shutdown_timeout = 1", "shutdown_timeout = \"soon\"");
    expect_config_refused(&config, &["broken.toml:2", "shutdown_timeout", "soon"]);
    let config = format!("{TOP}backend_addrs = 9001\n");
    expect_config_refused(&config, &["broken.toml:6", "backend_addrs", "9001"]);
}

#[test]
fn a_negative_or_zero_number() {
    let config = format!("{TOP}{BACKEND}").replace("shutdown_timeout = 1", "shutdown_timeout = -1");
    expect_config_refused(&config, &["broken.toml:2", "shutdown_timeout", "-1"]);
    for interval in ["0", "0.0", "-5"] {
        let config = format!("{TOP}{BACKEND}health_check = {{ path = \"/\", interval_secs = {interval} }}\n");
        expect_config_refused(&config, &["broken.toml:7", "interval_secs"]);
    }
    let config = format!("{TOP}{BACKEND}[server]\nworkers = 0\n");
    expect_config_refused(&config, &["broken.toml:8", "workers", "0"]);
}

#[test]
fn no_listen_addr() {
    expect_config_refused(
        &format!("{TOP}{BACKEND}").replace("listen_addr", "#"),
        &["broken.toml", "listen_addr"],
    );
    let config = format!("{TOP}{BACKEND}").replace("127.0.0.1:0", "somewhere");
    expect_config_refused(&config, &["broken.toml:1", "listen_addr", "somewhere"]);
}

#[test]
fn no_route() {
    expect_config_refused(
        "listen_addr = \"127.0.0.1:0\"\nshutdown_timeout = 1\n",
        &["broken.toml", "routes"],
    );
    let config = "routes = []\nlisten_addr = \"127.0.0.1:0\"\nshutdown_timeout = 1\n";
    expect_config_refused(config, &["broken.toml", "routes"]);
}

#[test]
fn no_backends() {
    expect_config_refused(&format!("{TOP}backend_addrs = []\n"), &["broken.toml:6", "backend_addrs"]);
    expect_config_refused(TOP, &["broken.toml:4", "backend_addrs"]);
}

#[test]
fn a_bad_backend_address() {
    expect_config_refused(
        &format!("{TOP}backend_addrs = [\"http://h:9001/app\"]\n"),
        &["broken.toml:6", "no scheme and no path", "\"h:9001\""],
    );
    for addr in ["nonsense", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "http://127.0.0.1:80/path", ""] {
        let config = format!("{TOP}backend_addrs = [\"127.0.0.1:9\", {addr:?}]\n");
        expect_config_refused(&config, &["broken.toml:6", "backend_addrs", addr]);
    }
}

#[test]
fn a_bad_prefix() {
    let config = format!("{TOP}{BACKEND}").replace("\"/\"", "\"api\"");
    expect_config_refused(&config, &["broken.toml:5", "prefix", "api", "/"]);
    let config = format!("{TOP}{BACKEND}").replace("\"/\"", "\"\"");
    expect_config_refused(&config, &["broken.toml:5", "prefix"]);
}

#[test]
fn a_prefix_twice() {
    let config = format!("{TOP}{BACKEND}[[routes]]\nprefix = \"/\"\n{BACKEND}");
    expect_config_refused(&config, &["broken.toml:8", "prefix", "\"/\""]);
}

#[test]
fn an_unknown_algorithm() {
    let config = format!("{TOP}{BACKEND}balancing_algorithm = \"fastest\"\n");
    let words = ["broken.toml:7", "balancing_algorithm", "fastest", "round_robin", "least_connections"];
    expect_config_refused(&config, &words);
}

#[test]
fn an_unknown_engine() {
    let config = format!("{TOP}{BACKEND}[server]\nengine = \"warp\"\n");
    expect_config_refused(&config, &["broken.toml:8", "engine", "warp", "native", "tiny_http"]);
}

#[test]
fn several_faults_are_reported_together() {
    let config = format!(
        "{TOP}backend_addrs = []\n[[routes]]\nprefix = \"api\"\n{BACKEND}balancing_algorithm = \"fastest\"\n"
    );
    expect_config_refused(&config, &["broken.toml:6", "broken.toml:8", "broken.toml:10"]);
}

#[test]
fn check_accepts_what_existing_users_have() {
    let directory = TempDir::new();
    let path = directory.file("reverse-proxy.toml", EXISTING);
    let exit = run(program().arg("--check").arg("--config").arg(path));
    assert_eq!(exit.status.code(), Some(0), "{exit:?}");
}

/// What is accepted and will hardly do what was meant, with the line and a word of its warning.
const QUESTIONABLE: [(&str, &str); 4] = [
    ("prefix = \"/api/*\"\n", "4: routes[0].prefix"),
    ("prefix = \"/{id}\"\n", "4: routes[0].prefix"),
    ("prefix = \"/\"\nmax_in_flight = 20000\n", "5: routes[0].max_in_flight"),
    ("prefix = \"/\"\ndeadline_secs = 5\nresponse_timeout_secs = 30\n", "5: routes[0].deadline_secs"),
];

#[test]
fn check_counts_warnings_and_strict_refuses_them() {
    let directory = TempDir::new();
    for (route, place) in QUESTIONABLE {
        let config =
            format!("listen_addr = \"127.0.0.1:0\"\nshutdown_timeout = 1\n[[routes]]\n{route}{BACKEND}");
        let path = directory.file("questionable.toml", &config);
        let check = |more: &[&str]| run(program().arg("--check").args(more).arg("--config").arg(&path));
        let exit = check(&[]);
        assert_eq!(exit.status.code(), Some(0), "{exit:?}");
        let place = format!("questionable.toml:{place}");
        for word in ["warning: ", &place, "ok: 1 route, 1 backend, 1 warning"] {
            assert!(exit.output.contains(word), "{word:?} is missing in:\n{}", exit.output);
        }
        expect_refused(&check(&["--strict"]), &[&place, "--strict, 1 warning"]);
    }
    let path = directory.file("good.toml", &format!("{TOP}{BACKEND}"));
    let exit = run(program().args(["--check", "--strict", "--config"]).arg(path));
    assert_eq!(exit.status.code(), Some(0), "{exit:?}");
    assert!(!exit.output.contains("warning"), "{exit:?}");
}

#[test]
fn warnings_are_logged_at_the_start() {
    let config = format!("{TOP}{BACKEND}resolve_secs = 5\n");
    let (mut process, _) = ProxyProcess::start(&config);
    process.wait_for_output("the warning", |line| {
        (line.contains("WARN") && line.contains(":7: routes[0].resolve_secs")).then_some(())
    });
}

#[test]
fn every_slip_of_syntax_is_listed() {
    let config = "listen_addr = = 1\nshutdown_timeout = soon\n[[routes]]\nprefix = /\n";
    expect_config_refused(config, &["broken.toml:1", "broken.toml:2", "broken.toml:4", "column 10"]);
}

#[test]
fn what_other_programs_call_check() {
    for argument in ["-t", "check", "validate", "--validate", "configtest"] {
        let exit = run(program().arg(argument));
        assert_eq!(exit.status.code(), Some(2), "{exit:?}");
        assert!(exit.output.contains("--check"), "{exit:?}");
    }
}

#[test]
fn the_file_is_found_where_it_should_be() {
    let broken = |name: &str| format!("{name} = 1\n");
    let directory = TempDir::new();
    directory.file("reverse-proxy.toml", &broken("from_the_directory"));
    let variable = directory.file("variable.toml", &broken("from_the_variable"));
    let flag = directory.file("flag.toml", &broken("from_the_flag"));
    let start = || {
        let mut command = program();
        command.current_dir(directory.path());
        command
    };
    expect_refused(&run(&mut start()), &["reverse-proxy.toml:1", "from_the_directory"]);
    let with_variable = |command: &mut Command| {
        command.env("REVERSE_PROXY_CONFIG_PATH", &variable);
    };
    let mut command = start();
    with_variable(&mut command);
    expect_refused(&run(&mut command), &["variable.toml:1", "from_the_variable"]);
    with_variable(&mut command);
    expect_refused(&run(command.arg("--config").arg(flag)), &["flag.toml:1", "from_the_flag"]);
}

#[test]
fn help_and_version() {
    let exit = run(program().arg("--help"));
    assert_eq!(exit.status.code(), Some(0), "{exit:?}");
    for word in ["--config", "--check", "--demo", "--version", "REVERSE_PROXY_CONFIG_PATH"] {
        assert!(exit.output.contains(word), "{word} is missing in:\n{}", exit.output);
    }
    let exit = run(program().arg("--version"));
    assert_eq!(exit.status.code(), Some(0), "{exit:?}");
    assert!(exit.output.contains(env!("CARGO_PKG_VERSION")), "{exit:?}");
}

#[test]
fn an_unknown_flag() {
    let exit = run(program().arg("--confg"));
    assert!(matches!(exit.status.code(), Some(1 | 2)), "{exit:?}");
    assert!(exit.output.contains("--confg"), "{exit:?}");
}

fn it_says_what_it_does_and_does_it(engine: Engine) {
    let (first, second) = (Origin::named("first"), Origin::named("second"));
    let check = "health_check = { path = \"/health\", interval_secs = 60 }";
    let config = TestProxy::builder(engine)
        .route("/", &[first.addr()], check)
        .route("/api", &[second.addr()], "balancing_algorithm = \"least_connections\"")
        .toml();
    let (mut process, addr) = ProxyProcess::start(&config);
    assert_eq!(Echo::parse(&get(addr, "/x").expect(200).body).origin, "first");
    assert_eq!(Echo::parse(&get(addr, "/api/x").expect(200).body).origin, "second");
    for (prefix, words) in [
        ("/", [first.addr(), "round_robin".into(), "/health".into()]),
        ("/api", [second.addr(), "least_connections".into(), String::new()]),
    ] {
        process.wait_for_output(&format!("a start-up line for {prefix}"), |line| {
            let all = line.contains(prefix) && words.iter().all(|word| line.contains(word));
            all.then_some(())
        });
    }
}

fn a_port_in_use_is_named(engine: Engine) {
    let occupant = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = occupant.local_addr().unwrap().to_string();
    let config = TestProxy::builder(engine).route("/", &["127.0.0.1:9".into()], "").toml();
    let directory = TempDir::new();
    let path = directory.file("reverse-proxy.toml", &config.replace("127.0.0.1:0", &addr));
    expect_refused(&run(program().arg("--config").arg(path)), &[&addr, "in use"]);
}

on_both_engines!(it_says_what_it_does_and_does_it, a_port_in_use_is_named);

/// Needs no file and no other program; the printed line is what a newcomer types.
#[cfg(feature = "classic")]
#[test]
fn the_demo_answers_on_the_line_it_prints() {
    let directory = TempDir::new();
    let mut process = ProxyProcess::spawn(program().arg("--demo").current_dir(directory.path()));
    let addr = process.wait_for_output("a curl line", |line| {
        let (_, url) = line.split_once("curl ")?;
        let (_, rest) = url.split_once("127.0.0.1:").or_else(|| url.split_once("localhost:"))?;
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        port.parse().ok().map(|port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port)))
    });
    let answers: Vec<String> = (0..12).map(|_| get(addr, "/demo").expect(200).text()).collect();
    assert!(answers.iter().any(|answer| *answer != answers[0]), "always the same origin: {}", answers[0]);
}
