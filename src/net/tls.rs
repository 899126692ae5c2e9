//! TLS towards a backend: rustls, fed from sockets by whoever knows how long to wait.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::tls_words::explain;
use super::verify::{AnyCertificate, Pinned};
use crate::config::TlsConfig;
use crate::error::TlsFault;

/// What sessions with one backend have in common: whom to trust, and what is needed to resume an earlier one.
#[derive(Clone, Debug)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsClient {
    /// For the backend at `host`. The certificates of the system are loaded at the first backend that needs them.
    pub(crate) fn new(host: &str, tls: &TlsConfig) -> io::Result<Self> {
        // A name with a dot at its end is the same name, and certificates have it without.
        let name = tls.server_name.as_deref().unwrap_or(host.strip_suffix('.').unwrap_or(host));
        let name = ServerName::try_from(name.to_owned()).map_err(invalid)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(invalid)?;
        let mut config = if tls.insecure_skip_verify {
            let verifier = Arc::new(AnyCertificate { provider });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        } else {
            match &tls.ca {
                None => builder.with_root_certificates(system_certificates()?).with_no_client_auth(),
                Some(ca) => {
                    let certificates: Vec<CertificateDer<'static>> =
                        ca.certificates.iter().map(|der| der.clone().into()).collect();
                    let trusted = Arc::new(trust(certificates.iter().cloned()));
                    let by_rules = WebPkiServerVerifier::builder_with_provider(trusted, provider).build();
                    let verifier = Pinned { by_rules: by_rules.map_err(invalid)?, certificates };
                    builder
                        .dangerous()
                        .with_custom_certificate_verifier(Arc::new(verifier))
                        .with_no_client_auth()
                }
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), name })
    }

    pub(crate) fn session(&self) -> io::Result<Session> {
        let tls = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        tls.map(|tls| Session { tls }).map_err(invalid)
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

fn trust(certificates: impl Iterator<Item = CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    store
}

/// The CA certificates of the system, loaded once.
fn system_certificates() -> io::Result<Arc<RootCertStore>> {
    static LOADED: OnceLock<Result<Arc<RootCertStore>, String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let store = trust(found.certs.into_iter());
        log::debug!("CA certificates of the system loaded count={}", store.len());
        if !store.is_empty() {
            return Ok(Arc::new(store));
        }
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let why = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
        Err(format!(
            "the system has no CA certificates{why}: install them (the package is mostly called \
             ca-certificates), or give the route tls = {{ ca = \"file.pem\" }}"
        ))
    });
    loaded.clone().map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))
}

/// A TLS session. It does no I/O of its own: it is given functions that read from and write to the socket.
pub(crate) struct Session {
    tls: ClientConnection,
}

impl Session {
    /// Goes on with the handshake until one of the functions would block; whether it is through. Its last bytes leave
    /// together with the first of the request.
    pub(crate) fn handshake(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        while self.tls.is_handshaking() {
            match self.flush(&mut write) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            match self.fill(&mut read) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, HandshakeCutOff)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads decrypted bytes, calling `read` at most once. `Interrupted`: it read something, but no whole record.
    pub(crate) fn recv(
        &mut self,
        buf: &mut [u8],
        read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self.tls.reader().read(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        self.fill(read)?;
        match self.tls.reader().read(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::Interrupted.into()),
            done => done,
        }
    }

    /// Copies decrypted bytes without taking them, calling `read` until it would block.
    pub(crate) fn peek(
        &mut self,
        buf: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match self.tls.reader().into_first_chunk() {
                Ok(mut here) => return here.read(buf),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match self.fill(&mut read) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
    }

    /// Encrypts what there is room for, and writes until `write` would block. An error means that nothing of `bytes`
    /// has left.
    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let taken = self.tls.writer().write(bytes)?;
        let mut written = 0;
        match self.flush(counting(write, &mut written)) {
            Ok(()) => Ok(taken),
            Err(_) if written > 0 => Ok(taken),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => Ok(taken),
            Err(error) => Err(error),
        }
    }

    /// Says that no more bytes come.
    pub(crate) fn close(&mut self, write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        // The second time it does nothing.
        self.tls.send_close_notify();
        self.flush(write)
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.tls.wants_write()
    }

    pub(crate) fn has_input(&mut self) -> bool {
        !matches!(self.tls.reader().into_first_chunk(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn fill(&mut self, read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let n = self.tls.read_tls(&mut Source(read))?;
        match self.tls.process_new_packets() {
            Ok(_) => Ok(n),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    fn flush(&mut self, write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let mut sink = Sink(write);
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut sink) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("version", &self.tls.protocol_version()).finish_non_exhaustive()
    }
}

fn counting(
    mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    written: &mut usize,
) -> impl FnMut(&[u8]) -> io::Result<usize> {
    move |bytes| {
        let n = write(bytes)?;
        *written += n;
        Ok(n)
    }
}

/// A function as a reader.
struct Source<F>(F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for Source<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (self.0)(buf)
    }
}

/// A function as a writer.
struct Sink<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<usize>> Write for Sink<F> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (self.0)(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The backend hung up in the handshake.
#[derive(Debug)]
struct HandshakeCutOff;

impl fmt::Display for HandshakeCutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was closed during the TLS handshake")
    }
}

impl std::error::Error for HandshakeCutOff {}

/// What of TLS went wrong, if it was that; with the words for the log.
pub(crate) fn fault(error: &io::Error) -> Option<(TlsFault, String)> {
    let inner = error.get_ref()?;
    if inner.is::<HandshakeCutOff>() {
        return Some((TlsFault::Protocol, inner.to_string()));
    }
    Some(explain(inner.downcast_ref()?))
}
