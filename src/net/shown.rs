//! [`ShownCertificate`]: what there is to know of a certificate that clients are shown.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::config::CertificateConfig;

/// A certificate that clients are shown.
#[derive(Clone, Debug)]
pub(crate) struct ShownCertificate {
    /// Its file.
    pub cert: PathBuf,
    /// What it is for.
    pub names: Vec<String>,
    pub valid_until: SystemTime,
}

impl ShownCertificate {
    /// What was read.
    pub(super) fn of(certificate: &CertificateConfig) -> Self {
        let CertificateConfig { cert, names, valid_until, .. } = certificate;
        Self { cert: cert.clone(), names: names.clone(), valid_until: *valid_until }
    }
}
