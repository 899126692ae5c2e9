//! [`Pace`]: whether somebody is too slow. Pure: `now` is an argument.

use std::time::{Duration, Instant};

/// A minimum rate is kept over this long.
const WINDOW: Duration = Duration::from_secs(20);

/// How fast bytes move in one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    last: Instant,
    window: Instant,
    bytes: u64,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, window: now, bytes: 0 }
    }

    pub(crate) fn received(&mut self, n: usize, now: Instant) {
        self.last = now;
        self.bytes += n as u64;
    }

    /// When the other side is too slow, if it goes on like this.
    pub(crate) fn due(&self, silence: Duration, min_rate: u64) -> Instant {
        let silent = self.last + silence;
        if min_rate == 0 { silent } else { silent.min(self.window + WINDOW) }
    }

    /// Whether the other side is too slow. Begins a new window where one is over.
    pub(crate) fn is_too_slow(&mut self, now: Instant, silence: Duration, min_rate: u64) -> bool {
        if now >= self.last + silence {
            return true;
        }
        if min_rate > 0 && now >= self.window + WINDOW {
            let seconds = now.duration_since(self.window).as_secs().max(1);
            let slow = self.bytes / seconds < min_rate;
            (self.window, self.bytes) = (now, 0);
            return slow;
        }
        false
    }

    /// The other side is waited for from now on: the time since it was last heard of was spent on others.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.window += now.saturating_duration_since(self.last);
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_or_dribbling_sender_is_too_slow() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let read_timeout = Duration::from_secs(30);
        let mut silent = Pace::new(start);
        assert!(!silent.is_too_slow(at(19), read_timeout, 500));
        assert!(silent.is_too_slow(at(20), read_timeout, 500));
        assert!(Pace::new(start).is_too_slow(at(30), read_timeout, 0));
        let mut dribbling = Pace::new(start);
        for second in 1..20 {
            dribbling.received(100, at(second));
        }
        assert!(dribbling.is_too_slow(at(20), read_timeout, 500));
        let mut steady = Pace::new(start);
        steady.received(11_000, at(19));
        assert!(!steady.is_too_slow(at(20), read_timeout, 500));
        assert_eq!(steady.due(read_timeout, 500), at(40));
        assert!(steady.is_too_slow(at(40), read_timeout, 500), "each window counts for itself");
    }
}
