//! `tls` of a route: is the file of CA certificates one, and the name one that certificates can have?

use std::fs;
use std::path::PathBuf;

use toml::Spanned;

use super::raw::RawTls;
use super::values::Resolver;
use super::{BackendAddr, BackendConfig, CaFile, TlsConfig};

impl Resolver<'_> {
    /// `backends` are those of the route.
    pub(super) fn tls(&mut self, key: &str, raw: Spanned<RawTls>, backends: &[BackendConfig]) -> TlsConfig {
        let span = raw.span();
        let raw = raw.into_inner();
        // Where a backend was refused, it may have been one.
        let any = backends.is_empty()
            || backends.iter().any(|backend| matches!(backend.addr, BackendAddr::Https { .. }));
        if !any {
            let problem = "is for https backends, and this route has none; expected one in backend_addrs, \
                           for example \"https://backend.example:443\"";
            self.refuse(&span, key, problem.to_owned());
        }
        let insecure_skip_verify = raw.insecure_skip_verify.unwrap_or_default();
        let mut tls = TlsConfig { insecure_skip_verify, ..TlsConfig::default() };
        if let Some(text) = raw.ca {
            match read_ca(PathBuf::from(text.get_ref())) {
                Ok(ca) => tls.ca = Some(ca),
                Err(problem) => self.refuse_text(&text, &format!("{key}.ca"), problem),
            }
        }
        if let Some(text) = raw.server_name {
            if is_server_name(text.get_ref()) {
                tls.server_name = Some(text.into_inner());
            } else {
                let problem = "is not a name that a certificate can be for; expected a host name or an IP address, \
                               for example \"backend.example\"";
                self.refuse_text(&text, &format!("{key}.server_name"), problem);
            }
        }
        tls
    }
}

/// Reads the CA certificates in the PEM file at `path`. The error is the end of a sentence.
#[cfg(feature = "tls")]
pub(super) fn read_ca(path: PathBuf) -> Result<CaFile, String> {
    use rustls::RootCertStore;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let pem = fs::read(&path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut certificates = Vec::new();
    for (n, found) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        let certificate = found.map_err(|error| format!("is not a file in PEM format: {error}"))?;
        let used = RootCertStore::empty().add(certificate.clone());
        used.map_err(|error| format!("has a certificate that cannot be used, number {}: {error}", n + 1))?;
        certificates.push(certificate.to_vec());
    }
    if certificates.is_empty() {
        return Err("has no certificates in it; expected a file in PEM format, with at least one \
                    \"BEGIN CERTIFICATE\""
            .to_owned());
    }
    Ok(CaFile { path, certificates })
}

#[cfg(feature = "tls")]
fn is_server_name(name: &str) -> bool {
    rustls::pki_types::ServerName::try_from(name).is_ok()
}

/// Without TLS a backend at `https://` is refused, and then what comes with it does not matter.
#[cfg(not(feature = "tls"))]
pub(super) fn read_ca(path: PathBuf) -> Result<CaFile, String> {
    fs::metadata(&path).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(CaFile { path, certificates: Vec::new() })
}

#[cfg(not(feature = "tls"))]
fn is_server_name(_: &str) -> bool {
    true
}
