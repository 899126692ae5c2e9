//! [`Template`]: a text with `{placeholders}` that each request fills in. Which ones there are is checked when the
//! configuration is read; filling in cannot fail, and cannot end a line.

use std::fmt;
use std::net::IpAddr;

use http::HeaderValue;

use crate::http::client_cert::ClientCert;
use crate::http::head::RequestHead;
use crate::http::headers::forwarded_for;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// The host asked for, without its port.
    Host,
    /// Path and query as they came.
    Target,
    /// The path alone.
    Path,
    /// The query alone with its question mark; nothing if there is none.
    Query,
    /// `https` or `http`.
    Scheme,
    /// The address of the client.
    ClientIp,
    /// The `X-Request-Id`.
    RequestId,
    /// What the route is called.
    Route,
    /// The subject of the certificate that the client has shown; nothing if it has shown none.
    TlsClientSubject,
    /// The SHA-256 of that certificate.
    TlsClientFingerprint,
    /// The name that has come with its password; nothing, where no route has asked for one.
    User,
}

impl Placeholder {
    const ALL: [(&'static str, Self); 11] = [
        ("host", Self::Host),
        ("target", Self::Target),
        ("path", Self::Path),
        ("query", Self::Query),
        ("scheme", Self::Scheme),
        ("client_ip", Self::ClientIp),
        ("request_id", Self::RequestId),
        ("route", Self::Route),
        ("tls_client_subject", Self::TlsClientSubject),
        ("tls_client_fingerprint", Self::TlsClientFingerprint),
        ("user", Self::User),
    ];

    /// Those of the target of a redirect.
    pub(crate) const OF_REDIRECT: [Self; 7] =
        [Self::Host, Self::Target, Self::Path, Self::Query, Self::Scheme, Self::ClientIp, Self::RequestId];

    /// Those of the values of header fields.
    pub(crate) const OF_FIELDS: [Self; 8] = [
        Self::Host,
        Self::Scheme,
        Self::ClientIp,
        Self::RequestId,
        Self::Route,
        Self::TlsClientSubject,
        Self::TlsClientFingerprint,
        Self::User,
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// Why a text is no [`Template`]. `Display` says so as the end of a sentence that begins with the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// There is no such placeholder, or not here; and those that there are.
    Unknown(String, Vec<Placeholder>),
    /// A brace without its other half.
    Brace,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name, allowed) => {
                let allowed: Vec<_> = allowed.iter().map(|one| format!("{{{}}}", one.word())).collect();
                write!(
                    f,
                    "has the placeholder {{{name}}}; expected {}, or {{{{ and }}}} for braces",
                    allowed.join(", ")
                )
            }
            Self::Brace => {
                f.write_str("has a brace without the other; write {{ or }} for one that is no placeholder's")
            }
        }
    }
}

/// What has a label by which people know it: a route.
pub trait Labelled: fmt::Debug {
    /// The label.
    fn label(&self) -> String;
}

/// What a request fills in.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) route: &'a dyn Labelled,
    /// Who the request is from, as far as trusted proxies tell.
    pub(crate) client: IpAddr,
    pub(crate) scheme: &'static str,
    /// Who it is by the certificate it has shown in the TLS handshake.
    pub(crate) client_cert: Option<&'a ClientCert>,
    pub(crate) request_id: &'a [u8],
    /// Whom `basic_auth` of the route has let in.
    pub(crate) user: Option<&'a str>,
}

impl Template {
    /// Takes a text apart that may have these placeholders.
    ///
    /// # Errors
    /// There is another one, or half a one.
    pub fn parse(text: &str, allowed: &[Placeholder]) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                plain.push('{');
                rest = after;
                continue;
            }
            if let Some(after) = brace.strip_prefix("}}") {
                plain.push('}');
                rest = after;
                continue;
            }
            let inside = brace.strip_prefix('{').ok_or(TemplateError::Brace)?;
            let (name, after) = inside.split_once('}').ok_or(TemplateError::Brace)?;
            let found = Placeholder::ALL.iter().find(|(word, one)| *word == name && allowed.contains(one));
            let (_, value) =
                found.ok_or_else(|| TemplateError::Unknown(name.to_owned(), allowed.to_vec()))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Value(*value));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The text before the first placeholder, and that placeholder.
    pub(crate) fn beginning(&self) -> (&str, Option<Placeholder>) {
        let text = match self.0.first() {
            Some(Part::Text(text)) => text.as_str(),
            _ => "",
        };
        let first = self.0.iter().find_map(|part| match part {
            Part::Value(value) => Some(*value),
            Part::Text(_) => None,
        });
        (text, first)
    }

    /// Whether it has this placeholder.
    pub(crate) fn has(&self, value: Placeholder) -> bool {
        self.0.contains(&Part::Value(value))
    }

    /// The text that is in the file, between its placeholders.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Value(_) => None,
        })
    }

    /// The text for a request.
    pub(crate) fn fill(&self, facts: &Facts<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value(value) => put(*value, facts, &mut out),
            }
        }
        // A head with one in it was refused long before; and if not, it would end here.
        out.retain(|byte| !byte.is_ascii_control());
        out
    }
}

/// As in the file.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Part::Value(value) => write!(f, "{{{}}}", value.word()),
        })
    }
}

fn put(value: Placeholder, facts: &Facts<'_>, out: &mut Vec<u8>) {
    let head = facts.head;
    let target = match head.target.as_str() {
        "*" => "/",
        target => target,
    };
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    match value {
        Placeholder::Host => out.extend_from_slice(without_port(head.host.as_bytes())),
        Placeholder::Target => out.extend_from_slice(target.as_bytes()),
        Placeholder::Path => out.extend_from_slice(path.as_bytes()),
        Placeholder::Query => out.extend_from_slice(query.as_bytes()),
        Placeholder::Scheme => out.extend_from_slice(facts.scheme.as_bytes()),
        Placeholder::ClientIp => out.extend_from_slice(forwarded_for(facts.client).as_bytes()),
        Placeholder::RequestId => out.extend_from_slice(facts.request_id),
        Placeholder::Route => out.extend_from_slice(facts.route.label().as_bytes()),
        Placeholder::TlsClientSubject => {
            let subject = facts.client_cert.and_then(|cert| cert.subject.as_ref());
            out.extend_from_slice(subject.map(HeaderValue::as_bytes).unwrap_or_default());
        }
        Placeholder::TlsClientFingerprint => {
            out.extend_from_slice(
                facts.client_cert.map(|cert| cert.fingerprint.as_bytes()).unwrap_or_default(),
            );
        }
        Placeholder::User => out.extend_from_slice(facts.user.unwrap_or_default().as_bytes()),
    }
}

/// A colon inside of brackets is part of the address.
fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|&byte| byte == b':') {
        Some(at) if !host.ends_with(b"]") => host.get(..at).unwrap_or(host),
        _ => host,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::http::head::HeadLimits;

    const EVERY: [Placeholder; 9] = [
        Placeholder::Host,
        Placeholder::Target,
        Placeholder::Path,
        Placeholder::Query,
        Placeholder::Scheme,
        Placeholder::ClientIp,
        Placeholder::RequestId,
        Placeholder::Route,
        Placeholder::User,
    ];

    pub(crate) fn head(text: &str) -> Option<RequestHead> {
        let limits = HeadLimits { max_header_bytes: 8192, max_headers: 50 };
        RequestHead::parse(Bytes::copy_from_slice(text.as_bytes()), &limits).ok()
    }

    fn filled(template: &str, head: &RequestHead, client: &str) -> String {
        let config = Config::for_tests();
        let client = client.parse().unwrap();
        let (route, request_id) = (&config.routes[0], &b"some-id"[..]);
        let user = Some("anna");
        let facts = Facts { head, route, client, scheme: "https", client_cert: None, request_id, user };
        String::from_utf8(Template::parse(template, &EVERY).unwrap().fill(&facts)).unwrap()
    }

    #[test]
    fn fills_in() {
        let with = |target: &str, host: &str| {
            head(&format!("OPTIONS {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap()
        };
        let first = with("/a%2Fb/?x={y}", "shop.example:81");
        for (template, expected) in [
            ("https://{host}{target}", "https://shop.example/a%2Fb/?x={y}"),
            (
                "{path}|{query}|{scheme}|{client_ip}|{request_id}|{route}",
                "/a%2Fb/|?x={y}|https|10.0.0.1|some-id|/",
            ),
            ("{{host}}", "{host}"),
            ("{user}", "anna"),
            ("", ""),
        ] {
            assert_eq!(filled(template, &first, "10.0.0.1"), expected);
        }
        assert_eq!(filled("{client_ip} {query}.", &with("/a", "h"), "0.0.0.0"), "unknown .");
        assert_eq!(filled("{host}{target}", &with("*", "[::1]:80"), "::1"), "[::1]/");
        assert_eq!(filled("{host}", &with("*", "[::1]"), "::1"), "[::1]");
    }

    #[test]
    fn is_shown_as_it_was_written() {
        for text in ["https://{host}{target}", "a{{b}}c", "{route}", "plain"] {
            assert_eq!(Template::parse(text, &EVERY).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_template() {
        let unknown = |text: &str| Template::parse(text, &[Placeholder::Host]).unwrap_err().to_string();
        let expected = |name: &str| {
            format!("has the placeholder {{{name}}}; expected {{host}}, or {{{{ and }}}} for braces")
        };
        assert_eq!(unknown("{colour}"), expected("colour"));
        assert_eq!(unknown("{route}"), expected("route"), "is one, but not here");
        assert_eq!(unknown("{}"), expected(""));
        for text in ["{host", "host}", "a}b{host}", "{"] {
            assert_eq!(Template::parse(text, &EVERY), Err(TemplateError::Brace), "{text}");
        }
    }

    proptest! {
        /// Whatever a client sends: a line stays a line.
        #[test]
        fn nothing_a_client_sends_ends_a_line(target in "/[ -~\r\n\0]{0,20}", host in "[ -~\r\n\0]{0,20}") {
            if let Some(head) = head(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")) {
                let text = filled("{host}{target}{path}{query}{request_id}", &head, "::1");
                prop_assert!(!text.contains(|char: char| char.is_control()), "{text:?}");
            }
        }
    }
}
