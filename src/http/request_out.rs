//! Heads of requests as a backend gets them.

use super::head::RequestHead;
use super::headers::{Rewrite, rewrite};
use super::response_out::write_field;

/// The request line with this target.
pub(crate) fn write_request_line(out: &mut Vec<u8>, head: &RequestHead, target: &str) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// The request line with this target, and all fields.
pub fn write_request(out: &mut Vec<u8>, head: &RequestHead, target: &str, with: &Rewrite<'_>) {
    write_request_line(out, head, target);
    rewrite(head, with, &mut |name, value| write_field(out, name, value));
    out.extend_from_slice(b"\r\n");
}
