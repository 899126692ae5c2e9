//! The one place that asks the kernel which sockets are ready.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

/// Says which socket an event is about. The poller gives it back as it was given.
pub(super) type Token = u64;

const WAKE: Token = Token::MAX;
/// Events taken from the kernel at once.
const BATCH: usize = 256;

/// epoll, and a way to interrupt it. Sockets are reported once each time they are armed; closing one removes it.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
}

/// What [`Poller::wait`] fills.
pub(super) struct Events {
    list: Vec<epoll::Event>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { list: Vec::with_capacity(BATCH) }
    }

    /// The tokens that are ready.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.list.iter().map(|event| event.data.u64()).filter(|token| *token != WAKE)
    }
}

const ONCE: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ONESHOT);

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        Ok(Self { epoll, wake })
    }

    /// Reports `socket` each time it is ready, unless told not to.
    pub(super) fn add_always(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
    }

    /// Reports `socket` once, when bytes or the end of the stream can be read.
    pub(super) fn add_once(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token), ONCE)?)
    }

    /// Reports a socket that was added before once more. Bytes that are there already count.
    pub(super) fn arm_again(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(token), ONCE)?)
    }

    /// Reports a socket that is reported each time it is ready no more, or again. Needs no memory of the kernel's: what
    /// was said no more of for want of it could not come back.
    pub(super) fn report(&self, socket: impl AsFd, token: Token, wanted: bool) -> io::Result<()> {
        let flags = if wanted { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
        Ok(epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(token), flags)?)
    }

    /// Makes [`wait`](Self::wait) return.
    pub(super) fn wake(&self) {
        // Fails only when the counter is full, and then the poller is awake anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Waits until something is ready, somebody calls [`wake`](Self::wake), or `timeout` is over.
    pub(super) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout
            .map(|timeout| Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
        events.list.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events.list), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if events.list.iter().any(|event| event.data.u64() == WAKE) {
            // Takes the counter back to zero; fails only if that has happened already.
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    const SOON: Option<Duration> = Some(Duration::from_secs(20));
    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn reports_once_for_each_time_it_is_armed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let poller = Poller::new().unwrap();
        let mut events = Events::new();
        client.write_all(b"x").unwrap();
        poller.add_once(&server, 7).unwrap();
        poller.wait(&mut events, SOON).unwrap();
        assert_eq!(events.tokens().collect::<Vec<_>>(), [7]);
        poller.wait(&mut events, NOW).unwrap();
        assert_eq!(events.tokens().count(), 0);
        poller.arm_again(&server, 8).unwrap();
        poller.wait(&mut events, SOON).unwrap();
        assert_eq!(events.tokens().collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn is_silent_about_a_listener_until_told_otherwise() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let poller = Poller::new().unwrap();
        let mut events = Events::new();
        poller.add_always(&listener, 7).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        poller.wait(&mut events, SOON).unwrap();
        assert_eq!(events.tokens().collect::<Vec<_>>(), [7]);
        poller.report(&listener, 7, false).unwrap();
        poller.wait(&mut events, NOW).unwrap();
        assert_eq!(events.tokens().count(), 0);
        poller.report(&listener, 7, true).unwrap();
        poller.wait(&mut events, SOON).unwrap();
        assert_eq!(events.tokens().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn wake_interrupts_once() {
        let poller = Poller::new().unwrap();
        let mut events = Events::new();
        poller.wake();
        poller.wake();
        poller.wait(&mut events, None).unwrap();
        assert_eq!(events.tokens().count(), 0);
        poller.wait(&mut events, NOW).unwrap();
        assert_eq!(events.tokens().count(), 0);
    }
}
