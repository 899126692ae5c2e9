//! What becomes of a request: the parser, the routing and the rewriting that serve, called without a socket.

use std::borrow::Cow;

use http::HeaderValue;

use crate::config::{BackendConfig, ClientAuth, Config, Engine, RouteConfig};
use crate::error::Cause;
use crate::exchange::answer_here;
use crate::exchange::at_the_door::is_challenge;
use crate::exchange::client_address::client_address;
use crate::exchange::decision::{Outgoing, admit, is_sent_by, route_of, scheme};
use crate::exchange::gateway::Places;
use crate::exchange::last_hop;
use crate::http::client_cert::ClientCert;
use crate::http::fields::trim_ows;
use crate::http::head::{HeadLimits, RequestHead};
use crate::http::headers::forwarded_for;
use crate::http::request_id::RequestId;
use crate::routing::{Found, RouteTable};
use crate::rules::{Answer, Credentials, Facts};
use crate::snapshot::head_limits;
use crate::upstream::address::host_of;

use super::Question;

/// Stands for the name of a proxy in `Via`, which is another one for each that runs.
const VIA: &str = "reverse-proxy-ID";

/// Stands for a request id, which is another one for each request.
const NEW_ID: &str = "ID";

/// Stand for what is in the certificate of a client.
static CLIENT_CERT: ClientCert = ClientCert {
    subject: Some(HeaderValue::from_static("SUBJECT")),
    fingerprint: HeaderValue::from_static("FINGERPRINT"),
};

/// An answer of the proxy itself to what is asked: its status, and why it is not passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnAnswer {
    pub(super) status: u16,
    pub(super) why: &'static str,
}

/// By `exchange/last_hop.rs`.
const ENDS_HERE: OwnAnswer = OwnAnswer { status: 200, why: "Max-Forwards lets it pass no further proxy" };
/// By `exchange/at_the_door.rs`.
const CHALLENGE: OwnAnswer =
    OwnAnswer { status: 200, why: "it asks for a file in acme_challenge_dir, if that is there" };
const REDIRECT: OwnAnswer =
    OwnAnswer { status: 308, why: "it comes in where https_redirect sends it to https://" };

/// Where a request comes in.
#[derive(Clone, Copy, Debug)]
struct Door {
    secured: bool,
    port: Option<u16>,
    redirects: bool,
}

/// Finds out what becomes of requests.
pub(super) struct Fates<'c> {
    pub(super) config: &'c Config,
    routes: RouteTable<(usize, &'c RouteConfig)>,
    limits: HeadLimits,
    tunnels: Places,
}

/// What becomes of a request.
pub(super) struct Fate<'c> {
    /// What was understood of it, if anything.
    pub(super) head: Option<RequestHead>,
    pub(super) decided: Decided<'c>,
}

/// What its head alone decides.
#[derive(Clone, Copy)]
pub(super) enum Decided<'c> {
    /// The route, and which of those in the file it is.
    Route(usize, &'c RouteConfig),
    /// The proxy itself answers what was asked.
    Answered(OwnAnswer),
    /// The route answers itself.
    AnsweredBy(usize, &'c RouteConfig, &'c Answer),
    Refused(Cause),
    /// The route that it found does not take it.
    RefusedBy(usize, &'c RouteConfig, Cause),
}

impl<'c> Decided<'c> {
    /// The route that was found, whatever it made of the request.
    pub(super) fn route(&self) -> Option<(usize, &'c RouteConfig)> {
        match self {
            Self::Route(n, route) | Self::AnsweredBy(n, route, _) | Self::RefusedBy(n, route, _) => {
                Some((*n, route))
            }
            Self::Answered(_) | Self::Refused(_) => None,
        }
    }

    /// Whether it came so far that routes were looked at.
    pub(super) fn looked_at_routes(&self) -> bool {
        match self {
            Self::Route(..) | Self::AnsweredBy(..) | Self::RefusedBy(..) => true,
            Self::Answered(_) => false,
            Self::Refused(cause) => *cause == Cause::NoRoute,
        }
    }
}

/// A request as a backend gets it.
pub(super) struct Sent {
    pub(super) method: String,
    pub(super) target: String,
    /// Names in lower case, in order.
    pub(super) fields: Vec<(String, Vec<u8>)>,
}

impl<'c> Fates<'c> {
    pub(super) fn new(config: &'c Config) -> Self {
        let entry = |(n, route): (usize, &'c RouteConfig)| (route.key.clone(), (n, route));
        Self {
            config,
            routes: RouteTable::new(config.routes.iter().enumerate().map(entry).collect()),
            limits: head_limits(&config.server),
            tunnels: Places::new(config.server.max_tunnels),
        }
    }

    /// What becomes of the request that is asked about.
    pub(super) fn of(&self, question: &Question) -> Fate<'c> {
        let door = self.door(question);
        let head = match question.head(&self.limits, door.secured) {
            Ok(head) => head,
            Err(error) => return Fate { head: None, decided: Decided::Refused(Cause::Head(error)) },
        };
        let decided = if !door.secured && self.is_challenge(&head) {
            Decided::Answered(CHALLENGE)
        } else if door.redirects && !head.host.is_empty() {
            Decided::Answered(REDIRECT)
        } else if last_hop::ends_here(&head) {
            Decided::Answered(ENDS_HERE)
        } else {
            match route_of(&head, VIA, &self.routes) {
                Ok(found) => self.of_route(found, &head, question),
                Err(cause) => Decided::Refused(cause),
            }
        };
        Fate { head: Some(head), decided }
    }

    /// What its route makes of it.
    fn of_route(
        &self,
        Found { route: &(n, route), other_methods }: Found<'_, (usize, &'c RouteConfig)>,
        head: &RequestHead,
        question: &Question,
    ) -> Decided<'c> {
        let user = user_of(route, head);
        let facts = self.facts(route, head, question, user.as_deref());
        let admitted =
            admit(head, facts.client, route, other_methods).and_then(|()| authenticate(head, route));
        let taken = admitted.and_then(|()| match &route.rules.answer {
            Some(answer) => answer_here::check(answer, &facts).map(|()| Some(answer)),
            None => Ok(None),
        });
        match taken {
            Ok(Some(answer)) => Decided::AnsweredBy(n, route, answer),
            Ok(None) => Decided::Route(n, route),
            Err(cause) => Decided::RefusedBy(n, route, cause),
        }
    }

    /// What placeholders stand for.
    pub(super) fn facts<'a>(
        &self,
        route: &'a RouteConfig,
        head: &'a RequestHead,
        question: &Question,
        user: Option<&'a str>,
    ) -> Facts<'a> {
        let trusted = &self.config.server.trusted_proxies;
        Facts {
            head,
            route,
            client: client_address(question.from, &head.fields, trusted),
            scheme: scheme(head, question.from, trusted, self.door(question).secured),
            client_cert: self.client_cert(question),
            request_id: NEW_ID.as_bytes(),
            user,
        }
    }

    /// The first listener that speaks what the URL says: TLS for `https`.
    fn door(&self, question: &Question) -> Door {
        let secured = question.is_https();
        let listen = self.config.listen_addrs.iter().find(|listen| listen.tls == secured);
        Door {
            secured: secured && listen.is_some(),
            port: listen.and_then(|listen| listen.addr.tcp()).map(|addr| addr.port()),
            redirects: listen.is_some_and(|listen| listen.https_redirect),
        }
    }

    /// A client that can show a certificate has shown one.
    fn client_cert(&self, question: &Question) -> Option<&'static ClientCert> {
        let is_asked = self.config.front.client_auth != ClientAuth::None;
        (is_asked && self.door(question).secured).then_some(&CLIENT_CERT)
    }

    fn is_challenge(&self, head: &RequestHead) -> bool {
        self.config.front.acme_challenge_dir.is_some() && is_challenge(head)
    }

    /// What this backend of the route gets of the request that is asked about, which has this head. `None`: the backend's address
    /// can't be written in a field, and the proxy does not start with it.
    pub(super) fn sent(
        &self,
        head: &RequestHead,
        route: &RouteConfig,
        backend: &BackendConfig,
        question: &Question,
    ) -> Option<Sent> {
        let (door, peer, user) = (self.door(question), question.from, user_of(route, head));
        let engine = self.config.server.engine;
        let request_id = match RequestId::of(&head.fields) {
            given @ RequestId::Given(_) => given,
            RequestId::New(_) => RequestId::Given(HeaderValue::from_static(NEW_ID)),
        };
        let outgoing = Outgoing {
            route,
            backend: &host_of(&backend.addr).ok()?,
            peer,
            client: client_address(peer, &head.fields, &self.config.server.trusted_proxies),
            forwarded_for: &forwarded_for(peer),
            trusted: &self.config.server.trusted_proxies,
            secured: door.secured,
            client_cert: self.client_cert(question),
            tells_client_cert: self.config.front.client_cert_headers,
            // Which one a port of 0 becomes is known only when it listens; tiny_http does not say by which one a client came.
            port: door.port.filter(|port| *port != 0 && engine == Engine::Native),
            upgrade: head.upgrade && engine == Engine::Native && self.tunnels.may_take(),
            via: VIA,
            request_id: request_id.as_bytes(),
            user: user.as_deref(),
        };
        // As if the service had let it in, and had said nothing more.
        let mut head = Cow::Borrowed(head);
        if let Some(rule) = &route.rules.forward_auth {
            rule.clear(head.to_mut());
        }
        let mut bytes = Vec::new();
        outgoing.write(&mut bytes, &head);
        let mut sent = take_apart(&bytes);
        sent.fields.retain(|(name, _)| is_sent_by(engine, name.as_bytes()));
        Some(sent)
    }
}

/// By what name it comes, where the route asks for one.
pub(super) fn user_of(route: &RouteConfig, head: &RequestHead) -> Option<String> {
    route.rules.basic_auth.as_ref().and_then(|_| Credentials::of(&head.fields)).map(|it| it.user)
}

/// Whether it brings the password that its route asks for.
fn authenticate(head: &RequestHead, route: &RouteConfig) -> Result<(), Cause> {
    let Some(auth) = &route.rules.basic_auth else { return Ok(()) };
    let is_right = Credentials::of(&head.fields).is_some_and(|credentials| auth.users.check(&credentials));
    if is_right { Ok(()) } else { Err(Cause::Unauthorized) }
}

/// The parts of a head that was written.
fn take_apart(head: &[u8]) -> Sent {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|&byte| byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let field = |line: &[u8]| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        Some((text(name), trim_ows(value.get(1..)?).to_vec()))
    };
    Sent { method: text(method), target: text(target), fields: lines.filter_map(field).collect() }
}
