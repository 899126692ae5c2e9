//! The threads of the native engine: a fixed number of workers, each asleep in one place, its epoll, that take connections in
//! and carry them, and one that opens and closes the door for them.

mod accept;
mod client;
mod door;
mod mailbox;
mod places;
pub(crate) mod report;
mod turn_away;
mod turns;
pub(crate) mod watch;
mod worker;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::config::ServerConfig;
use crate::downstream::listener::{Change, Listener};
use crate::exchange::gateway::Gateway;
use crate::net::poller::Poller;
use accept::Accept;
use door::Door;
use mailbox::Mailbox;
use watch::Watch;
use worker::Worker;

/// The running engine. Dropping it ends and joins its threads, and cuts what is under way.
#[derive(Debug)]
pub(crate) struct Workers {
    /// `None` before clients are let in, and when it has ended.
    accept: Option<Accept>,
    workers: Vec<Running>,
    door: Arc<Door>,
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
        let poller = Poller::new()?;
        let mut posts = Vec::new();
        for _ in 0..config.workers.get() {
            posts.push(Mailbox::new()?);
        }
        let mailboxes = posts.iter().map(|(mailbox, ..)| mailbox.clone()).collect();
        let counters = Arc::clone(&gateway.counters);
        let door = Arc::new(Door::new(mailboxes, max_clients, poller.waker(), Arc::clone(gateway)));
        let mut engine = Self { accept: None, workers: Vec::new(), door: Arc::clone(&door) };
        for (number, (mailbox, inbox, poller)) in posts.into_iter().enumerate() {
            let (door, gateway) = (Arc::clone(&door), Arc::clone(gateway));
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || Worker::new(number, poller, inbox, door, gateway).run())?;
            engine.workers.push(Running { mailbox, thread });
        }
        engine.accept = Some(Accept::start(poller, door, listeners, counters)?);
        Ok(engine)
    }

    /// For who wants to know how they are.
    pub(crate) fn watch(&self) -> Watch {
        Watch { enquiries: self.workers.iter().map(|worker| worker.mailbox.enquiry().clone()).collect() }
    }

    /// After a reload: who sleeps lets go of the snapshot before.
    pub(crate) fn change(&self, change: Change) {
        self.door.places().set_max(change.max_connections);
        if let Some(accept) = &self.accept {
            accept.change(change);
        }
        for worker in &self.workers {
            worker.mailbox.wake();
        }
    }

    /// Stops accepting, lets what is under way finish until `deadline`, and joins every thread. How many requests were
    /// cut.
    pub(crate) fn drain(&mut self, deadline: Instant) -> usize {
        for worker in &self.workers {
            worker.mailbox.drain(deadline);
        }
        if let Some(accept) = self.accept.take() {
            accept.drain(deadline);
        }
        self.door.close();
        let mut cut = 0;
        for Running { thread, .. } in self.workers.drain(..) {
            match thread.join() {
                Ok(count) => cut += count,
                Err(_) => log::error!("a worker had panicked"),
            }
        }
        cut
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // After a drain there is nobody left.
        self.drain(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::AtomicBool;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::config::Config;
    use crate::counters::Counters;
    use crate::downstream::listener::Entrance;
    use crate::exchange::gateway::Places;
    use crate::passwords::Passwords;
    use crate::snapshot::Snapshot;

    pub(super) fn gateway() -> Arc<Gateway> {
        Arc::new(Gateway {
            snapshot: ArcSwap::from_pointee(Snapshot::new(
                1,
                &Config::for_tests(),
                &[],
                None,
                &Arc::default(),
            )),
            counters: Arc::new(Counters::default()),
            tunnels: Places::new(1),
            compressing: Places::new(1),
            per_client: Arc::default(),
            passwords: Passwords::default(),
            exchanges: Places::new(1),
            via: String::new(),
            draining: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            in_use: Arc::default(),
        })
    }

    #[test]
    fn what_can_not_be_started_takes_along_what_was() {
        let gateway = gateway();
        // A file is always ready, so that no epoll takes it: the workers are there by then.
        let file = OwnedFd::from(std::fs::File::open("Cargo.toml").unwrap());
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into();
        let listener = Listener { socket: file.into(), addr, entrance: Entrance::default() };
        assert!(Workers::start(&ServerConfig::default(), vec![listener], 1, &gateway).is_err());
        assert_eq!(Arc::strong_count(&gateway), 1, "a worker is left");
    }
}
