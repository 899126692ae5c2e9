//! Host, longest prefix and further conditions → route.
//!
//! A route for exactly the host of a request comes before one for the names below another, and that before one for any host;
//! among those for the same, the one with the longest prefix. Where a host has no route for a path, those for any host are
//! looked at: a catch-all is easy to write.
//!
//! Of several routes for the same host and prefix, the one with more conditions about fields comes first, then one with
//! `methods` before one without, then the first in the file: only there the order of the file counts. If the fields of a
//! request fit none of them, it goes on to the next shorter prefix, and then to the less exact host, as with the Gateway
//! API of Kubernetes. If they fit and the method alone does not, it goes no further: the route says what becomes
//! of its paths, and a catch-all behind it must not take what it refuses.
//!
//! - `host.rs`: names and patterns.
//! - `prefix.rs`: what a prefix may be.
//! - `paths.rs`: the tree of prefixes.
//! - `conditions.rs`: what is asked of the fields and the method.
//! - `methods.rs`: a set of methods.

mod conditions;
mod host;
mod methods;
mod paths;
mod prefix;

use std::collections::BTreeMap;

use http::Method;

use crate::http::fields::Fields;
use crate::http::head::RequestHead;

pub use conditions::{Conditions, HeaderCondition, Wanted};
pub use host::{HostError, HostPattern};
pub use methods::Methods;
use paths::Paths;
pub use prefix::{Prefix, PrefixError};

/// What a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteKey {
    /// Its hosts; none: any.
    pub hosts: Vec<HostPattern>,
    /// What paths begin with.
    pub prefix: Prefix,
    /// What else a request must have.
    pub conditions: Conditions,
}

/// What of a request its route is found by.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// As it came, port and all.
    pub host: &'a [u8],
    /// Without a query, and with its dot segments resolved.
    pub path: &'a str,
    /// As it came: methods are case-sensitive (RFC 9110 §9.1).
    pub method: &'a Method,
    /// All fields as received.
    pub fields: &'a Fields,
}

impl<'a> Asked<'a> {
    /// What this request is about.
    #[must_use]
    pub fn of(head: &'a RequestHead) -> Self {
        Self {
            host: head.host.as_bytes(),
            path: head.target.routing_path(),
            method: &head.method,
            fields: &head.fields,
        }
    }
}

/// The route of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'t, T> {
    /// What was given for it.
    pub route: &'t T,
    /// The method is not one of these, and nothing else keeps the request from this route and those beside it.
    pub other_methods: Option<Methods>,
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
        let mut in_order: Vec<_> = entries.iter().map(|(key, _)| key).enumerate().collect();
        // Stable: among equals that of the file.
        in_order.sort_by_key(|(_, key)| key.conditions.rank());
        for (position, RouteKey { hosts, prefix, .. }) in in_order {
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

    /// The route of a request. `/api` takes `/api`, `/api/` and `/api/x`, but not `/apix`; `/` takes everything.
    #[must_use]
    pub fn find(&self, asked: &Asked<'_>) -> Option<Found<'_, T>> {
        let mut choose = |entries: &[usize]| self.choose(entries, asked);
        self.find_by_host(asked, &mut choose).or_else(|| self.any.find(asked.path, &mut choose))
    }

    fn find_by_host<'t>(
        &'t self,
        asked: &Asked<'_>,
        choose: &mut impl FnMut(&[usize]) -> Option<Found<'t, T>>,
    ) -> Option<Found<'t, T>> {
        if self.exact.is_empty() && self.below.is_empty() {
            return None;
        }
        let host = host::comparable(asked.host)?;
        if let Some(found) = self.exact.get(&*host).and_then(|paths| paths.find(asked.path, choose)) {
            return Some(found);
        }
        if self.below.is_empty() {
            return None;
        }
        // The longest first.
        let dots = host.match_indices('.').filter_map(|(dot, _)| host.get(dot + 1..));
        dots.filter_map(|name| self.below.get(name)).find_map(|paths| paths.find(asked.path, choose))
    }

    /// The first of these entries, which are for the same host and prefix, that takes the request; or the first whose method
    /// alone does not fit, if there is no other.
    fn choose(&self, entries: &[usize], asked: &Asked<'_>) -> Option<Found<'_, T>> {
        let mut refusing: Option<(&T, Methods)> = None;
        for (key, route) in entries.iter().filter_map(|&position| self.entries.get(position)) {
            let conditions = &key.conditions;
            if !conditions.fit_fields(asked.fields) {
                continue;
            }
            match conditions.methods.filter(|methods| !methods.has(asked.method)) {
                None => return Some(Found { route, other_methods: None }),
                Some(methods) => {
                    let (first, others) = refusing.unwrap_or((route, methods));
                    refusing = Some((first, others.union(methods)));
                }
            }
        }
        refusing.map(|(route, methods)| Found { route, other_methods: Some(methods) })
    }

    /// All entries, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&RouteKey, &T)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }
}

#[cfg(test)]
mod tests;
