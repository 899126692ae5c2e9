//! Which of two representations a client would rather have, by its `Accept` (RFC 9110 §12.5.1).

use std::cmp::Reverse;

use http::header::{ACCEPT, HeaderValue};

use super::fields::{Fields, list_elements, trim_ows};
use super::weight::weight;

/// What the client says of a representation. More is better, in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    /// In thousandths; 0: it does not take it.
    weight: u16,
    /// It is named, and not only meant by a star.
    specificity: u8,
    /// Where it is in the list. That says nothing by the RFC, and is all there is left to go by.
    place: Reverse<usize>,
}

impl Preference {
    const NONE: Self = Self { weight: 0, specificity: 0, place: Reverse(usize::MAX) };
}

/// A media range.
#[derive(Clone, Copy, Debug)]
struct Range<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
    weight: u16,
}

impl<'a> Range<'a> {
    /// `None` if it is malformed.
    fn parse(element: &'a [u8]) -> Option<Self> {
        let mut parts = element.split(|byte| *byte == b';').map(trim_ows);
        let name = parts.next()?;
        let slash = name.iter().position(|byte| *byte == b'/')?;
        let (kind, subtype) = (name.get(..slash)?, name.get(slash + 1..)?);
        // Other parameters ask for a variant of the type; there is one of each.
        let weight = weight(parts)?;
        Some(Self { kind, subtype, weight })
    }

    /// How closely it names `kind`/`subtype`, if it means it.
    fn specificity(&self, (kind, subtype): (&str, &str)) -> Option<u8> {
        let is = |range: &[u8], name: &str| range.eq_ignore_ascii_case(name.as_bytes());
        match (self.kind, self.subtype) {
            (b"*", b"*") => Some(0),
            (range, b"*") if is(range, kind) => Some(1),
            (range, sub) if is(range, kind) && is(sub, subtype) => Some(2),
            _ => None,
        }
    }
}

/// What the client says of a content of any of these types: the range that names it most closely decides.
fn preference<'a>(values: impl Iterator<Item = &'a HeaderValue>, types: &[(&str, &str)]) -> Preference {
    let mut found = None;
    for (place, range) in list_elements(values).filter_map(Range::parse).enumerate() {
        for name in types {
            let said = range.specificity(*name);
            found = found.max(said.map(|specificity| (specificity, range.weight, Reverse(place))));
        }
    }
    found.map_or(Preference::NONE, |(specificity, weight, place)| Preference { weight, specificity, place })
}

/// What is sent as `application/problem+json` is JSON for whoever asks for that (RFC 9457 §3 has an example).
const JSON: [(&str, &str); 2] = [("application", "json"), ("application", "problem+json")];

/// Whether a client with these fields would rather have JSON than `other`. Of two that it likes as well, one that it has
/// named comes before one that a star stands for, and then the first: `application/json, text/plain, */*`, which a library
/// for scripts sends unless told otherwise, gets JSON.
pub fn prefers_json(fields: &Fields, other: &HeaderValue) -> bool {
    if !fields.contains(&ACCEPT) {
        return false;
    }
    let name = other.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let other = name.split_once('/').unwrap_or_default();
    let json = preference(fields.get_all(&ACCEPT), &JSON);
    json.weight > 0 && json > preference(fields.get_all(&ACCEPT), &[other])
}

/// Whether a content of this type is JSON itself.
pub fn is_json(content_type: &HeaderValue) -> bool {
    let name = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let name = name.to_ascii_lowercase();
    name == "application/json" || name.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefers(accept: &[&'static str], other: &'static str) -> bool {
        let fields = accept.iter().map(|value| (ACCEPT, HeaderValue::from_static(value))).collect();
        prefers_json(&fields, &HeaderValue::from_static(other))
    }

    #[test]
    fn json_is_for_those_who_prefer_it() {
        const HTML: &str = "text/html; charset=utf-8";
        const TEXT: &str = "text/plain; charset=utf-8";
        for (accept, html, text) in [
            (&[][..], false, false),
            (&[""], false, false),
            (&["*/*"], false, false),
            (&["application/json"], true, true),
            (&["Application/JSON;charset=utf-8"], true, true),
            (&["application/problem+json"], true, true),
            (&["application/*"], true, true),
            (&["text/html, application/json"], false, true),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], false, false),
            (&["application/json, text/plain, */*"], true, true),
            (&["text/plain, text/html, application/json"], false, false),
            (&["application/json;q=0.9, text/html;q=0.8"], true, true),
            (&["application/json;q=0.8", "text/html;q=0.9 , text/plain ; q=0.7"], false, true),
            (&["application/json;q=0"], false, false),
            (&["application/json;q=0, */*"], false, false),
            (&["text/*;q=0.1, application/json;q=0.001"], false, false),
            (&["text/*;q=0.1, */*;q=0.5"], true, true),
            (&["text/html;q=0, text/*"], false, false),
            (&["text/html;q=0, text/*, application/*;q=0.5"], true, false),
            (&["application/json;Q=1.000, text/*;q=0.999"], true, true),
            (&["image/png"], false, false),
            // What is malformed says nothing.
            (&["application/json;q=2"], false, false),
            (&["application/json;q=0.1234", "json", "/", ";q=1", "application/json;q="], false, false),
        ] {
            assert_eq!((prefers(accept, HTML), prefers(accept, TEXT)), (html, text), "{accept:?}");
        }
        assert!(!prefers(&["application/xml, application/json"], "application/xml"));
        assert!(prefers(&["application/json"], ""));
    }

    #[test]
    fn what_is_json() {
        for (name, expected) in [
            ("application/json", true),
            ("application/problem+json; charset=utf-8", true),
            ("APPLICATION/JSON", true),
            ("text/html", false),
            ("application/jsonp", false),
        ] {
            assert_eq!(is_json(&HeaderValue::from_static(name)), expected, "{name}");
        }
    }
}
