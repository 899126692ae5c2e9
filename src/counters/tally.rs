//! [`Tally`]: what became of the exchanges of a route, and [`Classes`]: of which classes the answers were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::Histogram;
use crate::error::Cause;

/// Answers by the first digit of their status. All `Relaxed`, as the other counters.
#[derive(Debug, Default)]
pub struct Classes([AtomicU64; Self::WORDS.len()]);

impl Classes {
    /// What the classes are called; the first: no answer was sent.
    pub const WORDS: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

    /// Counts an answer; 0: there was none.
    pub fn count(&self, status: u16) {
        if let Some(class) = self.0.get(usize::from(status / 100)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were of each.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::WORDS.into_iter().zip(self.0.iter().map(|class| class.load(Ordering::Relaxed)))
    }
}

/// How many exchanges ended for each cause. All refused heads are one kind. All `Relaxed`, as the other counters.
#[derive(Debug)]
pub struct ByCause([AtomicU64; Cause::COUNT]);

impl Default for ByCause {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Cause::COUNT])
    }
}

impl ByCause {
    /// Counts one more.
    pub fn count(&self, cause: Cause) {
        if let Some(count) = self.0.get(cause.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were for this cause.
    #[must_use]
    pub fn of(&self, cause: Cause) -> u64 {
        self.0.get(cause.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many there were for each.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Cause::KINDS.into_iter().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// What became of the exchanges of a route.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers that no backend had a part in.
    pub unserved: Classes,
    /// Those of its backends to its requests.
    pub served: Classes,
    /// From the request to the head of the answer.
    pub first_byte: Histogram,
    /// From the request to the end of the answer; tunnels are not in it.
    pub whole: Histogram,
    /// Bytes of request bodies.
    pub received: AtomicU64,
    /// Bytes of bodies of answers.
    pub sent: AtomicU64,
    /// Tries after the first.
    pub retries: AtomicU64,
    /// Requests that a `rate_limit` would have refused that is a `dry_run`.
    pub would_limit: AtomicU64,
    causes: ByCause,
}

/// One exchange that is over, as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// That of the answer; 0: there was none.
    pub status: u16,
    /// Why it did not go well, if it did not.
    pub cause: Option<Cause>,
    /// From the request to the head of the answer.
    pub first_byte: Option<Duration>,
    /// From the request to the end.
    pub whole: Duration,
    /// Bytes of the request body.
    pub received: u64,
    /// Bytes of the body of the answer.
    pub sent: u64,
    /// Tries after the first.
    pub retries: u32,
}

impl Tally {
    /// Counts an exchange. `served`: the answers of the backend that had it last.
    pub fn count(&self, ended: &Ended, served: Option<&Classes>) {
        if let Some(served) = served {
            served.count(ended.status);
        }
        let own = if served.is_some() { &self.served } else { &self.unserved };
        own.count(ended.status);
        if let Some(cause) = ended.cause {
            self.causes.count(cause);
        }
        if let Some(first_byte) = ended.first_byte {
            self.first_byte.count(first_byte);
        }
        if ended.status != 101 {
            self.whole.count(ended.whole);
        }
        let counts = [
            (&self.received, ended.received),
            (&self.sent, ended.sent),
            (&self.retries, ended.retries.into()),
        ];
        for (counter, n) in counts {
            if n > 0 {
                counter.fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// How many exchanges ended for each cause, those that never were left out.
    pub fn causes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.causes.read().filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_counted_where_it_belongs() {
        let (tally, backend) = (Tally::default(), Classes::default());
        let good = Ended {
            status: 204,
            cause: None,
            first_byte: Some(Duration::from_millis(2)),
            whole: Duration::from_millis(3),
            received: 5,
            sent: 7,
            retries: 1,
        };
        tally.count(&good, Some(&backend));
        let bad = Ended { status: 503, cause: Some(Cause::NoHealthyBackend), first_byte: None, ..good };
        tally.count(&bad, None);
        tally.count(&Ended { status: 101, ..good }, Some(&backend));
        let some = |classes: &Classes| classes.read().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
        assert_eq!(some(&backend), [("1xx", 1), ("2xx", 1)]);
        assert_eq!(some(&tally.unserved), [("5xx", 1)]);
        assert_eq!(tally.causes().collect::<Vec<_>>(), [("no_healthy_backend", 1)]);
        assert_eq!((tally.first_byte.read().count, tally.whole.read().count), (2, 2));
        assert_eq!(tally.sent.load(Ordering::Relaxed), 21);
    }
}
