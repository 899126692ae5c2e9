//! How many requests a route takes: `rate_limit`. A token bucket for each client, for each value of a field or for the route, by the generic cell rate
//! algorithm: a bucket is one point in time, the one at which it will be full again.
//!
//! The memory is fixed, however many clients there are: a table of sets of [`WAYS`] buckets, found by a keyed hash, so that
//! nobody can choose whose place they take. A client that finds its set full takes the place of the bucket that is
//! fullest: what is forgotten then is the least that could be, and never to the disadvantage of anybody.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use http::header::HeaderName;

use crate::http::fields::Fields;

/// Buckets of a set. One cache line holds four.
const WAYS: usize = 8;
/// Sets of buckets for clients or values: 32,768 of them in about half a megabyte.
const SETS: usize = 4096;
const SECOND: u64 = 1_000_000_000;

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Per {
    /// Those of one address; of IPv6, of one network of 64 bits, since a client has all of the addresses in it.
    Client,
    /// Those with the same value in the first line of this field; those without one by their clients.
    Header(HeaderName),
    /// Those of all clients.
    Route,
}

/// The word in the configuration.
impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Route => f.write_str("route"),
        }
    }
}

/// `rate_limit` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What is taken in the long run.
    pub requests_per_sec: NonZeroU32,
    /// What is taken at once by who has not asked for a while.
    pub burst: NonZeroU32,
    /// Whose requests are counted together.
    pub per: Per,
    /// What would be refused is counted, and taken all the same.
    pub dry_run: bool,
}

impl RateLimit {
    /// Whether the other one counts in the same way.
    pub(crate) fn counts_like(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.requests_per_sec, it.burst);
        of(self) == of(other) && self.per == other.per
    }
}

/// A bucket, in nanoseconds since the limiter was made. The one that nobody has is full.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    key: u64,
    full_at: u64,
}

/// A rate limit at work.
#[derive(Debug)]
pub struct Limiter {
    rule: RateLimit,
    began: Instant,
    hash: RandomState,
    /// A lock for each set, held while its buckets are looked through.
    sets: Vec<Mutex<[Bucket; WAYS]>>,
}

impl Limiter {
    /// One with full buckets.
    #[must_use]
    pub fn new(rule: RateLimit, now: Instant) -> Self {
        let sets = std::iter::repeat_with(Mutex::default).take(sets_of(&rule)).collect();
        Self { rule, began: now, hash: RandomState::new(), sets }
    }

    /// Bytes of its table.
    pub(crate) fn memory(rule: &RateLimit) -> usize {
        sets_of(rule) * size_of::<Mutex<[Bucket; WAYS]>>()
    }

    /// What it goes by.
    #[must_use]
    pub fn rule(&self) -> &RateLimit {
        &self.rule
    }

    /// Takes a request of this client with these fields, or says after how many seconds the next one would be taken.
    ///
    /// # Errors
    /// The bucket is empty.
    pub fn take(&self, client: IpAddr, fields: &Fields, now: Instant) -> Result<(), u32> {
        let value = match &self.rule.per {
            Per::Header(name) => fields.get(name).filter(|value| !value.is_empty()),
            Per::Client | Per::Route => None,
        };
        let key = match (&self.rule.per, value) {
            (Per::Route, _) => 0,
            // Nobody shares a bucket with somebody whose address looks like a value.
            (_, Some(value)) => self.hash.hash_one((true, value.as_bytes())),
            (_, None) => self.hash.hash_one((false, counted_as(client))),
        };
        let now = u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        // As many as there are: of a table of one, the first.
        let set = usize::try_from(key % self.sets.len().max(1) as u64).unwrap_or_default();
        let Some(set) = self.sets.get(set) else { return Ok(()) };
        let mut buckets = set.lock().unwrap_or_else(PoisonError::into_inner);
        let place = buckets.iter().position(|bucket| bucket.key == key && bucket.full_at > 0);
        let bucket = match place {
            Some(place) => buckets.get_mut(place),
            None => buckets.iter_mut().min_by_key(|bucket| bucket.full_at).map(|bucket| {
                *bucket = Bucket { key, full_at: 0 };
                bucket
            }),
        };
        bucket.map_or(Ok(()), |bucket| self.take_from(bucket, now))
    }

    fn take_from(&self, bucket: &mut Bucket, now: u64) -> Result<(), u32> {
        let rate = u64::from(self.rule.requests_per_sec.get());
        // The time that one request takes to come back, and all but one of a burst do.
        let one = SECOND / rate;
        let rest = one.saturating_mul(u64::from(self.rule.burst.get()) - 1);
        let full_at = bucket.full_at.max(now);
        let wait = (full_at - now).saturating_sub(rest);
        if wait > 0 {
            return Err(u32::try_from(wait.div_ceil(SECOND)).unwrap_or(u32::MAX));
        }
        bucket.full_at = full_at.saturating_add(one);
        Ok(())
    }
}

/// Everybody has the same bucket, or there is a table.
fn sets_of(rule: &RateLimit) -> usize {
    match rule.per {
        Per::Client | Per::Header(_) => SETS,
        Per::Route => 1,
    }
}

/// What stands for a client.
pub(crate) fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;

    const NONE: Fields = Fields::new();

    fn limiter(rate: u32, burst: u32, per: Per) -> (Limiter, Instant) {
        let now = Instant::now();
        let count = |n| NonZeroU32::new(n).unwrap();
        let rule = RateLimit { requests_per_sec: count(rate), burst: count(burst), per, dry_run: false };
        (Limiter::new(rule, now), now)
    }

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (limiter, now) = limiter(2, 3, Per::Client);
        let at = |millis| limiter.take(client("192.0.2.1"), &NONE, now + Duration::from_millis(millis));
        assert_eq!([at(0), at(0), at(0), at(0)], [Ok(()), Ok(()), Ok(()), Err(1)]);
        assert_eq!([at(499), at(500), at(501)], [Err(1), Ok(()), Err(1)]);
        // After a long time it is full again, and not fuller.
        assert_eq!([at(60_000), at(60_000), at(60_000), at(60_000)], [Ok(()), Ok(()), Ok(()), Err(1)]);
        // Somebody else has a bucket of their own.
        assert_eq!(limiter.take(client("192.0.2.2"), &NONE, now), Ok(()));
    }

    /// Within 2 % over 10 s, whatever the rate, and however requests come.
    #[test]
    fn is_exact() {
        for (rate, burst, every_micros) in
            [(1, 1, 1_000), (3, 1, 777), (7, 7, 10_000), (100, 20, 500), (1_000, 2, 333), (9_999, 50, 50)]
        {
            for per in [Per::Client, Per::Header(HeaderName::from_static("x-key")), Per::Route] {
                let (limiter, now) = limiter(rate, burst, per);
                let mut taken = 0_u32;
                let mut at = 0;
                while at < 10_000_000 {
                    let result =
                        limiter.take(client("2001:db8::1"), &key("a"), now + Duration::from_micros(at));
                    taken += u32::from(result.is_ok());
                    at += every_micros;
                }
                // Requests that ask for what they could have, since they come more often than they are taken.
                let most = f64::from(rate.min(u32::try_from(1_000_000 / every_micros).unwrap()) * 10 + burst);
                let off = (f64::from(taken) - most).abs();
                assert!(off <= (most * 0.02).max(1.0), "{rate} {burst}: {taken} of {most}");
            }
        }
    }

    #[test]
    fn who_is_counted_together() {
        let (limiter, now) = limiter(1, 1, Per::Client);
        let take = |text: &str| limiter.take(client(text), &NONE, now).is_ok();
        assert!(take("2001:db8::1") && !take("2001:db8::ffff:ffff:ffff:ffff") && take("2001:db8:0:1::1"));
        assert!(take("192.0.2.1") && !take("::ffff:192.0.2.1") && take("192.0.2.2"));
        let (all, now) = self::limiter(1, 1, Per::Route);
        assert_eq!(all.take(client("192.0.2.1"), &NONE, now), Ok(()));
        assert_eq!(all.take(client("2001:db8::1"), &NONE, now), Err(1));
    }

    /// The fields of a request with this key.
    fn key(value: &str) -> Fields {
        let line = (HeaderName::from_static("x-key"), HeaderValue::from_str(value).unwrap());
        [line].into_iter().collect()
    }

    #[test]
    fn values_of_a_field_are_counted() {
        let (limiter, now) = limiter(1, 1, Per::Header(HeaderName::from_static("x-key")));
        let take = |text: &str, fields: &Fields| limiter.take(client(text), fields, now).is_ok();
        assert!(
            take("192.0.2.1", &key("a")) && !take("192.0.2.2", &key("a")) && take("192.0.2.1", &key("b"))
        );
        // Those without one are not counted together: one of them could use up what is for all.
        assert!(take("192.0.2.1", &NONE) && !take("192.0.2.1", &key("")) && take("192.0.2.2", &NONE));
        assert!(take("192.0.2.3", &key("192.0.2.1")));
        assert_eq!(
            Limiter::memory(limiter.rule()),
            Limiter::memory(self::limiter(1, 1, Per::Client).0.rule())
        );
    }

    /// However many clients there are: nothing grows, and nobody pays for what others did.
    #[test]
    fn many_clients_have_a_place() {
        let (limiter, now) = limiter(1, 2, Per::Client);
        for n in 0..1_000_000_u32 {
            assert_eq!(limiter.take(IpAddr::V4(n.into()), &NONE, now), Ok(()), "{n}");
        }
        assert_eq!((limiter.sets.len(), limiter.sets.capacity()), (SETS, SETS));
        assert!((500_000..600_000).contains(&Limiter::memory(limiter.rule())), "half a megabyte");
        // Among few, everybody is remembered.
        let (limiter, now) = self::limiter(1, 1, Per::Client);
        let clients = || (0..1_000_u32).map(|n| IpAddr::V4(n.into()));
        assert!(clients().all(|client| limiter.take(client, &NONE, now).is_ok()));
        assert!(clients().all(|client| limiter.take(client, &NONE, now).is_err()));
    }

    #[test]
    fn says_when_to_come_again() {
        let (limiter, now) = limiter(1, 5, Per::Route);
        let at = |secs| limiter.take(client("::1"), &NONE, now + Duration::from_secs(secs));
        assert!((0..5).all(|_| at(0).is_ok()));
        assert_eq!(at(0), Err(1));
        // A clock that is behind that of who was here before.
        let (limiter, now) = self::limiter(1, 1, Per::Route);
        let later = now + Duration::from_secs(3);
        assert_eq!(limiter.take(client("::1"), &NONE, later), Ok(()));
        assert_eq!(limiter.take(client("::1"), &NONE, now), Err(4));
    }
}
