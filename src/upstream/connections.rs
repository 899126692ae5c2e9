//! [`Upstreams`]: a worker's connections to backends, in use and idle.
//!
//! Each is known to the worker's poller from its beginning to its end, so that one that hangs up while it is idle is
//! closed before anybody uses it.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::address::{IdlePlace, Upstream};
use super::connection::UpstreamConnection;
use super::shortage;
use crate::net::poller::{Event, Poller, Token};
use crate::net::slab::Slab;

/// Set in the tokens of connections to backends.
pub(crate) const BACKEND: Token = 1 << 62;

/// How often idle connections are looked at for their age, while there are any.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Slot {
    /// By the client of this token.
    Used(Token),
    Idle(Box<Idle>),
}

#[derive(Debug)]
struct Idle {
    connection: Box<UpstreamConnection>,
    since: Instant,
    max_age: Duration,
    _place: IdlePlace,
}

/// All connections of one worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    poller: Rc<Poller>,
    slots: Slab<Slot>,
    /// The idle ones of each backend, the newest last. Some of the tokens mean nothing any more.
    idle: HashMap<usize, Vec<Token>>,
    swept: Option<Instant>,
}

impl Upstreams {
    pub(crate) fn new(poller: Rc<Poller>) -> Self {
        Self { poller, slots: Slab::new(BACKEND), idle: HashMap::new(), swept: None }
    }

    /// The most recently used idle connection on which the backend has neither spoken nor hung up, for `client`. `look`:
    /// what the kernel knows and the poller has not said yet counts too.
    pub(crate) fn take_idle(
        &mut self,
        upstream: &Upstream,
        client: Token,
        look: bool,
        now: Instant,
    ) -> Option<Box<UpstreamConnection>> {
        let tokens = self.idle.get_mut(&upstream.id())?;
        while let Some(token) = tokens.pop() {
            let Some(slot @ Slot::Idle(_)) = self.slots.get_mut(token) else { continue };
            let Slot::Idle(idle) = std::mem::replace(slot, Slot::Used(client)) else { continue };
            let mut connection = idle.connection;
            let is_fresh = now.duration_since(idle.since) < idle.max_age;
            if is_fresh && (!look || connection.stream.is_quiet()) {
                connection.is_reused = true;
                connection.sent = 0;
                connection.received = 0;
                return Some(connection);
            }
            drop(self.slots.remove(token));
        }
        None
    }

    /// Begins a new connection, for `client`.
    ///
    /// # Errors
    /// As [`Upstream::connect`]; also if the poller has no memory for it.
    pub(crate) fn connect(
        &mut self,
        upstream: &Upstream,
        client: Token,
    ) -> io::Result<Box<UpstreamConnection>> {
        let stream = match upstream.connect() {
            // What lies idle is worth less than what is asked for now.
            Err(error) if shortage::is_ours(&error) && self.close_idle() => upstream.connect()?,
            connected => connected?,
        };
        let token = self.slots.insert(Slot::Used(client));
        if let Err(error) = self.poller.add(stream.socket(), token) {
            drop(self.slots.remove(token));
            return Err(error);
        }
        Ok(Box::new(UpstreamConnection::new(stream, token, false)))
    }

    /// Closes all idle connections. Whether there were any.
    fn close_idle(&mut self) -> bool {
        let tokens: Vec<Token> = self.idle.drain().flat_map(|(_, tokens)| tokens).collect();
        let slots = &mut self.slots;
        let is_idle = |token: &Token| matches!(slots.get_mut(*token), Some(Slot::Idle(_)));
        let idle: Vec<Token> = tokens.into_iter().filter(is_idle).collect();
        idle.iter().for_each(|token| drop(self.slots.remove(*token)));
        !idle.is_empty()
    }

    /// The exchange on it is over and left it clean: keeps it for another, if there is a place.
    pub(crate) fn keep(
        &mut self,
        mut connection: Box<UpstreamConnection>,
        upstream: &Upstream,
        now: Instant,
    ) {
        let token = connection.token;
        // More than the answer may have come, where not everything that came was read.
        let stream = &mut connection.stream;
        if stream.has_hung_up() || (stream.may_read() && !stream.is_quiet()) {
            return self.close(connection);
        }
        let Some(place) = upstream.idle_place() else { return self.close(connection) };
        if let Some(slot) = self.slots.get_mut(token) {
            let max_age = upstream.max_idle_age();
            *slot = Slot::Idle(Box::new(Idle { connection, since: now, max_age, _place: place }));
            self.idle.entry(upstream.id()).or_default().push(token);
            self.swept.get_or_insert(now);
        }
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, connection: Box<UpstreamConnection>) {
        self.forget(connection.token);
        drop(connection);
    }

    /// A connection is gone, whoever had it.
    pub(crate) fn forget(&mut self, token: Token) {
        drop(self.slots.remove(token));
    }

    /// What the poller says of one of them. The client whose exchange has to know; an idle connection of which there is
    /// anything to say is closed: nobody has asked the backend for bytes.
    pub(crate) fn note(&mut self, event: Event) -> Option<Token> {
        match self.slots.get_mut(event.token)? {
            Slot::Used(client) => Some(*client),
            Slot::Idle(idle) => {
                idle.connection.stream.note(event);
                let is_over = event.hung_up || (event.readable && !idle.connection.stream.is_quiet());
                if is_over {
                    drop(self.slots.remove(event.token));
                }
                None
            }
        }
    }

    /// Closes what has been idle for too long. When to look again.
    pub(crate) fn sweep(&mut self, now: Instant) -> Option<Instant> {
        let next = self.swept? + SWEEP;
        if now < next {
            return Some(next);
        }
        let slots = &mut self.slots;
        self.idle.retain(|_, tokens| {
            tokens.retain(|token| match slots.get_mut(*token) {
                Some(Slot::Idle(idle)) if now.duration_since(idle.since) < idle.max_age => true,
                Some(Slot::Idle(_)) => {
                    drop(slots.remove(*token));
                    false
                }
                _ => false,
            });
            !tokens.is_empty()
        });
        self.swept = (!self.idle.is_empty()).then_some(now);
        self.swept.map(|now| now + SWEEP)
    }

    /// Connections in use.
    #[cfg(test)]
    pub(crate) fn used(&mut self) -> usize {
        let tokens = self.slots.tokens();
        tokens.into_iter().filter(|token| matches!(self.slots.get_mut(*token), Some(Slot::Used(_)))).count()
    }

    /// Connections in use that `client` left behind when its exchange ended in a panic.
    pub(crate) fn forget_those_of(&mut self, client: Token) {
        for token in self.slots.tokens() {
            if matches!(self.slots.get_mut(token), Some(Slot::Used(by)) if *by == client) {
                drop(self.slots.remove(token));
            }
        }
    }
}
