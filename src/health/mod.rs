//! Periodic probes: one thread per route, which starts a short-lived one per probe.

pub mod checker;
pub mod streak;

pub use checker::HealthChecker;
