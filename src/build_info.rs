//! What this program was built from.

/// The version in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, as whoever built it said in the environment variable `REVERSE_PROXY_COMMIT`. No build script asks git: a
/// source package has none.
pub const COMMIT: &str = match option_env!("REVERSE_PROXY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The cargo features there are, and whether they are part of it.
const FEATURES: [(&str, bool); 3] = [
    ("admin", cfg!(feature = "admin")),
    ("classic", cfg!(feature = "classic")),
    ("tls", cfg!(feature = "tls")),
];

/// The cargo features that are part of it.
#[must_use]
pub fn features() -> Vec<&'static str> {
    FEATURES.into_iter().filter(|(_, is_built)| *is_built).map(|(name, _)| name).collect()
}

/// The answer to `--version`.
#[must_use]
pub fn line() -> String {
    let features = features();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(" ") };
    format!("{} {VERSION} (commit: {COMMIT}; features: {features})", env!("CARGO_PKG_NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_named() {
        let manifest: toml::Table = toml::from_str(include_str!("../Cargo.toml")).unwrap();
        let known = manifest["features"].as_table().unwrap().keys().filter(|name| *name != "default");
        assert!(known.eq(FEATURES.map(|(name, _)| name)));
        assert!(line().starts_with(&format!("reverse-proxy {VERSION} (commit: ")), "{}", line());
    }
}
