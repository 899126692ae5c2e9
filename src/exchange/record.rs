//! [`Record`]: what is noted of an exchange on its way, for whoever wants to know afterwards what became of it.

use std::time::{Duration, Instant};

use crate::http::fields::Fields;
use crate::http::request_id::RequestId;

/// Where an exchange is, in words that logs and the status page have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The request comes in.
    Receive,
    /// The service of `forward_auth` is asked.
    Auth,
    /// It is found out whether it may come.
    Admit,
    /// It waits for a backend.
    Queue,
    /// A connection to the backend is being made.
    Connect,
    /// The request is being sent, or the head of the answer waited for.
    Await,
    /// The answer is passed on.
    Relay,
    /// After a 101.
    Tunnel,
}

impl Phase {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Auth => "auth",
            Self::Admit => "admit",
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::Await => "await_head",
            Self::Relay => "relay",
            Self::Tunnel => "tunnel",
        }
    }
}

/// What is noted on the way.
#[derive(Debug)]
pub(crate) struct Record {
    pub id: RequestId,
    /// By what name its client comes, if the route asks for one; it may not be true.
    pub user: Option<Box<str>>,
    pub started: Instant,
    pub phase: Phase,
    /// When that began.
    since: Instant,
    /// Time for which the service of `forward_auth` was waited for, before now.
    asked: Duration,
    pub queued: Duration,
    pub connecting: Duration,
    /// From the beginning to the head of the answer.
    pub first_byte: Option<Duration>,
    /// Tries after the first.
    pub retries: u32,
    /// What the client's connection had been sent before.
    sent_before: u64,
    /// Bytes of heads among those sent since.
    heads: u64,
}

impl Record {
    pub(crate) fn new(fields: &Fields, sent_before: u64, now: Instant) -> Self {
        Self {
            id: RequestId::of(fields),
            user: None,
            started: now,
            phase: Phase::Receive,
            since: now,
            asked: Duration::ZERO,
            queued: Duration::ZERO,
            connecting: Duration::ZERO,
            first_byte: None,
            retries: 0,
            sent_before,
            heads: 0,
        }
    }

    /// Another phase begins, if this is another one.
    pub(crate) fn enter(&mut self, phase: Phase, now: Instant) {
        if phase == self.phase {
            return;
        }
        let spent = now.saturating_duration_since(self.since);
        match self.phase {
            Phase::Auth => self.asked += spent,
            Phase::Queue => self.queued += spent,
            Phase::Connect => self.connecting += spent,
            _ => {}
        }
        (self.phase, self.since) = (phase, now);
    }

    /// For how long the service of `forward_auth` was waited for, if it ends at `now`.
    pub(crate) fn asked(&self, now: Instant) -> Duration {
        if self.phase == Phase::Auth { self.asked + self.in_phase(now) } else { self.asked }
    }

    /// How long it has been in the phase it is in.
    pub(crate) fn in_phase(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// The head of the answer is here.
    pub(crate) fn answer_begins(&mut self, now: Instant) {
        self.first_byte = Some(now.saturating_duration_since(self.started));
    }

    /// A head of so many bytes goes to the client: it is no part of the body.
    pub(crate) fn head_sent(&mut self, bytes: usize) {
        self.heads += bytes as u64;
    }

    /// Bytes of the body of the answer, when the connection has been sent so many in all.
    pub(crate) fn body_sent(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.sent_before).saturating_sub(self.heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_put_down_to_the_phase_it_was_spent_in() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut record = Record::new(&Fields::new(), 1000, start);
        for (phase, millis) in [
            (Phase::Auth, 0),
            (Phase::Queue, 1),
            (Phase::Connect, 3),
            (Phase::Queue, 7),
            (Phase::Queue, 9),
            (Phase::Connect, 15),
            (Phase::Await, 31),
        ] {
            record.enter(phase, at(millis));
        }
        record.answer_begins(at(63));
        assert_eq!(record.asked(at(63)), Duration::from_millis(1));
        assert_eq!(record.queued, Duration::from_millis(2 + 8));
        assert_eq!(record.connecting, Duration::from_millis(4 + 16));
        assert_eq!(record.first_byte, Some(Duration::from_millis(63)));
    }

    #[test]
    fn heads_are_no_part_of_the_body() {
        let mut record = Record::new(&Fields::new(), 1000, Instant::now());
        record.head_sent(200);
        assert_eq!(record.body_sent(1000), 0, "nothing has left yet");
        assert_eq!(record.body_sent(1250), 50);
    }
}
