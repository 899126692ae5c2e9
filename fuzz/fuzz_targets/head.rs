//! Any bytes a client may send as a request head.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use reverse_proxy::http::framing::BodyFraming;
use reverse_proxy::http::head::{HeadLimits, RequestHead, Scan, Version, scan};
use reverse_proxy::http::hop_by_hop::crosses;

const LIMITS: HeadLimits = HeadLimits { max_header_bytes: 2048, max_headers: 20 };

fuzz_target!(|input: &[u8]| {
    let whole = scan(input, 0, &LIMITS);
    assert_eq!(scan_byte_by_byte(input), whole, "the verdict depends on how the bytes arrive");

    let Scan::Complete { len } = whole else {
        assert!(RequestHead::parse(Bytes::copy_from_slice(input), &LIMITS).is_err());
        return;
    };
    assert!(len <= LIMITS.max_header_bytes && input[..len].ends_with(b"\r\n\r\n"));
    let bytes = Bytes::copy_from_slice(&input[..len]);
    let Ok(head) = RequestHead::parse(bytes.clone(), &LIMITS) else {
        return;
    };
    assert_eq!(naive_framing(&bytes), head.framing);
    check(&head);

    let again = RequestHead::parse(write(&head).into(), &LIMITS);
    assert_same(&head, &again.expect("an accepted head is refused when written anew"));
    let again = RequestHead::from_parts(
        head.method.as_str().as_bytes(),
        head.target.as_str().as_bytes(),
        head.version,
        head.fields.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())),
        &LIMITS,
    );
    assert_same(&head, &again.expect("the parts of an accepted head are refused"));
});

fn scan_byte_by_byte(input: &[u8]) -> Scan {
    let mut from = 0;
    for end in 0..=input.len() {
        match scan(&input[..end], from, &LIMITS) {
            Scan::Incomplete { scanned } => {
                assert!(from <= scanned && scanned <= end);
                from = scanned;
            }
            found => return found,
        }
    }
    Scan::Incomplete { scanned: from }
}

/// What holds for every head that is accepted.
fn check(head: &RequestHead) {
    assert_ne!(head.method.as_str(), "CONNECT");
    assert!(head.method.as_str().len() <= 32);
    assert!(head.fields.len() <= LIMITS.max_headers);
    for (_, value) in head.fields.iter() {
        let value = value.as_bytes();
        assert!(value.iter().all(|&b| b == b'\t' || (b >= b' ' && b != 0x7f)));
        assert_eq!(value.trim_ascii(), value);
    }
    let hosts = head.fields.iter().filter(|(name, _)| name.as_str() == "host").count();
    assert!(hosts == 1 || (hosts == 0 && head.version == Version::Http10));
    assert!(!head.host.as_bytes().iter().any(|b| b" \t/?#@\\\"<>".contains(b)));

    let target = head.target.as_str();
    assert!(target.starts_with('/') || (target == "*" && head.method.as_str() == "OPTIONS"));
    assert!(!target.contains(['#', ' ']));
    let path = head.target.routing_path();
    assert!(path.starts_with('/') && !path.contains('?'));
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")));

    if head.version == Version::Http10 {
        assert!(!head.upgrade && !head.expect_continue && head.framing != BodyFraming::Chunked);
    }
    for (name, _) in head.fields.iter() {
        let protected =
            name == "host" || name == "content-length" || name.as_str().starts_with("x-forwarded-");
        let dropped =
            name == "connection" || name == "transfer-encoding" || name == "upgrade" || name == "te";
        let crosses = crosses(name, &head.connection);
        assert!(!(protected && !crosses) && !(dropped && crosses));
    }
}

fn assert_same(a: &RequestHead, b: &RequestHead) {
    assert_eq!(a.method, b.method);
    assert_eq!(a.target.as_str(), b.target.as_str());
    assert_eq!(a.target.routing_path(), b.target.routing_path());
    assert_eq!(a.version, b.version);
    assert_eq!(a.fields, b.fields);
    assert_eq!(a.framing, b.framing);
    assert_eq!(a.connection, b.connection);
    assert_eq!((a.keep_alive, a.upgrade, a.expect_continue), (b.keep_alive, b.upgrade, b.expect_continue));
}

fn write(head: &RequestHead) -> Vec<u8> {
    let version = if head.version == Version::Http10 { "1.0" } else { "1.1" };
    let mut bytes = format!("{} {} HTTP/{version}\r\n", head.method, head.target.as_str()).into_bytes();
    for (name, value) in head.fields.iter() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.push(b':');
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// What another reader of an accepted head would find: one that looks for lines that mention the names, whatever
/// is around them, and panics if it finds more than it can explain.
fn naive_framing(head: &[u8]) -> BodyFraming {
    let text: String = head.iter().map(|&b| char::from(b).to_ascii_lowercase()).collect();
    let values = |name: &str| -> Vec<String> {
        text.split(['\r', '\n'])
            .skip_while(|line| line.is_empty())
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| found.trim() == name)
            .map(|(_, value)| value.trim_matches([' ', '\t']).to_owned())
            .collect()
    };
    match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => BodyFraming::None,
        ([length], []) => BodyFraming::Length(length.parse().expect("a length")),
        ([], [coding]) if coding == "chunked" => BodyFraming::Chunked,
        found => panic!("accepted: {found:?}"),
    }
}
