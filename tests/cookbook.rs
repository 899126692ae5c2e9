//! examples/cookbook/: each file is valid without a warning, is refused when what it expects is not so any more, and does for real
//! what it says. Paths and addresses that are on somebody's server are replaced by those of the test.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::support::backend::Conn;
use crate::support::process::{TempDir, program};
use crate::support::wire::Fields;
use crate::support::{
    Client, DeadPort, Echo, Origin, PATIENCE, ProxyProcess, Response, ScriptedBackend, pattern, wait_for,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// One list: the files, and what tests each.
macro_rules! recipes {
    ($($file:literal => $test:ident,)+) => {
        const TESTED: &[&str] = &[$($file),+];

        mod recipe {
            $(
                #[test]
                fn $test() {
                    super::$test(super::Recipe::read($file));
                }
            )+
        }
    };
}

recipes! {
    "01-one-site.toml" => one_site,
    "02-several-applications.toml" => several_applications,
    "03-answers-without-a-backend.toml" => answers_without_a_backend,
    "04-maintenance.toml" => maintenance,
    "05-passwords.toml" => passwords,
    "06-login-service.toml" => login_service,
    "07-brakes.toml" => brakes,
    "08-canary.toml" => canary,
    "09-stays-up.toml" => stays_up,
    "10-friendly-face.toml" => friendly_face,
}

#[test]
fn every_file_is_tested() {
    let entries = fs::read_dir(format!("{ROOT}/examples/cookbook")).unwrap();
    let files: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let tested: BTreeSet<_> = TESTED.iter().map(|&file| file.to_owned()).collect();
    assert_eq!(files, tested, "files in examples/cookbook, and those in the list of this test");
}

/// Each has a section in docs/cookbook.md, in order, and what is quoted there is in the file.
#[test]
fn the_book_quotes_the_files() {
    let book = fs::read_to_string(format!("{ROOT}/docs/cookbook.md")).unwrap();
    let sections: Vec<_> = book.split("\n## ").skip(1).collect();
    assert_eq!(sections.len(), TESTED.len(), "sections and files");
    for (section, file) in sections.iter().zip(TESTED) {
        assert!(section.contains(&format!("](../examples/cookbook/{file})")), "{file} is not in\n{section}");
        let text = fs::read_to_string(format!("{ROOT}/examples/cookbook/{file}")).unwrap();
        let quotes: Vec<_> = section.split("```toml\n").skip(1).collect();
        assert!(!quotes.is_empty(), "nothing is quoted of {file}");
        for quote in quotes {
            let (quote, _) = quote.split_once("```").unwrap();
            assert!(text.contains(quote), "{file} has no such lines:\n{quote}");
        }
        assert!(section.contains("```console\n$ curl "), "nothing to try in the section of {file}");
    }
}

/// A file, with files and backends of the test in place of others.
struct Recipe {
    text: String,
    directory: TempDir,
}

impl Recipe {
    fn read(file: &str) -> Self {
        let text = fs::read_to_string(format!("{ROOT}/examples/cookbook/{file}")).unwrap();
        Self { text, directory: TempDir::new() }
    }

    /// Has `new` wherever it says `old`.
    #[track_caller]
    fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "{old:?} is not in\n{}", self.text);
        self.text = self.text.replace(old, new);
        self
    }

    /// Has a file with this content in place of the one at `path`.
    #[track_caller]
    fn with_file(self, path: &str, content: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        let file = self.directory.file(name, content);
        // Else there is a warning: keys and passwords are nobody else's.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        self.with(path, file.to_str().unwrap())
    }

    #[track_caller]
    fn with_certificate(self) -> Self {
        let content = |name: &str| fs::read_to_string(format!("{ROOT}/tests/certs/{name}")).unwrap();
        let live = "/etc/letsencrypt/live/shop.example";
        self.with_file(&format!("{live}/fullchain.pem"), &content("shop.pem"))
            .with_file(&format!("{live}/privkey.pem"), &content("shop.key"))
    }

    /// Another one with the same text; the files are those of this one.
    fn again(&self) -> Self {
        Self { text: self.text.clone(), directory: TempDir::new() }
    }

    fn check(&self, text: &str) -> (Option<i32>, String) {
        let file = self.directory.file("reverse-proxy.toml", text);
        let arguments = ["--check", "--strict", "--config"];
        let exit = ProxyProcess::spawn(program().args(arguments).arg(&file)).wait();
        (exit.status.code(), exit.output)
    }

    /// `--check` has nothing to say about it; but if it had `new` in place of `old`, an expectation would not be fulfilled.
    #[track_caller]
    fn expects(self, old: &str, new: &str, problem: &str) -> Self {
        let (code, output) = self.check(&self.text);
        assert_eq!(code, Some(0), "{output}\n{}", self.text);
        assert!(self.text.contains(old), "{old:?} is not in\n{}", self.text);
        let (code, output) = self.check(&self.text.replace(old, new));
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains(": expect[") && output.contains(problem), "{problem:?} is not in\n{output}");
        self
    }

    /// The proxy, and where it listens: in the order of the file.
    #[track_caller]
    fn start(self) -> Running {
        let addrs = ["0.0.0.0:80\"", "0.0.0.0:443\""];
        let count = addrs.iter().filter(|addr| self.text.contains(*addr)).count();
        let recipe = self.with(addrs[0], "127.0.0.1:0\"");
        let text = recipe.text.replace(addrs[1], "127.0.0.1:0\"");
        let file = recipe.directory.file("reverse-proxy.toml", &text);
        let process = ProxyProcess::spawn(program().arg("--config").arg(&file));
        let addrs = wait_for("the addresses it listens on", || {
            let output = process.output();
            let addrs: Vec<SocketAddr> = output.lines().filter_map(listens_on).collect();
            if addrs.len() == count { Ok(addrs) } else { Err(output) }
        });
        Running { addrs, _process: process, directory: recipe.directory }
    }
}

fn listens_on(line: &str) -> Option<SocketAddr> {
    line.split_once("listening addr=")?.1.split(' ').next()?.parse().ok()
}

/// A proxy that does what a recipe says.
struct Running {
    addrs: Vec<SocketAddr>,
    _process: ProxyProcess,
    directory: TempDir,
}

impl Running {
    fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// The answer to this request for `shop.example`; each field ends with CRLF.
    #[track_caller]
    fn ask(&self, line: &str, fields: &str) -> Response {
        self.ask_host("shop.example", line, fields)
    }

    #[track_caller]
    fn ask_host(&self, host: &str, line: &str, fields: &str) -> Response {
        ask(&mut Client::connect(self.addr()), host, line, fields)
    }

    /// [`ask`](Self::ask) over TLS, which is the second address.
    #[track_caller]
    fn ask_tls(&self, line: &str, fields: &str) -> Response {
        self.ask_tls_host("shop.example", line, fields)
    }

    #[track_caller]
    fn ask_tls_host(&self, host: &str, line: &str, fields: &str) -> Response {
        // The certificate of the tests is not for every name of the recipes.
        let mut client = Client::connect_tls(self.addrs[1], &trust(), "shop.test");
        ask(&mut client, host, line, fields)
    }
}

#[track_caller]
fn ask(client: &mut Client, host: &str, line: &str, fields: &str) -> Response {
    client.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
    client.response_to(line.split(' ').next().unwrap())
}

/// What trusts the CA of tests/certs.
fn trust() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(format!("{ROOT}/tests/certs/ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

#[track_caller]
fn echo(response: Response) -> Echo {
    Echo::parse(&response.expect(200).body)
}

#[track_caller]
fn expect_fields(fields: &Fields, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        assert_eq!(fields.one(name).as_deref(), *value, "{name} in {fields:?}");
    }
}

fn one_site(recipe: Recipe) {
    let origin = Origin::echo();
    let challenges = recipe.directory.path().to_str().unwrap().to_owned();
    let proxy = recipe
        .with_certificate()
        .with("/var/www/acme/.well-known/acme-challenge", &challenges)
        .with("127.0.0.1:8001", &origin.addr())
        .expects("preserve_host = true\n", "", "expect[0].request_header: host is expected")
        .expects(", https_redirect = true", "", "expect[1].status: 308 is expected")
        .start();
    proxy.directory.file("token", "what certbot wrote");
    let response = proxy.ask("GET /.well-known/acme-challenge/token", "").expect(200);
    assert_eq!(response.text(), "what certbot wrote");
    let response = proxy.ask("GET /cart?item=7", "").expect(308);
    expect_fields(response.fields(), &[("location", Some("https://shop.example/cart?item=7"))]);
    let response = proxy.ask_tls("GET /cart", "");
    expect_fields(response.fields(), &[("strict-transport-security", Some("max-age=31536000"))]);
    let fields = [("host", Some("shop.example")), ("x-forwarded-proto", Some("https"))];
    expect_fields(&echo(response).fields, &fields);
    assert_eq!(origin.requests(), 1);
}

fn several_applications(recipe: Recipe) {
    let (api, site) = (Origin::named("api"), Origin::named("site"));
    let wiki = ScriptedBackend::per_request(|conn, request| {
        let location = format!("Location: {}/edit", request.target);
        conn.send_head(&[
            "HTTP/1.1 302 Found",
            &location,
            "Set-Cookie: a=b; Path=/",
            "Content-Length: 0",
            &format!("X-Prefix: {}", request.fields.one("x-forwarded-prefix").unwrap_or_default()),
        ])
    });
    let proxy = recipe
        .with("127.0.0.1:8001", &wiki.addr())
        .with("127.0.0.1:8002", &api.addr())
        .with("127.0.0.1:8003", &site.addr())
        .expects("strip_prefix = true\n", "", "expect[0].backend_target: \"/Home?edit=1\" is expected")
        .expects("\"/v2\"", "\"/v3\"", "expect[1].backend_target: \"/v2/items/7\" is expected")
        .start();
    let response = proxy.ask("GET /wiki/Home", "").expect(302);
    let fields = [
        ("location", Some("/wiki/Home/edit")),
        ("set-cookie", Some("a=b; Path=/wiki")),
        ("x-prefix", Some("/wiki")),
    ];
    expect_fields(response.fields(), &fields);
    for (target, origin, there) in
        [("/api/items/7?x", "api", "/v2/items/7?x"), ("/", "site", "/"), ("/wikipedia", "site", "/wikipedia")]
    {
        let echo = echo(proxy.ask(&format!("GET {target}"), ""));
        assert_eq!((echo.origin.as_str(), echo.target.as_str()), (origin, there));
    }
}

fn answers_without_a_backend(recipe: Recipe) {
    let origin = Origin::echo();
    let proxy = recipe
        .with("127.0.0.1:8001", &origin.addr())
        .expects("status = 301 }", "status = 302 }", "expect[1].status: 301 is expected")
        .expects("allow = [\"10.0.0.0/8\", \"127.0.0.1\"]\n", "", "expect[4].status: 403 is expected")
        .start();
    for (host, target, status, location) in [
        ("www.shop.example", "/cart?item=7", 308, "http://shop.example/cart?item=7"),
        ("shop.example", "/old-catalogue/shoes?size=42", 301, "/catalogue?size=42"),
        ("shop.example", "/old-catalogue", 301, "/catalogue"),
    ] {
        let response = proxy.ask_host(host, &format!("GET {target}"), "").expect(status);
        expect_fields(response.fields(), &[("location", Some(location))]);
    }
    let robots = proxy.ask("GET /robots.txt", "").expect(200);
    assert_eq!(robots.text(), "User-agent: *\nDisallow: /cart\n");
    assert_eq!(proxy.ask("GET /alive", "").expect(200).text(), "ok\n");
    assert_eq!(origin.requests(), 0);
    assert_eq!(echo(proxy.ask("GET /cart", "")).target, "/cart");
}

fn maintenance(recipe: Recipe) {
    let origin = Origin::echo();
    let recipe = recipe
        .with_file("/etc/reverse-proxy/closed.html", "<h1>Back at noon</h1>")
        .with("127.0.0.1:8001", &origin.addr())
        .expects("status = 503\nfile", "status = 200\nfile", "expect[0].status: 503 is expected")
        .expects("allow = [\"198.51.100.0/24\"]\n", "", "expect[2].status: 403 is expected");
    let office = "[\"198.51.100.0/24\"]";
    let elsewhere = recipe.again();
    // This test is in the office once, and once it is not.
    let proxy = recipe.with(office, "[\"198.51.100.0/24\", \"127.0.0.1\"]").start();
    let response = proxy.ask("POST /cart", "Content-Length: 0\r\n").expect(503);
    assert_eq!(response.text(), "<h1>Back at noon</h1>");
    let fields = [("retry-after", Some("600")), ("content-type", Some("text/html; charset=utf-8"))];
    expect_fields(response.fields(), &fields);
    proxy.ask("GET /cart", "X-Maintenance: no\r\n").expect(503);
    assert_eq!(origin.requests(), 0);
    assert_eq!(echo(proxy.ask("GET /cart", "X-Maintenance: show\r\n")).target, "/cart");
    elsewhere.start().ask("GET /cart", "X-Maintenance: show\r\n").expect_failure(403, "client_denied");
    assert_eq!(origin.requests(), 1);
}

fn passwords(recipe: Recipe) {
    let origin = Origin::echo();
    let hash = bcrypt::hash("wonderland", 4).expect("a hash");
    let proxy = recipe
        .with_certificate()
        .with_file("/etc/reverse-proxy/users", &format!("alice:{hash}\n"))
        .with("127.0.0.1:8001", &origin.addr())
        .expects("allow = [\"198.51.100.0/24\"]\n", "", "expect[1].status: 403 is expected")
        .expects("prefix = \"/reports\"", "prefix = \"/report\"", "expect[2].route: route \"reports\" is")
        .start();
    proxy.ask("GET /reports/2026", "").expect(308);
    proxy.ask_tls("GET /admin/users", "").expect_failure(403, "client_denied");
    let response = proxy.ask_tls("GET /reports/2026", "").expect_failure(401, "unauthorized");
    let asked = "Basic realm=\"Reports\", charset=\"UTF-8\"";
    expect_fields(response.fields(), &[("www-authenticate", Some(asked))]);
    let with = |password: &str| {
        let credentials = BASE64_STANDARD.encode(format!("alice:{password}"));
        format!("Authorization: Basic {credentials}\r\nX-User: mallory\r\n")
    };
    proxy.ask_tls("GET /reports/2026", &with("guess")).expect_failure(401, "unauthorized");
    assert_eq!(origin.requests(), 0);
    for (target, user) in [("/reports/2026", Some("alice")), ("/news", None)] {
        let echo = echo(proxy.ask_tls(&format!("GET {target}"), &with("wonderland")));
        expect_fields(&echo.fields, &[("x-user", user)]);
        assert_eq!(echo.fields.has("authorization"), target == "/news");
    }
}

/// Knows one session, and has a page of its own.
fn login(conn: &mut Conn, fields: &Fields, target: &str) -> std::io::Result<()> {
    if target != "/api/authz/forward-auth" {
        return conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlogin");
    }
    let uri = fields.one("x-forwarded-uri").unwrap_or_default();
    match fields.one("cookie").as_deref() {
        Some("session=alice") => conn.send_head(&[
            "HTTP/1.1 200 OK",
            "Remote-User: alice",
            "Remote-Groups: staff",
            "Content-Length: 0",
        ]),
        _ => conn.send_head(&[
            "HTTP/1.1 302 Found",
            &format!("Location: https://auth.shop.example/?rd={uri}"),
            "Content-Length: 0",
        ]),
    }
}

fn login_service(recipe: Recipe) {
    let origin = Origin::echo();
    let mut auth =
        ScriptedBackend::per_request(|conn, request| login(conn, &request.fields, &request.target));
    let proxy = recipe
        .with_certificate()
        .with("127.0.0.1:8001", &origin.addr())
        .with("127.0.0.1:9091", &auth.addr())
        .expects("[\"auth.shop.example\"]", "[\"login.shop.example\"]", "expect[0].route: route \"login\" is")
        .start();
    proxy.ask("GET /cart", "Cookie: session=alice\r\n").expect(308);
    let stranger = "Cookie: session=mallory\r\nRemote-User: alice\r\n";
    let response = proxy.ask_tls("GET /cart", stranger).expect(302);
    expect_fields(response.fields(), &[("location", Some("https://auth.shop.example/?rd=/cart"))]);
    assert_eq!(origin.requests(), 0);
    let alice = "Cookie: session=alice\r\nRemote-Groups: admins\r\n";
    let echo = echo(proxy.ask_tls("GET /cart", alice));
    expect_fields(&echo.fields, &[("remote-user", Some("alice")), ("remote-groups", Some("staff"))]);
    assert_eq!(proxy.ask_tls_host("auth.shop.example", "GET /", "").expect(200).text(), "login");
    auth.stop();
    proxy.ask_tls("GET /cart", alice).expect_failure(503, "auth_unavailable");
    assert_eq!(origin.requests(), 1);
}

fn brakes(recipe: Recipe) {
    let origin = Origin::echo();
    let recipe = recipe
        .with("127.0.0.1:8001", &origin.addr())
        .expects("methods = [\"GET\", \"HEAD\"]", "methods = [\"HEAD\"]", "expect[1].route: ")
        .expects("max_body_bytes = 4096\n", "", "expect[2].status: 413 is expected")
        .expects("max_body_bytes = 10485760\n", "", "expect[4].status: 413 is expected")
        // Else a slow machine would not be faster than what is let through.
        .with("requests_per_sec = 50, burst = 100", "requests_per_sec = 1, burst = 3");
    let elsewhere = recipe.again().with("max_connections_per_client = 100", "max_connections_per_client = 2");
    let proxy = recipe.start();
    let mut client = Client::connect(proxy.addr());
    let mut until_refused = |line: &str, fields: &str| {
        let taken = |_: &u32| match ask(&mut client, "shop.example", line, fields) {
            response if response.status() == 200 => true,
            response => {
                let response = response.expect_failure(429, "rate_limited");
                assert!(response.fields().has("retry-after"), "{response:?}");
                false
            }
        };
        (0..1000).take_while(taken).count()
    };
    let empty = "Content-Length: 0\r\n";
    let count = until_refused("POST /login", empty);
    assert!((5..1000).contains(&count), "{count} attempts are taken at once");
    let count = until_refused("GET /api/items", "X-Api-Key: one\r\n");
    assert!((3..1000).contains(&count), "{count} requests are taken at once");
    // Another key, and the form, are not concerned.
    proxy.ask("GET /api/items", "X-Api-Key: two\r\n").expect(200);
    (0..20).for_each(|_| drop(proxy.ask("GET /login", "").expect(200)));
    let before = origin.requests();
    proxy.ask("POST /photos", "Content-Length: 10485761\r\n").expect_failure(413, "body_too_large");
    assert_eq!(origin.requests(), before);

    let crowded = elsewhere.start();
    let mut clients = [crowded.addr(), crowded.addr()].map(Client::connect);
    for client in &mut clients {
        ask(client, "shop.example", "GET /", "").expect(200);
    }
    crowded.ask("GET /", "").expect_failure(429, "too_many_connections");
}

fn canary(recipe: Recipe) {
    let [one, two, new] = ["one", "two", "new"].map(Origin::named);
    let proxy = recipe
        .with("127.0.0.1:8001", &one.addr())
        .with("127.0.0.1:8002", &two.addr())
        .with("127.0.0.1:8003", &new.addr())
        .expects("{ \"X-Beta\" = \"1\" }\nbackends", "{ \"X-Beta\" = true }\nbackends", "expect[1].route: ")
        .with("interval_secs = 2", "interval_secs = 0.1")
        .start();
    let of = |fields: &str| echo(proxy.ask("GET /cart", fields)).origin;
    (0..5).for_each(|_| assert_eq!(of("X-Beta: 1\r\n"), "new"));
    let mut cookies = Vec::new();
    for _ in 0..40 {
        let response = proxy.ask("GET /cart", "");
        let cookie = response.fields().one("set-cookie").expect("a cookie");
        let (cookie, _) = cookie.split_once(';').expect("attributes");
        cookies.push((cookie.to_owned(), echo(response).origin));
    }
    let count = |name: &str| cookies.iter().filter(|(_, origin)| origin == name).count();
    assert_eq!((count("new"), count("one") + count("two")), (2, 38), "{cookies:?}");
    for (cookie, origin) in &cookies {
        assert_eq!(of(&format!("Cookie: {cookie}\r\n")), *origin);
    }
    // Nobody is lost with it.
    new.set_health(500);
    let (cookie, _) = cookies.iter().find(|(_, origin)| origin == "new").unwrap();
    wait_for("the canary to be found out", || match of(&format!("Cookie: {cookie}\r\n")) {
        origin if origin == "new" => Err(origin),
        _ => Ok(()),
    });
    (0..40).for_each(|_| assert_ne!(of(""), "new"));
}

fn stays_up(recipe: Recipe) {
    let [mut one, two, last] = ["one", "two", "last"].map(Origin::named);
    let recipe = recipe
        .with("127.0.0.1:8001", &one.addr())
        .with("127.0.0.1:8002", &two.addr())
        .with("127.0.0.1:8003", &last.addr())
        .expects("\"chat\"\nprefix = \"/\"", "\"chat\"\nprefix = \"/chat\"", "expect[0].route: ")
        .with("interval_secs = 2", "interval_secs = 0.1");
    let elsewhere = recipe.again();
    let proxy = recipe.start();
    let seen = |proxy: &Running| -> BTreeSet<String> {
        (0..12).map(|_| echo(proxy.ask("GET /", "")).origin).collect()
    };
    let wait_for_seen = |proxy: &Running, expected: &[&str]| {
        wait_for("the backends that are used", || {
            let seen = seen(proxy);
            if seen.iter().eq(expected) { Ok(()) } else { Err(seen) }
        });
    };
    wait_for_seen(&proxy, &["one", "two"]);
    // Who has begun with one stays with it.
    let response = proxy.ask("GET /", "");
    let cookie = response.fields().one("set-cookie").expect("a cookie");
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let origin = echo(response).origin;
    (0..10).for_each(|_| assert_eq!(echo(proxy.ask("GET /", &cookie)).origin, origin));
    // One that dies costs no request.
    one.stop();
    (0..20).for_each(|_| assert_ne!(echo(proxy.ask("GET /", "")).origin, "one"));
    two.set_health(500);
    wait_for_seen(&proxy, &["last"]);
    // Now the check itself is wrong: all that can be reached are tried.
    last.set_health(500);
    wait_for_seen(&proxy, &["last", "two"]);
    one.restart();
    two.set_health(200);
    wait_for_seen(&proxy, &["one", "two"]);
    websocket(&elsewhere.text);
}

/// The same with a backend that speaks it.
fn websocket(text: &str) {
    let backend = ScriptedBackend::per_connection(|conn| {
        let stream = conn.stream()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Probes are none.
        let Ok(mut socket) = tungstenite::accept(stream) else { return Ok(()) };
        while let Ok(message) = socket.read() {
            if message.is_text() {
                socket.send(message).expect("send an echo");
            }
        }
        Ok(())
    });
    let (start, rest) = text.split_once("backend_addrs = [").unwrap();
    let (_, rest) = rest.split_once("\n]\n").unwrap();
    let text = format!("{start}backend_addrs = [{:?}]\n{rest}", backend.addr());
    let proxy = Recipe { text, directory: TempDir::new() }.start();
    let stream = TcpStream::connect(proxy.addr()).expect("connect to the proxy");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
    let (mut socket, _) = tungstenite::client("ws://shop.example/socket", stream).expect("a WebSocket");
    socket.send("hello".into()).expect("send");
    assert_eq!(socket.read().expect("an echo").into_text().unwrap(), "hello");
}

fn friendly_face(recipe: Recipe) {
    let (sorry, not_found) = ("<h1>Sorry</h1>", "<h1>Nothing here</h1>");
    let text = || String::from_utf8_lossy(&pattern(1, 2000)).replace(|char: char| !char.is_ascii(), "x");
    let backend = ScriptedBackend::per_request(move |conn, request| {
        let (status, body) = match request.target.as_str() {
            "/broken" => ("500 Internal Server Error", "a stack trace".to_owned()),
            "/nowhere" => ("404 Not Found", "404".to_owned()),
            _ => ("200 OK", text()),
        };
        let length = format!("Content-Length: {}", body.len());
        let status = format!("HTTP/1.1 {status}");
        conn.send_head(&[&status, "Content-Type: text/html", "Server: x/1.2", "X-Powered-By: y", &length])?;
        conn.send(body.as_bytes())
    });
    let recipe = recipe
        .with_file("/etc/reverse-proxy/sorry.html", sorry)
        .with_file("/etc/reverse-proxy/not-found.html", not_found)
        .expects("prefix = \"/\"", "prefix = \"/site\"", "expect[0].route: ");
    let dead = DeadPort::reserve();
    let nobody = recipe.again().with("127.0.0.1:8001", &dead.addr()).start();
    let proxy = recipe.with("127.0.0.1:8001", &backend.addr()).start();

    let response = nobody.ask("GET /", "").expect_failure(502, "connect_refused");
    assert_eq!(response.text(), sorry);
    for (target, status, page) in [("/broken", 500, sorry), ("/nowhere", 404, not_found)] {
        let response = proxy.ask(&format!("GET {target}"), "").expect(status);
        assert_eq!(response.text(), page);
    }
    let response = proxy.ask("GET /", "Accept-Encoding: gzip\r\n").expect(200);
    let fields = [
        ("content-encoding", Some("gzip")),
        ("x-content-type-options", Some("nosniff")),
        ("referrer-policy", Some("same-origin")),
        ("server", None),
        ("x-powered-by", None),
    ];
    expect_fields(response.fields(), &fields);
    assert_eq!(crate::compress::unzipped(&response.body), text().as_bytes());
    expect_fields(proxy.ask("GET /", "").expect(200).fields(), &[("content-encoding", None)]);
}
