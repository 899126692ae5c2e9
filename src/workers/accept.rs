//! The thread `accept`: opens and closes the door, and lets in those who had to wait at it. As long as it is open the workers
//! take connections in themselves, and this thread sleeps.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::door::{Came, Door, Listening, State, Taker};
use super::turns;
use crate::counters::Counters;
use crate::downstream::listener::{BACKLOG, Change, Listener};
use crate::net::poller::{Events, Poller, Waker};

/// After `accept` failed for want of descriptors or memory, it is tried again this much later.
const PAUSE: Duration = Duration::from_millis(100);

/// The running thread.
#[derive(Debug)]
pub(super) struct Accept {
    orders: Sender<Order>,
    waker: Waker,
    thread: JoinHandle<()>,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    /// Take what is in the backlogs, until then, and close the listeners.
    Drain(Instant),
    Change(Change),
}

impl Accept {
    /// Lets clients in by `listeners`. `poller`: the one that the door wakes.
    ///
    /// # Errors
    /// A listener cannot be polled, or the thread can't be had.
    pub(super) fn start(
        poller: Poller,
        door: Arc<Door>,
        listeners: Vec<Listener>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let waker = poller.waker();
        let (orders, from_main) = unbounded();
        for listener in listeners {
            door.add(listener)?;
        }
        let mut porter = Porter {
            poller,
            door,
            orders: from_main,
            opens_at: None,
            leaving: Vec::new(),
            drain_until: None,
        };
        let thread = thread::Builder::new().name("accept".to_owned()).spawn(move || {
            let mut events = Events::new();
            turns::run("the accept thread", &counters, || porter.turn(&mut events));
        })?;
        Ok(Self { orders, waker, thread })
    }

    /// After a reload.
    pub(super) fn change(&self, change: Change) {
        let _ = self.orders.send(Order::Change(change));
        self.waker.wake();
    }

    /// Takes what is in the backlogs, and closes the listeners.
    pub(super) fn drain(self, deadline: Instant) {
        let _ = self.orders.send(Order::Drain(deadline));
        self.waker.wake();
        if self.thread.join().is_err() {
            log::error!("the accept thread had panicked");
        }
    }
}

/// What the thread owns.
struct Porter {
    poller: Poller,
    door: Arc<Door>,
    orders: Receiver<Order>,
    /// When it is tried again after the system ran short of something.
    opens_at: Option<Instant>,
    /// Listeners that a reload has removed: they close as soon as their backlogs are empty.
    leaving: Vec<Listening>,
    /// The drain has begun, and ends then.
    drain_until: Option<Instant>,
}

impl Porter {
    /// Waits until there is something to do, and does it. The last turn is the drain.
    fn turn(&mut self, events: &mut Events) -> ControlFlow<()> {
        if let Some(deadline) = self.drain_until {
            self.drain_backlogs(deadline, events);
            return ControlFlow::Break(());
        }
        self.wait(None, events);
        if self.may_open() {
            self.open();
            self.close_leaving();
            // Of those who came meanwhile, the workers have been told and will not be again.
            self.door.accept_all(usize::from(BACKLOG));
        }
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Drain(deadline) => self.drain_until = Some(deadline),
                Order::Change(change) => self.change(change),
            }
        }
        ControlFlow::Continue(())
    }

    /// Sleeps until the door can be opened again, or there is an order, or `until`.
    fn wait(&mut self, until: Option<Instant>, events: &mut Events) {
        self.poller.about_to_sleep();
        let now = Instant::now();
        let is_busy = !self.orders.is_empty() || self.may_open();
        let next = if is_busy { Some(now) } else { [self.opens_at, until].into_iter().flatten().min() };
        let patience = next.map(|at| at.saturating_duration_since(now));
        if let Err(error) = self.poller.wait(events, patience) {
            turns::poller_failed("no connection can be accepted", &error);
        }
    }

    /// Whether the door is shut, and no longer has to be.
    fn may_open(&mut self) -> bool {
        match self.door.state() {
            State::Open => {
                self.opens_at = None;
                false
            }
            State::Full => self.door.places().has_free(),
            State::Short => {
                let now = Instant::now();
                *self.opens_at.get_or_insert(now + PAUSE) <= now
            }
        }
    }

    fn open(&mut self) {
        self.opens_at = None;
        self.door.open();
    }

    fn change(&mut self, change: Change) {
        self.door.change(&change.changed);
        self.leaving.extend(self.door.remove(|addr| change.removed.contains(addr)));
        self.close_leaving();
        for listener in change.added {
            let addr = listener.addr.clone();
            if let Err(error) = self.door.add(listener) {
                log::error!("cannot listen on {addr}: {error}");
            }
        }
    }

    /// Closes the listeners that are removed, after their backlogs: closing resets who waits there. While no connection can
    /// be accepted they wait.
    fn close_leaving(&mut self) {
        for listening in &self.leaving {
            self.empty(listening, usize::from(BACKLOG));
        }
        if self.door.state() == State::Open {
            self.leaving.clear();
        }
    }

    /// Accepts what waits at a listener, `most` at most. How many those were.
    fn empty(&self, listening: &Listening, most: usize) -> usize {
        let accept = || self.door.accept(listening, Taker::Accept);
        (0..most).take_while(|_| !matches!(accept(), Came::Nobody)).count()
    }

    /// As many are accepted as can have been in the backlogs, as soon as there are places for them; however many still come.
    fn drain_backlogs(&mut self, deadline: Instant, events: &mut Events) {
        let mut listeners = self.door.remove(|_| true);
        listeners.append(&mut self.leaving);
        // One more fits in than was asked for.
        let mut left = listeners.len() * (usize::from(BACKLOG) + 1);
        while left > 0 && Instant::now() < deadline {
            let before = left;
            for listening in &listeners {
                left -= self.empty(listening, left);
            }
            if self.door.state() == State::Open {
                if before == left {
                    return;
                }
                continue;
            }
            self.wait(Some(deadline), events);
            if self.may_open() {
                self.open();
            }
        }
    }
}
