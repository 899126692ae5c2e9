//! [`Door`]: where connections come in. All workers stand at it: the kernel wakes one that sleeps, which takes in who waits, and
//! keeps a connection unless another worker carries fewer. So a connection needs no thread between the kernel and its worker.
//!
//! When no more can be accepted, for `max_connections` or for want of descriptors, the door is shut, and nobody looks at it until
//! the thread `accept` opens it again.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use socket2::Socket;

use super::mailbox::{Accepted, Mailbox};
use super::places::{ConnectionPlace, ConnectionPlaces};
use super::turn_away::{place_of, turn_away};
use crate::config::ListenAddr;
use crate::downstream::listener::{Entrance, Listener};
use crate::exchange::gateway::Gateway;
use crate::logging::sparingly::log_sparingly;
use crate::net::poller::{Token, Waker};

/// Set in the tokens of listeners; the rest of them is the place among [`Door::listeners`].
pub(super) const LISTENER: Token = 1 << 63;
/// A worker takes in what is dealt to it many times a second. Who could not hand a connection over for so long gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket that clients connect to.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) addr: ListenAddr,
    pub(super) socket: Socket,
    pub(super) entrance: Entrance,
}

/// Why nobody is let in, if that is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    Open,
    /// `max_connections` are open.
    Full,
    /// The system has no descriptor or memory left.
    Short,
}

/// `accept` has failed, and no backlog was empty since: said once per episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Failing {
    No,
    /// And the log says so.
    Told,
    /// And the log has said so a moment ago, when it was the same.
    NotTold,
}

/// Who takes a connection in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// The worker of that number.
    Worker(usize),
    /// The thread `accept`, which keeps none.
    Accept,
}

/// What came of accepting.
#[derive(Debug)]
pub(super) enum Came {
    /// A connection that the taker keeps.
    Kept(Accepted),
    /// One that another worker has now, or that was gone already.
    Passed,
    /// The backlog is empty, or the door is shut.
    Nobody,
}

/// Shared by the workers and the thread `accept`.
#[derive(Debug)]
pub(super) struct Door {
    /// Who leaves, leaves its place empty. Workers read; the thread `accept` changes it, and so waits until no worker is at
    /// one of them.
    listeners: RwLock<Vec<Option<Listening>>>,
    workers: Vec<Mailbox>,
    places: Arc<ConnectionPlaces>,
    /// A [`State`]. Whoever opens it looks at every backlog afterwards: `SeqCst`.
    state: AtomicU8,
    /// A [`Failing`], for the log alone: `Relaxed`.
    failing: AtomicU8,
    /// Nobody will come in any more. Set after the last connection was dealt out.
    is_closed: AtomicBool,
    /// Of the thread `accept`.
    waker: Waker,
    gateway: Arc<Gateway>,
}

impl Door {
    pub(super) fn new(
        workers: Vec<Mailbox>,
        max_connections: usize,
        waker: Waker,
        gateway: Arc<Gateway>,
    ) -> Self {
        Self {
            listeners: RwLock::default(),
            workers,
            places: Arc::new(ConnectionPlaces::new(max_connections, waker.clone())),
            state: AtomicU8::new(State::Open as u8),
            failing: AtomicU8::new(Failing::No as u8),
            is_closed: AtomicBool::new(false),
            waker,
            gateway,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Option<Listening>>> {
        self.listeners.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Option<Listening>>> {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets clients in by `listener`.
    ///
    /// # Errors
    /// A worker cannot poll it.
    pub(super) fn add(&self, listener: Listener) -> io::Result<()> {
        let (addr, entrance) = (listener.addr.clone(), listener.entrance);
        let socket = listener.into_polled()?;
        let mut listeners = self.write();
        let number = listeners.iter().position(Option::is_none).unwrap_or(listeners.len());
        // An event that comes before it is in its place waits for the lock. Who waited in the backlog before is an event too.
        let token = LISTENER | number as Token;
        let added = self.workers.iter().try_for_each(|worker| worker.registry().add_listener(&socket, token));
        if let Err(error) = added {
            self.forget(&socket);
            return Err(error);
        }
        let listening = Some(Listening { addr, socket, entrance });
        match listeners.get_mut(number) {
            Some(place) => *place = listening,
            None => listeners.push(listening),
        }
        Ok(())
    }

    /// Takes away those that `is_removed` says. No worker is at them any more.
    pub(super) fn remove(&self, is_removed: impl Fn(&ListenAddr) -> bool) -> Vec<Listening> {
        let is_removed = |place: &Option<Listening>| place.as_ref().is_some_and(|it| is_removed(&it.addr));
        let removed: Vec<_> =
            self.write().iter_mut().filter(|place| is_removed(place)).filter_map(Option::take).collect();
        removed.iter().for_each(|listening| self.forget(&listening.socket));
        removed
    }

    /// No worker is told any more of who comes.
    fn forget(&self, socket: &Socket) {
        for worker in &self.workers {
            worker.registry().remove_listener(socket);
        }
    }

    /// Who comes in by these is served in another way from now on.
    pub(super) fn change(&self, changed: &[(ListenAddr, Entrance)]) {
        for listening in self.write().iter_mut().flatten() {
            if let Some((_, entrance)) = changed.iter().find(|(addr, _)| *addr == listening.addr) {
                listening.entrance = *entrance;
            }
        }
    }

    pub(super) fn places(&self) -> &ConnectionPlaces {
        &self.places
    }

    pub(super) fn state(&self) -> State {
        match self.state.load(Ordering::SeqCst) {
            0 => State::Open,
            1 => State::Full,
            _ => State::Short,
        }
    }

    /// Lets clients in again. The backlogs may hold some of whom nobody will be told.
    pub(super) fn open(&self) {
        self.state.store(State::Open as u8, Ordering::SeqCst);
    }

    /// Nobody is let in until the thread `accept` opens again.
    fn shut(&self, why: State) {
        if self.state.swap(why as u8, Ordering::SeqCst) == State::Open as u8 {
            self.gateway.counters.accept_paused.fetch_add(1, Ordering::Relaxed);
            self.waker.wake();
        }
    }

    /// Nobody will come in any more: the workers may end.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            worker.wake();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Takes in one who waits at the listener that a token is about.
    pub(super) fn accept_at(&self, token: Token, taker: Taker) -> Came {
        let number = usize::try_from(token & !LISTENER).unwrap_or(usize::MAX);
        match self.read().get(number) {
            Some(Some(listening)) => self.accept(listening, taker),
            _ => Came::Nobody,
        }
    }

    /// Takes in whoever waits anywhere, `most` at each listener, for as long as the door is open.
    pub(super) fn accept_all(&self, most: usize) {
        let listeners = self.read();
        for _ in 0..most {
            let mut came = listeners.iter().flatten().map(|listening| self.accept(listening, Taker::Accept));
            // Each in turn, to the last of them.
            if came.by_ref().filter(|came| !matches!(came, Came::Nobody)).count() == 0 {
                return;
            }
        }
    }

    /// Takes in one who waits at `listening`.
    pub(super) fn accept(&self, listening: &Listening, taker: Taker) -> Came {
        if self.state() != State::Open {
            return Came::Nobody;
        }
        let Some(mut place) = self.places.take() else {
            self.shut(State::Full);
            return Came::Nobody;
        };
        match accept_from(&listening.socket) {
            Ok((socket, peer)) => {
                let (entrance, counters) = (listening.entrance, &self.gateway.counters);
                counters.connections.fetch_add(1, Ordering::Relaxed);
                // Whose it is that comes through a balancer says its PROXY header.
                if !entrance.proxy_protocol {
                    match place_of(peer.ip(), &self.gateway) {
                        Ok(of_client) => place.of_client = of_client,
                        Err(()) => {
                            turn_away(&socket, entrance, peer.ip(), counters);
                            return Came::Passed;
                        }
                    }
                }
                self.place(socket, peer, entrance, place, taker)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Not at the first success: with one descriptor free now and then, this would fill the log.
                if self.failing.load(Ordering::Relaxed) != Failing::No as u8
                    && self.failing.swap(Failing::No as u8, Ordering::Relaxed) == Failing::Told as u8
                {
                    log::info!("accepting connections again");
                }
                Came::Nobody
            }
            // The client was gone before it was accepted.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) =>
            {
                Came::Passed
            }
            Err(error) => {
                drop(place);
                let (no, not_told) = (Failing::No as u8, Failing::NotTold as u8);
                let is_first =
                    self.failing.compare_exchange(no, not_told, Ordering::Relaxed, Ordering::Relaxed).is_ok();
                if is_first {
                    let told = log_sparingly!(
                        warn,
                        "cannot accept connections, clients wait in the backlog: {error}; raise the limit of open \
                         files (ulimit -n) or lower max_connections open={}",
                        self.places.taken()
                    );
                    if told {
                        self.failing.store(Failing::Told as u8, Ordering::Relaxed);
                    }
                }
                self.shut(State::Short);
                Came::Nobody
            }
        }
    }

    /// Finds a worker for a connection: the taker, or the one that carries the fewest.
    fn place(
        &self,
        socket: Socket,
        peer: SocketAddr,
        entrance: Entrance,
        place: ConnectionPlace,
        taker: Taker,
    ) -> Came {
        let Some(idlest) = self.workers.iter().min_by_key(|worker| worker.load()) else {
            return Came::Passed;
        };
        let own = match taker {
            Taker::Worker(number) => self.workers.get(number),
            Taker::Accept => None,
        };
        let Some(own) = own else {
            idlest.deal(idlest.accepted(socket, peer, entrance, place), PATIENCE);
            return Came::Passed;
        };
        if stays(own.load(), idlest.load()) {
            return Came::Kept(own.accepted(socket, peer, entrance, place));
        }
        match idlest.try_deal(idlest.accepted(socket, peer, entrance, place)) {
            Ok(()) => Came::Passed,
            // It has not taken in those before it. A worker waits for nobody.
            Err(back) => {
                let Accepted { socket, peer, entrance, place, .. } = *back;
                Came::Kept(own.accepted(socket, peer, entrance, place))
            }
        }
    }
}

/// Whether a connection stays with the worker that has accepted it, which carries `own`, while another carries `fewest`. Few
/// are dealt out evenly. Among many, a quarter more is no reason to wake another thread.
fn stays(own: usize, fewest: usize) -> bool {
    own - own / 4 <= fewest
}

/// Accepts one connection, non-blocking and without Nagle's algorithm.
fn accept_from(listener: &Socket) -> io::Result<(Socket, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};
    let (fd, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let socket = Socket::from(fd);
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).unwrap_or(unknown);
    // Set on the listener it would not reach who was in its backlog before.
    let _ = socket.set_tcp_nodelay(true);
    Ok((socket, peer))
}

#[cfg(test)]
mod tests {
    use super::stays;

    #[test]
    fn few_are_dealt_out_evenly_and_many_roughly() {
        let moved = |own, fewest| !stays(own, fewest);
        assert!(stays(0, 0) && moved(1, 0) && stays(1, 1) && moved(2, 1) && moved(3, 2));
        assert!(stays(4, 3) && moved(4, 2) && stays(100, 75) && moved(100, 74));
        // One that carries fewer than all others has seen an old figure of theirs.
        assert!(stays(3, 5));
    }
}
