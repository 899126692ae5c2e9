//! The native way in: what a worker does with a connection from the waiting room.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method};
use socket2::Socket;

use super::answer;
use super::connection::{CONTINUE, Connection, Step};
use super::exchange::{Client, End};
use crate::error::Cause;
use crate::gateway::Gateway;
use crate::http::head::{HeadLimits, Version};
use crate::socket::{Pipe, Ready, has_hung_up, send_now, wait};
use crate::upstream::call::{self, SLICE};
use crate::upstream::forward::{BodyWait, wait_for_body};
use crate::upstream::tunnel::Tunnel;
use crate::workers::pool::Worker;

/// How long a worker waits for the next request on a connection when there is nothing else to do. Set as the receive
/// time-out of the listener, which connections inherit.
pub(super) const LINGER: Duration = Duration::from_millis(1);
/// After so long in the queue a client may have given up.
const STALE: Duration = Duration::from_millis(500);

/// Serves the request that is ready on `connection`, and those that follow at once; then parks it.
pub(super) fn serve(mut connection: Box<Connection>, worker: Worker<'_>, gateway: &Gateway) {
    let room = Arc::clone(connection.place.room());
    let mut now = Instant::now();
    if now.duration_since(connection.queued_at) > STALE && has_hung_up(connection.socket()) {
        // Who gave up while the workers were held is not worth a backend's time.
        gateway.counters.count(Cause::ClientLeft);
        return;
    }
    loop {
        let end = serve_one(&mut connection, &room.limits.head, gateway, now);
        connection.place.end_stream();
        match end {
            End::KeepAlive => {}
            End::Close if connection.can_close_at_once() => return,
            End::Close => {
                connection.begin_linger(Instant::now());
                room.park(connection);
                return;
            }
            End::Tunnel(tunnel) => {
                start_tunnel(connection, *tunnel, gateway);
                return;
            }
            // Closed at once, so that the client sees the answer break off.
            End::Broken => return,
        }
        let may_linger = connection.input.is_empty() && worker.may_linger() && !room.is_draining();
        let is_gone = may_linger && !linger(&mut connection);
        // Read once for both: the end of this exchange and the beginning of the next.
        now = Instant::now();
        connection.next_request(now);
        let step = if is_gone {
            Step::Close
        } else if connection.input.is_empty() {
            Step::Wait
        } else {
            connection.advance_on(&room.limits, now)
        };
        match step {
            Step::Ready => worker.begin_exchange(now),
            Step::Wait => {
                room.park(connection);
                return;
            }
            Step::Close => return,
            Step::Refuse(cause) => {
                gateway.counters.count(cause);
                log::debug!("refused client={} cause={cause}", connection.address());
                connection.refuse(cause, now);
                room.park(connection);
                return;
            }
        }
    }
}

/// Hands the connection over to a thread of its own. What came behind the client's head goes with it.
fn start_tunnel(mut connection: Box<Connection>, tunnel: Tunnel, gateway: &Gateway) {
    let client = Arc::clone(connection.socket());
    let early = std::mem::take(&mut connection.input);
    if let Err(error) = gateway.tunnels.start(tunnel, client, early, connection) {
        log::warn!("a tunnel was closed because its thread cannot be started: {error}");
    }
}

/// Waits a moment for the next request and takes in what comes: cheaper than to park and be called again, if it comes
/// soon. Whether the client is still there.
fn linger(connection: &mut Connection) -> bool {
    match connection.await_bytes() {
        Ok(n) => n > 0,
        Err(error) => matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
        ),
    }
}

fn serve_one(connection: &mut Connection, limits: &HeadLimits, gateway: &Gateway, now: Instant) -> End {
    match connection.take_head(limits, now) {
        Ok(head) => {
            let owes_continue = head.expect_continue && !connection.told_to_continue;
            let mut client = NativeClient { connection, owes_continue, wrote: false };
            // A panic is caught here, where the client can still be answered, if it was not yet.
            let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                gateway.serve(&head, &mut client, now)
            }));
            match served {
                Ok(end) => end,
                Err(panic) => {
                    if !client.wrote {
                        let is_head = head.method == Method::HEAD;
                        drop(client.write(&answer::refusal(Cause::Internal, head.version, is_head, false)));
                    }
                    // The connection is dropped, and the pool counts and reports.
                    std::panic::resume_unwind(panic);
                }
            }
        }
        Err(error) => {
            let cause = Cause::Head(error);
            gateway.counters.count(cause);
            log::debug!("refused client={} cause={cause}", connection.address());
            let bytes = answer::refusal(cause, Version::Http11, false, false);
            match (&mut &**connection.socket()).write_all(&bytes) {
                Ok(()) => End::Close,
                Err(_) => End::Broken,
            }
        }
    }
}

/// The client of one exchange.
struct NativeClient<'a> {
    connection: &'a mut Connection,
    /// It waits for `100 Continue`.
    owes_continue: bool,
    /// Bytes of an answer were written.
    wrote: bool,
}

impl NativeClient<'_> {
    /// Calls `read`, which does not wait for the client, until it has something, the client is too slow or gone, or the
    /// backend has answered.
    fn read_by(
        &mut self,
        mut read: impl FnMut(&mut Connection, &Socket) -> Result<Option<usize>, Cause>,
    ) -> Result<Option<usize>, Cause> {
        let limits = self.connection.place.room().limits;
        if self.owes_continue && self.connection.body.is_untouched() {
            let socket = self.connection.socket();
            (&mut &**socket).write_all(CONTINUE).map_err(|_| Cause::ClientLeft)?;
        }
        self.owes_continue = false;
        let connection = &mut *self.connection;
        let socket = Arc::clone(connection.socket());
        connection.body.pace.resume(Instant::now());
        loop {
            if let Some(n) = read(connection, &socket)? {
                return Ok(Some(n));
            }
            let now = Instant::now();
            if connection.body.pace.is_too_slow(now, limits.read_timeout, limits.min_body_rate) {
                return Err(Cause::BodyTimeout);
            }
            let due = connection.body.pace.due(limits.read_timeout, limits.min_body_rate);
            let deadline = call::deadline();
            if deadline.is_some_and(|at| now >= at) {
                return Err(Cause::DeadlineExceeded);
            }
            let due = deadline.map_or(due, |at| at.min(due));
            let limit = due.saturating_duration_since(now).clamp(Duration::from_millis(1), SLICE);
            match wait_for_body(&socket, limit) {
                Ok(BodyWait::EarlyAnswer) => return Ok(None),
                Ok(BodyWait::Client | BodyWait::TimedOut) => {}
                Err(_) => return Err(Cause::ClientLeft),
            }
        }
    }
}

impl Client for NativeClient<'_> {
    fn address(&self) -> IpAddr {
        self.connection.address()
    }

    fn forwarded_for(&self) -> &HeaderValue {
        self.connection.forwarded_for()
    }

    fn socket(&self) -> Option<&Arc<Socket>> {
        Some(self.connection.socket())
    }

    fn read_body(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Cause> {
        self.read_by(|connection, socket| connection.body.read(buf, &mut connection.input, socket))
    }

    fn can_fill(&self) -> bool {
        let Connection { body, input, .. } = &*self.connection;
        !body.is_chunked() && body.held().is_empty() && input.is_empty()
    }

    fn fill_with_body(&mut self, pipe: &mut Pipe) -> Result<Option<usize>, Cause> {
        // A read from the socket waits, but for no longer than `LINGER`: where the rest is on its way, that saves
        // asking both sockets.
        self.read_by(|connection, socket| connection.body.fill(pipe, socket))
    }

    fn held_body(&self) -> &[u8] {
        self.connection.body.held()
    }

    fn consume_body(&mut self, n: usize) {
        self.connection.body.consume(n);
    }

    fn rewind_body(&mut self) -> bool {
        self.connection.body.rewind()
    }

    fn can_keep_alive(&self) -> bool {
        self.connection.body.is_all_received()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wrote = true;
        let socket = self.connection.socket();
        let Some(deadline) = call::deadline() else {
            return (&mut &**socket).write_all(bytes);
        };
        let mut rest = bytes;
        send_until(deadline, socket, || {
            let n = send_now(socket, rest, false)?;
            rest = rest.get(n..).unwrap_or_default();
            Ok(rest.is_empty())
        })
    }

    fn pour(&mut self, pipe: &mut Pipe) -> io::Result<()> {
        self.wrote = true;
        let socket = self.connection.socket();
        if let Some(deadline) = call::deadline() {
            return send_until(deadline, socket, || {
                pipe.pour_now(socket)?;
                Ok(pipe.is_empty())
            });
        }
        while !pipe.is_empty() {
            match pipe.pour(socket) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Calls `send`, which does not wait, until it has sent all, until `deadline`, or until nothing has been taken for the
/// write time-out of the socket.
fn send_until(
    deadline: Instant,
    socket: &Socket,
    mut send: impl FnMut() -> io::Result<bool>,
) -> io::Result<()> {
    let mut stuck_since = None;
    loop {
        match send() {
            Ok(true) => return Ok(()),
            Ok(false) => stuck_since = None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let now = Instant::now();
                let patience = socket.write_timeout()?.unwrap_or(Duration::MAX);
                let left = patience.saturating_sub(now - *stuck_since.get_or_insert(now));
                let left = left.min(deadline.saturating_duration_since(now));
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                wait(&mut [(socket, Ready { writable: true, ..Ready::default() })], left)?;
            }
            Err(error) => return Err(error),
        }
    }
}
