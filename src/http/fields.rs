//! An ordered list of header fields: insertion order and duplicates are kept.

use http::header::{HeaderName, HeaderValue};

/// Header fields in the order in which they arrived, several lines of one name included.
///
/// A list, not a map: a proxy walks over all fields once and looks up only a handful, and the order in which
/// fields of different names were sent goes through unchanged.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Fields(Vec<(HeaderName, HeaderValue)>);

impl Fields {
    /// An empty list.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty list with room for `n` lines.
    pub fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    /// Adds a line at the end.
    pub fn push(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// The value of the first line of that name.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.get_all(name).next()
    }

    /// The values of all lines of that name, in order.
    pub fn get_all(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value)
    }

    /// Whether there is a line of that name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// All lines, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Keeps the lines whose names are `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&HeaderName) -> bool) {
        self.0.retain(|(name, _)| wanted(name));
    }

    /// All lines, in order, with values that can be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&HeaderName, &mut HeaderValue)> {
        self.0.iter_mut().map(|(name, value)| (&*name, value))
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no line at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(lines: I) -> Self {
        Self(lines.into_iter().collect())
    }
}

/// The elements of a comma separated list field across all its lines (RFC 9110 §5.6.1): without the whitespace
/// around them, empty ones skipped.
///
/// For lists of tokens (`Connection`, `Expect`, `TE`, `Upgrade`): a comma inside a quoted string would be taken
/// for a separator.
pub fn list_elements<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a [u8]> {
    values
        .flat_map(|value| value.as_bytes().split(|&b| b == b','))
        .map(trim_ows)
        .filter(|element| !element.is_empty())
}

/// Without the spaces and tabs around it (OWS, RFC 9110 §5.6.3); nothing else counts as whitespace.
pub(crate) fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, CONNECTION, HOST};

    use super::*;

    fn fields(lines: &[(HeaderName, &'static str)]) -> Fields {
        lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn keeps_order_and_duplicates() {
        let fields = fields(&[(ACCEPT, "a"), (HOST, "h"), (ACCEPT, "b")]);
        assert_eq!(fields.len(), 3);
        assert_eq!(fields.get(&ACCEPT).unwrap(), "a");
        assert_eq!(fields.get_all(&ACCEPT).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["accept", "host", "accept"]
        );
        assert!(fields.contains(&HOST));
        assert!(!fields.contains(&CONNECTION));
        assert!(Fields::new().is_empty());
    }

    #[test]
    fn list_elements_cross_lines_and_skip_empty_ones() {
        let fields =
            fields(&[(CONNECTION, " close ,,\tx-a\t"), (HOST, "h"), (CONNECTION, ""), (CONNECTION, ",b")]);
        let elements: Vec<_> = list_elements(fields.get_all(&CONNECTION)).collect();
        assert_eq!(elements, [&b"close"[..], b"x-a", b"b"]);
    }

    #[test]
    fn only_space_and_tab_are_trimmed() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b"\x0ba\x0c"), b"\x0ba\x0c");
        assert_eq!(trim_ows(b" \t "), b"");
    }
}
