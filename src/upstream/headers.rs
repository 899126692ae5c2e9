//! The fields of a request on its way to a backend: removing first, adding after. A pure function.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::http::fields::Fields;
use crate::http::framing::BodyFraming;
use crate::http::head::{RequestHead, Version};
use crate::http::hop_by_hop::{crosses, te_trailers};

/// `X-Forwarded-For`.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Host`.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Proto`.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What the rewrite needs to know beside the head.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite<'a> {
    /// The `Host` to send.
    pub host: &'a HeaderValue,
    /// The client's address, for `X-Forwarded-For`.
    pub client: &'a HeaderValue,
    /// Whether the client is one of `trusted_proxies`: its `X-Forwarded-Host` and `X-Forwarded-Proto` stay.
    pub trusted: bool,
    /// Send the fields of an upgrade (RFC 9110 §7.8).
    pub upgrade: bool,
}

/// Writes the fields to send into `out`.
pub fn rewrite(head: &RequestHead, rewrite: Rewrite<'_>, out: &mut HeaderMap) {
    let fields = &head.fields;
    // As a rule `Host` and the four at the end come to the fields the client sent, of which `Host` is one.
    out.reserve(fields.len() + 4);
    out.append(header::HOST, rewrite.host.clone());
    for (name, value) in fields.iter() {
        if crosses(name, &head.connection) && !is_replaced(name, rewrite.trusted) {
            out.append(name.clone(), value.clone());
        }
    }
    if rewrite.upgrade {
        out.append(header::CONNECTION, HeaderValue::from_static("upgrade"));
        for value in fields.get_all(&header::UPGRADE) {
            out.append(header::UPGRADE, value.clone());
        }
    }
    if te_trailers(fields) {
        out.append(header::TE, HeaderValue::from_static("trailers"));
    }
    add_framing(head, out);
    out.append(FORWARDED_FOR, list_with(fields, &FORWARDED_FOR, rewrite.client));
    let keeps = |name: &HeaderName| rewrite.trusted && fields.contains(name);
    if !keeps(&FORWARDED_HOST) && !head.host.is_empty() {
        out.append(FORWARDED_HOST, head.host.clone());
    }
    if !keeps(&FORWARDED_PROTO) {
        out.append(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    let via = match head.version {
        Version::Http10 => HeaderValue::from_static("1.0 reverse-proxy"),
        Version::Http11 => HeaderValue::from_static("1.1 reverse-proxy"),
    };
    out.append(header::VIA, list_with(fields, &header::VIA, &via));
}

/// Fields whose place is taken by what the proxy sends.
fn is_replaced(name: &HeaderName, trusted: bool) -> bool {
    *name == header::HOST
        || *name == header::CONTENT_LENGTH
        // The proxy itself answers 100, when the body is first wanted (RFC 9110 §10.1.1).
        || *name == header::EXPECT
        || *name == header::VIA
        || *name == FORWARDED_FOR
        || (!trusted && (*name == FORWARDED_HOST || *name == FORWARDED_PROTO))
}

fn add_framing(head: &RequestHead, out: &mut HeaderMap) {
    match head.framing {
        BodyFraming::Chunked => {
            out.append(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        BodyFraming::Length(length) => {
            out.append(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // For a method that expects a body ureq would send an empty chunked one.
        BodyFraming::None if matches!(head.method.as_str(), "POST" | "PUT" | "PATCH") => {
            out.append(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        BodyFraming::None => {}
    }
}

/// All lines of the field as one list, and `last` behind them.
fn list_with(fields: &Fields, name: &HeaderName, last: &HeaderValue) -> HeaderValue {
    let mut lines = fields.get_all(name).peekable();
    if lines.peek().is_none() {
        return last.clone();
    }
    let mut list = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(last.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).unwrap_or_else(|_| last.clone())
}
