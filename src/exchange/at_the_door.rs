//! What is answered before any route is asked: challenges of ACME servers, redirects to `https://`, and requests that came
//! over a connection made for another site.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, TryRecvError};
use http::{Method, StatusCode};

use super::context::Context;
use super::queued::Waiting;
use super::refusal::OwnAnswer;
use super::{Due, Exchange, Next, Stage};
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::front::Front;
use crate::http::head::{HeadError, RequestHead};
use crate::http::request_id::RequestId;
use crate::http::response_out::{write_date, write_field, write_status_line};
use crate::logging::sparingly::log_sparingly;

/// Where ACME servers ask (RFC 8555 §8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";
const ANOTHER_SITE: HeadError =
    HeadError::new(421, "misdirected", "the connection was made for a site with another certificate");
const NO_HOST: HeadError = HeadError::new(400, "bad_host", "without Host there is nothing to redirect to");

/// So long the file that answers a challenge is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Waiting for that file.
#[derive(Debug)]
pub(super) struct Challenge {
    content: Receiver<Option<Vec<u8>>>,
    until: Instant,
}

/// The answer, or how it is waited for, if it does not take a route to find one.
pub(super) fn answer(
    head: &RequestHead,
    id: &RequestId,
    client: &Connection,
    front: &Front,
    keep_alive: bool,
    cx: &Context<'_>,
) -> Option<Next> {
    let entrance = client.entrance();
    if entrance.tls {
        let (tls, named, host) = (front.tls.as_ref()?, client.server_name()?, host_name(head));
        let is_another = !named.eq_ignore_ascii_case(host) && tls.are_different(named, host);
        return is_another.then_some(Next::Failed(Cause::Head(ANOTHER_SITE)));
    }
    if let Some(challenges) = &front.challenges
        && is_challenge(head)
    {
        let token = head.target.routing_path().strip_prefix(CHALLENGES).unwrap_or_default();
        return Some(match challenges.begin(token, Box::new(Waiting::new(cx))) {
            Some(content) => Next::Stage(Stage::Challenge(Challenge { content, until: cx.now + PATIENCE })),
            None => Next::Failed(Cause::NoRoute),
        });
    }
    entrance.https_redirect.then(|| match redirect(head, id, entrance.port, front.https_port, keep_alive) {
        Some(answer) => Next::Answer(308, answer),
        None => Next::Failed(Cause::Head(NO_HOST)),
    })
}

impl Exchange {
    /// Answers a challenge as soon as its file is read.
    pub(super) fn await_challenge(&mut self, cx: &Context<'_>) -> Next {
        let Stage::Challenge(Challenge { content, until }) = &self.stage else {
            return Next::Failed(Cause::Internal);
        };
        match content.try_recv() {
            Ok(Some(content)) => {
                let keep_alive = self.may_keep_alive(cx);
                let answer = with_content(&self.head, &self.record.id, keep_alive, content.into());
                Next::Answer(200, answer)
            }
            Ok(None) | Err(TryRecvError::Disconnected) => Next::Failed(Cause::NoRoute),
            Err(TryRecvError::Empty) if cx.now < *until => Next::Wait(Due::look(*until)),
            Err(TryRecvError::Empty) => {
                log_sparingly!(
                    warn,
                    "a challenge was not read in time: the acme_challenge_dir does not answer"
                );
                Next::Failed(Cause::NoRoute)
            }
        }
    }
}

/// Whether the request is one of an ACME server.
pub(crate) fn is_challenge(head: &RequestHead) -> bool {
    let is_asked = head.target.routing_path().starts_with(CHALLENGES);
    is_asked && matches!(head.method, Method::GET | Method::HEAD)
}

/// The host that was asked for, without its port.
fn host_name(head: &RequestHead) -> &str {
    split_port(head.host.to_str().unwrap_or_default()).0
}

/// A colon inside of brackets is part of the address.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

fn with_content(head: &RequestHead, id: &RequestId, keep_alive: bool, content: Bytes) -> OwnAnswer {
    let mut out = Vec::with_capacity(512);
    write_status_line(&mut out, StatusCode::OK, b"OK");
    write_date(&mut out);
    write_field(&mut out, b"content-type", b"text/plain");
    finish(out, head, id, keep_alive, content)
}

/// To the same target at `https://`, with the same method (RFC 9110 §15.4.9).
fn redirect(
    head: &RequestHead,
    id: &RequestId,
    own_port: Option<u16>,
    https_port: Option<u16>,
    keep_alive: bool,
) -> Option<OwnAnswer> {
    let (name, port) = split_port(head.host.to_str().ok().filter(|host| !host.is_empty())?);
    // Who asks for no port of a listener with another one than 80 comes through something that maps ports: to the usual one.
    let is_mapped = port.is_none() && own_port != Some(80);
    let https_port = https_port.filter(|port| *port != 443 && !is_mapped);
    let https_port = https_port.map(|port| format!(":{port}")).unwrap_or_default();
    let target = head.target.as_str();
    let target = if target == "*" { "/" } else { target };
    let mut out = Vec::with_capacity(512);
    write_status_line(&mut out, StatusCode::PERMANENT_REDIRECT, b"Permanent Redirect");
    write_date(&mut out);
    write_field(&mut out, b"location", format!("https://{name}{https_port}{target}").as_bytes());
    Some(finish(out, head, id, keep_alive, Bytes::new()))
}

fn finish(
    mut out: Vec<u8>,
    head: &RequestHead,
    id: &RequestId,
    keep_alive: bool,
    content: Bytes,
) -> OwnAnswer {
    write_field(&mut out, b"content-length", content.len().to_string().as_bytes());
    let content = if head.method == Method::HEAD { Bytes::new() } else { content };
    OwnAnswer::finish(out, id, head.version, keep_alive, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::HeadLimits;

    fn location(target: &str, host: &str, own: Option<u16>, https: u16) -> String {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let limits = HeadLimits { max_header_bytes: 8192, max_headers: 10 };
        let head = RequestHead::parse(Bytes::from(head), &limits).unwrap();
        let answer = String::from_utf8(
            redirect(&head, &RequestId::of(&head.fields), own, Some(https), true).unwrap().head,
        )
        .unwrap();
        assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
        answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned()
    }

    #[test]
    fn a_redirect_leads_to_the_port_where_tls_is_spoken() {
        assert_eq!(location("/a?b=c", "shop.example", Some(80), 443), "https://shop.example/a?b=c");
        assert_eq!(location("/", "shop.example:80", Some(80), 443), "https://shop.example/");
        assert_eq!(location("/", "shop.example", Some(80), 8443), "https://shop.example:8443/");
        assert_eq!(location("/", "shop.example:8080", Some(8080), 8443), "https://shop.example:8443/");
        // Behind something that makes 80 and 443 of them.
        assert_eq!(location("/", "shop.example", Some(8080), 8443), "https://shop.example/");
        assert_eq!(location("/", "shop.example", None, 8443), "https://shop.example/");
        assert_eq!(location("/", "[::1]:80", Some(80), 8443), "https://[::1]:8443/");
        assert_eq!(location("/", "[::1]", Some(80), 443), "https://[::1]/");
    }
}
