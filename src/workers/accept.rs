//! The thread `accept`: takes connections from all listeners and deals them out to the workers, fewest first.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use socket2::Socket;

use super::mailbox::Mailbox;
use super::turn_away::{place_of, turn_away};
use super::turns;
use crate::config::ListenAddr;
use crate::downstream::listener::{BACKLOG, Change, Entrance, Listener};
use crate::downstream::per_client::ClientPlace;
use crate::exchange::gateway::Gateway;
use crate::logging::sparingly::log_sparingly;
use crate::net::poller::{Events, Poller, Token, Waker};

/// After `accept` failed for want of descriptors or memory, it is tried again this much later.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted from one listener before the others get a turn.
const BATCH: usize = 64;
/// A worker takes in what is dealt to it many times a second. Who could not hand a connection over for so long gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The running thread.
#[derive(Debug)]
pub(super) struct Accept {
    orders: Sender<Order>,
    waker: Waker,
    thread: JoinHandle<()>,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    /// Take what is in the backlogs, until then, and close the listeners.
    Drain(Instant),
    Change(Change),
}

/// `max_connections`.
#[derive(Debug)]
struct Places {
    /// Written by the thread alone: `Relaxed`.
    max: AtomicUsize,
    taken: AtomicUsize,
    /// The thread waits for a place. Both sides change one of the two and then read the other: `SeqCst`.
    is_full: AtomicBool,
    waker: Waker,
}

/// One of them. Given back when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPlace {
    of_all: Arc<Places>,
    /// One of those of its client, if they are counted.
    pub(super) of_client: Option<ClientPlace>,
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.of_all.taken.fetch_sub(1, Ordering::SeqCst);
        if self.of_all.is_full.swap(false, Ordering::SeqCst) {
            self.of_all.waker.wake();
        }
    }
}

#[cfg(test)]
impl ConnectionPlace {
    /// The only one.
    pub(super) fn for_tests(waker: Waker) -> Self {
        let places = Places {
            max: AtomicUsize::new(1),
            taken: AtomicUsize::new(1),
            is_full: AtomicBool::new(false),
            waker,
        };
        Self { of_all: Arc::new(places), of_client: None }
    }
}

fn take_place(places: &Arc<Places>) -> Option<ConnectionPlace> {
    let max = places.max.load(Ordering::Relaxed);
    let one_more = |taken| (taken < max).then_some(taken + 1);
    places.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
    Some(ConnectionPlace { of_all: Arc::clone(places), of_client: None })
}

impl Accept {
    pub(super) fn start(
        listeners: Vec<Listener>,
        workers: Vec<Mailbox>,
        max_connections: usize,
        gateway: Arc<Gateway>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let waker = poller.waker();
        let (orders, from_main) = unbounded();
        let places = Places {
            max: AtomicUsize::new(max_connections),
            taken: AtomicUsize::new(0),
            is_full: AtomicBool::new(false),
            waker: waker.clone(),
        };
        let mut door = Door {
            poller,
            listeners: Vec::new(),
            workers,
            places: Arc::new(places),
            state: State::Open,
            cannot_accept: CannotAccept::No,
            orders: from_main,
            gateway,
            drain_until: None,
        };
        for listener in listeners {
            door.add(listener)?;
        }
        let thread = thread::Builder::new().name("accept".to_owned()).spawn(move || {
            let mut events = Events::new();
            let counters = Arc::clone(&door.gateway.counters);
            turns::run("the accept thread", &counters, || door.turn(&mut events));
        })?;
        Ok(Self { orders, waker, thread })
    }

    /// After a reload.
    pub(super) fn change(&self, change: Change) {
        let _ = self.orders.send(Order::Change(change));
        self.waker.wake();
    }

    /// Takes what is in the backlogs, and closes the listeners.
    pub(super) fn drain(self, deadline: Instant) {
        let _ = self.orders.send(Order::Drain(deadline));
        self.waker.wake();
        if self.thread.join().is_err() {
            log::error!("the accept thread had panicked");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// `max_connections` are open.
    Full,
    /// Until then: the system has no descriptor or memory left.
    PausedUntil(Instant),
}

/// A listener among those of the thread.
struct Listening {
    addr: ListenAddr,
    socket: Socket,
    entrance: Entrance,
    /// A reload has removed it: it closes as soon as its backlog is empty.
    is_removed: bool,
}

/// What the thread owns.
struct Door {
    poller: Poller,
    /// The poller's tokens are their places: who leaves, leaves it empty.
    listeners: Vec<Option<Listening>>,
    workers: Vec<Mailbox>,
    places: Arc<Places>,
    state: State,
    /// `accept` has failed, and the backlog was not empty since: said once per episode.
    cannot_accept: CannotAccept,
    orders: Receiver<Order>,
    gateway: Arc<Gateway>,
    /// The drain has begun, and ends then.
    drain_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CannotAccept {
    No,
    /// And the log says so.
    Told,
    /// And the log has said so a moment ago, when it was the same.
    NotTold,
}

impl Door {
    /// Waits until there is something to do, and does it. The last turn is the drain.
    fn turn(&mut self, events: &mut Events) -> ControlFlow<()> {
        if let Some(deadline) = self.drain_until {
            self.drain_backlogs(deadline);
            return ControlFlow::Break(());
        }
        let paused = match self.state {
            State::PausedUntil(at) => Some(at.saturating_duration_since(Instant::now())),
            State::Open | State::Full => None,
        };
        self.poller.about_to_sleep();
        let patience = if self.orders.is_empty() && !self.may_open() { paused } else { Some(Duration::ZERO) };
        if let Err(error) = self.poller.wait(events, patience) {
            turns::poller_failed("no connection can be accepted", &error);
        }
        self.open_again();
        for event in events.iter() {
            self.accept(usize::try_from(event.token).unwrap_or(usize::MAX), BATCH);
        }
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Drain(deadline) => self.drain_until = Some(deadline),
                Order::Change(change) => self.change(change),
            }
        }
        ControlFlow::Continue(())
    }

    fn add(&mut self, listener: Listener) -> io::Result<()> {
        let (addr, entrance) = (listener.addr.clone(), listener.entrance);
        let socket = listener.into_polled()?;
        let free = self.listeners.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            self.listeners.push(None);
            self.listeners.len() - 1
        });
        self.poller.add_listener(&socket, number as Token)?;
        if self.state != State::Open {
            self.poller.report_listener(&socket, number as Token, false)?;
        }
        if let Some(place) = self.listeners.get_mut(number) {
            *place = Some(Listening { addr, socket, entrance, is_removed: false });
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        self.places.max.store(change.max_connections, Ordering::Relaxed);
        for listener in self.listeners.iter_mut().flatten() {
            listener.is_removed |= change.removed.contains(&listener.addr);
            if let Some((_, entrance)) = change.changed.iter().find(|(addr, _)| *addr == listener.addr) {
                listener.entrance = *entrance;
            }
        }
        self.close_removed();
        for listener in change.added {
            let addr = listener.addr.clone();
            if let Err(error) = self.add(listener) {
                log::error!("cannot listen on {addr}: {error}");
            }
        }
    }

    /// Closes the listeners that are removed, after their backlogs: closing resets who waits there. While no connection can
    /// be accepted they wait.
    fn close_removed(&mut self) {
        for number in 0..self.listeners.len() {
            if self.listeners.get(number).is_some_and(|place| place.as_ref().is_some_and(|it| it.is_removed))
            {
                self.accept(number, usize::from(BACKLOG));
                if self.state == State::Open
                    && let Some(place) = self.listeners.get_mut(number)
                {
                    *place = None;
                }
            }
        }
    }

    /// Accepts what waits, `most` at most. How many those were.
    fn accept(&mut self, number: usize, most: usize) -> usize {
        for accepted in 0..most {
            if self.state != State::Open || !self.accept_one(number) {
                return accepted;
            }
        }
        most
    }

    /// Whether another one may wait.
    fn accept_one(&mut self, number: usize) -> bool {
        let Some(Some(Listening { socket: listener, entrance, .. })) = self.listeners.get(number) else {
            return false;
        };
        let Some(mut place) = take_place(&self.places) else {
            self.places.is_full.store(true, Ordering::SeqCst);
            self.stop_for(State::Full);
            return false;
        };
        match accept_from(listener) {
            Ok((socket, peer)) => {
                let counters = &self.gateway.counters;
                counters.connections.fetch_add(1, Ordering::Relaxed);
                // Whose it is that comes through a balancer says its PROXY header.
                if !entrance.proxy_protocol {
                    match place_of(peer.ip(), &self.gateway) {
                        Ok(of_client) => place.of_client = of_client,
                        Err(()) => {
                            turn_away(&socket, *entrance, peer.ip(), counters);
                            return true;
                        }
                    }
                }
                if let Some(worker) = self.workers.iter().min_by_key(|worker| worker.load()) {
                    worker.deal(socket, peer, *entrance, place, PATIENCE);
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Not at the first success: with one descriptor free now and then, this would fill the log.
                if std::mem::replace(&mut self.cannot_accept, CannotAccept::No) == CannotAccept::Told {
                    log::info!("accepting connections again");
                }
                false
            }
            // The client was gone before it was accepted.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) =>
            {
                true
            }
            Err(error) => {
                drop(place);
                if self.cannot_accept == CannotAccept::No {
                    let told = log_sparingly!(
                        warn,
                        "cannot accept connections, clients wait in the backlog: {error}; raise the limit of open \
                         files (ulimit -n) or lower max_connections open={}",
                        self.places.taken.load(Ordering::Relaxed)
                    );
                    self.cannot_accept = if told { CannotAccept::Told } else { CannotAccept::NotTold };
                }
                self.stop_for(State::PausedUntil(Instant::now() + PAUSE));
                false
            }
        }
    }

    fn may_open(&self) -> bool {
        match self.state {
            State::Open => false,
            State::Full => self.places.taken.load(Ordering::SeqCst) < self.places.max.load(Ordering::Relaxed),
            State::PausedUntil(at) => Instant::now() >= at,
        }
    }

    fn open_again(&mut self) {
        if self.may_open() {
            self.state = State::Open;
            self.places.is_full.store(false, Ordering::SeqCst);
            self.report_listeners(true);
            self.close_removed();
        }
    }

    fn stop_for(&mut self, why: State) {
        self.gateway.counters.accept_paused.fetch_add(1, Ordering::Relaxed);
        self.state = why;
        self.report_listeners(false);
    }

    fn report_listeners(&self, wanted: bool) {
        for (number, listener) in self.listeners.iter().enumerate() {
            let Some(Listening { socket: listener, .. }) = listener else { continue };
            if let Err(error) = self.poller.report_listener(listener, number as Token, wanted) {
                log_sparingly!(error, "a listener cannot be polled: {error}");
            }
        }
    }

    /// As many are accepted as can have been in the backlogs, as soon as there are places for them; however many still come.
    fn drain_backlogs(&mut self, deadline: Instant) {
        let mut events = Events::new();
        // One more fits in than was asked for.
        let mut left = self.listeners.len() * (usize::from(BACKLOG) + 1);
        while left > 0 && Instant::now() < deadline {
            let before = left;
            for number in 0..self.listeners.len() {
                left -= self.accept(number, left);
            }
            if self.state == State::Open {
                if before == left {
                    return;
                }
                continue;
            }
            self.poller.about_to_sleep();
            if !self.may_open() {
                let until = match self.state {
                    State::PausedUntil(at) => at.min(deadline),
                    State::Open | State::Full => deadline,
                };
                let left = until.saturating_duration_since(Instant::now());
                if self.poller.wait(&mut events, Some(left)).is_err() {
                    return;
                }
            }
            self.open_again();
        }
    }
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
