//! What a route does beside passing requests on: one rule a file, each a value that the configuration makes and that knows
//! nothing of sockets, so that both engines and [`explain`](crate::explain) ask the same one.
//!
//! The order on a request is fixed: who may come (`access.rs`) and with what method (which is a matter of
//! [`routing`](crate::routing)), how often (`rate_limit.rs`), by what password (`basic_auth.rs`), whether another service
//! lets it in (`forward_auth.rs`), then what is answered here (`answer.rs`), then another path (`rewrite.rs`), then header
//! fields (`fields.rs`), then the backend, and at last what its answer becomes (`compress.rs`). Whatever fails on this way,
//! or comes back from a backend as a failure, is shown as `error_pages.rs` says. A rule that is not written is a `None` on
//! the route, and costs a request that one look. `template.rs` has the placeholders, `names.rs` the fields that are not for
//! rules.

mod access;
pub(crate) mod answer;
pub(crate) mod basic_auth;
pub(crate) mod compress;
pub(crate) mod error_pages;
mod fields;
pub(crate) mod forward_auth;
pub(crate) mod names;
mod rate_limit;
mod rewrite;
pub(crate) mod template;

use crate::http::fields::Fields;

pub use access::Access;
pub use answer::Answer;
pub use basic_auth::{BasicAuth, Credentials, Users, UsersError};
pub use compress::{Compress, MediaRange};
pub use error_pages::{ErrorPages, Intercept, Page, Statuses};
pub use fields::FieldRules;
pub use forward_auth::ForwardAuth;
pub(crate) use rate_limit::counted_as;
pub use rate_limit::{Limiter, Per, RateLimit};
pub use rewrite::PathRewrite;
pub use template::{Facts, Labelled, Placeholder, Template, TemplateError};

/// The rules of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// From where requests are taken; absent = from everywhere.
    pub access: Option<Access>,
    /// How many requests it takes; absent = any number.
    pub rate_limit: Option<RateLimit>,
    /// Who else decides about a request; absent = nobody.
    pub forward_auth: Option<ForwardAuth>,
    /// Whose requests it takes, by name and password; absent = anybody's.
    pub basic_auth: Option<BasicAuth>,
    /// What is answered in place of a backend; absent = a backend is asked.
    pub answer: Option<Answer>,
    /// The path that a backend gets; absent = as it came.
    pub rewrite: Option<PathRewrite>,
    /// Fields of the request, towards a backend; absent = as they came.
    pub request_headers: Option<FieldRules>,
    /// Fields of a backend's answer; absent = as they came.
    pub response_headers: Option<FieldRules>,
    /// Statuses of a backend's answers that clients do not get as they came; absent = none.
    pub intercept: Option<Intercept>,
    /// What clients get where an answer failed; absent = what all routes have, or a line of text.
    pub error_pages: Option<ErrorPages>,
    /// Which answers of a backend are compressed; absent = none.
    pub compress: Option<Compress>,
}

impl Rules {
    /// Bytes that they hold while the route is at work, as far as they are worth mentioning.
    pub(crate) fn memory(&self) -> usize {
        let content = match &self.answer {
            Some(Answer::Respond { content, .. }) => content.len(),
            _ => 0,
        };
        let pages = self.error_pages.as_ref().map_or(0, ErrorPages::memory);
        let users = self.basic_auth.as_ref().map_or(0, |auth| auth.users.memory());
        content + pages + users + self.rate_limit.as_ref().map_or(0, Limiter::memory)
    }

    /// Whether the password of a client stays here: it was for `basic_auth`, and nobody else has to know it.
    pub(crate) fn keeps_password(&self) -> bool {
        self.basic_auth.as_ref().is_some_and(|auth| !auth.forward_authorization)
    }

    /// Leaves out of the trailers of a request what would not have been passed on before its body.
    pub(crate) fn clear_request_trailers(&self, trailers: &mut Fields) {
        if let Some(rules) = &self.request_headers {
            rules.clear_trailers(trailers);
        }
        if let Some(rule) = &self.forward_auth {
            trailers.retain(|name| !rule.is_copied(name));
        }
    }
}
