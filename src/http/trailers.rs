//! The end of a chunked body, with the trailers that may pass (RFC 9110 §6.5, RFC 9112 §7.1.2).

use http::header::HeaderName;

use super::chunked::LAST_CHUNK;
use super::client_cert::is_about_client_cert;
use super::fields::Fields;
use super::hop_by_hop::{ConnectionOptions, crosses, imitates_ours, is_protected};
use super::response_out::write_field;

/// Ends a chunked body. `options`: what the `Connection` lines of its message say.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>, options: &ConnectionOptions) {
    let Some(trailers) = trailers else {
        out.extend_from_slice(LAST_CHUNK);
        return;
    };
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter().filter(|(name, _)| may_pass(name, options)) {
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// What decides about a message comes before its body, or says nothing: a trailer that claims to be such a field reaches
/// nobody (RFC 9110 §6.5.1).
fn may_pass(name: &HeaderName, options: &ConnectionOptions) -> bool {
    let decides = matches!(
        name.as_str(),
        "age"
            | "authorization"
            | "cache-control"
            | "content-encoding"
            | "content-range"
            | "content-type"
            | "cookie"
            | "date"
            | "expect"
            | "expires"
            | "location"
            | "max-forwards"
            | "pragma"
            | "range"
            | "retry-after"
            | "set-cookie"
            | "vary"
            | "warning"
            | "www-authenticate"
    );
    !decides
        && crosses(name, options)
        && !is_protected(name)
        && !imitates_ours(name)
        && !is_about_client_cert(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_decides_about_a_message_does_not_come_behind_it() {
        let options = ConnectionOptions::from_values([HeaderValue::from_static("x-named")].iter());
        let names = [
            "grpc-status",
            "x-named",
            "content-length",
            "Transfer-Encoding",
            "set-cookie",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-client-cert-subject",
            "x_client_cert_fingerprint",
            "server-timing",
        ];
        let trailers: Fields =
            names.iter().map(|name| (name.parse().unwrap(), HeaderValue::from_static("v"))).collect();
        let mut out = Vec::new();
        write_last_chunk(&mut out, Some(&trailers), &options);
        assert_eq!(out, b"0\r\ngrpc-status: v\r\nserver-timing: v\r\n\r\n");
        out.clear();
        write_last_chunk(&mut out, None, &options);
        assert_eq!(out, LAST_CHUNK);
    }
}
