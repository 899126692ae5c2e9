//! Sockets, and what the operating system knows of them. Everything here is non-blocking: what can't be done now says
//! `WouldBlock`, and the poller says when to try again.

pub(crate) mod deadlines;
pub(crate) mod pipe;
pub(crate) mod poller;
pub(crate) mod proxy_protocol;
#[cfg(test)]
mod proxy_protocol_rules;
pub(crate) mod shown;
pub(crate) mod slab;
pub(crate) mod stream;
#[cfg(feature = "tls")]
mod subject;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
pub(crate) mod tls;
#[cfg(feature = "tls")]
pub(crate) mod tls_server;
#[cfg(not(feature = "tls"))]
#[path = "no_tls_server.rs"]
pub(crate) mod tls_server;
#[cfg(feature = "tls")]
mod tls_words;
pub(crate) mod unsent;
#[cfg(feature = "tls")]
mod verify;
