//! The time of day, as lines begin with it. Written once a second per thread.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, fmt::strtime, tz::TimeZone};

/// The time of day, in UTC.
#[derive(Debug)]
pub(super) struct Time {
    secs: u64,
    /// `28/Nov/2026:07:48:04 +0000`
    pub combined: String,
    /// `2026-11-28T07:48:04`
    pub iso: String,
    pub millis: u32,
}

/// Calls `with` on the time of day.
pub(super) fn with_now<T>(with: impl FnOnce(&Time) -> T) -> T {
    thread_local! {
        static LAST: RefCell<Time> =
            const { RefCell::new(Time { secs: 0, combined: String::new(), iso: String::new(), millis: 0 }) };
    }
    // A clock before 1970 is taken for one at 1970: there is no better answer to it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    LAST.with_borrow_mut(|last| {
        if last.secs != now.as_secs() || last.iso.is_empty() {
            last.set(now.as_secs());
        }
        last.millis = now.subsec_millis();
        with(last)
    })
}

impl Time {
    fn set(&mut self, secs: u64) {
        self.secs = secs;
        let at = i64::try_from(secs).ok().and_then(|secs| Timestamp::from_second(secs).ok());
        let at = at.unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC);
        let text = |format: &str| strtime::format(format, &at).unwrap_or_default();
        self.combined = text("%d/%b/%Y:%H:%M:%S +0000");
        self.iso = text("%Y-%m-%dT%H:%M:%S");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_as_both_formats_want_them() {
        let mut time = Time { secs: 0, combined: String::new(), iso: String::new(), millis: 0 };
        time.set(784_111_777);
        assert_eq!(time.combined, "06/Nov/1994:08:49:37 +0000");
        assert_eq!(time.iso, "1994-11-06T08:49:37");
        time.set(u64::MAX);
        assert!(time.iso.starts_with("9999-"), "{}", time.iso);
    }
}
