//! An explanation for people.

use std::fmt::Write;

use super::fields::{Change, FieldChange};
use super::limits::{Setting, Source};
use super::rules::Rule;
use super::{Asked, Explanation, NotTaken, Outcome, Taken, ToBackend};

/// A few paragraphs. Everything that a terminal could take for an order is escaped.
pub(super) fn text(explanation: &Explanation) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, explanation);
    escaped(out.trim_end())
}

/// Whether a terminal could take it for an order, or show what follows in another order than it is in.
pub(super) fn is_unfit(char: char) -> bool {
    let is_direction = matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (char.is_control() && char != '\n') || is_direction
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_unfit(char) { out.extend(char.escape_default()) } else { out.push(char) }
    }
    out
}

fn write(out: &mut String, explanation: &Explanation) -> std::fmt::Result {
    let Explanation { request, outcome, route, not_taken, to_backend, limits } = explanation;
    write_request(out, request)?;
    match outcome {
        Outcome::PassedOn => {}
        Outcome::Answered { status, why } => {
            writeln!(out, "\nAnswered by the proxy itself: {status}, {why}")?;
        }
        Outcome::Refused { status, cause, why } => writeln!(out, "\nRefused: {status} {cause}, {why}")?,
    }
    if let Some(route) = route {
        write_route(out, route)?;
    }
    write_not_taken(out, not_taken)?;
    if let Some(to_backend) = to_backend {
        write_to_backend(out, to_backend)?;
    }
    write_limits(out, limits)
}

fn write_request(out: &mut String, request: &Asked) -> std::fmt::Result {
    let Asked { line, host, path, from, is_trusted, client } = request;
    writeln!(out, "{line}")?;
    if let (Some(host), Some(path)) = (host, path) {
        let host = if host.is_empty() { "none" } else { host };
        writeln!(out, "  host {host}, path {path}")?;
    }
    match (is_trusted, client == from) {
        (false, _) => writeln!(out, "  from {from}"),
        (true, true) => writeln!(out, "  from {from}, one of trusted_proxies"),
        (true, false) => writeln!(out, "  from {from}, one of trusted_proxies, for the client {client}"),
    }
}

/// `routes[1], line 9`.
fn place(key: &str, line: Option<usize>) -> String {
    line.map_or_else(|| key.to_owned(), |line| format!("{key}, line {line}"))
}

fn write_route(out: &mut String, route: &Taken) -> std::fmt::Result {
    writeln!(out, "\nRoute {} ({})", route.label, place(&route.key, route.line))?;
    let hosts = if route.hosts.is_empty() { "any".to_owned() } else { route.hosts.join(", ") };
    writeln!(out, "  hosts {hosts}, prefix {}", route.prefix)?;
    let hash_on = route.hash_on.as_ref().map(|on| format!(" on {on}")).unwrap_or_default();
    if !route.backends.is_empty() {
        let pool = route.pool.as_ref().map(|pool| format!(" of the pool {pool}")).unwrap_or_default();
        writeln!(out, "  backends{pool}, chosen by {}{hash_on}:", route.algorithm)?;
    }
    let widest = route.backends.iter().map(|backend| backend.address.len()).max().unwrap_or_default();
    for backend in &route.backends {
        let backup = if backend.backup { ", backup: while none of the others can be had" } else { "" };
        writeln!(out, "    {:widest$}  weight {}{backup}", backend.address, backend.weight)?;
    }
    if let Some(secs) = route.slow_start_secs {
        writeln!(out, "  one that comes back has its whole share after {secs} s")?;
    }
    if let Some(cookie) = &route.sticky_cookie {
        writeln!(out, "  a client with the cookie {cookie} stays on its backend")?;
    }
    if route.send_proxy {
        writeln!(out, "  each connection begins with a PROXY header, and none is kept for another exchange")?;
    }
    match &route.health_check {
        None if route.backends.is_empty() => {}
        None => writeln!(out, "  no health check")?,
        Some(check) => writeln!(
            out,
            "  health check GET {} every {} s, time-out {} s, healthy after {}, unhealthy after {}",
            check.path,
            check.interval_secs,
            check.timeout_secs,
            check.healthy_threshold,
            check.unhealthy_threshold
        )?,
    }
    if let Some(least) = route.min_healthy {
        writeln!(out, "  while fewer than {least} are healthy, all are tried")?;
    }
    write_rules(out, &route.rules)
}

fn write_rules(out: &mut String, rules: &[Rule]) -> std::fmt::Result {
    if rules.is_empty() {
        return Ok(());
    }
    writeln!(out, "  rules, in this order:")?;
    let widest = rules.iter().map(|rule| rule.stage.len()).max().unwrap_or_default();
    for Rule { stage, says, key, line } in rules {
        writeln!(out, "    {stage:widest$}  {says}   ({})", place(key, *line))?;
    }
    Ok(())
}

fn write_not_taken(out: &mut String, routes: &[NotTaken]) -> std::fmt::Result {
    if routes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nNot taken:")?;
    for route in routes {
        writeln!(out, "  {} ({}): {}", route.label, place(&route.key, route.line), route.why)?;
    }
    Ok(())
}

fn write_to_backend(out: &mut String, request: &ToBackend) -> std::fmt::Result {
    writeln!(out, "\nThe backend gets {} {}", request.method, request.target)?;
    let widest = request.fields.iter().map(|field| field.name.len()).max().unwrap_or_default();
    for FieldChange { name, change, received, sent, why } in &request.fields {
        let word = match change {
            Change::Kept => "kept",
            Change::Rewritten => "rewritten",
            Change::Removed => "removed",
            Change::Added => "added",
        };
        let (received, sent) = (received.join(" | "), sent.join(" | "));
        let values = match change {
            Change::Kept | Change::Added => sent,
            Change::Removed => received,
            Change::Rewritten => format!("{received} -> {sent}"),
        };
        let why = why.map(|why| format!("   ({why})")).unwrap_or_default();
        writeln!(out, "  {word:9}  {name:widest$}  {values}{why}")?;
    }
    Ok(())
}

fn write_limits(out: &mut String, limits: &[Setting]) -> std::fmt::Result {
    if limits.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nLimits and time-outs:")?;
    let rows: Vec<_> =
        limits.iter().map(|setting| (setting.name, setting.shown(), &setting.source)).collect();
    let widest = |of: fn(&(&str, String, &Source)) -> usize| rows.iter().map(of).max().unwrap_or_default();
    let (names, values) = (widest(|row| row.0.len()), widest(|row| row.1.len()));
    for (name, value, source) in &rows {
        let source = match source {
            Source::Default { note: None } => "default".to_owned(),
            Source::Default { note: Some(note) } => format!("default, {note}"),
            Source::Written { key, line } => place(key, Some(*line)),
        };
        writeln!(out, "  {name:names$}  {value:values$}  {source}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_could_obey_is_left() {
        assert_eq!(
            escaped("a\u{1b}[2J\u{7f}\u{9b}\t\u{202e}\nä"),
            "a\\u{1b}[2J\\u{7f}\\u{9b}\\t\\u{202e}\nä"
        );
    }
}
