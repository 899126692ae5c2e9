//! [`Paths`]: the prefixes of a path, the longest first. Whole segments.

use std::collections::BTreeMap;

use super::Prefix;

/// A tree with one level per segment. A look-up walks down the path only as far as some prefix goes, so its cost does not
/// depend on how long the path is beyond that (32 KiB of slashes cost one step), and grows only with the logarithm of the
/// number of prefixes.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// The entries whose prefix ends here, in the order in which they are asked.
    entries: Vec<usize>,
    /// Ordered rather than hashed: comparing ends at the first byte that differs, however long a client makes its
    /// segment, and there is no hash to collide.
    children: BTreeMap<Box<str>, Paths>,
}

impl Paths {
    /// Adds `entry` to those of `prefix`. It is asked after those that were added before.
    pub(super) fn insert(&mut self, prefix: &Prefix, entry: usize) {
        // `/api/` means `/api`, and `/` is the empty prefix: it has no segment.
        let prefix = prefix.as_str();
        let mut node = self;
        for segment in segments(prefix.strip_suffix('/').unwrap_or(prefix)) {
            node = node.children.entry(segment.into()).or_default();
        }
        node.entries.push(entry);
    }

    /// What `choose` makes of the entries of the longest prefix of `path`; of the next longest, if it makes nothing of them,
    /// and so on. Each time the path is walked again, less far: most often the first that is asked takes it.
    pub(super) fn find<R>(&self, path: &str, choose: &mut impl FnMut(&[usize]) -> Option<R>) -> Option<R> {
        let mut shallower_than = usize::MAX;
        loop {
            let mut node = self;
            let mut longest = (0, &self.entries);
            for (depth, segment) in (1..shallower_than).zip(segments(path)) {
                let Some(child) = node.children.get(segment) else {
                    break;
                };
                node = child;
                if !node.entries.is_empty() {
                    longest = (depth, &node.entries);
                }
            }
            let (depth, entries) = longest;
            let found = choose(entries);
            if found.is_some() || depth == 0 {
                return found;
            }
            shallower_than = depth;
        }
    }
}

/// What stands after each slash. Nothing for a path that does not begin with one (`*`, the empty path).
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'))
}
