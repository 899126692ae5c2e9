//! The waiting room: one thread, one poller, and every connection on which nothing is happening, whose request has not
//! fully arrived, or that lingers to close. It owns every deadline of a connection that no worker holds. So a slow
//! sender costs a buffer, not a thread.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::connection::{Connection, Step};
use super::deadlines::Deadlines;
use super::poller::{Events, Token};
use super::room::{Place, Room, lock};
use crate::error::Cause;
use crate::workers::pool::{Look, Pool, TICK};

/// One read of the waiting room: a good part of a chunked body.
const SCRATCH: usize = 64 * 1024;
/// Connections accepted before others get a turn.
const ACCEPT_BATCH: usize = 64;
/// After `accept` failed for want of descriptors or memory, it is tried again this much later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Tokens of listeners begin here; those of connections are below.
const LISTENER: Token = 1 << 63;

/// The running waiting room.
#[derive(Debug)]
pub(crate) struct WaitingRoom {
    room: Arc<Room>,
    end_at: Arc<Mutex<Option<Instant>>>,
    thread: JoinHandle<()>,
}

impl WaitingRoom {
    /// Accepts from `listeners` and hands requests to `pool` until told to drain.
    pub(super) fn start(
        room: Arc<Room>,
        listeners: Vec<Socket>,
        pool: Arc<Pool<Box<Connection>>>,
    ) -> io::Result<Self> {
        for (number, listener) in listeners.iter().enumerate() {
            room.poller.add_always(listener, LISTENER | number as Token)?;
        }
        let end_at = Arc::new(Mutex::new(None));
        let mut keeper = Keeper {
            room: Arc::clone(&room),
            listeners,
            pool,
            deadlines: Deadlines::new(),
            scratch: vec![0; SCRATCH],
            accepting: Accepting::Open,
            cannot_accept: false,
            is_showing_out: false,
            end_at: Arc::clone(&end_at),
        };
        let thread = thread::Builder::new().name("waiting-room".to_owned()).spawn(move || keeper.run())?;
        Ok(Self { room, end_at, thread })
    }

    /// Takes what is in the backlog, closes the listeners and what is idle, and waits until every connection is gone,
    /// or `deadline`.
    pub(super) fn drain(self, deadline: Instant) {
        *lock(&self.end_at) = Some(deadline);
        self.room.begin_drain();
        if self.thread.join().is_err() {
            log::error!("the waiting room had panicked");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Open,
    /// All places are taken.
    Full,
    /// Until then: the system has no descriptor or memory left.
    PausedUntil(Instant),
    /// The listeners are closed.
    Ended,
}

/// What the waiting room's thread owns.
struct Keeper {
    room: Arc<Room>,
    listeners: Vec<Socket>,
    pool: Arc<Pool<Box<Connection>>>,
    deadlines: Deadlines<Token>,
    scratch: Vec<u8>,
    accepting: Accepting,
    /// `accept` has failed, and the backlog was not empty since: said once per episode.
    cannot_accept: bool,
    /// The drain has begun, and idle connections were given notice.
    is_showing_out: bool,
    end_at: Arc<Mutex<Option<Instant>>>,
}

impl Keeper {
    fn run(&mut self) {
        let mut events = Events::new();
        let mut work_waits = false;
        let mut look = Look::of_this_thread();
        loop {
            if let Err(error) = self.room.poller.wait(&mut events, self.patience(work_waits)) {
                // No bad input leads here; going on without a poller would spin.
                log::error!("the poller failed, no further request can be taken: {error}");
                return;
            }
            for token in events.tokens() {
                // A defect that one connection brings to light costs that connection, not the front door.
                let handled = catch_unwind(AssertUnwindSafe(|| self.handle(token)));
                if handled.is_err() {
                    self.room.gateway.counters.panics.fetch_add(1, Ordering::Relaxed);
                    log::error!(
                        "a connection was dropped by a panic; this is a defect of the proxy, please report it"
                    );
                }
            }
            self.note_sooner_deadlines();
            self.expire(Instant::now());
            let is_live = |at, token| self.room.slot(token).is_some_and(|slot| slot.looks_at == Some(at));
            self.deadlines.tidy(is_live);
            self.open_or_close_the_door();
            work_waits = self.pool.call_reserve(&mut look);
            if self.accepting == Accepting::Ended && (self.room.open() == 0 || self.drain_is_over()) {
                self.room.close_what_is_parked();
                return;
            }
        }
    }

    fn drain_is_over(&self) -> bool {
        lock(&self.end_at).is_none_or(|at| Instant::now() >= at)
    }

    fn handle(&mut self, token: Token) {
        if token & LISTENER != 0 {
            self.accept((token & !LISTENER) as usize);
        } else if let Some(connection) = self.room.take_parked(token) {
            self.read(connection);
        }
    }

    /// How long nothing needs to be looked at.
    fn patience(&self, work_waits: bool) -> Option<Duration> {
        let now = Instant::now();
        let paused_until = match self.accepting {
            Accepting::PausedUntil(at) => Some(at),
            _ => None,
        };
        let end_at = *lock(&self.end_at);
        let next = [self.deadlines.next(), paused_until, end_at].into_iter().flatten().min();
        let next = next.map(|at| at.saturating_duration_since(now));
        if work_waits { Some(next.map_or(TICK, |next| next.min(TICK))) } else { next }
    }

    /// Accepts what waits, a batch at most. Whether more may be waiting.
    fn accept(&mut self, number: usize) -> bool {
        for _ in 0..ACCEPT_BATCH {
            if !matches!(self.accepting, Accepting::Open) {
                return false;
            }
            let Some(listener) = self.listeners.get(number) else { return false };
            let Some(place) = self.room.take_place() else {
                self.accepting = Accepting::Full;
                self.room.set_full(true);
                self.poll_listeners(false);
                return false;
            };
            match listener.accept() {
                Ok((socket, peer)) => {
                    let unknown = || SocketAddr::from(([0, 0, 0, 0], 0));
                    let peer = peer.as_socket().unwrap_or_else(unknown);
                    self.admit(socket, peer, place);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Not at the first success: with one descriptor free now and then, this would fill the log.
                    if std::mem::take(&mut self.cannot_accept) {
                        log::info!("accepting connections again");
                    }
                    return false;
                }
                // The client was gone before it was accepted.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    drop(place);
                    if !std::mem::replace(&mut self.cannot_accept, true) {
                        log::warn!(
                            "cannot accept connections, clients wait in the backlog: {error}; raise the limit of open \
                             files (ulimit -n) or lower max_connections open={}",
                            self.room.open()
                        );
                    }
                    self.accepting = Accepting::PausedUntil(Instant::now() + ACCEPT_PAUSE);
                    self.poll_listeners(false);
                    return false;
                }
            }
        }
        true
    }

    fn admit(&mut self, socket: Socket, peer: SocketAddr, place: Place) {
        if !cfg!(target_os = "linux") {
            // Linux hands down what was set on the listener.
            drop(socket.set_tcp_nodelay(true));
        }
        let connection = Box::new(Connection::new(socket, peer, place, Instant::now()));
        // As a rule the request is here already.
        self.read(connection);
    }

    /// Reads what has arrived on a connection that nobody else holds, and decides where it goes.
    fn read(&mut self, mut connection: Box<Connection>) {
        let now = Instant::now();
        let step = connection.receive(&mut self.scratch, &self.room.limits, now);
        self.act(connection, step, now);
    }

    fn act(&mut self, mut connection: Box<Connection>, step: Step, now: Instant) {
        match step {
            Step::Wait => self.settle(connection),
            Step::Close => drop(connection),
            Step::Refuse(cause) => {
                self.room.gateway.counters.count(cause);
                log::debug!("refused client={} cause={cause}", connection.address());
                connection.refuse(cause, now);
                self.settle(connection);
            }
            Step::Ready => {
                connection.queued_at = now;
                if let Err(mut connection) = self.pool.submit(connection) {
                    self.room.gateway.counters.count(Cause::Overloaded);
                    log::debug!("refused client={} cause={}", connection.address(), Cause::Overloaded);
                    connection.refuse(Cause::Overloaded, now);
                    self.settle(connection);
                }
            }
        }
    }

    fn settle(&mut self, connection: Box<Connection>) {
        if let Some((due, token)) = self.room.settle(connection) {
            self.deadlines.insert(due, token);
        }
    }

    fn note_sooner_deadlines(&mut self) {
        for token in self.room.take_sooner() {
            if let Some(slot) = self.room.slot(token)
                && let Some(at) = slot.looks_at
            {
                self.deadlines.insert(at, token);
            }
        }
    }

    /// Looks at the places that are due.
    fn expire(&mut self, now: Instant) {
        while let Some((at, token)) = self.deadlines.pop_due(now) {
            let Some(mut slot) = self.room.slot(token) else { continue };
            if slot.looks_at != Some(at) {
                // A sooner look has taken its place.
                continue;
            }
            let Some(mut connection) = slot.parked.take() else {
                // A worker has it. When it comes back it has at least this long.
                let next = now + self.room.limits.keepalive_timeout;
                slot.looks_at = Some(next);
                drop(slot);
                self.deadlines.insert(next, token);
                continue;
            };
            slot.looks_at = None;
            drop(slot);
            let is_due = connection.due(&self.room.limits, self.room.is_draining()) <= now;
            let step = if is_due { connection.expire(&self.room.limits, now) } else { Step::Wait };
            if step == Step::Close {
                // A request that has just come in is served all the same.
                match connection.receive(&mut self.scratch, &self.room.limits, now) {
                    Step::Wait | Step::Close => drop(connection),
                    step => self.act(connection, step, now),
                }
            } else {
                self.act(connection, step, now);
            }
        }
    }

    /// Polls the listeners again when there is room or the pause is over; closes them when the drain begins.
    fn open_or_close_the_door(&mut self) {
        let may_open = match self.accepting {
            Accepting::Ended => return,
            Accepting::Open => false,
            Accepting::Full => self.room.has_free_places(),
            Accepting::PausedUntil(at) => Instant::now() >= at,
        };
        if may_open {
            self.room.set_full(false);
            self.accepting = Accepting::Open;
            self.poll_listeners(true);
        }
        if self.room.is_draining() {
            self.drain_the_backlog();
        }
    }

    fn poll_listeners(&mut self, wanted: bool) {
        for (number, listener) in self.listeners.iter().enumerate() {
            if let Err(error) = self.room.poller.report(listener, LISTENER | number as Token, wanted) {
                log::error!("a listener cannot be polled: {error}");
            }
        }
    }

    /// Everything already in the backlog is accepted, as soon as there are places for it; then the door is closed.
    fn drain_the_backlog(&mut self) {
        for number in 0..self.listeners.len() {
            while self.accept(number) {}
        }
        if self.accepting == Accepting::Open || self.drain_is_over() {
            self.accepting = Accepting::Ended;
            self.listeners.clear();
        }
        if !std::mem::replace(&mut self.is_showing_out, true) {
            self.show_out_the_idle();
        }
    }

    fn show_out_the_idle(&mut self) {
        let now = Instant::now();
        for slot in self.room.used_places() {
            let mut slot = lock(slot);
            let Some(connection) = &slot.parked else { continue };
            // Idle and lingering ones have less time from now on.
            let at = connection.due(&self.room.limits, true).max(now);
            slot.looks_at = Some(at);
            let token = slot.parked.as_ref().map(|connection| connection.place.token());
            drop(slot);
            if let Some(token) = token {
                self.deadlines.insert(at, token);
            }
        }
        self.expire(now);
    }
}
