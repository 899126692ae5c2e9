//! What becomes of a request, before it happens: `--explain`, and the expectations in the file itself.
//!
//! Nothing here decides anything. A request is taken apart by the parser of [`http::head`](crate::http::head), a route is
//! found by the [`routing`](crate::routing) that serves, and the head for the backend is written by the function that
//! writes real ones; `exchange/decision.rs` has what both engines and this module call. No socket is opened, no name is
//! looked up, and no backend is asked: what depends on a backend, on a body or on time is left out. So is what tiny_http does to
//! a request before the classic engine has it.
//!
//! - `request.rs`: the request that is asked about.
//! - `fate.rs`: what becomes of it.
//! - `lost.rs`: why other routes do not take it.
//! - `fields.rs`: what changes between what came and what the backend gets.
//! - `rules.rs`: what the route does beside passing requests on, in the order in which it does.
//! - `limits.rs`: each limit and time-out that applies, and where it is from.
//! - `text.rs`, `json.rs`: all that for people and for programs.
//! - `expect.rs`: the `[[expect]]` tables.
//!
//! [`load`] is the one way to a configuration for `--check`, the start and a reload: the file is read, and what it expects is
//! held against what it does.

mod expect;
mod fate;
mod fields;
mod json;
mod limits;
mod lost;
mod request;
mod rules;
mod text;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::Path;

use serde::Serialize;

use crate::config::{Algorithm, BackendConfig, Config, ConfigErrors, HashOn, RouteConfig};
use crate::exchange::client_address::client_address;
use crate::exchange::decision::is_trusted;
use crate::exchange::refusal::{Pages, Told};
use crate::http::head::RequestHead;
use crate::rules::Answer;
use fate::{Decided, Fates, user_of};
use fields::FieldChange;
use limits::Setting;
use rules::Rule;

pub use expect::check;
pub use request::{BadQuestion, Question};

/// Reads the file at `path`, and holds what it expects against what it does.
///
/// # Errors
/// As [`Config::load`]; and each expectation that is not fulfilled.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let config = Config::load(path)?;
    check(&config)?;
    Ok(config)
}

/// What becomes of a request, and why. Made by [`explain`].
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    request: Asked,
    outcome: Outcome,
    /// The route that takes it.
    route: Option<Taken>,
    /// The others, in the order of the file.
    not_taken: Vec<NotTaken>,
    to_backend: Option<ToBackend>,
    limits: Vec<Setting>,
}

/// What was asked about.
#[derive(Clone, Debug, Serialize)]
struct Asked {
    line: String,
    /// As routing sees it.
    host: Option<String>,
    /// As routing sees it.
    path: Option<String>,
    /// Where the connection comes from.
    from: String,
    /// That is one of `trusted_proxies`.
    is_trusted: bool,
    /// The client, as far as the fields of trusted proxies tell of one.
    client: String,
}

/// What becomes of it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum Outcome {
    /// A backend gets it.
    PassedOn,
    /// The proxy itself answers what was asked.
    Answered { status: u16, why: &'static str },
    /// The proxy refuses it.
    Refused {
        status: u16,
        cause: &'static str,
        why: &'static str,
        /// What to do, if the question is at fault.
        #[serde(skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
        /// Absent: with a line of text.
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<Content>,
    },
}

/// With what it refuses.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Content {
    /// One of `error_pages`.
    Page { key: String, line: Option<usize> },
    /// An object, by the `Accept` of the request.
    Json,
}

/// The route that takes it.
#[derive(Clone, Debug, Serialize)]
struct Taken {
    label: String,
    key: String,
    line: Option<usize>,
    prefix: String,
    hosts: Vec<String>,
    /// The pool its backends are in, if it is not the only one that has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    /// Absent: it has several pools, and `shares` says it of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    hash_on: Option<String>,
    sticky_cookie: Option<String>,
    /// Connections to its backends begin with a PROXY header.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    send_proxy: bool,
    /// Of several pools, those of all.
    backends: Vec<BackendOf>,
    /// How long the share of one that has come back grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_start_secs: Option<f64>,
    health_check: Option<HealthCheck>,
    /// The pools among which its requests are shared out, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shares: Vec<ShareOf>,
    /// While fewer backends are healthy, all are tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_healthy: Option<usize>,
    /// In the order in which they are applied.
    rules: Vec<Rule>,
}

/// One of several pools of a route.
#[derive(Clone, Debug, Serialize)]
struct ShareOf {
    pool: String,
    share: u32,
    /// The shares of all pools together.
    of: u32,
    algorithm: String,
    hash_on: Option<String>,
    send_proxy: bool,
    backends: Vec<BackendOf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_start_secs: Option<f64>,
    health_check: Option<HealthCheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_healthy: Option<usize>,
}

/// A backend as configured. Which one is chosen depends on the moment.
#[derive(Clone, Debug, Serialize)]
struct BackendOf {
    address: String,
    weight: u32,
    /// Used only while none of the others can be had.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    backup: bool,
}

/// A health check as configured.
#[derive(Clone, Debug, Serialize)]
struct HealthCheck {
    path: String,
    interval_secs: f64,
    timeout_secs: f64,
    healthy_threshold: u32,
    unhealthy_threshold: u32,
}

/// A route that does not take it.
#[derive(Clone, Debug, Serialize)]
struct NotTaken {
    label: String,
    key: String,
    line: Option<usize>,
    why: String,
}

/// What the backend gets.
#[derive(Clone, Debug, Serialize)]
struct ToBackend {
    method: String,
    target: String,
    /// In the order in which they came, those that are added last.
    fields: Vec<FieldChange>,
}

impl Explanation {
    /// Whether the proxy would refuse the request.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.outcome, Outcome::Refused { .. })
    }

    /// For people. No control character but the ends of the lines is in it.
    #[must_use]
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// For programs. No control character but the ends of the lines is in it.
    #[must_use]
    pub fn json(&self) -> String {
        json::json(self)
    }
}

/// What `config` has become of the request that is asked about.
#[must_use]
pub fn explain(config: &Config, question: &Question) -> Explanation {
    let fates = Fates::new(config);
    let fate = fates.of(question);
    let head = fate.head.as_ref();
    let outcome = match fate.decided {
        Decided::Route(..) => Outcome::PassedOn,
        Decided::Answered(answer) => Outcome::Answered { status: answer.status, why: answer.why },
        Decided::AnsweredBy(_, _, answer) => {
            Outcome::Answered { status: answer.status(), why: of_rule(answer) }
        }
        Decided::Refused(cause) | Decided::RefusedBy(_, _, cause) => Outcome::Refused {
            status: cause.status(),
            cause: cause.word(),
            why: cause.sentence(),
            advice: question.advice(cause),
            content: content(config, cause.status(), head, fate.decided.route()),
        },
    };
    // Of a request that is refused by its route too, that is of interest.
    let found = fate.decided.route();
    let to_backend = match (&fate.decided, head, found) {
        (Decided::Route(..), Some(head), Some((_, route))) => to_backend(&fates, head, route, question),
        _ => None,
    };
    Explanation {
        request: asked(config, question, head),
        outcome,
        route: head.zip(found).map(|(head, (n, route))| {
            let user = user_of(route, head);
            let facts = fates.facts(route, head, question, user.as_deref());
            taken(config, n, route, rules::of(config, n, route, &facts))
        }),
        not_taken: head.map(|head| not_taken(config, &fate.decided, head, found)).unwrap_or_default(),
        to_backend,
        limits: limits::that_apply(config, head, found),
    }
}

/// With what it is refused.
fn content(
    config: &Config,
    status: u16,
    head: Option<&RequestHead>,
    found: Option<(usize, &RouteConfig)>,
) -> Option<Content> {
    let of_route = found.and_then(|(n, route)| Some((n, route.rules.error_pages.as_ref()?)));
    let of_all = config.error_pages.as_ref();
    let pages = Pages { of_route: of_route.map(|(_, pages)| pages), of_all };
    match Told::of(status, head.map(|head| &head.fields), pages) {
        Told::Text => None,
        Told::Json => Some(Content::Json),
        Told::Page(_) => {
            let own = of_route.and_then(|(n, pages)| Some((format!("routes[{n}]."), pages.of(status)?)));
            let (table, (statuses, _)) = own.or_else(|| Some((String::new(), of_all?.of(status)?)))?;
            let key = format!("{table}error_pages.{statuses}");
            Some(Content::Page { line: config.written.line(&key), key })
        }
    }
}

fn of_rule(answer: &Answer) -> &'static str {
    match answer {
        Answer::Redirect { .. } => "by redirect of its route",
        Answer::Respond { .. } => "by respond of its route",
    }
}

fn asked(config: &Config, question: &Question, head: Option<&RequestHead>) -> Asked {
    let trusted = &config.server.trusted_proxies;
    let client = head.map_or(question.from, |head| client_address(question.from, &head.fields, trusted));
    Asked {
        line: question.line().to_owned(),
        host: head.map(|head| fields::readable(head.host.as_bytes())),
        path: head.map(|head| head.target.routing_path().to_owned()),
        from: who(question.from),
        is_trusted: is_trusted(question.from, trusted),
        client: who(client),
    }
}

/// An address; who has none comes in through a Unix-domain socket.
fn who(address: IpAddr) -> String {
    if address.is_unspecified() { "unix:".to_owned() } else { address.to_string() }
}

fn taken(config: &Config, n: usize, route: &RouteConfig, rules: Vec<Rule>) -> Taken {
    let of = route.shares.iter().map(|share| share.share).sum();
    let shares = route.shares.iter().map(|share| ShareOf {
        pool: share.of.pool.clone().unwrap_or_default(),
        share: share.share,
        of,
        algorithm: share.of.algorithm.to_string(),
        hash_on: hash_on(&share.of),
        send_proxy: share.of.send_proxy,
        backends: backends_of(&share.of),
        slow_start_secs: slow_start_of(&share.of),
        health_check: health_check_of(&share.of),
        min_healthy: share.of.min_healthy.map(NonZeroUsize::get),
    });
    Taken {
        label: route.label(),
        key: format!("routes[{n}]"),
        line: config.written.line(&format!("routes[{n}].prefix")),
        prefix: route.key.prefix.to_string(),
        hosts: route.key.hosts.iter().map(ToString::to_string).collect(),
        algorithm: route.shares.is_empty().then(|| route.algorithm.to_string()),
        hash_on: hash_on(route),
        pool: route.pool.clone(),
        send_proxy: route.send_proxy,
        sticky_cookie: route.sticky_cookie.as_ref().map(|cookie| cookie.name.clone()),
        backends: route.pools().flat_map(backends_of).collect(),
        health_check: health_check_of(route),
        shares: shares.collect(),
        slow_start_secs: slow_start_of(route),
        min_healthy: route.min_healthy.map(NonZeroUsize::get),
        rules,
    }
}

fn hash_on(pool: &RouteConfig) -> Option<String> {
    match &pool.algorithm {
        Algorithm::ConsistentHash(HashOn::ClientAddress) => Some("client_address".to_owned()),
        Algorithm::ConsistentHash(HashOn::Header(name)) => Some(format!("header:{name}")),
        Algorithm::ConsistentHash(HashOn::Cookie(name)) => Some(format!("cookie:{name}")),
        _ => None,
    }
}

fn backends_of(pool: &RouteConfig) -> Vec<BackendOf> {
    let backend = |backend: &BackendConfig| BackendOf {
        address: backend.addr.to_string(),
        weight: backend.weight.get(),
        backup: backend.backup,
    };
    pool.backends.iter().map(backend).collect()
}

fn slow_start_of(pool: &RouteConfig) -> Option<f64> {
    pool.slow_start.map(|time| time.as_secs_f64())
}

fn health_check_of(pool: &RouteConfig) -> Option<HealthCheck> {
    let check = pool.health_check.as_ref()?;
    Some(HealthCheck {
        path: check.path.clone(),
        interval_secs: check.interval.as_secs_f64(),
        timeout_secs: check.timeout.as_secs_f64(),
        healthy_threshold: check.healthy_threshold.get(),
        unhealthy_threshold: check.unhealthy_threshold.get(),
    })
}

/// The routes but the one that was found, if routes were looked at at all.
fn not_taken(
    config: &Config,
    decided: &Decided<'_>,
    head: &RequestHead,
    found: Option<(usize, &RouteConfig)>,
) -> Vec<NotTaken> {
    if !decided.looked_at_routes() {
        return Vec::new();
    }
    let others = config.routes.iter().enumerate().filter(|(n, _)| found.is_none_or(|(found, _)| found != *n));
    let winner = found.map(|(_, route)| &route.key);
    let why = |route: &RouteConfig| lost::reason(winner, &route.key, &crate::routing::Asked::of(head));
    others
        .map(|(n, route)| NotTaken {
            label: route.label(),
            key: format!("routes[{n}]"),
            line: config.written.line(&format!("routes[{n}].prefix")),
            why: why(route),
        })
        .collect()
}

fn to_backend(
    fates: &Fates<'_>,
    head: &RequestHead,
    route: &RouteConfig,
    question: &Question,
) -> Option<ToBackend> {
    let sent = fates.sent(head, route, route.all_backends().next()?, question)?;
    Some(ToBackend { fields: fields::changes(head, &sent, route), method: sent.method, target: sent.target })
}
