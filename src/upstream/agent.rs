//! The ureq agent of a backend.
use std::time::Duration;
use ureq::http::StatusCode;

/// The client of one backend.
#[derive(Debug)]
pub struct Upstream;

impl Upstream {
    /// Sends `GET path` on a connection of its own and returns the status of the answer.
    ///
    /// # Errors
    /// A sentence for the log: refused, timed out, not HTTP.
    pub fn probe(&self, _path: &str, _timeout: Duration) -> Result<StatusCode, String> { Err(String::new()) }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self { Self }
}
