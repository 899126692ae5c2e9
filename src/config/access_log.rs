//! `[access_log]`.

use std::fmt;
use std::path::PathBuf;

use toml::Spanned;

use super::raw::RawAccessLog;
use super::values::Resolver;

/// A log with one line about each exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// Where the lines go.
    pub to: AccessLogTo,
    /// What they look like.
    pub format: AccessLogFormat,
}

/// Where the lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTo {
    /// `-`
    Stdout,
    /// A file, made if it is not there, and written to at its end.
    File(PathBuf),
}

/// What the lines of the access log look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// What Apache and nginx write.
    Combined,
    /// One JSON object each.
    Json,
}

/// The word in the configuration.
impl fmt::Display for AccessLogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Combined => "combined",
            Self::Json => "json",
        })
    }
}

impl Resolver<'_> {
    /// `None`: there is no log.
    pub(super) fn access_log(&mut self, raw: RawAccessLog) -> Option<AccessLogConfig> {
        const FORMATS: [AccessLogFormat; 2] = [AccessLogFormat::Combined, AccessLogFormat::Json];
        let format = raw.format.and_then(|word| self.word(&word, "access_log.format", "a format", &FORMATS));
        let to = self.access_log_to(&raw.path?)?;
        Some(AccessLogConfig { to, format: format.unwrap_or(AccessLogFormat::Combined) })
    }

    fn access_log_to(&mut self, path: &Spanned<String>) -> Option<AccessLogTo> {
        const KEY: &str = "access_log.path";
        self.note(KEY, &path.span());
        match path.get_ref().as_str() {
            "-" => Some(AccessLogTo::Stdout),
            text if text.is_empty() || text.ends_with('/') || text.contains('\0') => {
                self.refuse_text(path, KEY, "is no file; expected the path of one, or \"-\" for stdout");
                None
            }
            text => Some(AccessLogTo::File(PathBuf::from(text))),
        }
    }
}
