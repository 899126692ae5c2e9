//! The log: what `RUST_LOG` lets through, formatted by `env_logger`, written to stderr by a thread of its own.
//!
//! Nobody waits for the log. A pipe that is not read, or a disk that is slow, costs lines and nothing else.
//!
//! - `writer.rs` is the thread and the bounded channel in front of it.
//! - `filter.rs` reads `RUST_LOG`, and says what in it makes no sense.
//! - `recent.rs` keeps the latest lines, for who asks what changed lately.
//! - `panics.rs` sends panics to the log: the standard library would write them to stderr, and wait.
//! - `sparingly.rs` is for lines that would come once per event in a shortage.

mod filter;
pub(crate) mod panics;
pub(crate) mod recent;
pub(crate) mod sparingly;
pub(crate) mod writer;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use env_logger::{Builder, Target, WriteStyle};

use filter::Filter;
use recent::Keeping;
use writer::{LogWriter, Output};

/// What the last lines get to be written in when the process ends.
const FLUSH: Duration = Duration::from_millis(500);

/// Where the log goes.
struct Stderr;

impl Output for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write(bytes)
    }

    /// It has no name.
    fn reopen(&mut self) {}

    /// Tells whoever reads the log where lines are missing. Not through the logger: this must not depend on room in the
    /// channel, nor on `RUST_LOG`.
    fn lost(&mut self, lines: u64) -> io::Result<()> {
        let told = format!(
            "reverse-proxy: {lines} log line{} lost here, because stderr did not take them fast enough; if this happens \
             often, look at what reads the log, or log less with RUST_LOG=warn\n",
            if lines == 1 { " was" } else { "s were" }
        );
        writer::write_all(self, told.as_bytes()).map_err(|(_, error)| error)
    }

    /// There is nobody to tell, until it can be written again: a disk that was full.
    fn failed(&mut self, _: &io::Error) {}
}

/// Set once, by [`start`].
static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// The running log. Dropping it waits until what was logged is written, but not for long: at most half a second.
#[derive(Debug)]
pub struct Logging {
    writer: LogWriter,
}

/// Starts the thread `log`, and sends there what is logged from now on. Panics are logged too.
///
/// # Errors
/// The thread can't be started, or this process has a logger already.
pub fn start() -> io::Result<Logging> {
    let filter = Filter::read(env::var_os("RUST_LOG").as_deref());
    let writer = LogWriter::start("log", Stderr)?;
    let mut builder = Builder::new();
    builder.parse_filters(&filter.spec).write_style(write_style());
    builder.target(Target::Pipe(Box::new(writer.clone())));
    let logger = builder.build();
    let most = logger.filter().max(log::LevelFilter::Info);
    log::set_boxed_logger(Box::new(Keeping(logger))).map_err(io::Error::other)?;
    log::set_max_level(most);
    // Nobody else can have set it: there is one logger.
    let _ = WRITER.set(writer.clone());
    panics::send_to_log();
    let logging = Logging { writer };
    for complaint in filter.complaints {
        logging.say(&format!("reverse-proxy: {complaint}"));
    }
    Ok(logging)
}

impl Logging {
    /// Writes a line as it is, whatever `RUST_LOG` says.
    pub fn say(&self, text: &str) {
        self.writer.send(format!("{text}\n").into_bytes());
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.writer.flush(FLUSH);
    }
}

/// Logs an error that has to be read whatever `RUST_LOG` says: a defect, or why the process ends.
pub(crate) fn insist(text: &str) {
    if log::log_enabled!(log::Level::Error) {
        log::error!("{text}");
    } else if let Some(writer) = WRITER.get() {
        writer.send(format!("reverse-proxy: {text}\n").into_bytes());
    }
}

/// Lines of the log that could not be written in time.
pub(crate) fn lost() -> u64 {
    WRITER.get().map_or(0, LogWriter::lost)
}

/// Waits until what was logged is written, for at most half a second. For what ends the process on the spot.
pub(crate) fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.flush(FLUSH);
    }
}

/// Whether to colour. `env_logger` asks the terminal only where it writes to it itself. The same rules: what
/// `RUST_LOG_STYLE` says, else <https://no-color.org>, else <https://bixense.com/clicolors>, else on a terminal.
fn write_style() -> WriteStyle {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let coloured = match env::var("RUST_LOG_STYLE").as_deref() {
        Ok("always") => true,
        Ok("never") => false,
        _ if is_set("NO_COLOR") => false,
        _ if env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        _ if env::var_os("CLICOLOR").is_some_and(|value| value == "0") => false,
        _ => io::stderr().is_terminal() && env::var_os("TERM").is_some_and(|term| term != "dumb"),
    };
    if coloured { WriteStyle::Always } else { WriteStyle::Never }
}
