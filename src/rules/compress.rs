//! Compressing answers of backends: `compress`. Here is which ones, and how their heads change; `http/gzip.rs` makes the bytes.

use std::fmt;
use std::str::FromStr;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::http::accept_encoding::prefers_gzip;
use crate::http::fields::{Fields, list_elements, trim_ows};
use crate::http::head::{RequestHead, Version};
use crate::http::hop_by_hop::crosses;
use crate::http::response_head::{ResponseFraming, ResponseHead};

/// What becomes smaller, and is not compressed by itself.
const TYPES: [&str; 20] = [
    "text/*",
    "+json",
    "+xml",
    "application/json",
    "application/ndjson",
    "application/x-ndjson",
    "application/xml",
    "application/javascript",
    "application/x-javascript",
    "application/yaml",
    "application/toml",
    "application/rtf",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/svg+xml",
    "image/vnd.microsoft.icon",
    "image/x-icon",
];

/// What is about the bytes as they were before: of the content (RFC 9530, and what came before it) or of the representation,
/// of which a coding is a part.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Which answers are compressed, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// 1, the fastest, to 9.
    pub level: u8,
    /// Answers that are known to be shorter stay as they are.
    pub min_bytes: u64,
    /// Types of contents.
    pub types: Vec<MediaRange>,
}

impl Default for Compress {
    fn default() -> Self {
        let types = TYPES.iter().filter_map(|text| text.parse().ok()).collect();
        Self { level: 5, min_bytes: 1024, types }
    }
}

/// What is to become of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Stays,
    /// It stays as it is for this client. Another one might get it compressed.
    StaysForThisClient,
    /// It is compressed; at HEAD, its fields are those of an answer that is.
    Compressed,
}

impl Compress {
    /// What becomes of the answer to this request.
    #[must_use]
    pub fn verdict(&self, request: &RequestHead, answer: &ResponseHead) -> Verdict {
        if !self.takes(&request.method, answer) {
            Verdict::Stays
        } else if takes_gzip(request) {
            Verdict::Compressed
        } else {
            Verdict::StaysForThisClient
        }
    }

    /// Whether the answer is one to compress, whoever asks for it.
    fn takes(&self, method: &Method, answer: &ResponseHead) -> bool {
        let ResponseHead { status, fields, framing, length, .. } = answer;
        let has_content = match framing {
            ResponseFraming::None => *method == Method::HEAD && *status != StatusCode::NO_CONTENT,
            _ => true,
        };
        has_content
            && !matches!(*status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED)
            && !fields.contains(&header::CONTENT_RANGE)
            && length.is_none_or(|length| length > 0 && length >= self.min_bytes)
            && !is_coded(fields)
            && !forbids_transforming(fields)
            && is_only(fields.get_all(&header::CONTENT_TYPE)).is_some_and(|of| self.takes_type(of))
    }

    fn takes_type(&self, value: &HeaderValue) -> bool {
        let name = value.as_bytes().split(|byte| *byte == b';').next().map(trim_ows).unwrap_or_default();
        self.types.iter().any(|range| range.has(name))
    }
}

/// Whether a client gets gzip where there is some. One of HTTP/1.0 does not: without the chunked coding, only the end of the
/// connection would tell it where the answer ends.
pub(crate) fn takes_gzip(request: &RequestHead) -> bool {
    request.version == Version::Http11
        && prefers_gzip(&request.fields)
        && !forbids_transforming(&request.fields)
}

/// The fields of an answer that becomes gzip. Its framing is for whoever sends it.
pub(crate) fn amend(answer: &mut ResponseHead) {
    vary(answer);
    let fields = &mut answer.fields;
    // Equal in meaning to what the backend has, and not to the byte (RFC 9110 §8.8.1). What is no tag could not be made weak.
    fields.iter_mut().filter(|(name, _)| **name == header::ETAG).for_each(|(_, value)| weaken(value));
    fields.retain(|name| {
        // Ranges would be those of the bytes as they were; a content coding that is left is `identity`.
        ![header::ACCEPT_RANGES, header::CONTENT_ENCODING].contains(name) && !DIGESTS.contains(name)
    });
    fields.push(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    // What the backend has named in `Connection` is its own. This is not.
    answer.options.forget(&header::CONTENT_ENCODING);
    answer.length = None;
}

/// Names that would say something wrong behind a body that was compressed.
pub(crate) fn not_behind_it() -> impl Iterator<Item = HeaderName> {
    DIGESTS.into_iter().chain([header::ETAG])
}

/// What a 304 has to say of a route that compresses (RFC 9110 §15.4.5): that the answer depends on `Accept-Encoding`, and the
/// tag by which the client knows it. A cache finds what it has by a strong tag that is the same to the letter (RFC 9111
/// §4.3.4), and what was compressed has a weak one.
pub(crate) fn amend_not_modified(rule: &Compress, request: &Fields, answer: &mut ResponseHead) {
    let fields = &answer.fields;
    // It need not say its type.
    let is_of_others = fields.get(&header::CONTENT_TYPE).is_some_and(|of| !rule.takes_type(of));
    if is_of_others || is_coded(fields) || forbids_transforming(fields) {
        return;
    }
    vary(answer);
    for (_, value) in answer.fields.iter_mut().filter(|(name, _)| **name == header::ETAG) {
        let mut weak = value.clone();
        weaken(&mut weak);
        let is_known = |tag: &HeaderValue| {
            list_elements(request.get_all(&header::IF_NONE_MATCH)).any(|known| known == tag.as_bytes())
        };
        if is_known(&weak) && !is_known(value) {
            *value = weak;
        }
    }
}

/// Adds `Accept-Encoding` to `Vary` (RFC 9110 §12.5.5), unless it is there.
pub(crate) fn vary(answer: &mut ResponseHead) {
    const NAME: &str = "Accept-Encoding";
    let ResponseHead { fields, options, .. } = answer;
    if !crosses(&header::VARY, options) {
        fields.retain(|name| *name != header::VARY);
        options.forget(&header::VARY);
    }
    let is_it = |name: &[u8]| name == b"*" || name.eq_ignore_ascii_case(NAME.as_bytes());
    if list_elements(fields.get_all(&header::VARY)).any(is_it) {
        return;
    }
    let first = fields.iter_mut().find(|(name, value)| **name == header::VARY && !value.is_empty());
    if let Some((_, value)) = first {
        let merged = [value.as_bytes(), b", ", NAME.as_bytes()].concat();
        if let Ok(merged) = HeaderValue::from_bytes(&merged) {
            *value = merged;
        }
    } else {
        fields.push(header::VARY, HeaderValue::from_static(NAME));
    }
}

fn weaken(tag: &mut HeaderValue) {
    if tag.as_bytes().starts_with(b"\"")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        *tag = weak;
    }
}

/// Whether there is a coding already: nothing is compressed twice.
fn is_coded(fields: &Fields) -> bool {
    list_elements(fields.get_all(&header::CONTENT_ENCODING))
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// `no-transform` (RFC 9111 §5.2.1.6 and §5.2.2.6).
fn forbids_transforming(fields: &Fields) -> bool {
    list_elements(fields.get_all(&header::CACHE_CONTROL))
        .any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

fn is_only<T>(mut values: impl Iterator<Item = T>) -> Option<T> {
    values.next().filter(|_| values.next().is_none())
}

/// Types of contents: `text/html`, `text/*`, `*/*`, or `+json` for all with that suffix (RFC 6839). In lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange(String);

impl MediaRange {
    /// Whether a type is one of them. `name`: in any case, without parameters.
    fn has(&self, name: &[u8]) -> bool {
        let at_end = |part: &str| {
            let at = name.len().checked_sub(part.len());
            at.and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(part.as_bytes()))
        };
        let at_beginning = |part: &str| {
            name.get(..part.len()).is_some_and(|name| name.eq_ignore_ascii_case(part.as_bytes()))
        };
        match self.0.as_str() {
            "*/*" => true,
            suffix if suffix.starts_with('+') => at_end(suffix),
            range => match range.strip_suffix('*') {
                Some(beginning) => at_beginning(beginning),
                None => name.eq_ignore_ascii_case(range.as_bytes()),
            },
        }
    }
}

impl fmt::Display for MediaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MediaRange {
    /// The end of a sentence that begins with the text.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_token = |text: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
            !text.is_empty() && text.bytes().all(fits)
        };
        let is_range = match text.split_once('/') {
            Some(("*", part)) => part == "*",
            Some((kind, part)) => is_token(kind) && (part == "*" || is_token(part)),
            None => text.strip_prefix('+').is_some_and(is_token),
        };
        if !is_range {
            return Err(
                "is no type of a content; expected one without parameters, for example \"text/css\", \"text/*\" or \"+json\"",
            );
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::template::tests::head;
    use super::*;

    fn request(lines: &str) -> RequestHead {
        head(&format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n")).unwrap()
    }

    fn answer(method: &Method, text: &str) -> ResponseHead {
        ResponseHead::parse(&Bytes::copy_from_slice(format!("HTTP/1.1 {text}\r\n\r\n").as_bytes()), method)
            .unwrap()
    }

    fn verdict(request: &RequestHead, text: &str) -> Verdict {
        Compress::default().verdict(request, &answer(&request.method, text))
    }

    #[track_caller]
    fn amended(change: impl FnOnce(&mut ResponseHead), text: &str, expected: &[&str]) {
        let mut answer = answer(&Method::GET, text);
        change(&mut answer);
        let lines: Vec<_> = answer
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn what_is_compressed() {
        let gzip = request("Accept-Encoding: gzip\r\n");
        for lines in [
            "Content-Type: text/html\r\nContent-Length: 1024",
            "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked",
            "Content-Type: TEXT/Plain ; charset=utf-8",
            "Content-Type: application/JSON;a=b",
            "Content-Type: application/problem+json",
            "Content-Type: image/svg+xml",
            "Content-Type: application/javascript",
            "Content-Type: application/wasm\r\nContent-Encoding: identity",
            "Content-Type: text/css\r\nCache-Control: public, x-no-transform",
        ] {
            for status in ["200 OK", "404 Not Found", "500 x", "201 x"] {
                assert_eq!(verdict(&gzip, &format!("{status}\r\n{lines}")), Verdict::Compressed, "{lines}");
            }
        }
        for text in [
            "200 OK\r\nContent-Type: text/html\r\nContent-Length: 1023",
            "200 OK\r\nContent-Type: image/png",
            "200 OK\r\nContent-Type: application/jsonp",
            "200 OK\r\nContent-Type: xtext/html",
            "200 OK\r\nContent-Type: text",
            "200 OK\r\nContent-Type: application/zip+json-not",
            "200 OK",
            "200 OK\r\nContent-Type: text/html\r\nContent-Type: text/html",
            "200 OK\r\nContent-Type: text/html\r\nContent-Encoding: br",
            "200 OK\r\nContent-Type: text/html\r\nContent-Encoding: identity, gzip",
            "200 OK\r\nContent-Type: text/html\r\nCache-Control: private, No-Transform",
            "200 OK\r\nContent-Type: text/html\r\nContent-Range: bytes 0-1/2",
            "206 Partial Content\r\nContent-Type: multipart/byteranges",
            "206 Partial Content\r\nContent-Type: text/html",
            "204 No Content\r\nContent-Type: text/html",
            "304 Not Modified\r\nContent-Type: text/html",
        ] {
            assert_eq!(verdict(&gzip, text), Verdict::Stays, "{text}");
        }
        let none = Compress { min_bytes: 0, ..Compress::default() };
        let empty = answer(&Method::GET, "200 OK\r\nContent-Type: text/html\r\nContent-Length: 0");
        assert_eq!(none.verdict(&gzip, &empty), Verdict::Stays);
    }

    #[test]
    fn for_whom() {
        const HTML: &str = "200 OK\r\nContent-Type: text/html";
        let old = head("GET / HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n").unwrap();
        let not = request("Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n");
        for other in [request(""), request("Accept-Encoding: br\r\n"), old, not] {
            assert_eq!(verdict(&other, HTML), Verdict::StaysForThisClient);
            assert_eq!(verdict(&other, "200 OK\r\nContent-Type: image/png"), Verdict::Stays);
        }
        // HEAD is answered as GET would be.
        let asked = head("HEAD / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n").unwrap();
        assert_eq!(verdict(&asked, HTML), Verdict::Compressed);
        assert_eq!(verdict(&asked, &format!("{HTML}\r\nContent-Length: 1024")), Verdict::Compressed);
        assert_eq!(verdict(&asked, &format!("{HTML}\r\nContent-Length: 1023")), Verdict::Stays);
        assert_eq!(verdict(&asked, "204 x\r\nContent-Type: text/html"), Verdict::Stays);
        assert_eq!(verdict(&asked, "304 x\r\nContent-Type: text/html"), Verdict::Stays);
    }

    #[test]
    fn the_fields_of_what_is_compressed() {
        amended(
            amend,
            "200 OK\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\nContent-Encoding: Identity\r\nContent-Digest: sha-256=:YQ==:\r\n\
             Repr-Digest: sha-256=:YQ==:\r\nDigest: x\r\nContent-MD5: x\r\nLast-Modified: then",
            &["etag: W/\"a\"", "last-modified: then", "vary: Accept-Encoding", "content-encoding: gzip"],
        );
        amended(
            amend,
            "200 OK\r\nETag: W/\"a\"\r\nVary: *",
            &["etag: W/\"a\"", "vary: *", "content-encoding: gzip"],
        );
        let mut hidden = answer(&Method::GET, "200 OK\r\nConnection: Vary, Content-Encoding\r\nVary: Origin");
        amend(&mut hidden);
        let crossing = hidden.fields.iter().filter(|(name, _)| crosses(name, &hidden.options));
        let crossing: Vec<_> =
            crossing.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(crossing, [("vary", "Accept-Encoding"), ("content-encoding", "gzip")]);
        let mut with_length = answer(&Method::HEAD, "200 OK\r\nContent-Length: 5");
        amend(&mut with_length);
        assert_eq!(with_length.length, None);
    }

    #[test]
    fn vary_is_merged() {
        let change = vary;
        amended(change, "200 OK", &["vary: Accept-Encoding"]);
        amended(change, "200 OK\r\nVary: Origin", &["vary: Origin, Accept-Encoding"]);
        amended(change, "200 OK\r\nVary: a\r\nVary: b", &["vary: a, Accept-Encoding", "vary: b"]);
        amended(change, "200 OK\r\nVary:", &["vary: ", "vary: Accept-Encoding"]);
        for there in ["vary: *", "vary: Origin, ACCEPT-encoding", "vary: accept-encoding"] {
            amended(change, &format!("200 OK\r\n{there}"), &[there]);
        }
    }

    #[test]
    fn a_304_names_the_tag_the_client_has() {
        let for_request = |lines: &'static str| {
            move |answer: &mut ResponseHead| {
                amend_not_modified(&Compress::default(), &request(lines).fields, answer);
            }
        };
        let weak = &["etag: W/\"a\"", "vary: Accept-Encoding"];
        amended(for_request("If-None-Match: \"b\", W/\"a\"\r\n"), "304 x\r\nETag: \"a\"", weak);
        amended(for_request("If-None-Match: \"a\"\r\n"), "304 x\r\nETag: W/\"a\"", weak);
        let strong = &["etag: \"a\"", "vary: Accept-Encoding"];
        for request in
            ["If-None-Match: \"a\"\r\n", "", "If-None-Match: W/\"a\", \"a\"\r\n", "If-None-Match: *\r\n"]
        {
            amended(for_request(request), "304 x\r\nETag: \"a\"", strong);
        }
        amended(
            for_request("If-None-Match: W/\"a\"\r\n"),
            "304 x\r\nETag: \"a\"\r\nContent-Encoding: br",
            &["etag: \"a\"", "content-encoding: br"],
        );
        amended(
            for_request("If-None-Match: W/\"a\"\r\n"),
            "304 x\r\nETag: \"a\"\r\nContent-Type: image/png",
            &["etag: \"a\"", "content-type: image/png"],
        );
    }

    #[test]
    fn types() {
        assert_eq!(Compress::default().types.len(), TYPES.len());
        let has = |range: &str, name: &str| range.parse::<MediaRange>().unwrap().has(name.as_bytes());
        assert!(has("*/*", "image/png") && has("TEXT/*", "text/css") && has("+xml", "a/b+XML"));
        assert!(!has("text/*", "texts/css") && !has("+xml", "xml") && !has("a/b", "a/bc"));
        for text in [
            "",
            "text",
            "*",
            "*/html",
            "text/",
            "/html",
            "text/html;q=1",
            "text/a b",
            "+",
            "te*/*",
            "text/h*",
        ] {
            assert!(text.parse::<MediaRange>().is_err(), "{text}");
        }
    }
}
