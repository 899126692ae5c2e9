//! The fields of a request on its way to a backend: removing first, adding after. A pure function.

use std::net::IpAddr;

use http::Method;
use http::header::{self, HeaderName, HeaderValue};

use super::client_cert::ClientCertFields;
use super::fields::Fields;
use super::framing::{BodyFraming, parse_decimal};
use super::head::{RequestHead, Version};
use super::hop_by_hop::{crosses, imitates_ours, te_trailers};
use super::request_id::REQUEST_ID;
use super::response_out::decimal;

/// `X-Forwarded-For`.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Host`.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Proto`.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// `X-Forwarded-Port`.
pub const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// `X-Forwarded-Prefix`.
pub const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// A client's address as the value of `X-Forwarded-For`. Who comes in through a Unix-domain socket has none; nobody comes
/// from the unspecified one, which stands for them. The word is that of RFC 7239 §6.2.
#[must_use]
pub fn forwarded_for(address: IpAddr) -> HeaderValue {
    let text = if address.is_unspecified() { "unknown".to_owned() } else { address.to_string() };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// What the rewrite needs to know beside the head.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite<'a> {
    /// The `Host` to send.
    pub host: &'a HeaderValue,
    /// The client's address, for `X-Forwarded-For`.
    pub client: &'a HeaderValue,
    /// Whether the client is one of `trusted_proxies`: its `X-Forwarded-Host`, `-Proto` and `-Port` stay.
    pub trusted: bool,
    /// Whether it came in by TLS, for `X-Forwarded-Proto`.
    pub secured: bool,
    /// The port it came in by, for `X-Forwarded-Port`, if it is known.
    pub port: Option<u16>,
    /// What is said of the client's certificate.
    pub client_cert: ClientCertFields<'a>,
    /// What was taken off the path, for `X-Forwarded-Prefix`; absent: nothing was.
    pub prefix: Option<&'a str>,
    /// Send the fields of an upgrade (RFC 9110 §7.8).
    pub upgrade: bool,
    /// By what name this proxy is known in `Via`.
    pub via: &'a str,
    /// The `X-Request-Id` to send.
    pub request_id: &'a [u8],
}

/// Calls `put` with the name and the value of each field to send, in order.
pub fn rewrite(head: &RequestHead, rewrite: &Rewrite<'_>, put: &mut impl FnMut(&[u8], &[u8])) {
    let fields = &head.fields;
    put(b"host", rewrite.host.as_bytes());
    let max_forwards = max_forwards(head);
    for (name, value) in fields.iter() {
        let is_counted = max_forwards.is_some() && *name == header::MAX_FORWARDS;
        let is_replaced = is_counted
            || is_replaced(name, rewrite.trusted)
            || rewrite.client_cert.replaces(name)
            || (rewrite.prefix.is_some() && *name == FORWARDED_PREFIX);
        if crosses(name, &head.connection) && !is_replaced && !imitates_ours(name) {
            put(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let te_trailers = te_trailers(fields);
    // Each is about this connection alone, so `Connection` has to name it (RFC 9110 §7.6.1).
    match (rewrite.upgrade, te_trailers) {
        (true, true) => put(b"connection", b"upgrade, te"),
        (true, false) => put(b"connection", b"upgrade"),
        (false, true) => put(b"connection", b"te"),
        (false, false) => {}
    }
    if rewrite.upgrade {
        for value in fields.get_all(&header::UPGRADE) {
            put(b"upgrade", value.as_bytes());
        }
    }
    if te_trailers {
        put(b"te", b"trailers");
    }
    if let Some(hops) = max_forwards {
        put(b"max-forwards", hops.saturating_sub(1).to_string().as_bytes());
    }
    put_framing(head, put);
    put_list_with(fields, &FORWARDED_FOR, rewrite.client.as_bytes(), put);
    let keeps = |name: &HeaderName| rewrite.trusted && fields.contains(name);
    if !keeps(&FORWARDED_HOST) && !head.host.is_empty() {
        put(FORWARDED_HOST.as_str().as_bytes(), head.host.as_bytes());
    }
    if !keeps(&FORWARDED_PROTO) {
        put(FORWARDED_PROTO.as_str().as_bytes(), if rewrite.secured { b"https" } else { b"http" });
    }
    if let Some(port) = rewrite.port
        && !keeps(&FORWARDED_PORT)
    {
        put(FORWARDED_PORT.as_str().as_bytes(), decimal(port.into(), &mut [0; 20]));
    }
    rewrite.client_cert.put(put);
    if let Some(prefix) = rewrite.prefix {
        // Proxies before this one may have taken off more.
        let none = Fields::new();
        let before = if rewrite.trusted { fields } else { &none };
        put_list_with(before, &FORWARDED_PREFIX, prefix.as_bytes(), put);
    }
    let via = match head.version {
        Version::Http10 => format!("1.0 {}", rewrite.via),
        Version::Http11 => format!("1.1 {}", rewrite.via),
    };
    put_list_with(fields, &header::VIA, via.as_bytes(), put);
    put(REQUEST_ID.as_str().as_bytes(), rewrite.request_id);
}

/// How many more proxies a TRACE or OPTIONS may pass (RFC 9110 §7.6.2). `None`: any number, or the field says nothing.
#[must_use]
pub fn max_forwards(head: &RequestHead) -> Option<u64> {
    if !matches!(head.method, Method::TRACE | Method::OPTIONS) {
        return None;
    }
    parse_decimal(head.fields.get(&header::MAX_FORWARDS)?.as_bytes())
}

/// Whether the request has been here before: `Via` names this proxy.
#[must_use]
pub fn has_passed(fields: &Fields, via: &str) -> bool {
    let names_us =
        |value: &HeaderValue| value.as_bytes().windows(via.len()).any(|part| part == via.as_bytes());
    fields.get_all(&header::VIA).any(names_us)
}

/// Fields whose place is taken by what the proxy sends.
fn is_replaced(name: &HeaderName, trusted: bool) -> bool {
    *name == header::HOST
        || *name == header::CONTENT_LENGTH
        // The proxy itself answers 100, when the body is first wanted (RFC 9110 §10.1.1).
        || *name == header::EXPECT
        || *name == header::VIA
        || *name == REQUEST_ID
        || *name == FORWARDED_FOR
        || (!trusted && [FORWARDED_HOST, FORWARDED_PROTO, FORWARDED_PORT].contains(name))
}

fn put_framing(head: &RequestHead, put: &mut impl FnMut(&[u8], &[u8])) {
    match head.framing {
        BodyFraming::Chunked => put(b"transfer-encoding", b"chunked"),
        BodyFraming::Length(length) => put(b"content-length", length.to_string().as_bytes()),
        // Where a body has a meaning, its absence is said (RFC 9110 §8.6).
        BodyFraming::None if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            put(b"content-length", b"0");
        }
        BodyFraming::None => {}
    }
}

/// All lines of the field as one list, and `last` behind them.
fn put_list_with(fields: &Fields, name: &HeaderName, last: &[u8], put: &mut impl FnMut(&[u8], &[u8])) {
    let mut list = Vec::new();
    for line in fields.get_all(name).filter(|line| !line.is_empty()) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    if list.is_empty() {
        return put(name.as_str().as_bytes(), last);
    }
    list.extend_from_slice(last);
    put(name.as_str().as_bytes(), &list);
}
