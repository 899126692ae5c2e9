//! [`View`]: what both engines have of an exchange, lent to what depends on it: rules, refusals, the head that a backend gets, and
//! what is said at the end.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;

use super::answer_here;
use super::decision::{Outgoing, amend_answer, scheme};
use super::record::Record;
use super::refusal::{OwnAnswer, Pages, Refused};
use crate::balance::Backend;
use crate::config::RouteConfig;
use crate::error::Cause;
use crate::http::client_cert::ClientCert;
use crate::http::head::RequestHead;
use crate::http::response_head::ResponseHead;
use crate::route::Route;
use crate::rules::Facts;
use crate::snapshot::Snapshot;

/// An exchange, as far as both engines have the same of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub head: &'a RequestHead,
    pub record: &'a Record,
    /// What it began under.
    pub snapshot: &'a Snapshot,
    /// `None`: there is none for it, or it is not known yet.
    pub route: Option<&'a Arc<Route>>,
    /// Who it is from, as far as trusted proxies tell.
    pub client: IpAddr,
    /// Where the client's connection comes from.
    pub peer: IpAddr,
    /// The same, as in `X-Forwarded-For`.
    pub forwarded_for: &'a HeaderValue,
    /// The client speaks TLS.
    pub secured: bool,
    /// Who it is by its certificate, if it has shown one.
    pub client_cert: Option<&'a ClientCert>,
    /// The port it came in by, if that is known, and one of TCP.
    pub port: Option<u16>,
}

impl<'a> View<'a> {
    /// `https` or `http`: how the client speaks.
    fn scheme(&self) -> &'static str {
        scheme(self.head, self.peer, &self.snapshot.trusted, self.secured)
    }

    /// What placeholders of the rules of `route` stand for.
    fn facts(&self, route: &'a RouteConfig) -> Facts<'a> {
        Facts {
            head: self.head,
            route,
            client: self.client,
            scheme: self.scheme(),
            client_cert: self.client_cert,
            request_id: self.record.id.as_bytes(),
            user: self.record.user.as_deref(),
        }
    }

    /// What an answer of ours depends on, in place of that of a backend.
    pub(crate) fn refused(&self, keep_alive: bool) -> Refused<'a> {
        let route = self.route.map(|route| route.config());
        let of_route = route.and_then(|route| route.rules.error_pages.as_ref());
        let pages = Pages { of_route, of_all: self.snapshot.error_pages.as_ref() };
        let challenge = route.and_then(RouteConfig::challenge);
        Refused { challenge, ..Refused::new(self.head, &self.record.id, keep_alive, pages) }
    }

    /// What a route answers that asks no backend, and the status of that; or why it can't.
    pub(crate) fn answer_here(&self, keep_alive: bool) -> Option<Result<(u16, OwnAnswer), Cause>> {
        let route = self.route?.config();
        let rule = route.rules.answer.as_ref()?;
        let facts = self.facts(route);
        let answer = |()| (rule.status(), answer_here::answer(rule, &facts, &self.record.id, keep_alive));
        Some(answer_here::check(rule, &facts).map(answer))
    }

    /// What the fields towards `backend` depend on. `route`: its own, which may be the service of `forward_auth`. `upgrade`: there is a
    /// place for the tunnel that the request asks for. `via`: see [`Gateway`](super::gateway::Gateway).
    pub(crate) fn outgoing(
        &self,
        route: &'a RouteConfig,
        backend: &'a Backend,
        upgrade: bool,
        via: &'a str,
    ) -> Outgoing<'a> {
        Outgoing {
            route,
            backend: backend.upstream().host(),
            peer: self.peer,
            client: self.client,
            forwarded_for: self.forwarded_for,
            trusted: &self.snapshot.trusted,
            secured: self.secured,
            client_cert: self.client_cert,
            tells_client_cert: self.snapshot.front.client_cert_headers,
            port: self.port,
            upgrade,
            via,
            request_id: self.record.id.as_bytes(),
            user: self.record.user.as_deref(),
        }
    }

    /// Changes the answer of `backend` as the rules of the route say.
    pub(crate) fn amend(&self, answer: &mut ResponseHead, backend: &Backend) {
        if let Some(route) = self.route.map(|route| route.config()) {
            amend_answer(answer, self.head, route, backend.upstream().host(), || self.facts(route));
        }
    }

    /// The cookie that an answer of `backend` brings along, if the route has one and the client does not.
    pub(crate) fn sticky_cookie(&self, backend: &Backend) -> Option<HeaderValue> {
        let route = self.route?;
        route.config().sticky_cookie.as_ref()?;
        route.set_cookie(&self.head.fields, backend, self.scheme())
    }
}
