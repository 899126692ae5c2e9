//! The rules of a route in words, in the order in which they are applied.

use serde::Serialize;

use super::fields::readable;
use crate::config::{Config, IpNetwork, RouteConfig};
use crate::rules::{Answer, Facts};

/// A rule.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rule {
    /// Where in the order it is.
    pub(super) stage: &'static str,
    pub(super) says: String,
    pub(super) key: String,
    pub(super) line: Option<usize>,
}

/// Those of the `n`th route, with what a request fills in.
pub(super) fn of(config: &Config, n: usize, route: &RouteConfig, facts: &Facts<'_>) -> Vec<Rule> {
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
    if let Some(answer) = &route.rules.answer {
        let what = match answer {
            Answer::Redirect { to, .. } => format!("to {}", readable(&to.fill(facts))),
            Answer::Respond { content, .. } => format!("with {} bytes", content.len()),
        };
        add("answer here", answer.key(), format!("{} {what}", answer.status()));
    }
    if let Some(rewrite) = &route.rules.rewrite {
        let target = facts.head.target.as_str();
        // Which of the two it is says the file.
        let is_written = |name: &&str| config.written.line(&format!("routes[{n}].{name}")).is_some();
        let name = Some("replace_prefix").filter(is_written).unwrap_or("strip_prefix");
        add("rewrite", name, format!("{target} -> {}", rewrite.to_backend(target)));
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
