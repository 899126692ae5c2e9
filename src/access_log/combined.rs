//! The combined format: what Apache and nginx write, and GoAccess, fail2ban and awstats read.

use super::entry::{Entry, RequestLine};
use super::time;
use crate::http::head::Version;
use crate::http::response_out::write_decimal;

/// `client - user [time] "request" status bytes "referer" "user agent"`
pub(super) fn write(entry: &Entry<'_>, out: &mut Vec<u8>) {
    write_client(entry, out);
    out.extend_from_slice(b" - ");
    write_user(entry, out);
    out.extend_from_slice(b" [");
    time::with_now(|now| out.extend_from_slice(now.combined.as_bytes()));
    out.extend_from_slice(b"] \"");
    match entry.request {
        Some(RequestLine { method, target, version }) => {
            escape(method.as_bytes(), out);
            out.push(b' ');
            escape(target.as_bytes(), out);
            out.extend_from_slice(match version {
                Version::Http10 => b" HTTP/1.0",
                Version::Http11 => b" HTTP/1.1",
            });
        }
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" ");
    write_decimal(out, entry.logged_status().into());
    out.push(b' ');
    write_decimal(out, entry.bytes_sent);
    for field in [entry.referer, entry.user_agent] {
        out.extend_from_slice(b" \"");
        escape(if field.is_empty() { b"-" } else { field }, out);
        out.push(b'"');
    }
    out.push(b'\n');
}

fn write_client(entry: &Entry<'_>, out: &mut Vec<u8>) {
    use std::io::Write;
    if entry.client.is_unspecified() {
        out.extend_from_slice(b"unix:");
    } else {
        // Writing to memory does not fail.
        let _ = write!(out, "{}", entry.client);
    }
}

/// A word of its own, whatever is in it.
fn write_user(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let user = entry.user.filter(|user| !user.is_empty()).unwrap_or("-");
    for (n, word) in user.split(' ').enumerate() {
        if n > 0 {
            out.extend_from_slice(b"\\x20");
        }
        escape(word.as_bytes(), out);
    }
}

/// As nginx has it: whatever could end the field or speak to a terminal becomes `\xHH`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let is_harmless = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(is_harmless) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        if is_harmless(byte) {
            out.push(*byte);
        } else {
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
            out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::example;
    use super::*;
    use crate::error::Cause;

    fn written(entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        write(entry, &mut out);
        let line = String::from_utf8(out).unwrap();
        let (before, rest) = line.split_once('[').unwrap();
        let (time, after) = rest.split_once(']').unwrap();
        assert_eq!(time.len(), "06/Nov/1994:08:49:37 +0000".len(), "{time}");
        format!("{before}[]{after}")
    }

    #[test]
    fn a_line_is_what_others_write() {
        assert_eq!(
            written(&example()),
            "192.0.2.1 - - [] \"GET /a?b HTTP/1.1\" 200 1234 \"http://shop.example/\" \"curl/8.0\"\n"
        );
    }

    #[test]
    fn a_name_is_one_word() {
        for (name, expected) in
            [("anna", "anna"), ("", "-"), ("a b\" c", "a\\x20b\\x22\\x20c"), ("\u{e4}", "\\xC3\\xA4")]
        {
            let line = written(&Entry { user: Some(name), ..example() });
            assert!(line.starts_with(&format!("192.0.2.1 - {expected} [] \"GET")), "{line}");
        }
    }

    #[test]
    fn what_is_missing_is_a_dash() {
        let client = "::".parse().unwrap();
        let entry = Entry::refused("1", client, Cause::HEAD_TIMEOUT);
        assert_eq!(written(&entry), "unix: - - [] \"-\" 408 0 \"-\" \"-\"\n");
    }

    #[test]
    fn nobody_can_forge_a_line_or_speak_to_a_terminal() {
        let entry = Entry { user_agent: b"a\" \n\x1b[31m\\\xc2\x9b\x7f", referer: b"\t", ..example() };
        let line = written(&entry);
        assert!(line.ends_with("\"\\x09\" \"a\\x22 \\x0A\\x1B[31m\\x5C\\xC2\\x9B\\x7F\"\n"), "{line}");
    }
}
