//! Stage: the body of the answer on its way to the client, while the rest of the request may still be on its way up.

use std::io;
use std::time::Instant;

use super::coding::Coder;
use super::context::{Buffers, Context};
use super::framed::Framed;
use super::send::WaitsFor;
use super::{Due, Exchange, Next, Stage};
use crate::downstream::connection::{Connection, Limits};
use crate::downstream::pace::Pace;
use crate::error::Cause;
use crate::http::chunked::Decoder;
use crate::http::fields::Fields;
use crate::http::head::Version;
use crate::http::response_head::{ResponseFraming, ResponseHead};
use crate::http::response_out::{Added, Delimited, write_response_head};
use crate::net::pipe::Pipe;

/// One read: what the client does not take of it stays in memory.
const PIECE: usize = 16 * 1024;
/// One read for a client that has not kept up.
const SLOW_PIECE: usize = 8 * 1024;

/// What the backend still sends.
#[derive(Debug)]
enum From {
    /// Nothing more: the body is whole.
    Nothing,
    Length(u64),
    Chunked(Box<Decoder>),
    UntilClose,
}

/// Passing on a body.
#[derive(Debug)]
pub(super) struct Relay {
    from: From,
    /// What becomes of it for the client.
    pub(super) body: Framed,
    /// The client's connection can carry another request.
    pub(super) keep_alive: bool,
    /// The backend keeps its connection, and has sent nothing beyond its answer.
    pub(super) backend_stays: bool,
    /// What the rest of a large body passes through.
    pipe: Option<Pipe>,
    /// When the backend last sent something.
    received: Instant,
    /// How fast the client takes what it is owed, since it has not kept up.
    taken: Option<Pace>,
}

impl Relay {
    /// `coder`: for a body that is to be compressed. Its client speaks HTTP/1.1.
    pub(super) fn new(
        head: &ResponseHead,
        version: Version,
        keep_alive: bool,
        coder: Option<Coder>,
        now: Instant,
    ) -> Self {
        let from = match head.framing {
            ResponseFraming::None | ResponseFraming::Length(0) => From::Nothing,
            ResponseFraming::Length(length) => From::Length(length),
            ResponseFraming::Chunked => From::Chunked(Box::default()),
            ResponseFraming::UntilClose => From::UntilClose,
        };
        let body = Framed::new(head, version, coder);
        let keep_alive = keep_alive && body.to != Delimited::UntilClose;
        Self {
            from,
            body,
            keep_alive,
            backend_stays: head.keep_alive && head.framing != ResponseFraming::UntilClose,
            pipe: None,
            received: now,
            taken: None,
        }
    }

    /// All of the body has come.
    pub(super) fn is_received(&self) -> bool {
        matches!(self.from, From::Nothing)
    }

    /// The end of the connection tells the client where the answer ends: only a reset can tell it that it broke off.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.body.to == Delimited::UntilClose
    }

    pub(super) fn write_head(
        &self,
        head: &ResponseHead,
        version: Version,
        added: &Added<'_>,
        out: &mut Vec<u8>,
    ) {
        write_response_head(out, head, self.body.to, version, self.keep_alive, added);
    }

    /// Takes in what the backend has sent, and puts into `out` what the client gets of it.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        decoded: &mut [u8],
        out: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), Cause> {
        self.received = now;
        let excess = match &mut self.from {
            From::Nothing => bytes.len(),
            From::UntilClose => {
                self.body.push(bytes, out)?;
                0
            }
            From::Length(left) => {
                let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.body.push(bytes.get(..n).unwrap_or_default(), out)?;
                *left -= n as u64;
                if *left == 0 {
                    self.end(None, out)?;
                }
                bytes.len() - n
            }
            From::Chunked(decoder) => {
                let mut rest = bytes;
                while !decoder.is_done() {
                    let step = decoder.decode(rest, decoded).map_err(|_| Cause::BadResponse)?;
                    self.body.push(decoded.get(..step.produced).unwrap_or_default(), out)?;
                    rest = rest.get(step.consumed..).unwrap_or_default();
                    if step.consumed == 0 {
                        break;
                    }
                }
                if decoder.is_done() {
                    let trailers = decoder.take_trailers();
                    self.end(trailers.as_ref(), out)?;
                    rest.len()
                } else {
                    0
                }
            }
        };
        // Nobody has asked for more than the answer.
        self.backend_stays &= excess == 0;
        Ok(())
    }

    /// The body is whole.
    fn end(&mut self, trailers: Option<&Fields>, out: &mut Vec<u8>) -> Result<(), Cause> {
        self.from = From::Nothing;
        self.body.end(trailers, out)
    }

    /// The backend has closed its side.
    fn end_of_stream(&mut self, out: &mut Vec<u8>) -> Result<(), Cause> {
        match self.from {
            From::UntilClose => self.end(None, out),
            _ => Err(Cause::BackendClosed),
        }
    }

    /// Puts into `out` what the coder has kept back so far.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Cause> {
        self.body.flush(out)
    }

    /// What `n` bytes of the body take of a worker's turn.
    pub(super) fn cost(&self, n: usize) -> usize {
        self.body.coder.as_ref().map_or(n, |coder| coder.cost(n))
    }

    /// Of `n` bytes, how many are passed on in what is left of a turn.
    pub(super) fn fits(&self, n: usize, budget: usize) -> usize {
        self.body.coder.as_ref().map_or(n, |coder| coder.fits(n, budget))
    }

    /// The client has not taken all it was sent.
    fn client_is_behind(&mut self, now: Instant) {
        self.taken.get_or_insert(Pace::new(now));
    }

    /// Whether the client does not take its answer, or more slowly than it must.
    pub(super) fn client_is_too_slow(&mut self, limits: &Limits, now: Instant) -> bool {
        let (silence, rate) = (limits.write_timeout, limits.min_answer_rate);
        self.taken.as_mut().is_some_and(|pace| pace.is_too_slow(now, silence, rate))
    }
}

/// What passing on waits for.
enum Waits {
    ForClient,
    ForBackend,
    ForTurn,
    /// The client has all of it, or will have: what it is owed needs nobody but itself.
    Whole,
}

impl Exchange {
    pub(super) fn relay(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        let down = match self.pass_on(client, cx) {
            Ok(down) => down,
            Err(cause) => return Next::Failed(cause),
        };
        if let Waits::Whole = down {
            return Next::Whole;
        }
        let up = match self.send(client, cx) {
            Ok(up) => up,
            Err(cause) => return Next::Failed(cause),
        };
        if up == WaitsFor::Turn || matches!(down, Waits::ForTurn) {
            return Next::Again;
        }
        let Some(due) = self.relay_due(&down) else { return Next::Failed(Cause::Internal) };
        Next::Wait(due.or(self.send_due(up, cx)))
    }

    fn relay_due(&self, down: &Waits) -> Option<Due> {
        let (Stage::Relay(relay), Some(route)) = (&self.stage, self.other_side()) else { return None };
        Some(match (down, &relay.taken) {
            (Waits::ForClient, Some(pace)) => {
                let limits = &self.snapshot.limits;
                let at = pace.due(limits.write_timeout, limits.min_answer_rate);
                Due::fails(at, Cause::WriteTimeout)
            }
            _ => {
                // A backend that takes in an upload is not idle.
                let last = relay.received.max(self.upload.progress);
                Due::fails(last + route.config().idle_timeout, Cause::ResponseTimeout)
            }
        })
    }

    /// Passes on what is here.
    fn pass_on(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Result<Waits, Cause> {
        loop {
            let Stage::Relay(relay) = &mut self.stage else { return Err(Cause::Internal) };
            if relay.is_received() && self.backend.is_some() {
                self.release_backend(cx);
                continue;
            }
            // What the client is owed comes first.
            let moved = client.stream.moved();
            let flushed = client.unsent.flush(&mut client.stream).map_err(|_| Cause::ClientLeft)?;
            if let Some(pace) = &mut relay.taken
                && client.stream.moved() > moved
            {
                let taken = client.stream.moved() - moved;
                pace.received(usize::try_from(taken).unwrap_or(usize::MAX), cx.now);
            }
            if !flushed {
                relay.client_is_behind(cx.now);
                return Ok(Waits::ForClient);
            }
            if let Some(pipe) = &mut relay.pipe
                && !pipe.is_empty()
            {
                match client.stream.pour(pipe) {
                    Ok(n) => {
                        if let Some(pace) = &mut relay.taken {
                            pace.received(n, cx.now);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        relay.client_is_behind(cx.now);
                        return Ok(Waits::ForClient);
                    }
                    Err(_) => return Err(Cause::ClientLeft),
                }
                continue;
            }
            if relay.is_received() {
                return Ok(Waits::Whole);
            }
            if cx.budget == 0 {
                return Ok(Waits::ForTurn);
            }
            let Some(backend) = &mut self.backend else { return Err(Cause::Internal) };
            let passes = relay.body.coder.is_none() && client.stream.is_plain() && backend.stream.is_plain();
            if let From::Length(left) = &mut relay.from
                && passes
                && (*left >= Pipe::WORTH_IT || relay.pipe.is_some())
            {
                if relay.pipe.is_none() {
                    relay.pipe = Pipe::new(*left);
                }
                if let Some(pipe) = &mut relay.pipe {
                    let most = usize::try_from(Pipe::MOST.min(*left)).unwrap_or(usize::MAX);
                    let n = match backend.stream.fill(pipe, most) {
                        Ok(0) => return Err(Cause::BackendClosed),
                        Ok(n) => n,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            return Ok(Waits::ForBackend);
                        }
                        Err(_) => return Err(Cause::BackendClosed),
                    };
                    relay.received = cx.now;
                    backend.received += n as u64;
                    cx.budget = cx.budget.saturating_sub(n);
                    *left = left.saturating_sub(n as u64);
                    if *left == 0 {
                        relay.from = From::Nothing;
                    }
                    continue;
                }
            }
            let most = if relay.taken.is_some() { SLOW_PIECE } else { PIECE };
            let most = relay.fits(most, cx.budget);
            let buffers = &mut *cx.buffers;
            let room = buffers.read.get_mut(..most).unwrap_or_default();
            let read = match backend.read_on(room) {
                Ok(n) => n,
                // Nothing stays behind while the backend is waited for, nor when it is given up.
                Err(error) if relay.body.coder.as_ref().is_some_and(Coder::keeps_back) => {
                    send_kept_back(relay, client, buffers)?;
                    if error.kind() == io::ErrorKind::WouldBlock {
                        continue;
                    }
                    return Err(read_cause(&error));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Waits::ForBackend),
                Err(error) => return Err(read_cause(&error)),
            };
            cx.budget = cx.budget.saturating_sub(relay.cost(read));
            // What is read next goes with it.
            let more = read > 0 && backend.may_read_on();
            let mut out = buffers.take_out();
            let bytes = buffers.read.get(..read).unwrap_or_default();
            let received = if read == 0 {
                relay.end_of_stream(&mut out)
            } else {
                relay.receive(bytes, &mut buffers.decoded, &mut out, cx.now)
            };
            let flushed = if more && received.is_ok() { Ok(()) } else { relay.flush(&mut out) };
            // Also what came before a fault: the missing end shows that it is not whole.
            let sent = client.unsent.send(&mut client.stream, &out);
            cx.buffers.keep(out);
            received.and(flushed)?;
            if !sent.map_err(|_| Cause::ClientLeft)? {
                relay.client_is_behind(cx.now);
            }
        }
    }
}

/// Sends the client what the coder has kept back.
fn send_kept_back(relay: &mut Relay, client: &mut Connection, buffers: &mut Buffers) -> Result<(), Cause> {
    let mut out = buffers.take_out();
    let flushed = relay.flush(&mut out);
    let sent = client.unsent.send(&mut client.stream, &out);
    buffers.keep(out);
    flushed?;
    sent.map(|_| ()).map_err(|_| Cause::ClientLeft)
}

/// Why a body broke off that could not be read any further.
fn read_cause(error: &io::Error) -> Cause {
    match crate::net::tls::fault(error) {
        Some((fault, _)) => Cause::TlsFailed(fault),
        None => Cause::BackendClosed,
    }
}

#[cfg(test)]
mod tests;
