//! [`Entry`]: what there is to say about an exchange that is over.

use std::net::IpAddr;
use std::time::Duration;

use crate::error::{Blame, Cause};
use crate::http::head::Version;

/// An exchange that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub request_id: &'a str,
    /// Whom it is from, behind `trusted_proxies`; the unspecified address: through a Unix-domain socket.
    pub client: IpAddr,
    /// By what name it comes, if the route asks for one: what the client says, true or not.
    pub user: Option<&'a str>,
    /// `None`: what came was no request.
    pub request: Option<RequestLine<'a>>,
    /// The version of TLS with the client.
    pub tls: Option<&'static str>,
    pub host: &'a [u8],
    pub referer: &'a [u8],
    pub user_agent: &'a [u8],
    pub route: Option<&'a str>,
    /// That of the backend, where the route has several.
    pub pool: Option<&'a str>,
    pub backend: Option<&'a str>,
    /// That of the answer, as far as one has begun; 0: none has.
    pub status: u16,
    pub cause: Option<Cause>,
    /// The stage it was in at its end.
    pub stage: &'static str,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub retries: u32,
    /// Waiting for the service of `forward_auth`.
    pub asked: Duration,
    pub queued: Duration,
    pub connecting: Duration,
    pub first_byte: Option<Duration>,
    pub whole: Duration,
}

/// The first line of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLine<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub version: Version,
}

impl Entry<'_> {
    /// An exchange that never was: what came was no request.
    pub(crate) fn refused(request_id: &str, client: IpAddr, cause: Cause) -> Entry<'_> {
        Entry {
            request_id,
            client,
            user: None,
            request: None,
            tls: None,
            host: b"",
            referer: b"",
            user_agent: b"",
            route: None,
            pool: None,
            backend: None,
            status: cause.status(),
            cause: Some(cause),
            stage: "receive",
            bytes_received: 0,
            bytes_sent: 0,
            retries: 0,
            asked: Duration::ZERO,
            queued: Duration::ZERO,
            connecting: Duration::ZERO,
            first_byte: None,
            whole: Duration::ZERO,
        }
    }

    /// The status as other servers log it: 499 where the client has left before it was sent an answer.
    pub(super) fn logged_status(&self) -> u16 {
        let was_answered = self.first_byte.is_some();
        if self.cause == Some(Cause::ClientLeft) && !was_answered { 499 } else { self.status }
    }

    /// Who has brought it to an end before it was whole.
    pub(super) fn ended_by(&self) -> Option<&'static str> {
        Some(match self.cause?.blame() {
            Blame::Downstream => "client",
            Blame::Upstream => "backend",
            Blame::Proxy => "proxy",
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn example() -> Entry<'static> {
        Entry {
            request_id: "8c0f2a",
            client: "192.0.2.1".parse().unwrap(),
            user: None,
            request: Some(RequestLine { method: "GET", target: "/a?b", version: Version::Http11 }),
            tls: None,
            host: b"shop.example",
            referer: b"http://shop.example/",
            user_agent: b"curl/8.0",
            route: Some("shop"),
            pool: None,
            backend: Some("127.0.0.1:8000"),
            status: 200,
            cause: None,
            stage: "relay",
            bytes_received: 0,
            bytes_sent: 1234,
            retries: 1,
            asked: Duration::ZERO,
            queued: Duration::from_micros(10),
            connecting: Duration::from_micros(250),
            first_byte: Some(Duration::from_micros(1_500)),
            whole: Duration::from_micros(2_000),
        }
    }

    #[test]
    fn who_left_before_an_answer_is_a_499() {
        let left = Entry { cause: Some(Cause::ClientLeft), status: 400, ..example() };
        assert_eq!(left.logged_status(), 400);
        assert_eq!(Entry { first_byte: None, ..left }.logged_status(), 499);
        assert_eq!(left.ended_by(), Some("client"));
    }
}
