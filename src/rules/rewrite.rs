//! Another path for the backend: `strip_prefix` and `replace_prefix` of a route, and the way back for what the backend says
//! about paths.
//!
//! What is changed is whole segments at the beginning of the path. All that follows them, the query and the way in which
//! anything is percent-encoded stay as they came.

use std::borrow::Cow;

use http::header::{self, HeaderValue};

use crate::http::fields::{Fields, trim_ows};
use crate::http::target::decode_unreserved;
use crate::routing::Prefix;

/// What clients know as one prefix, and the backend as another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRewrite {
    /// Without a slash at its end: nothing for `/`.
    outside: String,
    /// In the same way.
    inside: String,
}

impl PathRewrite {
    /// `outside` is the prefix of the route, `inside` what the backend has in its place: `/` for nothing.
    #[must_use]
    pub fn new(outside: &Prefix, inside: &Prefix) -> Self {
        let bare = |prefix: &Prefix| prefix.as_str().strip_suffix('/').unwrap_or(prefix.as_str()).to_owned();
        Self { outside: bare(outside), inside: bare(inside) }
    }

    /// The prefix as clients know it.
    #[must_use]
    pub fn outside(&self) -> &str {
        if self.outside.is_empty() { "/" } else { &self.outside }
    }

    /// How much longer it makes a target, at most.
    #[must_use]
    pub fn growth(&self) -> usize {
        self.inside.len() + 1
    }

    /// The target that the backend gets in place of `target`. `*` stays.
    #[must_use]
    pub fn to_backend<'t>(&self, target: &'t str) -> Cow<'t, str> {
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let Some(rest) = self.end_of_prefix(path).and_then(|at| path.get(at..)) else {
            return Cow::Borrowed(target);
        };
        let slash = if self.inside.is_empty() && rest.is_empty() { "/" } else { "" };
        Cow::Owned([&self.inside, slash, rest, query].concat())
    }

    /// Where in `path` the prefix ends, however it is spelled: `/%61pi` and `/x/../api` are `/api`. What follows never climbs
    /// out of it again: else the backend would resolve to something that routing has not seen.
    fn end_of_prefix(&self, path: &str) -> Option<usize> {
        let prefix: Vec<&str> = self.outside.split('/').skip(1).collect();
        let mut end = prefix.is_empty().then_some(0);
        // Segments so far, dot segments resolved; and how many of them are those of the prefix.
        let (mut depth, mut same) = (0_usize, 0);
        let mut at = 0;
        for segment in path.strip_prefix('/')?.split('/') {
            at += 1 + segment.len();
            let decoded = decode_unreserved(segment);
            match decoded.as_ref() {
                "." => {}
                ".." => {
                    depth = depth.checked_sub(1)?;
                    same = same.min(depth);
                    if same < prefix.len() {
                        end = None;
                    }
                }
                other => {
                    if same == depth && prefix.get(depth) == Some(&other) {
                        same += 1;
                        if same == prefix.len() {
                            end = Some(at);
                        }
                    }
                    depth += 1;
                }
            }
        }
        end
    }

    /// The path that clients know, with what follows it, for one that begins with `/`. `None`: it is not below what was changed.
    fn to_client(&self, path: &str) -> Option<String> {
        let (path, tail) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
        let rest = self.below_inside(path)?;
        let slash = match (self.outside.is_empty(), rest) {
            (true, "") => "/",
            // Two slashes would begin the name of a host. A dot between them changes nothing (RFC 3986 §4.2).
            (true, rest) if rest.starts_with("//") => "/.",
            _ => "",
        };
        Some([&self.outside, slash, rest, tail].concat())
    }

    fn below_inside<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.inside.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Changes what the fields of an answer say about paths. `host` is the `Host` that the backend got; `is_known`: clients
    /// know it as well.
    pub(crate) fn amend(&self, fields: &mut Fields, host: &HeaderValue, is_known: bool) {
        for (name, value) in fields.iter_mut() {
            let changed = match *name {
                header::LOCATION | header::CONTENT_LOCATION => value
                    .to_str()
                    .ok()
                    .and_then(|text| self.reference(text, host.as_bytes(), is_known))
                    .map(Vec::from),
                header::REFRESH => value
                    .to_str()
                    .ok()
                    .and_then(|text| self.refresh(text, host.as_bytes(), is_known))
                    .map(Vec::from),
                header::SET_COOKIE => self.cookie(value.as_bytes()),
                _ => None,
            };
            // Of parts of values that were fine, and of text from the configuration, a value can be made.
            if let Some(changed) = changed.and_then(|changed| HeaderValue::from_bytes(&changed).ok()) {
                *value = changed;
            }
        }
    }

    /// A URL of the backend itself, or a path. What is relative is right as it is, and other hosts are not ours.
    fn reference(&self, text: &str, host: &[u8], is_known: bool) -> Option<String> {
        if text.starts_with('/') && !text.starts_with("//") {
            return self.to_client(text);
        }
        let (scheme, rest) = text.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !authority.as_bytes().eq_ignore_ascii_case(host) {
            return None;
        }
        let path = if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) };
        let path = self.to_client(&path)?;
        // Of a backend's own address clients know nothing.
        Some(if is_known { format!("{scheme}://{authority}{path}") } else { path })
    }

    /// A `Refresh` to another URL.
    fn refresh(&self, text: &str, host: &[u8], is_known: bool) -> Option<String> {
        let (before, url, after) = refresh_url(text)?;
        let url = self.reference(url, host, is_known)?;
        Some([before, &url, after].concat())
    }

    /// A `Set-Cookie` with another `Path`.
    fn cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut changed = false;
        let mut out = Vec::with_capacity(value.len() + self.outside.len());
        for (n, part) in value.split(|&byte| byte == b';').enumerate() {
            if n > 0 {
                out.push(b';');
            }
            match self.cookie_path(part).filter(|_| n > 0) {
                Some(path) => {
                    out.extend_from_slice(b" Path=");
                    out.extend_from_slice(path.as_bytes());
                    changed = true;
                }
                None => out.extend_from_slice(part),
            }
        }
        changed.then_some(out)
    }

    /// What becomes of an attribute of a cookie that is a path: `/` of the backend is all of the route, which has no slash at
    /// its end (RFC 6265 §5.1.4: with one, a request for the prefix itself would go without the cookie).
    fn cookie_path(&self, attribute: &[u8]) -> Option<String> {
        let at = attribute.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (attribute.get(..at)?, attribute.get(at + 1..)?);
        if !trim_ows(name).eq_ignore_ascii_case(b"path") {
            return None;
        }
        let path = str::from_utf8(trim_ows(value)).ok().filter(|path| path.starts_with('/'))?;
        let rest = self.below_inside(path)?;
        let path = [self.outside.as_str(), if rest == "/" { "" } else { rest }].concat();
        Some(if path.is_empty() { "/".to_owned() } else { path })
    }
}

/// What comes before the URL in a `Refresh`, the URL, and what follows it. No RFC has this field; browsers read it as HTML
/// says ("shared declarative refresh steps"): seconds, a semicolon, a comma or a space, then the URL, which `url=` may come
/// before and quotes may be around.
fn refresh_url(text: &str) -> Option<(&str, &str, &str)> {
    let rest = text.trim_start().trim_start_matches(|char: char| char.is_ascii_digit() || char == '.');
    if !rest.starts_with([';', ',', ' ', '\t']) {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix([';', ',']).unwrap_or(rest).trim_start();
    let named = rest
        .get(..3)
        .filter(|word| word.eq_ignore_ascii_case("url"))
        .and_then(|word| rest.strip_prefix(word)?.trim_start().strip_prefix('='));
    let rest = named.unwrap_or(rest).trim_start();
    let (url, after) = match rest.chars().next().filter(|char| ['"', '\''].contains(char)) {
        Some(quote) => {
            let quoted = rest.strip_prefix(quote)?;
            quoted.split_at(quoted.find(quote).unwrap_or(quoted.len()))
        }
        None => (rest, ""),
    };
    // The two that follow are ends of the text.
    let before = text.get(..text.len() - after.len() - url.len())?;
    Some((before, url, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::target::normalize_path;

    fn rewrite(outside: &str, inside: &str) -> PathRewrite {
        PathRewrite::new(&Prefix::parse(outside).unwrap(), &Prefix::parse(inside).unwrap())
    }

    #[test]
    fn what_the_backend_gets() {
        for (outside, inside, target, expected) in [
            ("/api", "/", "/api/x?y=/api", "/x?y=/api"),
            ("/api", "/", "/api", "/"),
            ("/api", "/", "/api?q", "/?q"),
            ("/api", "/", "/api/", "/"),
            ("/api", "/", "/api//x", "//x"),
            ("/api", "/", "/api/a%2Fb%41", "/a%2Fb%41"),
            ("/api", "/", "/%61pi/%61", "/%61"),
            ("/api", "/", "/x/../api/y", "/y"),
            ("/api", "/", "/api/../api/y", "/y"),
            ("/api", "/", "/api/x/../y", "/x/../y"),
            ("/api", "/", "/%2e/api/./y", "/./y"),
            ("/api", "/", "/api/..%2f", "/..%2f"),
            ("/api", "/v2", "/api", "/v2"),
            ("/api", "/v2", "/api/", "/v2/"),
            ("/api", "/v2/w", "/api/x", "/v2/w/x"),
            ("/a/b", "/c", "/a/b/x", "/c/x"),
            ("/a/b", "/", "/a/x/../b/y", "/y"),
            ("/", "/v2", "/x?y", "/v2/x?y"),
            ("/", "/v2", "/", "/v2/"),
            ("/", "/v2", "//x", "/v2//x"),
            ("/", "/v2", "*", "*"),
        ] {
            assert_eq!(rewrite(outside, inside).to_backend(target), expected, "{outside} {inside} {target}");
        }
    }

    /// One that backends get with the address `backend:1`.
    fn amended(
        rewrite: &PathRewrite,
        name: &'static str,
        value: &str,
        host: &'static str,
        known: bool,
    ) -> String {
        let name = header::HeaderName::from_static(name);
        let mut fields: Fields =
            [(name.clone(), HeaderValue::from_str(value).unwrap())].into_iter().collect();
        rewrite.amend(&mut fields, &HeaderValue::from_static(host), known);
        fields.get(&name).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn what_the_client_gets() {
        let (strip, replace, below) = (rewrite("/api", "/"), rewrite("/api", "/v2"), rewrite("/", "/v2"));
        for (rewrite, location, expected) in [
            (&strip, "/x?y#z", "/api/x?y#z"),
            (&strip, "/", "/api/"),
            (&strip, "http://Backend:1/x", "/api/x"),
            (&strip, "https://backend:1?y", "/api/?y"),
            (&strip, "http://backend:1", "/api/"),
            (&strip, "http://backend:2/x", "http://backend:2/x"),
            (&strip, "//backend:1/x", "//backend:1/x"),
            (&strip, "x/y", "x/y"),
            (&strip, "?y", "?y"),
            (&strip, "", ""),
            (&strip, "ftp://backend:1/x", "ftp://backend:1/x"),
            (&replace, "/v2", "/api"),
            (&replace, "/v2/x", "/api/x"),
            (&replace, "/v2?x", "/api?x"),
            (&replace, "/v22", "/v22"),
            (&replace, "/other", "/other"),
            (&replace, "http://backend:1/other", "http://backend:1/other"),
            (&below, "/v2", "/"),
            (&below, "/v2/x", "/x"),
            (&below, "/v2//evil.test/", "/.//evil.test/"),
        ] {
            for name in ["location", "content-location"] {
                assert_eq!(amended(rewrite, name, location, "backend:1", false), expected, "{location}");
            }
            assert_eq!(amended(rewrite, "x-location", location, "backend:1", false), location);
        }
        let known = amended(&strip, "location", "http://shop.example/x", "shop.example", true);
        assert_eq!(known, "http://shop.example/api/x");
    }

    #[test]
    fn where_a_refresh_leads() {
        let strip = rewrite("/api", "/");
        for (refresh, expected) in [
            ("5; url=/x?y#z", "5; url=/api/x?y#z"),
            ("5;URL = /x", "5;URL = /api/x"),
            ("0.5 , url='/x' y", "0.5 , url='/api/x' y"),
            ("5; url=\"/x", "5; url=\"/api/x"),
            ("5 /x", "5 /api/x"),
            ("5; '/x'", "5; '/api/x'"),
            ("5; url=http://Backend:1/x", "5; url=/api/x"),
            ("5; url=http://backend:2/x", "5; url=http://backend:2/x"),
            ("5; url=x", "5; url=x"),
            ("5; url/x", "5; url/x"),
            ("5; url=", "5; url="),
            ("5;", "5;"),
            ("5", "5"),
            ("/x", "/x"),
            ("5/x", "5/x"),
            ("", ""),
        ] {
            assert_eq!(amended(&strip, "refresh", refresh, "backend:1", false), expected);
        }
        assert_eq!(refresh_url(" 5; '/x'"), Some((" 5; '", "/x", "'")));
    }

    #[test]
    fn paths_of_cookies() {
        let (strip, replace, below) = (rewrite("/api", "/"), rewrite("/api", "/v2"), rewrite("/", "/v2"));
        for (rewrite, cookie, expected) in [
            (&strip, "a=b; Path=/; HttpOnly", "a=b; Path=/api; HttpOnly"),
            (&strip, "a=b;path = /x ;Secure", "a=b; Path=/api/x;Secure"),
            (&strip, "Path=/x", "Path=/x"),
            (&strip, "a=b", "a=b"),
            (&strip, "a=b; Path=; Path", "a=b; Path=; Path"),
            (&strip, "a=b; Path=x", "a=b; Path=x"),
            (&replace, "a=b; Path=/v2", "a=b; Path=/api"),
            (&replace, "a=b; Path=/v2/", "a=b; Path=/api"),
            (&replace, "a=b; Path=/", "a=b; Path=/"),
            (&below, "a=b; Path=/v2", "a=b; Path=/"),
            (&below, "a=b; Path=/v2/x", "a=b; Path=/x"),
        ] {
            assert_eq!(amended(rewrite, "set-cookie", cookie, "backend:1", false), expected);
        }
    }

    proptest! {
        /// There and back is where it was.
        #[test]
        fn there_and_back(
            outside in "/|(/[a-z]{1,3}){1,3}",
            inside in "/|(/[a-z]{1,3}){1,3}",
            rest in "(/[a-z%.]{0,3}){0,4}",
            query in "(\\?[a-z/?]{0,5})?",
        ) {
            let rewrite = rewrite(&outside, &inside);
            let bare = outside.strip_suffix('/').unwrap_or(&outside);
            let path = format!("{bare}{rest}");
            let path = if path.is_empty() { "/".to_owned() } else { path };
            // Only what routing sends here.
            let below = format!("{bare}/");
            prop_assume!(normalize_path(&path).is_some_and(|seen| seen == outside || seen.starts_with(&below)));
            prop_assume!(normalize_path(&format!("/{rest}")).is_some());
            prop_assume!(rewrite.end_of_prefix(&path) == Some(bare.len()));
            let target = format!("{path}{query}");
            let sent = rewrite.to_backend(&target).into_owned();
            let back = rewrite.to_client(&sent);
            // The one thing that is not the same: a backend without a prefix has no name for the prefix without its slash.
            let expected = match (inside.as_str(), rest.as_str()) {
                ("/", "") => format!("{bare}/{query}"),
                _ if target.starts_with("//") => format!("/.{target}"),
                _ => target,
            };
            prop_assert_eq!(back.as_deref(), Some(expected.as_str()));

            // And so in every field of an answer that has it as a path or in a URL.
            let answered = |name, value: &str| amended(&rewrite, name, value, "backend:1", false);
            for name in ["location", "content-location"] {
                prop_assert_eq!(&answered(name, &format!("http://backend:1{sent}")), &expected);
            }
            let refresh = answered("refresh", &format!("5; url=\"http://backend:1{sent}\""));
            prop_assert_eq!(refresh, format!("5; url=\"{expected}\""));
            // With two slashes at its beginning it would name a host.
            if !sent.starts_with("//") {
                for name in ["location", "content-location"] {
                    prop_assert_eq!(&answered(name, &sent), &expected);
                }
                prop_assert_eq!(answered("refresh", &format!("5; url={sent}")), format!("5; url={expected}"));
            }
            // The path of a cookie has no query, and no slash where it is all of the route.
            let sent = sent.split('?').next().unwrap_or_default();
            let all = if bare.is_empty() { "/" } else { bare };
            let expected = if rest.is_empty() || rest == "/" { all } else { path.as_str() };
            let cookie = answered("set-cookie", &format!("a=b; Path={sent}; Secure"));
            prop_assert_eq!(cookie, format!("a=b; Path={expected}; Secure"));
        }

        /// Whatever is sent: the backend resolves it to what routing has seen.
        #[test]
        fn the_backend_sees_what_routing_saw(path in "(/(api|x|\\.|\\.\\.|%2e|%61pi|)){1,6}") {
            let Some(seen) = normalize_path(&path) else { return Ok(()) };
            prop_assume!(seen == "/api" || seen.starts_with("/api/"));
            let sent = rewrite("/api", "/").to_backend(&path).into_owned();
            let resolved = normalize_path(&sent);
            prop_assert!(resolved.is_some(), "{} climbs", sent);
            let expected = seen.strip_prefix("/api").unwrap();
            let expected = if expected.is_empty() { "/" } else { expected };
            prop_assert_eq!(resolved.as_deref(), Some(expected), "{}", sent);
        }
    }
}
