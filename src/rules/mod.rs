//! What a route does beside passing requests on: one rule a file, each a value that the configuration makes and that knows
//! nothing of sockets, so that both engines and [`explain`](crate::explain) ask the same one.
//!
//! The order on a request is fixed: who may come (`access.rs`) and with what method (which is a matter of
//! [`routing`](crate::routing)), how often (`rate_limit.rs`), then what is answered here (`answer.rs`), then another path
//! (`rewrite.rs`), then header fields (`fields.rs`), then the backend. A
//! rule that is not written is a `None` on the route, and costs a request that one look. `template.rs` has the placeholders,
//! `names.rs` the fields that are not for rules.

mod access;
pub(crate) mod answer;
mod fields;
pub(crate) mod names;
mod rate_limit;
mod rewrite;
pub(crate) mod template;

pub use access::Access;
pub use answer::Answer;
pub use fields::FieldRules;
pub use rate_limit::{Limiter, Per, RateLimit};
pub use rewrite::PathRewrite;
pub use template::{Facts, Placeholder, Template, TemplateError};

/// The rules of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// From where requests are taken; absent = from everywhere.
    pub access: Option<Access>,
    /// How many requests it takes; absent = any number.
    pub rate_limit: Option<RateLimit>,
    /// What is answered in place of a backend; absent = a backend is asked.
    pub answer: Option<Answer>,
    /// The path that a backend gets; absent = as it came.
    pub rewrite: Option<PathRewrite>,
    /// Fields of the request, towards a backend; absent = as they came.
    pub request_headers: Option<FieldRules>,
    /// Fields of a backend's answer; absent = as they came.
    pub response_headers: Option<FieldRules>,
}

impl Rules {
    /// Bytes that they hold while the route is at work, as far as they are worth mentioning.
    pub(crate) fn memory(&self) -> usize {
        let content = match &self.answer {
            Some(Answer::Respond { content, .. }) => content.len(),
            _ => 0,
        };
        content + self.rate_limit.as_ref().map_or(0, Limiter::memory)
    }
}
