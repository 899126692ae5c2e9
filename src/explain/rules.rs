//! The rules of a route in words, in the order in which they are applied.

use http::HeaderName;
use serde::Serialize;

use super::fields::readable;
use crate::config::{Config, IpNetwork, RouteConfig};
use crate::routing::Conditions;
use crate::rules::{Answer, Facts, FieldRules, Per, Template};

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
    let Conditions { headers, methods } = &route.key.conditions;
    if !headers.is_empty() {
        let headers: Vec<_> = headers.iter().map(ToString::to_string).collect();
        add("match", "match_headers", format!("only with {}", headers.join(" and ")));
    }
    if let Some(access) = &route.rules.access {
        if !access.deny.is_empty() {
            add("who may come", "deny", format!("not {}", networks(&access.deny)));
        }
        if let Some(allow) = &access.allow {
            add("who may come", "allow", format!("only {}", networks(allow)));
        }
    }
    if let Some(methods) = methods {
        add("methods", "methods", format!("only {methods}"));
    }
    if let Some(limit) = &route.rules.rate_limit {
        let of = if limit.per == Per::Client { "each client" } else { "all clients together" };
        let says = format!("{} requests a second of {of}, {} at once", limit.requests_per_sec, limit.burst);
        add("rate limit", "rate_limit", says);
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
    let of_fields = [
        ("request headers", "request_headers", &route.rules.request_headers),
        ("response headers", "response_headers", &route.rules.response_headers),
    ];
    for (stage, name, rules) in of_fields {
        if let Some(rules) = rules {
            add(stage, name, fields(rules, facts));
        }
    }
    found
}

fn fields(rules: &FieldRules, facts: &Facts<'_>) -> String {
    let line = |word: &str, (name, value): &(HeaderName, Template)| {
        format!("{word} {name}: {}", readable(&value.fill(facts)))
    };
    let set = rules.set.iter().map(|field| line("set", field));
    let add = rules.add.iter().map(|field| line("add", field));
    let remove = rules.remove.iter().map(|name| format!("remove {name}"));
    set.chain(add).chain(remove).collect::<Vec<_>>().join("; ")
}

fn networks(list: &[IpNetwork]) -> String {
    let name = |network: &IpNetwork| match *network {
        IpNetwork::UNIX_CLIENTS => "unix:".to_owned(),
        network => network.to_string(),
    };
    list.iter().map(name).collect::<Vec<_>>().join(", ")
}
