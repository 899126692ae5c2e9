//! Integration tests: real sockets to the real program, one file per behaviour.
#![allow(unreachable_pub, reason = "the helpers are written like a library")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why by printing"
)]

mod algorithms;
mod balancing;
mod broken_answers;
mod counters;
mod failures;
mod health;
mod large_bodies;
mod load;
mod methods;
mod request_headers;
mod responses;
mod reuse;
mod routing;
mod shutdown;
mod startup;
mod streaming;
mod support;
