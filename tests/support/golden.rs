//! Files of the repository that are made from the source: a test makes them again and compares.

use std::path::Path;

/// Compares, or writes the file if `REVERSE_PROXY_WRITE_DIST` is set.
#[track_caller]
pub(crate) fn check(path: &Path, made: &str) {
    if std::env::var_os("REVERSE_PROXY_WRITE_DIST").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("create the folder");
        std::fs::write(path, made).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        return;
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(there == made, "{} is not what the source says; `just dist-files` writes it", path.display());
}
