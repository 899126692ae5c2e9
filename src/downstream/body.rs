//! The body of one request as it comes in: up to 64 KiB are collected before a worker is asked, the rest is read by the
//! worker as the backend takes it.

use std::io;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::error::Cause;
use crate::http::chunked::Decoder;
use crate::http::framing::BodyFraming;
use crate::socket::{Pipe, recv_into_spare, recv_now};

/// What is collected before a worker is asked. A body that fits can be sent again when a backend fails.
pub(super) const COLLECT: usize = 64 * 1024;
/// A buffer of at least so many bytes is kept for another body: the memory of smaller ones comes fast enough.
const WORTH_KEEPING: usize = 16 * 1024;
/// `min_body_rate` is kept over this long.
const RATE_WINDOW: Duration = Duration::from_secs(20);
/// One read of a chunked body from the socket.
const RAW_READ: usize = 16 * 1024;

/// A request body.
#[derive(Debug)]
pub(super) struct Body {
    rest: Rest,
    /// The beginning of the body, its coding removed.
    collected: Vec<u8>,
    /// How much of `collected` was read.
    pos: usize,
    /// Bytes were read that are not in `collected`.
    streamed: bool,
    pub(super) pace: Pace,
}

/// What has not been taken from the connection yet.
#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(Decoder),
}

/// How fast a body comes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    last: Instant,
    window: Instant,
    bytes: u64,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { last: now, window: now, bytes: 0 }
    }

    fn received(&mut self, n: usize, now: Instant) {
        self.last = now;
        self.bytes += n as u64;
    }

    /// When the sender is too slow, if it goes on like this.
    pub(super) fn due(&self, read_timeout: Duration, min_rate: u64) -> Instant {
        let silent = self.last + read_timeout;
        if min_rate == 0 { silent } else { silent.min(self.window + RATE_WINDOW) }
    }

    /// Whether the sender is too slow. Begins a new window where one is over.
    pub(super) fn is_too_slow(&mut self, now: Instant, read_timeout: Duration, min_rate: u64) -> bool {
        if now >= self.last + read_timeout {
            return true;
        }
        if min_rate > 0 && now >= self.window + RATE_WINDOW {
            let seconds = now.duration_since(self.window).as_secs().max(1);
            let slow = self.bytes / seconds < min_rate;
            (self.window, self.bytes) = (now, 0);
            return slow;
        }
        false
    }

    /// The sender is waited for from now on: the time since it was last read from was spent on others.
    pub(super) fn resume(&mut self, now: Instant) {
        self.window += now.saturating_duration_since(self.last);
        self.last = now;
    }
}

impl Body {
    pub(super) fn new(framing: BodyFraming, now: Instant) -> Self {
        let rest = match framing {
            BodyFraming::None => Rest::Length(0),
            BodyFraming::Length(length) => Rest::Length(length),
            BodyFraming::Chunked => Rest::Chunked(Decoder::new()),
        };
        Self { rest, collected: Vec::new(), pos: 0, streamed: false, pace: Pace::new(now) }
    }

    /// Nothing more of it will come from the connection.
    pub(super) fn is_all_received(&self) -> bool {
        match &self.rest {
            Rest::Length(left) => *left == 0,
            Rest::Chunked(decoder) => decoder.is_done(),
        }
    }

    /// Its length is not known.
    pub(super) fn is_chunked(&self) -> bool {
        matches!(self.rest, Rest::Chunked(_))
    }

    /// Nothing of it has come.
    pub(super) fn is_untouched(&self) -> bool {
        self.collected.is_empty() && !self.streamed && !self.is_all_received()
    }

    /// As much as is collected before a worker is asked.
    pub(super) fn is_full(&self) -> bool {
        self.collected.len() >= COLLECT
    }

    /// Takes what belongs to the body from `input`, up to [`COLLECT`] bytes.
    pub(super) fn collect(&mut self, input: &mut Vec<u8>, now: Instant) -> Result<(), Cause> {
        let room = COLLECT.saturating_sub(self.collected.len());
        let consumed = match &mut self.rest {
            Rest::Length(left) => {
                let expected = room.min(usize::try_from(*left).unwrap_or(usize::MAX));
                let n = input.len().min(expected);
                if n > 0 {
                    // For all that is to come: growing would mean copying.
                    self.collected.reserve_exact(expected);
                }
                self.collected.extend_from_slice(input.get(..n).unwrap_or_default());
                *left -= n as u64;
                n
            }
            Rest::Chunked(decoder) => {
                let begin = self.collected.len();
                self.collected.resize(begin + room.min(input.len()), 0);
                let (mut consumed, mut end) = (0, begin);
                // More than once: data before an error comes without the error.
                loop {
                    let rest = input.get(consumed..).unwrap_or_default();
                    let output = self.collected.get_mut(end..).unwrap_or_default();
                    let step = decoder.decode(rest, output).map_err(|_| Cause::BadBody)?;
                    if step.consumed == 0 {
                        break;
                    }
                    consumed += step.consumed;
                    end += step.produced;
                }
                self.collected.truncate(end);
                consumed
            }
        };
        input.drain(..consumed);
        self.pace.received(consumed, now);
        Ok(())
    }

    /// How many bytes can be [`received`](Self::receive) straight from the socket.
    pub(super) fn room(&self) -> usize {
        match &self.rest {
            Rest::Length(left) => {
                let room = COLLECT.saturating_sub(self.collected.len());
                room.min(usize::try_from(*left).unwrap_or(usize::MAX))
            }
            // Its coding has to be taken off.
            Rest::Chunked(_) => 0,
        }
    }

    /// Reads what is there, without waiting and without a buffer between. What does not belong to the body goes to
    /// `input`, which must be empty.
    pub(super) fn receive(
        &mut self,
        socket: &Socket,
        input: &mut Vec<u8>,
        now: Instant,
    ) -> io::Result<usize> {
        let room = self.room();
        self.collected.reserve_exact(room);
        let begin = self.collected.len();
        let received = recv_into_spare(socket, &mut self.collected)?;
        if received > room {
            // Kept from another body, the buffer was larger than it has to be.
            *input = self.collected.split_off(begin + room);
        }
        let n = received.min(room);
        if let Rest::Length(left) = &mut self.rest {
            *left -= n as u64;
        }
        self.pace.received(n, now);
        Ok(received)
    }

    /// Takes what is there from the socket into an empty pipe. For a body of known length of which nothing is in
    /// memory. As for [`read`](Self::read), `None` means that the client has to be waited for.
    pub(super) fn fill(&mut self, pipe: &mut Pipe, socket: &Socket) -> Result<Option<usize>, Cause> {
        let Rest::Length(left) = &mut self.rest else { return Ok(Some(0)) };
        if *left == 0 {
            return Ok(Some(0));
        }
        self.streamed = true;
        let most = usize::try_from(Pipe::MOST.min(*left)).unwrap_or(usize::MAX);
        let filled = received(|| pipe.fill(socket, most))?;
        if let Some(n) = filled {
            *left -= n as u64;
            self.pace.received(n, Instant::now());
        }
        Ok(filled)
    }

    /// What is in memory and was not read.
    pub(super) fn held(&self) -> &[u8] {
        self.collected.get(self.pos..).unwrap_or_default()
    }

    /// `n` bytes of what is [`held`](Self::held) were read.
    pub(super) fn consume(&mut self, n: usize) {
        self.pos = (self.pos + n).min(self.collected.len());
    }

    /// Gives it a buffer to collect in, if it will need one and has none.
    pub(super) fn lend(&mut self, buffer: impl FnOnce() -> Option<Vec<u8>>) {
        if self.collected.capacity() == 0
            && self.room() >= WORTH_KEEPING
            && let Some(buffer) = buffer()
        {
            self.collected = buffer;
        }
    }

    /// Its buffer, empty, if it is worth keeping for another body.
    pub(super) fn take_buffer(&mut self) -> Option<Vec<u8>> {
        let mut buffer = std::mem::take(&mut self.collected);
        buffer.clear();
        (WORTH_KEEPING..=COLLECT).contains(&buffer.capacity()).then_some(buffer)
    }

    /// Reads without waiting, from what is collected, then from `input`, then from the socket. `Some(0)` is the end,
    /// `None` that the client has to be waited for.
    pub(super) fn read(
        &mut self,
        buf: &mut [u8],
        input: &mut Vec<u8>,
        socket: &Socket,
    ) -> Result<Option<usize>, Cause> {
        let held = self.held();
        if !held.is_empty() {
            let n = held.len().min(buf.len());
            copy(held, buf, n);
            self.consume(n);
            return Ok(Some(n));
        }
        if self.is_all_received() {
            return Ok(Some(0));
        }
        self.streamed = true;
        let read = match &mut self.rest {
            Rest::Length(left) => {
                let most = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let read = if input.is_empty() {
                    receive(socket, buf.get_mut(..most).unwrap_or_default())?
                } else {
                    let n = most.min(input.len());
                    copy(input, buf, n);
                    input.drain(..n);
                    Some(n)
                };
                *left -= read.unwrap_or(0) as u64;
                read
            }
            Rest::Chunked(decoder) => loop {
                if input.is_empty() {
                    input.resize(RAW_READ, 0);
                    let received = receive(socket, input);
                    input.truncate(received.unwrap_or_default().unwrap_or(0));
                    if received?.is_none() {
                        break None;
                    }
                }
                let step = decoder.decode(input, buf).map_err(|_| Cause::BadBody)?;
                input.drain(..step.consumed);
                if step.produced > 0 || step.done {
                    break Some(step.produced);
                }
            },
        };
        // To have looked in vain is no progress of the sender.
        if let Some(n) = read {
            self.pace.received(n, Instant::now());
        }
        Ok(read)
    }

    /// Goes back to the beginning, if all that was read is still here.
    pub(super) fn rewind(&mut self) -> bool {
        if self.streamed {
            return false;
        }
        self.pos = 0;
        true
    }
}

fn copy(from: &[u8], to: &mut [u8], n: usize) {
    if let (Some(from), Some(to)) = (from.get(..n), to.get_mut(..n)) {
        to.copy_from_slice(from);
    }
}

/// Bytes from the socket; `None` when there are none yet.
fn receive(socket: &Socket, buf: &mut [u8]) -> Result<Option<usize>, Cause> {
    received(|| recv_now(socket, buf))
}

/// What a read from the socket has brought.
fn received(mut read: impl FnMut() -> io::Result<usize>) -> Result<Option<usize>, Cause> {
    loop {
        return match read() {
            Ok(0) => Err(Cause::ClientLeft),
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(_) => Err(Cause::ClientLeft),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_or_dribbling_sender_is_too_slow() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let read_timeout = Duration::from_secs(30);
        let mut silent = Pace::new(start);
        assert!(!silent.is_too_slow(at(19), read_timeout, 500));
        assert!(silent.is_too_slow(at(20), read_timeout, 500));
        assert!(Pace::new(start).is_too_slow(at(30), read_timeout, 0));
        let mut dribbling = Pace::new(start);
        for second in 1..20 {
            dribbling.received(100, at(second));
        }
        assert!(dribbling.is_too_slow(at(20), read_timeout, 500));
        let mut steady = Pace::new(start);
        steady.received(11_000, at(19));
        assert!(!steady.is_too_slow(at(20), read_timeout, 500));
        assert_eq!(steady.due(read_timeout, 500), at(40));
        assert!(steady.is_too_slow(at(40), read_timeout, 500), "each window counts for itself");
    }

    #[test]
    fn collects_no_more_than_belongs_to_the_body() {
        let now = Instant::now();
        let mut input = b"helloGET / HTTP/1.1".to_vec();
        let mut body = Body::new(BodyFraming::Length(5), now);
        body.collect(&mut input, now).unwrap();
        assert!(body.is_all_received());
        assert_eq!((body.collected.as_slice(), input.as_slice()), (&b"hello"[..], &b"GET / HTTP/1.1"[..]));

        let mut input = b"5\r\nhello\r\n0\r\n\r\nGET".to_vec();
        let mut body = Body::new(BodyFraming::Chunked, now);
        body.collect(&mut input, now).unwrap();
        assert!(body.is_all_received());
        assert_eq!((body.collected.as_slice(), input.as_slice()), (&b"hello"[..], &b"GET"[..]));
    }
}
