//! The file we ship: it parses, documents every key, and tells the truth about the defaults.

#[cfg(feature = "admin")]
use super::super::Written;
use super::super::raw::TABLES;
#[cfg(feature = "admin")]
use super::Config;
use super::accepted;
use crate::config::ListenAddr;

pub(super) const TEXT: &str = include_str!("../../../reverse-proxy.toml");

/// `key = value` where `line` is a key commented out.
fn commented_out(line: &str) -> Option<&str> {
    let setting = line.strip_prefix("# ")?;
    let (key, _) = setting.split_once(" = ")?;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(setting)
}

pub(super) fn uncommented(which: impl Fn(usize) -> bool) -> String {
    let line = |(n, line)| commented_out(line).filter(|_| which(n)).unwrap_or(line);
    TEXT.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn fits_the_demo() {
    let config = accepted(TEXT);
    assert_eq!(config.warnings, []);
    assert_eq!(config.listen_addrs, ["127.0.0.1:3000".parse::<ListenAddr>().unwrap().into()]);
    assert_eq!(config.routes[0].backends[0].addr.to_string(), "127.0.0.1:8000");
}

// It names what a build may lack.
#[test]
#[cfg(feature = "admin")]
fn all_of_it_uncommented_is_valid() {
    let config = accepted(&uncommented(|_| true));
    assert!(config.routes[0].deadline.is_some());
}

// Elsewhere the engine is another one.
#[test]
#[cfg(feature = "admin")]
fn defaults_are_as_documented() {
    // That a key is written can be worth a warning, whatever its value.
    let read = |text: &str| Config { warnings: Vec::new(), written: Written::default(), ..accepted(text) };
    let config = read(TEXT);
    let mut examples = Vec::new();
    for (n, line) in TEXT.lines().enumerate() {
        let Some(setting) = commented_out(line) else {
            continue;
        };
        let same = read(&uncommented(|other| other == n)) == config;
        assert_eq!(same, !setting.ends_with("# example"), "{setting}");
        if !same {
            examples.push(setting.split_once(" = ").unwrap().0);
        }
    }
    let expected = [
        "listen_mode",
        "acme_challenge_dir",
        "workers",
        "max_connections_per_client",
        "trusted_proxies",
        "path",
        "listen_addr",
        "hosts",
        "name",
        "slow_start_secs",
        "min_healthy",
        "sticky_cookie",
        "deadline_secs",
        "max_body_bytes",
        "max_in_flight_per_backend",
        "allow",
        "deny",
        "methods",
        "match_headers",
        "rate_limit",
        "forward_auth",
        "replace_prefix",
        "intercept_errors",
        "hsts_secs",
    ];
    assert_eq!(examples, expected);
}

#[test]
fn every_key_is_documented() {
    for table in TABLES {
        for key in table.keys {
            let as_key = TEXT.lines().any(|line| {
                let line = commented_out(line).unwrap_or(line);
                line.split_once(" = ").is_some_and(|(name, _)| name == *key)
            });
            let as_table = TEXT.contains(&format!("[{key}]")) || TEXT.contains(&format!(".{key}]"));
            // The tables in backend_addrs are shown in a comment.
            let inside = TEXT.contains(&format!("{{ {key} = ")) || TEXT.contains(&format!(", {key} = "));
            // A whole table is shown in a comment.
            let indented = TEXT.contains(&format!("\n#     {key} = "));
            assert!(as_key || as_table || inside || indented, "{key} of {}", table.name);
        }
    }
}
