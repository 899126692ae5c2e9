//! The rules of a route in words, in the order in which they are applied.

use std::time::Duration;

use http::HeaderName;
use serde::Serialize;

use super::fields::readable;
use crate::config::{Config, IpNetwork, RouteConfig};
use crate::routing::Conditions;
use crate::rules::compress::takes_gzip;
use crate::rules::{
    Answer, Compress, ErrorPages, Facts, FieldRules, ForwardAuth, Page, Per, Statuses, Template,
};

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
        let of = match &limit.per {
            Per::Client => "each client".to_owned(),
            Per::Header(name) => format!("each value of {name}"),
            Per::Route => "all clients together".to_owned(),
        };
        let dry_run = if limit.dry_run { "; a dry run, which refuses nothing" } else { "" };
        let says =
            format!("{} requests a second of {of}, {} at once{dry_run}", limit.requests_per_sec, limit.burst);
        add("rate limit", "rate_limit", says);
    }
    if let Some(auth) = &route.rules.basic_auth {
        let count = auth.users.count();
        let users = if count == 1 { "the one user".to_owned() } else { format!("the {count} users") };
        let sent = if auth.forward_authorization { "with" } else { "without" };
        let says = format!("{users} of {:?}; backends get it {sent} Authorization", auth.realm);
        add("basic auth", "basic_auth", says);
    }
    if let Some(rule) = &route.rules.forward_auth {
        add("forward auth", "forward_auth", asked(rule, route));
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
    if let Some(rule) = &route.rules.compress {
        add("compress", "compress", compress(rule, facts));
    }
    if let Some(intercept) = &route.rules.intercept {
        add("failures", "intercept_errors", format!("{intercept} of backends are not passed on"));
    }
    if let Some(own) = &route.rules.error_pages {
        add("failures", "error_pages", pages(own));
    }
    if let Some(of_all) = &config.error_pages {
        let key = "error_pages".to_owned();
        found.push(Rule { stage: "failures", says: pages(of_all), line: config.written.line(&key), key });
    }
    found
}

fn pages(pages: &ErrorPages) -> String {
    let page = |(statuses, page): &(Statuses, Page)| {
        format!("{statuses} has a page of {} bytes", page.content.len())
    };
    pages.iter().map(page).collect::<Vec<_>>().join(", ")
}

/// Who is asked for what, and what is made of the answer. What it will be, nobody knows.
fn asked(rule: &ForwardAuth, route: &RouteConfig) -> String {
    let addr = route.auth_addr().map(ToString::to_string).unwrap_or_default();
    let timeout = route.auth_service.as_ref().map_or(Duration::ZERO, |service| service.response_timeout);
    let copied: Vec<_> = rule.copy_headers.iter().map(HeaderName::as_str).collect();
    let copied = if copied.is_empty() { String::new() } else { format!(", with its {}", copied.join(", ")) };
    format!(
        "only what {addr} lets in with a 2xx{copied}; GET {} within {} s",
        rule.path,
        timeout.as_secs_f64()
    )
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

fn compress(rule: &Compress, facts: &Facts<'_>) -> String {
    if !takes_gzip(facts.head) {
        return "not for this request, whose Accept-Encoding asks for no gzip".to_owned();
    }
    format!(
        "gzip at level {}, of answers of {} bytes or more, if their type is worth it",
        rule.level, rule.min_bytes
    )
}

fn networks(list: &[IpNetwork]) -> String {
    let name = |network: &IpNetwork| match *network {
        IpNetwork::UNIX_CLIENTS => "unix:".to_owned(),
        network => network.to_string(),
    };
    list.iter().map(name).collect::<Vec<_>>().join(", ")
}
