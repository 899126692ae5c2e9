//! [`Prefix`]: what the path of a request must begin with, as the configuration says it.

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
