//! Another service decides who may come: `forward_auth`. Here is what it is asked, and what is made of its answer; the
//! engines ask it.
//!
//! The service gets a GET without a body for `path`, with the fields that came and with `X-Forwarded-*` that say what was
//! asked for. A 2xx lets the request in, and the fields in `copy_headers` of that answer take the place of those that came.
//! Every other answer is the client's.

use http::StatusCode;
use http::header::{self, HeaderName};

use super::fields::is_same;
use crate::error::Cause;
use crate::http::fields::Fields;
use crate::http::head::RequestHead;
use crate::http::headers::{
    FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PORT, FORWARDED_PROTO, Rewrite, rewrite,
};
use crate::http::response_out::write_field;

/// Who is asked, for what, and what is kept of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardAuth {
    /// Path and query that are asked for.
    pub path: String,
    /// Fields of the answer that backends get, and of which they get no others.
    pub copy_headers: Vec<HeaderName>,
}

impl ForwardAuth {
    /// The whole head that the service gets. `with`: how fields change on the way to it. `keeps`: what stays here besides.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        head: &RequestHead,
        with: &Rewrite<'_>,
        keeps: impl Fn(&[u8]) -> bool,
    ) {
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(self.path.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        put_fields(head, with, keeps, &mut |name, value| write_field(out, name, value));
        out.extend_from_slice(b"\r\n");
    }

    /// Lets a request in: what the answer has of `copy_headers` takes the place of what came under these names.
    pub(crate) fn admit(&self, head: &mut RequestHead, answer: &Fields) {
        self.clear(head);
        for name in &self.copy_headers {
            for value in answer.get_all(name) {
                head.fields.push(name.clone(), value.clone());
            }
        }
    }

    /// Takes away what only the service can say: always, also when it says nothing. Whoever names such a field in
    /// `Connection` takes nothing away either.
    pub(crate) fn clear(&self, head: &mut RequestHead) {
        head.fields.retain(|name| !self.is_copied(name));
        self.copy_headers.iter().for_each(|name| head.connection.forget(name));
    }

    /// Whether backends get only what the service says under this name. Servers that read `_` as `-` would take the one for
    /// the other.
    pub(crate) fn is_copied(&self, name: &HeaderName) -> bool {
        let name = name.as_str().as_bytes();
        self.copy_headers.iter().any(|copied| is_same(copied.as_str().as_bytes(), name))
    }
}

/// Whether an answer of this status lets the request in.
pub(crate) fn lets_in(status: StatusCode) -> bool {
    status.is_success()
}

/// What a failure is called when it was the service that failed: whoever reads it should not look for it among the backends.
/// What is not the service's doing stays what it is.
pub(crate) fn cause_of_failure(cause: Cause) -> Cause {
    match cause {
        Cause::NoHealthyBackend
        | Cause::BackendsBusy
        | Cause::ConnectRefused
        | Cause::ConnectFailed
        | Cause::NameNotResolved
        | Cause::TlsFailed(_)
        | Cause::BackendClosed => Cause::AuthUnavailable,
        Cause::ConnectTimeout | Cause::ResponseTimeout => Cause::AuthTimeout,
        Cause::BadResponse | Cause::ResponseHeadTooLarge => Cause::AuthBadResponse,
        other => other,
    }
}

/// Calls `put` with the name and the value of each field that the service gets, in order.
pub(crate) fn put_fields(
    head: &RequestHead,
    with: &Rewrite<'_>,
    keeps: impl Fn(&[u8]) -> bool,
    put: &mut impl FnMut(&[u8], &[u8]),
) {
    rewrite(head, with, &mut |name, value| {
        if is_for_service(name) && !keeps(name) {
            put(name, value);
        }
    });
    put(b"x-forwarded-method", head.method.as_str().as_bytes());
    put(b"x-forwarded-uri", head.target.as_str().as_bytes());
}

/// Fields that say under which conditions, or which part of, something else is wanted: the service would answer 304 or 412 to
/// what was not for it (RFC 9110 §13, §14).
const CONDITIONS: [HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

/// Not what is about a body, for there is none, nor about the connection; and nothing by which the client could tell the
/// service of another request than its own: some services believe `X-Original-URL` before they believe `X-Forwarded-Uri`.
fn is_for_service(name: &[u8]) -> bool {
    let name: Vec<u8> = name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
    let is = |other: &HeaderName| other.as_str().as_bytes() == name;
    let is_ours = [FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, FORWARDED_PORT].iter().any(is);
    let is_of_connection =
        [header::CONNECTION, header::TE, header::TRANSFER_ENCODING, header::MAX_FORWARDS].iter().any(is);
    let tells_of_another = !is_ours
        && (name.starts_with(b"x-forwarded-")
            || name.starts_with(b"x-original-")
            || name == b"x-rewrite-url");
    !is_of_connection && !name.starts_with(b"content-") && !CONDITIONS.iter().any(is) && !tells_of_another
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::template::tests::head;
    use super::*;
    use crate::http::client_cert::ClientCertFields;

    fn rule(copied: &[&str]) -> ForwardAuth {
        let copy_headers = copied.iter().map(|name| name.parse().unwrap()).collect();
        ForwardAuth { path: "/verify?a=b".to_owned(), copy_headers }
    }

    fn asked(request: &str, trusted: bool) -> String {
        let (host, client) =
            (HeaderValue::from_static("auth.test:9091"), HeaderValue::from_static("192.0.2.1"));
        let with = Rewrite {
            host: &host,
            client: &client,
            trusted,
            secured: true,
            port: Some(443),
            client_cert: ClientCertFields::Untouched,
            prefix: None,
            upgrade: false,
            via: "p",
            request_id: b"id",
        };
        let mut out = Vec::new();
        rule(&[]).write(&mut out, &head(request).unwrap(), &with, |_| false);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_the_service_is_asked() {
        let request = "POST /a?b HTTP/1.1\r\nHost: shop.test\r\nCookie: a=b\r\nAuthorization: c\r\nAccept: text/html\r\n\
                       Content-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\
                       Connection: upgrade, x-hop\r\nX-Hop: 1\r\nUpgrade: websocket\r\nTE: trailers\r\nIf-None-Match: \"e\"\r\n\
                       Range: bytes=0-1\r\nX-Forwarded-Uri: /public\r\nX-Forwarded-Method: GET\r\nX_Forwarded_Uri: /public\r\n\
                       X-Original-URL: https://shop.test/public\r\nX_Original_Url: /public\r\nX-Forwarded-Host: evil.test\r\n\
                       X-Forwarded-For: 192.0.2.9\r\nX-Request-Id: theirs\r\n\r\n";
        assert_eq!(
            asked(request, false),
            "GET /verify?a=b HTTP/1.1\r\nhost: auth.test:9091\r\ncookie: a=b\r\nauthorization: c\r\naccept: text/html\r\n\
             x-forwarded-for: 192.0.2.9, 192.0.2.1\r\nx-forwarded-host: shop.test\r\nx-forwarded-proto: https\r\n\
             x-forwarded-port: 443\r\nvia: 1.1 p\r\nx-request-id: id\r\nx-forwarded-method: POST\r\n\
             x-forwarded-uri: /a?b\r\n\r\n"
        );
    }

    #[test]
    fn what_a_trusted_proxy_says_of_host_and_scheme_is_passed_on_and_no_more() {
        let request = "GET /a HTTP/1.1\r\nHost: inner\r\nX-Forwarded-Host: shop.test\r\nX-Forwarded-Proto: http\r\n\
                       X-Forwarded-Method: DELETE\r\nX-Forwarded-Uri: /b\r\n\r\n";
        let asked = asked(request, true);
        for line in [
            "x-forwarded-host: shop.test",
            "x-forwarded-proto: http",
            "x-forwarded-method: GET",
            "x-forwarded-uri: /a",
        ] {
            assert!(asked.contains(&format!("\r\n{line}\r\n")), "{line}\n{asked}");
        }
        assert_eq!(asked.matches("x-forwarded-uri").count() + asked.matches("x-forwarded-method").count(), 2);
    }

    #[test]
    fn what_the_backend_gets() {
        let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: remote-user, x-other\r\nRemote-User: admin\r\n\
                       Remote_User: admin\r\nRemote-Groups: admins\r\nX-Kept: k\r\n\r\n";
        let rule = rule(&["Remote-User", "remote-groups"]);
        let answer: Fields = [("remote-user", "eve"), ("remote-user", "adam"), ("set-cookie", "a=b")]
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let mut request = head(request).unwrap();
        rule.admit(&mut request, &answer);
        let found: Vec<_> =
            request.fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let expected = [
            ("host", "h"),
            ("connection", "remote-user, x-other"),
            ("x-kept", "k"),
            ("remote-user", "eve"),
            ("remote-user", "adam"),
        ];
        assert_eq!(found, expected);
        // Nor does it count as one for this connection alone.
        let crosses =
            |name: &str| crate::http::hop_by_hop::crosses(&name.parse().unwrap(), &request.connection);
        assert!(crosses("remote-user") && !crosses("x-other"));
    }

    #[test]
    fn a_failure_is_the_service_s_unless_it_was_somebody_else() {
        for (cause, expected) in [
            (Cause::ConnectRefused, "auth_unavailable"),
            (Cause::NameNotResolved, "auth_unavailable"),
            (Cause::BackendClosed, "auth_unavailable"),
            (Cause::ConnectTimeout, "auth_timeout"),
            (Cause::ResponseTimeout, "auth_timeout"),
            (Cause::BadResponse, "auth_bad_response"),
            (Cause::ClientLeft, "client_left"),
            (Cause::DeadlineExceeded, "deadline_exceeded"),
            (Cause::Internal, "internal_error"),
        ] {
            assert_eq!(cause_of_failure(cause).word(), expected);
        }
    }

    #[test]
    fn two_hundred_and_something_lets_in() {
        for (status, expected) in
            [(200, true), (202, true), (204, true), (299, true), (300, false), (304, false), (401, false)]
        {
            assert_eq!(lets_in(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
