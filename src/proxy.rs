//! Stand-in until the proxy itself is here: both functions log an error and fail.

use std::process::ExitCode;

use crate::config::Config;

/// Runs the proxy until it is told to stop.
#[must_use]
pub fn run(config: Config) -> ExitCode {
    let Config { routes, .. } = config;
    log::error!("cannot serve yet, routes={}", routes.len());
    ExitCode::FAILURE
}

/// Runs the proxy in front of built-in origins.
#[must_use]
pub fn demo() -> ExitCode {
    log::error!("cannot demonstrate yet");
    ExitCode::FAILURE
}
