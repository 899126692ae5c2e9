//! Towards the backends: one ureq agent each, over our own sockets.
//!
//! ureq runs a whole call, connecting included, on the thread that asked for it. So what the transport has to know of
//! the exchange it works for, and what it has to tell, passes through one thread-local value: [`call`].

pub mod agent;
pub(crate) mod call;
pub(crate) mod conn;
pub mod failure;
pub mod forward;
pub mod headers;
pub mod names;
mod pool;
pub mod retry;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod transport;
pub mod tunnel;
