//! Cookies of a request (RFC 6265 §4.2, §5.4).

use http::header::COOKIE;

use super::fields::{Fields, trim_ows};

/// The values of all cookies of that name, in the order in which the client sent them: there are several when it got
/// them for different paths. Names are case-sensitive; quotes belong to a value.
pub fn cookies_named<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.get_all(&COOKIE).flat_map(|line| line.as_bytes().split(|&byte| byte == b';')).filter_map(
        move |pair| {
            let (found, value) = pair.split_at_checked(pair.iter().position(|&byte| byte == b'=')?)?;
            (trim_ows(found) == name.as_bytes()).then(|| trim_ows(value.strip_prefix(b"=").unwrap_or(value)))
        },
    )
}

#[cfg(test)]
mod tests {
    use http::header::{HOST, HeaderValue};

    use super::*;

    #[test]
    fn finds_every_cookie_of_a_name() {
        let fields: Fields = [
            (COOKIE, "a=1; b=2;a=3 ;aa=4"),
            (HOST, "a=5"),
            (COOKIE, "A=6; a; =7; a = 8"),
            (COOKIE, ""),
            (COOKIE, ";;a=;a=\"9=\""),
        ]
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect();
        let found = |name| cookies_named(&fields, name).collect::<Vec<_>>();
        assert_eq!(found("a"), [&b"1"[..], b"3", b"8", b"", b"\"9=\""]);
        assert_eq!(found("b"), [b"2"]);
        assert_eq!(found("c"), [b""; 0]);
    }
}
