//! A pipe through which bytes get from one socket to another without being copied.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use socket2::Socket;

/// Pipes there may be at once. They have two descriptors each, and beyond 1,024 of one user the kernel makes them tiny.
pub(crate) const MAX_PIPES: usize = 256;

/// Pipes there are. A bound and nothing else: `Relaxed`.
static PIPES: AtomicUsize = AtomicUsize::new(0);

/// What it holds are references to the kernel's own buffers.
#[derive(Debug)]
pub(crate) struct Pipe {
    exit: OwnedFd,
    entrance: OwnedFd,
    /// Bytes that went in and have not come out.
    held: usize,
}

impl Pipe {
    /// What has to be left of a body for a pipe to be made for it: less takes two reads in any case.
    pub(crate) const WORTH_IT: u64 = 64 * 1024;
    /// Bytes to ask for at once; as many come as there are places for.
    pub(crate) const MOST: u64 = 1024 * 1024;

    /// An empty pipe. It has 16 places, each for a page or for a whole buffer of a socket, as the bytes come. `None`: there
    /// are [`MAX_PIPES`], or not two descriptors left, and the bytes have to be copied.
    pub(crate) fn new() -> Option<Self> {
        let one_more = |now: usize| (now < MAX_PIPES).then_some(now + 1);
        PIPES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
            Ok((exit, entrance)) => Some(Self { exit, entrance, held: 0 }),
            Err(_) => {
                PIPES.fetch_sub(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes up to `most` bytes from a socket; 0 is the end of the stream. For an empty pipe: `WouldBlock` of a full one
    /// could not be told from that of the socket.
    pub(crate) fn fill(&mut self, from: &Socket, most: usize) -> io::Result<usize> {
        let n = splice(from, None, &self.entrance, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?;
        self.held += n;
        Ok(n)
    }

    /// Gives what it holds to a socket, as far as that takes it. For a connection that is gone there is a SIGPIPE as well,
    /// which Rust's start-up code ignores: `splice` has no flag against it.
    pub(crate) fn pour(&mut self, to: &Socket) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let n = splice(&self.exit, None, to, None, self.held, flags)?;
        self.held = self.held.saturating_sub(n);
        Ok(n)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}
