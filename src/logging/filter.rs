//! [`Filter`]: what `RUST_LOG` says, and what in it makes no sense. `env_logger` takes any word that is not a level for the
//! name of a module, and then a misspelt level is a program that never says anything.

use std::ffi::OsStr;

use log::LevelFilter;

/// What is logged when `RUST_LOG` does not say.
const DEFAULT: &str = "info";
/// The same for our modules alone.
const OURS_BY_DEFAULT: &str = "reverse_proxy=info";
/// What `module_path!()` begins with here.
const CRATE: &str = "reverse_proxy";
/// What can be written, for those who wrote something else.
const HELP: &str = "RUST_LOG takes error, warn, info, debug or off, for all or by module: RUST_LOG=debug, \
                    RUST_LOG=warn,reverse_proxy::health=info";

/// What `RUST_LOG` comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// For `env_logger`.
    pub(super) spec: String,
    /// For whoever set it.
    pub(super) complaints: Vec<String>,
}

impl Filter {
    /// `value`: of `RUST_LOG`; empty is as good as not set.
    pub(super) fn read(value: Option<&OsStr>) -> Self {
        let value = value.unwrap_or_default().to_string_lossy();
        if value.trim().is_empty() {
            return Self { spec: DEFAULT.to_owned(), complaints: Vec::new() };
        }
        // Behind a slash comes a pattern for the text of lines.
        let (directives, pattern) = value.split_once('/').unwrap_or((&value, ""));
        let mut spec = Vec::new();
        let mut complaints = Vec::new();
        let pattern = if pattern.contains('/') {
            // With a second slash, env_logger would ignore everything.
            complaints.push(format!("RUST_LOG: \"/{pattern}\" makes no sense and is ignored; {HELP}"));
            ""
        } else {
            pattern
        };
        let mut reaches_us = false;
        for directive in directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            match read_directive(directive) {
                Directive::Nonsense => {
                    complaints.push(format!("RUST_LOG: {directive:?} makes no sense and is ignored; {HELP}"));
                    continue;
                }
                Directive::Ours => reaches_us = true,
                Directive::Others => {}
            }
            spec.push(directive);
        }
        if !reaches_us {
            complaints.push(format!(
                "RUST_LOG={value:?} names no module of this program, which logs at {DEFAULT:?} therefore; {HELP}"
            ));
            spec.push(OURS_BY_DEFAULT);
        }
        let mut spec = spec.join(",");
        if !pattern.is_empty() {
            spec = format!("{spec}/{pattern}");
        }
        Self { spec, complaints }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    /// A level for everything, or for modules of ours.
    Ours,
    /// For another library, perhaps.
    Others,
    /// Neither a level nor the name of a module of anybody.
    Nonsense,
}

/// `level`, `module` or `module=level`. What `env_logger` can't read is nonsense.
fn read_directive(directive: &str) -> Directive {
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let name = match directive.split_once('=') {
        None if is_level(directive) => return Directive::Ours,
        None => directive,
        Some((name, level)) if level.trim().is_empty() || is_level(level.trim()) => name,
        Some(_) => return Directive::Nonsense,
    };
    if is_ours(name) {
        Directive::Ours
    } else if name.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | ':')) {
        Directive::Others
    } else {
        Directive::Nonsense
    }
}

/// Whether the name is the beginning of that of one of our modules, or of one inside: `env_logger` compares beginnings.
fn is_ours(name: &str) -> bool {
    if CRATE.starts_with(name) {
        return true;
    }
    let Some(path) = name.strip_prefix(CRATE).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let path = path.strip_prefix(':').unwrap_or(path);
    modules().any(|module| {
        module.starts_with(path) || path.strip_prefix(module).is_some_and(|rest| rest.starts_with(':'))
    })
}

/// The modules of this library, from where they are listed: a second list would be out of date one day.
fn modules() -> impl Iterator<Item = &'static str> {
    include_str!("../lib.rs").lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Filter {
        Filter::read(Some(OsStr::new(value)))
    }

    #[test]
    fn unset_or_empty_is_info() {
        let info = Filter { spec: "info".into(), complaints: vec![] };
        assert_eq!(Filter::read(None), info);
        assert_eq!(read(""), info);
        assert_eq!(read(" "), info);
    }

    #[test]
    fn what_makes_sense_passes_as_it_is() {
        for value in [
            "debug",
            "OFF",
            "warn,reverse_proxy::health=info",
            "reverse_proxy",
            "reverse_proxy=off",
            "reverse_proxy::health",
            "reverse_proxy::health::probe=trace",
            "reverse_proxy::exch=debug",
            "info,tiny_http=debug",
            "=debug",
            "debug/backend",
        ] {
            assert_eq!(read(value), Filter { spec: value.into(), complaints: vec![] }, "{value}");
        }
    }

    #[test]
    fn what_reaches_no_module_of_ours_is_warned_of_and_changes_nothing() {
        for value in [
            "verbose",
            "json",
            "inof",
            "tiny_http=debug",
            "reverse_proxy::heath=debug",
            "reverse_proxies=warn",
        ] {
            let Filter { spec, complaints } = read(value);
            assert_eq!(spec, format!("{value},reverse_proxy=info"));
            assert_eq!(complaints.len(), 1, "{complaints:?}");
            assert!(complaints[0].contains(value) && complaints[0].contains("reverse_proxy::health=info"));
        }
    }

    #[test]
    fn what_can_not_be_read_is_left_out_and_warned_of() {
        let Filter { spec, complaints } = read("reverse-proxy=warn");
        assert_eq!(spec, "reverse_proxy=info");
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        for value in [
            "debug/a/b",
            "debug,reverse-proxy=warn",
            "debug,reverse_proxy=loud",
            "debug,a=b=c",
            "debug,{json}",
        ] {
            let Filter { spec, complaints } = read(value);
            assert_eq!(spec, "debug", "{value}");
            assert_eq!(complaints.len(), 1, "{complaints:?}");
        }
    }

    #[test]
    fn the_modules_are_found() {
        assert!(modules().any(|module| module == "logging"));
        assert!(modules().any(|module| module == "workers"));
    }
}
