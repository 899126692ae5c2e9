//! `Accept-Encoding`: whether a client would rather have gzip than nothing (RFC 9110 §12.5.3).

use http::header::ACCEPT_ENCODING;

use super::fields::{Fields, list_elements, trim_ows};
use super::weight::weight;

/// Whether gzip is taken, and not less gladly than an answer without a coding. A client that says nothing could get any
/// coding; no server gives it one, and neither do we.
#[must_use]
pub fn prefers_gzip(fields: &Fields) -> bool {
    let (mut gzip, mut identity, mut other) = (None, None, None);
    for element in list_elements(fields.get_all(&ACCEPT_ENCODING)) {
        let mut parts = element.split(|byte| *byte == b';').map(trim_ows);
        let coding = parts.next().unwrap_or_default();
        let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
        // x-gzip is another name for it (§8.4.1.3).
        let found = if is("gzip") || is("x-gzip") {
            &mut gzip
        } else if is("identity") {
            &mut identity
        } else if is("*") {
            &mut other
        } else {
            continue;
        };
        // What is not understood is not taken for a wish.
        let weight = weight(parts).unwrap_or(0);
        // Of what is said twice, the less that is wanted.
        *found = Some(found.map_or(weight, |before: u16| before.min(weight)));
    }
    let gzip = gzip.or(other).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn prefers(lines: &[&'static str]) -> bool {
        let line = |line: &&'static str| (ACCEPT_ENCODING, HeaderValue::from_static(line));
        prefers_gzip(&lines.iter().map(line).collect())
    }

    #[test]
    fn gzip_is_taken() {
        for lines in [
            &["gzip"][..],
            &["x-gzip"],
            &["GZip"],
            &["gzip, deflate, br, zstd"],
            &["br", "deflate ,, gzip"],
            &["*"],
            &["br;q=1.0, *;q=0.001"],
            &["gzip;q=0.001"],
            &["gzip ; q=0.5"],
            &["gzip;Q=1.000"],
            &["gzip;q=0.5, identity;q=0.5"],
            &["gzip;q=0.5, *;q=1"],
            &["identity;q=0, *"],
            &["gzip;q=1, *;q=0"],
            &["identity;q=0.999, gzip"],
        ] {
            assert!(prefers(lines), "{lines:?}");
        }
    }

    #[test]
    fn it_is_not() {
        for lines in [
            &[][..],
            &[""],
            &["br, deflate"],
            &["identity"],
            &["gzip;q=0"],
            &["gzip;q=0.000"],
            &["gzip;q=0, *"],
            &["gzip", "gzip;q=0"],
            &["gzip, x-gzip;q=0"],
            &["*;q=0"],
            &["identity, gzip;q=0.9"],
            &["identity, *;q=0.5"],
            &["gzip;q=2"],
            &["gzip;q=1.001"],
            &["gzip;q=0.1234"],
            &["gzip;q="],
            &["gzip;q=a"],
            &["gzip;q=-1"],
            &["gzip;q= 1"],
            &["gzipped"],
            &["not-gzip"],
            &["\"gzip\""],
        ] {
            assert!(!prefers(lines), "{lines:?}");
        }
    }
}
