//! What a route with `redirect` or `respond` answers.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::refusal::OwnAnswer;
use crate::error::Cause;
use crate::http::head::HeadError;
use crate::http::request_id::RequestId;
use crate::http::response_out::{write_date, write_field, write_status_line};
use crate::rules::answer::has_no_content;
use crate::rules::{Answer, Facts, Placeholder};

const NO_HOST: HeadError = HeadError::new(400, "bad_host", "without Host there is nothing to redirect to");

/// Whether the request can be answered at all: HTTP/1.0 has requests without the host that a redirect names.
pub(crate) fn check(rule: &Answer, facts: &Facts<'_>) -> Result<(), Cause> {
    match rule {
        Answer::Redirect { to, .. } if facts.head.host.is_empty() && to.has(Placeholder::Host) => {
            Err(Cause::Head(NO_HOST))
        }
        _ => Ok(()),
    }
}

/// The whole answer.
pub(crate) fn answer(rule: &Answer, facts: &Facts<'_>, id: &RequestId, keep_alive: bool) -> OwnAnswer {
    let head = facts.head;
    let mut out = Vec::with_capacity(512);
    let status = StatusCode::from_u16(rule.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    write_status_line(&mut out, status, status.canonical_reason().unwrap_or_default().as_bytes());
    write_date(&mut out);
    let content = match rule {
        Answer::Redirect { to, .. } => {
            write_field(&mut out, b"location", &to.fill(facts));
            Bytes::new()
        }
        Answer::Respond { content, content_type, headers, .. } => {
            if let Some(content_type) = content_type {
                write_field(&mut out, b"content-type", content_type.as_bytes());
            }
            for (name, value) in headers {
                write_field(&mut out, name.as_str().as_bytes(), &value.fill(facts));
            }
            content.clone()
        }
    };
    if !has_no_content(status.as_u16()) {
        write_field(&mut out, b"content-length", content.len().to_string().as_bytes());
    }
    let content = if head.method == Method::HEAD { Bytes::new() } else { content };
    OwnAnswer::finish(out, id, head.version, keep_alive, content)
}
