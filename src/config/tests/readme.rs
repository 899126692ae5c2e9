//! The tables of the README: every key is there, and the defaults are those of the file we ship.

use super::super::raw::{TABLES, TableKeys};
use super::{accepted, shipped};

const README: &str = include_str!("../../../README.md");

/// The rows of the table under `heading`: what is in the first two columns.
fn rows(heading: &str) -> Vec<(&'static str, &'static str)> {
    let (_, section) = README.split_once(&format!("\n### {heading}\n")).expect(heading);
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let key = cells.next().unwrap().trim_matches('`');
        (key, cells.next().unwrap())
    })
    .collect()
}

#[test]
fn readme_table_lists_every_key() {
    for table in TABLES {
        let keys: Vec<&str> = rows(&heading(table)).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, table.keys, "of {}", table.name);
    }
}

/// What the README calls a table.
fn heading(table: &TableKeys) -> String {
    match table.name {
        "the top level, above the first [table]" => "Top level".to_owned(),
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
        let Some((_, default)) = rows.iter().find(|(name, _)| *name == key) else {
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

#[test]
fn readme_example_is_valid() {
    let (_, rest) = README.split_once("\n```toml\n").unwrap();
    let (example, _) = rest.split_once("\n```\n").unwrap();
    assert_eq!(accepted(example).routes.len(), 2);
}
