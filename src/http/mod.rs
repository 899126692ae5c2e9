//! HTTP/1.1 messages: bytes to types and back. No sockets here.

pub mod accept;
pub mod accept_encoding;
pub mod chunked;
pub mod client_cert;
pub mod cookie;
mod date;
pub mod fields;
pub mod framing;
pub mod gzip;
pub mod head;
pub mod headers;
pub mod hop_by_hop;
pub mod request_id;
pub mod request_out;
pub mod response_head;
pub mod response_out;
pub mod target;
pub mod trailers;
mod weight;
