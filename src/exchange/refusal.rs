//! An answer made by the proxy itself.

use http::StatusCode;

use super::last_hop::ALLOW;
use crate::error::Cause;
use crate::http::head::Version;
use crate::http::response_out::{write_connection, write_date, write_field, write_status_line};

/// The bytes of an answer made by the proxy itself. `request`: version, and whether it was HEAD.
pub(crate) fn refusal(cause: Cause, version: Version, is_head: bool, keep_alive: bool) -> Vec<u8> {
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
    if cause.status() == 405 {
        // CONNECT is the one method refused by name.
        write_field(&mut out, b"allow", ALLOW);
    }
    write_connection(&mut out, version, keep_alive);
    out.extend_from_slice(b"\r\n");
    if !is_head {
        out.extend_from_slice(body.as_bytes());
    }
    out
}
