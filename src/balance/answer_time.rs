//! [`AnswerTime`]: how long a backend takes to answer, in the mean. Pure but for its atomic: `now` is an argument.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::passive::Millis;

/// What was measured this long ago counts for 37 % (1/e) of what is measured now.
const MEMORY: f64 = 5_000.0;

/// Shorter than anything that is measured: an average is never 0.
const SHORTEST: f64 = 0.001;

/// So many answers at first count alike, until the average is one over time.
const ALIKE: u32 = 64;

/// A moving average over time, not over a number of answers: under load it is smooth, and where answers are rare, the
/// last one counts most. At first it is the plain mean: the very first answer, for which a connection may have been made, decides
/// nothing for long.
///
/// It fades while nothing is measured. A backend that was slow would never be asked again otherwise, since others are
/// faster, and nobody would learn that it is fast now. So it is asked again the sooner the less slow it was: one that takes
/// ten times as long as the others, after some twelve seconds.
///
/// Written by whoever has measured, read by the balancers. It steers balancing and guards no other data; two threads that
/// race count one answer a little more or less: `Relaxed`.
#[derive(Debug, Default)]
pub(crate) struct AnswerTime {
    /// The average in milliseconds, as the bits of an `f32`, above the moment of the last change in milliseconds, of which 32
    /// bits are kept. 0: nothing was measured.
    average: AtomicU64,
    /// Answers that were measured, up to [`ALIKE`].
    count: AtomicU32,
}

impl AnswerTime {
    /// Takes in that an answer took so long.
    pub(crate) fn observe(&self, took: Duration, now: Millis) {
        let took = took.as_secs_f64() * 1000.0;
        let count = self.count.load(Ordering::Relaxed);
        let least = if count < ALIKE {
            self.count.fetch_add(1, Ordering::Relaxed);
            1.0 / f64::from(count + 1)
        } else {
            0.0
        };
        self.change(now, |before| {
            let Some((average, age)) = before else { return took };
            // Each counts for something, however many there are in a millisecond.
            let weight = (1.0 - faded(age.max(1.0))).max(least);
            average + (took - average) * weight
        });
    }

    /// The same of an answer that is none anybody wants. That it came soon is nothing in favour of the backend.
    pub(crate) fn observe_failure(&self, took: Duration, now: Millis) {
        let average = unpack(self.average.load(Ordering::Relaxed)).map_or(0.0, |(average, _)| average);
        self.observe(took.max(Duration::from_secs_f64(average / 1000.0)), now);
    }

    /// Nothing was ever measured.
    pub(crate) fn forget(&self) {
        self.average.store(0, Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
    }

    /// The average in milliseconds, faded as it is now. `None`: nothing was measured.
    pub(crate) fn at(&self, now: Millis) -> Option<f64> {
        unpack(self.average.load(Ordering::Relaxed)).map(|(average, at)| average * faded(age(at, now)))
    }

    fn change(&self, now: Millis, next: impl Fn(Option<(f64, f64)>) -> f64) {
        let change = |packed| {
            let before = unpack(packed).map(|(average, at)| (average, age(at, now)));
            Some(pack(next(before), now))
        };
        // It always has a next one.
        let _ = self.average.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

/// What is left of an average after so many milliseconds.
fn faded(age: f64) -> f64 {
    (-age / MEMORY).exp()
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits are enough, and 49 days")]
fn pack(average: f64, now: Millis) -> u64 {
    let average = average.max(SHORTEST) as f32;
    u64::from(average.to_bits()) << 32 | u64::from(now as u32)
}

#[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
fn unpack(packed: u64) -> Option<(f64, u32)> {
    (packed != 0).then(|| (f64::from(f32::from_bits((packed >> 32) as u32)), packed as u32))
}

/// Milliseconds since `at`; none, if another thread has been there a moment later.
#[expect(clippy::cast_possible_truncation, reason = "a difference of 24 days is as good as any")]
fn age(at: u32, now: Millis) -> f64 {
    f64::from((now as u32).wrapping_sub(at).cast_signed().max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn of(samples: &[(u64, Millis)]) -> AnswerTime {
        let time = AnswerTime::default();
        samples.iter().for_each(|(took, now)| time.observe(ms(*took), *now));
        time
    }

    #[track_caller]
    fn assert_about(time: &AnswerTime, now: Millis, expected: f64) {
        let seen = time.at(now).unwrap();
        assert!((seen - expected).abs() <= expected / 50.0, "{seen}, not about {expected}");
    }

    #[test]
    fn the_first_counts_whole() {
        let time = AnswerTime::default();
        assert_eq!(time.at(7), None);
        time.observe(ms(80), 7);
        assert_about(&time, 7, 80.0);
        time.forget();
        assert_eq!(time.at(7), None);
    }

    /// A first answer that was slow by chance does not decide for seconds.
    #[test]
    fn the_first_ones_count_alike() {
        let time = of(&[(100, 1), (10, 2)]);
        assert_about(&time, 2, 55.0);
        time.observe(ms(10), 3);
        assert_about(&time, 3, 40.0);
        (4..=10).for_each(|now| time.observe(ms(10), now));
        assert_about(&time, 10, 19.0);
        time.forget();
        time.observe(ms(70), 11);
        assert_about(&time, 11, 70.0);
    }

    #[test]
    fn a_steady_one_is_what_it_is_however_often_it_is_asked() {
        for pause in [0, 1, 100, 10_000] {
            let time = AnswerTime::default();
            (1..500).for_each(|n| time.observe(ms(30), n * pause + 1));
            assert_about(&time, 499 * pause + 1, 30.0);
        }
    }

    #[test]
    fn one_slow_answer_among_many_is_little() {
        let time = AnswerTime::default();
        (1..=1000).for_each(|n| time.observe(ms(10), n * 10));
        time.observe(ms(1000), 10_010);
        let seen = time.at(10_010).unwrap();
        assert!((10.0..13.0).contains(&seen), "{seen}");
        // From then on all are.
        (1..=2000).for_each(|n| time.observe(ms(1000), 10_010 + n * 10));
        assert!(time.at(30_010).unwrap() > 950.0);
    }

    #[test]
    fn it_fades_while_nothing_is_measured() {
        let time = of(&[(1000, 1)]);
        assert_about(&time, 5_001, 1000.0 / std::f64::consts::E);
        assert!(time.at(23_100).unwrap() < 10.0, "a hundredth after 23 s");
        assert!(time.at(200_000_000).unwrap() >= 0.0);
        // What is measured then is what counts.
        time.observe(ms(5), 60_000);
        assert_about(&time, 60_000, 5.0);
    }

    #[test]
    fn a_failure_that_comes_soon_makes_nobody_fast() {
        let time = of(&[(100, 1)]);
        (1..100).for_each(|n| time.observe_failure(ms(1), n * 1000));
        assert_about(&time, 99_000, 100.0);
        time.observe_failure(ms(300), 200_000);
        assert_about(&time, 200_000, 300.0);
    }

    #[test]
    fn clocks_that_disagree_and_long_times_do_no_harm() {
        let time = of(&[(20, 1000)]);
        assert_about(&time, 990, 20.0);
        time.observe(ms(40), 999);
        assert_about(&time, 1000, 30.0);
        let wrapping = of(&[(20, u64::from(u32::MAX))]);
        assert_about(&wrapping, u64::from(u32::MAX) + 1, 20.0);
        let time = of(&[(0, 0)]);
        assert!(time.at(0).is_some_and(|average| average > 0.0));
        time.observe(Duration::MAX, 1 << 40);
        assert!(time.at(1 << 40).is_some_and(f64::is_finite));
    }

    #[test]
    fn threads_lose_nothing() {
        let time = AnswerTime::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (1..2000).for_each(|now| time.observe(ms(25), now)));
            }
        });
        assert_about(&time, 2000, 25.0);
    }
}
