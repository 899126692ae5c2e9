//! Stage: after a 101, two connections joined, bytes both ways.

use std::io;
use std::time::Instant;

use super::context::Context;
use super::gateway::Place;
use super::{Due, Exchange, Next, Progress, Stage};
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::http::response_head::ResponseHead;
use crate::http::response_out::write_switching;
use crate::net::stream::Stream;
use crate::net::unsent::Unsent;

/// Two connections joined.
#[derive(Debug)]
pub(super) struct Tunnel {
    up: Direction,
    down: Direction,
    /// When anything last moved.
    moved: Instant,
    _permit: Place,
}

/// How far one direction has come.
#[derive(Debug, Default)]
struct Direction {
    /// The source has no more.
    ended: bool,
    /// The end was passed on.
    closed: bool,
    /// Bytes from the source.
    bytes: u64,
}

impl Direction {
    /// Moves what can be moved without waiting. Whether anything was moved.
    fn pump(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        owed: &mut Unsent,
        buf: &mut [u8],
        budget: &mut usize,
    ) -> io::Result<bool> {
        let mut moved = false;
        loop {
            let before = to.moved();
            let all_sent = owed.flush(to)?;
            moved |= to.moved() > before;
            if !all_sent {
                return Ok(moved);
            }
            if self.ended {
                if !self.closed {
                    match to.finish() {
                        Ok(()) => self.closed = true,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                    moved = true;
                }
                return Ok(moved);
            }
            if *budget == 0 {
                return Ok(moved);
            }
            match from.read(buf) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    owed.send(to, buf.get(..n).unwrap_or_default())?;
                    *budget = budget.saturating_sub(n);
                    self.bytes += n as u64;
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Tunnel {
    /// Bytes from the client.
    pub(super) fn received(&self) -> u64 {
        self.up.bytes
    }
}

impl Exchange {
    /// Tells the client that the backend switches protocols (RFC 9110 §15.2.2), and joins the two.
    pub(super) fn begin_tunnel(
        &mut self,
        head: &ResponseHead,
        permit: Place,
        client: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Next {
        let Some(backend) = &mut self.backend else { return Next::Failed(Cause::Internal) };
        // How long the tunnel lasts is its own affair: that it stands says that the backend is in order.
        let mut out = cx.buffers.take_out();
        write_switching(&mut out, head, self.record.id.as_bytes());
        self.record.answer_begins(cx.now);
        self.record.head_sent(out.len());
        out.extend_from_slice(&std::mem::take(&mut backend.input));
        self.answered = Some(101);
        let sent = client.unsent.send(&mut client.stream, &out);
        cx.buffers.keep(out);
        let early = std::mem::take(&mut client.input);
        let sent = sent.and_then(|_| backend.unsent.send(&mut backend.stream, &early));
        self.note_answer(101, cx);
        self.note_success();
        if sent.is_err() {
            return Next::Failed(Cause::ClientLeft);
        }
        // It counts as a tunnel now, and on its backend, but not among the exchanges that its route may carry.
        if let Some((_, guard)) = &mut self.route {
            *guard = None;
        }
        self.in_flight = None;
        let moved = cx.now;
        let up = Direction { bytes: early.len() as u64, ..Direction::default() };
        let down = Direction::default();
        Next::Stage(Stage::Tunnel(Box::new(Tunnel { up, down, moved, _permit: permit })))
    }

    pub(super) fn tunnel(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        let (Stage::Tunnel(tunnel), Some(backend)) = (&mut self.stage, &mut self.backend) else {
            return Next::Failed(Cause::Internal);
        };
        let buf = &mut cx.buffers.read;
        let (client_side, backend_side) = (&mut client.stream, &mut backend.stream);
        let budget = &mut cx.budget;
        let up = tunnel.up.pump(client_side, backend_side, &mut backend.unsent, buf, budget);
        let down = tunnel.down.pump(backend_side, client_side, &mut client.unsent, buf, budget);
        let reason = match (up, down) {
            (Ok(up), Ok(down)) => {
                if up || down {
                    tunnel.moved = cx.now;
                }
                // Who is gone in both directions takes nothing any more; what it said before has been passed on.
                let is_over = tunnel.down.closed || client_side.is_broken();
                if !(tunnel.up.closed && is_over) {
                    if *budget == 0 {
                        return Next::Again;
                    }
                    let idle = self.route.as_ref().map(|(route, _)| route.config().idle_timeout);
                    let at = tunnel.moved + idle.unwrap_or_default();
                    return Next::Wait(Due::fails(at, Cause::ResponseTimeout));
                }
                "both sides ended".to_owned()
            }
            (Err(error), _) | (_, Err(error)) => error.to_string(),
        };
        log::debug!("tunnel ended reason={reason:?}");
        client.shut_down();
        Next::TunnelEnded
    }

    pub(super) fn end_idle_tunnel(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Progress {
        log::debug!("tunnel ended reason=\"idle\"");
        client.shut_down();
        self.ended(super::End::Broken, None, client, cx)
    }
}
