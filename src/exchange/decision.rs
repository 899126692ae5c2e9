//! What the head of a request alone decides, for both engines and for [`explain`](crate::explain) alike: no socket, no
//! clock and no backend are needed for it, so that what is explained is what happens.

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderValue;
use http::header::AUTHORIZATION;

use crate::config::{Engine, IpNetwork, RouteConfig};
use crate::error::Cause;
use crate::http::client_cert::{ClientCert, ClientCertFields};
use crate::http::framing::BodyFraming;
use crate::http::head::{HeadError, RequestHead};
use crate::http::headers::{FORWARDED_PROTO, Rewrite, has_passed, rewrite};
use crate::http::request_out::write_request_line;
use crate::http::response_head::ResponseHead;
use crate::http::response_out::write_field;
use crate::http::target::{MAX_LEN, loose_reading};
use crate::routing::{Asked, Found, Methods, RouteTable};
#[cfg(feature = "classic")]
use crate::rules::forward_auth::put_fields;
use crate::rules::{Facts, ForwardAuth, PathRewrite, Rules};

const TOO_LONG: HeadError = HeadError::new(
    414,
    "uri_too_long",
    "request target longer than 65,534 bytes with the prefix of the backend",
);

const AMBIGUOUS: HeadError = HeadError::new(
    400,
    "bad_target",
    "a path that is of one route as it is written, and of another where slashes are decoded or merged",
);

/// The route of a request, unless it has passed the proxy called `via` before. Backends differ in how they read `//` and
/// `%2F`: where that would lead past the rules of another route, nobody gets the request.
pub(crate) fn route_of<'a, T>(
    head: &RequestHead,
    via: &str,
    routes: &'a RouteTable<T>,
) -> Result<Found<'a, T>, Cause> {
    if has_passed(&head.fields, via) {
        return Err(Cause::LoopDetected);
    }
    let asked = Asked::of(head);
    let found = routes.find(&asked).ok_or(Cause::NoRoute)?;
    let Some(path) = loose_reading(head.target.path_and_query().path()) else { return Ok(found) };
    match routes.find(&Asked { path: &path, ..asked }) {
        Some(other) if std::ptr::eq(other.route, found.route) => Ok(found),
        _ => Err(Cause::Head(AMBIGUOUS)),
    }
}

/// Whether its route takes a request of this client. Who may not come is told nothing else. `other_methods` are those of
/// [`Found`].
pub(crate) fn admit(
    head: &RequestHead,
    client: IpAddr,
    route: &RouteConfig,
    other_methods: Option<Methods>,
) -> Result<(), Cause> {
    if route.rules.access.as_ref().is_some_and(|access| !access.lets_in(client)) {
        return Err(Cause::ClientDenied);
    }
    if let Some(methods) = other_methods {
        return Err(Cause::MethodNotAllowed(methods));
    }
    if let Some(rewrite) = &route.rules.rewrite {
        let target = head.target.as_str();
        if target.len() + rewrite.growth() > MAX_LEN && rewrite.to_backend(target).len() > MAX_LEN {
            return Err(Cause::Head(TOO_LONG));
        }
    }
    match (head.framing, route.max_body_bytes) {
        (BodyFraming::Length(length), Some(max)) if length > max => Err(Cause::BodyTooLarge),
        _ => Ok(()),
    }
}

/// What the fields towards a backend depend on, beside the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) route: &'a RouteConfig,
    /// The backend's address, as in a `Host` field.
    pub(crate) backend: &'a HeaderValue,
    /// Where the client's connection comes from.
    pub(crate) peer: IpAddr,
    /// Who the request is from, as far as trusted proxies tell.
    pub(crate) client: IpAddr,
    /// The same, as in `X-Forwarded-For`.
    pub(crate) forwarded_for: &'a HeaderValue,
    /// `trusted_proxies`.
    pub(crate) trusted: &'a [IpNetwork],
    /// The client speaks TLS.
    pub(crate) secured: bool,
    /// Who it is by its certificate, if it has shown one.
    pub(crate) client_cert: Option<&'a ClientCert>,
    /// `client_cert_headers`.
    pub(crate) tells_client_cert: bool,
    /// The port it came in by; `None`: not one of TCP.
    pub(crate) port: Option<u16>,
    /// There is a place for the tunnel that the request asks for.
    pub(crate) upgrade: bool,
    /// By what name this proxy is known in `Via`.
    pub(crate) via: &'a str,
    /// The `X-Request-Id`.
    pub(crate) request_id: &'a [u8],
    /// Whom `basic_auth` of the route has let in.
    pub(crate) user: Option<&'a str>,
}

impl<'a> Outgoing<'a> {
    /// The target that the backend gets.
    pub(crate) fn target(&self, head: &'a RequestHead) -> Cow<'a, str> {
        let target = head.target.as_str();
        self.route.rules.rewrite.as_ref().map_or(Cow::Borrowed(target), |rewrite| rewrite.to_backend(target))
    }

    /// The whole head that the backend gets.
    pub(crate) fn write(&self, out: &mut Vec<u8>, head: &'a RequestHead) {
        write_request_line(out, head, &self.target(head));
        self.put_fields(head, &mut |name, value| write_field(out, name, value));
        out.extend_from_slice(b"\r\n");
    }

    /// Calls `put` with the name and the value of each field that the backend gets, in order: what the proxy itself has to
    /// say, and then what the route has.
    pub(crate) fn put_fields(&self, head: &'a RequestHead, put: &mut impl FnMut(&[u8], &[u8])) {
        let with = self.rewrite(head);
        let rules = &self.route.rules;
        // What the service of `forward_auth` has put there is no password of a client: that was taken away before.
        let is_copied = rules.forward_auth.as_ref().is_some_and(|rule| rule.is_copied(&AUTHORIZATION));
        let keeps_password = rules.keeps_password() && !is_copied;
        if rules.request_headers.is_none() && !keeps_password {
            return rewrite(head, &with, put);
        }
        rewrite(head, &with, &mut |name, value| {
            let is_kept = keeps_password && is_password(name);
            if !is_kept && !rules.request_headers.as_ref().is_some_and(|rules| rules.replaces(name)) {
                put(name, value);
            }
        });
        if let Some(rules) = &rules.request_headers {
            rules.put(&self.facts(head), put);
        }
    }

    /// The whole head that the service of `forward_auth` gets, which is the `route` here. `rules`: those of the route that asks it.
    pub(crate) fn ask(&self, out: &mut Vec<u8>, head: &'a RequestHead, rule: &ForwardAuth, rules: &Rules) {
        rule.write(out, head, &self.rewrite(head), |name| rules.keeps_password() && is_password(name));
    }

    /// Calls `put` with the name and the value of each field that it gets, in order.
    #[cfg(feature = "classic")]
    pub(crate) fn put_question(
        &self,
        head: &'a RequestHead,
        rules: &Rules,
        put: &mut impl FnMut(&[u8], &[u8]),
    ) {
        put_fields(head, &self.rewrite(head), |name| rules.keeps_password() && is_password(name), put);
    }

    /// What placeholders stand for.
    pub(crate) fn facts(&self, head: &'a RequestHead) -> Facts<'a> {
        Facts {
            head,
            route: self.route,
            client: self.client,
            scheme: scheme(head, self.peer, self.trusted, self.secured),
            client_cert: self.client_cert,
            request_id: self.request_id,
            user: self.user,
        }
    }

    /// How the fields of `head` change on the way.
    fn rewrite(&self, head: &'a RequestHead) -> Rewrite<'a> {
        Rewrite {
            host: sent_host(head, self.route, self.backend),
            client: self.forwarded_for,
            trusted: is_trusted(self.peer, self.trusted),
            secured: self.secured,
            port: self.port,
            client_cert: ClientCertFields::new(self.tells_client_cert, self.client_cert),
            prefix: self.route.rules.rewrite.as_ref().map(PathRewrite::outside),
            upgrade: self.upgrade,
            via: self.via,
            request_id: self.request_id,
        }
    }
}

fn is_password(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(AUTHORIZATION.as_str().as_bytes())
}

/// The `Host` that the backend gets.
fn sent_host<'a>(head: &'a RequestHead, route: &RouteConfig, backend: &'a HeaderValue) -> &'a HeaderValue {
    if route.preserve_host && !head.host.is_empty() { &head.host } else { backend }
}

/// Changes an answer as the rules of its route say. `backend` is that of [`Outgoing`].
pub(crate) fn amend_answer<'a>(
    answer: &mut ResponseHead,
    head: &RequestHead,
    route: &RouteConfig,
    backend: &HeaderValue,
    facts: impl FnOnce() -> Facts<'a>,
) {
    if let Some(rewrite) = &route.rules.rewrite {
        let host = sent_host(head, route, backend);
        rewrite.amend(&mut answer.fields, host, *host == head.host);
    }
    if let Some(rules) = &route.rules.response_headers {
        rules.amend(answer, &facts());
    }
}

/// `https` or `http`: how the client speaks, as far as proxies in between that are trusted tell.
pub(crate) fn scheme(head: &RequestHead, peer: IpAddr, trusted: &[IpNetwork], secured: bool) -> &'static str {
    let told = head.fields.get(&FORWARDED_PROTO).filter(|_| is_trusted(peer, trusted));
    match told.map(HeaderValue::as_bytes) {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ if secured => "https",
        _ => "http",
    }
}

/// Whether `peer` is one of `trusted_proxies`.
pub(crate) fn is_trusted(peer: IpAddr, trusted: &[IpNetwork]) -> bool {
    trusted.iter().any(|network| network.contains(peer))
}

/// Whether a field that was written goes out with this engine. `TE` would ask for trailers, which ureq drops.
pub(crate) fn is_sent_by(engine: Engine, name: &[u8]) -> bool {
    engine == Engine::Native || (name != b"te" && name != b"connection")
}
