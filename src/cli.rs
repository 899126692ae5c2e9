//! The command line: what the program is asked to do. An option is read here and told of in `description`.

mod description;
#[cfg(test)]
mod generated;
#[cfg(test)]
#[path = "../tests/support/golden.rs"]
mod golden;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

pub(crate) use description::help;
use reverse_proxy::config::client_from;

/// Where the configuration is looked for when nothing else is said.
const DEFAULT_PATH: &str = "reverse-proxy.toml";

/// The environment variable that names the configuration file; `--config` overrides it.
pub(crate) const PATH_VARIABLE: &str = "REVERSE_PROXY_CONFIG_PATH";

const NEEDS_FILE: &str = "--config needs a file, for example --config reverse-proxy.toml";
const NEEDS_REQUEST: &str = "--explain needs a request, for example --explain 'GET http://shop.example/cart'";
const NEEDS_FIELD: &str = "--header needs a header field, for example --header 'Accept: text/html'";
const NEEDS_ADDRESS: &str = "--from needs an address, for example --from 192.0.2.7";

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
    /// Explain what this configuration does with a request.
    Explain {
        /// The file.
        path: PathBuf,
        /// Method and target.
        request: String,
        /// Header fields, each `Name: value`.
        fields: Vec<String>,
        /// Where the connection comes from.
        from: Option<IpAddr>,
        /// For programs.
        json: bool,
    },
    /// Ask the proxy that runs with this configuration whether it is well.
    Health(PathBuf),
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
    (&["explain", "trace", "--trace"], "a request is explained with --explain REQUEST"),
    (&["demo"], "the demo is started with --demo"),
    (&["stop", "quit", "-s"], "the proxy is stopped with the signal SIGTERM"),
];

/// Why a command line makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UsageError {
    /// Nothing we know.
    Unknown(OsString),
    /// An option without the value it needs: what that is, with an example.
    Needs(&'static str),
    /// A value that is not Unicode, of this option.
    NotUnicode(&'static str),
    /// `--from` with something that is no address.
    NoAddress(String),
    /// An option that goes with `--explain`, without it.
    ExplainMissing(&'static str),
    /// `--explain` with an option that it does not go with.
    ExplainWith(&'static str),
    /// `--health` with an option that it does not go with.
    HealthWith(&'static str),
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
            Self::Needs(what) => f.write_str(what),
            Self::NotUnicode(option) => write!(f, "the value of {option} is not Unicode"),
            Self::NoAddress(text) => {
                write!(
                    f,
                    "{text:?} is no address of a client; expected one, for example --from 192.0.2.7, or unix:"
                )
            }
            Self::ExplainMissing(option) => write!(f, "{option} goes with --explain"),
            Self::ExplainWith(option) => write!(f, "--explain does not go with {option}"),
            Self::HealthWith(option) => write!(f, "--health does not go with {option}"),
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
    let mut health = None;
    let (mut explain, mut fields, mut from, mut json) = (None, Vec::new(), None, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = split(&argument);
        match name.to_str() {
            Some("--config" | "-c") => {
                let file = value.map(OsStr::to_owned).or_else(|| arguments.next());
                let file = file.filter(|file| !file.is_empty()).ok_or(UsageError::Needs(NEEDS_FILE))?;
                once(&mut config, PathBuf::from(file), "--config")?;
            }
            Some("--explain") => {
                let request = text(value, &mut arguments, "--explain", NEEDS_REQUEST)?;
                once(&mut explain, request, "--explain")?;
            }
            Some("--header" | "-H") => fields.push(text(value, &mut arguments, "--header", NEEDS_FIELD)?),
            Some("--from") => {
                let address = text(value, &mut arguments, "--from", NEEDS_ADDRESS)?;
                let address = client_from(&address).ok_or(UsageError::NoAddress(address))?;
                once(&mut from, address, "--from")?;
            }
            Some("--json") if value.is_none() => once(&mut json, (), "--json")?,
            Some("--json") => return Err(UsageError::NoValue("--json")),
            Some("--check") if value.is_none() => once(&mut check, (), "--check")?,
            Some("--strict") if value.is_none() => once(&mut strict, (), "--strict")?,
            Some("--health") if value.is_none() => once(&mut health, (), "--health")?,
            Some("--health") => return Err(UsageError::NoValue("--health")),
            Some("--demo") if value.is_none() => once(&mut demo, (), "--demo")?,
            Some("--check") => return Err(UsageError::NoValue("--check")),
            Some("--strict") => return Err(UsageError::NoValue("--strict")),
            Some("--demo") => return Err(UsageError::NoValue("--demo")),
            _ => return Err(UsageError::Unknown(argument)),
        }
    }

    let others = [
        (check.is_some(), "--check"),
        (strict.is_some(), "--strict"),
        (explain.is_some(), "--explain"),
        (demo.is_some(), "--demo"),
    ];
    if health.is_some()
        && let Some((_, option)) = others.into_iter().find(|(is_given, _)| *is_given)
    {
        return Err(UsageError::HealthWith(option));
    }
    if demo.is_some() {
        return match (config, check, strict, explain) {
            (Some(_), ..) => Err(UsageError::DemoWith("--config")),
            (_, Some(()), ..) => Err(UsageError::DemoWith("--check")),
            (_, _, Some(()), _) => Err(UsageError::DemoWith("--strict")),
            (.., Some(_)) => Err(UsageError::DemoWith("--explain")),
            (None, None, None, None) => Ok(Command::Demo),
        };
    }
    let variable = variable.filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = config.or(variable).unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
    if let Some(request) = explain {
        return match (check, strict) {
            (Some(()), _) => Err(UsageError::ExplainWith("--check")),
            (None, Some(())) => Err(UsageError::ExplainWith("--strict")),
            (None, None) => Ok(Command::Explain { path, request, fields, from, json: json.is_some() }),
        };
    }
    for (is_given, option) in
        [(!fields.is_empty(), "--header"), (from.is_some(), "--from"), (json.is_some(), "--json")]
    {
        if is_given {
            return Err(UsageError::ExplainMissing(option));
        }
    }
    if health.is_some() {
        return Ok(Command::Health(path));
    }
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

/// The value of an option that is text: behind the equals sign, or the next argument.
fn text(
    value: Option<&OsStr>,
    rest: &mut impl Iterator<Item = OsString>,
    option: &'static str,
    needs: &'static str,
) -> Result<String, UsageError> {
    let value = value.map(OsStr::to_owned).or_else(|| rest.next()).filter(|value| !value.is_empty());
    value.ok_or(UsageError::Needs(needs))?.into_string().map_err(|_| UsageError::NotUnicode(option))
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
    fn explain_and_what_goes_with_it() {
        let explain = |fields: &[&str], from: Option<&str>, json| {
            Ok(Command::Explain {
                path: "f".into(),
                request: "GET /".to_owned(),
                fields: fields.iter().map(ToString::to_string).collect(),
                from: from.map(|from| from.parse().unwrap()),
                json,
            })
        };
        assert_eq!(parsed(&["--explain", "GET /", "-c", "f"], None), explain(&[], None, false));
        let all = ["--json", "--explain=GET /", "-H", "A: b", "--header=C: d=e", "--from", "::ffff:10.0.0.1"];
        assert_eq!(parsed(&all, Some("f")), explain(&["A: b", "C: d=e"], Some("10.0.0.1"), true));
        let unix = ["--explain", "GET /", "--from=unix:"];
        assert_eq!(parsed(&unix, Some("f")), explain(&[], Some("0.0.0.0"), false));
    }

    #[test]
    fn what_makes_no_sense() {
        for (arguments, expected) in [
            (&["--explain"][..], NEEDS_REQUEST),
            (&["--explain="], NEEDS_REQUEST),
            (&["--explain", "GET /", "-H"], NEEDS_FIELD),
            (&["--explain", "GET /", "--explain", "GET /"], "--explain is given twice"),
            (&["--explain", "GET /", "--check"], "--explain does not go with --check"),
            (&["--explain", "GET /", "--strict"], "--explain does not go with --strict"),
            (&["--explain", "GET /", "--demo"], "--demo needs no configuration; leave out --explain"),
            (&["--explain", "GET /", "--json=yes"], "--json takes no value"),
            (
                &["--explain", "GET /", "--from", "somewhere"],
                "\"somewhere\" is no address of a client; expected one, for example --from 192.0.2.7, or unix:",
            ),
            (&["--json"], "--json goes with --explain"),
            (&["-H", "A: b", "--check"], "--header goes with --explain"),
            (&["--from", "::1"], "--from goes with --explain"),
            (&["explain"], "unknown argument \"explain\"; a request is explained with --explain REQUEST"),
            (&["--wrong"], "unknown argument \"--wrong\""),
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
                assert_eq!(
                    matches!(read, Err(UsageError::Needs(_))),
                    flag.value.is_some(),
                    "{name}: {read:?}"
                );
            }
        }
    }
}
