//! What clients are shown in place of an answer that failed: `error_pages`; and which answers of backends count as failed:
//! `intercept_errors`.

use std::fmt;

use bytes::Bytes;
use http::header::HeaderValue;

use crate::http::accept;

/// Statuses of failed answers: one of them, or a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// 400 to 599.
    One(u16),
    /// 4 or 5: all that begin so.
    Class(u16),
}

impl Statuses {
    /// As it is written: `502` or `5xx`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "4xx" => Some(Self::Class(4)),
            "5xx" => Some(Self::Class(5)),
            // No sign, and no zero before it.
            _ if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Self::one(text.parse().ok()?)
            }
            _ => None,
        }
    }

    /// A single one.
    pub(crate) fn one(status: u16) -> Option<Self> {
        (400..=599).contains(&status).then_some(Self::One(status))
    }

    /// Whether this status is among them.
    #[must_use]
    pub fn has(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => status / 100 == class,
        }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

/// A page, read when the configuration was. A clone holds the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What is sent.
    pub content: Bytes,
    /// Its type.
    pub content_type: HeaderValue,
}

impl Page {
    /// The content of a file of this name, which says of what type it is; what it does not say is HTML.
    pub(crate) fn new(file: &str, content: Bytes) -> Self {
        let is_utf8 = str::from_utf8(&content).is_ok();
        let extension = file.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, end)| end);
        let content_type = match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
            "json" => "application/json",
            "svg" => "image/svg+xml",
            "xml" => "application/xml",
            "txt" if is_utf8 => "text/plain; charset=utf-8",
            "txt" => "text/plain",
            _ if is_utf8 => "text/html; charset=utf-8",
            // It says itself in which charset it is, or browsers find out.
            _ => "text/html",
        };
        Self { content, content_type: HeaderValue::from_static(content_type) }
    }

    /// Whether there is nothing to choose for a client that would rather have JSON.
    pub(crate) fn is_json(&self) -> bool {
        accept::is_json(&self.content_type)
    }
}

/// The pages of a route, or those of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages(Vec<(Statuses, Page)>);

impl ErrorPages {
    pub(crate) fn new(pages: Vec<(Statuses, Page)>) -> Self {
        Self(pages)
    }

    /// The page for this status: its own comes before that of its class.
    #[must_use]
    pub fn of(&self, status: u16) -> Option<&(Statuses, Page)> {
        let own = self.0.iter().find(|(statuses, _)| *statuses == Statuses::One(status));
        own.or_else(|| self.0.iter().find(|(statuses, _)| statuses.has(status)))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(Statuses, Page)> {
        self.0.iter()
    }

    /// Bytes that they hold.
    pub(crate) fn memory(&self) -> usize {
        self.0.iter().map(|(_, page)| page.content.len()).sum()
    }
}

/// Answers of backends in whose place clients get a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intercept(Vec<Statuses>);

/// A 426 says in `Upgrade` to what, which is about the client's connection as much as about the backend's: no page could.
pub(crate) const NEVER_INTERCEPTED: u16 = 426;

impl Intercept {
    pub(crate) fn new(statuses: Vec<Statuses>) -> Self {
        Self(statuses)
    }

    /// Whether answers of this status are.
    #[must_use]
    pub fn has(&self, status: u16) -> bool {
        status != NEVER_INTERCEPTED && self.0.iter().any(|statuses| statuses.has(status))
    }
}

impl fmt::Display for Intercept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(file: &'static str, content: &'static [u8]) -> Page {
        Page::new(file, Bytes::from_static(content))
    }

    #[test]
    fn statuses() {
        for text in ["400", "599", "4xx", "5xx"] {
            assert_eq!(Statuses::parse(text).unwrap().to_string(), text);
        }
        for text in ["399", "600", "5XX", "3xx", "xx", "", "+50", "0502", "50", "5000"] {
            assert_eq!(Statuses::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_status_comes_before_its_class() {
        let of = |text: &str| Statuses::parse(text).unwrap();
        let pages = ErrorPages::new(vec![
            (of("5xx"), page("all", b"all")),
            (of("502"), page("own", b"own")),
            (of("404"), page("none", b"none")),
        ]);
        let found = |status| pages.of(status).map(|(_, page)| page.content.as_ref());
        assert_eq!(found(502), Some(&b"own"[..]));
        assert_eq!(found(503), Some(&b"all"[..]));
        assert_eq!(found(404), Some(&b"none"[..]));
        assert_eq!(found(403), None);
        assert_eq!(pages.memory(), 10);
    }

    #[test]
    fn what_is_intercepted() {
        let intercept = Intercept::new(vec![Statuses::One(500), Statuses::Class(4)]);
        assert!([400, 404, 499, 500].into_iter().all(|status| intercept.has(status)));
        assert!([200, 399, 426, 501].into_iter().all(|status| !intercept.has(status)));
        assert_eq!(intercept.to_string(), "500, 4xx");
    }

    #[test]
    fn the_name_says_the_type() {
        for (file, expected) in [
            ("/a/b.html", "text/html; charset=utf-8"),
            ("b.HTM", "text/html; charset=utf-8"),
            ("/a.txt/b", "text/html; charset=utf-8"),
            ("b", "text/html; charset=utf-8"),
            ("b.txt", "text/plain; charset=utf-8"),
            ("b.json", "application/json"),
            ("b.svg", "image/svg+xml"),
            ("b.min.xml", "application/xml"),
        ] {
            assert_eq!(page(file, "ä".as_bytes()).content_type, expected, "{file}");
        }
        assert_eq!(page("b.html", b"\xe4").content_type, "text/html");
        assert_eq!(page("b.txt", b"\xe4").content_type, "text/plain");
    }
}
