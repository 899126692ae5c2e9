//! The tables of the configuration reference: every key is there, and the defaults are those of the file we ship.

use super::super::raw::{TABLES, TableKeys};
use super::{accepted, shipped};
use crate::explain::{self, Question};

const README: &str = include_str!("../../../README.md");
const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// A row of a table.
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) default: &'static str,
    pub(super) unit: &'static str,
    pub(super) meaning: &'static str,
}

/// The rows of the table under `heading`.
pub(super) fn rows(heading: &str) -> Vec<Row> {
    let (_, section) = REFERENCE.split_once(&format!("\n### {heading}\n")).expect(heading);
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let mut cell = || cells.next().unwrap();
        Row { key: cell().trim_matches('`'), default: cell(), unit: cell(), meaning: cell() }
    })
    .collect()
}

#[test]
fn readme_table_lists_every_key() {
    for table in TABLES {
        let keys: Vec<&str> = rows(&heading(table)).iter().map(|row| row.key).collect();
        assert_eq!(keys, table.keys, "of {}", table.name);
    }
}

/// So that what it shows of errors does not stay behind.
#[test]
fn readme_shows_the_errors_as_they_are() {
    let bad = r#"listen_addr = "127.0.0.1:3000"
shutdown_timout = 20
[[routes]]
prefix = "api"
backend_addrs = ["127.0.0.1:9001"]
health_check = { path = "/health", interval_secs = 0 }
"#;
    let errors = super::super::Config::parse(bad, "bad.toml").unwrap_err().to_string();
    assert!(README.contains(&format!("```text\n{errors}\n```")), "{errors}");
}

/// What the reference calls a table.
pub(super) fn heading(table: &TableKeys) -> String {
    match table.name {
        "the top level, above the first [table]" => "Top level".to_owned(),
        "an entry of listen_addr" => "An entry of `listen_addr` as a table".to_owned(),
        "an entry of backend_addrs" => "An entry of `backend_addrs` as a table".to_owned(),
        name if name.starts_with('[') => format!("`{name}`"),
        name => format!("`{name}` of a route"),
    }
}

#[test]
fn readme_tables_have_the_defaults_of_the_shipped_file() {
    let rows: Vec<_> = TABLES.into_iter().flat_map(|table| rows(&heading(table))).collect();
    let mut compared = 0;
    for line in shipped::TEXT.lines() {
        let Some((key, value)) = line.strip_prefix("# ").and_then(|setting| setting.split_once(" = ")) else {
            continue;
        };
        let Some(Row { default, .. }) = rows.iter().find(|row| row.key == key) else {
            continue;
        };
        if value.ends_with("# example") {
            // "none", or in words what it depends on.
            assert!(!default.starts_with('`'), "{key}");
        } else {
            assert_eq!(*default, format!("`{value}`"), "{key}");
        }
        compared += 1;
    }
    assert!(compared > 20, "only {compared} defaults were compared");
}

/// The file it shows.
pub(super) fn example() -> &'static str {
    toml_after("## A configuration that does something")
}

/// The first TOML below a heading.
fn toml_after(heading: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n{heading}\n")).expect(heading);
    let (_, rest) = rest.split_once("\n```toml\n").expect("some TOML");
    rest.split_once("\n```\n").expect("its end").0
}

#[test]
fn readme_example_is_valid() {
    assert_eq!(accepted(example()).routes.len(), 2);
}

/// What it expects is what the example does, and what it shows of an explanation is what one says.
#[test]
fn readme_expects_what_the_example_does() {
    let text = format!("{}\n{}\n", example(), toml_after("## Know before it happens"));
    let config = accepted(&text);
    assert_eq!(config.expectations.len(), 2);
    explain::check(&config).expect("what the README says");
    let question = Question::new("GET http://shop.example/files/a.css?v=2", None).expect("a request");
    let question = question.field("Connection: close").expect("a field");
    let explanation = explain::explain(&config, &question).text();
    let (_, shown) =
        README.split_once(" --explain 'GET http://shop.example/files/a.css?v=2'").expect("a command");
    let (_, shown) = shown.split_once('\n').expect("the end of the command");
    let (shown, _) = shown.split_once("```").expect("the end of what is shown");
    let said: Vec<&str> = explanation.lines().map(str::trim_end).collect();
    for line in shown.lines() {
        assert!(said.contains(&line), "{line:?} is not in\n{explanation}");
    }
}
