//! [`Paths`]: the longest prefix of a path. Whole segments.

use std::collections::BTreeMap;

use super::Prefix;

/// A tree with one level per segment. A look-up walks down the path only as far as some prefix goes, so its cost does not
/// depend on how long the path is beyond that (32 KiB of slashes cost one step), and grows only with the logarithm of the
/// number of prefixes.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// The entry whose prefix ends here.
    entry: Option<usize>,
    /// Ordered rather than hashed: comparing ends at the first byte that differs, however long a client makes its
    /// segment, and there is no hash to collide.
    children: BTreeMap<Box<str>, Paths>,
}

impl Paths {
    /// Makes `entry` that of `prefix`, unless there is one already.
    pub(super) fn insert(&mut self, prefix: &Prefix, entry: usize) {
        // `/api/` means `/api`, and `/` is the empty prefix: it has no segment.
        let prefix = prefix.as_str();
        let mut node = self;
        for segment in segments(prefix.strip_suffix('/').unwrap_or(prefix)) {
            node = node.children.entry(segment.into()).or_default();
        }
        node.entry.get_or_insert(entry);
    }

    /// The entry of the longest prefix of `path`.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        let mut node = self;
        let mut longest = node.entry;
        for segment in segments(path) {
            let Some(child) = node.children.get(segment) else {
                break;
            };
            node = child;
            longest = node.entry.or(longest);
        }
        longest
    }
}

/// What stands after each slash. Nothing for a path that does not begin with one (`*`, the empty path).
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'))
}
