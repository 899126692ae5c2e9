//! The rules of a route in words, in the order in which they are applied.

use serde::Serialize;

use crate::config::{Config, IpNetwork, RouteConfig};

/// A rule.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rule {
    /// Where in the order it is.
    pub(super) stage: &'static str,
    pub(super) says: String,
    pub(super) key: String,
    pub(super) line: Option<usize>,
}

/// Those of the `n`th route.
pub(super) fn of(config: &Config, n: usize, route: &RouteConfig) -> Vec<Rule> {
    let mut found = Vec::new();
    let mut add = |stage, name: &str, says: String| {
        let key = format!("routes[{n}].{name}");
        found.push(Rule { stage, says, line: config.written.line(&key), key });
    };
    if let Some(access) = &route.rules.access {
        if !access.deny.is_empty() {
            add("who may come", "deny", format!("not {}", networks(&access.deny)));
        }
        if let Some(allow) = &access.allow {
            add("who may come", "allow", format!("only {}", networks(allow)));
        }
    }
    found
}

fn networks(list: &[IpNetwork]) -> String {
    let name = |network: &IpNetwork| match *network {
        IpNetwork::UNIX_CLIENTS => "unix:".to_owned(),
        network => network.to_string(),
    };
    list.iter().map(name).collect::<Vec<_>>().join(", ")
}
