//! `basic_auth`: who is let in by name and password, and that nobody else waits for that.

use std::fs::{read_to_string, write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reverse_proxy::error::Cause;

use crate::forward_auth::{answering, asks, service};
use crate::support::engines::on_both_engines;
use crate::support::process::TempDir;
use crate::support::{Client, Echo, Engine, Origin, TestProxy, get, send_once, wait_for};

/// Files of users, for the time of a test.
pub(crate) struct Users(TempDir);

impl Users {
    /// Each with a password, as cheap as can be.
    pub(crate) fn new(users: &[(&str, &str)]) -> Self {
        let all = Self(TempDir::new());
        all.set(users, 4);
        all
    }

    pub(crate) fn set(&self, users: &[(&str, &str)], cost: u32) {
        let line = |(name, password): &(&str, &str)| {
            format!("{name}:{}\n", bcrypt::hash(password, cost).expect("a hash"))
        };
        self.0.file("users", &users.iter().map(line).collect::<String>());
    }

    /// `basic_auth` with it and these further keys.
    pub(crate) fn key(&self, more: &str) -> String {
        format!("basic_auth = {{ users_file = {:?}, realm = \"Staff\"{more} }}", self.0.path().join("users"))
    }
}

/// A request with an `Authorization`.
pub(crate) fn request(method: &str, target: &str, authorization: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: proxy.test\r\nAuthorization: {authorization}\r\n\r\n")
}

pub(crate) fn basic(user_and_password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(user_and_password))
}

fn who_is_let_in(engine: Engine) {
    let (origin, users) = (Origin::echo(), Users::new(&[("anna", "secret"), ("bj\u{f6}rn", "pass:word")]));
    let backend = [origin.addr()];
    let user = "request_headers = { set = { X-User = \"{user}\" } }";
    let own = "request_headers = { set = { Authorization = \"Bearer own\" } }";
    let proxy = TestProxy::builder(engine)
        .route("/", &backend, &format!("{}\n{user}", users.key("")))
        .route("/kept", &backend, &users.key(", forward_authorization = true"))
        .route("/own", &backend, &format!("{}\n{own}", users.key("")))
        .route("/open", &backend, "")
        .route("/closed", &backend, &format!("{}\nmethods = [\"PUT\"]", users.key("")))
        .answering_route("/page", &format!("respond = {{ body = \"for you\" }}\n{}", users.key("")))
        .start();
    let mut client = Client::connect(proxy.addr());
    // Twice: the second time it is known.
    for _ in 0..2 {
        for (user, name) in [("anna:secret", "anna"), ("bj\u{f6}rn:pass:word", "bj\u{f6}rn")] {
            client.send(request("GET", "/", &basic(user)).replace("\r\n\r\n", "\r\nX-User: root\r\n\r\n"));
            let echo = Echo::parse(&client.response().expect(200).body);
            // Bytes beyond ASCII are shown as what they are in Latin-1.
            let name: String = name.bytes().map(char::from).collect();
            assert_eq!(echo.fields.all("x-user"), [name]);
            assert!(!echo.fields.has("authorization"));
        }
        for authorization in [
            &basic("anna:Secret"),
            &basic("nobody:secret"),
            &basic("anna"),
            "Basic",
            "Basic ***",
            "Bearer secret",
        ] {
            client.send(request("GET", "/", authorization));
            let response = client.response().expect_failure(401, "unauthorized");
            let challenge = "Basic realm=\"Staff\", charset=\"UTF-8\"";
            assert_eq!(response.fields().all("www-authenticate"), [challenge], "{authorization}");
        }
        client.send("HEAD / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        assert!(client.response_to("HEAD").expect(401).fields().has("www-authenticate"));
    }
    proxy.expect_counted(Cause::Unauthorized, 14);
    let right = basic("anna:secret");
    for (target, sent) in [("/kept", &*right), ("/own", "Bearer own"), ("/open", "Bearer x")] {
        let brought = if target == "/open" { "Bearer x" } else { &right };
        client.send(request("GET", target, brought));
        assert_eq!(Echo::parse(&client.response().expect(200).body).fields.all("authorization"), [sent]);
    }
    client.send(request("GET", "/page", &right));
    assert_eq!(client.response().expect(200).text(), "for you");
    get(proxy.addr(), "/page").expect_failure(401, "unauthorized");
    get(proxy.addr(), "/closed").expect_failure(405, "method_not_allowed");
}

/// The password is for this proxy alone; what the service says under that name is for backends.
fn the_service_of_forward_auth_gets_no_password(engine: Engine) {
    let (origin, users) = (Origin::echo(), Users::new(&[("anna", "secret")]));
    let (auth, asked) =
        answering("HTTP/1.1 200 OK\r\nAuthorization: Bearer theirs\r\nContent-Length: 0\r\n\r\n");
    let asks = |copied: &str| {
        format!("forward_auth = {{ addr = {:?}, path = \"/\", copy_headers = [{copied}] }}", auth.addr())
    };
    let proxy = TestProxy::builder(engine)
        .route("/", &[origin.addr()], &format!("{}\n{}", users.key(""), asks("")))
        .route("/copied", &[origin.addr()], &format!("{}\n{}", users.key(""), asks("\"Authorization\"")))
        .route(
            "/kept",
            &[origin.addr()],
            &format!("{}\n{}", users.key(", forward_authorization = true"), asks("")),
        )
        .start();
    let right = basic("anna:secret");
    for (target, told, sent) in
        [("/", None, None), ("/copied", None, Some("Bearer theirs")), ("/kept", Some(&*right), Some(&*right))]
    {
        let echo = Echo::parse(&send_once(proxy.addr(), request("GET", target, &right)).expect(200).body);
        assert_eq!(echo.fields.one("authorization").as_deref(), sent, "{target}");
        let asked = asked.lock().unwrap().pop().expect("it is asked");
        assert_eq!(asked.fields.one("authorization").as_deref(), told, "{target}");
    }
}

/// A body does not wait for it, and one that nobody wants ends with the connection.
fn with_bodies(engine: Engine) {
    let (origin, users) = (Origin::echo(), Users::new(&[("anna", "secret")]));
    let proxy = TestProxy::builder(engine).route("/", &[origin.addr()], &users.key("")).start();
    for _ in 0..2 {
        let fields = format!("Authorization: {}\r\nContent-Length: 5", basic("anna:secret"));
        let post = format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{fields}\r\n\r\nhello");
        let echo = Echo::parse(&send_once(proxy.addr(), post).expect(200).body);
        assert_eq!((echo.method.as_str(), echo.framing.as_str()), ("POST", "length 5"));
    }
    let post = "POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 5\r\n\r\nhello";
    send_once(proxy.addr(), post).expect_failure(401, "unauthorized");
    assert_eq!(origin.requests(), 2);
}

/// The password is for the proxy. What the service says under the same name is something else.
fn beside_forward_auth(engine: Engine) {
    let (origin, users) = (Origin::echo(), Users::new(&[("anna", "secret")]));
    let (auth, asked) = service(|conn, _| {
        conn.send(b"HTTP/1.1 200 OK\r\nAuthorization: Bearer own\r\nContent-Length: 0\r\n\r\n")
    });
    let asks = asks(&auth.addr(), "");
    let copies = asks.replace("[\"Remote-User\"]", "[\"Authorization\"]");
    let proxy = TestProxy::builder(engine)
        .route("/", &[origin.addr()], &format!("{}\n{asks}", users.key("")))
        .route("/copied", &[origin.addr()], &format!("{}\n{copies}", users.key("")))
        .route("/kept", &[origin.addr()], &format!("{}\n{asks}", users.key(", forward_authorization = true")))
        .start();
    let right = basic("anna:secret");
    let mut client = Client::connect(proxy.addr());
    for (target, told, sent) in
        [("/", &[][..], &[][..]), ("/copied", &[], &["Bearer own"]), ("/kept", &[&*right], &[&*right])]
    {
        client.send(request("GET", target, &right));
        let echo = Echo::parse(&client.response().expect(200).body);
        assert_eq!(echo.fields.all("authorization"), sent, "{target}");
        let asked = asked.lock().unwrap().pop().expect("a question");
        assert_eq!(asked.fields.all("authorization"), told, "{target}");
    }
    client.send(request("GET", "/", &basic("anna:other")));
    client.response().expect_failure(401, "unauthorized");
    assert!(asked.lock().unwrap().is_empty(), "who is nobody is not asked about");
}

fn names_are_logged(engine: Engine) {
    let users = Users::new(&[("anna", "secret")]);
    for format in ["combined", "json"] {
        let path = users.0.path().join(format);
        let proxy = TestProxy::builder(engine)
            .server(&format!("\n[access_log]\npath = {path:?}\nformat = {format:?}"))
            .answering_route("/", &format!("respond = {{}}\n{}", users.key("")))
            .answering_route("/open", "respond = {}")
            .start();
        let mut client = Client::connect(proxy.addr());
        for (target, user, status) in [
            ("/", "anna:secret", 200),
            ("/", "an na:", 401),
            ("/", "anna", 401),
            ("/open", "anna:secret", 200),
        ] {
            client.send(request("GET", target, &basic(user)));
            client.response().expect(status);
        }
        let lines = wait_for("the lines of the log", || {
            let text = read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            if lines.len() == 4 { Ok(lines) } else { Err(text) }
        });
        let expected = match format {
            "combined" => {
                ["127.0.0.1 - anna [", "127.0.0.1 - an\\x20na [", "127.0.0.1 - - [", "127.0.0.1 - - ["]
            }
            _ => [
                r#","user":"anna","#,
                r#","user":"an na","#,
                r#""cause":"unauthorized""#,
                r#""client":"127.0.0.1","method""#,
            ],
        };
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.contains(expected), "{expected} is not in {line}");
        }
    }
}

fn a_reload_reads_the_file(engine: Engine) {
    let users = Users::new(&[("anna", "old"), ("bert", "b")]);
    let rule = format!("respond = {{}}\n{}", users.key(""));
    let mut builder = TestProxy::builder(engine).answering_route("/open", "respond = {}");
    let mut proxy = builder.clone().start();
    let addr = proxy.addr();
    let status = |user: &str| send_once(addr, request("GET", "/", &basic(user))).status();
    assert_eq!(status("anna:old"), 404);
    // Nobody was there to compare passwords before.
    builder = builder.answering_route("/", &rule);
    proxy.reload(&builder).expect("a reload");
    for _ in 0..2 {
        assert_eq!([status("anna:old"), status("anna:new"), status("bert:b")], [200, 401, 200]);
    }
    users.set(&[("anna", "new")], 4);
    assert_eq!(status("anna:old"), 200, "it is not read before");
    proxy.reload(&builder).expect("a reload");
    for _ in 0..2 {
        assert_eq!([status("anna:old"), status("anna:new"), status("bert:b")], [401, 200, 401]);
    }
    // What cannot be used changes nothing.
    write(users.0.path().join("users"), "anna:new\n").expect("write");
    let refused = reverse_proxy::config::Config::parse(&builder.toml(), "f.toml").expect_err("a bad file");
    assert!(refused.to_string().contains("line 1 has a hash of another kind"), "{refused}");
}

/// More guesses than can be compared: the others do not notice.
fn a_flood_of_guesses(engine: Engine) {
    const GUESSES: usize = 400;
    let users = Users::new(&[]);
    users.set(&[("anna", "secret")], 10);
    let origin = Origin::echo();
    let proxy = TestProxy::builder(engine)
        .server(&engine.carries(2 * GUESSES))
        .shutdown_timeout("0")
        .answering_route("/", &format!("respond = {{}}\n{}", users.key("")))
        .route("/open", &[origin.addr()], "")
        .start();
    let right = request("GET", "/", &basic("anna:secret"));
    send_once(proxy.addr(), &right).expect(200);
    // One after the other: of a burst, tiny_http lets some wait until others close.
    let mut guessers = Vec::new();
    wait_for("too many guesses", || match proxy.counters().of(Cause::AuthBusy) {
        0 if guessers.len() < GUESSES => {
            let mut client = Client::connect(proxy.addr());
            client.send(request("GET", "/", &basic(&format!("anna:{}", guessers.len()))));
            guessers.push(client);
            Err(guessers.len())
        }
        0 => Err(GUESSES),
        _ => Ok(()),
    });
    // They wait for nobody, and who is known waits for nobody either.
    send_once(proxy.addr(), &right).expect(200);
    get(proxy.addr(), "/open").expect(200);
    let busy = wait_for("one that was told to come again", || {
        guessers.iter_mut().rposition(Client::has_input).ok_or("nobody has an answer")
    });
    let response = guessers[busy].response().expect_failure(503, "auth_busy");
    assert!(response.fields().has("retry-after") && !response.fields().has("www-authenticate"));
}

/// Who leaves is not waited for, and his guess is not made.
fn who_leaves_frees_everything(engine: Engine) {
    let users = Users::new(&[]);
    users.set(&[("anna", "secret")], 10);
    let rule = format!("respond = {{}}\n{}", users.key(""));
    let proxy = TestProxy::builder(engine).answering_route("/", &rule).start();
    let in_flight = || proxy.counters().in_flight.load(Ordering::Relaxed);
    for reset in [false, true] {
        let guessers: Vec<_> = (0..50)
            .map(|n| {
                let mut client = Client::connect(proxy.addr());
                client.send(request("GET", "/", &basic(&format!("anna:{reset}{n}"))));
                client
            })
            .collect();
        wait_for("guesses under way", || match in_flight() {
            count if count > 1 => Ok(()),
            count => Err(count),
        });
        guessers.into_iter().for_each(|guesser| guesser.leave(reset));
        wait_for("nobody to wait any more", || match in_flight() {
            0 => Ok(()),
            count => Err(count),
        });
    }
    assert!(proxy.counters().of(Cause::ClientLeft) > 0);
    // Those were some hundred guesses, which take longer than this if they are made.
    let mut client = Client::connect(proxy.addr());
    client.set_patience(Duration::from_secs(10));
    client.send(request("GET", "/", &basic("anna:secret")));
    client.response().expect(200);
}

on_both_engines!(
    who_is_let_in,
    the_service_of_forward_auth_gets_no_password,
    with_bodies,
    beside_forward_auth,
    names_are_logged,
    a_reload_reads_the_file,
    a_flood_of_guesses,
    who_leaves_frees_everything,
);
