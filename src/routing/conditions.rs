//! [`Conditions`]: what a request must have, beside its host and its path, to be taken by a route.

use std::cmp::Reverse;
use std::fmt;

use http::header::{HeaderName, HeaderValue};

use super::Methods;
use crate::http::fields::{Fields, trim_ows};

/// What a request must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Fields, all of them; in the order of their names, each name once.
    pub headers: Vec<HeaderCondition>,
    /// One of these methods; absent = any.
    pub methods: Option<Methods>,
}

/// What must be so about one header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderCondition {
    /// Which one.
    pub name: HeaderName,
    /// What must be so about it.
    pub wanted: Wanted,
}

/// What must be so about a header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One of its lines has this value, byte for byte.
    Value(HeaderValue),
    /// There is one, whatever its value.
    Present,
    /// There is none.
    Absent,
}

impl Conditions {
    /// By what routes for the same host and prefix are put in order: who has more conditions is asked before who has fewer.
    /// Those about fields count first, because a method has one of a few values and says less about a request.
    pub(crate) fn rank(&self) -> (Reverse<usize>, Reverse<bool>) {
        (Reverse(self.headers.len()), Reverse(self.methods.is_some()))
    }

    /// Whether the fields are as they must be.
    pub(crate) fn fit_fields(&self, fields: &Fields) -> bool {
        self.headers.iter().all(|condition| condition.fits(fields))
    }
}

impl HeaderCondition {
    /// Whether it is so.
    pub(crate) fn fits(&self, fields: &Fields) -> bool {
        match &self.wanted {
            Wanted::Value(value) => {
                fields.get_all(&self.name).any(|line| trim_ows(line.as_bytes()) == value.as_bytes())
            }
            Wanted::Present => fields.contains(&self.name),
            Wanted::Absent => !fields.contains(&self.name),
        }
    }
}

/// `x-beta: 1`, `any x-beta` or `no x-beta`.
impl fmt::Display for HeaderCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.wanted {
            Wanted::Value(value) => write!(f, "{name}: {}", String::from_utf8_lossy(value.as_bytes())),
            Wanted::Present => write!(f, "any {name}"),
            Wanted::Absent => write!(f, "no {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(wanted: Wanted) -> HeaderCondition {
        HeaderCondition { name: HeaderName::from_static("x-beta"), wanted }
    }

    fn fields(lines: &[(&str, &'static str)]) -> Fields {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_field_has_the_value_is_there_or_is_not() {
        let value = condition(Wanted::Value(HeaderValue::from_static("1")));
        let (present, absent) = (condition(Wanted::Present), condition(Wanted::Absent));
        for (lines, has_value, is_there) in [
            (&[("X-Beta", "1")][..], true, true),
            (&[("x-beta", " \t1 ")], true, true),
            (&[("x-beta", "0"), ("a", "b"), ("x-beta", "1")], true, true),
            (&[("x-beta", "0"), ("x-beta", "2")], false, true),
            (&[("x-beta", "1, 2")], false, true),
            (&[("x-beta", "11")], false, true),
            (&[("x-beta", "")], false, true),
            (&[("x-beta2", "1"), ("x_beta", "1")], false, false),
            (&[], false, false),
        ] {
            let fields = fields(lines);
            assert_eq!(value.fits(&fields), has_value, "{lines:?}");
            assert_eq!((present.fits(&fields), absent.fits(&fields)), (is_there, !is_there), "{lines:?}");
        }
        let upper = condition(Wanted::Value(HeaderValue::from_static("Yes")));
        assert!(upper.fits(&fields(&[("x-beta", "Yes")])) && !upper.fits(&fields(&[("x-beta", "yes")])));
        let empty = condition(Wanted::Value(HeaderValue::from_static("")));
        assert!(empty.fits(&fields(&[("x-beta", " ")])) && !empty.fits(&fields(&[])));
        assert_eq!(
            [upper, present, absent].map(|condition| condition.to_string()),
            ["x-beta: Yes", "any x-beta", "no x-beta"]
        );
    }

    #[test]
    fn all_must_be_so() {
        let both = Conditions {
            headers: ["a", "b"]
                .map(|name| HeaderCondition { name: name.parse().unwrap(), wanted: Wanted::Present })
                .to_vec(),
            methods: None,
        };
        assert!(both.fit_fields(&fields(&[("b", ""), ("a", "")])));
        assert!(!both.fit_fields(&fields(&[("b", ""), ("b", "")])));
        assert!(Conditions::default().fit_fields(&Fields::new()));
    }
}
