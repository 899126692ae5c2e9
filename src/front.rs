//! [`Front`]: what is said to clients before any route is asked: TLS, redirects to it, and challenges of ACME servers.

pub(crate) mod challenges;

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use challenges::Challenges;

use crate::config::Config;
use crate::downstream::listener::Entrance;
use crate::net::tls_server::TlsServer;

/// Part of a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Front {
    /// `None`: TLS is spoken nowhere.
    pub tls: Option<TlsServer>,
    /// The port of the first listener where it is.
    pub https_port: Option<u16>,
    /// `acme_challenge_dir`.
    pub challenges: Option<Challenges>,
    /// Backends are told who a client is by its certificate.
    pub client_cert_headers: bool,
    pub handshake_timeout: Duration,
    /// The share of one worker.
    pub max_handshakes: usize,
}

impl Front {
    /// As `config` has it, with listeners that have these entrances. `before`: what it takes the place of.
    pub(crate) fn new(
        config: &Config,
        workers: NonZeroUsize,
        entrances: impl Iterator<Item = Entrance>,
        before: Option<&Self>,
    ) -> io::Result<Self> {
        let is_wanted = config.listen_addrs.iter().any(|listen| listen.tls);
        let front = &config.front;
        let challenges_before = before.and_then(|before| before.challenges.as_ref());
        let before = before.and_then(|before| before.tls.as_ref());
        // Where it is not spoken any more, who is in the backlogs still expects it.
        let tls = if is_wanted { Some(TlsServer::new(front, before)?) } else { before.cloned() };
        let https_port = entrances.filter(|entrance| entrance.tls).find_map(|entrance| entrance.port);
        Ok(Self {
            tls,
            https_port,
            challenges: front
                .acme_challenge_dir
                .as_ref()
                .map(|dir| Challenges::new(dir.clone(), challenges_before)),
            client_cert_headers: front.client_cert_headers,
            handshake_timeout: front.handshake_timeout,
            max_handshakes: front.max_handshakes.get().div_ceil(workers.get()),
        })
    }
}
