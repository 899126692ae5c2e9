//! Where clients come in: `listen_addr`, `[[certificates]]` and `[tls]`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::certificate::CertificateConfig;
use super::raw::{RawCertificate, RawFrontTls, RawListen, RawListenEntry, RawListenTable};
use super::tls::read_ca;
use super::values::Resolver;
use super::{CaFile, Engine, ListenAddr, ServerConfig, nonzero};

/// An entry of `listen_addr`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenConfig {
    /// Where.
    pub addr: ListenAddr,
    /// TLS is spoken there.
    pub tls: bool,
    /// Whoever comes in there is sent to the same place at `https://`.
    pub https_redirect: bool,
    /// A PROXY header comes before all else there, and only from trusted proxies.
    pub proxy_protocol: bool,
}

impl From<ListenAddr> for ListenConfig {
    fn from(addr: ListenAddr) -> Self {
        Self { addr, tls: false, https_redirect: false, proxy_protocol: false }
    }
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontConfig {
    /// At least one, where TLS is spoken. The first is that of clients who name nobody.
    pub certificates: Vec<CertificateConfig>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Refuse clients that name nobody, or somebody for whom there is no certificate.
    pub strict_sni: bool,
    /// From a connection being accepted to its handshake being through.
    pub handshake_timeout: Duration,
    /// Handshakes under way at once.
    pub max_handshakes: NonZeroUsize,
    /// What clients show.
    pub client_auth: ClientAuth,
    /// Backends are told who a client is by its certificate, and nothing of that by the client.
    pub client_cert_headers: bool,
    /// Where the answers to challenges of an ACME server are.
    pub acme_challenge_dir: Option<PathBuf>,
}

/// What holds where the file says nothing.
impl Default for FrontConfig {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            min_version: TlsVersion::Tls12,
            strict_sni: false,
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: nonzero(1000),
            client_auth: ClientAuth::None,
            client_cert_headers: false,
            acme_challenge_dir: None,
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2, and what is newer.
    Tls12,
    /// 1.3.
    Tls13,
}

impl std::fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

/// Which certificates clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// None.
    None,
    /// One that these have signed, or none.
    Request(CaFile),
    /// One that these have signed.
    Require(CaFile),
}

impl Resolver<'_> {
    pub(super) fn listen_addrs(
        &mut self,
        raw: Option<Spanned<RawListen>>,
        server: &ServerConfig,
    ) -> Vec<ListenConfig> {
        const KEY: &str = "listen_addr";
        let engine = server.engine;
        let Some(raw) = raw else {
            self.missing(None, KEY, "an address to listen on, for example \"127.0.0.1:3000\"");
            return Vec::new();
        };
        let span = raw.span();
        let entries = match raw.into_inner() {
            RawListen::One(entry) => vec![Spanned::new(span, entry)],
            RawListen::Many(entries) if entries.is_empty() => {
                self.refuse(
                    &span,
                    KEY,
                    "the list is empty; expected at least one address to listen on".to_owned(),
                );
                return Vec::new();
            }
            RawListen::Many(entries) => entries,
        };
        let mut addrs: Vec<ListenConfig> = Vec::new();
        for entry in entries {
            let span = entry.span();
            let RawListenTable { addr: text, tls, https_redirect, proxy_protocol } = match entry.into_inner()
            {
                RawListenEntry::Addr(text) => RawListenTable {
                    addr: Some(Spanned::new(span.clone(), text)),
                    tls: None,
                    https_redirect: None,
                    proxy_protocol: None,
                },
                RawListenEntry::Table(table) => table,
            };
            let Some(text) = text else {
                let expected = "where to listen, for example addr = \"0.0.0.0:443\"";
                self.missing(Some(&span), &format!("{KEY}[{}].addr", addrs.len()), expected);
                continue;
            };
            let (tls, https_redirect) = (tls.unwrap_or_default(), https_redirect.unwrap_or_default());
            let proxy_protocol = proxy_protocol.unwrap_or_default();
            match text.get_ref().parse::<ListenAddr>() {
                // Port 0 is a different port each time.
                Ok(addr)
                    if addr.tcp().is_none_or(|tcp| tcp.port() != 0)
                        && addrs.iter().any(|other| other.addr == addr) =>
                {
                    self.refuse(&text.span(), KEY, format!("{:?} is listed twice", text.get_ref()));
                }
                Ok(ListenAddr::Unix(_)) if engine == Engine::TinyHttp => {
                    self.refuse_text(
                        &text,
                        KEY,
                        "is a Unix socket, which takes engine = \"native\"; write ip:port, or change the engine",
                    );
                }
                Ok(_) if engine == Engine::TinyHttp && (tls || https_redirect || proxy_protocol) => {
                    let what = match (tls, https_redirect) {
                        (true, _) => "is for TLS",
                        (_, true) => "redirects",
                        _ => "takes the PROXY protocol",
                    };
                    let problem = format!(
                        "{what}, which takes engine = \"native\"; leave that out, or change the engine"
                    );
                    self.refuse_text(&text, KEY, problem);
                }
                Ok(_) if tls && cfg!(not(feature = "tls")) => {
                    let problem =
                        "is for TLS, which is not part of this build; it takes the cargo feature tls";
                    self.refuse_text(&text, KEY, problem);
                }
                Ok(_) if tls && https_redirect => {
                    let problem = "is for TLS and redirects to TLS; leave out https_redirect there";
                    self.refuse_text(&text, KEY, problem);
                }
                Ok(_) if proxy_protocol && server.trusted_proxies.is_empty() => {
                    let problem = "takes the PROXY protocol, which is taken from trusted_proxies alone, and there are none: \
                                   expected them below the line [server]";
                    self.refuse_text(&text, KEY, problem);
                }
                Ok(addr) => {
                    self.note(&format!("{KEY}[{}]", addrs.len()), &text.span());
                    addrs.push(ListenConfig { addr, tls, https_redirect, proxy_protocol });
                }
                Err(error) => self.refuse_text(&text, KEY, error),
            }
        }
        let any_tls = addrs.iter().any(|listen| listen.tls);
        for (n, _) in addrs.iter().enumerate().filter(|(_, listen)| listen.https_redirect && !any_tls) {
            let span = self.places.get(&format!("{KEY}[{n}]")).cloned().unwrap_or_default();
            let problem = "https_redirect leads nowhere: expected an address with tls = true beside it";
            self.refuse(&span, KEY, problem.to_owned());
        }
        addrs
    }

    /// `[[certificates]]` and `[tls]`.
    pub(super) fn front(
        &mut self,
        certificates: Vec<Spanned<RawCertificate>>,
        raw: RawFrontTls,
        listen: &[ListenConfig],
        engine: Engine,
    ) -> FrontConfig {
        let mut front = FrontConfig::default();
        if certificates.is_empty()
            && let Some(n) = listen.iter().position(|listen| listen.tls)
        {
            let span = self.places.get(&format!("listen_addr[{n}]")).cloned().unwrap_or_default();
            let problem = "missing; expected at least one [[certificates]] table with cert and key, because of tls = true";
            self.refuse(&span, "certificates", problem.to_owned());
        }
        for (n, raw) in certificates.into_iter().enumerate() {
            front.certificates.extend(self.certificate(n, raw));
        }
        if let Some(word) = raw.min_version {
            self.note("tls.min_version", &word.span());
            let versions = [TlsVersion::Tls12, TlsVersion::Tls13];
            if let Some(found) = self.word(&word, "tls.min_version", "a version of TLS", &versions) {
                front.min_version = found;
            }
        }
        if let Some(strict) = raw.strict_sni {
            self.note("tls.strict_sni", &strict.span());
            front.strict_sni = strict.into_inner();
        }
        self.timeout("tls.handshake_timeout_secs", raw.handshake_timeout_secs, &mut front.handshake_timeout);
        self.count("tls.max_handshakes", raw.max_handshakes, 1..=1_000_000, &mut front.max_handshakes);
        front.client_auth = self.client_auth(raw.client_ca, raw.client_auth.as_ref());
        if let Some(wanted) = raw.client_cert_headers {
            const KEY: &str = "tls.client_cert_headers";
            self.note(KEY, &wanted.span());
            if engine == Engine::TinyHttp && *wanted.get_ref() {
                let problem = "takes engine = \"native\"; leave it out, or change the engine";
                self.refuse(&wanted.span(), KEY, problem.to_owned());
            }
            front.client_cert_headers = wanted.into_inner();
        }
        if let Some(text) = raw.acme_challenge_dir {
            const KEY: &str = "tls.acme_challenge_dir";
            self.note(KEY, &text.span());
            if engine == Engine::TinyHttp {
                let problem = "takes engine = \"native\"; leave it out, or change the engine";
                self.refuse(&text.span(), KEY, problem.to_owned());
            }
            if text.get_ref().is_empty() {
                self.refuse_text(&text, KEY, "is empty; expected a directory");
            }
            front.acme_challenge_dir = Some(PathBuf::from(text.into_inner()));
        }
        front
    }

    fn certificate(&mut self, n: usize, raw: Spanned<RawCertificate>) -> Option<CertificateConfig> {
        let table = raw.span();
        let RawCertificate { cert, key } = raw.into_inner();
        let (cert_key, key_key) = (format!("certificates[{n}].cert"), format!("certificates[{n}].key"));
        if cert.is_none() {
            let expected = "a file with the certificate and those that vouch for it, in PEM format";
            self.missing(Some(&table), &cert_key, expected);
        }
        if key.is_none() {
            self.missing(
                Some(&table),
                &key_key,
                "a file with the private key of the certificate, in PEM format",
            );
        }
        let (cert, key) = cert.zip(key)?;
        self.note(&cert_key, &cert.span());
        self.note(&key_key, &key.span());
        match CertificateConfig::load(PathBuf::from(cert.get_ref()), PathBuf::from(key.get_ref())) {
            Ok(loaded) => Some(loaded),
            Err(error) => {
                let (text, name) = if error.is_about_key { (&key, &key_key) } else { (&cert, &cert_key) };
                self.refuse_text(text, name, error);
                None
            }
        }
    }

    fn client_auth(&mut self, ca: Option<Spanned<String>>, word: Option<&Spanned<String>>) -> ClientAuth {
        const KEY: &str = "tls.client_auth";
        let mut is_required = true;
        if let Some(word) = word {
            self.note(KEY, &word.span());
            if let Some(found) =
                self.word(word, KEY, "what clients can be asked for", &["require", "request"])
            {
                is_required = found == "require";
            }
        }
        let Some(text) = ca else { return ClientAuth::None };
        self.note("tls.client_ca", &text.span());
        match read_ca(PathBuf::from(text.get_ref())) {
            Ok(ca) if is_required => ClientAuth::Require(ca),
            Ok(ca) => ClientAuth::Request(ca),
            Err(problem) => {
                self.refuse_text(&text, "tls.client_ca", problem);
                ClientAuth::None
            }
        }
    }
}
