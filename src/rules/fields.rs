//! Header fields that a route sets, adds and removes: `request_headers` towards backends, `response_headers` towards clients.

use http::header::{HeaderName, HeaderValue};

use super::template::{Facts, Placeholder, Template};
use crate::http::fields::Fields;
use crate::http::hop_by_hop::crosses;
use crate::http::response_head::ResponseHead;

/// What becomes of fields. None of the names is one of `names.rs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldRules {
    /// Take the place of all lines that came.
    pub set: Vec<(HeaderName, Template)>,
    /// Come beside them.
    pub add: Vec<(HeaderName, Template)>,
    /// Are not passed on.
    pub remove: Vec<HeaderName>,
}

impl FieldRules {
    /// Whether lines of this name, as they came, are not passed on. Servers that read `_` as `-` would take the one for the
    /// other: what is set here must not come from elsewhere under such a name.
    pub(crate) fn replaces(&self, name: &[u8]) -> bool {
        self.replaced().any(|own| is_same(own.as_str().as_bytes(), name))
    }

    /// Names of which nothing is passed on as it came.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = &HeaderName> {
        self.set.iter().map(|(name, _)| name).chain(&self.remove)
    }

    /// Whether it says anything about this name.
    pub(crate) fn is_about(&self, name: &HeaderName) -> bool {
        self.replaces(name.as_str().as_bytes()) || self.add.iter().any(|(added, _)| added == name)
    }

    /// Whether a value has the name of a user in it.
    pub(crate) fn name_the_user(&self) -> bool {
        self.set.iter().chain(&self.add).any(|(_, value)| value.has(Placeholder::User))
    }

    /// Calls `put` with each field that is set or added.
    pub(crate) fn put(&self, facts: &Facts<'_>, put: &mut impl FnMut(&[u8], &[u8])) {
        for (name, value) in self.set.iter().chain(&self.add) {
            put(name.as_str().as_bytes(), &value.fill(facts));
        }
    }

    /// Leaves out of trailers what would not have been passed on before the body.
    pub(crate) fn clear_trailers(&self, trailers: &mut Fields) {
        trailers.retain(|name| !self.is_about(name));
    }

    /// Changes an answer.
    pub(crate) fn amend(&self, answer: &mut ResponseHead, facts: &Facts<'_>) {
        let named: Vec<_> = self.set.iter().chain(&self.add).map(|(name, _)| name.clone()).collect();
        let named: Vec<_> = named.into_iter().filter(|name| !crosses(name, &answer.options)).collect();
        answer.fields.retain(|name| !self.replaces(name.as_str().as_bytes()) && !named.contains(name));
        // What the backend has named in `Connection` is its own. Ours is not.
        named.iter().for_each(|name| answer.options.forget(name));
        for (name, value) in self.set.iter().chain(&self.add) {
            // There is no control character in it.
            if let Ok(value) = HeaderValue::from_bytes(&value.fill(facts)) {
                answer.fields.push(name.clone(), value);
            }
        }
    }
}

pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let dashed = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
    one.len() == other.len() && one.iter().map(dashed).eq(other.iter().map(dashed))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;

    use super::super::template::tests::head;
    use super::*;
    use crate::config::Config;

    fn rules(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> FieldRules {
        let lines = |list: &[(&str, &str)]| {
            let line = |(name, value): &(&str, &str)| {
                (name.parse().unwrap(), Template::parse(value, &Placeholder::OF_FIELDS).unwrap())
            };
            list.iter().map(line).collect()
        };
        let remove = remove.iter().map(|name| name.parse().unwrap()).collect();
        FieldRules { set: lines(set), add: lines(add), remove }
    }

    #[test]
    fn an_answer_is_changed() {
        let answer = "HTTP/1.1 200 OK\r\nConnection: x-set, x-added\r\nX-Set: theirs\r\nX_Set: theirs\r\nX-Added: theirs\r\n\
                      Server: s\r\nX-Kept: k\r\nVary: a\r\nContent-Length: 0\r\n\r\n";
        let mut answer = ResponseHead::parse(&Bytes::from_static(answer.as_bytes()), &Method::GET).unwrap();
        let rules = rules(&[("x-set", "{host} {route}")], &[("x-added", "ours"), ("vary", "b")], &["server"]);
        let request = head("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let config = Config::for_tests();
        let client = "::1".parse().unwrap();
        let (head, route) = (&request, &config.routes[0]);
        let facts =
            Facts { head, route, client, scheme: "http", client_cert: None, request_id: b"id", user: None };
        rules.amend(&mut answer, &facts);
        let crossing = answer.fields.iter().filter(|(name, _)| crosses(name, &answer.options));
        let found: Vec<_> = crossing.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let expected = [
            ("x-kept", "k"),
            ("vary", "a"),
            ("content-length", "0"),
            ("x-set", "h /"),
            ("x-added", "ours"),
            ("vary", "b"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_underscore_is_no_way_around() {
        let rules = rules(&[("x-user", "a")], &[("x-b", "")], &["x_c"]);
        for (name, expected) in [
            ("x-user", true),
            ("x_user", true),
            ("x-c", true),
            ("x_c", true),
            ("x-users", false),
            ("x-b", false),
        ] {
            assert_eq!(rules.replaces(name.as_bytes()), expected, "{name}");
        }
    }
}
