//! The access log: one line about each exchange, however it ended, and nobody who waits for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::engines::on_both_engines;
use crate::support::process::TempDir;
use crate::support::proxy::Builder;
use crate::support::{
    Client, DeadPort, Echo, Engine, Origin, ProxyProcess, ScriptedBackend, TestProxy, get, send_once,
    wait_for,
};

/// A log in a directory of its own.
struct Log {
    _directory: TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let directory = TempDir::new();
        let path = directory.path().join("access.log");
        Self { _directory: directory, path }
    }

    /// The table for the configuration.
    fn table(&self, format: &str) -> String {
        format!("\n[access_log]\npath = {:?}\nformat = {format:?}", self.path)
    }

    /// The lines, once there are so many.
    fn lines(&self, count: usize) -> Vec<String> {
        lines(&self.path, count)
    }

    /// In the order of their targets: who has answered first need not have logged first.
    fn objects(&self, count: usize) -> Vec<Value> {
        let parse =
            |line: &String| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let mut objects: Vec<Value> = self.lines(count).iter().map(parse).collect();
        objects.sort_by_key(|line| line["target"].as_str().map(str::to_owned));
        objects
    }
}

fn lines(path: &Path, count: usize) -> Vec<String> {
    wait_for("the lines of the log", || {
        let lines: Vec<String> =
            fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect();
        if lines.len() >= count { Ok(lines) } else { Err(lines) }
    })
}

fn logged(engine: Engine, log: &Log, format: &str, backends: &[String], keys: &str) -> Builder {
    TestProxy::builder(engine).server(&log.table(format)).route("/api", backends, keys)
}

/// The value of `key`, whatever it is.
fn text(line: &Value, key: &str) -> String {
    match &line[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn lines_are_as_others_write_them(engine: Engine) {
    let (log, origin) = (Log::new(), Origin::echo());
    let proxy = logged(engine, &log, "combined", &[origin.addr()], "").start();
    let request = "GET /api/a?b=c HTTP/1.1\r\nHost: proxy.test\r\nReferer: http://proxy.test/\r\nUser-Agent: curl/8 \
                   \"x\"\\\t\r\nConnection: close\r\n\r\n";
    let length = send_once(proxy.addr(), request).expect(200).body.len();
    let [line] = &log.lines(1)[..] else { panic!("one line") };
    let (before, rest) = line.split_once('[').unwrap();
    let (time, after) = rest.split_once(']').unwrap();
    assert_eq!(before, "127.0.0.1 - - ");
    let shape: String = time.chars().map(|char| if char.is_ascii_digit() { '9' } else { char }).collect();
    assert!(shape.starts_with("99/") && shape.ends_with("/9999:99:99:99 +9999"), "{time}");
    let quoted = "\"http://proxy.test/\" \"curl/8 \\x22x\\x22\\x5C\"";
    assert_eq!(after, format!(" \"GET /api/a?b=c HTTP/1.1\" 200 {length} {quoted}"));
}

fn objects_say_everything(engine: Engine) {
    let (log, origin) = (Log::new(), Origin::echo());
    let proxy = logged(engine, &log, "json", &[origin.addr()], "name = \"shop\"").start();
    let request = "POST /api/a?b=c HTTP/1.1\r\nHost: proxy.test\r\nUser-Agent: curl/8\r\nX-Request-Id: mine-1\r\n\
                   Content-Length: 5\r\nConnection: close\r\n\r\nhello";
    let response = send_once(proxy.addr(), request).expect(200);
    assert_eq!(response.fields().all("x-request-id"), ["mine-1"]);
    assert_eq!(Echo::parse(&response.body).fields.all("x-request-id"), ["mine-1"]);
    let line = &log.objects(1)[0];
    for (key, value) in [
        ("request_id", "mine-1"),
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("target", "/api/a?b=c"),
        ("version", "1.1"),
        ("host", "proxy.test"),
        ("route", "shop"),
        ("backend", &origin.addr()),
        ("status", "200"),
        ("bytes_received", "5"),
        ("bytes_sent", &response.body.len().to_string()),
        ("retries", "0"),
        ("user_agent", "curl/8"),
    ] {
        assert_eq!(text(line, key), value, "{key} of {line}");
    }
    for time in ["queued_ms", "connect_ms", "first_byte_ms", "duration_ms"] {
        assert!(line[time].is_number(), "{time} of {line}");
    }
    assert!(line["duration_ms"].as_f64() >= line["first_byte_ms"].as_f64(), "{line}");
    for absent in ["cause", "ended_by", "ended_in", "referer"] {
        assert!(line[absent].is_null(), "{absent} of {line}");
    }
}

fn ids_are_made_where_there_is_none(engine: Engine) {
    let (log, origin) = (Log::new(), Origin::echo());
    let proxy = logged(engine, &log, "json", &[origin.addr()], "").start();
    let mut ids = Vec::new();
    for given in ["", "X-Request-Id: two words\r\n", "X-Request-Id: a\r\nX-Request-Id: b\r\n"] {
        let request = format!("GET /api HTTP/1.1\r\nHost: proxy.test\r\n{given}Connection: close\r\n\r\n");
        let response = send_once(proxy.addr(), request).expect(200);
        let id = response.fields().all("x-request-id");
        assert_eq!(Echo::parse(&response.body).fields.all("x-request-id"), id);
        assert!(id.len() == 1 && id[0].len() == 32 && id[0].bytes().all(|b| b.is_ascii_hexdigit()), "{id:?}");
        ids.extend(id);
    }
    let refused = get(proxy.addr(), "/nowhere").expect(404);
    ids.extend(refused.fields().all("x-request-id"));
    let mut logged: Vec<_> = log.objects(4).iter().map(|line| text(line, "request_id")).collect();
    logged.sort();
    ids.sort();
    assert_eq!(logged, ids);
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

/// The answer of the backend names one too: the client gets ours, once.
fn the_answer_has_one_id(engine: Engine) {
    let (log, backend) = (
        Log::new(),
        ScriptedBackend::answering("HTTP/1.1 200 OK\r\nX-Request-Id: theirs\r\nContent-Length: 0\r\n\r\n"),
    );
    let proxy = logged(engine, &log, "json", &[backend.addr()], "").start();
    let response = get(proxy.addr(), "/api").expect(200);
    assert_eq!(response.fields().all("x-request-id"), [text(&log.objects(1)[0], "request_id")]);
}

fn what_went_wrong_is_said(engine: Engine) {
    let (log, dead) = (Log::new(), DeadPort::reserve());
    let torn = ScriptedBackend::per_connection(|mut conn| {
        conn.request()?;
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1234")
    });
    let proxy = logged(engine, &log, "json", &[dead.addr()], "retries = 0")
        .route("/torn", &[torn.addr()], "")
        .start();
    get(proxy.addr(), "/").expect(404);
    get(proxy.addr(), "/api").expect(502);
    let mut client = Client::connect(proxy.addr());
    client.send("GET /torn HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let head = client.head("GET");
    assert!(client.rest(&head).is_err(), "the answer is not whole");
    let lines = log.objects(3);
    let say = |line: &Value| {
        ["status", "cause", "ended_by", "ended_in", "bytes_sent", "route"]
            .map(|key| text(line, key))
            .join(" ")
    };
    assert!(say(&lines[0]).starts_with("404 no_route proxy receive "), "{}", lines[0]);
    let stage = if engine == Engine::Native { "connect" } else { "await_head" };
    assert!(say(&lines[1]).starts_with(&format!("502 connect_refused backend {stage} ")), "{}", lines[1]);
    assert!(say(&lines[1]).ends_with(" /api"), "{}", lines[1]);
    assert_eq!(text(&lines[1], "backend"), dead.addr());
    assert_eq!(say(&lines[2]), "200 backend_closed backend relay 4 /torn");
}

/// How long the service of `forward_auth` took is told from the time for backends.
fn who_was_asked_has_its_time(engine: Engine) {
    let (log, origin, dead) = (Log::new(), Origin::echo(), DeadPort::reserve());
    let auth = ScriptedBackend::per_request(|conn, request| {
        match request.fields.one("x-forwarded-uri").as_deref() {
            Some("/api/no") => conn.send(b"HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nwho?"),
            _ => conn.send(b"HTTP/1.1 204 No Content\r\n\r\n"),
        }
    });
    let asks = |addr: String| format!("forward_auth = {{ addr = {addr:?}, path = \"/v\" }}");
    let proxy = logged(engine, &log, "json", &[origin.addr()], &asks(auth.addr()))
        .route("/dead", &[origin.addr()], &asks(dead.addr()))
        .route("/open", &[origin.addr()], "")
        .start();
    for (target, status) in [("/api/no", 401), ("/api/yes", 200), ("/dead", 503), ("/open", 200)] {
        get(proxy.addr(), target).expect(status);
    }
    let lines = log.objects(4);
    let say = |line: &Value| {
        ["status", "cause", "ended_in", "backend", "bytes_sent"].map(|key| text(line, key)).join(" ")
    };
    assert_eq!(say(&lines[0]), format!("401 null null {} 4", auth.addr()));
    assert!(say(&lines[1]).starts_with(&format!("200 null null {} ", origin.addr())), "{}", lines[1]);
    assert!(
        say(&lines[2]).starts_with(&format!("503 auth_unavailable auth {} ", dead.addr())),
        "{}",
        lines[2]
    );
    assert!(
        lines[..3].iter().all(|line| line["auth_ms"].as_f64().is_some_and(|time| time > 0.0)),
        "{lines:?}"
    );
    assert!(lines[3]["auth_ms"].is_null());
    assert!(lines.iter().all(|line| line["retries"] == 0), "{lines:?}");
    for line in [&lines[0], &lines[2]] {
        assert_eq!((&line["queued_ms"], &line["connect_ms"]), (&0.0.into(), &0.0.into()));
    }
}

fn tries_are_counted(engine: Engine) {
    let (log, dead, origin) = (Log::new(), DeadPort::reserve(), Origin::echo());
    let proxy = logged(engine, &log, "json", &[dead.addr(), origin.addr()], "").start();
    get(proxy.addr(), "/api/1").expect(200);
    get(proxy.addr(), "/api/2").expect(200);
    let lines = log.objects(2);
    assert_eq!(lines[0]["retries"], 1);
    assert!(lines.iter().all(|line| text(line, "backend") == origin.addr()));
}

fn what_is_no_request_has_a_line(engine: Engine) {
    let (log, origin) = (Log::new(), Origin::echo());
    let proxy = logged(engine, &log, "json", &[origin.addr()], "").start();
    let response = send_once(proxy.addr(), "GET /api HTTP/1.1\r\n\r\n").expect(400);
    let line = &log.objects(1)[0];
    assert_eq!(text(line, "status"), "400");
    assert_eq!(text(line, "cause"), "bad_host");
    assert_eq!(text(line, "bytes_sent"), response.body.len().to_string());
    assert!(line["method"].is_null());
    assert_eq!(response.fields().all("x-request-id"), [text(line, "request_id")]);
}

fn the_client_is_the_one_behind_trusted_proxies(engine: Engine) {
    let (log, origin) = (Log::new(), Origin::echo());
    let trusted = "trusted_proxies = [\"127.0.0.0/8\"]";
    let proxy = TestProxy::builder(engine)
        .server(&format!("{trusted}\n{}", log.table("json")))
        .route("/", &[origin.addr()], "")
        .start();
    let request = "GET / HTTP/1.1\r\nHost: proxy.test\r\nX-Forwarded-For: 203.0.113.9, 198.51.100.1\r\nConnection: \
                   close\r\n\r\n";
    send_once(proxy.addr(), request).expect(200);
    assert_eq!(text(&log.objects(1)[0], "client"), "198.51.100.1");
}

/// As logrotate does it.
fn a_file_that_is_moved_away_is_followed_by_a_new_one(engine: Engine) {
    let (log, origin) = (Log::new(), Origin::echo());
    let config = logged(engine, &log, "combined", &[origin.addr()], "").toml();
    let (process, addr) = ProxyProcess::start(&config);
    for signal in [rustix::process::Signal::USR1, rustix::process::Signal::HUP] {
        get(addr, "/api/before").expect(200);
        log.lines(1);
        let moved = log.path.with_extension("log.1");
        fs::rename(&log.path, &moved).unwrap();
        get(addr, "/api/still").expect(200);
        assert_eq!(lines(&moved, 2).len(), 2, "what is open is written to");
        process.signal(signal);
        wait_for("the new file", || if log.path.exists() { Ok(()) } else { Err(()) });
        get(addr, "/api/after").expect(200);
        let after = log.lines(1);
        assert!(after.len() == 1 && after[0].contains("/api/after"), "{after:?}");
        fs::remove_file(&moved).unwrap();
        fs::rename(&log.path, &moved).unwrap();
        process.signal(signal);
        wait_for("the new file", || if log.path.exists() { Ok(()) } else { Err(()) });
    }
}

fn the_last_lines_are_written(engine: Engine) {
    let (log, origin) = (Log::new(), Origin::echo());
    let config = logged(engine, &log, "combined", &[origin.addr()], "").toml();
    let (process, addr) = ProxyProcess::start(&config);
    for _ in 0..200 {
        get(addr, "/api").expect(200);
    }
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().status.success());
    assert_eq!(fs::read_to_string(&log.path).unwrap().lines().count(), 200);
}

/// A pipe that nobody reads costs lines, which are counted and told of, and nobody's time.
fn nobody_waits_for_who_does_not_read(engine: Engine) {
    let (log, origin) = (Log::new(), Origin::echo());
    assert!(Command::new("mkfifo").arg(&log.path).status().unwrap().success());
    // Opened by somebody who does not read.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&log.path).unwrap();
    let config = logged(engine, &log, "combined", &[origin.addr()], "").toml();
    let (mut process, addr) = ProxyProcess::start(&config);
    let long = "x".repeat(7000);
    let mut client = Client::connect(addr);
    for _ in 0..800 {
        client.send(format!("GET /api?{long} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        client.response().expect(200);
    }
    let cat = Command::new("cat").arg(&log.path).stdout(std::process::Stdio::null()).spawn();
    let mut cat = cat.unwrap();
    let told = |line: &str| line.contains("lines of the access log were lost").then_some(());
    process.wait_for_output("that lines were lost", told);
    drop(reader);
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().status.success());
    cat.wait().unwrap();
}

fn it_can_go_to_stdout(engine: Engine) {
    let origin = Origin::echo();
    let config =
        TestProxy::builder(engine).server("\n[access_log]\npath = \"-\"").route("/", &[origin.addr()], "");
    let (mut process, addr) = ProxyProcess::start(&config.toml());
    get(addr, "/seen").expect(200);
    process.wait_for_output("the line", |line| line.contains("\"GET /seen HTTP/1.1\" 200").then_some(()));
}

/// A pipe that is full for a moment and not to be waited for: each line is written once, and whole.
fn stdout_may_be_a_pipe_that_does_not_wait(engine: Engine) {
    use std::io::Read;
    let origin = Origin::echo();
    let config =
        TestProxy::builder(engine).server("\n[access_log]\npath = \"-\"").route("/", &[origin.addr()], "");
    let directory = TempDir::new();
    let file = directory.file("reverse-proxy.toml", &config.toml());
    let (mut reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_reverse-proxy"))
        .arg("--config")
        .arg(file)
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (addr, rest) = {
        use std::io::BufRead;
        let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
        let addr = lines.by_ref().find_map(|line| {
            line.unwrap()
                .split_once("listening addr=")?
                .1
                .split(' ')
                .next()?
                .parse::<std::net::SocketAddr>()
                .ok()
        });
        (addr.expect("an address"), crate::support::spawn("stderr", move || lines.count()))
    };
    let mut client = Client::connect(addr);
    for number in 0..300 {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.response().expect(200);
    }
    let text = crate::support::spawn("reader", move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
    rest.join();
    let text = text.join();
    let targets: Vec<String> =
        text.lines().map(|line| line.split('"').nth(1).unwrap_or_default().to_owned()).collect();
    let expected: Vec<String> = (0..300).map(|number| format!("GET /{number} HTTP/1.1")).collect();
    assert_eq!(targets, expected);
}

fn a_reload_changes_the_format(engine: Engine) {
    let (log, origin) = (Log::new(), Origin::echo());
    let mut proxy = logged(engine, &log, "combined", &[origin.addr()], "").start();
    get(proxy.addr(), "/api").expect(200);
    log.lines(1);
    proxy.reload(&logged(engine, &log, "json", &[origin.addr()], "")).unwrap();
    get(proxy.addr(), "/api").expect(200);
    assert!(log.lines(2)[1].starts_with('{'));
    // One that cannot be opened changes nothing.
    let nowhere = Log { path: PathBuf::from("/nonexistent/access.log"), _directory: TempDir::new() };
    let refused = proxy.reload(&logged(engine, &nowhere, "json", &[origin.addr()], "")).unwrap_err();
    assert!(refused.to_string().contains("the directory is missing"), "{refused}");
    get(proxy.addr(), "/api").expect(200);
    log.lines(3);
}

on_both_engines!(
    who_was_asked_has_its_time,
    lines_are_as_others_write_them,
    objects_say_everything,
    ids_are_made_where_there_is_none,
    the_answer_has_one_id,
    what_went_wrong_is_said,
    tries_are_counted,
    what_is_no_request_has_a_line,
    the_client_is_the_one_behind_trusted_proxies,
    a_file_that_is_moved_away_is_followed_by_a_new_one,
    the_last_lines_are_written,
    nobody_waits_for_who_does_not_read,
    it_can_go_to_stdout,
    stdout_may_be_a_pipe_that_does_not_wait,
    a_reload_changes_the_format,
);

/// What only the native engine sees.
mod how_it_ended {
    use super::*;

    #[test]
    fn a_client_that_left_before_its_answer_is_a_499() {
        let (log, origin) = (Log::new(), Origin::echo());
        let proxy = logged(Engine::Native, &log, "json", &[origin.addr()], "").start();
        let mut client = Client::connect(proxy.addr());
        client.send("GET /api/hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        wait_for("the request to be held", || if origin.held() == 1 { Ok(()) } else { Err(()) });
        client.leave(false);
        let line = &log.objects(1)[0];
        assert_eq!(text(line, "status"), "499");
        assert_eq!(text(line, "cause"), "client_left");
        assert_eq!(text(line, "ended_in"), "await_head");
        origin.release();
    }

    #[test]
    fn what_a_drain_cuts_has_a_line() {
        let (log, origin) = (Log::new(), Origin::echo());
        let proxy =
            logged(Engine::Native, &log, "json", &[origin.addr()], "").shutdown_timeout("0.1").start();
        let mut client = Client::connect(proxy.addr());
        client.send("GET /api/hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        wait_for("the request to be held", || if origin.held() == 1 { Ok(()) } else { Err(()) });
        assert_eq!(proxy.drain().join(), 1);
        let line = &log.objects(1)[0];
        assert_eq!(text(line, "status"), "0");
        assert_eq!(text(line, "cause"), "shutdown");
        origin.release();
    }

    /// However many those are.
    #[test]
    fn what_a_drain_cuts_has_a_line_each_in_the_log_it_began_with() {
        const EXCHANGES: usize = 700;
        let (log, other, origin) = (Log::new(), Log::new(), Origin::echo());
        let mut proxy =
            logged(Engine::Native, &log, "json", &[origin.addr()], "").shutdown_timeout("0.1").start();
        let agent = "x".repeat(7000);
        let clients: Vec<_> = (0..EXCHANGES)
            .map(|_| {
                let mut client = Client::connect(proxy.addr());
                client.send(format!("GET /api/hold HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n"));
                client
            })
            .collect();
        wait_for("the requests to be held", || {
            if origin.held() == EXCHANGES { Ok(()) } else { Err(origin.held()) }
        });
        let after = logged(Engine::Native, &other, "json", &[origin.addr()], "").shutdown_timeout("0.1");
        proxy.reload(&after).unwrap();
        assert_eq!(proxy.drain().join(), EXCHANGES);
        assert_eq!(log.lines(EXCHANGES).len(), EXCHANGES);
        origin.release();
        drop(clients);
    }

    #[test]
    fn a_permission_to_go_on_is_no_part_of_the_answer() {
        let (log, origin) = (Log::new(), Origin::echo());
        let proxy = logged(Engine::Native, &log, "json", &[origin.addr()], "").start();
        let mut client = Client::connect(proxy.addr());
        client.send("POST /api HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(client.any_head("POST").unwrap().unwrap().status, 100);
        client.send("hello");
        let length = client.response_to("POST").expect(200).body.len();
        assert_eq!(text(&log.objects(1)[0], "bytes_sent"), length.to_string());
    }

    #[test]
    fn a_tunnel_counts_both_ways() {
        let log = Log::new();
        let backend = ScriptedBackend::per_connection(|mut conn| {
            conn.request()?;
            conn.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")?;
            let heard = conn.exactly(5)?;
            conn.send(&heard)?;
            conn.send(b"!")
        });
        let proxy = logged(Engine::Native, &log, "json", &[backend.addr()], "").start();
        let mut client = Client::connect(proxy.addr());
        client.send("GET /api HTTP/1.1\r\nHost: proxy.test\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n");
        assert_eq!(client.head("GET").status, 101);
        client.send("hello");
        client.finish();
        let line = &log.objects(1)[0];
        assert_eq!(text(line, "status"), "101");
        assert_eq!((text(line, "bytes_received"), text(line, "bytes_sent")), ("5".into(), "6".into()));
    }

    #[test]
    fn large_bodies_are_counted_too() {
        let (log, backend) = (
            Log::new(),
            ScriptedBackend::per_request(|conn, request| {
                conn.body_pieces(request, |_| ())?;
                conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n")?;
                conn.send(&vec![b'x'; 3_000_000])
            }),
        );
        let proxy = logged(Engine::Native, &log, "json", &[backend.addr()], "").start();
        let mut client = Client::connect(proxy.addr());
        client.send("POST /api HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 2000000\r\n\r\n");
        client.send(vec![b'y'; 2_000_000]);
        client.response().expect(200);
        let line = &log.objects(1)[0];
        assert_eq!(
            (text(line, "bytes_received"), text(line, "bytes_sent")),
            ("2000000".into(), "3000000".into())
        );
    }
}
