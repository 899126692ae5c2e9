//! [`RequestId`]: what an exchange is called in the logs of everybody it passes, in `X-Request-Id`.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use http::HeaderValue;
use http::header::HeaderName;

use super::fields::Fields;

/// `X-Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer one is replaced: it goes into every line about the request.
const MAX_LEN: usize = 128;

/// The one a client has sent, if it is a word; else a new one, of 16 random bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestId {
    /// In hexadecimal digits.
    New([u8; 32]),
    /// As the client has it.
    Given(HeaderValue),
}

impl RequestId {
    /// That of a request with these fields.
    #[must_use]
    pub fn of(fields: &Fields) -> Self {
        let name = REQUEST_ID;
        let mut lines = fields.get_all(&name);
        match (lines.next(), lines.next()) {
            (Some(id), None) if is_word(id.as_bytes()) => Self::Given(id.clone()),
            _ => Self::random(),
        }
    }

    /// A new one. Nobody can guess it who knows others.
    #[must_use]
    pub fn random() -> Self {
        thread_local! {
            /// The keys are random; a keyed hash of numbers that never come again is as good as random to who has no key.
            static NEXT: RefCell<(RandomState, RandomState, u64)> =
                RefCell::new((RandomState::new(), RandomState::new(), 0));
        }
        let (high, low) = NEXT.with_borrow_mut(|(high, low, number)| {
            *number = number.wrapping_add(1);
            (high.hash_one(*number), low.hash_one(*number))
        });
        let mut digits = [0; 32];
        for (place, digit) in digits.iter_mut().enumerate() {
            let half = if place < 16 { high } else { low };
            let nibble = (half >> (60 - 4 * (place % 16))) & 0xf;
            *digit = char::from_digit(u32::try_from(nibble).unwrap_or_default(), 16).unwrap_or('0') as u8;
        }
        Self::New(digits)
    }

    /// Its characters, all of them visible and ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::New(digits) => digits,
            Self::Given(value) => value.as_bytes(),
        }
    }

    /// The same as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

fn is_word(bytes: &[u8]) -> bool {
    // What UUIDs, ULIDs, base64 and the ids of other proxies consist of; no quotes, which some who read logs take badly.
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=~@#|,;".contains(byte);
    (1..=MAX_LEN).contains(&bytes.len()) && bytes.iter().all(is_usual)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of(lines: &[&'static str]) -> RequestId {
        RequestId::of(&lines.iter().map(|line| (REQUEST_ID, HeaderValue::from_static(line))).collect())
    }

    #[test]
    fn new_ones_are_32_digits_and_never_the_same() {
        let ids: HashSet<_> = (0..1000).map(|_| RequestId::random().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit())));
        let elsewhere = std::thread::Builder::new().spawn(RequestId::random).unwrap().join().unwrap();
        assert!(!ids.contains(elsewhere.as_str()));
    }

    #[test]
    fn a_word_of_the_client_stays() {
        for id in ["6b1f6c1e-9f8e-4d4a-9a54-2f2a53c0a4d9", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "a"] {
            assert_eq!(of(&[id]).as_str(), id);
        }
    }

    #[test]
    fn what_is_no_word_or_not_alone_is_replaced() {
        let long = "x".repeat(MAX_LEN + 1);
        let long: &'static str = long.leak();
        for lines in [&[][..], &[""], &["a b"], &["a\"b"], &["a", "b"], &[long], &["a\\x1b"]] {
            let id = of(lines);
            assert!(matches!(id, RequestId::New(_)), "{lines:?}");
        }
    }
}
