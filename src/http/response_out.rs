//! Response heads out (shim).

use http::header::{self, HeaderValue};
use http::StatusCode;

use super::head::Version;
use super::hop_by_hop::crosses;
use super::response_head::ResponseHead;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    NoBody,
    Length(u64),
    Chunked,
    UntilClose,
}

fn write_status(out: &mut Vec<u8>, head: &ResponseHead) {
    write_status_line(out, head.status, &head.reason);
}

pub fn write_status_line(out: &mut Vec<u8>, status: StatusCode, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

pub fn write_connection(out: &mut Vec<u8>, version: Version, keep_alive: bool) {
    match (version, keep_alive) {
        (_, false) => write_field(out, b"connection", b"close"),
        (Version::Http10, true) => write_field(out, b"connection", b"keep-alive"),
        (Version::Http11, true) => {}
    }
}

pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub fn write_interim(out: &mut Vec<u8>, head: &ResponseHead) {
    write_status(out, head);
    for (name, value) in head.fields.iter() {
        if *name != header::CONTENT_LENGTH && crosses(name, &head.options) {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

pub fn write_switching(out: &mut Vec<u8>, head: &ResponseHead) {
    write_status(out, head);
    for (name, value) in head.fields.iter() {
        if *name == header::UPGRADE || (*name != header::CONTENT_LENGTH && crosses(name, &head.options)) {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"connection: upgrade\r\n\r\n");
}

pub fn write_response_head(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    to: Delimited,
    version: Version,
    keep_alive: bool,
    cookie: Option<&HeaderValue>,
) {
    write_status(out, head);
    let mut length_written = false;
    for (name, value) in head.fields.iter() {
        if *name == header::CONTENT_LENGTH {
            let wanted = match to {
                Delimited::NoBody => {
                    head.status != StatusCode::NO_CONTENT
                        && !head.fields.contains(&header::TRANSFER_ENCODING)
                }
                Delimited::Length(_) => true,
                Delimited::Chunked | Delimited::UntilClose => false,
            };
            if !wanted || length_written {
                continue;
            }
            length_written = true;
        } else if !crosses(name, &head.options) {
            continue;
        }
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    if to == Delimited::Chunked {
        write_field(out, b"transfer-encoding", b"chunked");
    }
    if let Some(cookie) = cookie {
        write_field(out, b"set-cookie", cookie.as_bytes());
    }
    write_connection(out, version, keep_alive);
    out.extend_from_slice(b"\r\n");
}
