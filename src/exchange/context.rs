//! [`Context`]: what an exchange is lent while it advances.

use std::sync::Arc;
use std::time::Instant;

use super::gateway::Gateway;
use super::queued::Wakeup;
use crate::access_log::Lines;
use crate::net::poller::Token;
use crate::snapshot::Snapshot;
use crate::upstream::connections::Upstreams;

/// One read from a socket, at most.
pub(crate) const READ: usize = 32 * 1024;
/// What the [`Buffers`] of a worker take, as long as none of them has grown.
pub(crate) const BUFFERS: usize = 4 * READ;
/// Bytes that one connection may move before others get a turn.
pub(crate) const TURN: usize = 256 * 1024;

/// What belongs to the worker and is lent to one exchange at a time.
pub(crate) struct Context<'a> {
    pub gateway: &'a Gateway,
    /// The configuration at work, for what begins now.
    pub snapshot: &'a Arc<Snapshot>,
    pub upstreams: &'a mut Upstreams,
    pub buffers: &'a mut Buffers,
    /// For what is said of exchanges that end.
    pub lines: &'a mut Lines,
    pub now: Instant,
    /// Stands for the client's connection.
    pub client: Token,
    /// Makes the worker look at that connection again.
    pub wakeup: &'a Wakeup,
    /// Bytes that may still be moved in this turn.
    pub budget: usize,
}

/// The buffers of a worker. What is in them is of no use to anybody but who is filling them.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// What a read fills.
    pub read: Box<[u8]>,
    /// What a decoder fills.
    pub decoded: Box<[u8]>,
    /// A message being made.
    pub out: Vec<u8>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            read: vec![0; READ].into_boxed_slice(),
            decoded: vec![0; READ].into_boxed_slice(),
            out: Vec::with_capacity(2 * READ),
        }
    }

    /// `out`, empty. Who takes it gives it back with [`keep`](Self::keep).
    pub(crate) fn take_out(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        out
    }

    /// Keeps a buffer that was taken, unless it has grown out of proportion.
    pub(crate) fn keep(&mut self, out: Vec<u8>) {
        if out.capacity() <= 8 * READ {
            self.out = out;
        }
    }
}
