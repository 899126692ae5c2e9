//! One JSON object a line. The keys are always in the same order, and what an exchange did not come to is left out. Written
//! piece by piece: going through serde for each of them costs several times as much, and this is done for every request.

use std::net::IpAddr;
use std::time::Duration;

use super::entry::Entry;
use super::time;
use crate::error::Cause;
use crate::http::head::Version;
use crate::http::response_out::write_decimal;

/// `,"name":`, in one piece.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":").as_bytes()
    };
}

/// One line.
pub(super) fn write(entry: &Entry<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    time::with_now(|now| {
        out.extend_from_slice(now.iso.as_bytes());
        out.push(b'.');
        write_thousandths(out, now.millis);
    });
    out.extend_from_slice(b"Z\"");
    text(out, key!("request_id"), entry.request_id.as_bytes());
    out.extend_from_slice(key!("client"));
    address(out, entry.client);
    optional(out, key!("user"), entry.user);
    if let Some(request) = &entry.request {
        text(out, key!("method"), request.method.as_bytes());
        text(out, key!("target"), request.target.as_bytes());
        text(
            out,
            key!("version"),
            match request.version {
                Version::Http10 => b"1.0",
                Version::Http11 => b"1.1",
            },
        );
    }
    optional(out, key!("tls"), entry.tls);
    some(out, key!("host"), entry.host);
    optional(out, key!("route"), entry.route);
    optional(out, key!("pool"), entry.pool);
    optional(out, key!("backend"), entry.backend);
    number(out, key!("status"), entry.logged_status().into());
    optional(out, key!("cause"), entry.cause.map(Cause::word));
    optional(out, key!("ended_by"), entry.ended_by());
    optional(out, key!("ended_in"), entry.cause.map(|_| entry.stage));
    number(out, key!("bytes_received"), entry.bytes_received);
    number(out, key!("bytes_sent"), entry.bytes_sent);
    number(out, key!("retries"), entry.retries.into());
    if !entry.asked.is_zero() {
        millis(out, key!("auth_ms"), entry.asked);
    }
    millis(out, key!("queued_ms"), entry.queued);
    millis(out, key!("connect_ms"), entry.connecting);
    if let Some(first_byte) = entry.first_byte {
        millis(out, key!("first_byte_ms"), first_byte);
    }
    millis(out, key!("duration_ms"), entry.whole);
    some(out, key!("referer"), entry.referer);
    some(out, key!("user_agent"), entry.user_agent);
    out.extend_from_slice(b"}\n");
}

fn optional(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        text(out, key, value.as_bytes());
    }
}

fn some(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if !value.is_empty() {
        text(out, key, value);
    }
}

/// What a client may have sent. Whatever could speak to a terminal, and what is no UTF-8, becomes U+FFFD.
fn text(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(key);
    // All of them, rather than up to the first: so the compiler looks at many at once.
    let is_special = |byte: u8| !matches!(byte, b' '..=b'~') | (byte == b'"') | (byte == b'\\');
    if !value.iter().fold(false, |found, byte| found | is_special(*byte)) {
        out.push(b'"');
        out.extend_from_slice(value);
        out.push(b'"');
        return;
    }
    let replaced = |char: char| if char.is_control() { '\u{fffd}' } else { char };
    let readable: String = String::from_utf8_lossy(value).chars().map(replaced).collect();
    let length = out.len();
    // Text cannot fail to be written to memory; if it did, what is left is JSON all the same.
    if serde_json::to_writer(&mut *out, &readable).is_err() {
        out.truncate(length);
        out.extend_from_slice(b"null");
    }
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    write_decimal(out, value);
}

/// To the microsecond.
fn millis(out: &mut Vec<u8>, key: &[u8], value: Duration) {
    number(out, key, value.as_secs().saturating_mul(1000) + u64::from(value.subsec_millis()));
    out.push(b'.');
    write_thousandths(out, value.subsec_micros() % 1000);
}

/// Most are of IPv4, and written without going through `fmt`.
fn address(out: &mut Vec<u8>, client: IpAddr) {
    out.push(b'"');
    match client {
        client if client.is_unspecified() => out.extend_from_slice(b"unix"),
        IpAddr::V4(client) => {
            for (n, octet) in client.octets().into_iter().enumerate() {
                if n > 0 {
                    out.push(b'.');
                }
                write_decimal(out, octet.into());
            }
        }
        IpAddr::V6(client) => out.extend_from_slice(client.to_string().as_bytes()),
    }
    out.push(b'"');
}

/// Three digits.
fn write_thousandths(out: &mut Vec<u8>, n: u32) {
    let digit = |place: u32| b'0' + u8::try_from(n / place % 10).unwrap_or_default();
    out.extend_from_slice(&[digit(100), digit(10), digit(1)]);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::entry::tests::example;
    use super::*;

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
             \"status\":200,\"bytes_received\":0,\"bytes_sent\":1234,\"retries\":1,\"queued_ms\":0.010,\
             \"connect_ms\":0.250,\"first_byte_ms\":1.500,\"duration_ms\":2.000,\"referer\":\"http://shop.example/\",\
             \"user_agent\":\"curl/8.0\"}"
        );
    }

    #[test]
    fn addresses_and_times_are_written_as_elsewhere() {
        for client in ["0.0.0.1", "203.0.113.255", "2001:db8::1", "::ffff:192.0.2.1"] {
            let client: IpAddr = client.parse().unwrap();
            let line: Value = serde_json::from_str(&written(&Entry { client, ..example() })).unwrap();
            assert_eq!(line["client"], client.to_string());
        }
        for (whole, expected) in [(999, "0.000"), (1_001_000, "1.001"), (61_000_999_999, "61000.999")] {
            let line = written(&Entry { whole: Duration::from_nanos(whole), ..example() });
            assert!(line.contains(&format!("\"duration_ms\":{expected},")), "{line}");
        }
    }

    #[test]
    fn what_was_refused_says_why_and_by_whom() {
        let entry = Entry::refused("1", "::".parse().unwrap(), Cause::HEAD_TIMEOUT);
        assert_eq!(
            written(&entry),
            "{\"request_id\":\"1\",\"client\":\"unix\",\"status\":408,\"cause\":\"head_timeout\",\
             \"ended_by\":\"client\",\"ended_in\":\"receive\",\"bytes_received\":0,\"bytes_sent\":0,\"retries\":0,\
             \"queued_ms\":0.000,\"connect_ms\":0.000,\"duration_ms\":0.000}"
        );
        let entry = Entry { cause: Some(Cause::BackendClosed), stage: "await_head", ..example() };
        let named = Entry { user: Some("anna"), ..entry };
        assert!(written(&named).contains("\"client\":\"192.0.2.1\",\"user\":\"anna\",\"method\":"));
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
