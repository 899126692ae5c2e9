//! A reverse proxy for HTTP/1.1 without an async runtime.
#![cfg_attr(test, allow(missing_docs, reason = "tests"))]

pub mod balance;
pub mod config;
pub mod counters;
#[cfg(feature = "tiny-http")]
pub mod demo;
pub mod downstream;
pub mod error;
mod gateway;
pub mod health;
pub mod http;
pub mod proxy;
pub mod route;
pub mod routing;
pub mod signals;
pub mod socket;
pub mod stop;
pub mod upkeep;
pub mod upstream;
pub mod workers;
