//! A certificate and its key, as they are in two files: do they belong together, for which names and until when?

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A `[[certificates]]` table, and what was in its files.
#[derive(Clone, Debug)]
pub struct CertificateConfig {
    /// The certificate, and those that vouch for it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The DNS names it is for, in lower case; `*.` and the end of names among them.
    pub names: Vec<String>,
    /// It is not valid before.
    pub valid_from: SystemTime,
    /// It is not valid after.
    pub valid_until: SystemTime,
    /// Whoever has an account on this machine can read the key.
    pub key_is_open: bool,
    pub(crate) pair: Pair,
    /// What the files were like just before they were read.
    pub(crate) stamps: Stamps,
}

/// By the files and the certificates in them. Of a certificate there is one key.
impl PartialEq for CertificateConfig {
    fn eq(&self, other: &Self) -> bool {
        self.cert == other.cert && self.key == other.key && self.pair == other.pair
    }
}

/// Tells one state of the two files from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamps([Option<Stamp>; 2]);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    /// Programs that renew certificates write new files and put them in the place of the old ones.
    inode: u64,
}

impl Stamps {
    pub(crate) fn of(cert: &Path, key: &Path) -> Self {
        Self([cert, key].map(|path| {
            // Follows links: what they lead to is what counts.
            let metadata = path.metadata().ok()?;
            let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
            Some(Stamp { modified: metadata.modified().ok(), len: metadata.len(), inode })
        }))
    }
}

/// Why two files are no pair. `Display` says so as the end of a sentence that begins with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PairError {
    /// It is about the key, or about the certificate.
    pub(crate) is_about_key: bool,
    problem: String,
}

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

fn about_cert(problem: impl Into<String>) -> PairError {
    PairError { is_about_key: false, problem: problem.into() }
}

#[cfg(feature = "tls")]
pub(crate) use with_tls::Pair;
#[cfg(not(feature = "tls"))]
pub(crate) use without_tls::Pair;

#[cfg(feature = "tls")]
mod with_tls {
    use std::fs::File;
    use std::io::Read;
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::Error;
    use rustls::pki_types::pem::{self, PemObject};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
    use rustls::sign::CertifiedKey;
    use webpki::{EndEntityCert, KeyUsage};

    use super::*;

    /// No file of certificates is as large. Guards against what never ends.
    const LARGEST: u64 = 1 << 20;

    /// What is shown to clients, and what it is signed with.
    #[derive(Clone, Debug)]
    pub(crate) struct Pair(Arc<CertifiedKey>);

    impl Pair {
        pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
            &self.0
        }

        /// Who takes one takes the other.
        pub(crate) fn is_like(&self, other: &Self) -> bool {
            self.0.key.algorithm() == other.0.key.algorithm()
        }
    }

    impl PartialEq for Pair {
        fn eq(&self, other: &Self) -> bool {
            self.0.cert == other.0.cert
        }
    }

    fn about_key(problem: impl Into<String>) -> PairError {
        PairError { is_about_key: true, problem: problem.into() }
    }

    impl CertificateConfig {
        /// Reads both files.
        pub(crate) fn load(cert: PathBuf, key: PathBuf) -> Result<Self, PairError> {
            let stamps = Stamps::of(&cert, &key);
            let chain = read_chain(&cert)?;
            let (private, key_is_open) = read_key(&key)?;
            let leaf = chain.first().ok_or_else(|| about_cert("has no certificates in it"))?;
            let names = names(leaf)?;
            let (valid_from, valid_until) = validity(leaf)?;
            let provider = rustls::crypto::ring::default_provider();
            let private = provider.key_provider.load_private_key(private).map_err(|error| {
                about_key(format!(
                    "has a key that cannot be used: {error}; expected RSA, ECDSA P-256 or P-384, or Ed25519"
                ))
            })?;
            let fits = |chain: &[CertificateDer<'static>]| {
                let pair = CertifiedKey::new(chain.to_vec(), Arc::clone(&private));
                !matches!(
                    pair.keys_match(),
                    Err(Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch))
                )
            };
            if !fits(&chain) {
                let is_elsewhere = (1..chain.len()).any(|from| chain.get(from..).is_some_and(fits));
                return Err(if is_elsewhere {
                    about_cert(
                        "has the certificate of the key behind others; expected it first, then the one that vouches \
                         for it, and so on",
                    )
                } else {
                    about_key(format!("is not the key of the certificate in {}", cert.display()))
                });
            }
            check_order(&chain)?;
            let pair = Pair(Arc::new(CertifiedKey::new(chain, private)));
            Ok(Self { cert, key, names, valid_from, valid_until, key_is_open, pair, stamps })
        }
    }

    fn read(path: &Path) -> Result<(Vec<u8>, File), String> {
        let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
        let file = File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        (&file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST {
            return Err("is larger than 1 MiB; expected a file in PEM format".to_owned());
        }
        Ok((bytes, file))
    }

    fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PairError> {
        let (bytes, _) = read(path).map_err(about_cert)?;
        let chain = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| about_cert(format!("is not a file in PEM format: {error}")))?;
        if chain.is_empty() {
            return Err(about_cert(
                "has no certificates in it; expected a file in PEM format, with at least one \"BEGIN CERTIFICATE\"",
            ));
        }
        Ok(chain)
    }

    fn read_key(path: &Path) -> Result<(PrivateKeyDer<'static>, bool), PairError> {
        let (bytes, file) = read(path).map_err(about_key)?;
        let is_open = file.metadata().is_ok_and(|metadata| is_open(&metadata));
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound if has(&bytes, b"ENCRYPTED PRIVATE KEY") => about_key(
                "has a key that takes a pass phrase; write it without one: openssl pkey -in FILE -out NEW",
            ),
            pem::Error::NoItemsFound => about_key(
                "has no private key in it; expected a file in PEM format, with \"BEGIN PRIVATE KEY\", \
                 \"BEGIN EC PRIVATE KEY\" or \"BEGIN RSA PRIVATE KEY\"",
            ),
            error => about_key(format!("is not a file in PEM format: {error}")),
        })?;
        Ok((key, is_open))
    }

    fn has(bytes: &[u8], words: &[u8]) -> bool {
        bytes.windows(words.len()).any(|part| part == words)
    }

    fn is_open(metadata: &std::fs::Metadata) -> bool {
        use std::os::unix::fs::PermissionsExt;
        metadata.permissions().mode() & 0o006 != 0
    }

    fn parsed<'a>(der: &'a CertificateDer<'a>) -> Result<EndEntityCert<'a>, PairError> {
        EndEntityCert::try_from(der)
            .map_err(|error| about_cert(format!("has a certificate that cannot be used: {error}")))
    }

    fn names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, PairError> {
        let mut names: Vec<String> = parsed(leaf)?.valid_dns_names().map(str::to_ascii_lowercase).collect();
        names.dedup();
        Ok(names)
    }

    /// Each one is vouched for by the next (RFC 5246 §7.4.2). Browsers sort it out by themselves, other clients do not.
    fn check_order(chain: &[CertificateDer<'_>]) -> Result<(), PairError> {
        for (n, two) in chain.windows(2).enumerate() {
            let [one, next] = two else { continue };
            if parsed(one)?.issuer() != parsed(next)?.subject() {
                let problem = format!(
                    "has its certificates in the wrong order: number {} is not vouched for by number {}; expected that of \
                     the server first, then the one that vouches for it, and so on",
                    n + 1,
                    n + 2
                );
                return Err(about_cert(problem));
            }
        }
        Ok(())
    }

    /// From when and until when. webpki says so only of what is not valid, and that is seen before anything else.
    fn validity(leaf: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), PairError> {
        let leaf = parsed(leaf)?;
        let refused = |at: u64| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
            leaf.verify_for_usage(&[], &[], &[], at, KeyUsage::server_auth(), None, None).err()
        };
        let at = |time: UnixTime| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
        let from = match refused(0) {
            Some(webpki::Error::CertNotValidYet { not_before, .. }) => at(not_before),
            _ => Some(SystemTime::UNIX_EPOCH),
        };
        let until = match refused(u64::MAX) {
            Some(webpki::Error::CertExpired { not_after, .. }) => at(not_after),
            _ => None,
        };
        from.zip(until).ok_or_else(|| about_cert("has a certificate that is never valid"))
    }
}

#[cfg(not(feature = "tls"))]
mod without_tls {
    use std::convert::Infallible;

    use super::*;

    /// There are none.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Pair(Infallible);

    impl Pair {
        pub(crate) fn is_like(&self, _: &Self) -> bool {
            match self.0 {}
        }
    }

    impl CertificateConfig {
        pub(crate) fn load(_: PathBuf, _: PathBuf) -> Result<Self, PairError> {
            Err(about_cert("is for TLS, which is not part of this build; it takes the cargo feature tls"))
        }
    }
}
