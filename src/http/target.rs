//! Request targets: their forms, what is sent upstream, and the path that routing looks at
//! (RFC 9112 §3.2, RFC 3986 §5.2.4).

use std::borrow::Cow;
use std::net::Ipv6Addr;

use bytes::Bytes;
use http::Method;
use http::uri::PathAndQuery;

use super::framing::parse_decimal;
use super::head::HeadError;

/// The longest target `http::Uri` can hold.
pub(crate) const MAX_LEN: usize = 65_534;

/// A request target that may be sent upstream, and the path it is routed by.
///
/// The two are kept apart on purpose: the backend gets the bytes the client sent, routing gets a path that means
/// the same however it was spelled.
#[derive(Debug, Clone)]
pub struct RequestTarget {
    path_and_query: PathAndQuery,
    /// Only if it differs from the path as sent.
    routing_path: Option<Box<str>>,
}

impl RequestTarget {
    /// Takes a request target apart. Returns the authority too if the target has one (absolute form). `is_secured`: it came
    /// over TLS.
    ///
    /// # Errors
    ///
    /// 414 beyond 65,534 bytes; 421 (`misdirected`) for an `https` URI that came without TLS; 400 (`bad_target`) for
    /// - a form that fits neither the method nor a reverse proxy: authority form, `*` with anything but OPTIONS,
    ///   schemes other than `http` and `https`,
    /// - user information or any other malformed authority in an absolute form,
    /// - a fragment (`http::Uri` would cut it off), bytes beyond 0x7f and the characters `http::Uri` refuses,
    /// - a path that climbs above the root.
    pub fn parse(
        method: &Method,
        target: &Bytes,
        is_secured: bool,
    ) -> Result<(Self, Option<Bytes>), HeadError> {
        if target.len() > MAX_LEN {
            return Err(HeadError::new(414, "uri_too_long", "request target longer than 65,534 bytes"));
        }
        // No URI has any (RFC 3986 §2), and servers take them for characters of different encodings.
        if !target.is_ascii() {
            return Err(bad_target("byte beyond 0x7f in the request target"));
        }
        match target.as_ref() {
            [b'/', ..] => Ok((Self::origin_form(target)?, None)),
            b"*" if *method == Method::OPTIONS => Ok((Self::asterisk(), None)),
            b"*" => Err(bad_target("request target * with a method other than OPTIONS")),
            _ => {
                let (target, authority) = Self::absolute_form(method, target, is_secured)?;
                Ok((target, Some(authority)))
            }
        }
    }

    /// The target in the form it is sent upstream: as the client sent it, byte for byte; of an absolute form,
    /// what follows the authority; `*` for `OPTIONS *`.
    pub fn as_str(&self) -> &str {
        self.path_and_query.as_str()
    }

    /// The same, as the type a request to a backend is built from.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.path_and_query
    }

    /// The path to choose a route by: dot segments resolved, unreserved characters not percent-encoded; see
    /// [`normalize_path`]. `/` for `OPTIONS *`, so that it reaches the backends that serve everything.
    pub fn routing_path(&self) -> &str {
        self.routing_path.as_deref().unwrap_or_else(|| self.path_and_query.path())
    }

    fn origin_form(target: &Bytes) -> Result<Self, HeadError> {
        // It would be cut off silently, and the backend would see another target than the one that was checked.
        if target.contains(&b'#') {
            return Err(bad_target("fragment in the request target"));
        }
        let path_and_query = PathAndQuery::from_maybe_shared(target.clone())
            .map_err(|_| bad_target("invalid character in the request target"))?;
        if path_and_query.as_str().as_bytes() != target.as_ref() {
            return Err(bad_target("request target that cannot be sent unchanged"));
        }
        let routing_path = match normalize_path(path_and_query.path()) {
            Some(Cow::Borrowed(_)) => None,
            Some(Cow::Owned(path)) => Some(path.into_boxed_str()),
            None => return Err(bad_target("path climbs above the root")),
        };
        Ok(Self { path_and_query, routing_path })
    }

    fn asterisk() -> Self {
        Self { path_and_query: PathAndQuery::from_static("*"), routing_path: Some("/".into()) }
    }

    /// `http://authority/path?query`, sent to proxies; servers must take it as well (RFC 9112 §3.2.2).
    fn absolute_form(method: &Method, target: &Bytes, is_secured: bool) -> Result<(Self, Bytes), HeadError> {
        let colon = target.iter().position(|&b| b == b':');
        let (scheme, rest) = colon
            .and_then(|at| target.split_at_checked(at))
            .ok_or(bad_target("neither a path nor an absolute URI"))?;
        let is_https = scheme.eq_ignore_ascii_case(b"https");
        if is_https && !is_secured {
            // A request for it over a connection that is not secured must be refused (RFC 9110 §7.4).
            return Err(HeadError::new(421, "misdirected", "https URI over a connection without TLS"));
        }
        if !is_https && !scheme.eq_ignore_ascii_case(b"http") {
            return Err(bad_target("neither a path nor an http URI"));
        }
        let rest = rest.strip_prefix(b"://").ok_or(bad_target("neither a path nor an http URI"))?;
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or(bad_target("malformed absolute URI"))?;
        if authority.is_empty() || !is_host_and_port(authority) {
            return Err(bad_target("malformed authority in the request target"));
        }
        let parsed = match path {
            // "If the target's path is empty, the last proxy sends * for OPTIONS" (RFC 9112 §3.2.4).
            [] if *method == Method::OPTIONS => Self::asterisk(),
            [] => Self { path_and_query: PathAndQuery::from_static("/"), routing_path: None },
            [b'/', ..] => Self::origin_form(&target.slice_ref(path))?,
            query => Self::origin_form(&[b"/", query].concat().into())?,
        };
        Ok((parsed, target.slice_ref(authority)))
    }
}

/// The path as routing sees it, borrowed if there is nothing to change; `None` if it climbs above the root.
///
/// - Percent-encoded unreserved characters are decoded: `/%61pi` is `/api` (RFC 3986 §6.2.2.2), `/%2e%2E/` is
///   `/../`. Once only: `%252e` stays what it is. The digits of the rest are made upper case (§6.2.2.1).
/// - Dot segments are resolved (§5.2.4), after that decoding.
/// - An encoded slash (`%2F`) is data, not a separator: decoded, it would change what the path means.
/// - Empty segments stay: `//api` is not `/api`. The target is forwarded byte for byte, so a backend that sees
///   `//api` decides what that is. Where that would be a matter of another route, the request is refused: see
///   `loose_reading`.
///
/// Prefixes of routes compare equal to it when they have gone through it as well.
pub fn normalize_path(path: &str) -> Option<Cow<'_, str>> {
    if !path.bytes().any(|b| matches!(b, b'%' | b'.')) {
        return Some(Cow::Borrowed(path));
    }
    let decoded = if path.contains('%') { decode_unreserved(path) } else { Cow::Borrowed(path) };
    if !decoded.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Some(decoded);
    }
    let mut output = String::with_capacity(decoded.len());
    let mut segments = decoded.strip_prefix('/').unwrap_or(&decoded).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => output.truncate(output.rfind('/')?),
            _ => {
                output.push('/');
                output.push_str(segment);
                continue;
            }
        }
        if last {
            output.push('/');
        }
    }
    Some(Cow::Owned(output))
}

/// How programs read a path that take `%2F` for a slash, several slashes for one, and whatever climbs above the root for the root,
/// as many do. `None`: there is nothing in it that they read differently.
pub(crate) fn loose_reading(path: &str) -> Option<String> {
    let mut before = 0;
    let is_plain = path.bytes().all(|byte| {
        let is_second = byte == b'/' && before == b'/';
        before = byte;
        byte != b'%' && !is_second
    });
    if is_plain {
        return None;
    }
    let decoded = decode_unreserved(path).replace("%2F", "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let is_folder = ["/", "/.", "/.."].into_iter().any(|end| decoded.ends_with(end));
    let end = if is_folder && !segments.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", segments.join("/")))
}

/// The path with percent-encoded unreserved characters decoded, and the digits of the rest in upper case.
pub(crate) fn decode_unreserved(path: &str) -> Cow<'_, str> {
    let mut output = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        output.push_str(before);
        let hex = after.get(..2).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(hex) = hex else {
            // Not an escape at all; it is sent on as it is, and routed as it is.
            output.push('%');
            rest = after;
            continue;
        };
        match u8::from_str_radix(hex, 16) {
            Ok(b) if is_unreserved(b) => output.push(char::from(b)),
            _ => {
                output.push('%');
                output.extend(hex.chars().map(|c| c.to_ascii_uppercase()));
            }
        }
        rest = after.get(2..).unwrap_or_default();
    }
    output.push_str(rest);
    if output == path { Cow::Borrowed(path) } else { Cow::Owned(output) }
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2) with a host that isn't empty: no user information, no path, no
/// whitespace. Stricter than the grammar in two things nobody uses: IPvFuture literals and ports above 65535.
pub(crate) fn is_host_and_port(value: &[u8]) -> bool {
    let (host_is_valid, port) = if let Some(literal) = value.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|&b| b == b']') else {
            return false;
        };
        let (address, rest) = literal.split_at_checked(end).unwrap_or_default();
        let address = std::str::from_utf8(address).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
        (address.is_some(), rest.strip_prefix(b"]").unwrap_or_default())
    } else {
        let end = value.iter().position(|&b| b == b':').unwrap_or(value.len());
        let (name, rest) = value.split_at_checked(end).unwrap_or_default();
        (!name.is_empty() && is_reg_name(name), rest)
    };
    host_is_valid
        && match port {
            [] | [b':'] => true,
            [b':', digits @ ..] => parse_decimal(digits).is_some_and(|port| port <= u64::from(u16::MAX)),
            _ => false,
        }
}

/// `*( unreserved / pct-encoded / sub-delims )` (RFC 3986 §3.2.2); IPv4 addresses are among them.
fn is_reg_name(mut name: &[u8]) -> bool {
    let is_sub_delim =
        |b| matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
    while let Some(at) = name.iter().position(|&b| !is_unreserved(b) && !is_sub_delim(b)) {
        match name.get(at..) {
            Some([b'%', high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                name = rest;
            }
            _ => return false,
        }
    }
    true
}

/// RFC 3986 §2.3.
const fn is_unreserved(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~')
}

const fn bad_target(detail: &'static str) -> HeadError {
    HeadError::new(400, "bad_target", detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(method: &Method, target: &str) -> Result<(RequestTarget, Option<String>), (u16, &'static str)> {
        RequestTarget::parse(method, &Bytes::copy_from_slice(target.as_bytes()), false)
            .map(|(target, authority)| (target, authority.map(|a| String::from_utf8(a.to_vec()).unwrap())))
            .map_err(|e| (e.status(), e.word()))
    }

    fn get(target: &str) -> (String, String, Option<String>) {
        let (target, authority) = parse(&Method::GET, target).unwrap();
        assert_eq!(target.as_str(), target.path_and_query().as_str());
        (target.as_str().to_owned(), target.routing_path().to_owned(), authority)
    }

    const BAD: Option<(u16, &str)> = Some((400, "bad_target"));

    #[test]
    fn others_merge_and_decode_slashes() {
        for path in ["/", "/a", "/a/b/", "/a/../b", "*", ""] {
            assert_eq!(loose_reading(path), None, "{path}");
        }
        for (path, read) in [
            ("//a", "/a"),
            ("/a///b//", "/a/b/"),
            ("/%2Fa", "/a"),
            ("/a%2fb%20%7e", "/a/b%20~"),
            ("/a/..%2Fb", "/b"),
            ("/a%2F..%2F..%2Fb/.", "/b/"),
            ("/a//..//../b", "/b"),
            ("/%2e%2e//", "/"),
        ] {
            assert_eq!(loose_reading(path).as_deref(), Some(read), "{path}");
        }
    }

    #[test]
    fn origin_form_goes_through_byte_for_byte() {
        let targets = [
            "/",
            "/?",
            "/?x",
            "/a/b.css?q=1&r=/../?#".trim_end_matches('#'),
            "//a",
            "/a//b",
            "/../x".trim_start_matches("/.."),
            "/%zz",
            "/%00",
            "/a%2Fb",
            "/{a}|b^c\\[d]",
            "/\"?`",
            "/*",
            "/a/../b",
            "/%2e/x",
            "/a;b=c/..;/",
        ];
        for target in targets {
            assert_eq!(get(target).0, target);
        }
    }

    #[test]
    fn absolute_form() {
        let host = |h: &str| Some(h.to_owned());
        assert_eq!(get("http://h:80/a?b"), ("/a?b".into(), "/a".into(), host("h:80")));
        assert_eq!(get("HTTP://[::1]/"), ("/".into(), "/".into(), host("[::1]")));
        assert_eq!(get("http://h"), ("/".into(), "/".into(), host("h")));
        assert_eq!(get("http://h?x"), ("/?x".into(), "/".into(), host("h")));
        assert_eq!(get("http://h/a/../b"), ("/a/../b".into(), "/b".into(), host("h")));
        let (target, authority) = parse(&Method::OPTIONS, "http://h").unwrap();
        assert_eq!((target.as_str(), authority), ("*", host("h")));
        let (target, _) = parse(&Method::OPTIONS, "http://h?").unwrap();
        assert_eq!(target.as_str(), "/?");
    }

    #[test]
    fn asterisk_form_is_for_options() {
        let (target, authority) = parse(&Method::OPTIONS, "*").unwrap();
        assert_eq!((target.as_str(), target.routing_path(), authority), ("*", "/", None));
        assert_eq!(parse(&Method::GET, "*").err(), BAD);
    }

    #[test]
    fn other_forms_are_refused() {
        let bad = [
            "",
            "h:80",
            "h",
            "example.com/a",
            "ftp://h/",
            "http:/h",
            "http:h",
            "http://",
            "http:///a",
            "http://?x",
            "http://u@h/",
            "http://u:p@h/",
            "http://h:x/",
            "http://h:65536/",
            "http://h\\/",
            "http://[::1/",
            "http://[::1]x/",
            "http://:80/",
            "http://a b/",
            "://h/",
            "/\u{e4}",
            "/?\u{f6}",
            "http://h/\u{e4}",
            "?x",
            "*a",
            "**",
        ];
        for target in bad {
            assert_eq!(parse(&Method::GET, target).err(), BAD, "{target:?}");
        }
        for target in ["https://h/", "HTTPS://h", "https:"] {
            assert_eq!(parse(&Method::GET, target).err(), Some((421, "misdirected")), "{target:?}");
        }
    }

    #[test]
    fn what_would_be_altered_is_refused() {
        let bad = [
            "/#",
            "/a#f",
            "/?a#f",
            "http://h#f",
            "http://h/#f",
            "/a b",
            "/<",
            "/>",
            "/?<",
            "/?\"",
            "/`",
            "/\x7f",
        ];
        for target in bad {
            assert_eq!(parse(&Method::GET, target).err(), BAD, "{target:?}");
        }
        let not_utf8 = RequestTarget::parse(&Method::GET, &Bytes::from_static(b"/\xff"), false);
        assert_eq!(not_utf8.unwrap_err().status(), 400);
    }

    #[test]
    fn length_is_bounded_by_what_a_uri_can_hold() {
        let longest = format!("/{}", "a".repeat(MAX_LEN - 1));
        assert_eq!(get(&longest).0.len(), MAX_LEN);
        assert_eq!(parse(&Method::GET, &format!("{longest}a")).err(), Some((414, "uri_too_long")));
    }

    #[test]
    fn routing_resolves_dot_segments_and_needless_escapes() {
        let same = [
            "/",
            "//",
            "//a",
            "/a//b/",
            "/a.b",
            "/.well-known/x",
            "/...",
            "/..a/b..",
            "/a%2Fb",
            "/%252e%252e/",
            "/a/%2F..",
            "/%",
        ];
        for path in same {
            assert!(matches!(normalize_path(path), Some(Cow::Borrowed(p)) if p == path), "{path:?}");
        }
        let changed = [
            ("/public/../admin", "/admin"),
            ("/./a", "/a"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../..", "/"),
            ("/.", "/"),
            ("/a/./b/../c", "/a/c"),
            ("/a//../b", "/a/b"),
            ("//..", "/"),
            ("//../a", "/a"),
            ("/public/%2e%2E/admin", "/admin"),
            ("/public/.%2e/admin", "/admin"),
            ("/%61pi", "/api"),
            ("/%41%7e%2d%5F", "/A~-_"),
            ("/a%2fb", "/a%2Fb"),
            ("/%zz%61", "/%zza"),
            ("/%%61", "/%a"),
            ("/%c3%a4", "/%C3%A4"),
            ("/%2%61", "/%2a"),
        ];
        for (path, expected) in changed {
            assert_eq!(normalize_path(path).as_deref(), Some(expected), "{path:?}");
            assert_eq!(get(path).1, expected, "{path:?}");
        }
        // Routing looks at the path only.
        assert_eq!(get("/a?/../b%61").1, "/a");
    }

    #[test]
    fn a_path_that_climbs_above_the_root_is_refused() {
        for path in
            ["/..", "/../", "/../x", "/a/../..", "/a/../../b", "/%2e%2e", "/.%2E/x", "/./..", "http://h/.."]
        {
            assert_eq!(parse(&Method::GET, path).err(), BAD, "{path:?}");
        }
    }

    #[test]
    fn hosts() {
        let good = [
            "h",
            "example.com",
            "example.com:",
            "example.com:80",
            "h:65535",
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:80",
            "[2001:db8::1]:",
            "a_b",
            "xn--e1afmkfd.example",
            "%41",
            "a.",
            "h:00080",
        ];
        for host in good {
            assert!(is_host_and_port(host.as_bytes()), "{host:?}");
        }
        let bad = [
            "",
            ":80",
            "u@h",
            "u:p@h",
            "a b",
            " h",
            "h/",
            "h/a",
            "h?",
            "h#",
            "h:80:80",
            "h:x",
            "h:-1",
            "h:+1",
            "h:65536",
            "[::1",
            "::1",
            "[]",
            "[h]",
            "[::1%eth0]",
            "[::1]80",
            "[v1.a]",
            "%4",
            "%",
            "%zz",
            "h\\",
            "h\t",
            "\u{e4}",
            "h, h",
            "\"h\"",
            "<h>",
            "h\0",
        ];
        for host in bad {
            assert!(!is_host_and_port(host.as_bytes()), "{host:?}");
        }
    }

    proptest! {
        #[test]
        fn a_normalized_path_stays_as_it_is(path in "(/(\\.|\\.\\.|%2[eEfF]|%6[1a]|[a-z%.]){0,3}){1,6}") {
            if let Some(once) = normalize_path(&path) {
                // Decoding may make a new escape out of a stray percent sign: "%%34%31" is "%41". Then it is odd,
                // but still not something that a dot segment could hide in.
                prop_assert!(once.starts_with('/'));
                prop_assert!(!once.split('/').any(|segment| matches!(segment, "." | "..")));
            }
        }

        #[test]
        fn any_target_is_taken_unchanged_or_refused(target in "(/|http://h|\\*)\\PC{0,20}") {
            if let Ok((parsed, authority)) = parse(&Method::GET, &target) {
                let end = authority.map_or(0, |authority| "http://".len() + authority.len());
                let expected = &target[end..];
                let with_path = format!("/{expected}");
                prop_assert!(parsed.as_str() == expected || (end > 0 && parsed.as_str() == with_path));
                prop_assert!(parsed.routing_path().starts_with('/'));
            }
        }
    }
}
