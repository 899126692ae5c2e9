//! What ureq says went wrong → [`Cause`].

use std::io;

use ureq::{Error, Timeout};

use crate::error::Cause;
use crate::exchange::tries::Failed;
use crate::upstream::shortage;

/// Why a try failed.
pub(super) fn of_try(error: &Error) -> Failed {
    let cause = match error {
        Error::Timeout(Timeout::Connect) => Cause::ConnectTimeout,
        Error::Timeout(_) => Cause::ResponseTimeout,
        Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Cause::ConnectRefused,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Cause::BackendClosed,
            _ => Cause::ConnectFailed,
        },
        Error::ConnectionFailed | Error::HostNotFound => Cause::ConnectFailed,
        Error::LargeResponseHeader(..) => Cause::ResponseHeadTooLarge,
        Error::Protocol(error) if error.to_string().contains("too many headers") => {
            Cause::ResponseHeadTooLarge
        }
        _ => Cause::BadResponse,
    };
    Failed { cause, is_ours: matches!(error, Error::Io(error) if shortage::is_ours(error)) }
}

/// Why the body of an answer broke off.
pub(super) fn of_body(error: &io::Error) -> Cause {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Error::Timeout(_)) => Cause::ResponseTimeout,
        Some(Error::Protocol(_)) => Cause::BadResponse,
        _ => Cause::BackendClosed,
    }
}
