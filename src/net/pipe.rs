//! A pipe through which bytes get from one socket to another without being copied.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use socket2::Socket;

/// Pipes there may be at once. They have two descriptors each, and beyond 1,024 of one user the kernel makes them tiny.
pub(crate) const MAX_PIPES: usize = 256;

/// A pipe for so much is made larger: as it comes, it has places for 16 pages, 64 KiB, and a splice moves no more.
const LARGE_BODY: u64 = 8 * 1024 * 1024;
/// What a large one has places for, in bytes.
const LARGE: usize = 1024 * 1024;
/// Large ones there may be at once: half of the pages that the kernel gives the pipes of one user before it makes them tiny.
const MAX_LARGE: usize = 32;

/// Pipes there are. A bound and nothing else: `Relaxed`.
static PIPES: AtomicUsize = AtomicUsize::new(0);

/// The large ones among them. The same.
static LARGE_PIPES: AtomicUsize = AtomicUsize::new(0);

/// What it holds are references to the kernel's own buffers.
#[derive(Debug)]
pub(crate) struct Pipe {
    exit: OwnedFd,
    entrance: OwnedFd,
    /// Bytes that went in and have not come out.
    held: usize,
    is_large: bool,
}

fn take_one(counter: &AtomicUsize, most: usize) -> bool {
    let one_more = |now: usize| (now < most).then_some(now + 1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
}

impl Pipe {
    /// What has to be left of a body for a pipe to be made for it: less takes two reads in any case.
    pub(crate) const WORTH_IT: u64 = 64 * 1024;
    /// Bytes to ask for at once; as many come as there are places for.
    pub(crate) const MOST: u64 = 1024 * 1024;

    /// An empty pipe, for a body of `length` bytes. `None`: there are [`MAX_PIPES`], or not two descriptors left, and the
    /// bytes have to be copied.
    pub(crate) fn new(length: u64) -> Option<Self> {
        if !take_one(&PIPES, MAX_PIPES) {
            return None;
        }
        match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
            Ok((exit, entrance)) => {
                let is_large = length >= LARGE_BODY && take_one(&LARGE_PIPES, MAX_LARGE);
                if is_large {
                    // Where the system does not allow it, it works in smaller steps.
                    let _ = fcntl_setpipe_size(&entrance, LARGE);
                }
                Some(Self { exit, entrance, held: 0, is_large })
            }
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
        if self.is_large {
            LARGE_PIPES.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
