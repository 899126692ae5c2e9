//! The fixed pool of threads that carry exchanges.

mod cpu_wait;
mod idle;
pub(crate) mod pool;
pub(crate) mod reserve;
