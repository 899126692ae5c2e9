//! The fixed pool of threads that carry exchanges.

pub(crate) mod pool;
