//! Passive health: what the exchanges themselves say about a backend. Pure but for its atomics: `now` is an argument.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// When failures take a backend out.
#[derive(Clone, Copy, Debug)]
pub struct PassivePolicy {
    /// Consecutive failures that take it out; 0 = never.
    pub max_fails: u32,
    /// The failures must fall within this time; without a health check, also how long it stays out.
    pub fail_timeout: Duration,
    /// Probes bring it back, not time.
    pub probed: bool,
}

/// Milliseconds since some fixed moment. 0 is never "now".
pub type Millis = u64;

const UNTIL_PROBED: Millis = Millis::MAX;

/// Consecutive connection failures and time-outs of one backend.
///
/// Each field is written by whoever ends an exchange and by the probes, and read by the balancers. They steer balancing
/// and guard no other data; two threads that race here count one failure more or less: `Relaxed`.
#[derive(Debug, Default)]
pub struct Passive {
    fails: AtomicU32,
    /// When the first of `fails` happened.
    first: AtomicU64,
    /// Out until then; 0 = in.
    out_until: AtomicU64,
}

impl Passive {
    /// Counts a failure. Whether it is one too many.
    pub(crate) fn failed(&self, policy: &PassivePolicy, now: Millis) -> bool {
        if policy.max_fails == 0 {
            return false;
        }
        let window = millis(policy.fail_timeout);
        let is_new = self.fails.load(Ordering::Relaxed) == 0
            || now.saturating_sub(self.first.load(Ordering::Relaxed)) > window;
        if is_new {
            self.first.store(now, Ordering::Relaxed);
            self.fails.store(1, Ordering::Relaxed);
        } else {
            self.fails.fetch_add(1, Ordering::Relaxed);
        }
        // The one request that asks whether it is back counts for all.
        self.is_out() || self.fails.load(Ordering::Relaxed) >= policy.max_fails
    }

    /// An exchange went well. Whether the backend had been out.
    pub(crate) fn succeeded(&self) -> bool {
        if self.fails.load(Ordering::Relaxed) == 0 && !self.is_out() {
            return false;
        }
        self.fails.store(0, Ordering::Relaxed);
        self.out_until.swap(0, Ordering::Relaxed) != 0
    }

    /// Takes the backend out. Whether it was in.
    pub(crate) fn take_out(&self, policy: &PassivePolicy, now: Millis) -> bool {
        let until = if policy.probed { UNTIL_PROBED } else { now + millis(policy.fail_timeout) };
        self.fails.store(0, Ordering::Relaxed);
        self.out_until.swap(until, Ordering::Relaxed) == 0
    }

    /// There will be no probe: time brings it back.
    pub(crate) fn end_wait_for_probe(&self, policy: &PassivePolicy, now: Millis) {
        let until = now + millis(policy.fail_timeout);
        let _ = self.out_until.compare_exchange(UNTIL_PROBED, until, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether failures have taken it out, though its time may be over.
    pub(crate) fn is_out(&self) -> bool {
        self.out_until.load(Ordering::Relaxed) != 0
    }

    /// In how many milliseconds one request may ask whether it is back. `None`: it is not out, or probes will say.
    pub(crate) fn returns_in(&self, now: Millis) -> Option<Millis> {
        let until = self.out_until.load(Ordering::Relaxed);
        (until != 0 && until != UNTIL_PROBED).then(|| until.saturating_sub(now))
    }

    /// Whether it is out, and one request may ask whether it is back.
    pub(crate) fn may_be_tried(&self, now: Millis) -> bool {
        (1..=now).contains(&self.out_until.load(Ordering::Relaxed))
    }
}

/// As passive health counts time.
pub(super) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: PassivePolicy =
        PassivePolicy { max_fails: 3, fail_timeout: Duration::from_secs(10), probed: false };

    #[test]
    fn consecutive_failures_within_the_time_are_too_many() {
        let passive = Passive::default();
        assert!(!passive.failed(&POLICY, 1000));
        assert!(!passive.failed(&POLICY, 2000));
        assert!(passive.failed(&POLICY, 3000));
    }

    #[test]
    fn a_success_or_time_begins_the_count_again() {
        let passive = Passive::default();
        for round in 0..5 {
            assert!(!passive.failed(&POLICY, 1000 * round + 1));
            assert!(!passive.failed(&POLICY, 1000 * round + 2));
            assert!(!passive.succeeded());
        }
        assert!(!passive.failed(&POLICY, 20_000));
        assert!(!passive.failed(&POLICY, 25_000));
        assert!(!passive.failed(&POLICY, 30_001), "the first of them is too long ago");
    }

    #[test]
    fn comes_back_when_a_trial_goes_well() {
        let passive = Passive::default();
        assert!(passive.take_out(&POLICY, 1000));
        assert!(!passive.take_out(&POLICY, 1000), "it was out already");
        assert!(!passive.may_be_tried(10_999));
        assert_eq!(passive.returns_in(10_999), Some(1));
        assert!(passive.may_be_tried(11_000));
        assert!(passive.failed(&POLICY, 11_000), "one failed trial is enough");
        passive.take_out(&POLICY, 11_000);
        assert!(!passive.may_be_tried(12_000));
        assert!(passive.succeeded());
        assert!(!passive.is_out());
    }

    #[test]
    fn waits_for_a_probe_where_there_are_probes() {
        let passive = Passive::default();
        passive.take_out(&PassivePolicy { probed: true, ..POLICY }, 1000);
        assert!(!passive.may_be_tried(1_000_000_000));
        assert_eq!(passive.returns_in(1_000_000_000), None);
        assert!(passive.succeeded());
    }

    #[test]
    fn waits_for_no_probe_where_there_are_none_any_more() {
        let passive = Passive::default();
        passive.take_out(&PassivePolicy { probed: true, ..POLICY }, 1000);
        passive.end_wait_for_probe(&POLICY, 2000);
        assert_eq!(passive.returns_in(2000), Some(10_000));
        passive.end_wait_for_probe(&POLICY, 5000);
        assert_eq!(passive.returns_in(5000), Some(7000), "it waits for time already");
    }

    #[test]
    fn zero_switches_it_off() {
        let passive = Passive::default();
        let off = PassivePolicy { max_fails: 0, ..POLICY };
        assert!((0..100).all(|n| !passive.failed(&off, n)));
    }
}
