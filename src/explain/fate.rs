//! What becomes of a request: the parser, the routing and the rewriting that serve, called without a socket.

use http::HeaderValue;

use crate::config::{BackendConfig, Config, Engine, RouteConfig};
use crate::downstream::listener::Entrance;
use crate::error::Cause;
use crate::exchange::at_the_door::{self, AtTheDoor};
use crate::exchange::decision::{Outgoing, is_sent_by, route_of};
use crate::exchange::gateway::Places;
use crate::exchange::last_hop;
use crate::http::fields::trim_ows;
use crate::http::head::{HeadLimits, RequestHead};
use crate::http::headers::forwarded_for;
use crate::http::request_id::RequestId;
use crate::http::request_out::write_request;
use crate::routing::RouteTable;
use crate::snapshot::head_limits;
use crate::upstream::address::host_of;

use super::Question;

/// Stands for the name of a proxy in `Via`, which is another one for each that runs.
const VIA: &str = "reverse-proxy-ID";

/// Stands for a request id, which is another one for each request.
const NEW_ID: &str = "ID";

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
    Answered {
        status: u16,
        why: &'static str,
    },
    Refused(Cause),
}

impl Decided<'_> {
    /// Whether it came so far that routes were looked at.
    pub(super) fn looked_at_routes(&self) -> bool {
        match self {
            Self::Route(..) => true,
            Self::Answered { .. } => false,
            Self::Refused(cause) => matches!(cause, Cause::NoRoute | Cause::BodyTooLarge),
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
        let entrance = self.entrance(question);
        let head = match question.head(&self.limits, entrance.tls) {
            Ok(head) => head,
            Err(error) => return Fate { head: None, decided: Decided::Refused(Cause::Head(error)) },
        };
        let challenges = self.config.front.acme_challenge_dir.is_some();
        let decided = if let AtTheDoor::Challenge(_) = at_the_door::decide(&head, entrance, challenges) {
            Decided::Answered { status: 200, why: "acme_challenge_dir has it, or else it is 404" }
        } else if let AtTheDoor::Redirect = at_the_door::decide(&head, entrance, challenges) {
            Decided::Answered { status: 308, why: "https_redirect sends it to https://" }
        } else if last_hop::ends_here(&head) {
            Decided::Answered { status: 200, why: "Max-Forwards lets it pass no further proxy" }
        } else {
            match route_of(&head, VIA, &self.routes, |(_, route)| route) {
                Ok((n, route)) => Decided::Route(*n, route),
                Err(cause) => Decided::Refused(cause),
            }
        };
        Fate { head: Some(head), decided }
    }

    /// By which listener it comes in: the first where TLS is spoken, or is not, as its URL says. One that says nothing comes
    /// in where something is served.
    fn entrance(&self, question: &Question) -> Entrance {
        let mut listeners = self.config.listen_addrs.iter();
        let listener = match question.is_https() {
            Some(is_https) => listeners.find(|listen| listen.tls == is_https),
            None => listeners.find(|listen| !listen.https_redirect),
        };
        listener.map(|listen| Entrance::new(&listen.addr, listen)).unwrap_or_default()
    }

    /// The route that would have the request, were it not too large.
    pub(super) fn find(&self, head: &RequestHead, decided: &Decided<'c>) -> Option<(usize, &'c RouteConfig)> {
        match decided {
            Decided::Route(n, route) => Some((*n, route)),
            Decided::Refused(Cause::BodyTooLarge) => {
                self.routes.find(head.host.as_bytes(), head.target.routing_path()).copied()
            }
            _ => None,
        }
    }

    /// What this backend of the route gets, if the connection of the client comes from there. `None`: the backend's address
    /// can't be written in a field, and the proxy does not start with it.
    pub(super) fn sent(
        &self,
        head: &RequestHead,
        route: &RouteConfig,
        backend: &BackendConfig,
        question: &Question,
    ) -> Option<Sent> {
        let (peer, entrance) = (question.from, self.entrance(question));
        let engine = self.config.server.engine;
        let request_id = match RequestId::of(&head.fields) {
            given @ RequestId::Given(_) => given,
            RequestId::New(_) => RequestId::Given(HeaderValue::from_static(NEW_ID)),
        };
        let outgoing = Outgoing {
            route,
            backend: &host_of(&backend.addr).ok()?,
            peer,
            forwarded_for: &forwarded_for(peer),
            trusted: &self.config.server.trusted_proxies,
            secured: entrance.tls,
            // Port 0 is whichever is free.
            port: entrance.port.filter(|port| *port != 0 && engine == Engine::Native),
            upgrade: head.upgrade && engine == Engine::Native && self.tunnels.may_take(),
            via: VIA,
            request_id: request_id.as_bytes(),
        };
        let mut bytes = Vec::new();
        write_request(&mut bytes, head, &outgoing.rewrite(head));
        let mut sent = take_apart(&bytes);
        sent.fields.retain(|(name, _)| is_sent_by(engine, name.as_bytes()));
        Some(sent)
    }
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
