//! What the pieces of an exchange cost by themselves: `cargo bench`. For whole exchanges, and for comparison with
//! other proxies, see `benches/run`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark: what it feeds is well-formed, and it stops if not"
)]

use std::net::Ipv4Addr;

use bytes::Bytes;
use divan::{Bencher, black_box, counter::BytesCount};
use http::{HeaderValue, Method};
use reverse_proxy::balance::{Backend, PickRequest, balancer};
use reverse_proxy::config::Config;
use reverse_proxy::http::chunked::{Decoder, LAST_CHUNK, encode_head};
use reverse_proxy::http::client_cert::ClientCertFields;
use reverse_proxy::http::fields::Fields;
use reverse_proxy::http::gzip::Gzip;
use reverse_proxy::http::head::{HeadLimits, RequestHead, Scan, scan};
use reverse_proxy::http::headers::Rewrite;
use reverse_proxy::http::request_out::write_request;
use reverse_proxy::http::target::normalize_path;
use reverse_proxy::route::{Pick, Route};
use reverse_proxy::routing::{Asked, Conditions, Prefix, RouteKey, RouteTable};

fn main() {
    divan::main();
}

const LIMITS: HeadLimits = HeadLimits { max_header_bytes: 32 * 1024, max_headers: 100 };

/// What wrk sends.
const SHORT: &str = "GET /small HTTP/1.1\r\nHost: localhost:3000\r\n\r\n";

/// What a browser sends.
const BROWSER: &str = "GET /articles/2024/05/threads-and-sockets?page=2&sort=date HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/articles/2024/05\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=essential\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    If-Modified-Since: Tue, 21 May 2024 07:28:00 GMT\r\n\
    Priority: u=0, i\r\n\r\n";

/// A form that is sent.
const FORM: &str = "POST /api/v1/orders HTTP/1.1\r\n\
    Host: api.example.com\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 348\r\n\
    Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
    Accept: application/json\r\n\
    X-Forwarded-For: 192.0.2.7, 198.51.100.23\r\n\r\n";

const HEADS: [(&str, &str); 3] = [("short", SHORT), ("browser", BROWSER), ("form", FORM)];

fn head(name: &str) -> &'static str {
    HEADS.iter().find(|(known, _)| *known == name).unwrap().1
}

fn parsed(name: &str) -> RequestHead {
    RequestHead::parse(Bytes::from_static(head(name).as_bytes()), &LIMITS).unwrap()
}

const NAMES: [&str; 3] = ["short", "browser", "form"];

mod request_head {
    use super::*;

    /// The waiting room: where does the head end, and is there a body to wait for?
    #[divan::bench(args = NAMES)]
    fn find_end(bencher: Bencher<'_, '_>, name: &str) {
        let bytes = head(name).as_bytes();
        bencher.counter(BytesCount::of_slice(bytes)).bench(|| {
            let found = scan(black_box(bytes), 0, &LIMITS);
            assert!(matches!(found, Scan::Complete { .. }));
            found
        });
    }

    /// The worker: the head in parts, framing decided, the path normalized.
    #[divan::bench(args = NAMES)]
    fn parse(bencher: Bencher<'_, '_>, name: &str) {
        let bytes = Bytes::from_static(head(name).as_bytes());
        bencher
            .counter(BytesCount::new(bytes.len()))
            .with_inputs(|| bytes.clone())
            .bench_values(|bytes| RequestHead::parse(black_box(bytes), &LIMITS).unwrap());
    }

    #[divan::bench(args = ["/articles/2024/05/threads-and-sockets", "/a/./b/../c/%2e%2e/d"])]
    fn normalize(path: &str) -> usize {
        normalize_path(black_box(path)).unwrap().len()
    }

    /// What is sent on in place of it.
    #[divan::bench(args = NAMES)]
    fn rewrite_fields(bencher: Bencher<'_, '_>, name: &str) {
        let head = parsed(name);
        let host = HeaderValue::from_static("127.0.0.1:9001");
        let client = HeaderValue::from_static("192.0.2.1");
        let how = Rewrite {
            host: &host,
            client: &client,
            trusted: false,
            secured: false,
            port: Some(80),
            client_cert: ClientCertFields::Untouched,
            prefix: None,
            upgrade: false,
            via: "reverse-proxy",
            request_id: b"0123456789abcdef0123456789abcdef",
        };
        bencher.bench(|| {
            let mut out = Vec::with_capacity(1024);
            write_request(&mut out, black_box(&head), head.target.as_str(), &how);
            out
        });
    }
}

mod gzip {
    use super::*;

    /// JSON of 16 KiB.
    fn json() -> Vec<u8> {
        let entry = |n: u32| {
            format!(
                "{{\"number\": {n}, \"name\": \"entry {n}\", \"hash\": {}}}",
                n.wrapping_mul(2_654_435_761)
            )
        };
        (0..1000).map(entry).collect::<Vec<_>>().join(", ").into_bytes()[..16 * 1024].to_vec()
    }

    /// A whole answer, with the state that it takes.
    #[divan::bench(args = [1, 5, 6, 9])]
    fn whole(bencher: Bencher<'_, '_>, level: u8) {
        let json = json();
        bencher.counter(BytesCount::new(json.len())).bench(|| {
            let (mut gzip, mut made) = (Gzip::new(level), 0);
            let mut put = |piece: &[u8]| made += piece.len();
            gzip.push(black_box(&json), &mut put).unwrap();
            gzip.finish(&mut put).unwrap();
            made
        });
    }

    /// One event more in a stream.
    #[divan::bench]
    fn event(bencher: Bencher<'_, '_>) {
        let mut gzip = Gzip::new(5);
        bencher.bench_local(|| {
            let mut made = 0;
            let mut put = |piece: &[u8]| made += piece.len();
            gzip.push(black_box(b"data: {\"price\": 17.25}\n\n"), &mut put).unwrap();
            gzip.flush(&mut put).unwrap();
            made
        });
    }
}

mod routes {
    use super::*;

    const COUNTS: [usize; 4] = [1, 10, 100, 1000];

    /// `/service-N/v1`, and `/` for the rest.
    fn asked(path: &str) -> Asked<'_> {
        static NO_FIELDS: Fields = Fields::new();
        Asked { host: b"", path, method: &Method::GET, fields: &NO_FIELDS }
    }

    fn table(routes: usize) -> RouteTable<usize> {
        let key = |prefix: Prefix| RouteKey { hosts: Vec::new(), prefix, conditions: Conditions::default() };
        let mut entries = vec![(key(Prefix::root()), 0)];
        entries.extend((1..routes).map(|number| {
            let prefix = Prefix::parse(&format!("/service-{number}/v1")).unwrap();
            (key(prefix), number)
        }));
        RouteTable::new(entries)
    }

    #[divan::bench(args = COUNTS)]
    fn found(bencher: Bencher<'_, '_>, routes: usize) {
        let table = table(routes);
        let path = format!("/service-{}/v1/orders/17", routes / 2);
        bencher.bench(|| *table.find(&asked(black_box(&path))).unwrap().route);
    }

    #[divan::bench(args = COUNTS)]
    fn only_the_root(bencher: Bencher<'_, '_>, routes: usize) {
        let table = table(routes);
        bencher.bench(|| *table.find(&asked(black_box("/something/else/entirely"))).unwrap().route);
    }
}

mod pick {
    use super::*;

    const ALGORITHMS: [&str; 6] = [
        "round_robin",
        "least_connections",
        "random_two_choices",
        "weighted_round_robin",
        "least_time",
        "consistent_hash",
    ];
    const BACKENDS: [usize; 3] = [3, 30, 300];

    fn route(algorithm: &str, backends: usize) -> Route {
        let addrs: Vec<String> =
            (0..backends).map(|number| format!("\"127.0.0.1:{}\"", 9000 + number)).collect();
        let text = format!(
            "listen_addr = \"127.0.0.1:3000\"\n[[routes]]\nprefix = \"/\"\n\
             balancing_algorithm = \"{algorithm}\"\nbackend_addrs = [{}]\n",
            addrs.join(", ")
        );
        Route::build(&Config::parse(&text, "benchmark").unwrap().routes[0]).unwrap()
    }

    /// The algorithm by itself, each exchange over at once.
    fn algorithm(bencher: Bencher<'_, '_>, route: &Route) {
        let balancer = balancer(route.config(), &route.backends());
        let head = parsed("browser");
        let request = PickRequest { client: Ipv4Addr::LOCALHOST.into(), fields: &head.fields, turn: None };
        bencher.bench(|| balancer.pick(black_box(&request), &Backend::is_healthy).unwrap());
    }

    #[divan::bench(args = ALGORITHMS, consts = BACKENDS)]
    fn one_thread<const BACKENDS: usize>(bencher: Bencher<'_, '_>, name: &str) {
        algorithm(bencher, &route(name, BACKENDS));
    }

    /// Every tenth backend is ill, with 3 one of the three.
    #[divan::bench(args = ALGORITHMS, consts = BACKENDS)]
    fn one_in_ten_ill<const BACKENDS: usize>(bencher: Bencher<'_, '_>, name: &str) {
        let route = route(name, BACKENDS);
        for backend in route.backends().iter().step_by(10) {
            backend.set_healthy(false);
        }
        algorithm(bencher, &route);
    }

    #[divan::bench(args = ALGORITHMS, consts = BACKENDS, threads = 8)]
    fn eight_threads<const BACKENDS: usize>(bencher: Bencher<'_, '_>, name: &str) {
        algorithm(bencher, &route(name, BACKENDS));
    }

    /// What the gateway asks: limits of the backends, those tried before and those taken out considered.
    #[divan::bench(args = BACKENDS, threads = [1, 8])]
    fn of_a_route(bencher: Bencher<'_, '_>, backends: usize) {
        let route = route("round_robin", backends);
        let head = parsed("browser");
        let request = PickRequest { client: Ipv4Addr::LOCALHOST.into(), fields: &head.fields, turn: None };
        bencher.bench(|| {
            let pick = route.pick(black_box(&request), &[]);
            assert!(matches!(pick, Pick::Backend(_)));
            pick
        });
    }
}

mod chunked {
    use super::*;

    const TOTAL: usize = 64 * 1024;
    const SIZES: [usize; 3] = [64, 1024, 16 * 1024];

    fn encoded(size: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(2 * TOTAL);
        for _ in 0..TOTAL / size {
            encode_head(size, &mut body);
            body.resize(body.len() + size, b'x');
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(LAST_CHUNK);
        body
    }

    /// 64 KiB in chunks of so many bytes.
    #[divan::bench(args = SIZES)]
    fn decode(bencher: Bencher<'_, '_>, size: usize) {
        let body = encoded(size);
        let mut output = vec![0; TOTAL];
        bencher.counter(BytesCount::new(TOTAL)).bench_local(|| {
            let mut decoder = Decoder::new();
            let (mut read, mut written) = (0, 0);
            while !decoder.is_done() {
                let step = decoder.decode(black_box(&body[read..]), &mut output[written..]).unwrap();
                read += step.consumed;
                written += step.produced;
            }
            assert_eq!(written, TOTAL);
        });
    }

    /// The same the other way round, into one buffer.
    #[divan::bench(args = SIZES)]
    fn encode(bencher: Bencher<'_, '_>, size: usize) {
        let data = vec![b'x'; size];
        let mut body = Vec::with_capacity(2 * TOTAL);
        bencher.counter(BytesCount::new(TOTAL)).bench_local(|| {
            body.clear();
            for _ in 0..TOTAL / size {
                encode_head(black_box(size), &mut body);
                body.extend_from_slice(black_box(&data));
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(LAST_CHUNK);
        });
    }
}
