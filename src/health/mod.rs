//! Periodic probes: one thread per route, which starts a short-lived one per probe.

pub mod checker;
pub mod client;
mod probe;
pub mod streak;
mod target;

pub use checker::{HealthChecker, RunningChecker};
