//! The value of a `Date` field (RFC 9110 §6.6.1), now.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Calls `with` on the time of day, as in `Sun, 06 Nov 1994 08:49:37 GMT`. It is written once a second per thread.
pub(crate) fn with_now<T>(with: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    // A clock before 1970 is taken for one at 1970: there is no better answer to it.
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(at, text)| {
        if *at != secs || text.is_empty() {
            *at = secs;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs.min(LAST_SECOND)));
        }
        with(text.as_bytes())
    })
}

/// The end of the year 9999, beyond which the format does not reach.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_time_of_day() {
        let text = with_now(|date| String::from_utf8(date.to_vec()).unwrap());
        let time = httpdate::parse_http_date(&text).unwrap();
        assert!(SystemTime::now().duration_since(time).unwrap() < Duration::from_secs(5), "{text}");
        assert_eq!(text.len(), 29, "{text}");
    }
}
