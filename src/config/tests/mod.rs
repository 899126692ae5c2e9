//! Files that are accepted, files that are refused, and the file we ship.

mod accepts;
mod balancing;
mod error_pages;
mod front;
#[path = "../../../tests/support/golden.rs"]
mod golden;
mod pools;
mod readme;
mod refuses;
mod rules;
mod schema;
mod shipped;
mod warns;

use super::Config;

const FILE: &str = "f.toml";

fn accepted(text: &str) -> Config {
    Config::parse(text, FILE).unwrap_or_else(|errors| panic!("refused:\n{errors}\n{text}"))
}

/// The messages about `text`, without the file name each of them begins with.
fn refused(text: &str) -> Vec<String> {
    let errors = Config::parse(text, FILE).expect_err(text);
    assert!(errors.iter().count() > 0);
    errors.iter().map(|error| error.to_string().strip_prefix(FILE).unwrap().to_owned()).collect()
}

/// Line 1 listens, line 2 begins a route, line 3 has its prefix, line 4 its backends; `more` begins on line 5.
fn with_route(more: &str) -> String {
    format!(
        "listen_addr = \"127.0.0.1:0\"\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"127.0.0.1:8001\"]\n{more}"
    )
}

/// Line 1 listens, line 2 begins a route, `key` is on line 3; what else the route requires follows.
fn with_key(key: &str) -> String {
    let mut text = format!("listen_addr = \"127.0.0.1:0\"\n[[routes]]\n{key}\n");
    for (name, line) in
        [("prefix", "prefix = \"/\"\n"), ("backend_addrs", "backend_addrs = [\"127.0.0.1:8001\"]\n")]
    {
        if !key.starts_with(name) {
            text.push_str(line);
        }
    }
    text
}

proptest::proptest! {
    /// Whatever is done to a file, the answer is a configuration or at least one message about this file.
    #[test]
    fn never_panics(
        begin in 0..shipped::TEXT.len(),
        cut in 0..80_usize,
        put in r#"[\[\]{}="\n.#,ea-z_0-9\-äs ]{0,12}"#,
        all in proptest::bool::ANY,
    ) {
        let mut text = shipped::uncommented(|_| all);
        let within = |mut at: usize, text: &str| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let begin = within(begin.min(text.len()), &text);
        let end = within((begin + cut).min(text.len()), &text).max(begin);
        text.replace_range(begin..end, &put);
        if let Err(errors) = Config::parse(&text, FILE) {
            proptest::prop_assert!(errors.iter().count() > 0);
            proptest::prop_assert!(errors.iter().all(|error| error.to_string().starts_with(FILE)));
        }
    }
}
