//! ureq's errors → [`Cause`], case by case.

use std::io;
use std::time::Duration;

use super::call::CallScope;
use crate::error::Cause;

/// Why a call failed. What the transport noted comes first: it was there.
pub(super) fn cause(scope: &CallScope, error: &ureq::Error) -> Cause {
    if let Some(cause) = scope.with(|call| call.failure).flatten() {
        return cause;
    }
    match error {
        ureq::Error::LargeResponseHeader(..) => Cause::ResponseHeadTooLarge,
        ureq::Error::Protocol(ureq_proto_error) => {
            // The one protocol error that speaks of size: more than 128 fields.
            if format!("{ureq_proto_error:?}").contains("TooManyHeaders") {
                Cause::ResponseHeadTooLarge
            } else {
                Cause::BadResponse
            }
        }
        ureq::Error::Io(error) => io_cause(error),
        ureq::Error::Timeout(_) => Cause::ResponseTimeout,
        ureq::Error::BodyStalled => Cause::BadResponse,
        _ => Cause::Internal,
    }
}

/// Why reading a response body failed.
pub(super) fn body_cause(scope: &CallScope, error: &io::Error) -> Cause {
    if let Some(cause) = scope.with(|call| call.failure).flatten() {
        return cause;
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        Some(inner) => cause(scope, inner),
        None => io_cause(error),
    }
}

fn io_cause(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::ConnectRefused,
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Cause::BackendClosed,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Cause::ResponseTimeout,
        _ => Cause::BadResponse,
    }
}

/// What the log says of a failed probe.
pub(super) fn probe_reason(scope: &CallScope, error: &ureq::Error, timeout: Duration) -> String {
    match cause(scope, error) {
        Cause::ConnectRefused => "connection refused".to_owned(),
        Cause::ConnectTimeout | Cause::ResponseTimeout | Cause::DeadlineExceeded => {
            format!("timed out after {} s", timeout.as_secs_f64())
        }
        Cause::BackendClosed => "closed the connection without an answer".to_owned(),
        Cause::NameNotResolved => "its name has no address".to_owned(),
        Cause::TlsFailed(_) => {
            let reason = scope.with(|call| call.reason.take()).flatten();
            format!("TLS failed: {}", reason.unwrap_or_else(|| error.to_string()))
        }
        _ => error.to_string(),
    }
}
