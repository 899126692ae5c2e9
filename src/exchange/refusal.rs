//! An answer made by the proxy itself.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;

use super::last_hop::ALLOW;
use crate::error::Cause;
use crate::http::accept::prefers_json;
use crate::http::fields::Fields;
use crate::http::head::{RequestHead, Version};
use crate::http::hop_by_hop::crosses;
use crate::http::request_id::{REQUEST_ID, RequestId};
use crate::http::response_head::ResponseHead;
use crate::http::response_out::{write_connection, write_date, write_field, write_hsts, write_status_line};
use crate::rules::{ErrorPages, Page};

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// RFC 9457.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Fields of a backend's answer that stay where it is intercepted: what the status has no meaning without (RFC 9110 §11.6.1,
/// §15.5.6, §10.2.3). All else is about a content that nobody gets.
const KEPT: [HeaderName; 3] = [header::WWW_AUTHENTICATE, header::ALLOW, header::RETRY_AFTER];

/// The bytes of an answer made by the proxy itself.
#[derive(Debug)]
pub(crate) struct OwnAnswer {
    pub head: Vec<u8>,
    /// What follows the head. That of a page is held once, for all who get it.
    pub content: Bytes,
}

impl OwnAnswer {
    /// Ends the head with what is in all of them.
    pub(super) fn finish(
        mut head: Vec<u8>,
        id: &RequestId,
        version: Version,
        keep_alive: bool,
        content: Bytes,
    ) -> Self {
        write_field(&mut head, REQUEST_ID.as_str().as_bytes(), id.as_bytes());
        write_connection(&mut head, version, keep_alive);
        head.extend_from_slice(b"\r\n");
        Self { head, content }
    }

    /// With one field more, unless the route sets it itself.
    pub(super) fn with_hsts(mut self, seconds: u64) -> Self {
        const BEGINS: &[u8] = b"\r\nstrict-transport-security:";
        if !self.head.windows(BEGINS.len()).any(|line| line == BEGINS) {
            // The empty line comes last again.
            self.head.truncate(self.head.len().saturating_sub(2));
            write_hsts(&mut self.head, seconds);
            self.head.extend_from_slice(b"\r\n");
        }
        self
    }
}

/// The pages there are for a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pages<'a> {
    /// Those of its route come first.
    pub of_route: Option<&'a ErrorPages>,
    pub of_all: Option<&'a ErrorPages>,
}

impl<'a> Pages<'a> {
    fn of(self, status: u16) -> Option<&'a Page> {
        let find = |pages: Option<&'a ErrorPages>| pages.and_then(|pages| pages.of(status));
        find(self.of_route).or_else(|| find(self.of_all)).map(|(_, page)| page)
    }
}

/// What a failed request is told beside its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told<'a> {
    Page(&'a Page),
    /// One line.
    Text,
    /// An object, for who would rather have JSON.
    Json,
}

impl<'a> Told<'a> {
    /// What it is for a request with these fields.
    pub(crate) fn of(status: u16, fields: Option<&Fields>, pages: Pages<'a>) -> Self {
        let page = pages.of(status);
        let other = page.map_or(PLAIN, |page| page.content_type.clone());
        match page {
            Some(page) if page.is_json() => Self::Page(page),
            _ if fields.is_some_and(|fields| prefers_json(fields, &other)) => Self::Json,
            Some(page) => Self::Page(page),
            None => Self::Text,
        }
    }
}

/// A request that is refused, as far as the answer depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused<'a> {
    pub id: &'a RequestId,
    /// `None`: it was not understood.
    pub fields: Option<&'a Fields>,
    pub version: Version,
    pub is_head: bool,
    /// Its connection can carry another one.
    pub keep_alive: bool,
    /// With what its route asks who its clients are.
    pub challenge: Option<&'a HeaderValue>,
    pub pages: Pages<'a>,
}

impl<'a> Refused<'a> {
    /// One with this head.
    pub(crate) fn new(head: &'a RequestHead, id: &'a RequestId, keep_alive: bool, pages: Pages<'a>) -> Self {
        let (version, is_head) = (head.version, head.method == Method::HEAD);
        Self { id, fields: Some(&head.fields), version, is_head, keep_alive, challenge: None, pages }
    }

    /// One that was not understood.
    pub(crate) fn unknown(id: &'a RequestId, is_head: bool, keep_alive: bool, pages: Pages<'a>) -> Self {
        Self { id, fields: None, version: Version::Http11, is_head, keep_alive, challenge: None, pages }
    }

    /// What it is answered.
    pub(crate) fn answer(&self, cause: Cause) -> OwnAnswer {
        let proxy_status = format!("reverse-proxy; error={}; details=\"{cause}\"", cause.proxy_error_type());
        let status = StatusCode::from_u16(cause.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.write(status, cause.sentence(), cause.word(), &proxy_status, |out| {
            if let Some(seconds) = cause.retry_after_secs() {
                write_field(out, b"retry-after", seconds.to_string().as_bytes());
            }
            if let Some(challenge) = self.challenge.filter(|_| cause == Cause::Unauthorized) {
                write_field(out, b"www-authenticate", challenge.as_bytes());
            }
            match cause {
                Cause::MethodNotAllowed(methods) => {
                    write_field(out, b"allow", methods.to_string().as_bytes());
                }
                // CONNECT is the one method refused everywhere.
                _ if cause.status() == 405 => write_field(out, b"allow", ALLOW),
                _ => {}
            }
        })
    }

    /// The same, where it is the answer of a backend that clients do not get.
    pub(crate) fn intercepted(&self, head: &ResponseHead) -> OwnAnswer {
        // RFC 9209 §2.1.5.
        let proxy_status =
            format!("reverse-proxy; received-status={}; details=\"intercepted\"", head.status.as_u16());
        let sentence = "this is what the server has answered; its words are left out";
        self.write(head.status, sentence, "intercepted", &proxy_status, |out| {
            for name in KEPT.iter().filter(|name| crosses(name, &head.options)) {
                for value in head.fields.get_all(name) {
                    write_field(out, name.as_str().as_bytes(), value.as_bytes());
                }
            }
        })
    }

    fn write(
        &self,
        status: StatusCode,
        sentence: &str,
        word: &str,
        proxy_status: &str,
        more: impl FnOnce(&mut Vec<u8>),
    ) -> OwnAnswer {
        let title = status.canonical_reason().unwrap_or_default();
        let told = Told::of(status.as_u16(), self.fields, self.pages);
        let (content, content_type) = match told {
            Told::Page(page) => (page.content.clone(), page.content_type.clone()),
            Told::Json => (problem(status, title, sentence, word, self.id), PROBLEM),
            Told::Text => {
                let line = format!("{} {title}", status.as_u16());
                (format!("{}: {sentence} ({word})\n", line.trim_end()).into(), PLAIN)
            }
        };
        // A page in JSON is the same for whoever prefers that.
        let is_chosen = self.fields.is_some() && !matches!(told, Told::Page(page) if page.is_json());
        let mut out = Vec::with_capacity(512);
        write_status_line(&mut out, status, title.as_bytes());
        write_date(&mut out);
        write_field(&mut out, b"content-type", content_type.as_bytes());
        write_field(&mut out, b"content-length", content.len().to_string().as_bytes());
        if is_chosen {
            write_field(&mut out, b"vary", b"accept");
        }
        write_field(&mut out, b"proxy-status", proxy_status.as_bytes());
        more(&mut out);
        let content = if self.is_head { Bytes::new() } else { content };
        OwnAnswer::finish(out, self.id, self.version, self.keep_alive, content)
    }
}

/// A problem without a `type`: it is no more than its status says (RFC 9457 §4.2.1), and why it came to it.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    status: u16,
    detail: &'a str,
    cause: &'a str,
    request_id: &'a str,
}

fn problem(status: StatusCode, title: &str, detail: &str, cause: &str, id: &RequestId) -> Bytes {
    let problem = Problem { title, status: status.as_u16(), detail, cause, request_id: id.as_str() };
    // Strings and a number can be written.
    let mut content = serde_json::to_vec(&problem).unwrap_or_default();
    content.push(b'\n');
    content.into()
}
