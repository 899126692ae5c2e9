//! The ureq agent of one backend: what is switched off, how long things may take, where it connects to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, StatusCode, Uri};
use ureq::Agent;

use super::call::{Call, CallScope, Limits};
use super::failure;
use super::pool::IdlePool;
use super::tls::TlsClient;
use super::transport::{BackendConnector, Destination, MAX_RESPONSE_HEAD, NoResolver};
use crate::config::{BackendAddr, RouteConfig};

/// Why a probe brought no answer, as a phrase for the log.
#[derive(Debug)]
pub enum ProbeError {
    /// Refused, timed out, not HTTP.
    Failed(String),
    /// There was no descriptor or no memory left to ask with. That says nothing about the backend.
    NotAsked(String),
}

/// The client that speaks to one backend.
#[derive(Debug)]
pub struct Upstream {
    agent: Agent,
    probe_agent: Agent,
    idle: Arc<IdlePool>,
    authority: Authority,
    host: HeaderValue,
    connect: Duration,
    response: Duration,
    idle_timeout: Duration,
}

impl Upstream {
    /// The client of the backend at `addr`, with the time-outs of `route`. `resolved`: where that is, unless it is a
    /// Unix-domain socket.
    ///
    /// # Errors
    /// The address can't be written as the authority of a URI, or the system has no CA certificates.
    pub fn new(addr: &BackendAddr, resolved: Option<SocketAddr>, route: &RouteConfig) -> io::Result<Self> {
        let mut tls = None;
        let (authority, destination) = match addr {
            BackendAddr::Tcp { .. } => (addr.to_string(), Destination::Tcp(resolved)),
            BackendAddr::Https { host, port } => {
                let authority = BackendAddr::Tcp { host: host.clone(), port: *port }.to_string();
                tls = Some(TlsClient::new(host, &route.tls)?);
                (authority, Destination::Tcp(resolved))
            }
            // What nginx sends for a Unix-domain backend.
            BackendAddr::Unix(path) => ("localhost".to_owned(), Destination::Unix(path.clone())),
        };
        let invalid = |error: &dyn std::error::Error| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{authority}: {error}"))
        };
        let parsed: Authority = authority.parse().map_err(|error: http::uri::InvalidUri| invalid(&error))?;
        let host = HeaderValue::from_str(&authority).map_err(|error| invalid(&error))?;
        let destination = Arc::new(destination);
        let idle = Arc::new(IdlePool::new(route.keepalive_connections, route.keepalive_idle));
        let no_idle = Arc::new(IdlePool::new(0, Duration::ZERO));
        Ok(Self {
            agent: agent(&destination, tls.as_ref(), &idle),
            probe_agent: agent(&destination, tls.as_ref(), &no_idle),
            idle,
            authority: parsed,
            host,
            connect: route.connect_timeout,
            response: route.response_timeout,
            idle_timeout: route.idle_timeout,
        })
    }

    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Its address as the value of a `Host` field.
    #[must_use]
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    pub(super) fn limits(&self, deadline: Option<Instant>) -> Limits {
        Limits { connect: self.connect, response: self.response, idle: self.idle_timeout, deadline }
    }

    /// The URI that makes ureq send `target` to this backend.
    pub(super) fn uri(&self, target: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target);
        // Can't fail: a URI of these three parts is complete. The fallback is refused by ureq.
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Closes the connections that have been idle for too long.
    pub fn close_expired(&self) {
        self.idle.close_expired();
    }

    /// Sends `GET path` on a connection of its own and returns the status of the answer. Ends within `timeout`.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn probe(&self, path: &str, timeout: Duration) -> Result<StatusCode, ProbeError> {
        let target = PathAndQuery::try_from(path).map_err(|error| ProbeError::Failed(error.to_string()))?;
        let mut request = Request::new(());
        *request.uri_mut() = self.uri(target);
        let headers = request.headers_mut();
        headers.insert(http::header::HOST, self.host.clone());
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static("reverse-proxy health check"));
        let deadline = Instant::now().checked_add(timeout);
        let limits = Limits { connect: timeout, response: timeout, idle: timeout, deadline };
        let scope = CallScope::enter(Call::new(limits));
        match self.probe_agent.run(request) {
            // The body is of no interest; dropping it closes the connection.
            Ok(response) => Ok(response.status()),
            Err(error) => {
                let reason = failure::probe_reason(&scope, &error, timeout);
                let is_ours = scope.with(|call| call.is_ours).unwrap_or(false);
                Err(if is_ours { ProbeError::NotAsked(reason) } else { ProbeError::Failed(reason) })
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let destination = Arc::new(Destination::Tcp(None));
        let idle = Arc::new(IdlePool::new(0, Duration::ZERO));
        let second = Duration::from_secs(1);
        Self {
            agent: agent(&destination, None, &idle),
            probe_agent: agent(&destination, None, &idle),
            idle,
            authority: "127.0.0.1:1".parse().unwrap(),
            host: HeaderValue::from_static("127.0.0.1:1"),
            connect: second,
            response: second,
            idle_timeout: second,
        }
    }
}

/// An agent that adds nothing to a request, follows nothing, decodes nothing and keeps no connection: those are kept
/// in `idle`. It has no time-outs: the transport keeps them all, in the slices of [`super::call::SLICE`].
/// ureq takes it all for plain HTTP; TLS, if any, is below it.
fn agent(destination: &Arc<Destination>, tls: Option<&TlsClient>, idle: &Arc<IdlePool>) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent("")
        .accept("")
        .accept_encoding("")
        .proxy(None)
        .allow_non_standard_methods(true)
        .max_response_header_size(MAX_RESPONSE_HEAD)
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        .build();
    let connector =
        BackendConnector { destination: Arc::clone(destination), tls: tls.cloned(), idle: Arc::clone(idle) };
    Agent::with_parts(config, connector, NoResolver)
}
