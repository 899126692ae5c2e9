//! TLS: rustls, fed from sockets by whoever knows how long to wait. Here are a session of either side, and what those
//! towards a backend have in common; those with clients are begun in `tls_server.rs`.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConnection};

use super::tls_server::client_cert;
use super::tls_words::explain;
use super::verify::{AnyCertificate, Pinned};
use crate::config::TlsConfig;
use crate::error::TlsFault;
use crate::http::client_cert::ClientCert;

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
        tls.map(|tls| Session { tls: tls.into(), expects_hello: false }).map_err(invalid)
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

pub(super) fn trust(certificates: impl Iterator<Item = CertificateDer<'static>>) -> RootCertStore {
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
    tls: Connection,
    /// Nothing has come from the client yet.
    expects_hello: bool,
}

/// What a session with a client may have waiting to be sent. What it does not take waits where it is counted.
const UNSENT: usize = 16 * 1024;

impl From<ServerConnection> for Session {
    fn from(mut tls: ServerConnection) -> Self {
        tls.set_buffer_limit(Some(UNSENT));
        Self { tls: tls.into(), expects_hello: true }
    }
}

impl Session {
    /// Goes on with the handshake until one of the functions would block; whether it is through. Towards a backend its
    /// last bytes leave together with the first of the request; a client may wait for them before it sends one.
    pub(crate) fn handshake(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        let mut expects_hello = self.expects_hello;
        let mut read = |buf: &mut [u8]| {
            let n = read(buf)?;
            // No record of TLS begins with a letter, and every method does.
            if std::mem::take(&mut expects_hello) && buf.first().is_some_and(u8::is_ascii_alphabetic) && n > 0
            {
                return Err(io::Error::new(io::ErrorKind::InvalidData, PlainHttp));
            }
            Ok(n)
        };
        let done = self.shake_hands(&mut read, &mut write);
        self.expects_hello = expects_hello;
        if let (Ok(true), Connection::Server(_)) = (&done, &self.tls) {
            match self.flush(write) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        done
    }

    fn shake_hands(
        &mut self,
        read: &mut impl FnMut(&mut [u8]) -> io::Result<usize>,
        write: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        while self.tls.is_handshaking() {
            match self.flush(&mut *write) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            match self.fill(&mut *read) {
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

    /// The version that is spoken, once that is known.
    pub(crate) fn version(&self) -> Option<&'static str> {
        match self.tls.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_3 => Some("1.3"),
            rustls::ProtocolVersion::TLSv1_2 => Some("1.2"),
            _ => None,
        }
    }

    /// The name the client has asked for, if it has named one.
    pub(crate) fn server_name(&self) -> Option<&str> {
        match &self.tls {
            Connection::Server(tls) => tls.server_name(),
            Connection::Client(_) => None,
        }
    }

    /// Who the client is by its certificate, if it has shown one.
    pub(crate) fn client_cert(&self) -> Option<ClientCert> {
        match &self.tls {
            Connection::Server(tls) => client_cert(tls.peer_certificates()?.first()?),
            Connection::Client(_) => None,
        }
    }

    /// Sends what there is to say of a handshake that has failed, as far as that can be sent at once.
    pub(crate) fn send_alert(&mut self, write: impl FnMut(&[u8]) -> io::Result<usize>) {
        let _ = self.flush(write);
    }

    /// Says that no more bytes come.
    pub(crate) fn close(&mut self, write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        // Nothing has begun that could end.
        if !self.expects_hello {
            // The second time it does nothing.
            self.tls.send_close_notify();
        }
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

/// Records that are copied together take this at most. Those of a body are larger.
const JOINED: usize = 8 * 1024;

/// A function as a writer.
struct Sink<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<usize>> Write for Sink<F> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (self.0)(buf)
    }

    /// The messages of a handshake go out together: each by itself would be a packet.
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if bufs.len() > 1 && len <= JOINED {
            let joined: Vec<&[u8]> = bufs.iter().map(|buf| &**buf).collect();
            return (self.0)(&joined.concat());
        }
        bufs.iter().find(|buf| !buf.is_empty()).map_or(Ok(0), |buf| (self.0)(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What came where a TLS handshake was to begin is HTTP.
#[derive(Debug)]
struct PlainHttp;

impl fmt::Display for PlainHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is plain HTTP where TLS is spoken")
    }
}

impl std::error::Error for PlainHttp {}

/// Whether a client's handshake has failed because the client speaks plain HTTP.
pub(crate) fn is_plain_http(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(inner) if inner.is::<PlainHttp>())
}

/// The other side hung up in the handshake.
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
