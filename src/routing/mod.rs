//! Host and longest prefix → route, independent of the order in the file.
//!
//! A route for exactly the host of a request comes before one for the names below another, and that before one for any host;
//! among those for the same, the one with the longest prefix. Where a host has no route for a path, those for any host are
//! looked at: a catch-all is easy to write.
//!
//! - `host.rs`: names and patterns.
//! - `prefix.rs`: what a prefix may be.
//! - `paths.rs`: the tree of prefixes.

mod host;
mod paths;
mod prefix;

use std::collections::BTreeMap;

pub use host::{HostError, HostPattern};
use paths::Paths;
pub use prefix::{Prefix, PrefixError};

/// What a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteKey {
    /// Its hosts; none: any.
    pub hosts: Vec<HostPattern>,
    /// What paths begin with.
    pub prefix: Prefix,
}

/// Finds the route of a request.
#[derive(Debug)]
pub struct RouteTable<T> {
    /// In the order given; the rest refers to them by position.
    entries: Vec<(RouteKey, T)>,
    exact: BTreeMap<Box<str>, Paths>,
    below: BTreeMap<Box<str>, Paths>,
    any: Paths,
}

impl<T> RouteTable<T> {
    /// A table of `entries`. Where two are for the same, the first is found.
    #[must_use]
    pub fn new(entries: Vec<(RouteKey, T)>) -> Self {
        let (mut exact, mut below) = (BTreeMap::<_, Paths>::new(), BTreeMap::<_, Paths>::new());
        let mut any = Paths::default();
        for (position, (RouteKey { hosts, prefix }, _)) in entries.iter().enumerate() {
            if hosts.is_empty() {
                any.insert(prefix, position);
            }
            for host in hosts {
                let paths = match host {
                    HostPattern::Exact(name) => exact.entry(name.as_str().into()).or_default(),
                    HostPattern::Below(name) => below.entry(name.as_str().into()).or_default(),
                };
                paths.insert(prefix, position);
            }
        }
        Self { entries, exact, below, any }
    }

    /// The route of a request: `host` as it came, port and all, and `path` without a query and with its dot segments
    /// resolved. `/api` takes `/api`, `/api/` and `/api/x`, but not `/apix`; `/` takes everything.
    #[must_use]
    pub fn find(&self, host: &[u8], path: &str) -> Option<&T> {
        let position = self.find_by_host(host, path).or_else(|| self.any.find(path))?;
        self.entries.get(position).map(|(_, value)| value)
    }

    fn find_by_host(&self, host: &[u8], path: &str) -> Option<usize> {
        if self.exact.is_empty() && self.below.is_empty() {
            return None;
        }
        let host = host::comparable(host)?;
        if let Some(found) = self.exact.get(&*host).and_then(|paths| paths.find(path)) {
            return Some(found);
        }
        if self.below.is_empty() {
            return None;
        }
        // The longest first.
        let dots = host.match_indices('.').filter_map(|(dot, _)| host.get(dot + 1..));
        dots.filter_map(|name| self.below.get(name)).find_map(|paths| paths.find(path))
    }

    /// All entries, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&RouteKey, &T)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }
}

#[cfg(test)]
mod tests;
