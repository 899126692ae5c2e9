//! The body of one request as it comes in: up to 64 KiB are collected before a backend is asked, so that a slow sender
//! holds no backend and a failed try can be repeated; the rest is read as the backend takes it.

use std::io;
use std::time::{Duration, Instant};

pub(crate) use super::collected::COLLECT;
use super::collected::Collected;
use super::connection::Connection;
use super::pace::Pace;
use crate::error::Cause;
use crate::http::chunked::Decoder;
use crate::http::fields::Fields;
use crate::http::framing::BodyFraming;
use crate::net::pipe::Pipe;

/// A chunked body that is not complete after this long is sent on as it comes: its sender may be waiting for an answer to
/// the part it has sent.
const CHUNKED_GRACE: Duration = Duration::from_millis(200);

/// A request body.
#[derive(Debug)]
pub(crate) struct RequestBody {
    rest: Rest,
    /// The beginning of the body, its coding removed. Kept until it can't be needed for another try.
    held: Collected,
    /// How much of `held` was taken.
    taken: usize,
    /// Bytes were taken that are not in `held`.
    streamed: bool,
    began: Instant,
    /// Bytes of it that have come, their coding removed.
    received: u64,
    pub(crate) pace: Pace,
}

/// What has not been taken from the connection yet.
#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(Box<Decoder>),
}

impl RequestBody {
    pub(crate) fn new(framing: BodyFraming, now: Instant) -> Self {
        let rest = match framing {
            BodyFraming::None => Rest::Length(0),
            BodyFraming::Length(length) => Rest::Length(length),
            BodyFraming::Chunked => Rest::Chunked(Box::default()),
        };
        Self {
            rest,
            held: Collected::default(),
            taken: 0,
            streamed: false,
            began: now,
            received: 0,
            pace: Pace::new(now),
        }
    }

    /// Nothing more of it will come from the connection.
    pub(crate) fn is_all_received(&self) -> bool {
        match &self.rest {
            Rest::Length(left) => *left == 0,
            Rest::Chunked(decoder) => decoder.is_done(),
        }
    }

    /// It is waited for from now on: the time before was spent on others.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.began = now;
        self.pace.resume(now);
    }

    /// Bytes that have come so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Nothing of it has come, and something will.
    pub(crate) fn is_untouched(&self) -> bool {
        self.held.len() == 0 && !self.streamed && !self.is_all_received()
    }

    /// Bytes of a body of known length that are still on their way.
    pub(crate) fn left_to_receive(&self) -> Option<u64> {
        match &self.rest {
            Rest::Length(left) => Some(*left),
            Rest::Chunked(_) => None,
        }
    }

    /// Takes in what is here, up to what is collected. Whether a backend may be asked now; if not, it is looked at again
    /// when more comes, or at [`due`](Self::collect_due).
    pub(crate) fn collect(&mut self, client: &mut Connection, now: Instant) -> Result<bool, Cause> {
        while !self.is_all_received() && self.held.len() < COLLECT {
            // Read to where it stays.
            let mut held = std::mem::take(&mut self.held);
            let received = self.receive(client, held.room(self.left_to_receive()), now);
            held.add(received.ok().flatten().unwrap_or(0));
            self.held = held;
            if received?.is_none() {
                let is_streamed = matches!(self.rest, Rest::Chunked(_)) && now >= self.began + CHUNKED_GRACE;
                return Ok(is_streamed);
            }
        }
        Ok(true)
    }

    /// When [`collect`](Self::collect) has something new to say although nothing has come.
    pub(crate) fn collect_due(&self, now: Instant) -> Option<Instant> {
        let at = self.began + CHUNKED_GRACE;
        (matches!(self.rest, Rest::Chunked(_)) && now < at).then_some(at)
    }

    /// Bytes that wait in memory.
    pub(crate) fn take_held(&mut self) -> &[u8] {
        let from = std::mem::replace(&mut self.taken, self.held.len());
        self.held.from(from)
    }

    /// Takes the next bytes past what is [held](Self::held). `Some(0)` is the end, `None` that the client has to be waited
    /// for.
    pub(crate) fn read(
        &mut self,
        client: &mut Connection,
        buf: &mut [u8],
        now: Instant,
    ) -> Result<Option<usize>, Cause> {
        if self.is_all_received() {
            return Ok(Some(0));
        }
        self.forget();
        self.receive(client, buf, now)
    }

    /// Like [`read`](Self::read), into an empty pipe. For a body of known length on a plain connection, of which nothing is
    /// in memory.
    pub(crate) fn fill(
        &mut self,
        client: &mut Connection,
        pipe: &mut Pipe,
        now: Instant,
    ) -> Result<Option<usize>, Cause> {
        self.forget();
        let Rest::Length(left) = &mut self.rest else { return Ok(Some(0)) };
        let most = usize::try_from(Pipe::MOST.min(*left)).unwrap_or(usize::MAX);
        let filled = received(client.stream.fill(pipe, most))?;
        if let Some(n) = filled {
            *left = left.saturating_sub(n as u64);
            self.received += n as u64;
            self.pace.received(n, now);
        }
        Ok(filled)
    }

    /// It can't be sent again from its beginning: what was kept for that goes.
    fn forget(&mut self) {
        if !self.streamed {
            self.streamed = true;
            self.held.clear();
            self.taken = 0;
        }
    }

    /// Goes back to the beginning, if all that was taken is still here.
    pub(crate) fn rewind(&mut self) -> bool {
        if self.streamed {
            return false;
        }
        self.taken = 0;
        true
    }

    /// An answer has begun: no other try will need what is kept.
    pub(crate) fn release(&mut self) {
        if self.taken >= self.held.len() {
            self.held.clear();
            self.taken = 0;
            self.streamed = true;
        }
    }

    /// The trailers that came behind a chunked body, if any did.
    pub(crate) fn take_trailers(&mut self) -> Option<Fields> {
        match &mut self.rest {
            Rest::Length(_) => None,
            Rest::Chunked(decoder) => decoder.take_trailers(),
        }
    }

    /// Decoded bytes from the connection: how many. `None`: nothing is here.
    fn receive(
        &mut self,
        client: &mut Connection,
        buf: &mut [u8],
        now: Instant,
    ) -> Result<Option<usize>, Cause> {
        let n = match &mut self.rest {
            Rest::Length(left) => {
                let most = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let buf = buf.get_mut(..most).unwrap_or_default();
                let n = if client.input.is_empty() {
                    match received(client.stream.read(buf))? {
                        Some(n) => n,
                        None => return Ok(None),
                    }
                } else {
                    client.take_input(buf)
                };
                *left = left.saturating_sub(n as u64);
                n
            }
            Rest::Chunked(decoder) => loop {
                if client.input.is_empty() {
                    // Coded bytes and decoded ones in one buffer: what is decoded is never longer.
                    match received(client.stream.read(buf))? {
                        Some(n) => client.input.extend_from_slice(buf.get(..n).unwrap_or_default()),
                        None => return Ok(None),
                    }
                }
                let step = decoder.decode(&client.input, buf).map_err(|_| Cause::BadBody)?;
                client.consume(step.consumed);
                if step.produced > 0 || step.done {
                    break step.produced;
                }
            },
        };
        self.received += n as u64;
        self.pace.received(n, now);
        Ok(Some(n))
    }
}

/// What a read from the client has brought. Its end in the middle of a body is its leaving.
fn received(read: io::Result<usize>) -> Result<Option<usize>, Cause> {
    match read {
        Ok(0) => Err(Cause::ClientLeft),
        Ok(n) => Ok(Some(n)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(_) => Err(Cause::ClientLeft),
    }
}
