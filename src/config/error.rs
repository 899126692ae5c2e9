//! [`ConfigErrors`]: everything wrong with a configuration file, each with file, line and key.

use std::fmt;

/// One thing wrong with a configuration file, or questionable in it, as a line for the operator:
///
/// ```text
/// reverse-proxy.toml:7: routes[1].backend_addrs: "foo" is not an address; expected host:port ...
/// ```
///
/// Routes are counted from 0, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named to us.
    pub(super) origin: String,
    /// Counted from 1; absent when it is about the file, or about something that is not in it.
    pub(super) line: Option<usize>,
    /// The path of the key; empty when it is about none.
    pub(super) key: String,
    /// What was found and what is allowed.
    pub(super) problem: String,
    /// The path of the key that was probably meant, where the one that is written is unknown.
    pub(super) meant: Option<String>,
}

impl ConfigError {
    /// The line in the file, counted from 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The path of the key, such as `routes[0].prefix`; empty when the error is not about a key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Why a configuration was refused: at least one error, in the order of the file. `Display` gives one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Sorts `errors` by line; what has no line comes first.
    pub(crate) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.line);
        Self(errors)
    }

    /// The file as a whole cannot be used.
    pub(super) fn of_file(origin: &str, line: Option<usize>, problem: String) -> Self {
        Self(vec![ConfigError { origin: origin.to_owned(), line, key: String::new(), problem, meant: None }])
    }

    /// The errors, one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
