//! The call this thread is making: what the transport must know of it, and what the transport learned.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::conn::Conn;
use super::pool::IdlePool;
use crate::error::Cause;

/// How long a thread waits at most before it looks whether the client is still there and the deadline still ahead.
/// Also the receive time-out of every backend socket: set once, so a request costs no `setsockopt`.
pub(crate) const SLICE: Duration = Duration::from_millis(500);

/// Time limits of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Until a connection stands.
    pub connect: Duration,
    /// From the request being sent to the response head; also for a send that makes no progress.
    pub response: Duration,
    /// Between two reads of the response body.
    pub idle: Duration,
    /// The end of the whole exchange.
    pub deadline: Option<Instant>,
}

/// One call to a backend, from before it connects until the response body is read.
#[derive(Debug)]
pub(crate) struct Call {
    pub limits: Limits,
    /// The client's socket: when it hangs up, the call is over.
    pub client: Option<Arc<Socket>>,
    /// Never take an idle connection: a try after one of those had turned out stale.
    pub fresh: bool,
    /// The request asks for an upgrade: keep the socket when ureq lets go of it.
    pub upgrade: bool,
    /// No field and no request line has more bytes: ureq's output buffer must hold each whole.
    pub longest_line: usize,
    /// A request body follows the head.
    pub body_follows: bool,
    /// The response head is here: `limits.idle` counts from now on.
    pub head_complete: bool,
    /// Read the response body without waiting: the client is owed bytes that are here already.
    pub no_wait: bool,
    /// The first bytes of the response body are waited for all the same, for a moment: see `transport::FIRST_BYTES`.
    pub body_is_due: bool,
    /// Bytes of the request body that were sent past ureq, and that it is about to send: it counts them.
    pub sent_past: usize,
    /// ureq is to give what it has of the response body and to read no more: the rest goes past it.
    pub hold_back: bool,

    /// The connection had carried an exchange before.
    pub reused: bool,
    /// Bytes of the request handed to the kernel.
    pub sent: u64,
    /// Bytes of the response read.
    pub received: u64,
    /// When the last byte of the request was sent.
    pub sent_at: Option<Instant>,
    /// The backend no longer takes the request: it has answered early, or is gone. What ureq still sends is dropped.
    pub send_broken: bool,
    /// The backend said something while the request was being sent, and it is no final answer: wait no more for one.
    pub only_interim: bool,
    /// The backend has ended its side.
    pub ended: bool,
    /// The failure is ours, not the backend's: there is no descriptor left, or no memory.
    pub is_ours: bool,
    /// What went wrong, where the transport knows better than ureq's error.
    pub failure: Option<Cause>,
    /// What the log says about it, where there is more to say than the cause.
    pub reason: Option<String>,
    /// The connection in use. It is here, not in the transport, because an upload has to see an early answer on it.
    pub conn: Option<Conn>,
    /// ureq has been held back when it had no byte left.
    pub drained: bool,
    /// ureq has bytes that it has not used.
    pub unused: bool,
    /// Where the connection goes when the answer was read to its end and the backend keeps it.
    pub idle: Option<Arc<IdlePool>>,
    /// After a 101: the connection, and the bytes that came behind the head.
    pub upgraded: Option<(Conn, Vec<u8>)>,
}

impl Call {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            client: None,
            fresh: false,
            upgrade: false,
            longest_line: 0,
            body_follows: false,
            head_complete: false,
            no_wait: false,
            body_is_due: false,
            sent_past: 0,
            hold_back: false,
            drained: false,
            unused: false,
            idle: None,
            reused: false,
            sent: 0,
            received: 0,
            sent_at: None,
            send_broken: false,
            only_interim: false,
            ended: false,
            is_ours: false,
            failure: None,
            reason: None,
            conn: None,
            upgraded: None,
        }
    }

    /// Whether ureq is to read nothing now. `is_empty`: it has used every byte it read before.
    pub(super) fn holds_back(&mut self, is_empty: bool) -> bool {
        self.drained = self.hold_back && is_empty;
        self.hold_back
    }

    /// Whether the exchange has to end now, whatever the backend does: the client hung up, or the deadline passed.
    pub(crate) fn must_end(&self, now: Instant) -> Option<Cause> {
        if self.client.as_ref().is_some_and(|client| crate::socket::has_hung_up(client)) {
            return Some(Cause::ClientLeft);
        }
        self.limits.deadline.filter(|deadline| now >= *deadline).map(|_| Cause::DeadlineExceeded)
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Makes `call` the current one of this thread until dropped.
#[derive(Debug)]
pub(crate) struct CallScope(());

impl CallScope {
    pub(crate) fn enter(call: Call) -> Self {
        CURRENT.with_borrow_mut(|current| *current = Some(call));
        Self(())
    }

    /// Looks at or changes the current call.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut Call) -> R) -> Option<R> {
        with_current(look)
    }
}

impl Drop for CallScope {
    fn drop(&mut self) {
        // Where it lies: nothing that is dropped with it asks for the current call again.
        CURRENT.with_borrow_mut(|current| *current = None);
    }
}

/// When the exchange of this thread's call has to be over, if it has to be.
pub(crate) fn deadline() -> Option<Instant> {
    with_current(|call| call.limits.deadline).flatten()
}

/// Looks at or changes the current call, if there is one. `look` must not ask for it again.
pub(crate) fn with_current<R>(look: impl FnOnce(&mut Call) -> R) -> Option<R> {
    CURRENT.with(|current| current.try_borrow_mut().ok()?.as_mut().map(look))
}
