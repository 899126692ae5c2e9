//! How long a request body is: decided once, and the ambiguous is refused (RFC 9112 §6).
//!
//! Two parties that disagree about where a message ends can be made to disagree about what the next message is;
//! that is request smuggling. So nothing is repaired here: what a sender must not send is an error.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use super::fields::{Fields, trim_ows};
use super::head::{HeadError, Version};

/// How the body of a message is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// Neither `Content-Length` nor `Transfer-Encoding`: a request without a body.
    None,
    /// Exactly so many bytes, as `Content-Length` says; 0 if it says 0.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

impl BodyFraming {
    /// Whether bytes of a body follow the head.
    pub const fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Length(0))
    }
}

/// The framing of a request with these fields.
///
/// # Errors
///
/// 400 (`bad_framing`) for
/// - `Content-Length` together with `Transfer-Encoding` (RFC 9112 §6.1 lets a server process it; that is how
///   requests are smuggled),
/// - more than one `Content-Length`, line or element, even of the same value (§6.3 would allow that), or one that
///   is not a decimal number below 2^64,
/// - any `Transfer-Encoding` in HTTP/1.0, in more than one line, with `chunked` twice or not last, or that isn't
///   a list of tokens.
///
/// 501 (`unknown_transfer_coding`) for well-formed codings other than `chunked`.
pub fn request_framing(version: Version, fields: &Fields) -> Result<BodyFraming, HeadError> {
    decide(
        version,
        fields.get_all(&CONTENT_LENGTH).map(http::HeaderValue::as_bytes),
        fields.get_all(&TRANSFER_ENCODING).map(http::HeaderValue::as_bytes),
    )
}

/// The rules, over the values of all `Content-Length` and all `Transfer-Encoding` lines.
fn decide<'a>(
    version: Version,
    mut lengths: impl Iterator<Item = &'a [u8]>,
    mut codings: impl Iterator<Item = &'a [u8]>,
) -> Result<BodyFraming, HeadError> {
    if let Some(coding) = codings.next() {
        if lengths.next().is_some() {
            return Err(bad_framing("both Content-Length and Transfer-Encoding"));
        }
        if version == Version::Http10 {
            return Err(bad_framing("Transfer-Encoding in an HTTP/1.0 request"));
        }
        if codings.next().is_some() {
            return Err(bad_framing("more than one Transfer-Encoding line"));
        }
        return only_chunked(coding);
    }
    let Some(length) = lengths.next() else {
        return Ok(BodyFraming::None);
    };
    if lengths.next().is_some() {
        return Err(bad_framing("more than one Content-Length line"));
    }
    parse_decimal(length)
        .map(BodyFraming::Length)
        .ok_or(bad_framing("Content-Length is not a decimal number below 2^64"))
}

/// `1*DIGIT`: no sign, no whitespace, no list.
pub(super) fn parse_decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |length, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// Exactly one `chunked`, in any case; anything else is told apart only to answer with the right status.
fn only_chunked(value: &[u8]) -> Result<BodyFraming, HeadError> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(BodyFraming::Chunked);
    }
    let codings = || value.split(|&b| b == b',').map(trim_ows);
    if !codings().all(|coding| !coding.is_empty() && coding.iter().copied().all(is_tchar)) {
        return Err(bad_framing("malformed Transfer-Encoding"));
    }
    // "If any transfer coding other than chunked is applied to a request's content, the sender MUST apply chunked
    // as the final transfer coding" (RFC 9112 §6.1). Without it the length is unknown all the same.
    let chunked = codings().filter(|coding| is_chunked(coding)).count();
    if chunked > 1 || (chunked == 1 && !codings().next_back().is_some_and(is_chunked)) {
        return Err(bad_framing("chunked is not the last transfer coding, or applied twice"));
    }
    Err(HeadError::new(501, "unknown_transfer_coding", "transfer coding other than chunked"))
}

/// A character of a token (RFC 9110 §5.6.2).
pub(crate) const fn is_tchar(b: u8) -> bool {
    matches!(
        b,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
            | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
    )
}

const fn bad_framing(detail: &'static str) -> HeadError {
    HeadError::new(400, "bad_framing", detail)
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    fn framing(version: Version, lines: &[(HeaderName, &str)]) -> Result<BodyFraming, (u16, &'static str)> {
        let fields: Fields = lines
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect();
        request_framing(version, &fields).map_err(|e| (e.status(), e.word()))
    }

    const BAD: Result<BodyFraming, (u16, &str)> = Err((400, "bad_framing"));
    const UNKNOWN: Result<BodyFraming, (u16, &str)> = Err((501, "unknown_transfer_coding"));

    #[test]
    fn the_plain_cases() {
        assert_eq!(framing(Version::Http11, &[]), Ok(BodyFraming::None));
        assert_eq!(framing(Version::Http11, &[(CONTENT_LENGTH, "0")]), Ok(BodyFraming::Length(0)));
        assert_eq!(framing(Version::Http10, &[(CONTENT_LENGTH, "12")]), Ok(BodyFraming::Length(12)));
        assert_eq!(framing(Version::Http11, &[(TRANSFER_ENCODING, "chunked")]), Ok(BodyFraming::Chunked));
        assert_eq!(framing(Version::Http11, &[(TRANSFER_ENCODING, "ChUnKeD")]), Ok(BodyFraming::Chunked));
        let max = u64::MAX.to_string();
        assert_eq!(framing(Version::Http11, &[(CONTENT_LENGTH, &max)]), Ok(BodyFraming::Length(u64::MAX)));
        assert!(!BodyFraming::Length(0).has_body());
        assert!(BodyFraming::Length(1).has_body());
        assert!(BodyFraming::Chunked.has_body());
    }

    #[test]
    fn malformed_lengths() {
        let bad = [
            "",
            "5, 6",
            "5, 5",
            "5,5",
            "5,",
            "+5",
            "-1",
            "0x5",
            "5 5",
            "5a",
            "a",
            "5.0",
            "1e3",
            "\u{0665}",
            "18446744073709551616",
            "99999999999999999999999",
            "5;",
            "\"5\"",
        ];
        for value in bad {
            assert_eq!(framing(Version::Http11, &[(CONTENT_LENGTH, value)]), BAD, "{value:?}");
        }
    }

    #[test]
    fn repeated_lengths() {
        assert_eq!(framing(Version::Http11, &[(CONTENT_LENGTH, "5"), (CONTENT_LENGTH, "6")]), BAD);
        assert_eq!(framing(Version::Http11, &[(CONTENT_LENGTH, "5"), (CONTENT_LENGTH, "5")]), BAD);
        assert_eq!(framing(Version::Http11, &[(CONTENT_LENGTH, "5"), (CONTENT_LENGTH, "")]), BAD);
    }

    #[test]
    fn length_and_coding_together() {
        let both = [(CONTENT_LENGTH, "5"), (TRANSFER_ENCODING, "chunked")];
        assert_eq!(framing(Version::Http11, &both), BAD);
        let both = [(TRANSFER_ENCODING, "identity"), (CONTENT_LENGTH, "0")];
        assert_eq!(framing(Version::Http11, &both), BAD);
    }

    #[test]
    fn malformed_codings() {
        let bad = [
            "",
            ",",
            "chunked, chunked",
            "chunked,",
            ", chunked",
            "chunked, gzip",
            "chunked gzip",
            "chunked;q=1",
            "\"chunked\"",
            "chunked, identity",
            "gzip,, chunked",
            "gzip, chunked, chunked",
        ];
        for value in bad {
            assert_eq!(framing(Version::Http11, &[(TRANSFER_ENCODING, value)]), BAD, "{value:?}");
        }
        let twice = [(TRANSFER_ENCODING, "chunked"), (TRANSFER_ENCODING, "chunked")];
        assert_eq!(framing(Version::Http11, &twice), BAD);
        let lines = [(TRANSFER_ENCODING, "gzip"), (TRANSFER_ENCODING, "chunked")];
        assert_eq!(framing(Version::Http11, &lines), BAD);
    }

    #[test]
    fn unknown_codings() {
        for value in ["gzip", "gzip, chunked", "identity", "xchunked", "chunkedx", "x, y ,\tchunked"] {
            assert_eq!(framing(Version::Http11, &[(TRANSFER_ENCODING, value)]), UNKNOWN, "{value:?}");
        }
    }

    #[test]
    fn no_coding_in_http_1_0() {
        assert_eq!(framing(Version::Http10, &[(TRANSFER_ENCODING, "chunked")]), BAD);
        assert_eq!(framing(Version::Http10, &[(TRANSFER_ENCODING, "gzip")]), BAD);
    }
}
