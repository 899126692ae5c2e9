//! [`Document`]: the text of the file, and the way from TOML's byte ranges to lines and keys.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::raw::{Nested, RawConfig, TOP, TableKeys};
use super::suggest::{self, Advice};
use super::{ConfigError, ConfigErrors};

/// The file as it is written.
#[derive(Debug)]
pub(super) struct Document<'a> {
    text: &'a str,
    origin: &'a str,
}

/// What is wrong with the tables.
#[derive(Default)]
struct Found {
    errors: Vec<ConfigError>,
    unknown: Vec<UnknownKey>,
}

/// A key that its table does not have.
struct UnknownKey {
    span: Range<usize>,
    name: String,
    /// The path of its table.
    home: String,
    table: &'static TableKeys,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str, origin: &'a str) -> Self {
        Self { text, origin }
    }

    /// Reads the TOML. What has an unknown key or a wrong type is left out and returned as an error, so that the rest
    /// can be checked too.
    pub(super) fn read(&self) -> Result<(RawConfig, Vec<ConfigError>), ConfigErrors> {
        let (mut table, syntax) = DeTable::parse_recoverable(self.text);
        if !syntax.is_empty() {
            return Err(self.not_toml(&syntax));
        }
        let mut found = Found::default();
        self.check_table(table.get_mut(), &TOP, "", &mut found);
        let mut errors = found.errors;
        self.unknown_keys(found.unknown, &mut errors);
        loop {
            // serde stops at the first wrong type. It is taken out and serde asked again; each turn removes a key.
            let error = match RawConfig::deserialize(toml::de::Deserializer::from(table.clone())) {
                Ok(raw) => return Ok((raw, errors)),
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let Some(key) = take_out(table.get_mut(), &span, "") else {
                errors.push(self.error(error.span().as_ref(), "", error.message().to_owned()));
                return Err(ConfigErrors::new(errors));
            };
            let problem = self.wrong_type(error.message(), &span);
            errors.push(self.error(Some(&span), &key, problem));
        }
    }

    /// An error about the value at `span`, or about none that is in the file.
    pub(super) fn error(&self, span: Option<&Range<usize>>, key: &str, problem: String) -> ConfigError {
        ConfigError {
            origin: self.origin.to_owned(),
            line: span.map(|span| self.line(span.start)),
            key: key.to_owned(),
            problem,
            meant: None,
        }
    }

    /// What messages call the file.
    pub(super) fn origin(&self) -> &str {
        self.origin
    }

    /// The line of the byte at `offset`, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
    }

    /// What is written at `span`, for messages: its first line, and not too much of it.
    pub(super) fn written(&self, span: &Range<usize>) -> String {
        const ENOUGH: usize = 60;
        let text = self.text.get(span.clone()).unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        let short: String = first.chars().take(ENOUGH).collect();
        if short.len() < text.len() { format!("{short}…") } else { short }
    }

    /// Takes what does not belong there out of `table`, and out of the tables in it.
    fn check_table(&self, table: &mut DeTable<'_>, known: &'static TableKeys, path: &str, found: &mut Found) {
        let mut refused = Vec::new();
        for (name, value) in table.iter_mut() {
            let key = join(path, name.get_ref());
            if !known.keys.contains(&name.get_ref().as_ref()) {
                let span = name.span();
                let name = name.get_ref().to_string();
                refused.push(name.clone());
                found.unknown.push(UnknownKey { span, name, home: path.to_owned(), table: known });
            } else if let Some((_, nested)) =
                known.tables.iter().find(|(holder, _)| *holder == name.get_ref())
                && !self.check_nested(value.get_mut(), nested, &key, found)
            {
                let problem =
                    format!("found {}; expected {}", self.written(&value.span()), nested.keys().expected);
                found.errors.push(self.error(Some(&value.span()), &key, problem));
                refused.push(name.get_ref().to_string());
            }
        }
        for name in refused {
            table.remove(name.as_str());
        }
    }

    /// Checks the tables in `value`. False when it is not of the kind that holds them.
    fn check_nested(&self, value: &mut DeValue<'_>, nested: &Nested, path: &str, found: &mut Found) -> bool {
        match (nested, value) {
            (Nested::One(known) | Nested::Perhaps(known) | Nested::Switch(known), DeValue::Table(table)) => {
                self.check_table(table, known, path, found);
                true
            }
            (Nested::Many(known) | Nested::Among(known) | Nested::Perhaps(known), DeValue::Array(array)) => {
                let mut all_tables = true;
                for (n, element) in array.iter_mut().enumerate() {
                    match element.get_mut() {
                        DeValue::Table(table) => {
                            self.check_table(table, known, &format!("{path}[{n}]"), found);
                        }
                        _ => all_tables = false,
                    }
                }
                all_tables || !matches!(nested, Nested::Many(_))
            }
            (Nested::Switch(_), DeValue::Boolean(_)) | (Nested::Perhaps(_), _) => true,
            _ => false,
        }
    }

    /// Messages about `unknown`, in the order of the file. What is allowed is said once for each kind of table.
    fn unknown_keys(&self, mut unknown: Vec<UnknownKey>, errors: &mut Vec<ConfigError>) {
        unknown.sort_by_key(|key| key.span.start);
        let mut listed: Vec<&str> = Vec::new();
        for UnknownKey { span, name, home, table } in unknown {
            let Advice { mut problem, meant } = suggest::about_unknown(&name, table);
            if !listed.contains(&table.name) {
                listed.push(table.name);
                let end = if problem.ends_with('?') { " " } else { "; " };
                problem = format!("{problem}{end}allowed here: {}", table.keys.join(", "));
            }
            let error = self.error(Some(&span), &join(&home, &name), problem);
            errors.push(ConfigError { meant: meant.map(|key| join(&home, key)), ..error });
        }
    }

    /// Everything the parser has found, in the order of the file. It may find several things wrong with one slip: of
    /// those on one line the first is said.
    fn not_toml(&self, syntax: &[toml::de::Error]) -> ConfigErrors {
        let start = |error: &toml::de::Error| error.span().unwrap_or_default().start.min(self.text.len());
        let mut syntax: Vec<_> = syntax.iter().map(|error| (start(error), error.message())).collect();
        syntax.sort_by_key(|(start, _)| *start);
        syntax.dedup_by_key(|(start, _)| self.line(*start));
        ConfigErrors::new(
            syntax.into_iter().map(|(start, message)| self.syntax_error(start, message)).collect(),
        )
    }

    fn syntax_error(&self, start: usize, message: &str) -> ConfigError {
        let before = self.text.get(..start).unwrap_or_default();
        let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.chars().count() - before.get(..begin).unwrap_or_default().chars().count() + 1;
        let end =
            self.text.get(start..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |n| start + n);
        let line = self.written(&(begin..end)).trim().to_owned();
        // "expected nothing" is how the parser says that it would rather the text ended here.
        let message = message.replace(", expected nothing", "");
        let problem = format!("not valid TOML at column {column}: {message}; the line is: {line}");
        self.error(Some(&(start..start)), "", problem)
    }

    /// serde's message about a value, in words that appear in TOML files.
    fn wrong_type(&self, message: &str, span: &Range<usize>) -> String {
        let found = self.written(span);
        match message.rsplit_once(", expected ") {
            Some((_, "i128")) => format!("found {found}; expected a whole number"),
            Some((_, "a boolean")) => format!("found {found}; expected true or false"),
            Some((_, "a sequence")) => format!("found {found}; expected a list in brackets"),
            Some((_, "a map")) => {
                format!("found {found}; expected a table, for example {{ key = \"value\" }}")
            }
            Some((_, "a string")) => format!("found {found}; expected a string in quotes"),
            Some((_, expected)) => format!("found {found}; expected {expected}"),
            None => format!("found {found}; {message}"),
        }
    }
}

/// Removes the key whose value, or an element of whose value, is at `span`, and returns its path.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>, path: &str) -> Option<String> {
    let is_there = |value: &Spanned<DeValue<'_>>| {
        value.span() == *span
            || value
                .get_ref()
                .as_array()
                .is_some_and(|array| array.iter().any(|element| element.span() == *span))
    };
    let here = table.iter().find(|(_, value)| is_there(value)).map(|(name, _)| name.get_ref().to_string());
    if let Some(name) = here {
        table.remove(name.as_str());
        return Some(join(path, &name));
    }
    table.iter_mut().find_map(|(name, value)| {
        let key = join(path, name.get_ref());
        match value.get_mut() {
            DeValue::Table(inner) => take_out(inner, span, &key),
            DeValue::Array(array) => {
                array.iter_mut().enumerate().find_map(|(n, element)| match element.get_mut() {
                    DeValue::Table(inner) => take_out(inner, span, &format!("{key}[{n}]")),
                    _ => None,
                })
            }
            _ => None,
        }
    })
}

/// `path.name`; names that are not plain words in quotes, as TOML has them.
fn join(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let name = if plain { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}
