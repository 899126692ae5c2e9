//! The command line: what the program is asked to do. An option is read here and told of in `description`.

mod description;
#[cfg(test)]
mod generated;
#[cfg(test)]
#[path = "../tests/support/golden.rs"]
mod golden;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

pub(crate) use description::help;

/// Where the configuration is looked for when nothing else is said.
const DEFAULT_PATH: &str = "reverse-proxy.toml";

/// The environment variable that names the configuration file; `--config` overrides it.
pub(crate) const PATH_VARIABLE: &str = "REVERSE_PROXY_CONFIG_PATH";

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Run with this configuration.
    Run(PathBuf),
    /// Check this configuration.
    Check {
        /// The file.
        path: PathBuf,
        /// Warnings count as errors.
        strict: bool,
    },
    /// Run with built-in origins.
    Demo,
    /// Print [`help`].
    Help,
    /// Print the version.
    Version,
}

/// What other programs take, and what to say to who tries it here: the end of a sentence.
const FROM_ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &[
            "-t",
            "-T",
            "-n",
            "check",
            "test",
            "validate",
            "configtest",
            "--test",
            "--validate",
            "--configtest",
            "--check-config",
            "--dry-run",
        ],
        "the configuration is checked with --check",
    ),
    (
        &["run", "start", "serve", "--run", "--start"],
        "leave it out: without --check or --demo the proxy runs",
    ),
    (&["help", "-help", "-?", "/?"], "help is printed with --help"),
    (&["version", "-v", "-version"], "the version is printed with --version"),
    (&["demo"], "the demo is started with --demo"),
    (&["stop", "quit", "-s"], "the proxy is stopped with the signal SIGTERM"),
];

/// Why a command line makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UsageError {
    /// Nothing we know.
    Unknown(OsString),
    /// `--config` without a file.
    NoFile,
    /// An option that takes no value has one: `--check=yes`.
    NoValue(&'static str),
    /// An option more than once.
    Twice(&'static str),
    /// `--demo` with an option about a configuration file.
    DemoWith(&'static str),
    /// `--strict` without `--check`.
    StrictAlone,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => {
                write!(f, "unknown argument {argument:?}")?;
                let advice = FROM_ELSEWHERE
                    .iter()
                    .find(|(words, _)| words.iter().any(|word| argument == word))
                    .map(|(_, advice)| advice);
                if let Some(advice) = advice {
                    return write!(f, "; {advice}");
                }
                // Else a file by itself is the most likely slip.
                if !argument.as_encoded_bytes().starts_with(b"-") {
                    write!(f, "; a configuration file is named with --config {}", argument.display())?;
                }
                Ok(())
            }
            Self::NoFile => f.write_str("--config needs a file, for example --config reverse-proxy.toml"),
            Self::NoValue(option) => write!(f, "{option} takes no value"),
            Self::Twice(option) => write!(f, "{option} is given twice"),
            Self::StrictAlone => f.write_str("--strict goes with --check"),
            Self::DemoWith(option) => write!(f, "--demo needs no configuration; leave out {option}"),
        }
    }
}

/// Reads `arguments`, the program's own name not among them. `variable` is the value of [`PATH_VARIABLE`]; empty
/// counts as not set. `--help` and `--version` win over everything, errors included, as people expect.
///
/// # Errors
/// What is wrong with the first argument that is.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    variable: Option<OsString>,
) -> Result<Command, UsageError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let asked =
        |long: &str, short: &str| arguments.iter().any(|argument| argument == long || argument == short);
    if asked("--help", "-h") {
        return Ok(Command::Help);
    }
    if asked("--version", "-V") {
        return Ok(Command::Version);
    }

    let (mut config, mut check, mut strict, mut demo) = (None, None, None, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = split(&argument);
        match name.to_str() {
            Some("--config" | "-c") => {
                let file = value.map(OsStr::to_owned).or_else(|| arguments.next());
                let file = file.filter(|file| !file.is_empty()).ok_or(UsageError::NoFile)?;
                once(&mut config, PathBuf::from(file), "--config")?;
            }
            Some("--check") if value.is_none() => once(&mut check, (), "--check")?,
            Some("--strict") if value.is_none() => once(&mut strict, (), "--strict")?,
            Some("--demo") if value.is_none() => once(&mut demo, (), "--demo")?,
            Some("--check") => return Err(UsageError::NoValue("--check")),
            Some("--strict") => return Err(UsageError::NoValue("--strict")),
            Some("--demo") => return Err(UsageError::NoValue("--demo")),
            _ => return Err(UsageError::Unknown(argument)),
        }
    }

    if demo.is_some() {
        return match (config, check, strict) {
            (Some(_), ..) => Err(UsageError::DemoWith("--config")),
            (_, Some(()), _) => Err(UsageError::DemoWith("--check")),
            (.., Some(())) => Err(UsageError::DemoWith("--strict")),
            (None, None, None) => Ok(Command::Demo),
        };
    }
    let variable = variable.filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = config.or(variable).unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
    match (check, strict) {
        (Some(()), _) => Ok(Command::Check { path, strict: strict.is_some() }),
        (None, Some(())) => Err(UsageError::StrictAlone),
        (None, None) => Ok(Command::Run(path)),
    }
}

/// `--name=value` in two. A file whose name is not Unicode has to be an argument of its own.
fn split(argument: &OsStr) -> (&OsStr, Option<&OsStr>) {
    match argument.to_str().and_then(|text| text.split_once('=')) {
        Some((name, value)) if name.starts_with("--") => (OsStr::new(name), Some(OsStr::new(value))),
        _ => (argument, None),
    }
}

fn once<T>(place: &mut Option<T>, value: T, name: &'static str) -> Result<(), UsageError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UsageError::Twice(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str], variable: Option<&str>) -> Result<Command, UsageError> {
        parse(arguments.iter().map(OsString::from), variable.map(OsString::from))
    }

    #[test]
    fn flag_over_variable_over_default() {
        let run = |path: &str| Ok(Command::Run(path.into()));
        assert_eq!(parsed(&[], None), run("reverse-proxy.toml"));
        assert_eq!(parsed(&[], Some("")), run("reverse-proxy.toml"));
        assert_eq!(parsed(&[], Some("v.toml")), run("v.toml"));
        for flag in [&["--config", "f.toml"][..], &["--config=f.toml"], &["-c", "f.toml"]] {
            assert_eq!(parsed(flag, Some("v.toml")), run("f.toml"));
        }
        assert_eq!(parsed(&["--config=a=b"], None), run("a=b"));
        let check = |path: &str, strict| Ok(Command::Check { path: path.into(), strict });
        assert_eq!(parsed(&["--check"], Some("v.toml")), check("v.toml", false));
        assert_eq!(parsed(&["--check", "--config", "f"], None), check("f", false));
        assert_eq!(parsed(&["--config", "f", "--check"], None), check("f", false));
        assert_eq!(parsed(&["--strict", "--config", "f", "--check"], None), check("f", true));
    }

    #[test]
    fn the_other_commands() {
        assert_eq!(parsed(&["--demo"], Some("v.toml")), Ok(Command::Demo));
        for help in ["--help", "-h"] {
            assert_eq!(parsed(&["--wrong", help], None), Ok(Command::Help));
        }
        for version in ["--version", "-V"] {
            assert_eq!(parsed(&[version], None), Ok(Command::Version));
        }
    }

    #[test]
    fn what_makes_no_sense() {
        for (arguments, expected) in [
            (&["--wrong"][..], "unknown argument \"--wrong\""),
            (&["--configx=f"], "unknown argument \"--configx=f\""),
            (&["f.toml"], "unknown argument \"f.toml\"; a configuration file is named with --config f.toml"),
            (&["--config"], "--config needs a file, for example --config reverse-proxy.toml"),
            (&["--config="], "--config needs a file, for example --config reverse-proxy.toml"),
            (&["--config", "a", "-c", "b"], "--config is given twice"),
            (&["--check", "--check"], "--check is given twice"),
            (&["--check=yes"], "--check takes no value"),
            (&["--strict=yes", "--check"], "--strict takes no value"),
            (&["--strict"], "--strict goes with --check"),
            (&["--demo", "--strict"], "--demo needs no configuration; leave out --strict"),
            (&["-t"], "unknown argument \"-t\"; the configuration is checked with --check"),
            (&["check"], "unknown argument \"check\"; the configuration is checked with --check"),
            (&["validate"], "unknown argument \"validate\"; the configuration is checked with --check"),
            (&["-c", "f", "-t"], "unknown argument \"-t\"; the configuration is checked with --check"),
            (&["help"], "unknown argument \"help\"; help is printed with --help"),
            (&["-v"], "unknown argument \"-v\"; the version is printed with --version"),
            (&["run"], "unknown argument \"run\"; leave it out: without --check or --demo the proxy runs"),
            (&["--demo=yes"], "--demo takes no value"),
            (&["--demo", "--check"], "--demo needs no configuration; leave out --check"),
            (&["--config", "a", "--demo"], "--demo needs no configuration; leave out --config"),
        ] {
            assert_eq!(parsed(arguments, None).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_is_told_of_is_read() {
        for flag in description::FLAGS {
            for name in [Some(flag.long), flag.short].into_iter().flatten() {
                let read = parsed(&[name], None);
                assert!(!matches!(read, Err(UsageError::Unknown(_))), "{name}: {read:?}");
                assert_eq!(read == Err(UsageError::NoFile), flag.value.is_some(), "{name}: {read:?}");
            }
        }
    }
}
