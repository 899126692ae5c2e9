//! Trailers (shim).

use super::fields::Fields;
use super::hop_by_hop::ConnectionOptions;

pub fn write_last_chunk(out: &mut Vec<u8>, _: Option<&Fields>, _: &ConnectionOptions) {
    out.extend_from_slice(super::chunked::LAST_CHUNK);
}
