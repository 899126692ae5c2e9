//! [`Written`]: which keys the file has, and on which lines.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::ConfigError;
use super::document::Document;

/// Which keys the file has, and where: what is not among them has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// What messages call the file.
    origin: String,
    /// By the path of the key, such as `routes[0].retries`.
    lines: BTreeMap<String, usize>,
}

impl Written {
    /// What is written at these `places` of the file.
    pub(super) fn new(places: &HashMap<String, Range<usize>>, document: &Document<'_>) -> Self {
        let lines = places.iter().map(|(key, span)| (key.clone(), document.line(span.start)));
        Self { origin: document.origin().to_owned(), lines: lines.collect() }
    }

    /// The line of the value of `key`, counted from 1; `None`: it is not in the file.
    #[must_use]
    pub fn line(&self, key: &str) -> Option<usize> {
        self.lines.get(key).copied()
    }

    /// An error about the value of `key`.
    pub(crate) fn error(&self, key: &str, problem: String) -> ConfigError {
        ConfigError {
            origin: self.origin.clone(),
            line: self.line(key),
            key: key.to_owned(),
            problem,
            meant: None,
        }
    }
}
