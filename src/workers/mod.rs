//! The threads of the native engine: one that accepts connections and deals them out, and a fixed number of workers, each
//! asleep in one place, its epoll, that carry them.

mod accept;
mod client;
mod mailbox;
mod worker;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::config::ServerConfig;
use crate::downstream::connection::Limits;
use crate::downstream::listener::Listener;
use crate::exchange::gateway::Gateway;
use crate::http::head::HeadLimits;
use accept::Accept;
use mailbox::Mailbox;
use worker::Worker;

/// The running engine.
#[derive(Debug)]
pub(crate) struct Workers {
    accept: Accept,
    workers: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    mailbox: Mailbox,
    thread: JoinHandle<usize>,
}

impl Workers {
    /// Starts the workers, and lets up to `max_clients` in at once.
    ///
    /// # Errors
    /// A thread or an epoll can't be had.
    pub(crate) fn start(
        config: &ServerConfig,
        listeners: Vec<Listener>,
        max_clients: usize,
        gateway: &Arc<Gateway>,
    ) -> io::Result<Self> {
        let limits = Limits {
            head: HeadLimits {
                max_header_bytes: config.max_header_bytes.get(),
                max_headers: config.max_headers.get(),
            },
            header_timeout: config.header_timeout,
            keepalive_timeout: config.keepalive_timeout,
            read_timeout: config.read_timeout,
            write_timeout: config.write_timeout,
            min_body_rate: config.min_body_rate,
            min_answer_rate: config.min_answer_rate,
        };
        let mut workers = Vec::new();
        for number in 0..config.workers.get() {
            let (mailbox, inbox, poller) = Mailbox::new(config.queue_size.get())?;
            let gateway = Arc::clone(gateway);
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || Worker::new(poller, inbox, gateway, limits).run())?;
            workers.push(Running { mailbox, thread });
        }
        let mailboxes = workers.iter().map(|worker| worker.mailbox.clone()).collect();
        let accept = Accept::start(listeners, mailboxes, max_clients)?;
        Ok(Self { accept, workers })
    }

    /// Stops accepting, lets what is under way finish until `deadline`, and joins every thread. How many requests were
    /// cut.
    pub(crate) fn drain(self, deadline: Instant) -> usize {
        for worker in &self.workers {
            worker.mailbox.drain(deadline);
        }
        self.accept.drain(deadline);
        let mut threads = Vec::new();
        for Running { mailbox, thread } in self.workers {
            mailbox.close();
            threads.push(thread);
        }
        let mut cut = 0;
        for thread in threads {
            match thread.join() {
                Ok(count) => cut += count,
                Err(_) => log::error!("a worker had panicked"),
            }
        }
        cut
    }
}
