//! A reverse proxy for HTTP/1.1 on plain threads, without an async runtime.
//!
//! # The way of one request
//!
//! With `engine = "native"`, the default on Linux:
//!
//! 1. `workers/door.rs` is where connections come in: a worker that the kernel has woken takes one in, and keeps it unless
//!    another carries fewer.
//! 2. A worker (`workers/worker.rs`) is one thread, asleep in one epoll (`net/poller.rs`). It owns its connections and what
//!    happens on them; nobody is waited for anywhere else, so whoever is slow holds no thread.
//! 3. [`downstream`]: bytes of a client become a request head ([`http::head`]).
//! 4. `exchange`: the request and its response are a value that goes from stage to stage: ask the service of `forward_auth`, if
//!    the route has one, collect the beginning of the body, queue for a backend, connect, await the head, relay the body, or
//!    become a tunnel. `exchange/mod.rs` has the table.
//! 5. [`route`] and [`balance`]: the route picks a backend of its pool through [`balance::LoadBalancer`], and the exchange is counted on
//!    it with a [`balance::BackendGuard`].
//! 6. [`upstream`]: a worker's connections to backends, in use and idle.
//!
//! With `engine = "tiny_http"`, the classic engine (`classic/`): a `tiny_http::Server` feeds requests over a bounded channel to
//! a fixed pool of blocking threads, which forward them with ureq. Routes, balancing, rewriting, tries, refusals, causes, logs
//! and health are the same code; `exchange/mod.rs` names what of that is in its folder.
//!
//! # Threads
//!
//! | name | how many | started by | ends, and who joins it |
//! |---|---|---|---|
//! | `reverse-proxy` (main) | 1 | the system | last; waits for signals, reloads, drains ([`daemon`]) |
//! | `reload` | 1 while a file is read again | [`daemon`] | when the file is read; nobody, its result is waited for 10 s |
//! | `log` | 1 | [`logging`] | when the log is dropped; writes what is left, for half a second at most |
//! | `access-log` | 1 if there is such a log | `access_log/mod.rs` | when the last snapshot with it is gone; nobody, a drain waits for its last lines |
//! | `admin-N` | 4 if there is such a listener | `admin/server.rs` | when told to stop; `admin/server.rs`, for 0.3 s at most |
//! | `accept` | 1, asleep while connections can be accepted | `workers/accept.rs` | when the backlogs are empty, or the deadline; `Proxy::drain` |
//! | `worker-N` | `workers`, fixed | `workers/mod.rs` | when its last connection is gone, or the deadline; `Proxy::drain` |
//! | `tiny-http` | 1 per listener, with that engine | `classic/server.rs` | when told to stop; `Proxy::drain` |
//! | `health POOL` | 1 per pool with a health check; a route that has its backends for itself is one | [`health::checker`] | at once when told; `Proxy::drain` |
//! | `probe ADDR` | 1 per probe, short-lived | `health/target.rs` | within the probe's time-out; its health thread |
//! | `passwords-N` | a quarter of the cores, at least 1, from when a route has `basic_auth` | `passwords/mod.rs` | after the password that it is at; the drop of [`proxy::Proxy`], for 0.3 s at most |
//! | `upkeep` | 1 | [`upkeep`] | at once when told; `Proxy::drain` |
//! | `certificates` | 1, with certificates | `renewal.rs` | at once when told; `Proxy::drain` |
//! | `challenge` | 1 per challenge of an ACME server, 4 at most | `front/challenges.rs` | when its file is read; nobody |
//! | `name HOST` | 1 per look-up, short-lived | [`upkeep`] | when the resolver answers; nobody |
//!
//! # Locks
//!
//! Never two at a time on the request path, and none across I/O that could wait. A connection and its exchange have one owner, so
//! they have none. The listeners have one that workers share while they accept, and that a reload takes for itself; who comes with
//! `max_connections_per_client` is counted under one. Picking a backend takes none; waiting for one takes that of the line of its
//! route ([`balance::line`]); a `rate_limit` takes that of a few of its buckets, and `basic_auth` that of the results it knows.
//!
//! # Modules, in reading order
//!
//! [`config`] what the operator says · [`daemon`] what `main` runs · [`proxy`] builds and ends everything · [`reload`] puts
//! another configuration to work, as a `snapshot` · `front` TLS with clients and what else comes before any route, `renewal`
//! new certificates · [`http`] messages, no sockets · `net` sockets, no messages · [`downstream`] towards clients ·
//! [`upstream`] towards backends · [`routing`] and [`route`] · [`rules`] what a route does beside
//! passing requests on · [`balance`] choosing a backend · `exchange` one request from
//! stage to stage · `passwords` the threads that compare them · [`explain`] what would become of one · `workers` the threads · `classic` the other engine · [`health`]
//! probes · `access_log` one line about each exchange · `admin` what an operator can ask · [`error`] every way an exchange
//! can fail, in one list · [`counters`], [`upkeep`], [`signals`], [`stop`],
//! [`logging`], [`ip_network`] what the others stand on · `file_limit` and `memory` what is reserved and said at the start ·
//! `service_manager` what systemd is told · `process_info`, [`build_info`] what the program says of itself · `livez` what
//! asks it · `demo` a first look.

#![cfg_attr(not(feature = "admin"), allow(dead_code, reason = "what the admin listener alone asks for"))]

#[cfg(not(target_os = "linux"))]
compile_error!("reverse-proxy runs on Linux: its workers wait in epoll");

mod access_log;
#[cfg(feature = "admin")]
mod admin;
pub mod balance;
pub mod build_info;
#[cfg(feature = "classic")]
mod classic;
pub mod config;
pub mod counters;
pub mod daemon;
#[cfg(feature = "classic")]
pub mod demo;
pub mod downstream;
pub mod error;
mod exchange;
pub mod explain;
mod file_limit;
mod front;
pub mod health;
pub mod http;
pub mod ip_network;
#[cfg(feature = "admin")]
pub mod livez;
pub mod logging;
mod memory;
mod net;
mod passwords;
#[cfg(feature = "admin")]
mod process_info;
pub mod proxy;
pub mod reload;
mod renewal;
pub mod route;
pub mod routing;
pub mod rules;
mod service_manager;
pub mod signals;
mod snapshot;
pub mod stop;
pub mod upkeep;
pub mod upstream;
mod workers;

/// For `fuzz/` and the tests.
#[cfg(any(test, fuzzing))]
pub use exchange::header_checks;
