//! What the tests share. Everything here has a deadline and fails with a message instead of hanging, and everything
//! that is started is stopped by `Drop`.

pub mod backend;
pub mod client;
pub mod engines;
pub mod hash;
pub mod origin;
pub mod process;
pub mod proxy;
#[cfg(feature = "tls")]
pub mod secured;
pub mod wait;
pub mod wire;

pub use backend::{DeadPort, ScriptedBackend};
pub use client::{Client, Response, get, send_once};
pub use engines::Engine;
pub use hash::{Hash, hash_of, pattern};
pub use origin::{Echo, Origin};
pub use process::ProxyProcess;
pub use proxy::TestProxy;
pub use wait::{Gate, PATIENCE, Task, spawn, wait_for};
pub use wire::Framing;
