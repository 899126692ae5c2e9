//! The man page and the completions in `dist/` are those of the description, made by clap's generators. clap is not part of
//! the program, whose own parser says more about a slip.

use std::path::Path;

use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::{Generator, generate, shells};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::description::{FLAGS, Flag, NAME, SECTIONS, SUMMARY, Section, USAGE, Value};
use super::golden;

fn command() -> Command {
    // Their texts would be clap's.
    let command = Command::new(NAME).about(SUMMARY).disable_help_flag(true).disable_version_flag(true);
    FLAGS.iter().fold(command, |command, flag| command.arg(arg(flag)))
}

fn arg(flag: &Flag) -> Arg {
    let long = flag.long.trim_start_matches('-');
    let arg = Arg::new(long).long(long).help(flag.help);
    let arg = match flag.short.and_then(|short| short.chars().nth(1)) {
        Some(short) => arg.short(short),
        None => arg,
    };
    match flag.value {
        Some(Value::File) => arg.value_name(Value::File.name()).value_hint(ValueHint::FilePath),
        Some(Value::Field) => arg.value_name(Value::Field.name()).action(ArgAction::Append),
        Some(value) => arg.value_name(value.name()),
        None => arg.action(ArgAction::SetTrue),
    }
}

fn completion(shell: impl Generator) -> String {
    let mut script = Vec::new();
    generate(shell, &mut command(), NAME, &mut script);
    String::from_utf8(script).unwrap()
}

fn man_page() -> String {
    let man = Man::new(command());
    // No date, so that the same source makes the same page; clap would leave out the quotes of what is empty.
    let mut page = format!(".TH {NAME} 1 \"\" {NAME} \"User Commands\"\n").into_bytes();
    man.render_name_section(&mut page).unwrap();
    let mut rest = Roff::new();
    rest.control("SH", ["SYNOPSIS"]);
    for (number, (line, _)) in USAGE.iter().enumerate() {
        if number > 0 {
            rest.control("br", []);
        }
        rest.text([bold(NAME), roman(format!(" {line}"))]);
    }
    rest.control("SH", ["DESCRIPTION"]);
    for (line, what) in USAGE {
        rest.control("TP", []).text([bold(format!("{NAME} {line}"))]).text([roman(*what)]);
    }
    rest.to_writer(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let mut rest = Roff::new();
    for Section { heading, entries } in SECTIONS {
        rest.control("SH", [heading.to_uppercase().as_str()]);
        for (term, what) in *entries {
            rest.control("TP", []).text([bold(*term)]).text([roman(*what)]);
        }
    }
    rest.control("SH", ["FILES"]);
    rest.control("TP", []).text([bold("/etc/reverse-proxy/reverse-proxy.toml")]).text([roman(
        "the configuration, where the package and the unit of systemd have it; every key is explained in it",
    )]);
    rest.to_writer(&mut page).unwrap();
    String::from_utf8(page).unwrap()
}

#[test]
fn the_files_in_dist_are_up_to_date() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist");
    golden::check(&dist.join("man/reverse-proxy.1"), &man_page());
    golden::check(&dist.join("completions/reverse-proxy.bash"), &completion(shells::Bash));
    golden::check(&dist.join("completions/_reverse-proxy"), &completion(shells::Zsh));
    golden::check(&dist.join("completions/reverse-proxy.fish"), &completion(shells::Fish));
}
