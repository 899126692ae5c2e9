//! [`Renewal`]: looks whether the files of certificates have changed, and shows clients what is in them from then on.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendError, Sender, bounded, unbounded};

use crate::config::{CertificateConfig, FrontConfig, Stamps, about_validity};
use crate::counters::Counters;
use crate::logging::panics::panic_message;
use crate::net::tls_server::TlsServer;

/// From one look at the files to the next.
const LOOK: Duration = Duration::from_secs(2);
/// What a look that is under way gets to finish when the proxy stops.
const STOP_GRACE: Duration = Duration::from_millis(100);
/// How often a certificate that ends soon is warned about.
const WARN: Duration = Duration::from_secs(24 * 3600);

/// The running thread. Dropping it ends and joins it.
pub(crate) struct Renewal {
    counters: Arc<Counters>,
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
    pub(crate) fn start(
        config: &FrontConfig,
        tls: Option<&TlsServer>,
        counters: &Arc<Counters>,
    ) -> io::Result<Self> {
        let mut renewal = Self { counters: Arc::clone(counters), running: None };
        renewal.change(config, tls)?;
        Ok(renewal)
    }

    /// From now on these are looked after.
    pub(crate) fn change(&mut self, config: &FrontConfig, tls: Option<&TlsServer>) -> io::Result<()> {
        let Some(tls) = tls else { return Ok(()) };
        let mut watched = Watched::new(&config.certificates, tls.clone(), Arc::clone(&self.counters));
        if let Some(running) = &self.running {
            match running.changes.send(watched) {
                Ok(()) => return Ok(()),
                // It has ended, which only a defect can bring about.
                Err(SendError(back)) => watched = back,
            }
            self.stop();
        }
        let (changes, changed) = unbounded();
        let (living, alive) = bounded(0);
        let thread = Builder::new().name("certificates".to_owned()).spawn(move || {
            let _living: Sender<Infallible> = living;
            run(watched, &changed, LOOK, Watched::look);
        })?;
        self.running = Some(Running { changes, alive, thread });
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

/// Looks again and again, until nobody can tell any more what to look after.
fn run<W>(mut watched: W, changes: &Receiver<W>, every: Duration, look: impl Fn(&mut W)) {
    loop {
        match changes.recv_timeout(every) {
            Ok(other) => watched = other,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                // What was read stays noted as read, so that no file makes it fail twice.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| look(&mut watched))) {
                    let message = panic_message(&*panic);
                    log::error!("looking after certificates panicked: {message}");
                }
            }
        }
    }
}

/// What the thread looks after.
struct Watched {
    files: Vec<Files>,
    tls: TlsServer,
    counters: Arc<Counters>,
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
    fn new(certificates: &[CertificateConfig], tls: TlsServer, counters: Arc<Counters>) -> Self {
        let files = |certificate: &CertificateConfig| {
            let read = certificate.stamps.clone();
            Files { shown: certificate.clone(), seen: read.clone(), read }
        };
        Self { files: certificates.iter().map(files).collect(), tls, counters, warned: Instant::now() }
    }

    fn look(&mut self) {
        let mut is_changed = false;
        for files in &mut self.files {
            match files.read_again() {
                Some(Ok(())) => {
                    self.counters.certificates_renewed.fetch_add(1, Ordering::Relaxed);
                    is_changed = true;
                }
                Some(Err(())) => drop(self.counters.certificates_refused.fetch_add(1, Ordering::Relaxed)),
                None => {}
            }
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
    /// Reads them again, if they have changed and are done changing: two files are not written at once. `Ok`: there is
    /// something else to show.
    fn read_again(&mut self) -> Option<Result<(), ()>> {
        let now = Stamps::of(&self.shown.cert, &self.shown.key);
        let is_quiet = now == self.seen;
        self.seen = now;
        if !is_quiet || self.seen == self.read {
            return None;
        }
        self.read = self.seen.clone();
        let CertificateConfig { cert, key, .. } = &self.shown;
        Some(match CertificateConfig::load(cert.clone(), key.clone()) {
            Ok(loaded) => {
                log::info!(
                    "certificate read again cert={} names={} valid_until={:?}",
                    cert.display(),
                    loaded.names.join(","),
                    httpdate::fmt_http_date(loaded.valid_until)
                );
                self.shown = loaded;
                Ok(())
            }
            Err(error) => {
                let file = if error.is_about_key { key } else { cert };
                log::error!("certificate not replaced, the one before stays: {} {error}", file.display());
                Err(())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn it_looks_on_after_a_panic() {
        let (changes, changed) = unbounded();
        let (looks, looked) = unbounded();
        let work = move || {
            let look = |count: &mut u32| {
                *count += 1;
                looks.send(*count).unwrap();
                assert_ne!(*count, 1, "the first look fails");
            };
            run(0, &changed, Duration::from_millis(1), look);
        };
        let thread = Builder::new().spawn(work).unwrap();
        assert_eq!(looked.recv_timeout(PATIENCE), Ok(1));
        assert_eq!(looked.recv_timeout(PATIENCE), Ok(2), "what it had seen is not forgotten");
        changes.send(100).unwrap();
        assert!(looked.iter().any(|count| count == 101), "it is still told of changes");
        drop(changes);
        thread.join().unwrap();
    }

    #[test]
    #[cfg(feature = "tls")]
    fn a_reload_starts_a_thread_that_has_ended_again() {
        let tls = TlsServer::new(&FrontConfig::default(), None).unwrap();
        let counters = Arc::new(Counters::default());
        let mut renewal = Renewal::start(&FrontConfig::default(), Some(&tls), &counters).unwrap();
        let running = renewal.running.as_mut().unwrap();
        let (changes, _) = unbounded();
        // It ends, as if it had failed.
        drop(std::mem::replace(&mut running.changes, changes));
        assert_eq!(running.alive.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
        renewal.change(&FrontConfig::default(), Some(&tls)).unwrap();
        let running = renewal.running.as_ref().unwrap();
        assert_eq!(running.alive.try_recv(), Err(crossbeam_channel::TryRecvError::Empty), "another one runs");
    }
}
