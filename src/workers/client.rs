//! [`Client`]: a client's connection with the exchange that is on it, if one is.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::mailbox::Load;
use super::places::ConnectionPlace;
use super::report::WorkerLoad;
use super::turn_away::{place_of, turn_away};
use crate::access_log::Lines;
use crate::counters::Counters;
use crate::downstream::connection::{Connection, Step};
use crate::error::Cause;
use crate::exchange::context::Context;
use crate::exchange::ending::Stray;
use crate::exchange::gateway::Place;
use crate::exchange::{End, Exchange, Progress};

/// What a worker has of one client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) exchange: Option<Box<Exchange>>,
    /// When the worker looks at it if nothing happens before.
    pub(super) looks_at: Option<Instant>,
    /// It is among those that get a turn.
    pub(super) has_turn: bool,
    /// Its place among the TLS handshakes under way, while its own is.
    handshake: Option<Place>,
    place: ConnectionPlace,
    /// Its PROXY header has yet to say whose connection it is.
    owes_name: bool,
    _load: Load,
}

/// What becomes of it after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Something has to happen, or this moment to come.
    Wait(Instant),
    /// It has more to do.
    Again,
    Close,
}

impl Client {
    pub(super) fn new(
        connection: Connection,
        handshake: Option<Place>,
        place: ConnectionPlace,
        load: Load,
    ) -> Self {
        Self {
            owes_name: connection.entrance().proxy_protocol,
            connection,
            exchange: None,
            looks_at: None,
            has_turn: false,
            handshake,
            place,
            _load: load,
        }
    }

    /// After a panic: says so to a client that has not been sent an answer yet, as far as it takes that at once.
    pub(super) fn answer_panic(&mut self, counters: &Counters, lines: &mut Lines) {
        let Some(exchange) = &mut self.exchange else { return };
        if let Some(answer) = exchange.panic_answer() {
            self.connection.unsent.push(&answer.head, &answer.content);
            self.connection.send_owed(Instant::now());
        }
        counters.count(Cause::Internal);
        exchange.ending(Some(Cause::Internal), &self.connection).note(counters, lines);
    }

    /// The deadline of a drain is over, and its exchange not.
    pub(super) fn note_cut(&self, counters: &Counters, lines: &mut Lines) {
        if let Some(exchange) = &self.exchange {
            counters.count(Cause::Shutdown);
            exchange.ending(Some(Cause::Shutdown), &self.connection).note(counters, lines);
        }
    }

    /// A request would go unanswered if this connection were closed now.
    pub(super) fn is_owed_something(&self) -> bool {
        self.exchange.is_some()
            || self.connection.has_part_of_request()
            || !self.connection.is_in_handshake() && self.connection.is_owed_bytes()
    }

    /// Does all that can be done without waiting, within the budget of one turn.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, load: &WorkerLoad) -> Outcome {
        loop {
            if let Some(exchange) = &mut self.exchange {
                match exchange.advance(&mut self.connection, cx) {
                    Progress::Wait(at) => return Outcome::Wait(at),
                    Progress::Again => return Outcome::Again,
                    Progress::Ended { end, body_is_read } => {
                        self.exchange = None;
                        if let Some(outcome) = self.after_exchange(end, body_is_read, cx) {
                            return outcome;
                        }
                    }
                }
            } else if let Some(outcome) = self.advance_between(cx, load) {
                return outcome;
            }
        }
    }

    fn after_exchange(&mut self, end: End, body_is_read: bool, cx: &Context<'_>) -> Option<Outcome> {
        match end {
            End::KeepAlive => self.connection.next_request(cx.now),
            End::Close if self.connection.can_close_at_once(body_is_read) => return Some(Outcome::Close),
            End::Broken if !self.connection.is_owed_bytes() => return Some(Outcome::Close),
            End::Close | End::Broken => self.connection.begin_linger(cx.now),
        }
        None
    }

    fn advance_between(&mut self, cx: &mut Context<'_>, load: &WorkerLoad) -> Option<Outcome> {
        if self.connection.stream.is_broken() || !self.connection.send_owed(cx.now) {
            return Some(Outcome::Close);
        }
        let buffers = &mut *cx.buffers;
        let limits = &cx.snapshot.limits;
        let mut step = self.connection.receive(&mut buffers.read, limits, cx.now, &mut cx.budget);
        if self.owes_name && self.connection.knows_whose_it_is() {
            self.owes_name = false;
            match place_of(self.connection.address(), cx.gateway) {
                Ok(of_client) => self.place.of_client = of_client,
                Err(()) => {
                    let (socket, entrance) = (self.connection.stream.socket(), self.connection.entrance());
                    turn_away(socket, entrance, self.connection.address(), &cx.gateway.counters);
                    return Some(Outcome::Close);
                }
            }
        }
        if !self.connection.is_in_handshake() && self.handshake.take().is_some() {
            cx.gateway.counters.handshakes.fetch_add(1, Ordering::Relaxed);
        }
        if let Step::Wait = step {
            let due = self.connection.due(limits, cx.gateway.is_draining());
            if cx.now < due {
                return Some(Outcome::Wait(due));
            }
            step = self.connection.expire();
            if self.connection.is_in_handshake() && matches!(step, Step::Close) {
                cx.gateway.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        match step {
            Step::Wait | Step::Again => return Some(Outcome::Again),
            Step::Close => return Some(Outcome::Close),
            Step::Request(head) => {
                load.note_exchange();
                self.exchange = Some(Box::new(Exchange::new(head, &self.connection, cx)));
            }
            Step::Refuse(cause) => {
                self.handshake = None;
                self.refuse(cause, cx);
            }
            Step::NoProxyHeader(fault) => {
                cx.gateway.counters.proxy_headers_refused.fetch_add(1, Ordering::Relaxed);
                log::debug!("closed client={} reason=\"{fault}\"", self.connection.who());
                return Some(Outcome::Close);
            }
            Step::HandshakeFailed => {
                self.handshake = None;
                cx.gateway.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                // A reset would take the alert away that says why.
                self.connection.begin_linger(cx.now);
            }
        }
        None
    }

    /// Answers what is no request, and closes.
    fn refuse(&mut self, cause: Cause, cx: &mut Context<'_>) {
        let connection = &mut self.connection;
        let (client, who) = (connection.address(), connection.who());
        let stray = Stray { cause, client, who, is_head: false, keep_alive: false };
        let answer = stray.refuse(cx.snapshot, &cx.gateway.counters, cx.lines);
        connection.unsent.push(&answer.head, &answer.content);
        connection.begin_linger(cx.now);
    }
}
