//! The one place that asks the kernel which sockets are ready: an epoll per thread, and a way to wake it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

/// Says which socket an event is about. The poller gives it back as it was given.
pub(crate) type Token = u64;

const WAKE: Token = Token::MAX;
/// Events taken from the kernel at once. Also the bound of what one turn of a worker handles before it looks at its
/// deadlines again.
const BATCH: usize = 128;

/// What the kernel has said of one socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub token: Token,
    pub readable: bool,
    pub writable: bool,
    /// The other side sends nothing more, or the connection is gone.
    pub hung_up: bool,
    /// The connection is gone in both directions.
    pub broken: bool,
}

/// What [`Poller::wait`] fills.
pub(crate) struct Events {
    list: Vec<epoll::Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { list: Vec::with_capacity(BATCH) }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.list.iter().filter(|event| event.data.u64() != WAKE).map(|event| {
            let (token, flags) = (event.data.u64(), event.flags);
            let broken = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
            Event {
                token,
                readable: broken || flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
                writable: broken || flags.contains(epoll::EventFlags::OUT),
                hung_up: broken || flags.contains(epoll::EventFlags::RDHUP),
                broken,
            }
        })
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Each change is reported once; whoever gets the report remembers it until a call says `WouldBlock`. So a socket is
/// registered once in its life, whatever it waits for.
const CHANGES: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::OUT)
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::ET);

/// An epoll. Closing a socket removes it.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Arc<OwnedFd>,
    waker: Waker,
}

/// Makes listeners known to a [`Poller`], from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    epoll: Arc<OwnedFd>,
}

impl Registry {
    /// Of the pollers that a listener is known to, one that sleeps is told of each who comes. Whoever is told accepts until
    /// nobody waits any more.
    pub(crate) fn add_listener(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET | epoll::EventFlags::EXCLUSIVE;
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token), flags)?)
    }

    /// Closing does not do it if another process has the socket too, as while one program takes over from another: what this
    /// poller is told, that one is not.
    pub(crate) fn remove_listener(&self, socket: impl AsFd) {
        // Fails only if it is not known.
        let _ = epoll::delete(&self.epoll, socket);
    }
}

/// Makes [`Poller::wait`] return, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Waker {
    shared: Arc<WakerShared>,
}

#[derive(Debug)]
struct WakerShared {
    eventfd: OwnedFd,
    /// The thread was woken already, or is awake and will look for messages before it sleeps. Written by both sides around
    /// what the message itself is written to, so `SeqCst`.
    is_awake: AtomicBool,
}

impl Waker {
    /// Wakes the thread, unless it is sure to look for messages anyway. Called after the message was left.
    pub(crate) fn wake(&self) {
        if !self.shared.is_awake.swap(true, Ordering::SeqCst) {
            // Fails only when the counter is full, and then the poller is awake anyway.
            let _ = rustix::io::write(&self.shared.eventfd, &1_u64.to_ne_bytes());
        }
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(
            &epoll,
            &eventfd,
            epoll::EventData::new_u64(WAKE),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        let shared = Arc::new(WakerShared { eventfd, is_awake: AtomicBool::new(true) });
        Ok(Self { epoll: Arc::new(epoll), waker: Waker { shared } })
    }

    pub(crate) fn registry(&self) -> Registry {
        Registry { epoll: Arc::clone(&self.epoll) }
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Reports every change of `socket` from now on, beginning with how it is now.
    pub(crate) fn add(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token), CHANGES)?)
    }

    /// Whoever leaves a message from now on has to wake this thread. Called before the last look for messages.
    pub(crate) fn about_to_sleep(&self) {
        self.waker.shared.is_awake.store(false, Ordering::SeqCst);
    }

    /// Waits until something has changed, somebody wakes it, or `timeout` is over.
    pub(crate) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout
            .map(|timeout| Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
        events.list.clear();
        let waited =
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events.list), timeout.as_ref());
        self.waker.shared.is_awake.store(true, Ordering::SeqCst);
        match waited {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if events.list.iter().any(|event| event.data.u64() == WAKE) {
            // Takes the counter back to zero; fails only if that has happened already.
            let _ = rustix::io::read(&self.waker.shared.eventfd, &mut [0; 8]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    const SOON: Option<Duration> = Some(Duration::from_secs(20));
    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn a_change_is_reported_once() {
        let (mut client, mut served) = pair();
        let poller = Poller::new().unwrap();
        let mut events = Events::new();
        poller.add(&served, 7).unwrap();
        poller.wait(&mut events, SOON).unwrap();
        let first = events.iter().next().unwrap();
        assert!(first.token == 7 && first.writable && !first.readable && !first.hung_up);
        client.write_all(b"x").unwrap();
        poller.wait(&mut events, SOON).unwrap();
        assert!(events.iter().next().unwrap().readable);
        poller.wait(&mut events, NOW).unwrap();
        assert_eq!(events.iter().count(), 0);
        served.read_exact(&mut [0]).unwrap();
        drop(client);
        poller.wait(&mut events, SOON).unwrap();
        assert!(events.iter().next().unwrap().hung_up);
    }

    #[test]
    fn a_listener_is_reported_once_for_each_who_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let poller = Poller::new().unwrap();
        let mut events = Events::new();
        let _early = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        poller.registry().add_listener(&listener, 7).unwrap();
        for _ in 0..2 {
            poller.wait(&mut events, SOON).unwrap();
            assert_eq!(events.iter().map(|event| event.token).collect::<Vec<_>>(), [7]);
            poller.wait(&mut events, NOW).unwrap();
            assert_eq!(events.iter().count(), 0);
            while listener.accept().is_ok() {}
            let _late = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        }
    }

    /// Both as if they were in two processes.
    #[test]
    fn whoever_has_let_go_of_a_listener_is_not_told_in_place_of_another() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = listener.try_clone().unwrap();
        let addr = listener.local_addr().unwrap();
        let (leaves, stays) = (Poller::new().unwrap(), Poller::new().unwrap());
        let mut events = Events::new();
        leaves.registry().add_listener(&listener, 7).unwrap();
        stays.registry().add_listener(&theirs, 8).unwrap();
        leaves.registry().remove_listener(&listener);
        drop(listener);
        let _client = TcpStream::connect(addr).unwrap();
        stays.wait(&mut events, SOON).unwrap();
        assert_eq!(events.iter().map(|event| event.token).collect::<Vec<_>>(), [8]);
        leaves.wait(&mut events, NOW).unwrap();
        assert_eq!(events.iter().count(), 0);
    }

    #[test]
    fn who_is_awake_is_not_woken_and_who_sleeps_is_once() {
        let poller = Poller::new().unwrap();
        let mut events = Events::new();
        poller.waker().wake();
        poller.wait(&mut events, NOW).unwrap();
        poller.about_to_sleep();
        poller.waker().wake();
        poller.waker().wake();
        poller.wait(&mut events, None).unwrap();
        assert_eq!(events.iter().count(), 0);
    }
}
