//! A reverse proxy for HTTP/1.1 on plain threads and blocking I/O, without an async runtime.
//!
//! # The way of one request
//!
//! 1. [`downstream`]: the waiting room (one thread, one poller) parks connections until a request has arrived.
//! 2. A bounded channel takes it to a worker of the fixed pool ([`workers`]); a full channel is a 503 at once.
//! 3. The gateway (`gateway.rs`) finds the [`route`], which picks a backend through [`balance::LoadBalancer`] and counts
//!    the exchange on it with a [`balance::BackendGuard`].
//! 4. [`upstream`]: headers are rewritten, ureq sends the request over our own transport; failed tries are repeated where
//!    that is safe.
//! 5. `downstream/answer.rs` passes the answer on, head and first bytes in one write, what is left of a large one through
//!    a pipe (`downstream/pass.rs`); the connection goes back to 1.
//!
//! The seam between 1 and 3 is [`downstream::exchange::Client`]: a body to read and a way to answer. Behind it there are
//! two engines, `native` (above) and `tiny_http`.
//!
//! # Threads
//!
//! | name | how many | started by | ends, and who joins it |
//! |---|---|---|---|
//! | `reverse-proxy` (main) | 1 | the system | last; waits for signals, then drains |
//! | `waiting-room` | 1 | `downstream/front.rs` | when the last connection is gone, or the deadline; `Proxy::drain` |
//! | `tiny-http` | 1 per listener, with that engine | `downstream/front.rs` | when told to stop; `Proxy::drain` |
//! | `worker-N` | base at start, reserve on first need | `workers/pool.rs` | when the channel closes; `Proxy::drain`, up to the deadline |
//! | `tunnel-N` | 1 per open tunnel | `upstream/tunnel.rs` | either side ends, idle, drain deadline; `Proxy::drain` |
//! | `health PREFIX` | 1 per route with a health check | [`health::checker`] | at once when told; `Proxy::drain` |
//! | `probe ADDR` | 1 per probe, short-lived | `health/target.rs` | within the probe's time-out; its health thread |
//! | `upkeep` | 1, if there are host names | [`upkeep`] | at once when told; `Proxy::drain` |
//! | `name HOST` | 1 per look-up, short-lived | [`upkeep`] | when the resolver answers; `upkeep`, or nobody if that stopped before |
//! | `log` | 1 | [`logging`] | with the process: it may be waiting for a pipe; `main` waits half a second for its last lines |
//!
//! # Locks
//!
//! Never two at a time on the request path, with one exception, always in this order: a place of the waiting room, then
//! the kernel's. None is held across I/O or a send. Picking a backend takes none; waiting for one takes that of the
//! line of its route ([`balance::line`]).
//!
//! # Modules, in reading order
//!
//! [`config`] what the operator says · [`proxy`] builds and ends everything · [`http`] messages, no sockets ·
//! [`downstream`] towards clients · [`workers`] the pool · [`routing`] and [`route`] · [`balance`] choosing a backend ·
//! [`upstream`] towards backends · [`health`] probes · [`error`] every way an exchange can fail, in one list ·
//! [`counters`], [`upkeep`], [`signals`], [`stop`], [`logging`], [`socket`], `service_manager` what the others stand on · `demo` a first look.

#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, unused_imports, reason = "what the native engine alone needs")
)]

pub mod balance;
pub mod build_info;
pub mod config;
pub mod counters;
#[cfg(feature = "tiny-http")]
pub mod demo;
pub mod downstream;
pub mod error;
mod exchange;
mod file_limit;
pub mod health;
pub mod http;
pub mod logging;
mod net;
pub mod proxy;
pub mod route;
pub mod routing;
mod service_manager;
pub mod signals;
pub mod stop;
pub mod upkeep;
pub mod upstream;
mod workers;
