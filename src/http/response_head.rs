//! Heads of responses: where one ends, and what it says. As strict as for requests, where the RFC has one rule for both.

use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};

use super::fields::{Fields, trim_ows};
use super::framing::parse_decimal;
use super::head::{LineEnd, Version, as_http_1_1, line_end};
use super::hop_by_hop::ConnectionOptions;

/// The longest head that is passed on, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// The most field lines in one.
pub const MAX_FIELDS: usize = 1000;
/// So many are parsed on the stack.
const STACK_FIELDS: usize = 128;

/// How the backend says where its body ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is no body.
    None,
    /// After so many bytes.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By closing the connection.
    UntilClose,
}

/// Why a head is not passed on. Where the next response would begin is unknown then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseError {
    /// It breaks this rule.
    Malformed(&'static str),
    /// More than [`MAX_HEAD`] bytes or [`MAX_FIELDS`] lines.
    TooLarge,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => f.write_str(why),
            Self::TooLarge => write!(f, "head of more than {MAX_HEAD} bytes or {MAX_FIELDS} fields"),
        }
    }
}

impl Error for ResponseError {}

/// What [`scan`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseScan {
    /// The head goes on; hand `scanned` back with the next bytes.
    Incomplete {
        /// How many bytes need not be looked at again.
        scanned: usize,
    },
    /// The head is complete, though not parsed.
    Complete {
        /// Its length, with the empty line at its end.
        len: usize,
    },
    /// These bytes are not the beginning of a response.
    Bad(ResponseError),
}

/// Looks for the end of a response head in `buf`. `from` = how much of it an earlier call has `scanned`, 0 at first. The
/// outcome does not depend on how the bytes are split over calls.
#[must_use]
pub fn scan(buf: &[u8], from: usize) -> ResponseScan {
    const BEGINNING: &[u8] = b"HTTP/1.";
    let malformed = |why| ResponseScan::Bad(ResponseError::Malformed(why));
    // Bytes beyond the limit are never looked at: whether they had arrived already must make no difference.
    let (window, is_full) = match buf.split_at_checked(MAX_HEAD) {
        Some((window, _)) => (window, true),
        None => (buf, false),
    };
    let len = window.len().min(BEGINNING.len());
    if window.get(..len) != BEGINNING.get(..len) {
        return malformed("not an HTTP/1 response");
    }
    let mut at = from;
    loop {
        let end = match line_end(window, at) {
            LineEnd::At(end) => end,
            LineEnd::Missing { .. } if is_full => return ResponseScan::Bad(ResponseError::TooLarge),
            LineEnd::Missing { scanned } => return ResponseScan::Incomplete { scanned },
            LineEnd::Bad(why) => return malformed(why),
        };
        if window.get(..end).is_some_and(|before| before.ends_with(b"\r\n")) {
            return ResponseScan::Complete { len: end + 2 };
        }
        at = end + 2;
    }
}

/// A response head that obeys the rules.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The version the backend speaks.
    pub version: Version,
    /// From 100 to 999.
    pub status: StatusCode,
    /// The reason phrase, as it came.
    pub reason: Bytes,
    /// All fields as received.
    pub fields: Fields,
    /// Where its body ends.
    pub framing: ResponseFraming,
    /// What `Content-Length` says, also where there is no body.
    pub length: Option<u64>,
    /// Whether the backend keeps the connection open.
    pub keep_alive: bool,
    /// What the `Connection` lines say.
    pub options: ConnectionOptions,
}

impl ResponseHead {
    /// Takes apart what [`scan`] has found complete: the answer to a request with `method`. Values are slices of `bytes`.
    ///
    /// # Errors
    /// Any deviation from the syntax of RFC 9112 §4 and §5: folded lines, whitespace before a colon, control characters,
    /// bare CR or LF. And as [`build`](Self::build).
    pub fn parse(bytes: &Bytes, method: &Method) -> Result<Self, ResponseError> {
        let mut slots = [const { MaybeUninit::uninit() }; STACK_FIELDS];
        match Self::parse_with(bytes, method, &mut slots) {
            Err(ResponseError::TooLarge) => {
                let mut slots = Vec::with_capacity(MAX_FIELDS);
                Self::parse_with(bytes, method, slots.spare_capacity_mut())
            }
            done => done,
        }
    }

    fn parse_with<'b>(
        bytes: &'b Bytes,
        method: &Method,
        slots: &mut [MaybeUninit<httparse::Header<'b>>],
    ) -> Result<Self, ResponseError> {
        let malformed = ResponseError::Malformed;
        let mut response = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        match parser.parse_response_with_uninit_headers(&mut response, bytes, slots) {
            Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
            Ok(_) => return Err(malformed("head without an end")),
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooLarge),
            Err(httparse::Error::HeaderName) => return Err(malformed("invalid field name")),
            Err(httparse::Error::HeaderValue) => return Err(malformed("invalid field value")),
            Err(httparse::Error::Version) => {
                let known = as_http_1_1(bytes, b"HTTP/1.".len()).ok_or(malformed("malformed version"))?;
                return Self::parse(&known, method);
            }
            Err(_) => return Err(malformed("malformed status line")),
        }
        let version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(malformed("status below 100"))?;
        let mut fields = Fields::with_capacity(response.headers.len());
        for field in response.headers.iter() {
            let name =
                HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed("invalid field name"))?;
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
                .map_err(|_| malformed("invalid field value"))?;
            fields.push(name, value);
        }
        Self::build(version, status, reason(bytes), fields, method)
    }

    /// From parts that another parser took apart, by the same rules.
    ///
    /// # Errors
    /// Lengths that differ or are no numbers, a length beside a coding, a coding other than `chunked`, alone and in
    /// HTTP/1.1: each a way to be misunderstood about where the body ends.
    pub fn build(
        version: Version,
        status: StatusCode,
        reason: Bytes,
        fields: Fields,
        method: &Method,
    ) -> Result<Self, ResponseError> {
        let options = ConnectionOptions::from_values(fields.get_all(&CONNECTION));
        if options.is_excessive() {
            return Err(ResponseError::Malformed("too many connection options"));
        }
        let (framing, length) = framing(version, status, &fields, method)?;
        let keep_alive = !options.close() && (version == Version::Http11 || options.keep_alive());
        Ok(Self { version, status, reason, fields, framing, length, keep_alive, options })
    }
}

/// What stands behind `HTTP/1.1 200 `: httparse keeps back a phrase that is not ASCII.
fn reason(head: &Bytes) -> Bytes {
    let end = head.iter().position(|&b| b == b'\r').unwrap_or_default();
    let start = b"HTTP/1.1 200 ".len().min(end);
    head.slice(start..end)
}

fn framing(
    version: Version,
    status: StatusCode,
    fields: &Fields,
    method: &Method,
) -> Result<(ResponseFraming, Option<u64>), ResponseError> {
    let malformed = ResponseError::Malformed;
    let mut codings = fields.get_all(&TRANSFER_ENCODING);
    let is_chunked = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) if trim_ows(coding.as_bytes()).eq_ignore_ascii_case(b"chunked") => {
            if version == Version::Http10 {
                return Err(malformed("Transfer-Encoding in an HTTP/1.0 response"));
            }
            true
        }
        _ => return Err(malformed("transfer coding other than chunked")),
    };
    let mut length = None;
    // A list of the same number may be taken for that number (RFC 9112 §6.3).
    let numbers = fields.get_all(&CONTENT_LENGTH).flat_map(|value| value.as_bytes().split(|&b| b == b','));
    for number in numbers {
        let number = parse_decimal(trim_ows(number)).ok_or(malformed("Content-Length is not a number"))?;
        if length.is_some_and(|length| length != number) {
            return Err(malformed("Content-Length values differ"));
        }
        length = Some(number);
    }
    if is_chunked && length.is_some() {
        return Err(malformed("both Content-Length and Transfer-Encoding"));
    }
    let has_no_body = *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let framing = match length {
        _ if has_no_body => ResponseFraming::None,
        Some(length) => ResponseFraming::Length(length),
        None if is_chunked => ResponseFraming::Chunked,
        None => ResponseFraming::UntilClose,
    };
    Ok((framing, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_for(method: &Method, head: &str) -> Result<ResponseHead, ResponseError> {
        let bytes = Bytes::copy_from_slice(head.as_bytes());
        match scan(&bytes, 0) {
            ResponseScan::Complete { len } if len == bytes.len() => ResponseHead::parse(&bytes, method),
            ResponseScan::Bad(error) => Err(error),
            scan => panic!("{scan:?}"),
        }
    }

    fn parse(lines: &str) -> Result<ResponseHead, ResponseError> {
        parse_for(&Method::GET, &format!("HTTP/1.1 200 OK\r\n{lines}\r\n"))
    }

    fn framing_of(lines: &str) -> Option<ResponseFraming> {
        parse(lines).ok().map(|head| head.framing)
    }

    #[test]
    fn the_plain_cases() {
        assert_eq!(framing_of("Content-Length: 5\r\n"), Some(ResponseFraming::Length(5)));
        assert_eq!(framing_of("Transfer-Encoding: Chunked \r\n"), Some(ResponseFraming::Chunked));
        assert_eq!(framing_of(""), Some(ResponseFraming::UntilClose));
        assert_eq!(
            framing_of("Content-Length: 5, 5\r\nContent-Length: 5\r\n"),
            Some(ResponseFraming::Length(5))
        );
        for status in [100, 103, 204, 304] {
            let head = parse_for(&Method::GET, &format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n"));
            assert_eq!(head.unwrap().framing, ResponseFraming::None);
        }
        let head = parse_for(&Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!((head.framing, head.length), (ResponseFraming::None, Some(5)));
    }

    #[test]
    fn what_could_be_misunderstood_is_refused() {
        for lines in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 5,\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "a : b\r\n",
            " a: b\r\n",
            "a: b\r\n c\r\n",
            "a\r\n",
            "a: \0\r\n",
            "a: b\rc\r\n",
            "a: b\n",
        ] {
            assert!(parse(lines).is_err(), "{lines:?}");
        }
        for head in [
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.11 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert!(parse_for(&Method::GET, head).is_err(), "{head:?}");
        }
    }

    #[test]
    fn versions_and_reasons() {
        let head = |head: &str| parse_for(&Method::GET, head).unwrap();
        assert_eq!(head("HTTP/1.0 200 OK\r\n\r\n").version, Version::Http10);
        assert!(!head("HTTP/1.0 200 OK\r\n\r\n").keep_alive);
        assert!(head("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n").keep_alive);
        assert!(head("HTTP/1.7 200 OK\r\n\r\n").keep_alive, "a later minor version is read as 1.1");
        assert_eq!(head("HTTP/1.1 200 Ça va\r\n\r\n").reason, "Ça va");
        assert_eq!(head("HTTP/1.1 200 \r\n\r\n").reason, "");
        assert_eq!(head("HTTP/1.1 200\r\n\r\n").reason, "");
        assert_eq!(head("HTTP/1.1 999 \r\n\r\n").status, 999);
    }

    #[test]
    fn limits() {
        let fields = |n: usize| parse(&"a: b\r\n".repeat(n));
        assert_eq!(fields(MAX_FIELDS).unwrap().fields.len(), MAX_FIELDS);
        assert_eq!(fields(MAX_FIELDS + 1).err(), Some(ResponseError::TooLarge));
        let line = |n: usize| format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(n));
        assert_eq!(scan(line(MAX_HEAD).as_bytes(), 0), ResponseScan::Bad(ResponseError::TooLarge));
        assert!(matches!(scan(line(MAX_HEAD / 2).as_bytes(), 0), ResponseScan::Incomplete { .. }));
    }

    proptest! {
        #[test]
        fn any_division_scans_alike(
            head in "HTTP/1\\.1 [0-9]{3} [a-z]{0,3}\r\n([a-c:\r\n ]{0,6}\r\n){0,4}\r\n[a-z\r\n]{0,4}",
            cuts in proptest::collection::vec(any::<usize>(), 0..6),
        ) {
            let bytes = head.as_bytes();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            ends.push(bytes.len());
            ends.sort_unstable();
            let mut from = 0;
            let mut last = None;
            for end in ends {
                last = Some(scan(&bytes[..end], from));
                match last {
                    Some(ResponseScan::Incomplete { scanned }) => from = scanned,
                    _ => break,
                }
            }
            prop_assert_eq!(last, Some(scan(bytes, 0)));
        }
    }
}
