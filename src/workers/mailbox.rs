//! [`Mailbox`]: what other threads may say to a worker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use socket2::Socket;

use super::places::ConnectionPlace;
use super::report::{Ask, WorkerLoad};
use crate::downstream::listener::Entrance;
use crate::exchange::queued::Wakeup;
use crate::exchange::sight::Sight;
use crate::net::poller::{Poller, Registry, Token, Waker};

/// Connections that may have been dealt to a worker and not taken in by it. It takes in 64 in each turn.
const ROOM: usize = 1024;

/// Questions that may wait for a worker: who asks more often gets no answer.
const ASKS: usize = 4;

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) peer: SocketAddr,
    pub(super) entrance: Entrance,
    pub(super) place: ConnectionPlace,
    pub(super) load: Load,
}

/// One connection more for its worker, from the moment it is dealt out until it is closed.
#[derive(Debug)]
pub(super) struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The side of the other threads.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    connections: Sender<Accepted>,
    drain: Sender<Instant>,
    wakeup: Wakeup,
    registry: Registry,
    /// Connections of the worker. A hint for who deals them out: `Relaxed`.
    load: Arc<AtomicUsize>,
    enquiry: Enquiry,
}

/// The side of those who want to know how the worker is. It does not keep the worker from ending.
#[derive(Clone, Debug)]
pub(super) struct Enquiry {
    asks: Sender<Ask>,
    waker: Waker,
    load: Arc<AtomicUsize>,
    report: Arc<WorkerLoad>,
}

/// Why a worker could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAsked {
    /// It has not answered questions before this one.
    Busy,
    /// It has ended, as it should: a drain comes to its end.
    Gone,
}

/// The worker's side.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Bounded: another worker keeps what does not fit in, and the thread `accept` waits.
    pub(super) connections: Receiver<Accepted>,
    pub(super) drain: Receiver<Instant>,
    pub(super) asks: Receiver<Ask>,
    pub(super) report: Arc<WorkerLoad>,
    /// At most one for each exchange that waits for a backend.
    pub(super) tokens: Receiver<Token>,
    pub(super) wakeup: Wakeup,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<(Self, Inbox, Poller)> {
        let poller = Poller::new()?;
        let (connections, from_accept) = bounded(ROOM);
        let (drain, from_main) = bounded(1);
        let (tokens, from_others) = unbounded();
        let wakeup = Wakeup { tokens, waker: poller.waker() };
        let (asks, from_curious) = bounded(ASKS);
        let report: Arc<WorkerLoad> = Arc::default();
        let load = Arc::default();
        let enquiry =
            Enquiry { asks, waker: poller.waker(), load: Arc::clone(&load), report: Arc::clone(&report) };
        let registry = poller.registry();
        let mailbox = Self { connections, drain, wakeup: wakeup.clone(), registry, load, enquiry };
        let inbox = Inbox {
            connections: from_accept,
            drain: from_main,
            asks: from_curious,
            report,
            tokens: from_others,
            wakeup,
        };
        Ok((mailbox, inbox, poller))
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// What is told to the worker of a connection that it gets.
    pub(super) fn accepted(
        &self,
        socket: Socket,
        peer: SocketAddr,
        entrance: Entrance,
        place: ConnectionPlace,
    ) -> Accepted {
        self.load.fetch_add(1, Ordering::Relaxed);
        Accepted { socket, peer, entrance, place, load: Load(Arc::clone(&self.load)) }
    }

    /// Hands a connection over; waits while the worker has not taken in those before it. Gives it up after `patience`.
    pub(super) fn deal(&self, accepted: Accepted, patience: Duration) {
        // What can't be handed over is dropped, and so closed.
        let _ = self.connections.send_timeout(accepted, patience);
        self.wakeup.waker.wake();
    }

    /// Hands a connection over, or gives it back if the worker has not taken in those before it.
    pub(super) fn try_deal(&self, accepted: Accepted) -> Result<(), Box<Accepted>> {
        self.connections.try_send(accepted).map_err(|error| Box::new(error.into_inner()))?;
        self.wakeup.waker.wake();
        Ok(())
    }

    /// Where the sockets of listeners are made known to the worker.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn enquiry(&self) -> &Enquiry {
        &self.enquiry
    }

    /// Makes the worker look around.
    pub(super) fn wake(&self) {
        self.wakeup.waker.wake();
    }

    /// Tells the worker to come to an end by `deadline`.
    pub(super) fn drain(&self, deadline: Instant) {
        let _ = self.drain.try_send(deadline);
        self.wakeup.waker.wake();
    }
}

impl Enquiry {
    /// Asks the worker for the oldest `most` of its exchanges. Where the answer comes; it may not.
    pub(super) fn ask(&self, most: usize) -> Result<Receiver<Vec<Sight>>, NotAsked> {
        let (reply, answer) = bounded(1);
        match self.asks.try_send(Ask { most, reply }) {
            Ok(()) => {
                self.waker.wake();
                Ok(answer)
            }
            Err(TrySendError::Full(_)) => Err(NotAsked::Busy),
            Err(TrySendError::Disconnected(_)) => Err(NotAsked::Gone),
        }
    }

    pub(super) fn report(&self) -> &WorkerLoad {
        &self.report
    }

    /// Connections of the worker.
    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }
}
