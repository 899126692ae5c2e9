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
    /// and so on.
    pub(super) fn find<R>(&self, path: &str, choose: &mut impl FnMut(&[usize]) -> Option<R>) -> Option<R> {
        self.find_below(&mut segments(path), choose)
    }

    /// Goes as deep as some prefix does, and asks on its way back.
    fn find_below<'p, R>(
        &self,
        segments: &mut impl Iterator<Item = &'p str>,
        choose: &mut impl FnMut(&[usize]) -> Option<R>,
    ) -> Option<R> {
        let child = if self.children.is_empty() { None } else { segments.next() };
        let child = child.and_then(|segment| self.children.get(segment));
        child.and_then(|child| child.find_below(segments, choose)).or_else(|| choose(&self.entries))
    }
}

/// What stands after each slash. Nothing for a path that does not begin with one (`*`, the empty path).
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'))
}
