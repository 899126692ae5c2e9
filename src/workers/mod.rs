//! The fixed pool of threads that carry exchanges.

pub(crate) mod cpu_wait;
pub(crate) mod pool;
