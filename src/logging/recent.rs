//! The latest lines of the log, whatever `RUST_LOG` lets through: what changed lately.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, Log, Metadata, Record};
use serde::Serialize;

/// Lines that are kept.
const LINES: usize = 100;
/// Bytes of a line that are kept.
const LONGEST: usize = 500;

/// Taken by whoever logs a line of level info or above, for a few instructions.
static RECENT: Mutex<VecDeque<RecentLine>> = Mutex::new(VecDeque::new());

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RecentLine {
    /// Seconds since 1970.
    pub at: u64,
    pub level: &'static str,
    pub text: String,
}

/// The latest lines, the newest last.
pub(crate) fn lines() -> Vec<RecentLine> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// A logger that keeps the latest lines, and hands all to another.
pub(super) struct Keeping<L>(pub(super) L);

impl<L: Log> Log for Keeping<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() <= Level::Info && record.target().starts_with("reverse_proxy") {
            keep(record);
        }
        self.0.log(record);
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn keep(record: &Record<'_>) {
    let mut text = record.args().to_string();
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    let level = match record.level() {
        Level::Error => "error",
        Level::Warn => "warn",
        _ => "info",
    };
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    if recent.len() >= LINES {
        recent.pop_front();
    }
    recent.push_back(RecentLine { at, level, text });
}
