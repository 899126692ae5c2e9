//! Request heads out (shim).

use http::header::HeaderMap;

use super::head::RequestHead;
use super::response_out::write_field;
use crate::upstream::headers::{Rewrite, rewrite};

pub fn write_request(out: &mut Vec<u8>, head: &RequestHead, with: Rewrite<'_>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.path_and_query().as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut map = HeaderMap::new();
    rewrite(head, with, &mut map);
    for (name, value) in &map {
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}
