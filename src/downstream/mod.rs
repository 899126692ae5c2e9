//! Towards the clients: the ways in, and the seam they share.

pub(crate) mod answer;
pub mod exchange;
pub(crate) mod front;
pub(crate) mod listener;
mod pass;
#[cfg(feature = "tiny-http")]
mod tiny_http;

// The native engine stands on epoll.
#[cfg(target_os = "linux")]
mod body;
#[cfg(target_os = "linux")]
mod connection;
#[cfg(target_os = "linux")]
mod deadlines;
#[cfg(target_os = "linux")]
mod door;
#[cfg(target_os = "linux")]
mod native;
#[cfg(target_os = "linux")]
mod poller;
#[cfg(target_os = "linux")]
mod room;
#[cfg(target_os = "linux")]
mod waiting_room;
