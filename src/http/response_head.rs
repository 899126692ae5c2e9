//! Response heads (shim).

use std::fmt;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};

use super::fields::Fields;
use super::framing::parse_decimal;
use super::head::Version;
use super::hop_by_hop::ConnectionOptions;

const MAX_HEAD: usize = 64 * 1024;
const MAX_FIELDS: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseError {
    Malformed(&'static str),
    TooLarge,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(why) => why,
            Self::TooLarge => "head too large",
        })
    }
}

#[derive(Debug)]
pub enum ResponseScan {
    Incomplete { scanned: usize },
    Complete { len: usize },
    Bad(ResponseError),
}

pub fn scan_response(buf: &[u8], from: usize) -> ResponseScan {
    let start = from.saturating_sub(3);
    if let Some(at) = buf.get(start..).unwrap_or_default().windows(4).position(|w| w == b"\r\n\r\n") {
        let len = start + at + 4;
        if len > MAX_HEAD {
            return ResponseScan::Bad(ResponseError::TooLarge);
        }
        return ResponseScan::Complete { len };
    }
    if !b"HTTP/1.".starts_with(buf.get(..7.min(buf.len())).unwrap_or_default()) {
        return ResponseScan::Bad(ResponseError::Malformed("not HTTP/1"));
    }
    if buf.windows(2).any(|w| w[1] == b'\n' && w[0] != b'\r') {
        return ResponseScan::Bad(ResponseError::Malformed("bare LF"));
    }
    if buf.len() > MAX_HEAD {
        return ResponseScan::Bad(ResponseError::TooLarge);
    }
    ResponseScan::Incomplete { scanned: buf.len() }
}

#[derive(Debug)]
pub struct ResponseHead {
    pub version: Version,
    pub status: StatusCode,
    pub reason: Bytes,
    pub fields: Fields,
    pub framing: ResponseFraming,
    pub keep_alive: bool,
    pub options: ConnectionOptions,
}

impl ResponseHead {
    pub fn parse(bytes: &Bytes, method: &Method) -> Result<Self, ResponseError> {
        use ResponseError::Malformed;
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut response, bytes, &mut slots) {
            Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooLarge),
            _ => return Err(Malformed("malformed head")),
        }
        if bytes.windows(2).any(|w| w[1] == b'\n' && w[0] != b'\r') {
            return Err(Malformed("bare LF"));
        }
        let version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let status = StatusCode::from_u16(response.code.unwrap_or(0)).map_err(|_| Malformed("status"))?;
        let reason = bytes.slice_ref(response.reason.unwrap_or_default().as_bytes());
        let mut fields = Fields::with_capacity(response.headers.len());
        for field in response.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed("name"))?;
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
                .map_err(|_| Malformed("value"))?;
            fields.push(name, value);
        }
        let options = ConnectionOptions::from_values(fields.get_all(&CONNECTION));
        if options.is_excessive() {
            return Err(Malformed("too many connection options"));
        }
        let codings: Vec<_> = fields.get_all(&TRANSFER_ENCODING).take(2).cloned().collect();
        let chunked = match (codings.first(), codings.get(1)) {
            (None, _) => false,
            (Some(one), None)
                if one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
                    && version == Version::Http11 =>
            {
                true
            }
            _ => return Err(Malformed("transfer coding")),
        };
        let mut length = None;
        for value in fields.get_all(&CONTENT_LENGTH) {
            for part in value.as_bytes().split(|b| *b == b',') {
                let n = parse_decimal(part.trim_ascii()).ok_or(Malformed("content-length"))?;
                if length.is_some_and(|length| length != n) {
                    return Err(Malformed("content-lengths differ"));
                }
                length = Some(n);
            }
        }
        if chunked && length.is_some() {
            return Err(Malformed("length and coding"));
        }
        let no_body = *method == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        let framing = match length {
            _ if no_body => ResponseFraming::None,
            _ if chunked => ResponseFraming::Chunked,
            Some(length) => ResponseFraming::Length(length),
            None => ResponseFraming::UntilClose,
        };
        let keep_alive = !options.close() && (version == Version::Http11 || options.keep_alive());
        Ok(Self { version, status, reason, fields, framing, keep_alive, options })
    }
}
