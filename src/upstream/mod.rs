//! Towards the backends: where each is, and a worker's connections to them.

pub mod address;
pub(crate) mod connection;
pub(crate) mod connections;
pub(crate) mod fault;

pub mod names;
pub(crate) mod shortage;
