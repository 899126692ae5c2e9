//! The classic engine, `engine = "tiny_http"`: the plan this project began with, in its plainest form.
//!
//! A `tiny_http::Server` for each listener feeds requests over a bounded channel (`server.rs`) to a fixed pool of blocking
//! threads (`worker.rs`). Each takes one request (`client.rs`) to its end (`exchange.rs`): routes it, picks a backend through
//! [`LoadBalancer`](crate::balance::LoadBalancer) with a [`BackendGuard`](crate::balance::BackendGuard), forwards it
//! (`forward.rs`) with a stock `ureq::Agent` (`agents.rs`, `fault.rs`), and passes the answer on (`answer.rs`). What decides
//! about a request is shared with the native engine: routes, balancing, rewriting, tries, refusals, causes, health.
//!
//! For trusted networks only; README lists what the two crates do not allow.

mod agents;
mod answer;
mod client;
mod exchange;
mod fault;
mod forward;
mod server;
mod worker;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tiny_http::Request;

use crate::config::ServerConfig;
use crate::downstream::listener::{Change, Listener};
use crate::exchange::gateway::Gateway;
use agents::Agents;
use server::Server;

/// The running engine.
#[derive(Debug)]
pub(crate) struct Classic {
    gateway: Arc<Gateway>,
    servers: Vec<Server>,
    /// `None` when it has ended.
    queue: Option<Sender<Request>>,
    /// Closed when the last worker has ended.
    workers: Receiver<Infallible>,
}

impl Classic {
    /// Starts the workers, and lets clients in.
    ///
    /// # Errors
    /// A thread can't be had, or a listener is none that tiny_http takes.
    pub(crate) fn start(
        config: &ServerConfig,
        listeners: Vec<Listener>,
        gateway: &Arc<Gateway>,
    ) -> io::Result<Self> {
        let (queue, requests) = bounded(config.queue_size.get());
        let (alive, workers) = bounded(0);
        let agents = Arc::new(Agents::default());
        for number in 0..config.workers.get() {
            let (requests, alive) = (Receiver::clone(&requests), Sender::clone(&alive));
            let (gateway, agents) = (Arc::clone(gateway), Arc::clone(&agents));
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                worker::run(&requests, &gateway, &agents);
                drop(alive);
            })?;
        }
        let mut engine =
            Self { gateway: Arc::clone(gateway), servers: Vec::new(), queue: Some(queue), workers };
        for listener in listeners {
            engine.add(listener)?;
        }
        Ok(engine)
    }

    fn add(&mut self, listener: Listener) -> io::Result<()> {
        if let Some(queue) = &self.queue {
            self.servers.push(Server::start(listener, queue.clone(), Arc::clone(&self.gateway))?);
        }
        Ok(())
    }

    /// After a reload.
    pub(crate) fn change(&mut self, change: Change) {
        let (removed, stay) =
            self.servers.drain(..).partition(|server| change.removed.contains(server.addr()));
        self.servers = stay;
        Vec::into_iter(removed).for_each(Server::stop);
        for listener in change.added {
            let addr = listener.addr.clone();
            if let Err(error) = self.add(listener) {
                log::error!("cannot listen on {addr}: {error}");
            }
        }
    }

    /// Stops accepting, and lets what was received be answered until `deadline`. How many requests were cut: a thread that
    /// waits in a system call can't be called back, and ends with the process.
    pub(crate) fn drain(&mut self, deadline: Instant) -> usize {
        // With the last of them the queue has no sender any more, and a worker that finds it empty ends.
        self.queue = None;
        for server in self.servers.drain(..) {
            server.stop();
        }
        match self.workers.recv_deadline(deadline) {
            Err(RecvTimeoutError::Timeout) => self.gateway.counters.in_flight.load(Ordering::Relaxed),
            _ => 0,
        }
    }
}

impl Drop for Classic {
    fn drop(&mut self) {
        // After a drain there is nobody left.
        self.drain(Instant::now());
    }
}
