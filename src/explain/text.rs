//! An explanation for people.

use std::fmt::Write;

use super::fields::{Change, FieldChange};
use super::limits::{Setting, Source};
use super::rules::Rule;
use super::{Asked, BackendOf, Content, Explanation, HealthCheck, NotTaken, Outcome, Taken, ToBackend};

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
        Outcome::Refused { status, cause, why, advice, content } => {
            writeln!(out, "\nRefused: {status} {cause}, {why}")?;
            if let Some(advice) = advice {
                writeln!(out, "  {advice}")?;
            }
            match content {
                None => {}
                Some(Content::Json) => writeln!(out, "  in JSON, by its Accept")?,
                Some(Content::Page { key, line }) => {
                    writeln!(out, "  with the page of {}", place(key, *line))?;
                }
            }
        }
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
    if route.shares.is_empty() {
        let pool = route.pool.as_ref().map(|pool| format!(" of the pool {pool}")).unwrap_or_default();
        let of = OfPool {
            title: format!("backends{pool}"),
            algorithm: route.algorithm.as_deref().unwrap_or_default(),
            hash_on: route.hash_on.as_deref(),
            backends: &route.backends,
            sticky_cookie: route.sticky_cookie.as_deref(),
            send_proxy: route.send_proxy,
            slow_start_secs: route.slow_start_secs,
            health_check: route.health_check.as_ref(),
            min_healthy: route.min_healthy,
        };
        write_pool(out, &of)?;
    }
    for share in &route.shares {
        let of = OfPool {
            title: format!("{} of {} requests: backends of the pool {}", share.share, share.of, share.pool),
            algorithm: &share.algorithm,
            hash_on: share.hash_on.as_deref(),
            backends: &share.backends,
            sticky_cookie: None,
            send_proxy: share.send_proxy,
            slow_start_secs: share.slow_start_secs,
            health_check: share.health_check.as_ref(),
            min_healthy: share.min_healthy,
        };
        write_pool(out, &of)?;
    }
    if let Some(cookie) = route.sticky_cookie.as_ref().filter(|_| !route.shares.is_empty()) {
        writeln!(out, "  a client with the cookie {cookie} stays in its pool, and on its backend")?;
    }
    write_rules(out, &route.rules)
}

/// What there is to say of a pool.
struct OfPool<'a> {
    title: String,
    algorithm: &'a str,
    hash_on: Option<&'a str>,
    backends: &'a [BackendOf],
    sticky_cookie: Option<&'a str>,
    send_proxy: bool,
    slow_start_secs: Option<f64>,
    health_check: Option<&'a HealthCheck>,
    min_healthy: Option<usize>,
}

fn write_pool(out: &mut String, pool: &OfPool<'_>) -> std::fmt::Result {
    let OfPool { title, algorithm, hash_on, backends, sticky_cookie, send_proxy, .. } = pool;
    let hash_on = hash_on.map(|on| format!(" on {on}")).unwrap_or_default();
    if !backends.is_empty() {
        writeln!(out, "  {title}, chosen by {algorithm}{hash_on}:")?;
    }
    let widest = backends.iter().map(|backend| backend.address.len()).max().unwrap_or_default();
    for backend in *backends {
        let backup = if backend.backup { ", backup: while none of the others can be had" } else { "" };
        writeln!(out, "    {:widest$}  weight {}{backup}", backend.address, backend.weight)?;
    }
    if let Some(secs) = pool.slow_start_secs {
        writeln!(out, "  one that comes back has its whole share after {secs} s")?;
    }
    if let Some(cookie) = sticky_cookie {
        writeln!(out, "  a client with the cookie {cookie} stays on its backend")?;
    }
    if *send_proxy {
        writeln!(out, "  each connection begins with a PROXY header, and none is kept for another exchange")?;
    }
    match pool.health_check {
        None if backends.is_empty() => {}
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
    if let Some(least) = pool.min_healthy {
        writeln!(out, "  while fewer than {least} are healthy, all are tried")?;
    }
    Ok(())
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
        limits.iter().map(|setting| (setting.title(), setting.shown(), &setting.source)).collect();
    let widest = |of: fn(&(String, String, &Source)) -> usize| rows.iter().map(of).max().unwrap_or_default();
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
