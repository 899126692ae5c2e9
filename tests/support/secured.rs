//! The same test once more with TLS between the client and the proxy. On a thread where it was asked for, each proxy speaks
//! TLS, and each [`Client`](super::Client) that connects to one does so too: the test itself need not know.

use std::cell::Cell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::engines::Engine;

/// Proxies that speak TLS because of this.
static SPEAKING: Mutex<Option<HashSet<SocketAddr>>> = Mutex::new(None);

thread_local! {
    static IS_WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `test` over TLS. Called by [`on_native_over_tls!`](super::engines::on_native_over_tls).
pub fn run(test: fn(Engine)) {
    IS_WANTED.set(true);
    test(Engine::Native);
}

/// Whether it is wanted on this thread.
pub fn is_wanted() -> bool {
    IS_WANTED.get()
}

/// `listen_addr` and the tables that come with it, if it is wanted on this thread.
pub fn front() -> Option<(String, String)> {
    IS_WANTED.get().then(|| {
        let certificate =
            format!("[[certificates]]\ncert = {:?}\nkey = {:?}\n", file("shop.pem"), file("shop.key"));
        ("{ addr = \"127.0.0.1:0\", tls = true }".to_owned(), certificate)
    })
}

fn file(name: &str) -> String {
    format!("{}/tests/certs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A proxy at this address speaks TLS until this is dropped.
#[derive(Debug)]
pub struct Speaking(SocketAddr);

impl Speaking {
    /// If it is wanted on this thread.
    pub fn at(addr: SocketAddr) -> Option<Self> {
        IS_WANTED.get().then(|| {
            let mut speaking = SPEAKING.lock().unwrap_or_else(PoisonError::into_inner);
            speaking.get_or_insert_default().insert(addr);
            Self(addr)
        })
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        let mut speaking = SPEAKING.lock().unwrap_or_else(PoisonError::into_inner);
        speaking.get_or_insert_default().remove(&self.0);
    }
}

/// Whether it is spoken there.
pub fn is_spoken_at(addr: SocketAddr) -> bool {
    let speaking = SPEAKING.lock().unwrap_or_else(PoisonError::into_inner);
    speaking.as_ref().is_some_and(|speaking| speaking.contains(&addr))
}

/// That of all clients.
pub fn config() -> &'static Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file("ca.pem")).expect("a certificate")).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(builder.expect("versions").with_root_certificates(roots).with_no_client_auth())
    })
}
