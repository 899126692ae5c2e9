//! How long a thread that could run has waited for a processor.
//!
//! Where threads wait for a processor, one thread more serves nobody sooner: it takes its time from the others.

use std::time::{Duration, Instant};

/// A thread that waits for a processor for so much of its time: there is no CPU time left. Measured: with 30 percent, a
/// backend of 2 ms gets a quarter less to do; with 46, five hundred fast clients are served by up to 290 workers instead
/// of some 100.
const SHORT: f64 = 0.4;

/// For how long what was seen weighs. A thread waits in one piece of some milliseconds: going by the last of them alone,
/// there would be CPU time left in between.
const MEMORY: Duration = Duration::from_millis(40);

/// What the kernel has counted for the thread that made this. Where it does not tell (no Linux, no `/proc`), nobody
/// ever waits.
#[derive(Debug)]
pub(crate) struct CpuWait {
    #[cfg(target_os = "linux")]
    schedstat: Option<std::fs::File>,
    /// Nanoseconds, at `at`.
    waited: u64,
    at: Instant,
    /// The share of its time that the thread waited lately, 0 to 1.
    share: f64,
}

impl CpuWait {
    pub(crate) fn of_this_thread() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            schedstat: std::fs::File::open("/proc/thread-self/schedstat").ok(),
            waited: 0,
            at: Instant::now(),
            share: 0.0,
        }
    }

    /// Whether CPU time is short, going by what the thread has waited lately.
    pub(crate) fn is_short(&mut self, now: Instant) -> bool {
        let waited = self.read().unwrap_or(self.waited);
        let since_last = Duration::from_nanos(waited.saturating_sub(self.waited));
        let passed = now.saturating_duration_since(self.at);
        (self.waited, self.at) = (waited, now);
        self.share = share_lately(self.share, since_last, passed);
        self.share >= SHORT
    }

    /// Nanoseconds on a run queue since the thread began: the second number of its `schedstat`.
    #[cfg(target_os = "linux")]
    fn read(&self) -> Option<u64> {
        use std::os::unix::fs::FileExt;
        let mut text = [0; 64];
        let n = self.schedstat.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..n)?).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn read(&self) -> Option<u64> {
        None
    }
}

/// `share` was what a thread had waited of its time, and it has `waited` for a part of what has `passed` since then.
fn share_lately(share: f64, waited: Duration, passed: Duration) -> f64 {
    let memory = MEMORY.as_secs_f64();
    (share * memory + waited.min(passed).as_secs_f64()) / (memory + passed.as_secs_f64())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_counts() {
        let wait = CpuWait::of_this_thread();
        let before = wait.read().unwrap();
        std::thread::yield_now();
        assert!(wait.read().unwrap() >= before);
    }

    #[test]
    fn a_look_weighs_by_its_time() {
        let ms = Duration::from_millis;
        // Half of the time, in pieces of 5 ms with a look each millisecond between them.
        let mut share = 0.0;
        let mut seen = (1.0_f64, 0.0_f64);
        for round in 0..50 {
            share = share_lately(share, ms(5), ms(5));
            for _ in 0..5 {
                share = share_lately(share, ms(0), ms(1));
            }
            if round > 20 {
                seen = (seen.0.min(share), seen.1.max(share));
            }
        }
        assert!((0.4..0.5).contains(&seen.0) && (0.4..0.6).contains(&seen.1), "{seen:?}");
        // After a long rest nothing of it is left, and what cannot be is not believed.
        assert!(share_lately(share, ms(0), Duration::from_secs(10)) < 0.005);
        assert!(share_lately(0.0, Duration::MAX, ms(1)) < 0.03);
        assert!(share_lately(1.0, Duration::MAX, Duration::MAX) <= 1.0);
    }

    #[test]
    fn a_thread_of_which_nothing_is_known_never_waits() {
        let mut wait = CpuWait { schedstat: None, waited: 0, at: Instant::now(), share: 0.0 };
        assert!(!wait.is_short(Instant::now()));
    }
}
