//! Request heads: where one ends, and what it says (RFC 9112 §2–5).
//!
//! [`scan`] runs on every read, in the thread that watches all connections: it finds the end and refuses what no
//! amount of further bytes can make a request. [`RequestHead::parse`] takes a complete head apart, once, in the
//! thread that serves it; what comes out cannot be wrong any more, and nobody checks again.

use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::Method;
use http::header::{CONNECTION, EXPECT, HOST, HeaderName, HeaderValue, UPGRADE};

use super::fields::{Fields, list_elements, trim_ows};
use super::framing::{BodyFraming, is_tchar, request_framing};
use super::hop_by_hop::ConnectionOptions;
use super::target::{RequestTarget, is_host_and_port};

/// The longest method that is passed on. The registered ones have up to 17 characters.
const MAX_METHOD_LEN: usize = 32;

/// So many fields are parsed on the stack; a larger `max_headers` costs an allocation per request.
const STACK_FIELDS: usize = 128;

/// Empty lines tolerated before a request line: RFC 9112 §2.2 asks for "at least one".
const MAX_EMPTY_LINES: usize = 2;

/// The version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunked bodies, no `Expect`, no upgrades, connections persist only on request.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the request line, the fields and the empty line at the end.
    pub max_header_bytes: usize,
    /// Field lines.
    pub max_headers: usize,
}

/// Why a head was refused. Where the next request begins is unknown then: the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadError {
    status: u16,
    word: &'static str,
    detail: &'static str,
}

impl HeadError {
    pub(crate) const fn new(status: u16, word: &'static str, detail: &'static str) -> Self {
        Self { status, word, detail }
    }

    /// The status to answer with.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The stable cause word, the same in the answer, the log and the counters.
    pub const fn word(&self) -> &'static str {
        self.word
    }

    /// What was wrong, for the log.
    pub const fn detail(&self) -> &'static str {
        self.detail
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail)
    }
}

impl Error for HeadError {}

const fn bad_request(detail: &'static str) -> HeadError {
    HeadError::new(400, "bad_request", detail)
}

const fn bad_host(detail: &'static str) -> HeadError {
    HeadError::new(400, "bad_host", detail)
}

/// What [`scan`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The head goes on; hand `scanned` back with the next bytes.
    Incomplete {
        /// How many bytes need not be looked at again.
        scanned: usize,
    },
    /// The head is complete, though not parsed.
    Complete {
        /// Its length, with empty lines before it and the one at its end.
        len: usize,
    },
    /// These bytes aren't the beginning of a request, or of one that is too large.
    Bad(HeadError),
}

/// Looks for the end of a request head in `buf`. `from` = how much of it an earlier call has `scanned`, 0 at first;
/// however the bytes are split over calls, the outcome is the same and every byte is looked at about once.
///
/// Refused at once are control characters (bare CR and LF, NUL among them: different readers would end a line or
/// a value at different places), bytes no request begins with (a TLS ClientHello), request lines without an
/// HTTP/1 version (an HTTP/2 preface, an SSH banner), and heads beyond `limits.max_header_bytes`.
pub fn scan(buf: &[u8], from: usize, limits: &HeadLimits) -> Scan {
    // Bytes beyond the limit are never looked at: whether they had arrived already must make no difference.
    let (window, is_full) = match buf.split_at_checked(limits.max_header_bytes) {
        Some((window, _)) => (window, true),
        None => (buf, false),
    };
    let start = skip_empty_lines(window);
    match window.get(start..).unwrap_or_default() {
        [] | [b'\r'] if is_full => return Scan::Bad(too_large(window, start)),
        [] | [b'\r'] => return Scan::Incomplete { scanned: start },
        [b'\r', b'\n', ..] => return Scan::Bad(bad_request("empty lines where a request should begin")),
        [first, ..] if !is_tchar(*first) => {
            return Scan::Bad(bad_request("byte that cannot begin a request"));
        }
        _ => {}
    }

    let mut at = from.max(start);
    // Whether the request line has ended before: looked up at most once per call, and only if a line ends in it.
    let mut past_request_line = (at == start).then_some(false);
    loop {
        let end = match line_end(window, at) {
            LineEnd::At(end) => end,
            LineEnd::Missing { scanned } => {
                at = scanned;
                break;
            }
            LineEnd::Bad(why) => return Scan::Bad(bad_request(why)),
        };
        let before = window.get(start..end).unwrap_or_default();
        if before.ends_with(b"\r\n") {
            return Scan::Complete { len: end + 2 };
        }
        if !*past_request_line.get_or_insert_with(|| before.contains(&b'\n')) {
            if let Err(error) = check_version(before) {
                return Scan::Bad(error);
            }
            past_request_line = Some(true);
        }
        at = end + 2;
    }
    if is_full { Scan::Bad(too_large(window, start)) } else { Scan::Incomplete { scanned: at } }
}

/// Where the request line begins: behind at most [`MAX_EMPTY_LINES`].
fn skip_empty_lines(buf: &[u8]) -> usize {
    (0..MAX_EMPTY_LINES).fold(0, |start, _| {
        let rest = buf.get(start..).unwrap_or_default();
        if rest.starts_with(b"\r\n") { start + 2 } else { start }
    })
}

/// Where a line of a head ends.
pub(super) enum LineEnd {
    /// Before the CRLF that begins here.
    At(usize),
    /// Not in these bytes, of which so many need not be looked at again.
    Missing { scanned: usize },
    /// In a way that readers would disagree about.
    Bad(&'static str),
}

/// The end of the line that goes on at `at`, for requests and responses alike (RFC 9112 §2.2).
pub(super) fn line_end(buf: &[u8], at: usize) -> LineEnd {
    let Some(end) = find_control(buf, at) else { return LineEnd::Missing { scanned: buf.len() } };
    match buf.get(end..).unwrap_or_default() {
        [b'\r', b'\n', ..] => LineEnd::At(end),
        [b'\r'] => LineEnd::Missing { scanned: end },
        [b'\r', ..] => LineEnd::Bad("bare CR in the head"),
        [b'\n', ..] => LineEnd::Bad("bare LF in the head"),
        _ => LineEnd::Bad("control character in the head"),
    }
}

/// The same head with `1` for the digit at `at`, the minor version, where that is a later one: it is read as the highest
/// that is known here (RFC 9110 §2.5). `None`: there is no such digit.
pub(super) fn as_http_1_1(head: &Bytes, at: usize) -> Option<Bytes> {
    let mut copy = head.to_vec();
    let digit = copy.get_mut(at).filter(|digit| matches!(digit, b'2'..=b'9'))?;
    *digit = b'1';
    Some(Bytes::from(copy))
}

/// The first byte from `at` on that is below a space and not a tab. DEL is left to the parser.
fn find_control(buf: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        at += first_below_space(buf.get(at..)?)?;
        if buf.get(at) != Some(&b'\t') {
            return Some(at);
        }
        at += 1;
    }
}

/// Looks at eight bytes at a time, and needs no second look to say which of them it is: most lines are short.
fn first_below_space(bytes: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::MAX / 0xff;
    let (words, rest) = bytes.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The highest bit of each byte below a space. Those behind the first such byte may be wrong.
        let below = word.wrapping_sub(EACH * 0x20) & !word & (EACH * 0x80);
        if below != 0 {
            return Some(n * 8 + below.trailing_zeros() as usize / 8);
        }
    }
    let position = rest.iter().position(|b| *b < b' ')?;
    Some(words.len() * 8 + position)
}

fn too_large(window: &[u8], start: usize) -> HeadError {
    if window.get(start..).is_some_and(|head| head.contains(&b'\n')) {
        HeadError::new(431, "head_too_large", "head longer than max_header_bytes")
    } else {
        HeadError::new(414, "uri_too_long", "request line longer than max_header_bytes")
    }
}

/// Whether a request line ends with a version that is spoken here. A later minor version of 1 is served as 1.1 (RFC 9110
/// §2.5). What is no version at all (RFC 9112 §2.3: a digit, a dot, a digit) is no request.
fn check_version(line: &[u8]) -> Result<(), HeadError> {
    let last_word = line.rsplit(|&b| b == b' ').next().unwrap_or_default();
    match last_word {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] if last_word.len() < line.len() => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(HeadError::new(505, "version_not_supported", "HTTP version other than 1.x"))
        }
        _ => Err(bad_request("request line without an HTTP version")),
    }
}

/// A request head that obeys the rules.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method, case-sensitive, known or not; never CONNECT.
    pub method: Method,
    /// Its bytes, as they came.
    pub len: usize,
    /// What was asked for.
    pub target: RequestTarget,
    /// The version it was asked in.
    pub version: Version,
    /// All fields as received.
    pub fields: Fields,
    /// How long the body is.
    pub framing: BodyFraming,
    /// What the `Connection` lines say.
    pub connection: ConnectionOptions,
    /// Whether the client wants to use the connection again: in 1.1 unless it says `close`, in 1.0 only if it says
    /// `keep-alive`.
    pub keep_alive: bool,
    /// `Expect: 100-continue`, which 1.0 does not know (RFC 9110 §10.1.1 has it ignored there).
    pub expect_continue: bool,
    /// A request to switch protocols: `Connection: upgrade` and an `Upgrade` field that names neither `h2c` nor TLS. Not
    /// in 1.0.
    pub upgrade: bool,
    /// The host asked for: the authority of an absolute-form target, else the `Host` field. Empty if that is empty
    /// or, in 1.0, absent.
    pub host: HeaderValue,
}

impl RequestHead {
    /// Takes apart the complete bytes of a head. The values of the fields are slices of `bytes`, not copies.
    ///
    /// # Errors
    ///
    /// | status | word | for |
    /// |---|---|---|
    /// | 400 | `bad_request` | what isn't HTTP/1: syntax, control characters, folded lines, whitespace before a colon or the first field |
    /// | 400 | `bad_framing` | see [`request_framing`] |
    /// | 400 | `bad_host` | `Host` missing in 1.1, given twice, or malformed |
    /// | 400 | `bad_target` | see [`RequestTarget::parse`] |
    /// | 405 | `method_not_allowed` | CONNECT |
    /// | 414 | `uri_too_long` | a request line beyond the limit |
    /// | 417 | `unknown_expectation` | an expectation other than `100-continue` |
    /// | 431 | `head_too_large` | too many bytes or field lines |
    /// | 501 | `unknown_method` | a method longer than 32 characters |
    /// | 501 | `unknown_transfer_coding` | a transfer coding other than `chunked` |
    /// | 505 | `version_not_supported` | a major version other than 1 |
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the head keeps slices of the buffer: the caller gives it away"
    )]
    pub fn parse(bytes: Bytes, limits: &HeadLimits) -> Result<Self, HeadError> {
        Self::parse_whole(&bytes, limits, false)
    }

    /// [`parse`](Self::parse) of what came over TLS, if it `is_secured`.
    pub(crate) fn parse_whole(
        bytes: &Bytes,
        limits: &HeadLimits,
        is_secured: bool,
    ) -> Result<Self, HeadError> {
        match scan(bytes, 0, limits) {
            Scan::Complete { len, .. } if len == bytes.len() => {
                Self::parse_scanned(bytes, limits, is_secured)
            }
            Scan::Complete { .. } => Err(bad_request("bytes after the end of the head")),
            Scan::Incomplete { .. } => Err(bad_request("head without an end")),
            Scan::Bad(error) => Err(error),
        }
    }

    /// [`parse`](Self::parse) for bytes of which [`scan`] has said, with these `limits`, that they are a complete head.
    /// Others must not come here: httparse accepts bare LF for CRLF, and any number of empty lines in front. `is_secured`:
    /// they came over TLS.
    pub(crate) fn parse_scanned(
        bytes: &Bytes,
        limits: &HeadLimits,
        is_secured: bool,
    ) -> Result<Self, HeadError> {
        if limits.max_headers <= STACK_FIELDS {
            let mut slots = [const { MaybeUninit::uninit() }; STACK_FIELDS];
            let slots = slots.get_mut(..limits.max_headers).unwrap_or_default();
            Self::parse_with(bytes, limits, slots, is_secured)
        } else {
            // No line is shorter than `a:` and its CRLF.
            let mut slots = Vec::with_capacity(limits.max_headers.min(bytes.len() / 4 + 1));
            Self::parse_with(bytes, limits, slots.spare_capacity_mut(), is_secured)
        }
    }

    fn parse_with<'b>(
        bytes: &'b Bytes,
        limits: &HeadLimits,
        slots: &mut [MaybeUninit<httparse::Header<'b>>],
        is_secured: bool,
    ) -> Result<Self, HeadError> {
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, slots) {
            Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
            Ok(_) => return Err(bad_request("head without an end")),
            Err(httparse::Error::Version) => {
                let start = skip_empty_lines(bytes);
                let line = bytes.get(start..).unwrap_or_default().iter().position(|&b| b == b'\r');
                let known = line.and_then(|len| as_http_1_1(bytes, (start + len).saturating_sub(1)));
                let known = known.ok_or(bad_request("malformed version"))?;
                return Self::parse_scanned(&known, limits, is_secured);
            }
            Err(error) => return Err(syntax_error(error)),
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Err(bad_request("head without a request line"));
        };
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };

        let mut fields = Fields::with_capacity(request.headers.len());
        for field in request.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| INVALID_NAME)?;
            let value =
                HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| INVALID_VALUE)?;
            fields.push(name, value);
        }
        let target = bytes.slice_ref(target.as_bytes());
        Self::build(bytes.len(), method.as_bytes(), &target, version, fields, is_secured)
    }

    /// From parts that another parser took apart, by the same rules; names and values are copied.
    ///
    /// # Errors
    ///
    /// As for [`RequestHead::parse`].
    pub fn from_parts<'a>(
        method: &[u8],
        target: &[u8],
        version: Version,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        limits: &HeadLimits,
    ) -> Result<Self, HeadError> {
        // What the head takes on the wire: two spaces, the version and CRLF; a colon and CRLF per line; CRLF.
        let mut len = method.len().saturating_add(target.len()).saturating_add(12);
        if len > limits.max_header_bytes {
            return Err(HeadError::new(414, "uri_too_long", "request line longer than max_header_bytes"));
        }
        len = len.saturating_add(2);
        let mut list = Fields::new();
        for (name, value) in fields {
            let value = trim_ows(value);
            len = len.saturating_add(name.len()).saturating_add(value.len()).saturating_add(3);
            if len > limits.max_header_bytes {
                return Err(HeadError::new(431, "head_too_large", "head longer than max_header_bytes"));
            }
            if list.len() == limits.max_headers {
                return Err(TOO_MANY_FIELDS);
            }
            let name = HeaderName::from_bytes(name).map_err(|_| INVALID_NAME)?;
            list.push(name, HeaderValue::from_bytes(value).map_err(|_| INVALID_VALUE)?);
        }
        if target.iter().any(|&b| b <= b' ' || b == 0x7f) {
            return Err(bad_request("whitespace or control character in the request target"));
        }
        Self::build(len, method, &Bytes::copy_from_slice(target), version, list, false)
    }

    /// The rules that go beyond the syntax.
    fn build(
        len: usize,
        method: &[u8],
        target: &Bytes,
        version: Version,
        fields: Fields,
        is_secured: bool,
    ) -> Result<Self, HeadError> {
        if method.len() > MAX_METHOD_LEN {
            return Err(HeadError::new(501, "unknown_method", "method longer than 32 characters"));
        }
        let method = Method::from_bytes(method).map_err(|_| bad_request("invalid method"))?;
        if method == Method::CONNECT {
            return Err(HeadError::new(405, "method_not_allowed", "CONNECT to a reverse proxy"));
        }
        let framing = request_framing(version, &fields)?;
        let (target, authority) = RequestTarget::parse(&method, target, is_secured)?;
        let host = effective_host(version, &fields, authority)?;
        let connection = ConnectionOptions::from_values(fields.get_all(&CONNECTION));
        if connection.is_excessive() {
            return Err(bad_request("too many connection options"));
        }
        let expect_continue = expects_continue(version, &fields)?;
        let is_11 = version == Version::Http11;
        Ok(Self {
            keep_alive: !connection.close() && (is_11 || connection.keep_alive()),
            upgrade: is_11 && connection.upgrade() && names_other_protocol(&fields),
            expect_continue,
            len,
            method,
            target,
            version,
            fields,
            framing,
            connection,
            host,
        })
    }
}

const INVALID_NAME: HeadError = bad_request("invalid field name");
const INVALID_VALUE: HeadError = bad_request("invalid field value");
const TOO_MANY_FIELDS: HeadError = HeadError::new(431, "head_too_large", "more fields than max_headers");

fn syntax_error(error: httparse::Error) -> HeadError {
    match error {
        // Folded lines and whitespace before the first field are names that begin with whitespace.
        httparse::Error::HeaderName => INVALID_NAME,
        httparse::Error::HeaderValue => INVALID_VALUE,
        httparse::Error::TooManyHeaders => TOO_MANY_FIELDS,
        _ => bad_request("malformed request line"),
    }
}

/// RFC 9112 §3.2: exactly one valid `Host` in 1.1, whatever the form of the target; an authority in the target
/// takes its place. One that is given must be valid in 1.0 as well, for it might be passed on.
fn effective_host(
    version: Version,
    fields: &Fields,
    authority: Option<Bytes>,
) -> Result<HeaderValue, HeadError> {
    let mut hosts = fields.get_all(&HOST);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad_host("more than one Host line"));
    }
    match host {
        None if version == Version::Http11 => return Err(bad_host("no Host in an HTTP/1.1 request")),
        Some(host) if !host.is_empty() && !is_host_and_port(host.as_bytes()) => {
            return Err(bad_host("malformed Host"));
        }
        _ => {}
    }
    match (authority, host) {
        (Some(authority), _) => {
            HeaderValue::from_maybe_shared(authority).map_err(|_| bad_host("malformed authority"))
        }
        (None, Some(host)) => Ok(host.clone()),
        (None, None) => Ok(HeaderValue::from_static("")),
    }
}

fn expects_continue(version: Version, fields: &Fields) -> Result<bool, HeadError> {
    if version == Version::Http10 {
        return Ok(false);
    }
    list_elements(fields.get_all(&EXPECT)).try_fold(false, |_, expectation| {
        if expectation.eq_ignore_ascii_case(b"100-continue") {
            Ok(true)
        } else {
            Err(HeadError::new(417, "unknown_expectation", "expectation other than 100-continue"))
        }
    })
}

/// Whether `Upgrade` names protocols that may be switched to. Not `h2c`, past which no rule of this proxy would apply to
/// what the client sends; nor TLS, which would be between the client and the backend. An upgrade may always be ignored
/// (RFC 9110 §7.8).
fn names_other_protocol(fields: &Fields) -> bool {
    let is_refused = |protocol: &[u8]| {
        protocol.eq_ignore_ascii_case(b"h2c")
            || protocol.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"tls/"))
    };
    let mut protocols = list_elements(fields.get_all(&UPGRADE)).peekable();
    protocols.peek().is_some() && !protocols.any(is_refused)
}

#[cfg(test)]
mod tests;
