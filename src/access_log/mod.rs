//! The access log: one line about each exchange, written by a thread of its own. Nobody waits for it: what it cannot take
//! in time is dropped and counted.
//!
//! - `entry.rs` is what there is to say about an exchange.
//! - `combined.rs` and `json.rs` write it as a line; `time.rs` has the time of day for both.
//! - `output.rs` is where lines go: stdout, or a file that is opened again when it was moved away.

mod combined;
mod entry;
mod json;
mod output;
mod time;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{AccessLogConfig, AccessLogFormat};
use crate::counters::Counters;
use crate::logging::writer::LogWriter;

pub(crate) use entry::{Entry, RequestLine};

/// A log that is open.
#[derive(Debug)]
pub(crate) struct AccessLog {
    config: AccessLogConfig,
    writer: LogWriter,
}

impl AccessLog {
    /// Opens it, and starts the thread `access-log`.
    ///
    /// # Errors
    /// The file can't be opened, or the thread not be started.
    pub(crate) fn open(config: &AccessLogConfig, counters: &Arc<Counters>) -> io::Result<Self> {
        let output = output::open(&config.to, Arc::clone(counters))?;
        Ok(Self { config: config.clone(), writer: LogWriter::start("access-log", output)? })
    }

    /// What it was opened with.
    pub(crate) fn config(&self) -> &AccessLogConfig {
        &self.config
    }

    /// Writes what is said of an exchange as a line at the end of `out`.
    pub(crate) fn write(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        match self.config.format {
            AccessLogFormat::Combined => combined::write(entry, out),
            AccessLogFormat::Json => json::write(entry, out),
        }
    }

    /// Hands over lines. Never waits.
    pub(crate) fn send(&self, lines: Vec<u8>) {
        self.writer.send(lines);
    }

    /// Opens the file anew: what is there under its name now, or a new one.
    pub(crate) fn reopen(&self) {
        self.writer.reopen();
    }

    /// Waits until what was handed over is written, but not longer than `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
        self.writer.flush(patience);
    }
}

/// Room for a line, as most of them are: to make it bit by bit would cost more than to write the line.
const LINE: usize = 768;
/// Bytes of lines that are handed over at once, at least.
const TOGETHER: usize = 64 * 1024;

/// Lines of a worker that are handed over together.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<u8>,
    of: Option<Arc<AccessLog>>,
}

impl Lines {
    /// Adds a line for `log`.
    pub(crate) fn add(&mut self, log: &Arc<AccessLog>, entry: &Entry<'_>) {
        if self.of.as_ref().is_some_and(|of| !Arc::ptr_eq(of, log)) {
            self.hand_over();
        }
        if self.of.is_none() {
            self.of = Some(Arc::clone(log));
        }
        self.lines.reserve(LINE);
        log.write(entry, &mut self.lines);
        if self.lines.len() >= TOGETHER {
            self.hand_over();
        }
    }

    /// Hands over what there is, and waits until all that was handed over before is written where there is no room for it,
    /// for `patience` at most. For the end.
    pub(crate) fn hand_over_patiently(&mut self, patience: Duration) {
        if let Some(log) = &self.of {
            log.flush(patience);
        }
        self.hand_over();
    }

    /// All that were added have been handed over.
    pub(crate) fn is_empty(&self) -> bool {
        self.of.is_none()
    }

    /// Hands over what there is.
    pub(crate) fn hand_over(&mut self) {
        if let Some(log) = self.of.take() {
            log.send(std::mem::take(&mut self.lines));
        }
    }
}
