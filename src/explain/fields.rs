//! What changes between the fields that came and those that the backend gets. The two are compared; the reasons are in words
//! what `http/headers.rs` and `http/hop_by_hop.rs` do.

use http::HeaderName;
use http::header;
use serde::Serialize;

use super::fate::Sent;
use crate::config::RouteConfig;
use crate::http::client_cert::is_about_client_cert;
use crate::http::head::RequestHead;
use crate::http::headers::{
    FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PORT, FORWARDED_PREFIX, FORWARDED_PROTO,
};
use crate::http::hop_by_hop::{ConnectionOptions, crosses, imitates_ours};
use crate::http::request_id::REQUEST_ID;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Kept,
    Rewritten,
    Removed,
    Added,
}

/// A field, all its lines together.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FieldChange {
    pub(super) name: String,
    pub(super) change: Change,
    /// The values of the lines that came.
    pub(super) received: Vec<String>,
    /// The values of the lines that the backend gets.
    pub(super) sent: Vec<String>,
    pub(super) why: Option<&'static str>,
}

/// What becomes of each field of `head`, and what is added to them.
pub(super) fn changes(head: &RequestHead, sent: &Sent, route: &RouteConfig) -> Vec<FieldChange> {
    let mut names: Vec<HeaderName> = Vec::new();
    let of_sent = sent.fields.iter().filter_map(|(name, _)| HeaderName::try_from(name).ok());
    for name in head.fields.iter().map(|(name, _)| name.clone()).chain(of_sent) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let change = |name: HeaderName| {
        let received: Vec<_> = head.fields.get_all(&name).map(|value| readable(value.as_bytes())).collect();
        let sent: Vec<_> = values(sent, &name).map(readable).collect();
        let change = match (received.is_empty(), sent.is_empty()) {
            _ if received == sent => Change::Kept,
            (true, _) => Change::Added,
            (_, true) => Change::Removed,
            _ => Change::Rewritten,
        };
        let why = why(&name, change, head, route);
        FieldChange { name: name.as_str().to_owned(), change, received, sent, why }
    };
    names.into_iter().map(change).collect()
}

/// The values of the lines of a field that the backend gets.
pub(super) fn values<'s>(sent: &'s Sent, name: &HeaderName) -> impl Iterator<Item = &'s [u8]> {
    sent.fields.iter().filter(move |(sent, _)| sent == name.as_str()).map(|(_, value)| value.as_slice())
}

fn why(name: &HeaderName, change: Change, head: &RequestHead, route: &RouteConfig) -> Option<&'static str> {
    Some(match (change, name) {
        (Change::Kept, _) => return None,
        (_, name) if route.rules.request_headers.as_ref().is_some_and(|rules| rules.is_about(name)) => {
            "by request_headers of the route"
        }
        (Change::Removed, name)
            if route.rules.forward_auth.as_ref().is_some_and(|rule| rule.is_copied(name)) =>
        {
            "only the service of forward_auth may say it"
        }
        (Change::Removed, name) if *name == header::AUTHORIZATION && route.rules.basic_auth.is_some() => {
            "it was for basic_auth of the route, which does not say forward_authorization = true"
        }
        (Change::Removed, name) if imitates_ours(name) => {
            "a backend that reads _ as - would take it for a field of the proxy"
        }
        (Change::Removed, name) if !crosses(name, &ConnectionOptions::default()) => {
            "is about one connection only"
        }
        (Change::Removed, name) if !crosses(name, &head.connection) => "is named in Connection",
        (Change::Removed, name) if is_about_client_cert(name) => {
            "only the proxy says what is in the certificate of a client"
        }
        (Change::Removed, &header::EXPECT) => "the proxy itself answers 100 when the body is wanted",
        (_, &header::HOST) if route.preserve_host => "the host asked for, preserve_host keeps it",
        (_, &header::HOST) if route.all_backends().count() > 1 => {
            "the address of the backend, here of the first"
        }
        (_, &header::HOST) => "the address of the backend",
        (Change::Added, name) if *name == REQUEST_ID => "a new one each time, since the request has none",
        (Change::Rewritten, name) if *name == REQUEST_ID => {
            "a new one each time: what came is no single word"
        }
        (Change::Added, name) if *name == FORWARDED_FOR => "the address the connection comes from",
        (_, name) if *name == FORWARDED_FOR => "the address the connection comes from is appended",
        (Change::Rewritten | Change::Removed, name)
            if *name == FORWARDED_HOST || *name == FORWARDED_PROTO || *name == FORWARDED_PORT =>
        {
            "the connection comes from none of trusted_proxies"
        }
        (_, name) if *name == FORWARDED_PREFIX && route.rules.rewrite.is_some() => {
            "the prefix of the route, which is not in the target"
        }
        (_, name) if *name == FORWARDED_HOST => "the host asked for",
        (_, name) if *name == FORWARDED_PORT => "the port it came in by",
        (_, name) if *name == FORWARDED_PROTO => "how the request came in",
        (_, name) if is_about_client_cert(name) => "of the client's certificate, if it shows one",
        (_, &header::VIA) => "names this proxy; ID is another one for each that runs",
        (_, &header::CONNECTION) => "names what is about this connection only",
        (_, &header::TE) => "trailers are all that is passed on of it",
        (_, &header::CONTENT_LENGTH | &header::TRANSFER_ENCODING) => "how the body is delimited",
        (_, &header::MAX_FORWARDS) => "one proxy less",
        _ => return None,
    })
}

/// As text. Bytes that are none are written as `\xNN`.
pub(super) fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
