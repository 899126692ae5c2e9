//! What went wrong with a backend's connection → [`Cause`].

use std::io;

use crate::error::Cause;
use crate::net::tls;

/// Why there is no connection.
pub(crate) fn connect_cause(error: &io::Error, is_unresolved: bool) -> Cause {
    if let Some((fault, _)) = tls::fault(error) {
        return Cause::TlsFailed(fault);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::ConnectRefused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Cause::ConnectTimeout,
        io::ErrorKind::NotFound if is_unresolved => Cause::NameNotResolved,
        _ => Cause::ConnectFailed,
    }
}

/// Why reading from a connection that stood has failed.
pub(crate) fn read_cause(error: &io::Error) -> Cause {
    match tls::fault(error) {
        Some((fault, _)) => Cause::TlsFailed(fault),
        None => Cause::BackendClosed,
    }
}

/// The words for the log.
pub(crate) fn reason(error: &io::Error) -> String {
    tls::fault(error).map_or_else(|| error.to_string(), |(_, words)| words)
}
