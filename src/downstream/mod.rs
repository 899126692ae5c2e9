//! Towards the clients: the ways in, and the seam they share.

pub(crate) mod answer;
pub mod exchange;
#[cfg(feature = "tiny-http")]
pub(crate) mod tiny_http;
