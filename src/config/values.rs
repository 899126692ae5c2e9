//! [`Resolver`]: one value at a time: is it in range, is it one of the words, and what to say if not.

use std::collections::HashMap;
use std::fmt::Display;
use std::num::NonZeroU64;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;

use super::ConfigError;
use super::document::Document;
use super::forms::Seconds;
use super::suggest;
use crate::rules::Page;

/// Seconds that make sense as a time-out or an interval. Below a millisecond some systems round to "none at all" or
/// "for ever"; a week fits every kernel interface, and what is longer was meant to be something else.
const TIMEOUT: RangeInclusive<f64> = 0.001..=604_800.0;
/// The same for what may end at once.
pub(super) const GRACE: RangeInclusive<f64> = 0.0..=604_800.0;

/// Collects errors. Its methods return a stand-in for what they refuse, so that checking can go on; nobody gets to
/// see it.
pub(super) struct Resolver<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) errors: Vec<ConfigError>,
    /// Where in the file the values are, by key; what is not written has none.
    pub(super) places: HashMap<String, Range<usize>>,
    /// Pages that were read: one that many routes show is held once.
    pub(super) pages: HashMap<String, Page>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(document: &'a Document<'a>, errors: Vec<ConfigError>) -> Self {
        Self { document, errors, places: HashMap::new(), pages: HashMap::new() }
    }
}

/// Kinds of values. Those with `into` leave the default there when the key is absent.
impl Resolver<'_> {
    pub(super) fn timeout(&mut self, key: &str, raw: Option<Spanned<Seconds>>, into: &mut Duration) {
        self.seconds(key, raw, &TIMEOUT, into);
    }

    pub(super) fn seconds(
        &mut self,
        key: &str,
        raw: Option<Spanned<Seconds>>,
        allowed: &RangeInclusive<f64>,
        into: &mut Duration,
    ) {
        let Some(raw) = raw else { return };
        self.note(key, &raw.span());
        let Seconds(seconds) = *raw.get_ref();
        // NaN is in no range.
        if allowed.contains(&seconds) {
            *into = Duration::from_secs_f64(seconds);
        } else {
            self.out_of_range(key, &raw.span(), "seconds", allowed);
        }
    }

    /// A number that may be 0.
    pub(super) fn whole<T: TryFrom<u64>>(
        &mut self,
        key: &str,
        raw: Option<Spanned<i128>>,
        allowed: RangeInclusive<i128>,
        into: &mut T,
    ) {
        self.number(key, raw, &allowed, |number| T::try_from(number).ok(), into);
    }

    /// A number that may not.
    pub(super) fn count<T: TryFrom<NonZeroU64>>(
        &mut self,
        key: &str,
        raw: Option<Spanned<i128>>,
        allowed: RangeInclusive<i128>,
        into: &mut T,
    ) {
        self.number(key, raw, &allowed, |number| T::try_from(NonZeroU64::new(number)?).ok(), into);
    }

    fn number<T>(
        &mut self,
        key: &str,
        raw: Option<Spanned<i128>>,
        allowed: &RangeInclusive<i128>,
        convert: impl Fn(u64) -> Option<T>,
        into: &mut T,
    ) {
        let Some(raw) = raw else { return };
        self.note(key, &raw.span());
        let number = Some(*raw.get_ref()).filter(|number| allowed.contains(number));
        match number.and_then(|number| convert(u64::try_from(number).ok()?)) {
            Some(number) => *into = number,
            None => self.out_of_range(key, &raw.span(), "a whole number", allowed),
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Display + Clone>(
        &mut self,
        text: &Spanned<String>,
        key: &str,
        kind: &str,
        allowed: &[T],
    ) -> Option<T> {
        let words: Vec<String> = allowed.iter().map(T::to_string).collect();
        if let Some((found, _)) = allowed.iter().zip(&words).find(|(_, word)| *word == text.get_ref()) {
            return Some(found.clone());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let hint = suggest::closest(text.get_ref(), &words)
            .map(|word| format!("; did you mean \"{word}\"?"))
            .unwrap_or_default();
        let words = words.join("\" or \"");
        let problem = format!("{:?} is not {kind}; expected \"{words}\"{hint}", text.get_ref());
        self.refuse(&text.span(), key, problem);
        None
    }

    fn out_of_range<T: Display>(
        &mut self,
        key: &str,
        span: &Range<usize>,
        kind: &str,
        allowed: &RangeInclusive<T>,
    ) {
        let found = self.document.written(span);
        let problem = format!("found {found}; expected {kind} from {} to {}", allowed.start(), allowed.end());
        self.refuse(span, key, problem);
    }

    /// Remembers where the value of `key` is written, for warnings.
    pub(super) fn note(&mut self, key: &str, span: &Range<usize>) {
        self.places.insert(key.to_owned(), span.clone());
    }

    pub(super) fn refuse_text(&mut self, text: &Spanned<String>, key: &str, problem: impl Display) {
        self.refuse(&text.span(), key, format!("{:?} {problem}", text.get_ref()));
    }

    /// What is required is not there. When it was, and was refused for its type or its spelling, that has been said.
    pub(super) fn missing(&mut self, table: Option<&Range<usize>>, key: &str, expected: &str) {
        if self.errors.iter().all(|error| error.key() != key && error.meant.as_deref() != Some(key)) {
            self.errors.push(self.document.error(table, key, format!("missing; expected {expected}")));
        }
    }

    pub(super) fn refuse(&mut self, span: &Range<usize>, key: &str, problem: String) {
        self.errors.push(self.document.error(Some(span), key, problem));
    }
}
