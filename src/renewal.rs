//! [`Renewal`]: looks whether the files of certificates have changed, and shows clients what is in them from then on.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use crate::config::{CertificateConfig, FrontConfig, Stamps, about_validity};
use crate::net::tls_server::TlsServer;

/// From one look at the files to the next.
const LOOK: Duration = Duration::from_secs(2);
/// What a look that is under way gets to finish when the proxy stops.
const STOP_GRACE: Duration = Duration::from_millis(100);
/// How often a certificate that ends soon is warned about.
const WARN: Duration = Duration::from_secs(24 * 3600);

/// The running thread. Dropping it ends and joins it.
pub(crate) struct Renewal {
    /// `None`: there were no certificates so far.
    running: Option<Running>,
}

struct Running {
    changes: Sender<Watched>,
    /// Disconnected when the thread has ended.
    alive: Receiver<Infallible>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal").field("is_running", &self.running.is_some()).finish()
    }
}

impl Renewal {
    /// Starts the thread `certificates`, if there are any that are shown.
    pub(crate) fn start(config: &FrontConfig, tls: Option<&TlsServer>) -> io::Result<Self> {
        let mut renewal = Self { running: None };
        renewal.change(config, tls)?;
        Ok(renewal)
    }

    /// From now on these are looked after.
    pub(crate) fn change(&mut self, config: &FrontConfig, tls: Option<&TlsServer>) -> io::Result<()> {
        let Some(tls) = tls else { return Ok(()) };
        let watched = Watched::new(&config.certificates, tls.clone());
        match &self.running {
            // Fails only if it has ended.
            Some(running) => drop(running.changes.send(watched)),
            None => {
                let (changes, changed) = unbounded();
                let (living, alive) = bounded(0);
                let thread = Builder::new().name("certificates".to_owned()).spawn(move || {
                    let _living: Sender<Infallible> = living;
                    run(watched, &changed);
                })?;
                self.running = Some(Running { changes, alive, thread });
            }
        }
        Ok(())
    }

    /// Tells it to end, and waits for that, but not for a file server that does not answer.
    pub(crate) fn stop(&mut self) {
        let Some(Running { changes, alive, thread }) = self.running.take() else { return };
        drop(changes);
        if alive.recv_timeout(STOP_GRACE) == Err(RecvTimeoutError::Timeout) {
            log::debug!("stopped while the file of a certificate was being read");
        } else if thread.join().is_err() {
            log::error!("the thread that looks after certificates had panicked");
        }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut watched: Watched, changes: &Receiver<Watched>) {
    loop {
        match changes.recv_timeout(LOOK) {
            Ok(other) => watched = other,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => watched.look(),
        }
    }
}

/// What the thread looks after.
struct Watched {
    files: Vec<Files>,
    tls: TlsServer,
    warned: Instant,
}

/// The two files of a certificate.
struct Files {
    shown: CertificateConfig,
    /// What they were like when they were last read.
    read: Stamps,
    /// What they were like at the last look.
    seen: Stamps,
}

impl Watched {
    fn new(certificates: &[CertificateConfig], tls: TlsServer) -> Self {
        let files = |certificate: &CertificateConfig| {
            let read = certificate.stamps.clone();
            Files { shown: certificate.clone(), seen: read.clone(), read }
        };
        Self { files: certificates.iter().map(files).collect(), tls, warned: Instant::now() }
    }

    fn look(&mut self) {
        let mut is_changed = false;
        for files in &mut self.files {
            is_changed |= files.read_again();
        }
        if is_changed {
            let certificates: Vec<_> = self.files.iter().map(|files| files.shown.clone()).collect();
            self.tls.show(&certificates);
        }
        if is_changed || self.warned.elapsed() >= WARN {
            self.warned = Instant::now();
            let now = SystemTime::now();
            for files in &self.files {
                if let Some(problem) = about_validity(&files.shown, now) {
                    log::warn!("the certificate in {} {problem}", files.shown.cert.display());
                }
            }
        }
    }
}

impl Files {
    /// Reads them again, if they have changed and are done changing: two files are not written at once. Whether there is
    /// something else to show.
    fn read_again(&mut self) -> bool {
        let now = Stamps::of(&self.shown.cert, &self.shown.key);
        let is_quiet = now == self.seen;
        self.seen = now;
        if !is_quiet || self.seen == self.read {
            return false;
        }
        self.read = self.seen.clone();
        let CertificateConfig { cert, key, .. } = &self.shown;
        match CertificateConfig::load(cert.clone(), key.clone()) {
            Ok(loaded) => {
                log::info!(
                    "certificate read again cert={} names={} valid_until={:?}",
                    cert.display(),
                    loaded.names.join(","),
                    httpdate::fmt_http_date(loaded.valid_until)
                );
                self.shown = loaded;
                true
            }
            Err(error) => {
                let file = if error.is_about_key { key } else { cert };
                log::error!("certificate not replaced, the one before stays: {} {error}", file.display());
                false
            }
        }
    }
}
