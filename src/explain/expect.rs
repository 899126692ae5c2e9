//! `[[expect]]`: what the file expects of itself, held against what it does.

use http::HeaderName;

use super::Question;
use super::fate::{Decided, Fate, Fates};
use super::fields::{readable, values};
use crate::config::{Config, ConfigError, ConfigErrors, Expectation, Expected, RouteConfig};

/// Holds each expectation of `config` against what it does.
///
/// # Errors
/// An error for each that is not fulfilled, with its line: what was expected, and what becomes of the request instead.
pub fn check(config: &Config) -> Result<(), ConfigErrors> {
    if config.expectations.is_empty() {
        return Ok(());
    }
    let fates = Fates::new(config);
    let mut errors = Vec::new();
    for expectation in &config.expectations {
        Checked { fates: &fates, expectation, errors: &mut errors }.check();
    }
    if errors.is_empty() { Ok(()) } else { Err(ConfigErrors::new(errors)) }
}

/// An expectation, and what is found to be wrong with it.
struct Checked<'a, 'c> {
    fates: &'a Fates<'c>,
    expectation: &'a Expectation,
    errors: &'a mut Vec<ConfigError>,
}

impl Checked<'_, '_> {
    fn check(&mut self) {
        let question = match question(self.expectation) {
            Ok(question) => question,
            Err((key, problem)) => return self.refuse(key, problem),
        };
        let fate = self.fates.of(&question);
        match (&self.expectation.expected, &fate.decided) {
            (Expected::Status(expected), decided) => {
                let status = match decided {
                    Decided::Route(..) => None,
                    Decided::Answered(answer) => Some(answer.status),
                    Decided::AnsweredBy(_, _, answer) => Some(answer.status()),
                    Decided::Refused(cause) | Decided::RefusedBy(_, _, cause) => Some(cause.status()),
                };
                if status != Some(*expected) {
                    self.refuse("status", format!("{expected} is expected, but {}", said(&question, &fate)));
                }
            }
            (Expected::PassedOn { .. }, Decided::Route(..)) => self.check_passed_on(&question, &fate),
            (Expected::PassedOn { route, backend_target, .. }, _) => {
                let (key, expected) = match (route, backend_target) {
                    (Some(route), _) => ("route", format!("route {route:?} is expected")),
                    (None, Some(_)) => ("backend_target", "it is expected that a backend gets it".to_owned()),
                    (None, None) => ("request_header", "it is expected that a backend gets it".to_owned()),
                };
                let unknown = route.as_ref().map(|route| self.unless_a_route(route)).unwrap_or_default();
                self.refuse(key, format!("{expected}, but {}{unknown}", said(&question, &fate)));
            }
        }
    }

    /// What becomes of a request that a route takes.
    fn check_passed_on(&mut self, question: &Question, fate: &Fate<'_>) {
        let (
            Expected::PassedOn { route, backend_target, request_header },
            Decided::Route(_, found),
            Some(head),
        ) = (&self.expectation.expected, &fate.decided, &fate.head)
        else {
            return;
        };
        let line = question.line();
        if let Some(expected) = route
            && *expected != found.label()
        {
            let unknown = self.unless_a_route(expected);
            let problem = format!(
                "route {expected:?} is expected, but route {:?} takes {line:?}{unknown}",
                found.label()
            );
            self.refuse("route", problem);
        }
        let so_far = self.errors.len();
        for backend in found.all_backends() {
            let Some(sent) = self.fates.sent(head, found, backend, question) else { continue };
            if let Some(expected) = backend_target
                && *expected != sent.target
            {
                let problem =
                    format!("{expected:?} is expected, but the backend gets {:?} of {line:?}", sent.target);
                self.refuse("backend_target", problem);
            }
            for (name, expected) in request_header {
                let found: Vec<_> = values(&sent, name).map(readable).collect();
                if found.is_empty() || found.join(", ") != *expected {
                    self.refuse(
                        "request_header",
                        wrong_field(name, expected, &found, &backend.addr.to_string()),
                    );
                }
            }
            // Backends differ in the address in `Host` alone; one that is wrong is enough.
            if self.errors.len() > so_far {
                break;
            }
        }
    }

    /// What there is to say if no route is called `label`.
    fn unless_a_route(&self, label: &str) -> String {
        const ENOUGH: usize = 10;
        let labels: Vec<_> = self.fates.config.routes.iter().map(RouteConfig::label).collect();
        if labels.iter().any(|known| known == label) {
            return String::new();
        }
        let first =
            labels.iter().take(ENOUGH).map(|label| format!("{label:?}")).collect::<Vec<_>>().join(", ");
        let more = if labels.len() > ENOUGH { " and others" } else { "" };
        format!("; no route is called {label:?}, there are {first}{more}")
    }

    fn refuse(&mut self, key: &str, problem: String) {
        let key = format!("{}.{key}", self.expectation.key);
        self.errors.push(self.fates.config.written.error(&key, problem));
    }
}

/// The request of an expectation; or which of its keys is wrong, and why.
fn question(expectation: &Expectation) -> Result<Question, (&'static str, String)> {
    let mut question = Question::new(&expectation.request, expectation.from)
        .map_err(|error| ("request", error.to_string()))?;
    for (name, value) in &expectation.headers {
        question = question.named_field(name, value).map_err(|error| ("headers", error.to_string()))?;
    }
    Ok(question)
}

/// What becomes of it, as the end of a sentence.
fn said(question: &Question, fate: &Fate<'_>) -> String {
    let line = question.line();
    match &fate.decided {
        Decided::Route(_, route) => format!("route {:?} takes {line:?}", route.label()),
        Decided::Answered(answer) => format!("the proxy itself answers {line:?} with {}", answer.status),
        Decided::AnsweredBy(_, route, answer) => {
            format!("route {:?} itself answers {line:?} with {}", route.label(), answer.status())
        }
        Decided::Refused(cause) | Decided::RefusedBy(_, _, cause) => {
            format!("{line:?} is refused with {}, {cause}: {}", cause.status(), cause.sentence())
        }
    }
}

fn wrong_field(name: &HeaderName, expected: &str, found: &[String], backend: &str) -> String {
    let found = if found.is_empty() { "no such field".to_owned() } else { format!("{:?}", found.join(", ")) };
    format!("{name} is expected to be {expected:?}, but the backend {backend} gets {found}")
}
