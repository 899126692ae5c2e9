//! Towards the clients: a connection between its exchanges, and a request coming in.

pub(crate) mod body;
mod collected;
pub(crate) mod connection;
pub mod listener;
pub(crate) mod pace;
pub(crate) mod per_client;
