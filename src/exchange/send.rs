//! The request on its way to the backend: its head, and its body as it comes. Runs until it is through, in the stages
//! [await head](super::await_head) and [relay](super::relay) alike: an answer may begin at any time.

use std::io;
use std::time::Instant;

use super::context::{Buffers, Context};
use super::{CONTINUE, Due, Exchange, Next, Stage};
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::http::chunked::write_chunk;
use crate::http::framing::BodyFraming;
use crate::http::trailers::write_last_chunk;
use crate::net::pipe::Pipe;

/// The beginning of a body that is longer is sent from where it lies.
const COPIED: usize = 4 * 1024;

/// How far the request has come.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) state: State,
    /// When the backend last took something of it.
    pub(super) progress: Instant,
    /// Bytes of the body that were taken from the client.
    taken: u64,
    /// What the rest of a large body passes through.
    pipe: Option<Pipe>,
    waits_for: WaitsFor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Running,
    /// All of it was taken from the client, and some of it is still owed to the backend.
    Ending,
    /// All of it was handed to the backend.
    Done,
    /// The backend takes no more of it. Its answer may still come.
    Broken,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// Nothing: it is over.
    Nothing,
    Backend,
    Client,
    /// Its next turn.
    Turn,
}

impl Upload {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: State::Running, progress: now, taken: 0, pipe: None, waits_for: WaitsFor::Nothing }
    }

    /// All of it was handed to the other side.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

impl Exchange {
    /// Writes the head, and what of the body is here, and goes on to wait for the answer.
    pub(super) fn begin_to_send(&mut self, client: &Connection, cx: &mut Context<'_>) -> Next {
        self.upload = Upload::new(cx.now);
        let mut out = cx.buffers.take_out();
        if self.write_head(&mut out, client, &cx.gateway.via).is_none() {
            return Next::Failed(Cause::Internal);
        }
        let Some(backend) = &mut self.backend else { return Next::Failed(Cause::Internal) };
        // The service of `forward_auth` gets none of the body.
        let held = if self.asking.is_some() {
            self.upload.state = State::Ending;
            &[]
        } else {
            self.body.take_held()
        };
        self.upload.taken = held.len() as u64;
        // Little is copied for one system call less.
        let rest = match self.head.framing {
            BodyFraming::Length(_) if held.len() > COPIED => held,
            BodyFraming::Chunked if !held.is_empty() => {
                write_chunk(held, &mut out);
                &[]
            }
            _ => {
                out.extend_from_slice(held);
                &[]
            }
        };
        backend.unsent.clear();
        backend.sent = (out.len() + rest.len()) as u64;
        let sent = backend.unsent.send_two(&mut backend.stream, &out, rest);
        cx.buffers.keep(out);
        if sent.is_err() {
            self.upload.state = State::Broken;
        }
        Next::Stage(Stage::AwaitHead)
    }

    /// The head that the other side gets. `None`: there is no other side, which does not happen.
    fn write_head(&self, out: &mut Vec<u8>, client: &Connection, via: &str) -> Option<()> {
        let (route, _) = self.route.as_ref()?;
        let guard = self.guard.as_ref()?;
        let other_side = self.other_side()?.config();
        let outgoing = self.view(client).outgoing(other_side, guard, self.permit.is_some(), via);
        let rules = &route.config().rules;
        match &rules.forward_auth {
            Some(rule) if self.asking.is_some() => outgoing.ask(out, &self.head, rule, rules),
            _ => outgoing.write(out, &self.head),
        }
        Some(())
    }

    /// Sends what can be sent; what it waits for then.
    pub(super) fn send(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Result<WaitsFor, Cause> {
        let waits_for = self.send_all(client, cx)?;
        if waits_for == WaitsFor::Client && self.upload.waits_for != WaitsFor::Client {
            // The time before was spent on others.
            self.body.pace.resume(cx.now);
        }
        self.upload.waits_for = waits_for;
        Ok(waits_for)
    }

    fn send_all(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Result<WaitsFor, Cause> {
        while matches!(self.upload.state, State::Running | State::Ending) {
            // After a whole answer nobody wants the rest.
            let Some(backend) = &mut self.backend else { return Ok(WaitsFor::Nothing) };
            let moved = backend.stream.moved();
            let flushed = backend.unsent.flush(&mut backend.stream);
            if backend.stream.moved() > moved {
                self.upload.progress = cx.now;
            }
            match flushed {
                Ok(true) => {}
                Ok(false) => return Ok(WaitsFor::Backend),
                Err(_) => {
                    self.stop_sending();
                    break;
                }
            }
            if self.upload.state == State::Ending {
                self.upload.state = State::Done;
                self.upload.progress = cx.now;
                break;
            }
            if let Some(pipe) = &mut self.upload.pipe
                && !pipe.is_empty()
            {
                match backend.stream.pour(pipe) {
                    Ok(n) => {
                        backend.sent += n as u64;
                        self.upload.progress = cx.now;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(WaitsFor::Backend),
                    Err(_) => self.stop_sending(),
                }
                continue;
            }
            if cx.budget == 0 {
                return Ok(WaitsFor::Turn);
            }
            if self.owes_continue && self.body.is_untouched() && client.input.is_empty() {
                self.owes_continue = false;
                self.record.head_sent(CONTINUE.len());
                client.unsent.send(&mut client.stream, CONTINUE).map_err(|_| Cause::ClientLeft)?;
            }
            if !self.send_next(client, cx)? {
                return Ok(WaitsFor::Client);
            }
        }
        Ok(WaitsFor::Nothing)
    }

    /// Takes the next piece from the client and sends it. Whether there was one, or the end.
    fn send_next(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Result<bool, Cause> {
        let Some(backend) = &mut self.backend else { return Err(Cause::Internal) };
        let left = self.body.left_to_receive();
        let passes = client.stream.is_plain() && backend.stream.is_plain() && client.input.is_empty();
        if passes && self.upload.pipe.is_none() && left >= Some(Pipe::WORTH_IT) {
            self.upload.pipe = Pipe::new(left.unwrap_or(0));
        }
        let read = match &mut self.upload.pipe {
            Some(pipe) if passes && left != Some(0) => self.body.fill(client, pipe, cx.now)?,
            _ => {
                let Buffers { decoded, out, .. } = &mut *cx.buffers;
                let read = self.body.read(client, decoded, cx.now)?;
                let data = decoded.get(..read.unwrap_or(0)).unwrap_or_default();
                let is_chunked = self.head.framing == BodyFraming::Chunked;
                let sent = if !is_chunked {
                    backend.sent += data.len() as u64;
                    backend.unsent.send(&mut backend.stream, data)
                } else {
                    out.clear();
                    if !data.is_empty() {
                        write_chunk(data, out);
                    } else if read == Some(0) {
                        let mut trailers = self.body.take_trailers();
                        let rules = self.route.as_ref().map(|(route, _)| &route.config().rules);
                        if let (Some(trailers), Some(rules)) = (&mut trailers, rules) {
                            rules.clear_request_trailers(trailers);
                        }
                        write_last_chunk(out, trailers.as_ref(), &self.head.connection);
                    }
                    backend.sent += out.len() as u64;
                    backend.unsent.send(&mut backend.stream, out)
                };
                if sent.is_err() {
                    self.stop_sending();
                    return Ok(true);
                }
                read
            }
        };
        let Some(n) = read else { return Ok(false) };
        if n == 0 {
            self.upload.state = State::Ending;
            self.upload.pipe = None;
        }
        self.upload.taken += n as u64;
        cx.budget = cx.budget.saturating_sub(n);
        let max = self.route.as_ref().and_then(|(route, _)| route.config().max_body_bytes);
        if max.is_some_and(|max| self.upload.taken > max) {
            return Err(Cause::BodyTooLarge);
        }
        Ok(true)
    }

    /// The backend takes no more: its answer is waited for, the rest of the body is not.
    fn stop_sending(&mut self) {
        self.upload.state = State::Broken;
        self.upload.pipe = None;
        if let Some(backend) = &mut self.backend {
            backend.unsent.clear();
        }
    }

    /// Until when to wait for what the upload waits for.
    pub(super) fn send_due(&mut self, waits_for: WaitsFor, cx: &Context<'_>) -> Option<Due> {
        let route = self.other_side()?;
        match waits_for {
            WaitsFor::Nothing => None,
            WaitsFor::Turn => Some(Due::look(cx.now)),
            WaitsFor::Backend => {
                let at = self.upload.progress + route.config().response_timeout;
                Some(Due::fails(at, Cause::ResponseTimeout))
            }
            WaitsFor::Client => Some(self.body_due()),
        }
    }
}
