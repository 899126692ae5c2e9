//! Signals that end the process: the first asks for a drain, the second ends it at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// Exit status when a second signal cuts the drain short.
pub const FORCED_EXIT: i32 = 2;

/// Waits for signals. Made before anything else, so that none is missed.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    signals: signal_hook::iterator::Signals,
    #[cfg(not(unix))]
    received: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over SIGINT, SIGTERM and SIGQUIT; Ctrl+C where there is no Unix.
    ///
    /// # Errors
    /// The system does not let go of one of them.
    pub fn register() -> io::Result<Self> {
        let received = Arc::new(AtomicBool::new(false));
        for signal in TERM_SIGNALS {
            // In this order: the first signal finds the flag down and raises it, the second finds it up. Both run in the
            // signal handler itself, so the second works whatever the threads are doing.
            flag::register_conditional_shutdown(*signal, FORCED_EXIT, Arc::clone(&received))?;
            flag::register(*signal, Arc::clone(&received))?;
        }
        Ok(Self {
            #[cfg(unix)]
            signals: signal_hook::iterator::Signals::new(TERM_SIGNALS)?,
            #[cfg(not(unix))]
            received,
        })
    }

    /// Blocks until the first signal and says its name.
    #[cfg(unix)]
    pub fn wait(&mut self) -> &'static str {
        let signal = self.signals.forever().next();
        signal.and_then(signal_hook::low_level::signal_name).unwrap_or("a signal")
    }

    /// Blocks until the first signal and says its name.
    #[cfg(not(unix))]
    pub fn wait(&mut self) -> &'static str {
        use std::sync::atomic::Ordering;
        // The handler can only raise a flag here.
        while !self.received.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        "Ctrl+C"
    }
}
