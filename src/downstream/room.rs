//! The room in which connections wait: a place for each, which every thread can put one back into, and what the threads
//! have to know of each other. The waiting room's thread looks after it, see [`waiting_room`](super::waiting_room).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::connection::{Connection, Limits};
use super::poller::{Poller, Token};
use crate::gateway::Gateway;

/// Buffers kept for bodies: 512 KiB at most.
const SPARE_BUFFERS: usize = 8;

/// A place for each connection there may be, and what the threads have to know of each other.
#[derive(Debug)]
pub(super) struct Room {
    places: Box<[Mutex<Slot>]>,
    /// Places that were used and are free again. Places beyond `unused` were never used.
    free: Mutex<Vec<u32>>,
    unused: AtomicUsize,
    /// Connections that exist, parked or not.
    open: AtomicUsize,
    pub(super) poller: Poller,
    /// Places whose connection was parked with a deadline sooner than the waiting room knows of.
    sooner: Mutex<Vec<Token>>,
    /// Listeners are not polled because all places are taken: whoever gives one up wakes the waiting room.
    is_full: AtomicBool,
    draining: AtomicBool,
    /// Nobody looks at the places any more.
    ended: AtomicBool,
    /// Exchanges whose chunked body is handed on as it comes, and how many there may be.
    streaming: AtomicUsize,
    max_streaming: usize,
    /// Buffers in which bodies were collected, for the next ones: memory that is given back is cleared by the kernel
    /// before it comes again.
    buffers: Mutex<Vec<Vec<u8>>>,
    pub(super) limits: Limits,
    pub(super) gateway: Arc<Gateway>,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Tells the connections that have this place one after the other apart.
    generation: u32,
    pub(super) parked: Option<Box<Connection>>,
    /// When the waiting room looks at this place next, if it is taken.
    pub(super) looks_at: Option<Instant>,
}

/// A connection's claim to its place. Given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    index: u32,
    generation: u32,
    streams: bool,
}

impl Place {
    pub(super) fn token(&self) -> Token {
        Token::from(self.generation & 0x7fff_ffff) << 32 | Token::from(self.index)
    }

    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Whether a chunked body may still be waiting for its grace to end.
    pub(super) fn chunked_grace_pending(&self) -> bool {
        !self.streams && self.room.streaming.load(Ordering::Relaxed) < self.room.max_streaming
    }

    /// Whether one more chunked body may be handed on as it comes; counts it until [`end_stream`](Self::end_stream).
    pub(super) fn may_stream(&mut self) -> bool {
        if self.streams {
            return true;
        }
        let max = self.room.max_streaming;
        let count = |now: usize| (now < max).then_some(now + 1);
        self.streams = self.room.streaming.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok();
        self.streams
    }

    /// The exchange with the body that was handed on as it came is over.
    pub(super) fn end_stream(&mut self) {
        if std::mem::take(&mut self.streams) {
            self.room.streaming.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end_stream();
        if let Some(slot) = self.room.places.get(self.index as usize) {
            let mut slot = lock(slot);
            slot.generation = slot.generation.wrapping_add(1);
            slot.looks_at = None;
        }
        lock(&self.room.free).push(self.index);
        let left = self.room.open.fetch_sub(1, Ordering::SeqCst) - 1;
        if self.room.is_full.load(Ordering::SeqCst)
            || (left == 0 && self.room.draining.load(Ordering::SeqCst))
        {
            self.room.poller.wake();
        }
    }
}

impl Room {
    pub(super) fn new(
        max_connections: usize,
        workers: usize,
        limits: Limits,
        gateway: Arc<Gateway>,
    ) -> io::Result<Self> {
        Ok(Self {
            places: (0..max_connections).map(|_| Mutex::default()).collect(),
            free: Mutex::default(),
            unused: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            poller: Poller::new()?,
            sooner: Mutex::default(),
            is_full: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            streaming: AtomicUsize::new(0),
            max_streaming: (workers / 4).max(1),
            buffers: Mutex::default(),
            limits,
            gateway,
        })
    }

    /// A free place. Only the waiting room's thread asks.
    pub(super) fn take_place(self: &Arc<Self>) -> Option<Place> {
        let reused = lock(&self.free).pop();
        let index = match reused {
            Some(index) => index,
            None => {
                let unused = self.unused.load(Ordering::Relaxed);
                if unused >= self.places.len() {
                    return None;
                }
                self.unused.store(unused + 1, Ordering::Relaxed);
                u32::try_from(unused).ok()?
            }
        };
        let generation = self.places.get(index as usize).map(|slot| lock(slot).generation)?;
        self.open.fetch_add(1, Ordering::SeqCst);
        Some(Place { room: Arc::clone(self), index, generation, streams: false })
    }

    /// Puts a connection back to wait. Called by workers and by the waiting room itself. Returns when the connection is
    /// due, if the waiting room would look at its place only later.
    pub(super) fn settle(&self, mut connection: Box<Connection>) -> Option<(Instant, Token)> {
        let token = connection.place.token();
        let slot = self.places.get(connection.place.index as usize)?;
        let socket = Arc::clone(connection.socket());
        let was_registered = std::mem::replace(&mut connection.registered, true);
        let mut slot = lock(slot);
        // Asked under the lock: who goes through the places after the flag was set either finds the connection there,
        // or set the flag before it is put there.
        if self.ended.load(Ordering::SeqCst) {
            drop(slot);
            return None;
        }
        let due = connection.due(&self.limits, self.is_draining());
        slot.parked = Some(connection);
        // Armed under the lock: the event can't find the slot empty.
        let armed = if was_registered {
            self.poller.arm_again(&*socket, token)
        } else {
            self.poller.add_once(&*socket, token)
        };
        if let Err(error) = armed {
            let connection = slot.parked.take();
            drop(slot);
            drop(connection);
            log::warn!("a connection was closed because it cannot be polled: {error}");
            return None;
        }
        if slot.looks_at.is_some_and(|at| at <= due) {
            return None;
        }
        slot.looks_at = Some(due);
        Some((due, token))
    }

    /// Connections that exist, parked or not.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub(super) fn has_free_places(&self) -> bool {
        self.open() < self.places.len()
    }

    /// Whether who gives a place up is to wake the waiting room.
    pub(super) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    /// Parks a connection from a worker.
    pub(super) fn park(&self, connection: Box<Connection>) {
        if let Some((_, token)) = self.settle(connection) {
            lock(&self.sooner).push(token);
            self.poller.wake();
        } else if self.draining.load(Ordering::SeqCst) {
            self.poller.wake();
        }
    }

    /// Places that [`park`](Self::park) wants looked at sooner than was planned.
    pub(super) fn take_sooner(&self) -> Vec<Token> {
        std::mem::take(&mut *lock(&self.sooner))
    }

    /// A buffer for a body, if one was kept.
    pub(super) fn spare_buffer(&self) -> Option<Vec<u8>> {
        lock(&self.buffers).pop()
    }

    /// Keeps an empty buffer, unless there are enough.
    pub(super) fn keep_buffer(&self, buffer: Vec<u8>) {
        let mut buffers = lock(&self.buffers);
        if buffers.len() < SPARE_BUFFERS {
            buffers.push(buffer);
        }
    }

    /// Tells the waiting room, and all who ask, to come to an end.
    pub(super) fn begin_drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.poller.wake();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// The place of the connection that `token` stands for, while that has it.
    pub(super) fn slot(&self, token: Token) -> Option<MutexGuard<'_, Slot>> {
        let index = u32::try_from(token & 0xffff_ffff).ok()?;
        let slot = lock(self.places.get(index as usize)?);
        let generation = u64::from(slot.generation & 0x7fff_ffff);
        (generation == token >> 32).then_some(slot)
    }

    /// All places that have been taken so far; some are free again.
    pub(super) fn used_places(&self) -> impl Iterator<Item = &Mutex<Slot>> {
        self.places.iter().take(self.unused.load(Ordering::Relaxed))
    }

    /// The connection parked at `token`, if it is still there.
    pub(super) fn take_parked(&self, token: Token) -> Option<Box<Connection>> {
        self.slot(token)?.parked.take()
    }

    /// Closes connections that are still not served, a request on them complete or not, and every one that is parked
    /// from now on.
    pub(super) fn close_what_is_parked(&self) {
        self.ended.store(true, Ordering::SeqCst);
        for slot in self.used_places() {
            // Not dropped while its place is locked: it gives that up.
            let parked = lock(slot).parked.take();
            drop(parked);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
