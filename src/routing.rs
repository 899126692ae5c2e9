//! Longest prefix → route. Whole segments, independent of the order in the file.

/// What the path of a request must begin with, in whole segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prefix(String);

impl Prefix {
    /// The prefix as written in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
