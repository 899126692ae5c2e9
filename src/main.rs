//! The program: arguments, signals, log, configuration; then [`reverse_proxy::proxy`] has it.

mod cli;

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use cli::Command;
use reverse_proxy::build_info;
use reverse_proxy::config::Config;
use reverse_proxy::daemon;
use reverse_proxy::explain::{self, BadQuestion, Question};
use reverse_proxy::logging;
use reverse_proxy::signals::Signals;

/// The configuration is not valid, a request is refused, or an answer could not be written.
const FAILED: u8 = 1;
/// The command line makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match cli::parse(env::args_os().skip(1), env::var_os(cli::PATH_VARIABLE)) {
        Ok(command) => command,
        Err(error) => {
            complain(&format!("reverse-proxy: {error}\nTry reverse-proxy --help."));
            return ExitCode::from(USAGE);
        }
    };
    match command {
        Command::Help => answer(cli::help().trim_end()),
        Command::Version => answer(&build_info::line()),
        Command::Check { path, strict } => check(&path, strict),
        Command::Explain { path, request, fields, from, json } => match question(&request, &fields, from) {
            Ok(question) => explain(&path, &question, json),
            Err(error) => {
                complain(&format!("reverse-proxy: {error}\nTry reverse-proxy --help."));
                ExitCode::from(USAGE)
            }
        },
        Command::Run(path) => run(|signals| {
            // These errors begin with the name of the file.
            let config = explain::load(&path).map_err(|errors| errors.to_string())?;
            daemon::run(config, &path, signals).map_err(with_our_name)
        }),
        Command::Health(path) => health(&path),
        Command::Demo => run(demo),
    }
}

fn check(path: &Path, strict: bool) -> ExitCode {
    let config = match explain::load(path) {
        Ok(config) => config,
        Err(errors) => {
            complain(&errors.to_string());
            return ExitCode::from(FAILED);
        }
    };
    for warning in &config.warnings {
        complain(&format!("warning: {warning}"));
    }
    let warnings = match config.warnings.len() {
        0 => String::new(),
        count => format!(", {}", counted(count, "warning")),
    };
    if strict && !warnings.is_empty() {
        complain(&format!("{}: refused because of --strict{warnings}", path.display()));
        return ExitCode::from(FAILED);
    }
    let backends: usize = config.of_each_pool().map(|(_, route)| route.backends.len()).sum();
    answer(&format!(
        "{}: ok: {}, {}{warnings}",
        path.display(),
        counted(config.routes.len(), "route"),
        counted(backends, "backend")
    ))
}

fn question(request: &str, fields: &[String], from: Option<IpAddr>) -> Result<Question, BadQuestion> {
    fields.iter().try_fold(Question::new(request, from)?, |question, field| question.field(field))
}

/// Expectations of the file that are not fulfilled are no hindrance: this is how one finds out why.
fn explain(path: &Path, question: &Question, json: bool) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(errors) => {
            complain(&errors.to_string());
            return ExitCode::from(FAILED);
        }
    };
    let explanation = explain::explain(&config, question);
    let answered = answer(&if json { explanation.json() } else { explanation.text() });
    if explanation.is_refused() { ExitCode::from(FAILED) } else { answered }
}

/// Asks the proxy that has this configuration whether it is well.
#[cfg(feature = "admin")]
fn health(path: &Path) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(errors) => {
            complain(&errors.to_string());
            return ExitCode::from(FAILED);
        }
    };
    let Some(admin) = &config.admin else {
        complain(&format!("{}: it has no [admin] listen_addr, so that nobody can be asked", path.display()));
        return ExitCode::from(FAILED);
    };
    match reverse_proxy::livez::ask(admin) {
        Ok(said) => answer(&said),
        Err(error) => {
            complain(&format!("{}: {error}", admin.listen_addr));
            ExitCode::from(FAILED)
        }
    }
}

#[cfg(not(feature = "admin"))]
fn health(_: &Path) -> ExitCode {
    complain(&with_our_name("there is nobody to ask; the admin listener takes the cargo feature admin"));
    ExitCode::from(FAILED)
}

/// Runs what serves until a signal ends it; if it does not come to that, it says why. Signals come first: from here on,
/// none that others take for an order may end the process.
fn run(serve: impl FnOnce(Signals) -> Result<(), String>) -> ExitCode {
    let signals = match Signals::register() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&with_our_name(format_args!("cannot take over signals: {error}")));
            return ExitCode::from(FAILED);
        }
    };
    // Its end writes what is left of the log.
    let logging = match logging::start() {
        Ok(logging) => logging,
        Err(error) => {
            complain(&with_our_name(format_args!("cannot start the log: {error}")));
            return ExitCode::from(FAILED);
        }
    };
    match serve(signals) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by a level: whatever RUST_LOG says, nobody should have to guess why nothing runs.
            logging.say(&error);
            ExitCode::from(FAILED)
        }
    }
}

#[cfg(feature = "classic")]
fn demo(signals: Signals) -> Result<(), String> {
    reverse_proxy::demo::run(signals).map_err(with_our_name)
}

#[cfg(not(feature = "classic"))]
fn demo(_: Signals) -> Result<(), String> {
    Err(with_our_name("the demo is not part of this build; its origins take the cargo feature classic"))
}

fn with_our_name(error: impl Display) -> String {
    format!("reverse-proxy: {error}")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Prints what was asked for. `println!` would panic when nobody reads it: `reverse-proxy --help | head -1`.
fn answer(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

/// Says what is wrong, if anybody listens; the exit code says it too.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
