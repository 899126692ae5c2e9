//! What the program does once it has a configuration: a proxy runs, signals have it reload, and end it.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::config::{Config, ConfigErrors};
use crate::explain;
use crate::proxy::{Proxy, StartError};
use crate::service_manager;
use crate::signals::{Asked, Signals};

/// While a file is read, signals are looked at this often.
const LOOK: Duration = Duration::from_millis(50);
/// A file that takes longer to read is given up: a pipe that nobody writes to, a server that has gone.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Runs the proxy until a signal ends it. SIGHUP has `path` read again.
///
/// # Errors
/// Why it did not run.
pub fn run(config: Config, path: &Path, signals: Signals) -> Result<(), StartError> {
    run_until_signal(signals, Some(path), || Proxy::start(config))
}

/// Starts a proxy, and drains it `drain_delay` after the first signal that ends it. Signals are taken over before, so that
/// none is missed. `path`: what a reload reads.
pub(crate) fn run_until_signal(
    mut signals: Signals,
    path: Option<&Path>,
    start: impl FnOnce() -> Result<Proxy, StartError>,
) -> Result<(), StartError> {
    signals.take_over_ends().map_err(StartError::Signals)?;
    let mut proxy = start()?;
    service_manager::ready();
    let mut files = Files::default();
    let signal = loop {
        match signals.wait() {
            Asked::End(signal) => break signal,
            Asked::Tell => proxy.log_exchanges(),
            Asked::Reopen => proxy.reopen_access_log(),
            Asked::Reload => {
                service_manager::reloading();
                reload(path, &mut files, &mut signals, &mut proxy);
                service_manager::ready();
            }
        }
    };
    end(proxy, signal);
    Ok(())
}

/// Reads the file again and puts it to work, or says why not. An order to end comes first.
fn reload(path: Option<&Path>, files: &mut Files, signals: &mut Signals, proxy: &mut Proxy) {
    let Some(path) = path else {
        log::warn!("there is no file to read again");
        return;
    };
    let loaded = match files.load(path, signals) {
        Load::Done(loaded) => *loaded,
        Load::Interrupted => return,
        Load::Failed(why) => {
            log::error!("not reloaded: {why}; nothing was changed file={}", path.display());
            proxy.note_failed_reload(why.to_owned());
            return;
        }
    };
    match loaded {
        Err(errors) => {
            let errors = errors.to_string();
            errors.lines().for_each(|error| log::error!("{error}"));
            log::error!("not reloaded: the file has errors, and nothing was changed file={}", path.display());
            proxy.note_failed_reload(errors);
        }
        Ok(config) => match proxy.reload(&config) {
            Ok(reloaded) => {
                for key in &reloaded.pending {
                    log::warn!("{key} takes effect after a restart only");
                }
                log::info!("reloaded {reloaded}");
            }
            Err(error) => log::error!("not reloaded: {error}; nothing was changed"),
        },
    }
}

fn end(proxy: Proxy, signal: &'static str) {
    let (delay, timeout) = (proxy.drain_delay, proxy.shutdown_timeout);
    service_manager::stopping(delay + timeout);
    proxy.announce_drain();
    if !delay.is_zero() {
        log::info!(
            "draining soon signal={signal} delay_secs={} (new connections are served until then; a second signal ends at \
             once)",
            delay.as_secs_f64()
        );
        // A second signal ends the process in its handler.
        thread::sleep(delay);
    }
    let in_flight = proxy.counters().in_flight.load(Ordering::Relaxed);
    log::info!(
        "draining signal={signal} in_flight={in_flight} deadline_secs={} (a second signal ends at once)",
        timeout.as_secs_f64()
    );
    let drained = proxy.drain();
    if drained.cut > 0 {
        log::warn!(
            "shutdown_timeout of {} s is over: {} exchanges were cut",
            timeout.as_secs_f64(),
            drained.cut
        );
    } else {
        log::info!("stopped");
    }
}

/// Reads configuration files on a thread of its own, so that one that cannot be read stops nothing else.
#[derive(Debug, Default)]
struct Files {
    /// What a file that was given up will say. Nothing else is read meanwhile.
    stuck: Option<Receiver<Result<Config, ConfigErrors>>>,
}

/// What became of reading a file.
enum Load {
    Done(Box<Result<Config, ConfigErrors>>),
    /// The process was told to end.
    Interrupted,
    Failed(&'static str),
}

impl Files {
    fn load(&mut self, path: &Path, signals: &mut Signals) -> Load {
        if self.stuck.as_ref().is_some_and(Receiver::is_empty) {
            return Load::Failed("the file is still being read since an earlier signal");
        }
        self.stuck = None;
        let (loaded, done) = bounded(1);
        let path = PathBuf::from(path);
        let read = move || {
            // Nobody takes it when it has taken too long.
            let _ = loaded.send(explain::load(&path));
        };
        if thread::Builder::new().name("reload".to_owned()).spawn(read).is_err() {
            return Load::Failed("no thread can be started to read the file");
        }
        let give_up = Instant::now() + READ_WITHIN;
        loop {
            match done.recv_timeout(LOOK) {
                Ok(loaded) => return Load::Done(Box::new(loaded)),
                Err(RecvTimeoutError::Disconnected) => return Load::Failed("reading the file panicked"),
                Err(RecvTimeoutError::Timeout) if signals.is_told_to_end() => return Load::Interrupted,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= give_up => {
                    self.stuck = Some(done);
                    return Load::Failed("the file could not be read within 10 s");
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
