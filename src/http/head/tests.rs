use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { max_header_bytes: 8192, max_headers: 100 };

fn parse(head: impl AsRef<[u8]>) -> Result<RequestHead, (u16, &'static str)> {
    RequestHead::parse(Bytes::copy_from_slice(head.as_ref()), &LIMITS).map_err(|e| (e.status(), e.word()))
}

fn refused(head: impl AsRef<[u8]>) -> (u16, &'static str) {
    parse(&head).expect_err(&String::from_utf8_lossy(head.as_ref()))
}

/// A head with these field lines and a Host.
fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

const BAD_REQUEST: (u16, &str) = (400, "bad_request");
const BAD_HOST: (u16, &str) = (400, "bad_host");

#[test]
fn an_ordinary_request() {
    let head = "GET /a/b?c HTTP/1.1\r\nHost: example.com:80\r\nX-A: 1 \t\r\naccept:\t*/*\r\nX-a: 2\r\nEmpty:\r\n\r\n";
    let head = parse(head).unwrap();
    assert_eq!(head.method, Method::GET);
    assert_eq!(head.target.as_str(), "/a/b?c");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, BodyFraming::None);
    assert_eq!(head.host, "example.com:80");
    assert!(head.keep_alive && !head.expect_continue && !head.upgrade);
    let lines: Vec<_> = head.fields.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    let expected = [("host", "example.com:80"), ("x-a", "1"), ("accept", "*/*"), ("x-a", "2"), ("empty", "")];
    assert_eq!(lines, expected);
}

#[test]
fn values_are_slices_of_the_buffer() {
    let bytes = Bytes::from(with("X-A: value\r\n"));
    let range = bytes.as_ptr_range();
    let head = RequestHead::parse(bytes.clone(), &LIMITS).unwrap();
    let value = head.fields.iter().last().unwrap().1;
    assert!(range.contains(&value.as_bytes().as_ptr()));
    assert!(range.contains(&head.target.as_str().as_ptr()));
}

#[test]
fn whether_the_connection_is_kept() {
    let keep = |version: &str, connection: &str| {
        parse(format!("GET / HTTP/{version}\r\nHost: h\r\n{connection}\r\n")).unwrap().keep_alive
    };
    assert!(keep("1.1", ""));
    assert!(keep("1.1", "Connection: keep-alive\r\n"));
    assert!(keep("1.1", "Connection: x-close\r\n"));
    assert!(!keep("1.1", "Connection: x, Close\r\n"));
    assert!(!keep("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
    assert!(!keep("1.0", ""));
    assert!(keep("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keep("1.0", "Connection: keep-alive, close\r\n"));
    assert!(!keep("1.0", "Proxy-Connection: keep-alive\r\n"));
}

#[test]
fn expectations() {
    assert!(parse(with("Expect: 100-Continue\r\n")).unwrap().expect_continue);
    assert!(parse(with("Expect: ,100-continue,\r\nExpect: 100-continue\r\n")).unwrap().expect_continue);
    assert!(!parse(with("Expect:\r\n")).unwrap().expect_continue);
    for value in ["x", "100-continue, x", "100-continue=1", "100"] {
        assert_eq!(refused(with(&format!("Expect: {value}\r\n"))), (417, "unknown_expectation"), "{value}");
    }
    assert!(!parse("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").unwrap().expect_continue);
    assert!(!parse("GET / HTTP/1.0\r\nExpect: x\r\n\r\n").unwrap().expect_continue);
}

#[test]
fn upgrades() {
    let upgrade = |lines: &str| parse(with(lines)).unwrap().upgrade;
    assert!(upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
    assert!(upgrade("Connection: keep-alive, upgrade\r\nUpgrade: x/1, y\r\n"));
    assert!(!upgrade("Upgrade: websocket\r\n"));
    assert!(!upgrade("Connection: upgrade\r\n"));
    assert!(!upgrade("Connection: upgrade\r\nUpgrade: ,\r\n"));
    assert!(!upgrade("Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"));
    assert!(!upgrade("Connection: upgrade\r\nUpgrade: websocket, H2C\r\n"));
    let old = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(!parse(old).unwrap().upgrade);
}

#[test]
fn the_effective_host() {
    let host = |head: &str| parse(head).unwrap().host;
    assert_eq!(host("GET / HTTP/1.1\r\nHost:\r\n\r\n"), "");
    assert_eq!(host("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), "[::1]:80");
    assert_eq!(host("GET http://a:1/ HTTP/1.1\r\nHost: b\r\n\r\n"), "a:1");
    assert_eq!(host("GET http://a HTTP/1.0\r\n\r\n"), "a");
    assert_eq!(host("GET / HTTP/1.0\r\n\r\n"), "");
    assert_eq!(host("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), "h");
}

#[test]
fn bad_hosts() {
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), BAD_HOST);
    assert_eq!(refused("GET http://h/ HTTP/1.1\r\n\r\n"), BAD_HOST);
    assert_eq!(refused(with("host: h\r\n")), BAD_HOST);
    assert_eq!(refused("GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n"), BAD_HOST);
    assert_eq!(refused("GET / HTTP/1.0\r\nHost: a b\r\n\r\n"), BAD_HOST);
    for host in ["u@h", "a b", "a/b", "h?", "h#", "h:x", "h, h", "[::1", "h\t", "\u{e4}"] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}x\r\n\r\n");
        assert_eq!(refused(head), BAD_HOST, "{host:?}");
    }
}

#[test]
fn methods() {
    for method in ["get", "PROPFIND", "M-SEARCH", "X!#$%&'*+-.^_`|~9", "QUERY"] {
        assert_eq!(parse(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap().method.as_str(), method);
    }
    let long = "A".repeat(MAX_METHOD_LEN);
    assert!(parse(format!("{long} / HTTP/1.1\r\nHost: h\r\n\r\n")).is_ok());
    assert_eq!(refused(format!("{long}A / HTTP/1.1\r\nHost: h\r\n\r\n")), (501, "unknown_method"));
    let connect = (405, "method_not_allowed");
    assert_eq!(refused("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"), connect);
    assert_eq!(refused("CONNECT / HTTP/1.1\r\nHost: h:443\r\n\r\n"), connect);
}

#[test]
fn malformed_request_lines() {
    let bad = [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        " GET / HTTP/1.1",
        "GET / a HTTP/1.1",
        "GET /",
        "GET",
        "GET / http/1.1",
        "GET / HTTP/",
        "GET / HTTP/x",
        "GET /HTTP/1.1",
        "GE(T / HTTP/1.1",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
        "GET / HTTPS/1.1",
        "GET /\u{7f} HTTP/1.1",
    ];
    for line in bad {
        assert_eq!(refused(format!("{line}\r\nHost: h\r\n\r\n")), BAD_REQUEST, "{line:?}");
    }
    assert_eq!(refused(b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n"), BAD_REQUEST);
    assert_eq!(refused("GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n"), (400, "bad_target"));
    assert_eq!(refused("GET /.. HTTP/1.1\r\nHost: h\r\n\r\n"), (400, "bad_target"));
    assert_eq!(refused("GET * HTTP/1.1\r\nHost: h\r\n\r\n"), (400, "bad_target"));
    assert_eq!(refused("GET /#f HTTP/1.1\r\nHost: h\r\n\r\n"), (400, "bad_target"));
}

#[test]
fn other_versions() {
    let head = |version: &str| format!("GET / {version}\r\nHost: h\r\n\r\n");
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/3.0"] {
        assert_eq!(refused(head(version)), (505, "version_not_supported"), "{version}");
    }
    for version in ["HTTP/2", "HTTP/1", "HTTP/1.10", "HTTP/1.", "HTTP/11", "HTTP/01.1", "HTTP/1.x"] {
        assert_eq!(refused(head(version)), (400, "bad_request"), "{version}");
    }
    for version in ["HTTP/1.2", "HTTP/1.9"] {
        assert_eq!(parse(head(version)).unwrap().version, Version::Http11, "{version}");
        assert_eq!(parse(format!("\r\n{}", head(version))).unwrap().version, Version::Http11, "{version}");
    }
    assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (505, "version_not_supported"));
}

#[test]
fn malformed_fields() {
    let bad = [
        "A : b\r\n",
        "A\t: b\r\n",
        ": b\r\n",
        "A\r\n",
        "A b: c\r\n",
        "A(: b\r\n",
        "\u{e4}: b\r\n",
        "A: b\r\n c\r\n",
        "A: b\r\n\tc\r\n",
        "A:\r\n b\r\n",
        "A: b\u{7f}\r\n",
        "A\": b\r\n",
        "A;: b\r\n",
        " \r\n",
    ];
    for line in bad {
        assert_eq!(refused(with(line)), BAD_REQUEST, "{line:?}");
    }
    // Whitespace before the first field.
    assert_eq!(refused("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), BAD_REQUEST);
    assert_eq!(refused("GET / HTTP/1.1\r\n\tX: y\r\nHost: h\r\n\r\n"), BAD_REQUEST);
}

#[test]
fn control_characters_anywhere() {
    for b in (0..b' ').filter(|b| *b != b'\t') {
        for place in [0, 2, 4, 10, 15, 18, 22, 23] {
            let mut head = with("").into_bytes();
            head.insert(place, b);
            assert_eq!(refused(&head), BAD_REQUEST, "{b:#x} at {place}");
        }
    }
    for head in
        ["GET / HTTP/1.1\nHost: h\n\n", "GET / HTTP/1.1\r\nHost: h\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\n"]
    {
        assert_eq!(refused(head), BAD_REQUEST, "{head:?}");
    }
    assert_eq!(refused("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), BAD_REQUEST);
    assert_eq!(refused(with("A: b\r\rc\r\n")), BAD_REQUEST);
    assert_eq!(refused(with("A: b\rc\r\n")), BAD_REQUEST);
}

#[test]
fn bytes_above_ascii_pass_in_values() {
    let head = b"GET / HTTP/1.1\r\nHost: h\r\nA: \x80\xff\tz\r\n\r\n";
    assert_eq!(parse(head).unwrap().fields.iter().last().unwrap().1.as_bytes(), b"\x80\xff\tz");
}

#[test]
fn framing_is_decided_by_its_own_rules() {
    assert_eq!(parse(with("Content-Length: 5\r\n")).unwrap().framing, BodyFraming::Length(5));
    assert_eq!(parse(with("Transfer-Encoding: chunked\r\n")).unwrap().framing, BodyFraming::Chunked);
    assert_eq!(refused(with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")), (400, "bad_framing"));
    assert_eq!(refused(with("Content-Length: 5\r\ncontent-length: 6\r\n")), (400, "bad_framing"));
    assert_eq!(refused(with("Content-Length:\r\n")), (400, "bad_framing"));
    assert_eq!(refused(with("Transfer-Encoding: gzip\r\n")), (501, "unknown_transfer_coding"));
    // Neither a name that isn't one nor a folded line hides a length.
    assert_eq!(refused(with("Content-Length : 5\r\n")), BAD_REQUEST);
    assert_eq!(refused(with("Content-Length: 5\r\n 6\r\n")), BAD_REQUEST);
}

#[test]
fn only_a_whole_head_and_nothing_else() {
    assert_eq!(refused(""), BAD_REQUEST);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: h\r\n"), BAD_REQUEST);
    assert_eq!(refused(with("") + "x"), BAD_REQUEST);
    assert!(parse(format!("\r\n\r\n{}", with(""))).is_ok());
    assert_eq!(refused(format!("\r\n\r\n\r\n{}", with(""))), BAD_REQUEST);
}

#[test]
fn fields_are_counted() {
    for max_headers in [0, 1, 2, 127, 128, 129, 1000] {
        let limits = HeadLimits { max_headers, max_header_bytes: 1 << 16 };
        let head = |n: usize| Bytes::from(format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(n)));
        assert!(RequestHead::parse(head(max_headers), &limits).is_ok(), "{max_headers}");
        let error = RequestHead::parse(head(max_headers + 1), &limits).unwrap_err();
        assert_eq!((error.status(), error.word()), (431, "head_too_large"), "{max_headers}");
    }
}

#[test]
fn too_many_connection_options() {
    let names = (0..100).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
    assert_eq!(refused(with(&format!("Connection: {names}\r\n"))), BAD_REQUEST);
}

#[test]
fn from_parts_obeys_the_same_rules() {
    let parts = |method: &str, target: &str, version, fields: &[(&str, &str)]| {
        let fields = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
        RequestHead::from_parts(method.as_bytes(), target.as_bytes(), version, fields, &LIMITS)
            .map_err(|e| (e.status(), e.word()))
    };
    let host = ("Host", " h ");
    let head = parts("POST", "/a", Version::Http11, &[host, ("Content-Length", "3")]).unwrap();
    assert_eq!((head.host.as_bytes(), head.framing), (&b"h"[..], BodyFraming::Length(3)));
    let bad =
        |method, target, fields: &[(&str, &str)]| parts(method, target, Version::Http11, fields).unwrap_err();
    assert_eq!(bad("GET", "/", &[]), BAD_HOST);
    assert_eq!(bad("", "/", &[host]), BAD_REQUEST);
    assert_eq!(bad("GE T", "/", &[host]), BAD_REQUEST);
    assert_eq!(bad("GET", "/ HTTP/1.1\r\n", &[host]), BAD_REQUEST);
    assert_eq!(bad("GET", "", &[host]), (400, "bad_target"));
    assert_eq!(bad("GET", "/..", &[host]), (400, "bad_target"));
    assert_eq!(bad("CONNECT", "h:1", &[host]), (405, "method_not_allowed"));
    assert_eq!(bad("GET", "/", &[host, ("A B", "c")]), BAD_REQUEST);
    assert_eq!(bad("GET", "/", &[host, ("A", "c\r\nd")]), BAD_REQUEST);
    assert_eq!(bad("GET", "/", &[host, ("A", "\0")]), BAD_REQUEST);
    assert_eq!(bad("GET", "/", &[host; 2]), BAD_HOST);
    assert_eq!(bad("GET", "/", &[("a", "b"); 101]), (431, "head_too_large"));
    assert_eq!(bad("GET", "/", &[("a", &"b".repeat(8192))]), (431, "head_too_large"));
    assert_eq!(bad("GET", &"/".repeat(8192), &[host]), (414, "uri_too_long"));
}

/// Scans pieces that end at `cuts`, as the thread that reads does. The result without `scanned`, and how many
/// bytes had arrived when it was clear.
fn scan_pieces(input: &[u8], cuts: &[usize], limits: &HeadLimits) -> Scan {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    ends.push(input.len());
    ends.sort_unstable();
    let mut from = 0;
    for end in ends {
        match scan(&input[..end], from, limits) {
            Scan::Incomplete { scanned } => {
                assert!((from..=end).contains(&scanned) && end - scanned <= 1, "{from} {scanned} {end}");
                from = scanned;
            }
            found => return found,
        }
    }
    Scan::Incomplete { scanned: from }
}

fn scan_all(input: impl AsRef<[u8]>) -> Scan {
    let input = input.as_ref();
    let whole = scan(input, 0, &LIMITS);
    let every_byte: Vec<usize> = (0..input.len()).collect();
    assert_eq!(scan_pieces(input, &every_byte, &LIMITS), whole);
    whole
}

fn scan_error(input: impl AsRef<[u8]>) -> (u16, &'static str) {
    match scan_all(&input) {
        Scan::Bad(error) => (error.status(), error.word()),
        other => panic!("{other:?} for {:?}", String::from_utf8_lossy(input.as_ref())),
    }
}

#[test]
fn the_end_is_found() {
    let head = with("A: b\r\n");
    assert_eq!(scan_all(&head), Scan::Complete { len: head.len() });
    assert_eq!(scan_all(format!("{head}body\0\n")), Scan::Complete { len: head.len() });
    assert_eq!(scan_all(format!("\r\n\r\n{head}")), Scan::Complete { len: head.len() + 4 });
    assert_eq!(scan_all("GET / HTTP/1.0\r\n\r\n"), Scan::Complete { len: 18 });
    assert_eq!(scan_all(&head[..head.len() - 1]), Scan::Incomplete { scanned: head.len() - 2 });
    assert_eq!(scan_all("GET / HTT"), Scan::Incomplete { scanned: 9 });
    assert_eq!(scan_all(""), Scan::Incomplete { scanned: 0 });
    assert_eq!(scan_all("\r"), Scan::Incomplete { scanned: 0 });
    assert_eq!(scan_all("\r\n\r"), Scan::Incomplete { scanned: 2 });
}

#[test]
fn what_cannot_become_a_request_is_refused_at_once() {
    // A TLS ClientHello, its SSL 2 form, the PROXY protocol v2, whitespace, a fourth empty line.
    for input in
        [&b"\x16"[..], b"\x80\x2e", b"\r\n\r\n\0", b" ", b"\t", b"\n", b"\r\n\r\n\r\n", b"\x16\x03\x01\x02"]
    {
        assert_eq!(scan_error(input), BAD_REQUEST, "{input:?}");
    }
    assert_eq!(scan_error("PRI * HTTP/2.0\r\n"), (505, "version_not_supported"));
    assert_eq!(scan_error("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (505, "version_not_supported"));
    assert_eq!(scan_error("SSH-2.0-OpenSSH_9.6\r\n"), BAD_REQUEST);
    assert_eq!(scan_error("GET /\r\n"), BAD_REQUEST);
    assert_eq!(scan_error("GET / HTTP/1.1\rX"), BAD_REQUEST);
    assert_eq!(scan_error("GET / HTTP/1.1\n"), BAD_REQUEST);
    assert_eq!(scan_error("GET /\0"), BAD_REQUEST);
    assert_eq!(scan_error("\rG"), BAD_REQUEST);
}

#[test]
fn size_is_bounded() {
    let limit = LIMITS.max_header_bytes;
    let frame = with("A: \r\n").len();
    let head = |len: usize| with(&format!("A: {}\r\n", "b".repeat(len - frame)));
    assert_eq!(scan_all(head(limit)), Scan::Complete { len: limit });
    assert_eq!(scan_error(head(limit + 1)), (431, "head_too_large"));
    assert_eq!(scan_error(head(limit + 1000)), (431, "head_too_large"));
    assert_eq!(scan_error("a".repeat(limit)), (414, "uri_too_long"));
    assert_eq!(scan_all("a".repeat(limit - 1)), Scan::Incomplete { scanned: limit - 1 });
    assert_eq!(scan_error(format!("\r\nGET {} HTTP/1.1\r\n\r\n", "/".repeat(limit))), (414, "uri_too_long"));
    for max_header_bytes in 0..20 {
        let limits = HeadLimits { max_header_bytes, max_headers: 1 };
        for input in ["", "\r", "\r\n", "\r\n\r\n", "\r\n\r\nG", "GET / HTTP/1.0\r\n\r\n"] {
            let every_byte: Vec<usize> = (0..input.len()).collect();
            assert_eq!(
                scan(input.as_bytes(), 0, &limits),
                scan_pieces(input.as_bytes(), &every_byte, &limits)
            );
        }
    }
}

#[test]
fn an_offset_beyond_the_bytes_is_harmless() {
    assert_eq!(scan(b"GET", 100, &LIMITS), Scan::Incomplete { scanned: 3 });
}

/// Bytes that look like a head more often than random ones do.
fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let lines = vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n",
        "Host: h\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: x\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "A : b\r\n",
        " c\r\n",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "\n",
        "GET ",
        "HTTP/1.1",
        ":",
    ];
    let piece = prop_oneof![
        8 => proptest::sample::select(lines).prop_map(|line| line.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..3),
    ];
    let begin = prop_oneof![3 => Just("GET / HTTP/1.1\r\nHost: h\r\n"), 1 => Just("")];
    (begin, vec(piece, 0..10)).prop_map(|(begin, pieces)| [begin.as_bytes(), &pieces.concat()].concat())
}

const TOKEN: &str = "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}";

fn ordinary_line() -> impl Strategy<Value = (String, String)> {
    // No name that has a meaning here.
    let value = "([!-~\u{80}-\u{ff}]([ -~\u{80}-\u{ff}\t]{0,20}[!-~\u{80}-\u{ff}])?)?";
    (TOKEN.prop_map(|name| format!("x{name}")), value)
}

/// The bytes of a head, white space around the values as given.
fn write(method: &str, target: &str, lines: &[(String, String)], spaces: &[Range<usize>]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n");
    for ((name, value), space) in lines.iter().zip(spaces.iter().cycle()) {
        let (before, after) = (" ".repeat(space.start), "\t".repeat(space.end));
        head.push_str(&format!("{name}:{before}{value}{after}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

proptest! {
    #[test]
    fn any_division_scans_alike(input in nearly_a_head(), cuts in vec(any::<usize>(), 0..8), limit in 0_usize..300) {
        for limits in [LIMITS, HeadLimits { max_header_bytes: limit, ..LIMITS }] {
            let whole = scan(&input, 0, &limits);
            prop_assert_eq!(scan_pieces(&input, &cuts, &limits), whole);
            let every_byte: Vec<usize> = (0..input.len()).collect();
            prop_assert_eq!(scan_pieces(&input, &every_byte, &limits), whole);
        }
    }

    #[test]
    fn what_is_accepted_is_consistent(input in nearly_a_head()) {
        match scan(&input, 0, &LIMITS) {
            Scan::Complete { len } => prop_assert!(len <= input.len()),
            _ => prop_assert!(RequestHead::parse(Bytes::from(input), &LIMITS).is_err()),
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_quietly(input in vec(any::<u8>(), 0..100)) {
        let _ = parse(&input);
    }

    #[test]
    fn valid_parts_come_back(
        method in TOKEN.prop_filter("known to be refused", |method| method != "CONNECT"),
        target in "/([!$-;=@-Z_a-z~]|%[0-9a-f]{2}){0,20}(\\?[!$-;=?-Z_a-z~/]{0,10})?"
            .prop_filter("climbs", |target| !target.contains("..") && !target.contains("%2e")),
        lines in vec(ordinary_line(), 0..6),
        spaces in vec((0_usize..3, 0_usize..3).prop_map(|(a, b)| a..b), 1..3),
    ) {
        let head = RequestHead::parse(write(&method, &target, &lines, &spaces).into(), &LIMITS).unwrap();
        prop_assert_eq!(head.method.as_str(), &method);
        prop_assert_eq!(head.target.as_str(), &target);
        prop_assert_eq!(head.framing, BodyFraming::None);
        let parsed: Vec<_> = head.fields.iter().skip(1)
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8(value.as_bytes().to_vec()).unwrap()))
            .collect();
        let expected: Vec<_> = lines.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone())).collect();
        prop_assert_eq!(parsed, expected);

        let host = [(&b"Host"[..], &b"h"[..])];
        let fields = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let again = RequestHead::from_parts(
            method.as_bytes(), target.as_bytes(), Version::Http11, host.into_iter().chain(fields), &LIMITS,
        ).unwrap();
        prop_assert_eq!(again.fields, head.fields);
        prop_assert_eq!(again.target.as_str(), head.target.as_str());
    }
}

#[test]
fn the_first_control_character_is_found_wherever_it_is() {
    for filling in [b'a', b'\t', b' ', 0x7f, 0x80, 0xff] {
        for (len, from) in (0..20).flat_map(|len| (0..=len).map(move |from| (len, from))) {
            assert_eq!(find_control(&vec![filling; len], from), None);
            for (at, control) in (from..len).flat_map(|at| [0, 1, b'\n', b'\r', 0x1f].map(|b| (at, b))) {
                let mut bytes = vec![filling; len];
                bytes[at] = control;
                assert_eq!(find_control(&bytes, from), Some(at), "{bytes:?}");
                bytes[at..].fill(control);
                assert_eq!(find_control(&bytes, from), Some(at), "{bytes:?}");
            }
        }
    }
}
