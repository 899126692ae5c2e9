//! Where the lines of the access log go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::AccessLogTo;
use crate::counters::Counters;
use crate::logging::sparingly::log_sparingly;
use crate::logging::writer::Output;

/// An open log.
pub(super) struct OpenLog {
    out: File,
    /// `None`: stdout.
    path: Option<PathBuf>,
    counters: Arc<Counters>,
}

/// Opens it.
///
/// # Errors
/// The file can be neither opened nor made.
pub(super) fn open(to: &AccessLogTo, counters: Arc<Counters>) -> io::Result<OpenLog> {
    Ok(match to {
        // Not std's: its buffer would hide how much was written to a pipe that is not to be waited for.
        AccessLogTo::Stdout => {
            OpenLog { out: File::from(rustix::io::dup(io::stdout())?), path: None, counters }
        }
        AccessLogTo::File(path) => OpenLog { out: open_file(path)?, path: Some(path.clone()), counters },
    })
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Opening a pipe that nobody reads would wait for ever; this way it is an error.
        let no_wait = rustix::fs::OFlags::NONBLOCK.bits();
        options.mode(0o640).custom_flags(no_wait.cast_signed());
    }
    options.open(path)
}

impl Output for OpenLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open_file(path) {
            Ok(file) => {
                self.out = file;
                log::info!("access log opened again path={}", path.display());
            }
            Err(error) => {
                let path = path.display();
                log::warn!("the access log stays in the file that is open: cannot open {path}: {error}");
            }
        }
    }

    fn lost(&mut self, lines: u64) -> io::Result<()> {
        self.counters.access_log_lost.fetch_add(lines, Ordering::Relaxed);
        let path = self.path.as_deref().unwrap_or(Path::new("-"));
        log_sparingly!(
            warn,
            "lines of the access log were lost, because they could not be written in time: look at the disk, or at what \
             reads them path={} lines={lines}",
            path.display()
        );
        Ok(())
    }

    fn failed(&mut self, error: &io::Error) {
        let path = self.path.as_deref().unwrap_or(Path::new("-"));
        log_sparingly!(warn, "cannot write the access log path={}: {error}", path.display());
    }
}
