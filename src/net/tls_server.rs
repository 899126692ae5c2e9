//! TLS with clients: which certificate is shown to whom, and what sessions have in common.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::shown::ShownCertificate;
use super::subject::subject;
use super::tls::{Session, trust};
use crate::config::{CertificateConfig, ClientAuth, FrontConfig, TlsVersion};
use crate::http::client_cert::ClientCert;

/// What seals session tickets. It outlives reloads, so that clients can resume what they began before.
#[derive(Clone)]
pub(crate) struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    pub(crate) fn new() -> io::Result<Self> {
        rustls::crypto::ring::Ticketer::new().map(Self).map_err(io::Error::other)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

/// What sessions with clients have in common.
#[derive(Clone, Debug)]
pub(crate) struct TlsServer {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    tickets: Tickets,
    /// Whose certificates of clients are believed. A ticket says that its client has shown one of them.
    client_auth: ClientAuth,
}

impl TlsServer {
    /// As the configuration has it. `before`: what it takes the place of.
    pub(crate) fn new(config: &FrontConfig, before: Option<&Self>) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&SupportedProtocolVersion] = match config.min_version {
            TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions).map_err(io::Error::other)?;
        let ca = match &config.client_auth {
            ClientAuth::None => None,
            ClientAuth::Request(ca) => Some((ca, false)),
            ClientAuth::Require(ca) => Some((ca, true)),
        };
        let builder = match ca {
            None => builder.with_no_client_auth(),
            Some((ca, is_required)) => {
                let ders = ca.certificates.iter().map(|der| CertificateDer::from(der.clone()));
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(trust(ders)), provider);
                let verifier = if is_required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
            }
        };
        // A client that need show no certificate when it resumes must have shown one of those that are asked for now.
        let same = before.filter(|before| before.client_auth == config.client_auth);
        let tickets = same.map_or_else(Tickets::new, |before| Ok(before.tickets.clone()))?;
        let shown = Arc::new(Shown {
            certificates: ArcSwap::from_pointee(Certificates::new(&config.certificates)),
            is_strict: config.strict_sni,
        });
        let mut server = builder.with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        server.ticketer = Arc::clone(&tickets.0);
        Ok(Self { config: Arc::new(server), shown, tickets, client_auth: config.client_auth.clone() })
    }

    /// A session with a client that has just connected.
    pub(crate) fn session(&self) -> io::Result<Session> {
        ServerConnection::new(Arc::clone(&self.config)).map(Session::from).map_err(io::Error::other)
    }

    /// Shows these certificates from now on. Sessions that have begun keep theirs.
    pub(crate) fn show(&self, certificates: &[CertificateConfig]) {
        self.shown.certificates.store(Arc::new(Certificates::new(certificates)));
    }

    /// Those that are shown now.
    pub(crate) fn shown(&self) -> Vec<ShownCertificate> {
        self.shown.certificates.load().about.clone()
    }

    /// Whether a client that has asked for `named` in the handshake and for `host` in a request means two sites that have
    /// different certificates.
    pub(crate) fn are_different(&self, named: &str, host: &str) -> bool {
        self.shown.certificates.load().are_different(named, host)
    }
}

/// Who a client is that has shown this certificate, which was found to be good.
pub(super) fn client_cert(der: &CertificateDer<'_>) -> Option<ClientCert> {
    // The one SHA-256 that is in the tree.
    let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else { return None };
    let hash = suite.common.hash_provider.hash(der);
    let fingerprint: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let subject = webpki::EndEntityCert::try_from(der).ok().and_then(|cert| subject(cert.subject()));
    Some(ClientCert {
        subject: subject.and_then(|subject| HeaderValue::try_from(subject).ok()),
        fingerprint: HeaderValue::try_from(fingerprint).ok()?,
    })
}

/// What rustls asks which certificate to show.
struct Shown {
    certificates: ArcSwap<Certificates>,
    /// Only for names that a certificate has.
    is_strict: bool,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("is_strict", &self.is_strict).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.certificates.load();
        let of_name = hello.server_name().and_then(|name| certificates.of_name(name));
        let numbers = match of_name {
            Some(numbers) => numbers,
            None if self.is_strict => return None,
            None => &[0],
        };
        let keys = || numbers.iter().filter_map(|number| certificates.keys.get(*number));
        // Of several for one name, the first whose kind of key the client knows.
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        keys().find(fits).or_else(|| keys().next()).cloned()
    }
}

/// Certificates, and for which names they are.
struct Certificates {
    about: Vec<ShownCertificate>,
    keys: Vec<Arc<CertifiedKey>>,
    /// `shop.example`, and `*.shop.example` as `.shop.example`.
    by_name: HashMap<String, Vec<usize>>,
}

impl Certificates {
    fn new(certificates: &[CertificateConfig]) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                let name = name.strip_prefix('*').unwrap_or(name).to_owned();
                by_name.entry(name).or_default().push(number);
            }
        }
        let keys = certificates.iter().map(|certificate| Arc::clone(certificate.pair.key())).collect();
        let about = certificates.iter().map(ShownCertificate::of).collect();
        Self { about, keys, by_name }
    }

    /// Those that have `name`; if none has, those with a star for its first label.
    fn of_name(&self, name: &str) -> Option<&[usize]> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let starred = || self.by_name.get(name.get(name.find('.')?..)?);
        self.by_name.get(&name).or_else(starred).map(Vec::as_slice)
    }

    fn are_different(&self, named: &str, host: &str) -> bool {
        let (Some(named), Some(_)) = (self.of_name(named), self.of_name(host)) else { return false };
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let starred = host.find('.').and_then(|dot| host.get(dot..));
        let mut of_host =
            [Some(host), starred].into_iter().flatten().filter_map(|name| self.by_name.get(name));
        !of_host.any(|numbers| named.iter().any(|number| numbers.contains(number)))
    }
}
