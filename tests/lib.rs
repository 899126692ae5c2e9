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

mod access_log;
#[cfg(feature = "admin")]
mod admin;
mod algorithms;
mod backend_limits;
mod backups;
mod bad_answers;
mod balancing;
mod basic_auth;
mod broken_answers;
mod cause_words;
mod cause_words_of_clients;
mod client_leaves;
mod closing;
mod compress;
#[cfg(feature = "tls")]
mod cookbook;
mod counters;
mod dead_resolver;
mod deadline;
mod deadline_clients;
mod drain;
mod dropped;
mod early_answers;
mod error_pages;
#[cfg(all(feature = "tls", feature = "admin"))]
mod examples;
mod expect;
mod explain;
mod failures;
mod forms;
mod forward_auth;
mod forward_auth_meanwhile;
mod health;
mod hold;
mod idle_connections;
mod installation;
mod interim;
mod isolation;
mod large_bodies;
mod listeners;
mod load;
mod logging;
mod loops;
mod match_headers;
mod methods;
mod names;
mod passed_on;
mod passive_health;
mod pipelining;
mod pool;
mod pools;
mod proxy_protocol;
mod reload;
mod request_headers;
mod responses;
mod retries;
mod reuse;
mod routing;
mod rules;
mod service_manager;
mod shares;
mod shutdown;
mod signals;
mod slow_clients;
mod slow_start;
mod startup;
mod streaming;
mod strict;
mod support;
mod survival;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_front;
mod trailers;
mod unix;
mod upgrade;
