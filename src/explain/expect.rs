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
        match &self.expectation.expected {
            Expected::Taken => self.check_taken(&question, &fate),
            Expected::Status(expected) => self.check_status(*expected, &question, &fate),
            Expected::PassedOn { backend_target, request_header } => {
                self.check_passed_on(backend_target.as_deref(), request_header, &question, &fate);
            }
        }
    }

    /// Whether the route that is expected, if one is, is the one that was found.
    fn is_of_its_route(&mut self, question: &Question, fate: &Fate<'_>) -> bool {
        let Some(expected) = &self.expectation.route else { return true };
        let found = fate.decided.route().map(|(_, route)| route.label());
        if found.as_ref() == Some(expected) {
            return true;
        }
        let unknown = self.unless_a_route(expected);
        self.refuse(
            "route",
            format!("route {expected:?} is expected, but {}{unknown}", said(question, fate)),
        );
        false
    }

    /// The route has it, and does not refuse it.
    fn check_taken(&mut self, question: &Question, fate: &Fate<'_>) {
        if self.is_of_its_route(question, fate)
            && let Decided::RefusedBy(_, _, cause) = &fate.decided
        {
            let (said, status) = (said(question, fate), cause.status());
            let problem = format!(
                "it is expected to take the request, but {said}; if that is meant, say so with status = {status}"
            );
            self.refuse("route", problem);
        }
    }

    /// The proxy itself answers, with this status.
    fn check_status(&mut self, expected: u16, question: &Question, fate: &Fate<'_>) {
        let status = match &fate.decided {
            Decided::Route(..) => None,
            Decided::Answered(answer) => Some(answer.status),
            Decided::AnsweredBy(_, _, answer) => Some(answer.status()),
            Decided::Refused(cause) | Decided::RefusedBy(_, _, cause) => Some(cause.status()),
        };
        if self.is_of_its_route(question, fate) && status != Some(expected) {
            self.refuse("status", format!("{expected} is expected, but {}", said(question, fate)));
        }
    }

    /// A backend has it, with this target and these fields.
    fn check_passed_on(
        &mut self,
        backend_target: Option<&str>,
        request_header: &[(HeaderName, String)],
        question: &Question,
        fate: &Fate<'_>,
    ) {
        if !self.is_of_its_route(question, fate) {
            return;
        }
        let (Decided::Route(_, found), Some(head)) = (&fate.decided, &fate.head) else {
            let key = if backend_target.is_some() { "backend_target" } else { "request_header" };
            let problem = format!("it is expected that a backend gets it, but {}", said(question, fate));
            return self.refuse(key, problem);
        };
        let so_far = self.errors.len();
        for backend in found.all_backends() {
            let Some(sent) = self.fates.sent(head, found, backend, question) else { continue };
            if let Some(expected) = backend_target
                && *expected != sent.target
            {
                let problem = format!(
                    "{expected:?} is expected, but the backend gets {:?} of {:?}",
                    sent.target,
                    question.line()
                );
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
        Decided::RefusedBy(_, route, cause) => {
            let (status, why) = (cause.status(), cause.sentence());
            format!("route {:?} refuses {line:?} with {status}, {cause}: {why}", route.label())
        }
        Decided::Refused(cause) => {
            let advice = question.advice(*cause).map(|advice| format!("; {advice}")).unwrap_or_default();
            format!("{line:?} is refused with {}, {cause}: {}{advice}", cause.status(), cause.sentence())
        }
    }
}

fn wrong_field(name: &HeaderName, expected: &str, found: &[String], backend: &str) -> String {
    let found = if found.is_empty() { "no such field".to_owned() } else { format!("{:?}", found.join(", ")) };
    format!("{name} is expected to be {expected:?}, but the backend {backend} gets {found}")
}
