//! Many clients at once, every answer checked against its request.

use crate::support::engines::on_both_engines;
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{Client, Echo, Engine, Origin, TestProxy, hash_of, pattern, spawn};

const CLIENTS: u64 = 32;
const REQUESTS: u64 = 200;

fn every_answer_belongs_to_its_request(engine: Engine) {
    let origins = [Origin::named("one"), Origin::named("two"), Origin::named("three")];
    let addrs: Vec<String> = origins.iter().map(Origin::addr).collect();
    let proxy = TestProxy::builder(engine)
        .route("/", &addrs, "")
        .route("/least", &addrs, "balancing_algorithm = \"least_connections\"")
        .start();
    let addr = proxy.addr();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            // The first exchange one after the other: of several connections that come at once, tiny_http leaves some
            // waiting until others close.
            let mut client = Client::connect(addr);
            one_exchange(&mut client, number, 0);
            spawn(&format!("client-{number}"), move || {
                for request in 1..REQUESTS {
                    one_exchange(&mut client, number, request);
                }
            })
        })
        .collect();
    for client in clients {
        client.join_within(std::time::Duration::from_secs(50));
    }
    let requests: usize = origins.iter().map(Origin::requests).sum();
    assert_eq!(requests, usize::try_from(CLIENTS * REQUESTS).unwrap());
    proxy.expect_idle();
}

fn one_exchange(client: &mut Client, number: u64, request: u64) {
    let seed = number * REQUESTS + request;
    let prefix = if seed.is_multiple_of(3) { "/least" } else { "/any" };
    let target = format!("{prefix}/{number}/{request}?seed={seed}");
    let length = usize::try_from(seed * 7919 % 40_000).unwrap();
    let body = if seed.is_multiple_of(4) { Vec::new() } else { pattern(seed, length) };
    let head = |method: &str, framing: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: proxy.test\r\nX-Seed: {seed}\r\n{framing}\r\n")
    };
    match seed % 4 {
        0 => client.send(head("GET", "")),
        1 => {
            let last = [body.as_slice(), b"\r\n", LAST_CHUNK].concat();
            let start = head("POST", "Transfer-Encoding: chunked\r\n");
            let bytes = match body.len() {
                0 => [start.as_bytes(), LAST_CHUNK].concat(),
                length => [format!("{start}{length:x}\r\n").as_bytes(), &last].concat(),
            };
            client.send(bytes);
        }
        2 => {
            // In two pieces, cut at a place that wanders through head and body.
            let bytes =
                [head("PUT", &format!("Content-Length: {}\r\n", body.len())).as_bytes(), &body].concat();
            let (first, second) = bytes.split_at(usize::try_from(seed).unwrap() % bytes.len());
            client.send(first);
            client.send(second);
        }
        _ => {
            client.send(head("POST", "Transfer-Encoding: chunked\r\n"));
            body.chunks(9973).for_each(|piece| client.send(chunk(piece)));
            client.send(LAST_CHUNK);
        }
    }
    let echo = Echo::parse(&client.response().expect(200).body);
    assert_eq!(echo.target, target);
    assert_eq!(echo.fields.all("x-seed"), [seed.to_string()]);
    assert_eq!(echo.hash, hash_of(&body), "the body of {target}");
}

on_both_engines!(every_answer_belongs_to_its_request);
