//! The door of the waiting room: the listeners, and whether anybody is accepted from them now.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::connection::Connection;
use super::poller::Token;
use super::room::Room;

/// After `accept` failed for want of descriptors or memory, it is tried again this much later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Tokens of listeners begin here; those of connections are below.
const LISTENER: Token = 1 << 63;

/// Which listener an event is about, if it is about one.
pub(super) fn listener_of(token: Token) -> Option<usize> {
    (token & LISTENER != 0).then_some((token & !LISTENER) as usize)
}

/// What came of accepting once.
pub(super) enum Accepted {
    Connection(Box<Connection>),
    /// The client was gone before it was accepted.
    Gone,
    /// Nobody waits, or nobody can be taken in now.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// All places are taken.
    Full,
    /// Until then: the system has no descriptor or memory left.
    PausedUntil(Instant),
    /// The listeners are closed.
    Closed,
}

/// The listeners, polled while somebody can be taken in. The waiting room's thread owns it.
#[derive(Debug)]
pub(super) struct Door {
    room: Arc<Room>,
    listeners: Vec<Socket>,
    state: State,
    /// `accept` has failed, and the backlog was not empty since: said once per episode.
    cannot_accept: bool,
}

impl Door {
    /// Lets the poller of `room` report who comes to `listeners`.
    pub(super) fn open(room: Arc<Room>, listeners: Vec<Socket>) -> io::Result<Self> {
        for (number, listener) in listeners.iter().enumerate() {
            room.poller.add_always(listener, LISTENER | number as Token)?;
        }
        Ok(Self { room, listeners, state: State::Open, cannot_accept: false })
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// For good.
    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        match self.state {
            State::PausedUntil(at) => Some(at),
            _ => None,
        }
    }

    /// How many listeners there are; none once it is closed.
    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Accepts one connection from the listener of that number.
    pub(super) fn accept(&mut self, number: usize) -> Accepted {
        if !self.is_open() {
            return Accepted::Nobody;
        }
        let Some(listener) = self.listeners.get(number) else { return Accepted::Nobody };
        let mut place = self.room.take_place();
        if place.is_none() {
            self.room.set_full(true);
            // Who gave one up a moment ago could not know that it is waited for.
            place = self.room.take_place();
            self.room.set_full(place.is_none());
        }
        let Some(place) = place else {
            self.stop_for(State::Full);
            return Accepted::Nobody;
        };
        match listener.accept() {
            Ok((socket, peer)) => {
                let unknown = || SocketAddr::from(([0, 0, 0, 0], 0));
                let peer = peer.as_socket().unwrap_or_else(unknown);
                // What was set on the listener, Linux hands down.
                Accepted::Connection(Box::new(Connection::new(socket, peer, place, Instant::now())))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Not at the first success: with one descriptor free now and then, this would fill the log.
                if std::mem::take(&mut self.cannot_accept) {
                    log::info!("accepting connections again");
                }
                Accepted::Nobody
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) =>
            {
                Accepted::Gone
            }
            Err(error) => {
                drop(place);
                if !std::mem::replace(&mut self.cannot_accept, true) {
                    log::warn!(
                        "cannot accept connections, clients wait in the backlog: {error}; raise the limit of open \
                         files (ulimit -n) or lower max_connections open={}",
                        self.room.open()
                    );
                }
                self.stop_for(State::PausedUntil(Instant::now() + ACCEPT_PAUSE));
                Accepted::Nobody
            }
        }
    }

    /// Opens again, unless it is closed, when there is room or the pause is over.
    pub(super) fn open_again(&mut self) {
        let may_open = match self.state {
            State::Closed | State::Open => false,
            State::Full => self.room.has_free_places(),
            State::PausedUntil(at) => Instant::now() >= at,
        };
        if may_open {
            self.room.set_full(false);
            self.state = State::Open;
            self.poll_listeners(true);
        }
    }

    /// Closes the listeners.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
        self.listeners.clear();
    }

    /// Takes nobody in for a while; `why` says until when.
    fn stop_for(&mut self, why: State) {
        self.state = why;
        self.poll_listeners(false);
    }

    fn poll_listeners(&self, wanted: bool) {
        for (number, listener) in self.listeners.iter().enumerate() {
            if let Err(error) = self.room.poller.report(listener, LISTENER | number as Token, wanted) {
                log::error!("a listener cannot be polled: {error}");
            }
        }
    }
}
