//! Any bytes a backend may answer with, beside what httparse makes of them.
#![no_main]

use bytes::Bytes;
use http::Method;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use reverse_proxy::http::head::Version;
use reverse_proxy::http::hop_by_hop::crosses;
use reverse_proxy::http::response_head::{
    MAX_FIELDS, MAX_HEAD, ResponseFraming, ResponseHead, ResponseScan, scan,
};
use reverse_proxy::http::response_out::{Added, Delimited, write_response_head};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    is_head: bool,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let Input { is_head, bytes } = input;
    let method = if is_head { Method::HEAD } else { Method::GET };
    let whole = scan(bytes, 0);
    assert_eq!(scan_byte_by_byte(bytes), whole, "the verdict depends on how the bytes arrive");

    let ResponseScan::Complete { len } = whole else {
        if let ResponseScan::Bad(_) = whole {
            assert!(httparse_view(bytes).is_none_or(|_| breaks_a_rule(bytes)), "refused without a reason");
        }
        return;
    };
    assert!(len <= MAX_HEAD && bytes[..len].ends_with(b"\r\n\r\n"));
    let bytes = Bytes::copy_from_slice(&bytes[..len]);
    let view = httparse_view(&bytes);
    let Ok(head) = ResponseHead::parse(&bytes, &method) else {
        assert!(view.is_none_or(|_| breaks_a_rule(&bytes)), "refused without a reason");
        return;
    };
    let naive = naive_framing(&bytes, head.status.as_u16(), &method);
    assert_eq!(naive, head.framing);
    // A later minor version is read as 1.1 by us, and not at all by httparse.
    if let Some((status, fields)) = view {
        assert_eq!(status, head.status.as_u16());
        let ours =
            head.fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
        assert_eq!(ours.collect::<Vec<_>>(), fields);
    } else {
        assert!(!matches!(bytes[7], b'0' | b'1'), "accepted what httparse refuses");
    }
    check_written(&head, &method);
});

fn scan_byte_by_byte(input: &[u8]) -> ResponseScan {
    let mut from = 0;
    for end in 0..=input.len() {
        match scan(&input[..end], from) {
            ResponseScan::Incomplete { scanned } => {
                assert!(from <= scanned && scanned <= end);
                from = scanned;
            }
            found => return found,
        }
    }
    ResponseScan::Incomplete { scanned: from }
}

type View = (u16, Vec<(String, Vec<u8>)>);

/// Status and fields as httparse finds them.
fn httparse_view(bytes: &[u8]) -> Option<View> {
    let mut fields = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return None,
    }
    let fields = response.headers.iter();
    let fields = fields.map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect();
    Some((response.code?, fields))
}

/// Whether one of the rules is broken that httparse leaves to its callers.
fn breaks_a_rule(bytes: &[u8]) -> bool {
    let text: String = bytes.iter().map(|&b| char::from(b).to_ascii_lowercase()).collect();
    // RFC 9112 §2.2: a line ends with CRLF, and nothing comes before the status line.
    let has_bare = text.replace("\r\n", "").contains(['\r', '\n']);
    let begins_late = !text.starts_with("http/1.");
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    // §5: no control character but a tab.
    let has_control = head.replace("\r\n", "").chars().any(|c| c.is_ascii_control() && c != '\t');
    // RFC 9110 §15: three digits, the first of which is no 0.
    let is_low = head.get(9..10).is_some_and(|digit| digit == "0");
    // RFC 9112 §6.3: framing that may be misunderstood is what these lines are refused for.
    let frames = ["content-length", "transfer-encoding", "connection"].iter().any(|name| head.contains(name));
    has_bare || begins_late || has_control || is_low || frames || text.len() > MAX_HEAD
}

/// What another reader would find, one that looks for lines with these names and panics at more than it can explain.
fn naive_framing(head: &[u8], status: u16, method: &Method) -> ResponseFraming {
    let text: String = head.iter().map(|&b| char::from(b).to_ascii_lowercase()).collect();
    let values = |name: &str| -> Vec<String> {
        text.split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| found.trim() == name)
            .map(|(_, value)| value.trim_matches([' ', '\t']).to_owned())
            .collect()
    };
    let lengths = values("content-length");
    let mut lengths: Vec<u64> = lengths
        .iter()
        .flat_map(|value| value.split(','))
        .map(|number| number.trim_matches([' ', '\t']).parse().expect("a length"))
        .collect();
    lengths.dedup();
    let framing = match (&lengths[..], &values("transfer-encoding")[..]) {
        ([], []) => ResponseFraming::UntilClose,
        ([length], []) => ResponseFraming::Length(*length),
        ([], [coding]) if coding == "chunked" => ResponseFraming::Chunked,
        found => panic!("accepted: {found:?}"),
    };
    let has_no_body = method == Method::HEAD || matches!(status, 100..=199 | 204 | 304);
    if has_no_body { ResponseFraming::None } else { framing }
}

/// What the client gets means the same, and holds nothing that was about the other connection.
fn check_written(head: &ResponseHead, method: &Method) {
    if head.status.is_informational() {
        return;
    }
    let to = match head.framing {
        ResponseFraming::None => Delimited::NoBody,
        ResponseFraming::Length(length) => Delimited::Length(length),
        ResponseFraming::Chunked | ResponseFraming::UntilClose => Delimited::Chunked,
    };
    let mut out = Vec::new();
    let added = Added { request_id: b"id", cookie: None, hsts: None };
    write_response_head(&mut out, head, to, Version::Http11, true, &added);
    let out = Bytes::from(out);
    assert_eq!(scan(&out, 0), ResponseScan::Complete { len: out.len() });
    let again = ResponseHead::parse(&out, method).expect("what is written for a client is no head");
    assert_eq!((again.status, &again.reason), (head.status, &head.reason));
    match head.framing {
        ResponseFraming::UntilClose => assert_eq!(again.framing, ResponseFraming::Chunked),
        framing => assert_eq!(again.framing, framing),
    }
    for (name, value) in head.fields.iter().filter(|(name, _)| crosses(name, &head.options)) {
        assert!(
            again.fields.get_all(name).any(|found| found.as_bytes() == value.as_bytes())
                || *name == http::header::CONTENT_LENGTH,
            "lost: {name:?}"
        );
    }
}
