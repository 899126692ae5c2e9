//! A reverse proxy for HTTP/1.1 without an async runtime.
#![cfg_attr(test, allow(missing_docs, reason = "tests"))]

pub mod balance;
pub mod config;
pub mod downstream;
pub mod error;
pub mod health;
pub mod http;
pub mod proxy;
pub mod route;
pub mod routing;
pub mod stop;
pub mod upstream;
pub mod workers;
pub mod counters;
mod gateway;
pub mod route;
pub mod signals;
pub mod socket;
