//! Certificates that are not good for much, and keys of `[tls]` that have no use.

use std::time::{Duration, SystemTime};

use super::Warnings;
use crate::config::CertificateConfig;

/// From so long before its end on, a certificate is warned about.
pub(crate) const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// What there is to say of how long a certificate is valid. The end of a sentence.
pub(crate) fn about_validity(certificate: &CertificateConfig, now: SystemTime) -> Option<String> {
    if now < certificate.valid_from {
        return Some("is not valid yet; is the clock of this machine right?".to_owned());
    }
    let date = httpdate::fmt_http_date(certificate.valid_until);
    match certificate.valid_until.duration_since(now) {
        Err(_) => Some(format!("has expired on {date}; renew it")),
        Ok(left) if left < SOON => {
            Some(format!("expires on {date}, in {} days; renew it", left.as_secs() / (24 * 3600)))
        }
        Ok(_) => None,
    }
}

impl Warnings<'_> {
    pub(super) fn front(&mut self) {
        let front = &self.config.front;
        if !self.config.listen_addrs.iter().any(|listen| listen.tls) {
            for n in 0..front.certificates.len() {
                self.without_tls(&format!("certificates[{n}].cert"));
            }
            for name in [
                "min_version",
                "strict_sni",
                "handshake_timeout_secs",
                "max_handshakes",
                "client_ca",
                "client_auth",
                "client_cert_headers",
            ] {
                self.without_tls(&format!("tls.{name}"));
            }
        } else if !self.places.contains_key("tls.client_ca") {
            self.warn("tls.client_auth", "has no use without client_ca; leave it out");
            if front.client_cert_headers {
                self.warn(
                    "tls.client_cert_headers",
                    "only removes what clients send: without client_ca none is asked for a certificate",
                );
            }
        }
        let now = SystemTime::now();
        for (n, certificate) in front.certificates.iter().enumerate() {
            let cert = format!("certificates[{n}].cert");
            if let Some(problem) = about_validity(certificate, now) {
                self.warn(&cert, format!("\"{}\" {problem}", certificate.cert.display()));
            }
            let before = front.certificates.get(..n).unwrap_or_default();
            let is_taken = |name: &String| {
                before.iter().any(|other| other.names.contains(name) && other.pair.is_like(&certificate.pair))
            };
            if !certificate.names.is_empty() && certificate.names.iter().all(is_taken) {
                let problem =
                    "is never shown: those before it have all of its names, and keys of the same kind";
                self.warn(&cert, format!("\"{}\" {problem}; leave it out", certificate.cert.display()));
            }
            if certificate.names.is_empty() {
                let problem = "has no DNS names in it (subjectAltName): no client finds it by its name";
                self.warn(&cert, format!("\"{}\" {problem}", certificate.cert.display()));
            }
            if certificate.key_is_open {
                let problem = format!(
                    "\"{}\" can be read or written by everybody on this machine; chmod o-rw",
                    certificate.key.display()
                );
                self.warn(&format!("certificates[{n}].key"), problem);
            }
        }
        if let Some(dir) = front.acme_challenge_dir.as_ref().filter(|dir| !dir.is_dir()) {
            let problem = format!("\"{}\" is no directory; create it", dir.display());
            self.warn("tls.acme_challenge_dir", problem);
        } else if self.config.listen_addrs.iter().all(|listen| listen.tls) {
            let problem =
                "has no use where TLS is spoken on every address; ACME servers ask on plain HTTP, port 80";
            self.warn("tls.acme_challenge_dir", problem);
        }
    }

    fn without_tls(&mut self, key: &str) {
        self.warn(key, "has no use without an address in listen_addr with tls = true; leave it out");
    }
}
