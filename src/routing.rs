//! Longest prefix → route. Whole segments, independent of the order in the file.

use std::collections::BTreeMap;
use std::fmt;

/// What the path of a request must begin with, in whole segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prefix(String);

impl Prefix {
    /// Checks a prefix from the configuration. A trailing slash makes no difference, prefixes match whole segments:
    /// `/api/` becomes `/api`; `/` stays.
    ///
    /// # Errors
    /// When no request path could ever begin with `text`: see [`PrefixError`].
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(PrefixError::NoLeadingSlash);
        };
        if let Some(bad) = text.chars().find(|&c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
            return Err(PrefixError::BadCharacter(bad));
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() && text.len() <= 1 {
            return Ok(Self::root());
        }
        for segment in path.split('/') {
            // Routing resolves percent-encoded dots as well (RFC 3986 §6.2.2.2), so they never reach a prefix either.
            match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
                "" => return Err(PrefixError::EmptySegment),
                "." | ".." => return Err(PrefixError::DotSegment),
                _ => {}
            }
        }
        Ok(Self(format!("/{path}")))
    }

    /// `/`: what every path begins with.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The prefix as written in the configuration, without a trailing slash unless it is `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A prefix that nobody checks.
    #[cfg(test)]
    pub(crate) fn for_tests(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }
}

/// Finds the route of a path.
///
/// A tree with one level per segment. A look-up walks down the path only as far as some prefix goes, so its cost
/// does not depend on how long the path is beyond that (32 KiB of slashes cost one step), and grows only with the
/// logarithm of the number of routes.
#[derive(Debug)]
pub struct RouteTable<T> {
    /// In the order given; the tree refers to them by position.
    entries: Vec<(Prefix, T)>,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// Position of the entry whose prefix ends here.
    entry: Option<usize>,
    /// Ordered rather than hashed: comparing ends at the first byte that differs, however long a client makes its
    /// segment, and there is no hash to collide.
    children: BTreeMap<Box<str>, Node>,
}

impl<T> RouteTable<T> {
    /// A table of `entries`. Where two have the same prefix, the first is found.
    #[must_use]
    pub fn new(entries: Vec<(Prefix, T)>) -> Self {
        let mut root = Node::default();
        for (position, (prefix, _)) in entries.iter().enumerate() {
            // `/api/` means `/api`, and `/` is the empty prefix: it has no segment.
            let prefix = prefix.as_str();
            let mut node = &mut root;
            for segment in segments(prefix.strip_suffix('/').unwrap_or(prefix)) {
                node = node.children.entry(segment.into()).or_default();
            }
            node.entry.get_or_insert(position);
        }
        Self { entries, root }
    }

    /// What belongs to the longest prefix of `path`: `/api` takes `/api`, `/api/` and `/api/x`, but not `/apix`; `/`
    /// takes everything. `path` comes without a query and with its dot segments resolved.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&T> {
        let mut node = &self.root;
        let mut longest = node.entry;
        for segment in segments(path) {
            let Some(child) = node.children.get(segment) else {
                break;
            };
            node = child;
            longest = node.entry.or(longest);
        }
        self.entries.get(longest?).map(|(_, value)| value)
    }

    /// All entries, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&Prefix, &T)> {
        self.entries.iter().map(|(prefix, value)| (prefix, value))
    }
}

/// What stands after each slash. Nothing for a path that does not begin with one (`*`, the empty path).
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'))
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a [`Prefix`]. `Display` says so as the end of a sentence that begins with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// It does not begin with `/`.
    NoLeadingSlash,
    /// Two slashes in a row.
    EmptySegment,
    /// A `.` or `..` segment: request paths have them resolved before routing.
    DotSegment,
    /// Query, fragment, space, control character, or not ASCII: never part of a request path as it is sent.
    BadCharacter(char),
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeadingSlash => {
                f.write_str("does not begin with \"/\"; expected a path, for example \"/api\"")
            }
            Self::EmptySegment => {
                f.write_str("has an empty segment; expected single slashes, for example \"/api/v1\"")
            }
            Self::DotSegment => f.write_str("has a dot segment; expected a path without \".\" and \"..\""),
            Self::BadCharacter(bad @ ('?' | '#')) => {
                write!(f, "contains {bad:?}; expected a path alone, without query or fragment")
            }
            Self::BadCharacter(bad) => {
                write!(f, "contains {bad:?}; expected it percent-encoded, as it is in requests")
            }
        }
    }
}

impl std::error::Error for PrefixError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_loses_its_trailing_slash() {
        for (text, expected) in
            [("/", "/"), ("/api", "/api"), ("/api/", "/api"), ("/a/b.c/", "/a/b.c"), ("/a..b", "/a..b")]
        {
            assert_eq!(Prefix::parse(text).unwrap().as_str(), expected, "{text}");
        }
    }

    #[test]
    fn prefix_refuses_what_no_request_path_begins_with() {
        use PrefixError::*;
        for (text, expected) in [
            ("", NoLeadingSlash),
            ("api", NoLeadingSlash),
            ("http://a/", NoLeadingSlash),
            ("//", EmptySegment),
            ("/api//", EmptySegment),
            ("/a//b", EmptySegment),
            ("/.", DotSegment),
            ("/a/../b", DotSegment),
            ("/a/%2E.", DotSegment),
            ("/a?b", BadCharacter('?')),
            ("/a#b", BadCharacter('#')),
            ("/a b", BadCharacter(' ')),
            ("/a\n", BadCharacter('\n')),
            ("/für", BadCharacter('ü')),
        ] {
            assert_eq!(Prefix::parse(text), Err(expected), "{text}");
        }
    }
}

#[cfg(test)]
mod prefix_tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn table(prefixes: &[&str]) -> RouteTable<String> {
        RouteTable::new(prefixes.iter().map(|p| (Prefix::for_tests(p), (*p).to_owned())).collect())
    }

    #[track_caller]
    fn assert_route(table: &RouteTable<String>, path: &str, expected: Option<&str>) {
        assert_eq!(table.find(path).map(String::as_str), expected, "{path}");
    }

    #[test]
    fn a_prefix_takes_whole_segments() {
        let table = table(&["/api"]);
        for path in ["/api", "/api/", "/api/x", "/api//x", "/api/x/y/"] {
            assert_route(&table, path, Some("/api"));
        }
        for path in ["/apix", "/ap", "/", "", "/API", "//api", "api", "/x/api", "*"] {
            assert_route(&table, path, None);
        }
    }

    #[test]
    fn the_longest_prefix_wins_in_any_order() {
        for prefixes in [["/", "/api", "/api/v2"], ["/api/v2", "/api", "/"], ["/api", "/", "/api/v2"]] {
            let table = table(&prefixes);
            assert_route(&table, "/api/v2/users", Some("/api/v2"));
            assert_route(&table, "/api/v2", Some("/api/v2"));
            assert_route(&table, "/api/v20", Some("/api"));
            assert_route(&table, "/api", Some("/api"));
            assert_route(&table, "/apix", Some("/"));
            assert_route(&table, "/", Some("/"));
            assert_route(&table, "*", Some("/"));
        }
    }

    #[test]
    fn a_prefix_may_skip_levels_without_a_route() {
        let table = table(&["/a/b/c", "/a"]);
        assert_route(&table, "/a/b", Some("/a"));
        assert_route(&table, "/a/b/c", Some("/a/b/c"));
    }

    #[test]
    fn a_trailing_slash_of_a_prefix_means_nothing() {
        let table = table(&["/api/"]);
        assert_route(&table, "/api", Some("/api/"));
        assert_route(&table, "/api/x", Some("/api/"));
        assert_route(&table, "/apix", None);
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        assert_route(&table(&[]), "/", None);
    }

    #[test]
    fn a_path_of_slashes_finds_the_root() {
        let table = table(&["/", "/api"]);
        assert_route(&table, &"/".repeat(32 * 1024), Some("/"));
        assert_route(&table, &format!("/api{}", "/".repeat(32 * 1024)), Some("/api"));
    }

    #[test]
    fn iterates_in_the_order_given() {
        let table = table(&["/b", "/", "/a"]);
        assert_eq!(table.iter().map(|(prefix, _)| prefix.as_str()).collect::<Vec<_>>(), ["/b", "/", "/a"]);
    }

    /// Looks at every prefix, at every byte.
    fn naive<'t>(prefixes: &'t [String], path: &str) -> Option<&'t String> {
        let mut longest: Option<&String> = None;
        for prefix in prefixes {
            let bare = prefix.strip_suffix('/').unwrap_or(prefix);
            let takes = match path.strip_prefix(bare) {
                Some(rest) => bare.is_empty() || rest.is_empty() || rest.starts_with('/'),
                None => false,
            };
            if takes && longest.is_none_or(|l| bare.len() > l.strip_suffix('/').unwrap_or(l).len()) {
                longest = Some(prefix);
            }
        }
        longest
    }

    fn paths(segments: std::ops::Range<usize>) -> impl Strategy<Value = String> {
        vec(select(vec!["", "a", "b", "ab", "a.b", "ä"]), segments).prop_map(|s| format!("/{}", s.join("/")))
    }

    proptest! {
        #[test]
        fn finds_what_a_naive_scan_finds(prefixes in vec(paths(0..4), 0..12), path in paths(0..6)) {
            let table = RouteTable::new(prefixes.iter().map(|p| (Prefix::for_tests(p), p.clone())).collect());
            prop_assert_eq!(table.find(&path), naive(&prefixes, &path));
        }
    }
}
