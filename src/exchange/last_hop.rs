//! Answers to a TRACE or OPTIONS that may pass no further proxy (RFC 9110 §7.6.2).

use http::{Method, StatusCode, header};

use super::refusal::OwnAnswer;
use crate::http::head::RequestHead;
use crate::http::headers::max_forwards;
use crate::http::request_id::RequestId;
use crate::http::response_out::{write_date, write_field, write_status_line};

/// The methods that are passed on to backends.
pub(super) const ALLOW: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

/// Whether the request may pass no further proxy, and is answered here.
pub(crate) fn ends_here(head: &RequestHead) -> bool {
    max_forwards(head) == Some(0)
}

/// The whole answer to a request that ends here.
pub(crate) fn answer(head: &RequestHead, id: &RequestId, keep_alive: bool) -> OwnAnswer {
    let mut out = Vec::with_capacity(512);
    write_status_line(&mut out, StatusCode::OK, b"OK");
    write_date(&mut out);
    let mut body = Vec::new();
    if head.method == Method::TRACE {
        write_field(&mut out, b"content-type", b"message/http");
        body = reflection(head);
    } else {
        write_field(&mut out, b"allow", ALLOW);
    }
    write_field(&mut out, b"content-length", body.len().to_string().as_bytes());
    OwnAnswer::finish(out, id, head.version, keep_alive, body.into())
}

/// The request as it came in, without what a script in a browser must not get to see (RFC 9110 §9.3.8).
fn reflection(head: &RequestHead) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len);
    for part in [head.method.as_str(), " ", head.target.as_str(), " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let is_secret = |name: &header::HeaderName| {
        matches!(*name, header::AUTHORIZATION | header::COOKIE | header::PROXY_AUTHORIZATION)
    };
    for (name, value) in head.fields.iter().filter(|(name, _)| !is_secret(name)) {
        write_field(&mut out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}
