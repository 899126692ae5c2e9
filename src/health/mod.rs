//! Periodic probes: one thread per route.

pub mod checker;
pub mod streak;
