//! Towards the backends.

pub mod agent;
