//! [`Worker`]: one thread that carries any number of connections, and waits in one place.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::client::{Client, Outcome};
use super::door::{Came, Door, LISTENER, Taker};
use super::mailbox::{Accepted, Inbox};
use super::report::Ask;
use super::turns;
use crate::access_log::Lines;
use crate::downstream::connection::Connection;
use crate::exchange::context::{Buffers, Context, TURN};
use crate::exchange::decision::is_trusted;
use crate::exchange::gateway::{Gateway, Place, Places};
use crate::logging::sparingly::log_sparingly;
use crate::net::deadlines::Deadlines;
use crate::net::poller::{Event, Events, Poller, Token};
use crate::net::slab::Slab;
use crate::net::tls::Session;
use crate::snapshot::Snapshot;
use crate::upstream::connections::{BACKEND, Upstreams};

/// Connections taken in from each side, the door and the mailbox, before those that are here get a turn.
const ADMIT: usize = 64;

/// Steps of TLS handshakes taken in one turn. One takes up to a millisecond to sign for, and whoever has a request under way
/// must not wait for many of those.
const HANDSHAKE_STEPS: usize = 8;

/// Of all that is cut at the end of a drain there are lines to write, and then there is time for it: so many lines are handed
/// over, and written, at a time…
const LINES_AT_ONCE: usize = 200;
/// …for so long.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Lines of the access log are handed over together with those that follow within this time: one by one they would cost as much
/// again. Whoever reads the log does not notice.
const LINES_WAIT: Duration = Duration::from_millis(10);

/// What a worker's thread owns.
#[derive(Debug)]
pub(super) struct Worker {
    number: usize,
    /// When the turn began.
    woke: Instant,
    inbox: Inbox,
    door: Arc<Door>,
    /// Tokens of listeners at which somebody may wait.
    knocks: Vec<Token>,
    poller: Rc<Poller>,
    gateway: Arc<Gateway>,
    /// The configuration at work, as of this turn.
    snapshot: Arc<Snapshot>,
    clients: Slab<Box<Client>>,
    upstreams: Upstreams,
    buffers: Buffers,
    /// Of the access log.
    lines: Lines,
    /// When they are handed over, if there are any.
    lines_due: Option<Instant>,
    deadlines: Deadlines<Token>,
    /// Who gets a turn, in this order.
    turns: VecDeque<Token>,
    /// Steps of TLS handshakes that may still be taken in this turn.
    handshake_steps: usize,
    /// For TLS handshakes under way.
    handshake_places: Places,
    /// Whose TLS handshake is under way, the oldest first. Those that are through stay until they are the oldest.
    handshakes: VecDeque<Token>,
    /// Nobody deals out connections any more.
    is_last: bool,
    /// The drain has begun, and ends then.
    end_at: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        number: usize,
        poller: Poller,
        inbox: Inbox,
        door: Arc<Door>,
        gateway: Arc<Gateway>,
    ) -> Self {
        let poller = Rc::new(poller);
        Self {
            number,
            woke: Instant::now(),
            upstreams: Upstreams::new(Rc::clone(&poller)),
            poller,
            inbox,
            door,
            knocks: Vec::new(),
            snapshot: gateway.snapshot(),
            gateway,
            clients: Slab::new(0),
            buffers: Buffers::new(),
            lines: Lines::default(),
            lines_due: None,
            deadlines: Deadlines::new(),
            turns: VecDeque::new(),
            handshake_steps: HANDSHAKE_STEPS,
            handshake_places: Places::new(0),
            handshakes: VecDeque::new(),
            is_last: false,
            end_at: None,
        }
    }

    /// Until the drain is over. How many requests were cut then.
    pub(super) fn run(mut self) -> usize {
        let mut events = Events::new();
        let counters = Arc::clone(&self.gateway.counters);
        turns::run("a worker", &counters, || self.turn(&mut events))
    }

    /// Waits until there is something to do, and does it.
    fn turn(&mut self, events: &mut Events) -> ControlFlow<usize> {
        let patience = self.patience();
        self.turn_within(patience, events)
    }

    /// Waits for no longer than `patience`; `None`: as long as it takes.
    fn turn_within(&mut self, patience: Option<Duration>, events: &mut Events) -> ControlFlow<usize> {
        if let Err(error) = self.poller.wait(events, patience) {
            turns::poller_failed("the connections of a worker can't go on", &error);
        }
        let now = Instant::now();
        self.woke = now;
        self.take_snapshot();
        for event in events.iter() {
            self.note(event);
        }
        self.read_mail(now);
        self.answer_door(now);
        self.handshake_steps = HANDSHAKE_STEPS;
        for _ in 0..self.turns.len() {
            if let Some(token) = self.turns.pop_front() {
                self.advance(token, now);
            }
        }
        self.expire(now);
        self.hand_over_lines(now);
        if let Some(end_at) = self.end_at
            && (now >= end_at || (self.is_last && self.clients.len() == 0))
        {
            return ControlFlow::Break(self.cut());
        }
        ControlFlow::Continue(())
    }

    /// Those that are idle may have less time under another configuration.
    fn take_snapshot(&mut self) {
        if !Arc::ptr_eq(&self.snapshot, &self.gateway.snapshot.load()) {
            self.snapshot = self.gateway.snapshot();
            self.give_all_a_turn();
        }
    }

    fn give_all_a_turn(&mut self) {
        for token in self.clients.tokens() {
            self.give_turn(token);
        }
    }

    fn hand_over_lines(&mut self, now: Instant) {
        if self.lines.is_empty() {
            self.lines_due = None;
        } else if *self.lines_due.get_or_insert(now + LINES_WAIT) <= now {
            self.lines.hand_over();
            self.lines_due = None;
        }
    }

    /// How long nothing needs to be looked at.
    fn patience(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.inbox.report.note_turn(now.saturating_duration_since(self.woke));
        let swept = self.upstreams.sweep(now);
        if !self.turns.is_empty() || !self.knocks.is_empty() {
            return Some(Duration::ZERO);
        }
        self.poller.about_to_sleep();
        let Inbox { connections, tokens, drain, asks, .. } = &self.inbox;
        let is_current = Arc::ptr_eq(&self.snapshot, &self.gateway.snapshot.load());
        if !connections.is_empty()
            || !tokens.is_empty()
            || !drain.is_empty()
            || !asks.is_empty()
            || !is_current
        {
            return Some(Duration::ZERO);
        }
        if self.end_at.is_some() && !self.is_last {
            // That nobody deals out connections any more is seen by taking one, and who said so a moment ago woke nobody.
            self.read_mail(now);
            if self.is_last || !self.turns.is_empty() {
                return Some(Duration::ZERO);
            }
        }
        let next = [self.deadlines.next(), swept, self.end_at, self.lines_due].into_iter().flatten().min();
        next.map(|at| at.saturating_duration_since(now))
    }

    /// Remembers what the poller says, and gives a turn to whom it concerns.
    fn note(&mut self, event: Event) {
        if event.token & LISTENER != 0 {
            if !self.knocks.contains(&event.token) {
                self.knocks.push(event.token);
            }
        } else if event.token & BACKEND == 0 {
            if let Some(client) = self.clients.get_mut(event.token) {
                client.connection.stream.note(event);
                self.give_turn(event.token);
            }
        } else if let Some(token) = self.upstreams.note(event)
            && let Some(client) = self.clients.get_mut(token)
            && let Some(backend) = client.exchange.as_mut().and_then(|exchange| exchange.backend_mut())
            && backend.token == event.token
        {
            backend.stream.note(event);
            self.give_turn(token);
        }
    }

    fn give_turn(&mut self, token: Token) {
        if let Some(client) = self.clients.get_mut(token)
            && !std::mem::replace(&mut client.has_turn, true)
        {
            self.turns.push_back(token);
        }
    }

    fn read_mail(&mut self, now: Instant) {
        // Before the look at what was dealt out: whoever closes the door has dealt out the last.
        let is_closed = self.door.is_closed();
        for _ in 0..ADMIT {
            let Ok(accepted) = self.inbox.connections.try_recv() else {
                self.is_last = is_closed;
                break;
            };
            self.admit(accepted, now);
        }
        while let Ok(token) = self.inbox.tokens.try_recv() {
            self.give_turn(token);
        }
        while let Ok(ask) = self.inbox.asks.try_recv() {
            self.answer(&ask, now);
        }
        if let Ok(end_at) = self.inbox.drain.try_recv() {
            self.end_at = Some(end_at);
            // Those that are idle have less time from now on.
            self.give_all_a_turn();
        }
    }

    /// Takes in those who knock.
    fn answer_door(&mut self, now: Instant) {
        let door = Arc::clone(&self.door);
        for token in std::mem::take(&mut self.knocks) {
            let mut most = ADMIT;
            loop {
                match door.accept_at(token, Taker::Worker(self.number)) {
                    Came::Kept(accepted) => self.admit(accepted, now),
                    Came::Passed => {}
                    Came::Nobody => break,
                }
                most -= 1;
                if most == 0 {
                    self.knocks.push(token);
                    break;
                }
            }
        }
    }

    /// Says what it carries, the oldest first.
    fn answer(&mut self, ask: &Ask, now: Instant) {
        let mut found: Vec<(Instant, Token)> = Vec::new();
        for token in self.clients.tokens() {
            if let Some(exchange) = self.clients.get_mut(token).and_then(|client| client.exchange.as_ref()) {
                found.push((exchange.began(), token));
            }
        }
        found.sort_unstable();
        found.truncate(ask.most);
        let sights = found.into_iter().filter_map(|(_, token)| {
            let client = self.clients.get_mut(token)?;
            Some(client.exchange.as_ref()?.sight(self.number, &client.connection, now))
        });
        let sights = sights.collect();
        // Fails only if nobody waits for it any more.
        let _ = ask.reply.try_send(sights);
    }

    fn admit(&mut self, accepted: Accepted, now: Instant) {
        // It may have become another one since the turn began, and before the client came.
        self.take_snapshot();
        let Accepted { socket, peer, entrance, place, load } = accepted;
        if entrance.proxy_protocol && !is_trusted(peer.ip().to_canonical(), &self.snapshot.trusted) {
            // Whoever may say whose connection it is may say that it is anybody's.
            self.gateway.counters.proxy_headers_refused.fetch_add(1, Ordering::Relaxed);
            log_sparingly!(
                warn,
                "a connection was closed: it came in where the PROXY protocol is spoken, from none of trusted_proxies \
                 client={}",
                peer.ip().to_canonical()
            );
            return;
        }
        let (session, handshake) = if entrance.tls {
            let Some((session, handshake)) = self.begin_handshake() else { return };
            (Some(session), Some(handshake))
        } else {
            (None, None)
        };
        let is_in_handshake = session.is_some();
        let connection = Connection::new(socket, peer, entrance, session, now);
        let client = Box::new(Client::new(connection, handshake, place, load));
        let token = self.clients.insert(client);
        if is_in_handshake {
            self.handshakes.push_back(token);
        }
        let Some(client) = self.clients.get_mut(token) else { return };
        if let Err(error) = self.poller.add(client.connection.stream.socket(), token) {
            log_sparingly!(warn, "a connection was closed because it cannot be polled: {error}");
            drop(self.clients.remove(token));
            return;
        }
        // As a rule the request is here already.
        self.give_turn(token);
    }

    /// What a client needs that is to speak TLS. Where too many handshakes are under way, the oldest is given up: who means it
    /// is through in a moment, and who only holds a place must not hold it against others.
    fn begin_handshake(&mut self) -> Option<(Session, Place)> {
        let is_under_way = |clients: &mut Slab<Box<Client>>, token| {
            clients.get_mut(token).is_some_and(|client| client.connection.is_in_handshake())
        };
        while let Some(&oldest) = self.handshakes.front()
            && !is_under_way(&mut self.clients, oldest)
        {
            self.handshakes.pop_front();
        }
        self.handshake_places.set_max(self.snapshot.front.max_handshakes);
        let mut place = self.handshake_places.take();
        while place.is_none()
            && let Some(oldest) = self.handshakes.pop_front()
        {
            if is_under_way(&mut self.clients, oldest) {
                drop(self.clients.remove(oldest));
                self.gateway.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                log_sparingly!(
                    warn,
                    "more than max_handshakes TLS handshakes are under way: the oldest is given up"
                );
            }
            place = self.handshake_places.take();
        }
        let server = self.snapshot.front.tls.as_ref()?;
        let session = server.session().inspect_err(|error| {
            log_sparingly!(error, "a connection was closed because TLS cannot be begun: {error}");
        });
        session.ok().zip(place)
    }

    /// Gives a connection its turn. A defect that one of them brings to light costs that one, not the worker.
    fn advance(&mut self, token: Token, now: Instant) {
        let Some(client) = self.clients.get_mut(token) else { return };
        client.has_turn = false;
        if client.connection.is_in_handshake() {
            let Some(left) = self.handshake_steps.checked_sub(1) else { return self.give_turn(token) };
            self.handshake_steps = left;
        }
        let mut cx = Context {
            gateway: &self.gateway,
            snapshot: &self.snapshot,
            upstreams: &mut self.upstreams,
            buffers: &mut self.buffers,
            lines: &mut self.lines,
            now,
            client: token,
            wakeup: &self.inbox.wakeup,
            budget: TURN,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| client.advance(&mut cx, &self.inbox.report)));
        match outcome {
            Ok(Outcome::Again) => self.give_turn(token),
            Ok(Outcome::Close) => drop(self.clients.remove(token)),
            Ok(Outcome::Wait(at)) => {
                if client.looks_at.is_none_or(|looks_at| at < looks_at) {
                    client.looks_at = Some(at);
                    self.deadlines.insert(at, token);
                }
            }
            Err(_) => self.drop_panicked(token),
        }
    }

    fn drop_panicked(&mut self, token: Token) {
        self.gateway.counters.panics.fetch_add(1, Ordering::Relaxed);
        log_sparingly!(error, "an exchange panicked; this is a defect of the proxy, please report it");
        if let Some(client) = self.clients.remove(token) {
            // What it owns may not be in order. Nothing of it is used any more.
            let (counters, lines) = (&self.gateway.counters, &mut self.lines);
            let dropped = catch_unwind(AssertUnwindSafe(|| {
                let mut client = client;
                client.answer_panic(counters, lines);
                drop(client);
            }));
            if dropped.is_err() {
                log_sparingly!(error, "an exchange that had panicked panicked again when it was dropped");
            }
        }
        self.upstreams.forget_those_of(token);
    }

    /// Gives a turn to those that are due.
    fn expire(&mut self, now: Instant) {
        while let Some((at, token)) = self.deadlines.pop_due(now) {
            if let Some(client) = self.clients.get_mut(token)
                && client.looks_at == Some(at)
            {
                client.looks_at = None;
                self.give_turn(token);
            }
        }
        let clients = &mut self.clients;
        self.deadlines
            .tidy(|at, token| clients.get_mut(token).is_some_and(|client| client.looks_at == Some(at)));
    }

    /// Closes everything that is left. How many requests go unanswered.
    fn cut(&mut self) -> usize {
        let begin = Instant::now();
        let (mut owed, mut cut_lines) = (0, 0_usize);
        for token in self.clients.tokens() {
            let Some(client) = self.clients.remove(token) else { continue };
            client.note_cut(&self.gateway.counters, &mut self.lines);
            cut_lines += 1;
            if cut_lines % LINES_AT_ONCE == 0 {
                self.lines.hand_over_patiently(LAST_LINES.saturating_sub(begin.elapsed()));
            }
            owed += usize::from(client.is_owed_something());
        }
        self.lines.hand_over();
        owed
    }
}

#[cfg(test)]
mod tests;
