//! What holds for `request_headers` and `response_headers`, whatever is in the file, in the request and in the answer: for the
//! property test below, and for the target `rules` in `fuzz/`. Broken, it panics.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use super::decision::{Outgoing, amend_answer};
use crate::config::{Config, RouteConfig};
use crate::http::client_cert::ClientCert;
use crate::http::framing::BodyFraming;
use crate::http::head::{HeadLimits, RequestHead, Version};
use crate::http::headers::forwarded_for;
use crate::http::hop_by_hop::{ConnectionOptions, crosses};
use crate::http::response_head::{ResponseFraming, ResponseHead, ResponseScan, scan};
use crate::http::response_out::{Added, Delimited, write_response_head};
use crate::rules::FieldRules;

const LIMITS: HeadLimits = HeadLimits { max_header_bytes: 4096, max_headers: 30 };
/// What is written has more in it than what came: `Via`, `X-Forwarded-*`, and what values are filled with.
const LIMITS_OF_WRITTEN: HeadLimits = HeadLimits { max_header_bytes: 1 << 20, max_headers: 1000 };
const REQUEST_ID: &[u8] = b"0123456789abcdef";

/// A `[[routes]]` table with these rules, in both directions, and what goes through it.
#[derive(Debug)]
pub struct Case<'a> {
    /// Names and values.
    pub set: &'a [(&'a str, &'a str)],
    /// The same.
    pub add: &'a [(&'a str, &'a str)],
    /// Names.
    pub remove: &'a [&'a str],
    /// The head of a request, as it comes.
    pub request: &'a [u8],
    /// Who is said to have sent it.
    pub client: IpAddr,
    /// Who it is by its certificate.
    pub subject: &'a str,
    /// The head of an answer, as it comes.
    pub answer: &'a [u8],
}

/// Checks what backend and client get. Says whether there was anything to check: rules that are accepted, and a request
/// and an answer that are, too.
#[allow(clippy::expect_used, clippy::panic, reason = "for tests alone: this is how they fail")]
pub fn check(case: &Case<'_>) -> bool {
    let Ok(config) = Config::parse(&file(case), "rules.toml") else { return false };
    let Some(route) = config.routes.first() else { return false };
    let Ok(head) = RequestHead::parse(Bytes::copy_from_slice(case.request), &LIMITS) else { return false };
    let rules = route.rules.request_headers.as_ref().expect("they are in the file");
    names_are_allowed(rules);

    let backend = HeaderValue::from_static("backend:80");
    let shown = ClientCert {
        subject: HeaderValue::try_from(case.subject).ok(),
        fingerprint: HeaderValue::from_static("00"),
    };
    let outgoing = Outgoing {
        route,
        backend: &backend,
        peer: case.client,
        client: case.client,
        forwarded_for: &forwarded_for(case.client),
        trusted: &[],
        secured: true,
        client_cert: Some(&shown),
        tells_client_cert: true,
        port: Some(80),
        upgrade: false,
        via: "reverse-proxy-0123456789",
        request_id: REQUEST_ID,
        user: None,
    };
    check_request(&outgoing, &head, rules);
    check_answer(&outgoing, &head, case.answer)
}

/// As a file has it.
fn file(case: &Case<'_>) -> String {
    let table = |lines: &[(&str, &str)]| {
        let lines = lines.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)));
        lines.collect::<Vec<_>>().join(", ")
    };
    let remove = case.remove.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let rules = format!(
        "{{ set = {{ {} }}, add = {{ {} }}, remove = [{remove}] }}",
        table(case.set),
        table(case.add)
    );
    format!(
        "listen_addr = \"127.0.0.1:0\"\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"127.0.0.1:1\"]\n\
         request_headers = {rules}\nresponse_headers = {rules}"
    )
}

/// A string of TOML in which everything beyond letters and digits is an escape.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|char| match char {
        char if char.is_ascii_alphanumeric() => char.to_string(),
        char => format!("\\U{:08x}", u32::from(char)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn lines(rules: &FieldRules) -> impl Iterator<Item = &HeaderName> {
    rules.set.iter().chain(&rules.add).map(|(name, _)| name)
}

/// None of those that say how long a message is, whom it is for, or what becomes of the connection.
fn names_are_allowed(rules: &FieldRules) {
    for name in lines(rules).chain(&rules.remove) {
        // Of a server that takes `_` for `-`, too.
        let dashed: HeaderName = name.as_str().replace('_', "-").parse().unwrap_or_else(|_| name.clone());
        assert!(crosses(&dashed, &ConnectionOptions::default()), "{name} is about a connection");
        for other in ["content-length", "host", "via", "forwarded", "x-forwarded-for", "x-forwarded-proto"] {
            assert_ne!(dashed, other);
        }
    }
}

/// No control character but a tab.
fn is_one_line(value: &[u8]) -> bool {
    !value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
}

#[allow(clippy::expect_used, reason = "for tests alone: this is how they fail")]
fn check_request(outgoing: &Outgoing<'_>, head: &RequestHead, rules: &FieldRules) {
    let mut out = Vec::new();
    outgoing.write(&mut out, head);
    let mut put = Vec::new();
    outgoing.put_fields(head, &mut |name, value| put.push((name.to_vec(), value.to_vec())));
    assert!(put.iter().all(|(_, value)| is_one_line(value)));

    // One head, which ends where we think it does, and in which the next reader finds the same fields and the same body.
    let end = out.windows(4).position(|four| four == b"\r\n\r\n");
    assert_eq!(end, Some(out.len() - 4), "ends early");
    let again = RequestHead::parse(out.into(), &LIMITS_OF_WRITTEN).expect("what a backend gets is no head");
    assert_eq!((&again.method, again.target.as_str()), (&head.method, head.target.as_str()));
    let empty_is_none = |framing| if framing == BodyFraming::Length(0) { BodyFraming::None } else { framing };
    assert_eq!(empty_is_none(again.framing), empty_is_none(head.framing));
    let found: Vec<_> =
        again.fields.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
    let put: Vec<_> = put.iter().map(|(name, value)| (name.as_slice(), value.trim_ascii())).collect();
    assert_eq!(found.len(), put.len());
    for (found, put) in found.iter().zip(&put) {
        assert_eq!((found.0, found.1.trim_ascii()), *put);
    }

    // As without the rules, but for what these are about.
    let mut without = Vec::new();
    let mut plain = outgoing.route.clone();
    plain.rules.request_headers = None;
    Outgoing { route: &plain, ..*outgoing }
        .put_fields(head, &mut |name, value| without.push((name.to_vec(), value.to_vec())));
    without.retain(|(name, _)| !rules.replaces(name));
    let (kept, ours) = put.split_at(put.len() - lines(rules).count());
    assert!(kept.iter().copied().eq(without.iter().map(|(name, value)| (&name[..], value.trim_ascii()))));
    assert!(ours.iter().map(|(name, _)| *name).eq(lines(rules).map(|name| name.as_str().as_bytes())));
}

#[allow(clippy::expect_used, clippy::panic, reason = "for tests alone: this is how they fail")]
fn check_answer(outgoing: &Outgoing<'_>, head: &RequestHead, answer: &[u8]) -> bool {
    let Ok(before) = ResponseHead::parse(&Bytes::copy_from_slice(answer), &head.method) else { return false };
    if before.status.is_informational() {
        return false;
    }
    let route: &RouteConfig = outgoing.route;
    let rules = route.rules.response_headers.as_ref().expect("they are in the file");
    let mut after = before.clone();
    amend_answer(&mut after, head, route, outgoing.backend, || outgoing.facts(head));

    let to = match before.framing {
        ResponseFraming::None => Delimited::NoBody,
        ResponseFraming::Length(length) => Delimited::Length(length),
        ResponseFraming::Chunked | ResponseFraming::UntilClose => Delimited::Chunked,
    };
    let mut out = Vec::new();
    let added = Added { request_id: REQUEST_ID, cookie: None, hsts: None };
    write_response_head(&mut out, &after, to, Version::Http11, true, &added);
    assert_eq!(scan(&out, 0), ResponseScan::Complete { len: out.len() }, "ends early");
    let out = Bytes::from(out);
    let again = ResponseHead::parse(&out, &head.method).expect("what a client gets is no head");
    assert_eq!((again.status, &again.reason), (before.status, &before.reason));
    let until_close_is_chunked = |framing| match framing {
        ResponseFraming::UntilClose => ResponseFraming::Chunked,
        framing => framing,
    };
    assert_eq!(until_close_is_chunked(again.framing), until_close_is_chunked(before.framing));
    for (name, value) in again.fields.iter() {
        assert!(is_one_line(value.as_bytes()), "{name}");
        // Nothing but what came, what was set, and what the proxy itself says.
        let is_new = !before.fields.get_all(name).any(|came| came == value);
        let is_own = ["date", "x-request-id", "connection", "transfer-encoding", "content-length"];
        assert!(
            !is_new || lines(rules).any(|ours| ours == name) || is_own.contains(&name.as_str()),
            "{name}: {value:?} comes from nowhere"
        );
    }
    for (name, template) in rules.set.iter().chain(&rules.add) {
        let value = template.fill(&outgoing.facts(head));
        let found = again.fields.get_all(name).any(|found| found.as_bytes() == value.trim_ascii());
        assert!(found, "{name} is missing");
    }
    for name in &rules.remove {
        // What came is not passed on; a line of ours may take its place.
        let ours = rules.add.iter().filter(|(added, _)| added == name).count();
        assert_eq!(again.fields.get_all(name).count(), ours, "{name} was to be removed");
    }
    for (name, _) in rules.set.iter().filter(|(name, _)| !rules.add.iter().any(|(added, _)| added == name)) {
        assert_eq!(again.fields.get_all(name).count(), 1, "{name} was to be the only one");
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: &[u8] =
        b"POST /a?b HTTP/1.1\r\nHost: h:80\r\nX_A: c\r\nX-A: c\r\nContent-Length: 0\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nX-A: s\r\nServer: s\r\nConnection: x-a\r\n\r\n";

    fn case<'a>(set: &'a [(&'a str, &'a str)], request: &'a [u8], answer: &'a [u8]) -> Case<'a> {
        Case { set, add: &[], remove: &[], request, client: [127, 0, 0, 1].into(), subject: "CN=a", answer }
    }

    /// The properties below have something to say.
    #[test]
    fn is_about_something() {
        let all = "{client_ip} {host} {scheme} {request_id} {route} {tls_client_subject}";
        let set = [("x-a", all)];
        assert!(check(&case(&set, REQUEST, ANSWER)));
        assert!(check(&Case { add: &set, remove: &["server"], ..case(&[], REQUEST, ANSWER) }));
        for name in
            ["connection", "content-length", "Transfer_Encoding", "host", "x-forwarded-for", "a b", ""]
        {
            assert!(!check(&case(&[(name, "x")], REQUEST, ANSWER)), "{name}");
            assert!(!check(&Case { add: &[(name, "x")], ..case(&[], REQUEST, ANSWER) }), "{name}");
            assert!(!check(&Case { remove: &[name], ..case(&set, REQUEST, ANSWER) }), "{name}");
        }
        for value in ["a\r\nb: c", "a\0", "\n", "{nothing}", "{host"] {
            assert!(!check(&case(&[("x-a", value)], REQUEST, ANSWER)), "{value:?}");
        }
    }

    /// A name that is a rule's as often as not.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "x[-_][a-c]",
            prop::sample::select(vec![
                "server",
                "vary",
                "set-cookie",
                "cookie",
                "connection",
                "transfer_encoding",
                "te",
                "trailer",
                "content-length",
                "content_length",
                "host",
                "via",
                "upgrade",
                "x-forwarded-for",
                "date",
                "keep-alive",
            ])
            .prop_map(str::to_owned),
        ]
    }

    /// Text and placeholders, and now and then what would end a line.
    fn value() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            8 => "[ -z~]{0,6}",
            8 => prop::sample::select(vec!["{client_ip}", "{host}", "{scheme}", "{request_id}", "{tls_client_subject}", "{route}", "{{", "}}"])
                .prop_map(str::to_owned),
            1 => "[\r\n\0\u{7f}é]",
        ];
        prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
    }

    /// Lines of a head, hostile ones among them, as they come from outside.
    fn came() -> impl Strategy<Value = String> {
        let end =
            prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\0\r\n", "\r\n \r\n", ""]);
        let line = (prop_oneof![4 => name(), 1 => "[ -~]{0,5}"], "[ -~]{0,12}", end)
            .prop_map(|(name, value, end)| format!("{name}: {value}{end}"));
        prop::collection::vec(line, 0..4).prop_map(|lines| lines.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_rule_and_no_message_breaks_a_head(
            set in prop::collection::vec((name(), value()), 0..3),
            add in prop::collection::vec((name(), value()), 0..3),
            remove in prop::collection::vec(name(), 0..2),
            host in "[a-z.:\\[\\]0-9 \r\n\0é-]{1,8}",
            line in "(GET|POST|HEAD|OPTIONS) /[ -~]{0,6} HTTP/1\\.[01]",
            sent in came(),
            answered in came(),
            status in 200..599_u16,
            client in any::<IpAddr>(),
            subject in "[ -~\r\n\0é]{0,8}",
        ) {
            let set: Vec<_> = set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let add: Vec<_> = add.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let remove: Vec<_> = remove.iter().map(String::as_str).collect();
            let request = format!("{line}\r\nHost: {host}\r\n{sent}\r\n");
            let answer = format!("HTTP/1.1 {status} Fine\r\n{answered}\r\n");
            let (request, answer) = (request.as_bytes(), answer.as_bytes());
            check(&Case { set: &set, add: &add, remove: &remove, request, client, subject: &subject, answer });
        }
    }
}
