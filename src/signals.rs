//! Signals: SIGHUP asks for a reload, SIGUSR1 for another file of the access log, SIGUSR2 for what
//! is being carried; the first that ends the process asks for a drain, the second ends it at once. Others that
//! other proxies take for orders end nothing.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// Exit status when a second signal cuts the drain short.
pub const FORCED_EXIT: i32 = 2;

/// Signals that reload, reopen logs or replace the program elsewhere, and that an operator or logrotate may send here too.
/// What the system does with most of them unless told is to end the process.
const ORDERS: &[std::ffi::c_int] = {
    use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH};
    &[SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH]
};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To read the configuration again.
    Reload,
    /// To open the access log again, since its file was moved away.
    Reopen,
    /// To write what is being carried to the log.
    Tell,
    /// To end. The name of the signal.
    End(&'static str),
}

/// Waits for signals. Made before anything else, so that none is missed.
#[derive(Debug)]
pub struct Signals {
    signals: signal_hook::iterator::Signals,
    /// What has come and was not told yet.
    asked: VecDeque<Asked>,
    received: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over SIGHUP, SIGUSR1, SIGUSR2 and SIGWINCH, so that they end nothing. What ends the process still does so at
    /// once.
    ///
    /// # Errors
    /// The system does not let go of one of them.
    pub fn register() -> io::Result<Self> {
        Ok(Self {
            signals: signal_hook::iterator::Signals::new(ORDERS)?,
            asked: VecDeque::new(),
            received: Arc::default(),
        })
    }

    /// Takes over SIGINT, SIGTERM and SIGQUIT (Ctrl+C where there is no Unix) too: from now on, there is something to drain.
    ///
    /// # Errors
    /// The system does not let go of one of them.
    pub fn take_over_ends(&self) -> io::Result<()> {
        for signal in TERM_SIGNALS {
            // In this order: the first signal finds the flag down and raises it, the second finds it up. Both run in the
            // signal handler itself, so the second works whatever the threads are doing.
            flag::register_conditional_shutdown(*signal, FORCED_EXIT, Arc::clone(&self.received))?;
            flag::register(*signal, Arc::clone(&self.received))?;
            self.signals.handle().add_signal(*signal)?;
        }
        Ok(())
    }

    /// Blocks until the next signal that asks for something.
    pub fn wait(&mut self) -> Asked {
        loop {
            if let Some(asked) = self.asked.pop_front() {
                return asked;
            }
            let came: Vec<_> = self.signals.wait().collect();
            self.take_in(came);
        }
    }

    /// Whether one has come that ends the process, without waiting. The next [`wait`](Self::wait) says so too.
    pub fn is_told_to_end(&mut self) -> bool {
        let came: Vec<_> = self.signals.pending().collect();
        self.take_in(came);
        self.asked.iter().any(|asked| matches!(asked, Asked::End(_)))
    }

    fn take_in(&mut self, came: Vec<std::ffi::c_int>) {
        use signal_hook::consts::{SIGHUP, SIGUSR1, SIGWINCH};
        for signal in came {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            let asked = match signal {
                SIGHUP => Asked::Reload,
                SIGUSR1 => Asked::Reopen,
                _ if TERM_SIGNALS.contains(&signal) => Asked::End(name),
                // Each time a terminal changes its size.
                SIGWINCH => {
                    log::debug!("{name} does nothing here");
                    continue;
                }
                // What is left of those taken over.
                _ => Asked::Tell,
            };
            // To end comes first; to reload twice is to reload once.
            match asked {
                Asked::End(_) => self.asked.push_front(asked),
                Asked::Reload | Asked::Reopen | Asked::Tell if self.asked.contains(&asked) => {}
                Asked::Reload | Asked::Reopen | Asked::Tell => self.asked.push_back(asked),
            }
        }
    }
}
