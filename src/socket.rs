//! What the proxy asks of a socket and std does not offer: single non-blocking calls on blocking sockets, and
//! waiting for two sockets at once. The one file that differs between operating systems.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::Socket;

/// The most that [`recv_onto`] takes: a head, or the beginning of a body.
pub const RECV_ONTO: usize = 8 * 1024;

/// What [`wait`] saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Bytes can be read, or the end of the stream.
    pub readable: bool,
    /// Bytes can be written.
    pub writable: bool,
    /// The other side has closed its sending half, or the connection is broken.
    pub hung_up: bool,
}

#[cfg(unix)]
mod imp {
    use super::{RECV_ONTO, Ready, Socket, io};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::net::{RecvFlags, SendFlags, recv, send};
    use std::mem::MaybeUninit;
    use std::time::Duration;

    #[cfg(target_os = "linux")]
    const MORE: SendFlags = SendFlags::MORE;
    #[cfg(not(target_os = "linux"))]
    const MORE: SendFlags = SendFlags::empty();
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
    // Elsewhere Rust's start-up code ignores SIGPIPE for the whole process.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    const NO_SIGNAL: SendFlags = SendFlags::empty();
    #[cfg(target_os = "linux")]
    const HUNG_UP: PollFlags = PollFlags::RDHUP;
    #[cfg(not(target_os = "linux"))]
    const HUNG_UP: PollFlags = PollFlags::empty();

    pub(super) fn recv_now(socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(socket, buf, RecvFlags::DONTWAIT)?.0)
    }

    pub(super) fn recv_onto(socket: &Socket, input: &mut Vec<u8>) -> io::Result<usize> {
        // Not into the vector itself: it would have to make room for more than comes as a rule.
        let mut space = [const { MaybeUninit::uninit() }; RECV_ONTO];
        let ((received, _), _) = recv(socket, &mut space[..], RecvFlags::empty())?;
        input.extend_from_slice(received);
        Ok(received.len())
    }

    pub(super) fn recv_into_spare(socket: &Socket, buf: &mut Vec<u8>) -> io::Result<usize> {
        Ok(recv(socket, rustix::buffer::spare_capacity(buf), RecvFlags::DONTWAIT)?.0)
    }

    pub(super) fn peek_now(socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(socket, buf, RecvFlags::DONTWAIT | RecvFlags::PEEK)?.0)
    }

    pub(super) fn send_now(socket: &Socket, buf: &[u8], more: bool) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | NO_SIGNAL | if more { MORE } else { SendFlags::empty() };
        Ok(send(socket, buf, flags)?)
    }

    pub(super) fn wait<const N: usize>(
        sockets: &mut [(&Socket, Ready); N],
        timeout: Duration,
    ) -> io::Result<()> {
        let mut fds = sockets.map(|(socket, wanted)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, wanted.readable);
            flags.set(PollFlags::OUT, wanted.writable);
            flags.set(HUNG_UP, wanted.hung_up);
            PollFd::new(socket, flags)
        });
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for ((_, ready), fd) in sockets.iter_mut().zip(&fds) {
            let seen = fd.revents();
            let broken = seen.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
            *ready = Ready {
                readable: broken || seen.contains(PollFlags::IN),
                writable: seen.contains(PollFlags::OUT),
                hung_up: broken || (!HUNG_UP.is_empty() && seen.contains(HUNG_UP)),
            };
        }
        Ok(())
    }
}

#[cfg(not(unix))]
mod imp {
    use super::{RECV_ONTO, Ready, Socket, io};
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    fn now<T>(socket: &Socket, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        socket.set_nonblocking(true)?;
        let result = call();
        socket.set_nonblocking(false)?;
        result
    }

    pub(super) fn recv_now(socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
        now(socket, || (&mut &*socket).read(buf))
    }

    pub(super) fn recv_onto(socket: &Socket, input: &mut Vec<u8>) -> io::Result<usize> {
        let mut space = [0; RECV_ONTO];
        let n = (&mut &*socket).read(&mut space)?;
        input.extend_from_slice(space.get(..n).unwrap_or_default());
        Ok(n)
    }

    pub(super) fn recv_into_spare(socket: &Socket, buf: &mut Vec<u8>) -> io::Result<usize> {
        let begin = buf.len();
        buf.resize(buf.capacity(), 0);
        let received = recv_now(socket, buf.get_mut(begin..).unwrap_or_default());
        buf.truncate(begin + received.as_ref().map_or(0, |n| *n));
        received
    }

    pub(super) fn peek_now(socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
        let mut bytes = [std::mem::MaybeUninit::uninit(); 1];
        let peeked = now(socket, || socket.peek(&mut bytes))?;
        // Without `unsafe` the peeked bytes can't be looked at; a caller learns that there are some.
        Ok(peeked.min(buf.len()))
    }

    pub(super) fn send_now(socket: &Socket, buf: &[u8], _more: bool) -> io::Result<usize> {
        now(socket, || (&mut &*socket).write(buf))
    }

    /// Without `poll`, looks at the sockets in turn every few milliseconds.
    pub(super) fn wait<const N: usize>(
        sockets: &mut [(&Socket, Ready); N],
        timeout: Duration,
    ) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        let wanted = sockets.map(|(_, ready)| ready);
        loop {
            let mut any = false;
            for ((socket, ready), wanted) in sockets.iter_mut().zip(&wanted) {
                let peeked = peek_now(socket, &mut [0]);
                let quiet = matches!(&peeked, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
                *ready = Ready {
                    readable: wanted.readable && !quiet,
                    writable: wanted.writable,
                    hung_up: wanted.hung_up && !quiet && !matches!(peeked, Ok(1..)),
                };
                any |= *ready != Ready::default();
            }
            if any || Instant::now() >= deadline {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(target_os = "linux")]
mod pipe {
    use super::{Socket, io};
    use rustix::io::ioctl_fionbio;
    use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
    use std::os::fd::OwnedFd;

    #[derive(Debug)]
    pub(super) struct Ends {
        exit: OwnedFd,
        entrance: OwnedFd,
    }

    impl Ends {
        pub(super) fn new() -> io::Result<Self> {
            let (exit, entrance) = pipe_with(PipeFlags::CLOEXEC)?;
            Ok(Self { exit, entrance })
        }

        pub(super) fn fill(&self, from: &Socket, most: usize) -> io::Result<usize> {
            Ok(splice(from, None, &self.entrance, None, most, SpliceFlags::MOVE)?)
        }

        pub(super) fn pour(&self, to: &Socket, most: usize) -> io::Result<usize> {
            Ok(splice(&self.exit, None, to, None, most, SpliceFlags::MOVE)?)
        }

        pub(super) fn pour_now(&self, to: &Socket, most: usize) -> io::Result<usize> {
            // Nothing else keeps `splice` from waiting for a socket.
            ioctl_fionbio(to, true)?;
            let poured = self.pour(to, most);
            ioctl_fionbio(to, false)?;
            poured
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod pipe {
    use super::{Socket, io};

    #[derive(Debug)]
    pub(super) enum Ends {}

    impl Ends {
        pub(super) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn fill(&self, _: &Socket, _: usize) -> io::Result<usize> {
            match *self {}
        }

        pub(super) fn pour(&self, _: &Socket, _: usize) -> io::Result<usize> {
            match *self {}
        }

        pub(super) fn pour_now(&self, _: &Socket, _: usize) -> io::Result<usize> {
            match *self {}
        }
    }
}

/// Pipes there may be at once. They have two descriptors each, and beyond 1,024 of one user the kernel makes them tiny.
pub const MAX_PIPES: usize = 256;

/// Pipes there are. A bound and nothing else: `Relaxed`.
static PIPES: AtomicUsize = AtomicUsize::new(0);

/// A pipe through which bytes get from one socket to another without being copied: what it holds are references to the
/// kernel's own buffers.
#[derive(Debug)]
pub struct Pipe {
    ends: pipe::Ends,
    /// Bytes that went in and have not come out.
    held: usize,
}

impl Pipe {
    /// What has to be left of a body for a pipe to be made for it: less takes two reads in any case.
    pub const WORTH_IT: u64 = 64 * 1024;
    /// Bytes to ask for at once; as many come as there are places for.
    pub const MOST: u64 = 1024 * 1024;

    /// An empty pipe. It has 16 places, each for a page or for a whole buffer of a socket, as the bytes come.
    ///
    /// # Errors
    /// There are [`MAX_PIPES`], or not two descriptors left, or the system has nothing of the kind.
    pub fn new() -> io::Result<Self> {
        let one_more = |now: usize| (now < MAX_PIPES).then_some(now + 1);
        if PIPES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let ends = pipe::Ends::new().inspect_err(|_| {
            PIPES.fetch_sub(1, Ordering::Relaxed);
        })?;
        Ok(Self { ends, held: 0 })
    }

    /// Nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes up to `most` bytes from a socket as `recv(2)` would, which waits as long as the socket's receive time-out
    /// says; 0 is the end of the stream. For an empty pipe: a full one would be waited for.
    ///
    /// # Errors
    /// As `recv(2)` and `splice(2)`.
    pub fn fill(&mut self, from: &Socket, most: usize) -> io::Result<usize> {
        let n = self.ends.fill(from, most)?;
        self.held += n;
        Ok(n)
    }

    /// Gives what it holds to a socket, as far as one `send(2)` would take it.
    ///
    /// # Errors
    /// As `send(2)` and `splice(2)`. For a connection that is gone there is a SIGPIPE as well, which Rust's start-up code
    /// ignores: `splice` has no flag against it.
    pub fn pour(&mut self, to: &Socket) -> io::Result<usize> {
        let n = self.ends.pour(to, self.held)?;
        self.held = self.held.saturating_sub(n);
        Ok(n)
    }

    /// Like [`pour`](Self::pour) without waiting. For a socket that nobody else uses at the same time.
    ///
    /// # Errors
    /// As `send(2)` and `splice(2)`; `WouldBlock` when the socket takes nothing.
    pub fn pour_now(&mut self, to: &Socket) -> io::Result<usize> {
        let n = self.ends.pour_now(to, self.held)?;
        self.held = self.held.saturating_sub(n);
        Ok(n)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads what is there. `WouldBlock` when nothing is, whatever mode the socket is in.
///
/// # Errors
/// As `recv(2)`.
pub fn recv_now(socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
    imp::recv_now(socket, buf)
}

/// Reads once and appends what came to `input`: up to 8 KiB. Waits as long as the socket's own time-out says.
///
/// # Errors
/// As `recv(2)`; `WouldBlock` or `TimedOut` when nothing came in time.
pub fn recv_onto(socket: &Socket, input: &mut Vec<u8>) -> io::Result<usize> {
    imp::recv_onto(socket, input)
}

/// Reads what is there onto the end of `buf`, as far as its capacity goes. `WouldBlock` when nothing is there.
///
/// # Errors
/// As `recv(2)`.
pub fn recv_into_spare(socket: &Socket, buf: &mut Vec<u8>) -> io::Result<usize> {
    imp::recv_into_spare(socket, buf)
}

/// Looks at what is there without taking it.
///
/// # Errors
/// As `recv(2)`; `WouldBlock` when nothing is there.
pub fn peek_now(socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
    imp::peek_now(socket, buf)
}

/// Sends what the socket takes without waiting. `more`: the rest follows at once, so the kernel may wait for it
/// to fill a packet.
///
/// # Errors
/// As `send(2)`; `WouldBlock` when the socket takes nothing. Never raises SIGPIPE.
pub fn send_now(socket: &Socket, buf: &[u8], more: bool) -> io::Result<usize> {
    imp::send_now(socket, buf, more)
}

/// Waits until one of the sockets is in one of the states wanted of it, or `timeout` is over; writes what was seen
/// in place of what was wanted. They are an array, so that no call has to allocate.
///
/// # Errors
/// As `poll(2)`.
pub fn wait<const N: usize>(sockets: &mut [(&Socket, Ready); N], timeout: Duration) -> io::Result<()> {
    imp::wait(sockets, timeout)
}

/// Whether a connection could not be made because this machine or process is short of something. No client can be
/// allowed to make that look like a fault of the other side.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        error.raw_os_error().is_some_and(|code| shortages.iter().any(|errno| errno.raw_os_error() == code))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::OutOfMemory
    }
}

/// Whether the other side has closed the connection, or its sending half: the two can't be told apart.
#[must_use]
pub fn has_hung_up(socket: &Socket) -> bool {
    let mut state = [(socket, Ready { hung_up: true, ..Ready::default() })];
    if wait(&mut state, Duration::ZERO).is_err() {
        return true;
    }
    state.iter().any(|(_, ready)| ready.hung_up)
}
