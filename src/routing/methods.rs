//! The methods that a route takes: `methods`.

use std::fmt;

use http::Method;

/// Methods that a route can be for, a bit each: those of RFC 9110 and 5789, of WebDAV and its kin, and of caches.
const KNOWN: [&str; 24] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "QUERY",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "MKCALENDAR",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "ACL",
    "LINK",
    "UNLINK",
    "PURGE",
    "BAN",
];

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods(u32);

impl Methods {
    /// All that there can be.
    pub(crate) const KNOWN: [&'static str; KNOWN.len()] = KNOWN;

    /// None at all.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self(0);

    /// Adds one, if it is known. Whether it is new.
    pub(crate) fn add(&mut self, method: &str) -> bool {
        let bit = bit(method);
        let is_new = self.0 & bit == 0 && bit != 0;
        self.0 |= bit;
        is_new
    }

    /// Those of both.
    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// One that both have.
    pub(crate) fn common(self, other: Self) -> Option<&'static str> {
        KNOWN.into_iter().find(|name| self.0 & other.0 & bit(name) != 0)
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn has(self, method: &Method) -> bool {
        self.0 & bit(method.as_str()) != 0
    }
}

fn bit(method: &str) -> u32 {
    KNOWN.iter().position(|known| *known == method).map_or(0, |at| 1 << at)
}

/// As in `Allow`.
impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = KNOWN.iter().copied().filter(|name| self.0 & bit(name) != 0).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_methods() {
        let mut methods = Methods::default();
        assert!(methods.add("HEAD") && methods.add("GET") && methods.add("BAN"));
        assert!(!methods.add("GET") && !methods.add("get") && !methods.add("FETCH"));
        assert_eq!(methods.to_string(), "GET, HEAD, BAN");
        assert!(methods.has(&Method::GET) && !methods.has(&Method::POST));
        let mut others = Methods::default();
        assert!(others.add("POST") && methods.common(others).is_none());
        assert_eq!(methods.union(others).to_string(), "GET, HEAD, POST, BAN");
        assert_eq!(methods.union(others).common(others), Some("POST"));
        assert!(!methods.has(&"get".parse().unwrap()) && !methods.has(&"FETCH".parse().unwrap()));
    }
}
