//! One `tiny_http::Server`, and the thread that puts its requests into the queue.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use tiny_http::Request;

use super::client::MAX_LENGTH;
use super::worker;
use crate::config::ListenAddr;
use crate::downstream::listener::Listener;
use crate::error::Cause;
use crate::exchange::gateway::Gateway;

/// The thread looks after this long whether it was told to stop, should the wake-up get lost.
const LOOK_UP: Duration = Duration::from_millis(500);

/// The running thread.
pub(super) struct Server {
    addr: ListenAddr,
    tiny_http: Arc<tiny_http::Server>,
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Server {
    pub(super) fn start(
        listener: Listener,
        queue: Sender<Request>,
        gateway: Arc<Gateway>,
    ) -> io::Result<Self> {
        let addr = listener.addr.clone();
        let tiny_http = tiny_http::Server::from_listener(listener.into_std()?, None);
        let tiny_http = Arc::new(tiny_http.map_err(|error| io::Error::other(error.to_string()))?);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (server, stop) = (Arc::clone(&tiny_http), Arc::clone(&is_stopped));
        let thread = thread::Builder::new()
            .name("tiny-http".to_owned())
            .spawn(move || receive(&server, &queue, &gateway, &stop))?;
        Ok(Self { addr, tiny_http, is_stopped, thread })
    }

    pub(super) fn addr(&self) -> &ListenAddr {
        &self.addr
    }

    /// Stops accepting. What has been received is in the queue.
    pub(super) fn stop(self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.tiny_http.unblock();
        if self.thread.join().is_err() {
            log::error!("the tiny-http thread had panicked");
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addr", &self.tiny_http.server_addr()).finish_non_exhaustive()
    }
}

fn receive(server: &tiny_http::Server, queue: &Sender<Request>, gateway: &Gateway, is_stopped: &AtomicBool) {
    loop {
        match server.recv_timeout(LOOK_UP) {
            Ok(Some(request)) => admit(request, queue, gateway, is_stopped),
            Ok(None) if is_stopped.load(Ordering::SeqCst) => return,
            Ok(None) => {}
            Err(error) => {
                // The accept loop of tiny_http has ended; what it had accepted is still served.
                log::error!(
                    "tiny_http accepts no further connections: {error}; restart the proxy, or use engine = \"native\""
                );
                return;
            }
        }
    }
}

/// Puts a request into the queue. If that is full, one without a body is refused; one with a body waits for a place, since it
/// can only be answered when all of its body was read, and nobody else is let in meanwhile either way.
fn admit(request: Request, queue: &Sender<Request>, gateway: &Gateway, is_stopped: &AtomicBool) {
    if request.body_length().is_some_and(|length| length as u64 > MAX_LENGTH) {
        gateway.counters.count(Cause::BodyTooLarge);
        log::warn!(
            "a request of more than {MAX_LENGTH} bytes was given up, and its connection is never closed"
        );
        // Dropping it would allocate them.
        std::mem::forget(request);
        return;
    }
    let mut waiting = match queue.try_send(request) {
        Ok(()) => return,
        Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) => request,
    };
    if !has_body(&waiting) {
        return worker::refuse(waiting, Cause::Overloaded, gateway);
    }
    while !is_stopped.load(Ordering::SeqCst) {
        match queue.send_timeout(waiting, LOOK_UP) {
            Ok(()) => return,
            Err(error) => waiting = error.into_inner(),
        }
    }
    // The proxy ends, and to drop the request would be to wait for its body.
    std::mem::forget(waiting);
}

fn has_body(request: &Request) -> bool {
    let is_coded = request.headers().iter().any(|field| field.field.equiv("Transfer-Encoding"));
    is_coded || request.body_length().is_some_and(|length| length > 0)
}
