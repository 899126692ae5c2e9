//! [`Question`]: the request that is asked about, as somebody writes it down, and the bytes that a client would send.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;

use crate::error::Cause;
use crate::http::head::{HeadError, HeadLimits, RequestHead};

/// The request that is asked about. What is in it may be wrong: that is what one wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    line: String,
    fields: Vec<(String, String)>,
    /// Where the connection comes from.
    pub(super) from: IpAddr,
}

/// Why a text is no [`Question`]. `Display` says it in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadQuestion {
    /// It is not a method and a target.
    Request(String),
    /// It is not the name of a field, a colon and a value.
    Field(String),
}

impl fmt::Display for BadQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(text) => write!(
                f,
                "{text:?} is no request; expected a method and a target in one line, for example \"GET \
                 http://shop.example/cart\""
            ),
            Self::Field(text) => write!(
                f,
                "{text:?} is no header field; expected a name, a colon and a value in one line, for example \
                 \"Accept: text/html\""
            ),
        }
    }
}

impl Error for BadQuestion {}

impl Question {
    /// `line`: method and target, and perhaps a version. The target is a path or a whole URL. `from`: where the connection
    /// comes from, [`client_from`](crate::config::client_from) reads it; absent: from this machine.
    ///
    /// # Errors
    /// There are fewer words than two, or more lines than one.
    pub fn new(line: &str, from: Option<IpAddr>) -> Result<Self, BadQuestion> {
        if line.split_ascii_whitespace().count() < 2 || has_line_end(line) {
            return Err(BadQuestion::Request(line.to_owned()));
        }
        let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(Self { line: line.trim_ascii().to_owned(), fields: Vec::new(), from })
    }

    /// Adds a header field, `Name: value`.
    ///
    /// # Errors
    /// There is no colon, or there are more lines than one.
    pub fn field(self, field: &str) -> Result<Self, BadQuestion> {
        let bad = || BadQuestion::Field(field.to_owned());
        let (name, value) = field.split_once(':').ok_or_else(bad)?;
        self.named_field(name, value.trim_ascii())
    }

    /// Adds a header field.
    ///
    /// # Errors
    /// There are more lines than one.
    pub(super) fn named_field(mut self, name: &str, value: &str) -> Result<Self, BadQuestion> {
        // More than one line would be more than one field, or the end of the head.
        if name.is_empty() || has_line_end(name) || has_line_end(value) {
            return Err(BadQuestion::Field(format!("{name}: {value}")));
        }
        self.fields.push((name.to_owned(), value.to_owned()));
        Ok(self)
    }

    /// Method and target as they were written.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    /// The target is a URL of `https`.
    pub(super) fn is_https(&self) -> bool {
        let target = self.line.split_once(' ').map_or("", |(_, target)| target.trim_ascii_start());
        target.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
    }

    /// What to do about it, where the question and not the file is at fault: it names no host, which the proxy refuses.
    pub(super) fn advice(&self, cause: Cause) -> Option<String> {
        let (method, target) = self.line.split_once(' ')?;
        let target = target.trim_ascii_start();
        if cause.word() != "bad_host" || self.has_host() || !target.starts_with('/') {
            return None;
        }
        Some(format!("it names no host; write it with one, as in \"{method} http://shop.example{target}\""))
    }

    fn has_host(&self) -> bool {
        self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"))
    }

    /// Takes apart the bytes that a client would send; over TLS, if it is `secured`.
    pub(super) fn head(&self, limits: &HeadLimits, secured: bool) -> Result<RequestHead, HeadError> {
        RequestHead::parse_whole(&Bytes::from(self.bytes()), limits, secured)
    }

    fn bytes(&self) -> Vec<u8> {
        let (line, version) = match self.line.rsplit_once(' ') {
            Some((line, version)) if version.starts_with("HTTP/") => (line, version),
            _ => (self.line.as_str(), "HTTP/1.1"),
        };
        let mut head = format!("{line} {version}\r\n");
        // Whoever opens a URL says its host in a field as well.
        if let Some(host) = authority(line).filter(|_| !self.has_host()) {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn has_line_end(text: &str) -> bool {
    text.contains(['\r', '\n'])
}

/// The host and the port of the URL in a request line.
fn authority(line: &str) -> Option<&str> {
    let (_, target) = line.split_once(' ')?;
    let (_, rest) = target.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?', '#']))?;
    rest.split(['/', '?', '#']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(line: &str, fields: &[&str]) -> String {
        let question = Question::new(line, None).unwrap();
        let question = fields.iter().fold(question, |question, field| question.field(field).unwrap());
        String::from_utf8(question.bytes()).unwrap()
    }

    #[test]
    fn what_a_client_would_send() {
        assert_eq!(bytes("GET http://h:80/a?b", &[]), "GET http://h:80/a?b HTTP/1.1\r\nHost: h:80\r\n\r\n");
        assert_eq!(bytes(" GET /a HTTP/1.0 ", &["X-A:b", "x: "]), "GET /a HTTP/1.0\r\nX-A: b\r\nx: \r\n\r\n");
        assert_eq!(bytes("GET /?to=http://h/", &[]), "GET /?to=http://h/ HTTP/1.1\r\n\r\n");
        assert_eq!(
            bytes("GET http://a/", &["HOST: b"]),
            "GET http://a/ HTTP/1.1\r\nHOST: b\r\n\r\n",
            "what is given is not added"
        );
    }

    #[test]
    fn what_is_no_question() {
        for line in ["", "GET", " GET ", "GET /\r\nHost: h", "GET /\n"] {
            assert!(Question::new(line, None).is_err(), "{line:?}");
        }
        let question = Question::new("GET /", None).unwrap();
        for field in ["", "a", ": b", "a: b\r\n\r\nGET / HTTP/1.1", "a\n: b"] {
            assert!(question.clone().field(field).is_err(), "{field:?}");
        }
    }
}
