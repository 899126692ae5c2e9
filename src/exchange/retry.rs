//! When a failed try may be followed by another (RFC 9110 §9.2.2).

use http::Method;

use crate::error::Cause;

/// How far a try had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes of the request that were handed to the kernel.
    pub sent: u64,
    /// Bytes of an answer that had arrived.
    pub received: u64,
    /// The request body can be sent once more from its beginning: there is none, or all of it is in memory.
    pub replayable: bool,
}

/// Whether the request may be sent again. Nothing of it has reached a backend: always. Else only if the backend closed
/// the connection before a byte of its answer, the method is idempotent, and the body can be had again.
#[must_use]
pub(crate) fn may_retry(method: &Method, cause: Cause, progress: Progress) -> bool {
    if !progress.replayable {
        return false;
    }
    match cause {
        _ if is_unconnected(cause) => true,
        // TLS fails before the request is sent; but a certificate of ours is found missing only after it.
        Cause::BackendClosed | Cause::TlsFailed(_) => {
            progress.received == 0 && (progress.sent == 0 || is_idempotent(method))
        }
        _ => false,
    }
}

/// Whether there was no connection that anything could have been sent on.
pub(crate) fn is_unconnected(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::ConnectRefused | Cause::ConnectTimeout | Cause::ConnectFailed | Cause::NameNotResolved
    )
}

/// RFC 9110 §9.2.2. Methods we do not know are not.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TlsFault;

    const UNTOUCHED: Progress = Progress { sent: 0, received: 0, replayable: true };
    const SENT: Progress = Progress { sent: 100, ..UNTOUCHED };

    #[test]
    fn nothing_sent_is_always_safe() {
        for cause in [
            Cause::ConnectRefused,
            Cause::ConnectTimeout,
            Cause::ConnectFailed,
            Cause::TlsFailed(TlsFault::Certificate),
            Cause::BackendClosed,
        ] {
            assert!(may_retry(&Method::POST, cause, UNTOUCHED), "{cause}");
        }
    }

    #[test]
    fn sent_is_safe_for_idempotent_methods_alone() {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE]
        {
            assert!(may_retry(&method, Cause::BackendClosed, SENT), "{method}");
        }
        for method in [Method::POST, Method::PATCH, Method::from_bytes(b"PURGE").unwrap()] {
            assert!(!may_retry(&method, Cause::BackendClosed, SENT), "{method}");
        }
    }

    #[test]
    fn never_after_a_byte_of_answer_or_a_time_out_or_a_streamed_body() {
        assert!(!may_retry(&Method::GET, Cause::BackendClosed, Progress { received: 1, ..SENT }));
        assert!(!may_retry(&Method::GET, Cause::ResponseTimeout, SENT));
        assert!(!may_retry(&Method::GET, Cause::BadResponse, SENT));
        assert!(!may_retry(&Method::POST, Cause::TlsFailed(TlsFault::Protocol), SENT));
        assert!(!may_retry(&Method::GET, Cause::ConnectRefused, Progress { replayable: false, ..UNTOUCHED }));
    }
}
