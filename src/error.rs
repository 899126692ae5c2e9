//! Why an exchange was answered by the proxy itself, or broke off: one stable word for log, counters and client.

use std::fmt;

use crate::http::head::HeadError;
use crate::http::response_head::ResponseError;
use crate::routing::Methods;

/// Who has to look into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client sent something wrong, was too slow, or left.
    Downstream,
    /// The backend refused, broke off, was too slow, or answered nonsense.
    Upstream,
    /// The configuration or the capacity of the proxy.
    Proxy,
}

/// What of TLS went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsFault {
    /// The backend's certificate is not trusted, not valid now, or for another name.
    Certificate,
    /// Anything else: no TLS at all, no version or cipher in common, an alert, a broken record.
    #[default]
    Protocol,
}

/// The cause of an answer that did not come from a backend, or of an answer that broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The request head was refused; says how.
    Head(HeadError),
    /// The request body is larger than the route's `max_body_bytes`.
    BodyTooLarge,
    /// The request body's chunked coding is malformed.
    BadBody,
    /// The client did not send its request body in time.
    BodyTimeout,
    /// The client went away before the exchange was over.
    ClientLeft,
    /// The client did not read its answer in time.
    WriteTimeout,
    /// No route's prefix matches.
    NoRoute,
    /// The route's `allow` and `deny` do not let the client in.
    ClientDenied,
    /// The `methods` of the routes that would take the request are others; these.
    MethodNotAllowed(Methods),
    /// The route's `rate_limit` is reached; in how many seconds another request is taken.
    RateLimited(u32),
    /// The service of the route's `forward_auth` can't be reached, or closed the connection before its answer was complete.
    AuthUnavailable,
    /// No answer of that service in its `timeout_secs`.
    AuthTimeout,
    /// Its answer is not valid HTTP/1.1, or its head is too large.
    AuthBadResponse,
    /// The client has `max_connections_per_client` connections.
    TooManyConnections,
    /// The route's `basic_auth`: no name and password, or not the right ones.
    Unauthorized,
    /// Too many passwords wait to be compared for the route's `basic_auth`, or it took too long.
    AuthBusy,
    /// Every backend of the route is unhealthy.
    NoHealthyBackend,
    /// As many exchanges are under way as `max_exchanges` allows, or, with `engine = "tiny_http"`, as many wait as
    /// `queue_size` does.
    Overloaded,
    /// The route carries `max_in_flight` exchanges already.
    RouteFull,
    /// Every backend of the route carries `max_in_flight_per_backend`, and none became free in `queue_timeout_secs`.
    BackendsBusy,
    /// As many tunnels are open as `max_tunnels` allows.
    TunnelsFull,
    /// The backend refused the connection.
    ConnectRefused,
    /// No connection to the backend in `connect_timeout_secs`.
    ConnectTimeout,
    /// The backend can't be reached for another reason: no route to the host, no such socket.
    ConnectFailed,
    /// The backend's host name has no address.
    NameNotResolved,
    /// There is no TLS session with the backend, or it broke; says how.
    TlsFailed(TlsFault),
    /// No response head in `response_timeout_secs`, or no byte of its body in `idle_timeout_secs`.
    ResponseTimeout,
    /// The exchange did not end within the route's `deadline_secs`.
    DeadlineExceeded,
    /// The backend closed or reset the connection before its answer was complete.
    BackendClosed,
    /// The backend's answer is not valid HTTP/1.1.
    BadResponse,
    /// The backend's response head is larger than 64 KiB or has more than 1000 fields.
    ResponseHeadTooLarge,
    /// The request has passed through this proxy before: a backend sends it back here.
    LoopDetected,
    /// The proxy was stopped, and the time for what was under way was over.
    Shutdown,
    /// A defect of the proxy: the exchange panicked.
    Internal,
}

impl From<ResponseError> for Cause {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::TooLarge => Self::ResponseHeadTooLarge,
            ResponseError::Malformed(_) => Self::BadResponse,
        }
    }
}

impl Cause {
    /// A head that did not arrive in time.
    pub const HEAD_TIMEOUT: Self =
        Self::Head(HeadError::new(408, "head_timeout", "the request head did not arrive in time"));

    /// How many kinds there are.
    pub(crate) const COUNT: usize = 34;

    /// What the kinds are called, in the order of their places. All refused heads are one kind.
    pub(crate) const KINDS: [&str; Self::COUNT] = [
        "bad_head",
        "body_too_large",
        "bad_body",
        "body_timeout",
        "client_left",
        "write_timeout",
        "no_route",
        "no_healthy_backend",
        "overloaded",
        "route_full",
        "backends_busy",
        "tunnels_full",
        "connect_refused",
        "connect_timeout",
        "connect_failed",
        "name_not_resolved",
        "response_timeout",
        "deadline_exceeded",
        "backend_closed",
        "bad_response",
        "response_head_too_large",
        "loop_detected",
        "internal_error",
        "tls_failed",
        "shutdown",
        "client_denied",
        "method_not_allowed",
        "rate_limited",
        "auth_unavailable",
        "auth_timeout",
        "auth_bad_response",
        "unauthorized",
        "auth_busy",
        "too_many_connections",
    ];

    /// A place in a table of [`COUNT`](Self::COUNT) places.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Head(_) => 0,
            Self::BodyTooLarge => 1,
            Self::BadBody => 2,
            Self::BodyTimeout => 3,
            Self::ClientLeft => 4,
            Self::WriteTimeout => 5,
            Self::NoRoute => 6,
            Self::NoHealthyBackend => 7,
            Self::Overloaded => 8,
            Self::RouteFull => 9,
            Self::BackendsBusy => 10,
            Self::TunnelsFull => 11,
            Self::ConnectRefused => 12,
            Self::ConnectTimeout => 13,
            Self::ConnectFailed => 14,
            Self::NameNotResolved => 15,
            Self::ResponseTimeout => 16,
            Self::DeadlineExceeded => 17,
            Self::BackendClosed => 18,
            Self::BadResponse => 19,
            Self::ResponseHeadTooLarge => 20,
            Self::LoopDetected => 21,
            Self::Internal => 22,
            Self::TlsFailed(_) => 23,
            Self::Shutdown => 24,
            Self::ClientDenied => 25,
            Self::MethodNotAllowed(_) => 26,
            Self::RateLimited(_) => 27,
            Self::AuthUnavailable => 28,
            Self::AuthTimeout => 29,
            Self::AuthBadResponse => 30,
            Self::Unauthorized => 31,
            Self::AuthBusy => 32,
            Self::TooManyConnections => 33,
        }
    }

    /// The word that names this cause everywhere.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Head(error) => error.word(),
            Self::BodyTooLarge => "body_too_large",
            Self::BadBody => "bad_body",
            Self::BodyTimeout => "body_timeout",
            Self::ClientLeft => "client_left",
            Self::WriteTimeout => "write_timeout",
            Self::NoRoute => "no_route",
            Self::ClientDenied => "client_denied",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::RateLimited(_) => "rate_limited",
            Self::AuthUnavailable => "auth_unavailable",
            Self::AuthTimeout => "auth_timeout",
            Self::AuthBadResponse => "auth_bad_response",
            Self::Unauthorized => "unauthorized",
            Self::AuthBusy => "auth_busy",
            Self::TooManyConnections => "too_many_connections",
            Self::NoHealthyBackend => "no_healthy_backend",
            Self::Overloaded => "overloaded",
            Self::RouteFull => "route_full",
            Self::BackendsBusy => "backends_busy",
            Self::TunnelsFull => "tunnels_full",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::NameNotResolved => "name_not_resolved",
            Self::TlsFailed(_) => "tls_failed",
            Self::ResponseTimeout => "response_timeout",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::BackendClosed => "backend_closed",
            Self::BadResponse => "bad_response",
            Self::ResponseHeadTooLarge => "response_head_too_large",
            Self::LoopDetected => "loop_detected",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal_error",
        }
    }

    /// What the client is told in the body of the answer.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Head(error) => error.detail(),
            Self::BodyTooLarge => "the request body is larger than this path accepts",
            Self::BadBody => "the request body is not valid chunked coding",
            Self::BodyTimeout => "the request body did not arrive in time",
            Self::ClientLeft => "the request ended before it was complete",
            Self::WriteTimeout => "the answer was not read in time",
            Self::NoRoute => "nothing is served under this path",
            Self::MethodNotAllowed(_) => "this path takes other methods",
            Self::RateLimited(_) => "too many requests in a short time",
            Self::AuthUnavailable => "who may come here can not be found out at the moment",
            Self::AuthTimeout => "who may come here was not found out in time",
            Self::AuthBadResponse => "the answer about who may come here is not valid HTTP/1.1",
            Self::ClientDenied => "this path is not for clients of your network",
            Self::Unauthorized => "this path takes a name and a password",
            Self::TooManyConnections => "too many connections of your network are open",
            Self::AuthBusy => "too many passwords are being checked at the moment",
            Self::NoHealthyBackend => "no server for this path is healthy at the moment",
            Self::Overloaded => "too many requests are waiting at the moment",
            Self::RouteFull => "too many requests for this path are in progress at the moment",
            Self::BackendsBusy => "every server for this path is busy at the moment",
            Self::TunnelsFull => "too many upgraded connections are open at the moment",
            Self::ConnectRefused => "the server refused the connection",
            Self::ConnectTimeout => "the server did not accept a connection in time",
            Self::ConnectFailed => "the server can not be reached",
            Self::NameNotResolved => "the name of the server has no address",
            Self::TlsFailed(TlsFault::Certificate) => "the certificate of the server is not trusted",
            Self::TlsFailed(TlsFault::Protocol) => "no secure connection to the server is possible",
            Self::ResponseTimeout => "the server did not answer in time",
            Self::DeadlineExceeded => "the request took longer than this path allows",
            Self::BackendClosed => "the server closed the connection before its answer was complete",
            Self::BadResponse => "the answer of the server is not valid HTTP/1.1",
            Self::ResponseHeadTooLarge => "the answer of the server has too large a head",
            Self::LoopDetected => "the request has come through this proxy before",
            Self::Shutdown => "the proxy was stopped",
            Self::Internal => "the proxy made a mistake; its log says more",
        }
    }

    /// The status the client is answered with, when there is still something to answer.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Head(error) => error.status(),
            Self::BodyTooLarge => 413,
            Self::BadBody | Self::ClientLeft => 400,
            Self::BodyTimeout | Self::WriteTimeout => 408,
            Self::NoRoute => 404,
            Self::Unauthorized => 401,
            Self::ClientDenied => 403,
            Self::MethodNotAllowed(_) => 405,
            Self::RateLimited(_) | Self::TooManyConnections => 429,
            Self::NoHealthyBackend
            | Self::Overloaded
            | Self::AuthBusy
            | Self::RouteFull
            | Self::BackendsBusy
            | Self::TunnelsFull
            | Self::AuthUnavailable
            | Self::Shutdown => 503,
            Self::ConnectRefused
            | Self::ConnectFailed
            | Self::NameNotResolved
            | Self::TlsFailed(_)
            | Self::BackendClosed
            | Self::BadResponse
            | Self::AuthBadResponse
            | Self::ResponseHeadTooLarge => 502,
            Self::LoopDetected => 508,
            Self::ConnectTimeout | Self::ResponseTimeout | Self::DeadlineExceeded | Self::AuthTimeout => 504,
            Self::Internal => 500,
        }
    }

    /// The error type of RFC 9209 §2.3 that comes nearest, for `Proxy-Status`.
    #[must_use]
    pub fn proxy_error_type(self) -> &'static str {
        match self {
            Self::Head(_) | Self::BadBody | Self::ClientLeft | Self::BodyTimeout | Self::WriteTimeout => {
                "http_request_error"
            }
            Self::BodyTooLarge
            | Self::ClientDenied
            | Self::MethodNotAllowed(_)
            | Self::RateLimited(_)
            | Self::Unauthorized => "http_request_denied",
            Self::NoRoute => "destination_not_found",
            Self::NoHealthyBackend | Self::AuthUnavailable => "destination_unavailable",
            Self::Overloaded
            | Self::AuthBusy
            | Self::TooManyConnections
            | Self::RouteFull
            | Self::BackendsBusy
            | Self::TunnelsFull => "connection_limit_reached",
            Self::ConnectRefused => "connection_refused",
            Self::ConnectTimeout => "connection_timeout",
            Self::ConnectFailed => "destination_ip_unroutable",
            Self::NameNotResolved => "dns_error",
            Self::TlsFailed(TlsFault::Certificate) => "tls_certificate_error",
            Self::TlsFailed(TlsFault::Protocol) => "tls_protocol_error",
            Self::ResponseTimeout | Self::DeadlineExceeded | Self::AuthTimeout => "http_response_timeout",
            Self::BackendClosed => "connection_terminated",
            Self::LoopDetected => "proxy_loop_detected",
            Self::BadResponse | Self::AuthBadResponse => "http_protocol_error",
            Self::ResponseHeadTooLarge => "http_response_header_section_size",
            Self::Shutdown => "connection_terminated",
            Self::Internal => "proxy_internal_error",
        }
    }

    /// Who is to blame.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Head(_)
            | Self::BodyTooLarge
            | Self::BadBody
            | Self::BodyTimeout
            | Self::ClientLeft
            | Self::WriteTimeout => Blame::Downstream,
            Self::NoRoute
            | Self::ClientDenied
            | Self::MethodNotAllowed(_)
            | Self::RateLimited(_)
            | Self::Unauthorized
            | Self::AuthBusy
            | Self::TooManyConnections
            | Self::Overloaded
            | Self::RouteFull
            | Self::BackendsBusy
            | Self::TunnelsFull
            | Self::LoopDetected
            | Self::Shutdown
            | Self::Internal => Blame::Proxy,
            Self::NoHealthyBackend
            | Self::AuthUnavailable
            | Self::AuthTimeout
            | Self::AuthBadResponse
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectFailed
            | Self::NameNotResolved
            | Self::TlsFailed(_)
            | Self::ResponseTimeout
            | Self::DeadlineExceeded
            | Self::BackendClosed
            | Self::BadResponse
            | Self::ResponseHeadTooLarge => Blame::Upstream,
        }
    }

    /// Seconds after which trying again makes sense; sent as `Retry-After`.
    #[must_use]
    pub fn retry_after_secs(self) -> Option<u32> {
        match self {
            Self::RateLimited(seconds) => Some(seconds),
            Self::TooManyConnections => Some(1),
            _ => (self.status() == 503).then_some(1),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Cause; Cause::COUNT] = [
        Cause::HEAD_TIMEOUT,
        Cause::BodyTooLarge,
        Cause::BadBody,
        Cause::BodyTimeout,
        Cause::ClientLeft,
        Cause::WriteTimeout,
        Cause::NoRoute,
        Cause::NoHealthyBackend,
        Cause::Overloaded,
        Cause::RouteFull,
        Cause::BackendsBusy,
        Cause::TunnelsFull,
        Cause::ConnectRefused,
        Cause::ConnectTimeout,
        Cause::ConnectFailed,
        Cause::NameNotResolved,
        Cause::ResponseTimeout,
        Cause::DeadlineExceeded,
        Cause::BackendClosed,
        Cause::BadResponse,
        Cause::ResponseHeadTooLarge,
        Cause::LoopDetected,
        Cause::Internal,
        Cause::TlsFailed(TlsFault::Certificate),
        Cause::Shutdown,
        Cause::ClientDenied,
        Cause::MethodNotAllowed(Methods::NONE),
        Cause::RateLimited(1),
        Cause::AuthUnavailable,
        Cause::AuthTimeout,
        Cause::AuthBadResponse,
        Cause::Unauthorized,
        Cause::AuthBusy,
        Cause::TooManyConnections,
    ];

    /// Status and word of every way to refuse a head: `HeadError` has no list of them, but one way to be made.
    fn head_errors() -> impl Iterator<Item = (&'static str, &'static str)> {
        let sources = [
            include_str!("error.rs"),
            include_str!("http/framing.rs"),
            include_str!("http/head.rs"),
            include_str!("http/target.rs"),
        ];
        sources.into_iter().flat_map(|source| source.split("HeadError::new(").skip(1)).filter_map(|call| {
            let (status, rest) = call.split_once(", \"")?;
            let (word, _) = rest.split_once('"')?;
            (status.len() == 3).then_some((status, word))
        })
    }

    #[test]
    fn kinds_are_called_by_their_words() {
        for cause in &ALL[1..] {
            assert_eq!(Cause::KINDS[cause.index()], cause.word());
        }
    }

    #[test]
    fn readme_table_lists_every_cause() {
        let readme = include_str!("../docs/behaviour.md");
        let mut expected: Vec<String> =
            ALL.iter().map(|cause| format!("| {} | `{}` |", cause.status(), cause.word())).collect();
        expected.extend(head_errors().map(|(status, word)| format!("| {status} | `{word}` |")));
        expected.sort();
        expected.dedup();
        let (_, section) = readme.split_once("\n### Failure answers\n").unwrap();
        let (section, _) = section.split_once("\n### ").unwrap();
        for row in &expected {
            assert!(section.contains(row), "no row {row}");
        }
        // Nor any that does not exist.
        let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains("| `"));
        assert_eq!(rows.count(), expected.len());
    }

    #[test]
    fn every_cause_has_a_place_of_its_own() {
        let places: Vec<usize> = ALL.iter().map(|cause| cause.index()).collect();
        assert_eq!(places, (0..Cause::COUNT).collect::<Vec<_>>());
    }
}
