//! One JSON object a line.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::entry::Entry;
use super::time::{self, Time};
use crate::http::head::Version;

/// All keys, in their order. What an exchange did not come to is left out.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: At<'a>,
    request_id: &'a str,
    client: Client,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'static str>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    host: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_in: Option<&'static str>,
    bytes_received: u64,
    bytes_sent: u64,
    retries: u32,
    queued_ms: Millis,
    connect_ms: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<Millis>,
    duration_ms: Millis,
    #[serde(skip_serializing_if = "Text::is_empty")]
    referer: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    user_agent: Text<'a>,
}

/// One line.
pub(super) fn write(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let length = out.len();
    let written = time::with_now(|now| {
        let request = entry.request.as_ref();
        let line = Line {
            time: At(now),
            request_id: entry.request_id,
            client: Client(entry.client),
            method: request.map(|request| request.method),
            target: request.map(|request| request.target),
            version: request.map(|request| match request.version {
                Version::Http10 => "1.0",
                Version::Http11 => "1.1",
            }),
            tls: entry.tls,
            host: Text(entry.host),
            route: entry.route,
            backend: entry.backend,
            status: entry.logged_status(),
            cause: entry.cause.map(crate::error::Cause::word),
            ended_by: entry.ended_by(),
            ended_in: entry.cause.map(|_| entry.stage),
            bytes_received: entry.bytes_received,
            bytes_sent: entry.bytes_sent,
            retries: entry.retries,
            queued_ms: Millis(entry.queued),
            connect_ms: Millis(entry.connecting),
            first_byte_ms: entry.first_byte.map(Millis),
            duration_ms: Millis(entry.whole),
            referer: Text(entry.referer),
            user_agent: Text(entry.user_agent),
        };
        serde_json::to_writer(&mut *out, &line)
    });
    match written {
        Ok(()) => out.push(b'\n'),
        // Nothing in it can fail.
        Err(_) => out.truncate(length),
    }
}

/// With milliseconds.
#[derive(Debug)]
struct At<'a>(&'a Time);

impl Serialize for At<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}.{:03}Z", self.0.iso, self.0.millis))
    }
}

#[derive(Debug)]
struct Client(std::net::IpAddr);

impl Serialize for Client {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_unspecified() {
            serializer.serialize_str("unix")
        } else {
            serializer.collect_str(&self.0)
        }
    }
}

/// To the microsecond.
#[derive(Debug)]
struct Millis(Duration);

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Exact for 285 years.
        #[expect(clippy::cast_precision_loss, reason = "times of exchanges are shorter")]
        serializer.serialize_f64(self.0.as_micros() as f64 / 1000.0)
    }
}

/// What a client has sent. Whatever could speak to a terminal, and what is no UTF-8, becomes U+FFFD.
#[derive(Debug)]
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(self.0) {
            Ok(text) if self.0.iter().all(|byte| matches!(byte, b' '..=b'~')) => {
                serializer.serialize_str(text)
            }
            _ => serializer.collect_str(self),
        }
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.0);
        text.chars().try_for_each(|char| f.write_char(if char.is_control() { '\u{fffd}' } else { char }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::entry::tests::example;
    use super::*;
    use crate::error::Cause;

    fn written(entry: &Entry<'_>) -> String {
        let mut out = b"before\n".to_vec();
        write(entry, &mut out);
        let text = String::from_utf8(out).unwrap();
        let line = text.strip_prefix("before\n").unwrap().strip_suffix('\n').unwrap();
        let (time, rest) = line.strip_prefix("{\"time\":\"").unwrap().split_once('"').unwrap();
        assert_eq!(time.len(), "2026-11-28T07:48:04.123Z".len(), "{time}");
        format!("{{{}", rest.trim_start_matches(','))
    }

    #[test]
    fn a_line_is_an_object() {
        assert_eq!(
            written(&example()),
            "{\"request_id\":\"8c0f2a\",\"client\":\"192.0.2.1\",\"method\":\"GET\",\"target\":\"/a?b\",\
             \"version\":\"1.1\",\"host\":\"shop.example\",\"route\":\"shop\",\"backend\":\"127.0.0.1:8000\",\
             \"status\":200,\"bytes_received\":0,\"bytes_sent\":1234,\"retries\":1,\"queued_ms\":0.01,\
             \"connect_ms\":0.25,\"first_byte_ms\":1.5,\"duration_ms\":2.0,\"referer\":\"http://shop.example/\",\
             \"user_agent\":\"curl/8.0\"}"
        );
    }

    #[test]
    fn what_was_refused_says_why_and_by_whom() {
        let entry = Entry::refused("1", "::".parse().unwrap(), Cause::HEAD_TIMEOUT);
        assert_eq!(
            written(&entry),
            "{\"request_id\":\"1\",\"client\":\"unix\",\"status\":408,\"cause\":\"head_timeout\",\
             \"ended_by\":\"client\",\"ended_in\":\"receive\",\"bytes_received\":0,\"bytes_sent\":0,\"retries\":0,\
             \"queued_ms\":0.0,\"connect_ms\":0.0,\"duration_ms\":0.0}"
        );
        let entry = Entry { cause: Some(Cause::BackendClosed), stage: "await_head", ..example() };
        let line: Value = serde_json::from_str(&written(&entry)).unwrap();
        assert_eq!((&line["ended_by"], &line["ended_in"]), (&"backend".into(), &"await_head".into()));
    }

    #[test]
    fn nobody_can_forge_a_line_or_speak_to_a_terminal() {
        let entry = Entry { user_agent: b"a\"\n\x1b[31m\\\xc2\x9b\x7f\xff \xc3\xa9", ..example() };
        let line = written(&entry);
        assert!(line.chars().all(|char| !char.is_control()), "{line}");
        let line: Value = serde_json::from_str(&line).unwrap();
        let expected = "a\"\u{fffd}\u{fffd}[31m\\\u{fffd}\u{fffd}\u{fffd} \u{e9}";
        assert_eq!(line["user_agent"], expected);
    }
}
