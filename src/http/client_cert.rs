//! [`ClientCert`]: what backends are told of the certificate that a client has shown.

use http::header::{HeaderName, HeaderValue};

/// `X-Client-Cert-Subject`.
pub const CLIENT_CERT_SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
/// `X-Client-Cert-Fingerprint`.
pub const CLIENT_CERT_FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-fingerprint");

/// Who a client is by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// Its subject as a string of RFC 4514. `None`: it is none, or longer than a field should be; a name that was cut off
    /// would be another name.
    pub subject: Option<HeaderValue>,
    /// The SHA-256 of the whole certificate, in lower case hexadecimal.
    pub fingerprint: HeaderValue,
}

/// What becomes of the two fields on the way to a backend.
#[derive(Clone, Copy, Debug)]
pub enum ClientCertFields<'a> {
    /// Nobody has asked for them: they are fields like any other.
    Untouched,
    /// What the client itself says in them is removed, and what its certificate says takes its place, if it has shown one.
    Ours(Option<&'a ClientCert>),
}

impl<'a> ClientCertFields<'a> {
    /// `asked_for`: by the configuration.
    #[must_use]
    pub const fn new(asked_for: bool, shown: Option<&'a ClientCert>) -> Self {
        if asked_for { Self::Ours(shown) } else { Self::Untouched }
    }

    /// Whether a field as it came is not passed on.
    pub(crate) fn replaces(&self, name: &HeaderName) -> bool {
        matches!(self, Self::Ours(_)) && is_about_client_cert(name)
    }

    /// Calls `put` with each field that there is.
    pub(crate) fn put(&self, put: &mut impl FnMut(&[u8], &[u8])) {
        let Self::Ours(Some(shown)) = self else { return };
        if let Some(subject) = &shown.subject {
            put(CLIENT_CERT_SUBJECT.as_str().as_bytes(), subject.as_bytes());
        }
        put(CLIENT_CERT_FINGERPRINT.as_str().as_bytes(), shown.fingerprint.as_bytes());
    }
}

/// Whether a backend could take it for one of the two. Some read `_` as `-`.
pub(crate) fn is_about_client_cert(name: &HeaderName) -> bool {
    let dashed = name.as_str().bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
    [CLIENT_CERT_SUBJECT, CLIENT_CERT_FINGERPRINT].iter().any(|own| own.as_str().bytes().eq(dashed.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_them() {
        for (name, expected) in [
            ("X-Client-Cert-Subject", true),
            ("x_client_cert-fingerprint", true),
            ("X-Client-Cert", false),
            ("X-Client-Cert-Subject-Alt", false),
            ("client-cert", false),
        ] {
            let name = name.parse().unwrap();
            assert_eq!(is_about_client_cert(&name), expected, "{name}");
            assert!(!ClientCertFields::new(false, None).replaces(&name), "nobody has asked for them");
        }
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let put = |shown: Option<&ClientCert>| {
            let mut names = Vec::new();
            ClientCertFields::new(true, shown).put(&mut |name, _| names.push(name.to_vec()));
            names.len()
        };
        let mut shown = ClientCert {
            subject: Some(HeaderValue::from_static("CN=a")),
            fingerprint: HeaderValue::from_static("00"),
        };
        assert_eq!((put(None), put(Some(&shown))), (0, 2));
        shown.subject = None;
        assert_eq!(put(Some(&shown)), 1);
    }
}
