//! The command line in words: the one description from which `--help`, the man page and the shell completions are made.

use std::fmt::Write;

/// An option.
#[derive(Debug)]
pub(crate) struct Flag {
    /// With the two dashes.
    pub(crate) long: &'static str,
    /// With the dash.
    pub(crate) short: Option<&'static str>,
    pub(crate) value: Option<Value>,
    pub(crate) help: &'static str,
}

/// What follows an option.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    /// Shells complete it.
    File,
    /// Method and target.
    Request,
    /// A header field.
    Field,
    /// Of a client.
    Address,
}

impl Value {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File => "FILE",
            Self::Request => "REQUEST",
            Self::Field => "FIELD",
            Self::Address => "ADDRESS",
        }
    }
}

/// A heading, and terms with what they mean.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) heading: &'static str,
    pub(crate) entries: &'static [(&'static str, &'static str)],
}

pub(crate) const NAME: &str = "reverse-proxy";

pub(crate) const SUMMARY: &str = "an HTTP/1.1 reverse proxy that runs on plain threads";

/// What stands behind the name, and what that does.
pub(crate) static USAGE: &[(&str, &str)] = &[
    ("[--config FILE]", "run until told to stop"),
    ("[--config FILE] --check [--strict]", "check the configuration, do not run"),
    ("[--config FILE] --explain REQUEST", "say what becomes of a request, do not run"),
    ("[--config FILE] --health", "ask the one that runs whether it is well"),
    ("--demo", "run in front of three built-in origins; needs no file"),
];

pub(crate) static FLAGS: &[Flag] = &[
    Flag { long: "--config", short: Some("-c"), value: Some(Value::File), help: "the configuration file" },
    Flag {
        long: "--check",
        short: None,
        value: None,
        help: "say whether the configuration is valid: one line on stdout if it is, one line for each error and each \
               warning on stderr",
    },
    Flag { long: "--strict", short: None, value: None, help: "with --check: warnings count as errors" },
    Flag {
        long: "--explain",
        short: None,
        value: Some(Value::Request),
        help: "say which route takes a request, written as 'GET http://shop.example/cart', and why the others do not; \
               what the backend gets; and each limit that applies, and where it is from",
    },
    Flag {
        long: "--header",
        short: Some("-H"),
        value: Some(Value::Field),
        help: "with --explain: a header field of the request, written as 'Name: value'; as often as there are any",
    },
    Flag {
        long: "--from",
        short: None,
        value: Some(Value::Address),
        help: "with --explain: where the connection comes from; an address, or unix: for a Unix-domain socket \
               (default: 127.0.0.1)",
    },
    Flag { long: "--json", short: None, value: None, help: "with --explain: in JSON" },
    Flag {
        long: "--health",
        short: None,
        value: None,
        help: "ask the proxy that runs with this configuration, by its [admin] listener, whether it is well",
    },
    Flag {
        long: "--demo",
        short: None,
        value: None,
        help: "for a first look; cannot be combined with --config or --check",
    },
    Flag { long: "--help", short: Some("-h"), value: None, help: "print this help" },
    Flag {
        long: "--version",
        short: Some("-V"),
        value: None,
        help: "print the version, the commit it was built from and its cargo features",
    },
];

pub(crate) static SECTIONS: &[Section] = &[
    Section {
        heading: "Environment",
        entries: &[
            (
                super::PATH_VARIABLE,
                "the configuration file, unless --config names one; with neither, reverse-proxy.toml in the working \
                 directory",
            ),
            (
                "RUST_LOG",
                "what to log on stderr: error, warn, info, debug or off, for all or by module (default: info); debug \
                 adds a line per exchange",
            ),
            (
                "LISTEN_FDS, NOTIFY_SOCKET",
                "set by systemd: sockets to listen on that it has opened, and where it wants to hear of the start and \
                 the end",
            ),
        ],
    },
    Section {
        heading: "Signals",
        entries: &[
            (
                "SIGINT (Ctrl-C), SIGTERM",
                "after drain_delay_secs take no new connections, finish the requests in flight within \
                 shutdown_timeout, then stop; a second signal stops at once",
            ),
            ("SIGHUP", "reads the configuration again; if it has errors, nothing changes"),
            ("SIGUSR1", "opens the file of the access log again"),
            ("SIGUSR2", "writes what is being carried to the log"),
        ],
    },
    Section {
        heading: "Exit codes",
        entries: &[
            (
                "0",
                "stopped when told to; with --check: the configuration is valid, perhaps with warnings; with --explain: \
                 a route takes the request, or the proxy itself answers what it asks; with --health: it is well",
            ),
            (
                "1",
                "the configuration is not valid, or the proxy could not start; with --explain: the request is refused; with \
                 --health: it is not well, or cannot be asked",
            ),
            ("2", "the command line makes no sense, or a second signal cut the shutdown short"),
        ],
    },
];

/// Lines of the help are not longer.
const WIDTH: usize = 100;

/// The answer to `--help`.
pub(crate) fn help() -> String {
    let mut text = format!("{NAME}: {SUMMARY}\n");
    let usage: Vec<_> = USAGE.iter().map(|(line, what)| (format!("{NAME} {line}"), *what)).collect();
    section(&mut text, "Usage", &usage);
    let flags: Vec<_> = FLAGS.iter().map(|flag| (term(flag), flag.help)).collect();
    section(&mut text, "Options", &flags);
    for Section { heading, entries } in SECTIONS {
        let entries: Vec<_> = entries.iter().map(|(term, what)| ((*term).to_owned(), *what)).collect();
        section(&mut text, heading, &entries);
    }
    text
}

/// `-c, --config FILE`, with the long names below each other.
fn term(flag: &Flag) -> String {
    let short = flag.short.map_or_else(|| " ".repeat(4), |short| format!("{short}, "));
    let value = flag.value.map(|value| format!(" {}", value.name())).unwrap_or_default();
    format!("{short}{}{value}", flag.long)
}

fn section(text: &mut String, heading: &str, entries: &[(String, &str)]) {
    let widest = entries.iter().map(|(term, _)| term.len()).max().unwrap_or_default();
    let _ = write!(text, "\n{heading}:\n");
    for (term, what) in entries {
        let mut line = format!("  {term:widest$} ");
        let margin = line.len();
        for word in what.split(' ') {
            if line.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(text, "{line}");
                line = " ".repeat(margin);
            }
            let _ = write!(line, " {word}");
        }
        let _ = writeln!(text, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_is_laid_out_for_a_terminal() {
        let help = help();
        assert!(help.lines().all(|line| line.len() <= WIDTH && line.trim_end() == line), "{help}");
        assert!(help.contains("\n  -c, --config FILE      the configuration file\n"), "{help}");
        assert!(
            help.contains("\n      --check            say whether the configuration is valid: one line"),
            "{help}"
        );
        for word in ["reverse-proxy.toml", super::super::PATH_VARIABLE, "RUST_LOG", "SIGTERM"] {
            assert!(help.contains(word), "{word}");
        }
    }

    #[test]
    fn terms_are_not_longer_than_what_they_mean_is_wide() {
        for (line, _) in USAGE {
            assert!(NAME.len() + line.len() < WIDTH / 2, "{line}");
        }
    }
}
