//! Heads of responses as the client gets them.

use http::StatusCode;
use http::header::{self, HeaderValue};

use super::date;
use super::head::Version;
use super::hop_by_hop::crosses;
use super::request_id::REQUEST_ID;
use super::response_head::{ResponseFraming, ResponseHead};

/// How the client learns where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    /// There is none.
    NoBody,
    /// After so many bytes.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

impl Delimited {
    /// What becomes of a body that came so, for a client that speaks `version`.
    #[must_use]
    pub fn of(framing: ResponseFraming, version: Version) -> Self {
        match framing {
            ResponseFraming::None => Self::NoBody,
            ResponseFraming::Length(length) => Self::Length(length),
            ResponseFraming::Chunked | ResponseFraming::UntilClose => Self::unknown(version),
        }
    }

    /// How a body of unknown length is told from what follows it (RFC 9112 §6).
    #[must_use]
    pub fn unknown(version: Version) -> Self {
        match version {
            Version::Http11 => Self::Chunked,
            Version::Http10 => Self::UntilClose,
        }
    }
}

/// `name: value` and the end of the line.
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The status line. Whatever the other side speaks, this one speaks HTTP/1.1 (RFC 9110 §2.5).
pub fn write_status_line(out: &mut Vec<u8>, status: StatusCode, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Browsers are to come by TLS alone for so long (RFC 6797 §6.1).
pub(crate) fn write_hsts(out: &mut Vec<u8>, seconds: u64) {
    write_field(out, b"strict-transport-security", format!("max-age={seconds}").as_bytes());
}

/// What the `Date` of an answer of our own is (RFC 9110 §6.6.1).
pub fn write_date(out: &mut Vec<u8>) {
    date::with_now(|date| write_field(out, b"date", date));
}

/// Whether the connection goes on, for a client that speaks `version`.
pub fn write_connection(out: &mut Vec<u8>, version: Version, keep_alive: bool) {
    match (version, keep_alive) {
        (_, false) => write_field(out, b"connection", b"close"),
        (Version::Http10, true) => write_field(out, b"connection", b"keep-alive"),
        (Version::Http11, true) => {}
    }
}

/// An interim response (RFC 9110 §15.2).
pub fn write_interim(out: &mut Vec<u8>, head: &ResponseHead) {
    write_status_line(out, head.status, &head.reason);
    write_fields(out, head, |name| *name != header::CONTENT_LENGTH);
    out.extend_from_slice(b"\r\n");
}

/// A 101, with what makes it one.
pub fn write_switching(out: &mut Vec<u8>, head: &ResponseHead, request_id: &[u8]) {
    write_status_line(out, head.status, &head.reason);
    write_fields(out, head, |name| *name != header::CONTENT_LENGTH && *name != REQUEST_ID);
    write_field(out, REQUEST_ID.as_str().as_bytes(), request_id);
    write_upgrade(out, head);
    out.extend_from_slice(b"connection: upgrade\r\n\r\n");
}

/// What the proxy itself has to say in the answer of a backend.
#[derive(Clone, Copy, Debug)]
pub struct Added<'a> {
    /// In place of one of the backend.
    pub request_id: &'a [u8],
    /// To be set beside those of the backend.
    pub cookie: Option<&'a HeaderValue>,
    /// Seconds of `Strict-Transport-Security` (RFC 6797), unless the backend says something about that.
    pub hsts: Option<u64>,
}

/// The head of a final response.
pub fn write_response_head(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    to: Delimited,
    version: Version,
    keep_alive: bool,
    added: &Added<'_>,
) {
    write_status_line(out, head.status, &head.reason);
    write_fields(out, head, |name| *name != header::CONTENT_LENGTH && *name != REQUEST_ID);
    if !head.fields.contains(&header::DATE) {
        write_date(out);
    }
    write_framing(out, head, to);
    write_field(out, REQUEST_ID.as_str().as_bytes(), added.request_id);
    if let Some(cookie) = added.cookie {
        write_field(out, b"set-cookie", cookie.as_bytes());
    }
    if let Some(seconds) = added.hsts
        && !head.fields.contains(&header::STRICT_TRANSPORT_SECURITY)
    {
        write_hsts(out, seconds);
    }
    if head.status == StatusCode::UPGRADE_REQUIRED && head.fields.contains(&header::UPGRADE) {
        // It must say to what (RFC 9110 §15.5.22), and that this is about the connection (§7.8).
        write_upgrade(out, head);
        write_field(out, b"connection", if keep_alive { b"upgrade" } else { b"upgrade, close" });
    } else {
        write_connection(out, version, keep_alive);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_fields(out: &mut Vec<u8>, head: &ResponseHead, wanted: impl Fn(&header::HeaderName) -> bool) {
    for (name, value) in head.fields.iter() {
        if wanted(name) && crosses(name, &head.options) {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

fn write_upgrade(out: &mut Vec<u8>, head: &ResponseHead) {
    for value in head.fields.get_all(&header::UPGRADE) {
        write_field(out, b"upgrade", value.as_bytes());
    }
}

/// One `Content-Length`, however many agreed (RFC 9112 §6.3), or the coding.
fn write_framing(out: &mut Vec<u8>, head: &ResponseHead, to: Delimited) {
    let length = match to {
        Delimited::Length(length) => Some(length),
        // What the answer to a GET would have (RFC 9110 §8.6). A 204 has none, and beside a coding it would lie.
        Delimited::NoBody if head.status != StatusCode::NO_CONTENT => head.length,
        Delimited::NoBody | Delimited::UntilClose => None,
        Delimited::Chunked => return write_field(out, b"transfer-encoding", b"chunked"),
    };
    if let Some(length) = length {
        let mut digits = [0; 20];
        write_field(out, b"content-length", decimal(length, &mut digits));
    }
}

/// A number in decimal digits.
pub fn write_decimal(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(decimal(n, &mut [0; 20]));
}

pub(super) fn decimal(mut n: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        at -= 1;
        // Always below ten.
        *digit = b'0' + u8::try_from(n % 10).unwrap_or_default();
        n /= 10;
        if n == 0 {
            break;
        }
    }
    digits.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;

    use super::*;

    fn parsed(head: &'static str) -> ResponseHead {
        ResponseHead::parse(&Bytes::from_static(head.as_bytes()), &Method::GET).unwrap()
    }

    fn written(head: &'static str, to: Delimited, version: Version, keep_alive: bool) -> String {
        let mut out = Vec::new();
        let added = Added { request_id: b"id", cookie: None, hsts: None };
        write_response_head(&mut out, &parsed(head), to, version, keep_alive, &added);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_decimal() {
        for n in [0, 9, 10, 12_345, u64::MAX] {
            assert_eq!(decimal(n, &mut [0; 20]), n.to_string().as_bytes());
        }
    }

    #[test]
    fn a_date_is_added_and_never_touched() {
        let with = written("HTTP/1.1 200 OK\r\nDate: then\r\n\r\n", Delimited::NoBody, Version::Http11, true);
        assert_eq!(with, "HTTP/1.1 200 OK\r\ndate: then\r\nx-request-id: id\r\n\r\n");
        let without = written("HTTP/1.1 200 OK\r\n\r\n", Delimited::NoBody, Version::Http11, true);
        assert!(without.contains("\r\ndate: ") && without.contains(" GMT\r\n"), "{without}");
    }

    #[test]
    fn a_426_says_to_what() {
        let head =
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3\r\nConnection: upgrade\r\ndate: d\r\n\r\n";
        let to = Delimited::NoBody;
        let expected = "HTTP/1.1 426 Upgrade Required\r\ndate: d\r\nx-request-id: id\r\nupgrade: TLS/1.3\r\nconnection: upgrade";
        assert_eq!(written(head, to, Version::Http11, true), format!("{expected}\r\n\r\n"));
        assert_eq!(written(head, to, Version::Http11, false), format!("{expected}, close\r\n\r\n"));
    }

    #[test]
    fn what_is_about_the_backends_connection_stays_there() {
        let head =
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-a\r\nX-A: 1\r\nKeep-Alive: 1\r\n\r\n";
        let mut out = Vec::new();
        write_interim(&mut out, &parsed(head));
        assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    }
}
