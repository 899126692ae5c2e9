//! The waiting room: one thread, one poller, and every connection on which nothing is happening, whose request has not
//! fully arrived, or that lingers to close. It owns every deadline of a connection that no worker holds. So a slow
//! sender costs a buffer, not a thread.
//!
//! This is the thread. Where the connections are meanwhile is [`room`](super::room), how they come in is
//! [`door`](super::door).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::connection::{Connection, Step};
use super::deadlines::Deadlines;
use super::door::{Accepted, Door, listener_of};
use super::listener::BACKLOG;
use super::poller::{Events, Token};
use super::room::{Room, lock};
use crate::error::Cause;
use crate::workers::pool::Pool;
use crate::workers::reserve::{Look, TICK};

/// One read of the waiting room: a good part of a chunked body.
const SCRATCH: usize = 64 * 1024;
/// Connections accepted before others get a turn.
const ACCEPT_BATCH: usize = 64;

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
        let door = Door::open(Arc::clone(&room), listeners)?;
        let end_at = Arc::new(Mutex::new(None));
        let mut keeper = Keeper {
            room: Arc::clone(&room),
            door,
            pool,
            deadlines: Deadlines::new(),
            scratch: vec![0; SCRATCH],
            is_showing_out: false,
            backlog_left: None,
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

/// What the waiting room's thread owns.
struct Keeper {
    room: Arc<Room>,
    door: Door,
    pool: Arc<Pool<Box<Connection>>>,
    deadlines: Deadlines<Token>,
    scratch: Vec<u8>,
    /// The drain has begun, and idle connections were given notice.
    is_showing_out: bool,
    /// How many may still be accepted from the backlogs, once the drain has begun.
    backlog_left: Option<usize>,
    end_at: Arc<Mutex<Option<Instant>>>,
}

impl Keeper {
    fn run(&mut self) {
        let mut events = Events::new();
        let mut work_waits = false;
        let mut look = Look::of_this_thread();
        loop {
            if let Err(error) = self.room.poller.wait(&mut events, self.patience(work_waits)) {
                // No bad input leads here. A proxy that takes nobody in and looks alive is worse than one that ends: nobody
                // would start it again.
                log::error!("the poller failed, no further request can be taken, the process ends: {error}");
                std::process::abort();
            }
            for token in events.tokens() {
                self.shielded(|keeper| keeper.handle(token));
            }
            self.note_sooner_deadlines();
            self.shielded(|keeper| keeper.expire(Instant::now()));
            let is_live = |at, token| self.room.slot(token).is_some_and(|slot| slot.looks_at == Some(at));
            self.deadlines.tidy(is_live);
            self.shielded(Self::open_or_close_the_door);
            work_waits = self.pool.call_reserve(&mut look);
            if self.door.is_closed() && (self.room.open() == 0 || self.drain_is_over()) {
                self.room.close_what_is_parked();
                return;
            }
        }
    }

    /// A defect that one connection brings to light costs that connection, not the front door.
    fn shielded(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.room.gateway.counters.panics.fetch_add(1, Ordering::Relaxed);
            log::error!(
                "a connection was dropped by a panic; this is a defect of the proxy, please report it"
            );
        }
    }

    fn drain_is_over(&self) -> bool {
        lock(&self.end_at).is_none_or(|at| Instant::now() >= at)
    }

    fn handle(&mut self, token: Token) {
        if let Some(number) = listener_of(token) {
            self.accept(number, ACCEPT_BATCH);
        } else if let Some(connection) = self.room.take_parked(token) {
            self.read(connection);
        }
    }

    /// How long nothing needs to be looked at.
    fn patience(&self, work_waits: bool) -> Option<Duration> {
        let now = Instant::now();
        let end_at = *lock(&self.end_at);
        let next = [self.deadlines.next(), self.door.paused_until(), end_at].into_iter().flatten().min();
        let next = next.map(|at| at.saturating_duration_since(now));
        if work_waits { Some(next.map_or(TICK, |next| next.min(TICK))) } else { next }
    }

    /// Accepts what waits, `most` at most. How many those were.
    fn accept(&mut self, number: usize, most: usize) -> usize {
        for accepted in 0..most {
            match self.door.accept(number) {
                // As a rule the request is here already.
                Accepted::Connection(connection) => self.read(connection),
                Accepted::Gone => {}
                Accepted::Nobody => return accepted,
            }
        }
        most
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
                // A worker has it. Should it come back with less time than this, that is noted then.
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

    /// Opens the door again when there is room or the pause is over; closes it when the drain begins.
    fn open_or_close_the_door(&mut self) {
        if self.door.is_closed() {
            return;
        }
        self.door.open_again();
        if self.room.is_draining() {
            self.drain_the_backlog();
        }
    }

    /// As many are accepted as can have been in the backlogs, as soon as there are places for them; then the door is
    /// closed, however many still come.
    fn drain_the_backlog(&mut self) {
        let listeners = self.door.listeners();
        // One more fits in than was asked for.
        let mut left = self.backlog_left.unwrap_or(listeners * (usize::from(BACKLOG) + 1));
        for number in 0..listeners {
            left -= self.accept(number, left);
        }
        self.backlog_left = Some(left);
        if self.door.is_open() || left == 0 || self.drain_is_over() {
            self.door.close();
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
