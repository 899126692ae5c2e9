//! The other algorithms: weights, hashes and cookies decide who gets a request.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use crate::support::engines::on_both_engines;
use crate::support::origin::HEALTH;
use crate::support::{
    Client, DeadPort, Echo, Engine, Origin, Response, ScriptedBackend, TestProxy, wait_for,
};

fn origins(count: usize) -> (Vec<Origin>, Vec<String>) {
    let origins: Vec<Origin> = (0..count).map(|number| Origin::named(&format!("origin-{number}"))).collect();
    let addrs = origins.iter().map(Origin::addr).collect();
    (origins, addrs)
}

fn requests(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(Origin::requests).collect()
}

fn check() -> String {
    format!("health_check = {{ path = {HEALTH:?}, interval_secs = 0.1, timeout_secs = 5 }}")
}

/// `GET target` with further field lines, each with its CRLF.
#[track_caller]
fn get_with(client: &mut Client, target: &str, fields: &str) -> Response {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\n{fields}\r\n"));
    client.response()
}

/// The number of the origin that answered.
#[track_caller]
fn origin(response: Response) -> usize {
    let name = Echo::parse(&response.expect(200).body).origin;
    name.strip_prefix("origin-").and_then(|number| number.parse().ok()).expect("a numbered origin")
}

/// The cookie that an answer sets, as a field of the next request, and its attributes.
#[track_caller]
fn cookie(response: &Response) -> (String, String) {
    let value = response.fields().one("set-cookie").expect("a cookie");
    let (cookie, attributes) = value.split_once("; ").expect("attributes");
    (format!("Cookie: {cookie}\r\n"), attributes.to_owned())
}

fn weighted_round_robin_honours_weights(engine: Engine) {
    let (origins, addrs) = origins(3);
    let backends: Vec<(String, u32)> = addrs.into_iter().zip([5, 1, 1]).collect();
    let keys = "balancing_algorithm = \"weighted_round_robin\"";
    let proxy = TestProxy::builder(engine).weighted_route("/", &backends, keys).start();
    let mut client = Client::connect(proxy.addr());
    let order: Vec<usize> = (0..14).map(|_| origin(client.get("/"))).collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    (0..56).for_each(|_| drop(client.get("/").expect(200)));
    assert_eq!(requests(&origins), [50, 10, 10]);
}

fn weights_count_in_least_connections(engine: Engine) {
    let (origins, addrs) = origins(2);
    let backends: Vec<(String, u32)> = addrs.into_iter().zip([3, 1]).collect();
    let keys = "balancing_algorithm = \"least_connections\"";
    let proxy = TestProxy::builder(engine).weighted_route("/", &backends, keys).start();
    let mut clients = Vec::new();
    for count in 1..=8 {
        let mut client = Client::connect(proxy.addr());
        client.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
        clients.push(client);
        wait_for("the held request to arrive", || {
            let held: Vec<usize> = origins.iter().map(Origin::held).collect();
            if held.iter().sum::<usize>() == count { Ok(()) } else { Err(held) }
        });
    }
    assert_eq!(origins.iter().map(Origin::held).collect::<Vec<_>>(), [6, 2]);
    origins.iter().for_each(Origin::release);
    clients.iter_mut().for_each(|client| drop(client.response().expect(200)));
    proxy.expect_idle();
}

fn random_two_choices_avoids_the_busy_one(engine: Engine) {
    let (origins, addrs) = origins(3);
    let proxy = TestProxy::to(engine, &addrs, "balancing_algorithm = \"random_two_choices\"");
    let mut holding = Client::connect(proxy.addr());
    holding.send("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let busy = wait_for("the held request to arrive", || {
        origins.iter().position(|origin| origin.held() > 0).ok_or(requests(&origins))
    });
    let mut client = Client::connect(proxy.addr());
    let mut seen = HashSet::new();
    for _ in 0..60 {
        // An answer is complete at the client a moment before it is counted off.
        wait_for("the exchange before to be counted off", || {
            let counts = proxy.in_flight();
            if counts.iter().map(|(_, count)| count).sum::<usize>() == 1 { Ok(()) } else { Err(counts) }
        });
        seen.insert(origin(client.get("/")));
    }
    assert_eq!(origins[busy].requests(), 1, "busier than whoever it is compared with");
    assert_eq!(seen.len(), 2, "both idle ones: {seen:?}");
    origins[busy].release();
    holding.response().expect(200);
    proxy.expect_idle();
}

fn a_key_stays_on_its_backend_unless_it_is_down(engine: Engine) {
    let (origins, addrs) = origins(4);
    let keys = format!("balancing_algorithm = \"consistent_hash\"\nhash_on = \"header:X-User\"\n{}", check());
    let proxy = TestProxy::to(engine, &addrs, &keys);
    let mut client = Client::connect(proxy.addr());
    let mut owners = || -> Vec<usize> {
        (0..80)
            .map(|user| origin(get_with(&mut client, &format!("/{user}"), &format!("X-User: {user}\r\n"))))
            .collect()
    };
    let before = owners();
    assert_eq!(before.iter().collect::<HashSet<_>>().len(), 4, "80 users on 4 backends: {before:?}");
    assert_eq!(owners(), before);
    let mut down = before.clone();
    origins[0].set_health(500);
    wait_for("the unhealthy backend to be left", || {
        down = owners();
        if down.contains(&0) { Err(down.clone()) } else { Ok(()) }
    });
    for (before, down) in before.iter().zip(&down) {
        assert!(before == down || *before == 0, "{before} to {down}, though {before} is healthy");
    }
    origins[0].set_health(200);
    wait_for("everyone to be back", || {
        let now = owners();
        if now == before { Ok(()) } else { Err(now) }
    });
}

fn a_key_that_is_not_there_is_the_address(engine: Engine) {
    let (_origins, addrs) = origins(4);
    let algorithm = "balancing_algorithm = \"consistent_hash\"";
    let proxy = TestProxy::builder(engine)
        .route("/", &addrs, algorithm)
        .route("/cookie", &addrs, &format!("{algorithm}\nhash_on = \"cookie:user\""))
        .start();
    let mut client = Client::connect(proxy.addr());
    let by_address = origin(client.get("/"));
    for _ in 0..5 {
        assert_eq!(origin(Client::connect(proxy.addr()).get("/")), by_address);
        assert_eq!(origin(client.get("/cookie")), by_address);
    }
    let mut by_cookie =
        |user: &str| origin(get_with(&mut client, "/cookie", &format!("Cookie: a=b; user={user}\r\n")));
    let seen: HashSet<usize> = (0..80).map(|user| by_cookie(&user.to_string())).collect();
    assert_eq!(seen.len(), 4);
    assert_eq!(by_cookie("ann"), by_cookie("ann"));
}

fn a_sticky_cookie_leads_back(engine: Engine) {
    for algorithm in ["round_robin", "consistent_hash"] {
        let (_origins, addrs) = origins(3);
        let keys = format!("balancing_algorithm = {algorithm:?}\nsticky_cookie = {{ name = \"stick\" }}");
        let proxy = TestProxy::builder(engine).route("/shop", &addrs, &keys).route("/", &addrs, "").start();
        let mut client = Client::connect(proxy.addr());
        let first = client.get("/shop");
        let (field, attributes) = cookie(&first);
        assert_eq!(attributes, "Path=/shop; HttpOnly; SameSite=Lax");
        assert!(!addrs.iter().any(|addr| field.contains(addr.rsplit(':').next().unwrap())), "{field}");
        let owner = origin(first);
        for _ in 0..6 {
            let response = get_with(&mut client, "/shop/cart", &field);
            assert_eq!(response.fields().one("set-cookie"), None, "it has the cookie");
            assert_eq!(origin(response), owner);
        }
        let seen = client.get("/");
        assert_eq!(seen.fields().one("set-cookie"), None, "another route, without the key");
        // Whoever brings what nobody has given out is a new client.
        cookie(&get_with(&mut client, "/shop", "Cookie: stick=0123456789abcdef\r\n"));
    }
}

fn a_sticky_cookie_follows_when_its_backend_is_unhealthy(engine: Engine) {
    let (origins, addrs) = origins(3);
    let keys = format!("sticky_cookie = {{ name = \"stick\", max_age_secs = 60 }}\n{}", check());
    let proxy = TestProxy::to(engine, &addrs, &keys);
    let mut client = Client::connect(proxy.addr());
    let first = client.get("/");
    let (old, attributes) = cookie(&first);
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=60");
    let owner = origin(first);
    origins[owner].set_health(500);
    let moved = wait_for("the unhealthy backend to be left", || {
        let response = get_with(&mut client, "/", &old);
        if response.fields().one("set-cookie").is_some() { Ok(response) } else { Err(requests(&origins)) }
    });
    let (new, _) = cookie(&moved);
    assert_ne!(new, old);
    let heir = origin(moved);
    assert_ne!(heir, owner);
    origins[owner].set_health(200);
    wait_for("the backend to be healthy again, and clients with its cookie to go there", || {
        match origin(get_with(&mut client, "/", &old)) {
            seen if seen == owner => Ok(()),
            seen => Err(seen),
        }
    });
    for _ in 0..6 {
        let response = get_with(&mut client, "/", &new);
        assert_eq!(response.fields().one("set-cookie"), None);
        assert_eq!(origin(response), heir, "who has moved stays");
    }
}

/// The second try decides: the cookie names the backend that answered.
fn a_sticky_cookie_names_who_answered(engine: Engine) {
    let mut first = Origin::named("origin-0");
    let second = Origin::named("origin-1");
    let keys = "sticky_cookie = { name = \"stick\" }\nretries = 1";
    let proxy = TestProxy::to(engine, &[first.addr(), second.addr()], keys);
    let mut client = Client::connect(proxy.addr());
    let response = client.get("/");
    let (field, _) = cookie(&response);
    assert_eq!(origin(response), 0);
    first.stop();
    // While its backend may still be used, the client keeps its cookie, though another one answers.
    while proxy.counters().retries.load(Ordering::Relaxed) < 3 {
        let response = get_with(&mut client, "/", &field);
        assert_eq!(origin(response), 1);
    }
    let response = get_with(&mut client, "/", &field);
    let (field, _) = cookie(&response);
    assert_eq!(origin(response), 1);
    let response = get_with(&mut client, "/", &field);
    assert_eq!(response.fields().one("set-cookie"), None);
    assert_eq!(origin(response), 1);
}

fn a_sticky_cookie_stands_beside_those_of_the_backend(engine: Engine) {
    let answer = "HTTP/1.1 204 No Content\r\nSet-Cookie: stick=mine\r\nSet-Cookie: other=1\r\n\r\n";
    let backend = ScriptedBackend::answering(answer);
    let proxy = TestProxy::to(engine, &[backend.addr()], "sticky_cookie = { name = \"stick\" }");
    let mut client = Client::connect(proxy.addr());
    let cookies = client.get("/").expect(204).fields().all("set-cookie");
    assert_eq!(cookies[..2], ["stick=mine", "other=1"]);
    assert!(cookies[2].starts_with("stick=") && cookies.len() == 3, "{cookies:?}");
}

fn no_cookie_on_an_answer_of_the_proxy(engine: Engine) {
    let dead = DeadPort::reserve();
    let garbage = ScriptedBackend::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n");
    let sick = Origin::echo();
    sick.set_health(500);
    let sticky = "sticky_cookie = { name = \"stick\" }";
    let proxy = TestProxy::builder(engine)
        .route("/dead", &[dead.addr()], sticky)
        .route("/garbage", &[garbage.addr()], sticky)
        .route("/sick", &[sick.addr()], &format!("{sticky}\n{}", check()))
        .start();
    for (target, status) in [("/dead", 502), ("/garbage", 502), ("/sick", 503), ("/nowhere", 404)] {
        wait_for("the proxy's own answer", || {
            let response = Client::connect(proxy.addr()).get(target);
            if response.status() != status {
                return Err(response.status());
            }
            assert_eq!(response.fields().one("set-cookie"), None, "{target}");
            Ok(())
        });
    }
}

/// For once: it comes back with the cookie it had.
fn a_sticky_client_of_a_full_backend_is_served_elsewhere(engine: Engine) {
    let (origins, addrs) = origins(2);
    let keys = "sticky_cookie = { name = \"stick\" }\nmax_in_flight_per_backend = 1\nqueue_timeout_secs = 60";
    let proxy = TestProxy::to(engine, &addrs, keys);
    let mut client = Client::connect(proxy.addr());
    let first = client.get("/");
    let (field, _) = cookie(&first);
    let owner = origin(first);
    proxy.expect_idle();
    let mut holding = Client::connect(proxy.addr());
    holding.send(format!("GET /hold HTTP/1.1\r\nHost: proxy.test\r\n{field}\r\n"));
    wait_for("the held request to arrive", || match origins[owner].held() {
        1 => Ok(()),
        _ => Err(requests(&origins)),
    });
    for _ in 0..3 {
        let response = get_with(&mut client, "/", &field);
        assert_eq!(response.fields().one("set-cookie"), None, "it stays with its backend");
        assert_eq!(origin(response), 1 - owner);
        proxy.expect_in_flight(&addrs[1 - owner], 0);
    }
    origins[owner].release();
    let held = holding.response();
    assert_eq!(held.fields().one("set-cookie"), None);
    assert_eq!(origin(held), owner);
    proxy.expect_idle();
    for _ in 0..3 {
        let response = get_with(&mut client, "/", &field);
        assert_eq!(response.fields().one("set-cookie"), None);
        assert_eq!(origin(response), owner);
        proxy.expect_idle();
    }
}

/// Behind a proxy that is trusted, the client's address is the one it has named.
fn the_address_behind_a_trusted_proxy_counts(engine: Engine) {
    let keys = "balancing_algorithm = \"consistent_hash\"\nhash_on = \"client_address\"";
    for trusted in [true, false] {
        let (_origins, addrs) = origins(4);
        let networks = if trusted { "127.0.0.0/8" } else { "192.0.2.0/24" };
        let proxy = TestProxy::builder(engine)
            .server(&format!("trusted_proxies = [{networks:?}]"))
            .route("/", &addrs, keys)
            .start();
        let mut client = Client::connect(proxy.addr());
        let mut owners = |before: &str| -> Vec<usize> {
            (0..60)
                .map(|number| {
                    let field = format!("X-Forwarded-For: {before}203.0.113.{number}\r\n");
                    origin(get_with(&mut client, "/", &field))
                })
                .collect()
        };
        let seen = owners("");
        let used: HashSet<usize> = seen.iter().copied().collect();
        assert_eq!(used.len(), if trusted { 4 } else { 1 }, "60 clients: {seen:?}");
        assert_eq!(owners(""), seen, "the same client, the same backend");
        assert_eq!(owners("198.51.100.7, "), seen, "what a client says of others decides nothing");
    }
}

on_both_engines!(
    a_sticky_client_of_a_full_backend_is_served_elsewhere,
    the_address_behind_a_trusted_proxy_counts,
    weighted_round_robin_honours_weights,
    weights_count_in_least_connections,
    random_two_choices_avoids_the_busy_one,
    a_key_stays_on_its_backend_unless_it_is_down,
    a_key_that_is_not_there_is_the_address,
    a_sticky_cookie_leads_back,
    a_sticky_cookie_follows_when_its_backend_is_unhealthy,
    a_sticky_cookie_names_who_answered,
    a_sticky_cookie_stands_beside_those_of_the_backend,
    no_cookie_on_an_answer_of_the_proxy,
);
