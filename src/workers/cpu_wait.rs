//! How long a thread that could run has waited for a processor.
//!
//! Where threads wait for a processor, one thread more serves nobody sooner: it takes its time from the others.

use std::time::Instant;

/// A thread that waits for a processor for so many percent of its time: there is no CPU time left. Measured: with 50, five
/// hundred fast clients are served by hundreds of workers, of which dozens wait for a processor at any time (p99 54 to
/// 155 ms instead of 23 to 32); with 20, a backend of 2 ms gets a third less to do.
const SHORT: u64 = 30;

/// What the kernel has counted for the thread that made this. Where it does not tell (no Linux, no `/proc`), nobody
/// ever waits.
#[derive(Debug)]
pub(crate) struct CpuWait {
    #[cfg(target_os = "linux")]
    schedstat: Option<std::fs::File>,
    /// Nanoseconds, at `at`.
    waited: u64,
    at: Instant,
    /// Percent of its time that the thread waited, the last looks weighing most.
    percent: u64,
}

impl CpuWait {
    pub(crate) fn of_this_thread() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            schedstat: std::fs::File::open("/proc/thread-self/schedstat").ok(),
            waited: 0,
            at: Instant::now(),
            percent: 0,
        }
    }

    /// Whether CPU time is short, going by what the thread has waited since the last calls.
    pub(crate) fn is_short(&mut self, now: Instant) -> bool {
        self.percent = (3 * self.percent + self.percent_since_last(now)) / 4;
        self.percent >= SHORT
    }

    /// How much of the time since the last call went by waiting for a processor, in percent.
    fn percent_since_last(&mut self, now: Instant) -> u64 {
        let waited = self.read().unwrap_or(self.waited);
        let passed = u64::try_from(now.saturating_duration_since(self.at).as_nanos()).unwrap_or(u64::MAX);
        let percent = waited.saturating_sub(self.waited).saturating_mul(100) / passed.max(1);
        (self.waited, self.at) = (waited, now);
        percent
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
    fn a_thread_of_which_nothing_is_known_never_waits() {
        let mut wait = CpuWait { schedstat: None, waited: 0, at: Instant::now(), percent: 0 };
        assert!(!wait.is_short(Instant::now()));
    }
}
