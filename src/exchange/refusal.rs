//! An answer made by the proxy itself.

use http::{HeaderValue, StatusCode};

use super::last_hop::ALLOW;
use crate::error::Cause;
use crate::http::head::Version;
use crate::http::request_id::{REQUEST_ID, RequestId};
use crate::http::response_out::{write_connection, write_date, write_field, write_status_line};

/// The bytes of an answer made by the proxy itself.
#[derive(Debug)]
pub(crate) struct OwnAnswer {
    pub bytes: Vec<u8>,
    /// How many of them are its head.
    pub head_len: usize,
}

impl OwnAnswer {
    /// Ends the head with what is in all of them, and adds the body.
    pub(super) fn finish(
        mut head: Vec<u8>,
        id: &RequestId,
        version: Version,
        keep_alive: bool,
        body: &[u8],
    ) -> Self {
        write_field(&mut head, REQUEST_ID.as_str().as_bytes(), id.as_bytes());
        write_connection(&mut head, version, keep_alive);
        head.extend_from_slice(b"\r\n");
        let head_len = head.len();
        head.extend_from_slice(body);
        Self { bytes: head, head_len }
    }
}

/// The answer to a request of this id, version and kind.
pub(crate) fn refusal(
    cause: Cause,
    id: &RequestId,
    version: Version,
    is_head: bool,
    keep_alive: bool,
) -> OwnAnswer {
    refusal_of(cause, None, id, version, is_head, keep_alive)
}

/// The same of a route that asks its clients with `challenge` who they are.
pub(crate) fn refusal_of(
    cause: Cause,
    challenge: Option<&HeaderValue>,
    id: &RequestId,
    version: Version,
    is_head: bool,
    keep_alive: bool,
) -> OwnAnswer {
    let status = StatusCode::from_u16(cause.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = status.canonical_reason().unwrap_or_default();
    let body = format!("{} {reason}: {} ({cause})\n", status.as_u16(), cause.sentence());
    let mut out = Vec::with_capacity(512);
    write_status_line(&mut out, status, reason.as_bytes());
    write_date(&mut out);
    write_field(&mut out, b"content-type", b"text/plain; charset=utf-8");
    write_field(&mut out, b"content-length", body.len().to_string().as_bytes());
    let proxy_status = format!("reverse-proxy; error={}; details=\"{cause}\"", cause.proxy_error_type());
    write_field(&mut out, b"proxy-status", proxy_status.as_bytes());
    if let Some(seconds) = cause.retry_after_secs() {
        write_field(&mut out, b"retry-after", seconds.to_string().as_bytes());
    }
    if let Some(challenge) = challenge.filter(|_| cause == Cause::Unauthorized) {
        write_field(&mut out, b"www-authenticate", challenge.as_bytes());
    }
    if cause.status() == 405 {
        match cause {
            Cause::MethodNotAllowed(methods) => {
                write_field(&mut out, b"allow", methods.to_string().as_bytes());
            }
            // CONNECT is the one method refused everywhere.
            _ => write_field(&mut out, b"allow", ALLOW),
        }
    }
    OwnAnswer::finish(out, id, version, keep_alive, if is_head { b"" } else { body.as_bytes() })
}
