//! The client of one request. tiny_http gives either the request, whose body can be read, or the writer of an answer.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::HeaderValue;
use tiny_http::Request;

use crate::error::Cause;
use crate::http::framing::BodyFraming;
use crate::http::headers::forwarded_for;

/// A body up to this long is kept, to be sent again when a backend fails.
const REPLAYABLE: usize = 64 * 1024;

/// tiny_http allocates what is missing of a body of known length when its client leaves, and the process ends where there is
/// no memory for that. Requests that declare more than this are given up before anything is read of them.
pub(super) const MAX_LENGTH: u64 = 64 * 1024 * 1024 * 1024;

/// What of a body may be missing when its request is dropped, in bytes: tiny_http allocates as much.
const DROPPABLE: u64 = 16 * 1024 * 1024;

/// The client of one request.
pub(super) struct Client {
    /// Until its answer begins.
    request: Option<Request>,
    /// From then on.
    writer: Option<Box<dyn Write + Send>>,
    address: IpAddr,
    forwarded_for: HeaderValue,
    framing: BodyFraming,
    /// Bytes read of the body.
    read: u64,
    /// The body was read to its end, or can't be read any further.
    ended: bool,
    /// What was read before a backend was asked; as far as `replayed`, it was given out (again).
    kept: Vec<u8>,
    replayed: usize,
    sent: u64,
    /// The most that the route takes of the body.
    max: Option<u64>,
    /// Why the body could not be read to its end.
    fault: Option<Cause>,
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.take_request());
    }
}

impl Client {
    pub(super) fn new(request: Request, framing: BodyFraming) -> Self {
        let address = request.remote_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), SocketAddr::ip);
        let address = address.to_canonical();
        Self {
            request: Some(request),
            writer: None,
            address,
            forwarded_for: forwarded_for(address),
            framing,
            read: 0,
            ended: !framing.has_body(),
            kept: Vec::new(),
            replayed: 0,
            sent: 0,
            max: None,
            fault: None,
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Whose connection it is, for the log.
    pub(super) fn who(&self) -> &str {
        self.forwarded_for.to_str().unwrap_or_default()
    }

    pub(super) fn forwarded_for(&self) -> &HeaderValue {
        &self.forwarded_for
    }

    /// Why the body could not be read to its end, if it could not.
    pub(super) fn fault(&self) -> Option<Cause> {
        self.fault
    }

    /// Bytes read of the body so far.
    pub(super) fn received(&self) -> u64 {
        self.read
    }

    /// Reads up to what is kept, so that a slow sender holds no backend.
    pub(super) fn collect(&mut self) -> Result<(), Cause> {
        let mut buf = [0; 8 * 1024];
        while !self.ended && self.kept.len() < REPLAYABLE {
            let room = buf.len().min(REPLAYABLE - self.kept.len());
            let part = buf.get_mut(..room).unwrap_or_default();
            let n = self.receive(part).map_err(|_| self.fault.unwrap_or(Cause::ClientLeft))?;
            self.kept.extend_from_slice(buf.get(..n).unwrap_or_default());
        }
        Ok(())
    }

    /// The body can be sent again: all that was read of it is kept.
    pub(super) fn replayable(&self) -> bool {
        self.read == self.kept.len() as u64
    }

    /// Goes back to the beginning of a body of which no more than `max` bytes are taken.
    pub(super) fn rewind(&mut self, max: Option<u64>) {
        (self.replayed, self.max) = (0, max);
    }

    fn receive(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(request) = &mut self.request else { return Ok(0) };
        let n = request.as_reader().read(buf).inspect_err(|error| {
            let is_malformed =
                matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
            self.fault = Some(if is_malformed { Cause::BadBody } else { Cause::ClientLeft });
            self.ended = true;
        })?;
        self.read += n as u64;
        if n == 0 {
            self.ended = true;
            if self.missing() > 0 {
                self.fault = Some(Cause::ClientLeft);
                // What is sent to the backend must not look whole.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(n)
    }

    /// Bytes of a body of known length that did not come.
    fn missing(&self) -> u64 {
        match self.framing {
            BodyFraming::Length(length) => length.saturating_sub(self.read),
            BodyFraming::None | BodyFraming::Chunked => 0,
        }
    }

    /// Sends a head, or a part of a body, and what follows it, if anybody is still there. Whether that worked.
    pub(super) fn answer(&mut self, first: &[u8], second: &[u8]) -> bool {
        self.begin_answer();
        let is_sent = self.writer.as_mut().is_some_and(|writer| {
            let written = writer.write_all(first).and_then(|()| writer.write_all(second));
            // tiny_http would keep up to 1 KiB to itself.
            written.and_then(|()| writer.flush()).is_ok()
        });
        if is_sent {
            self.sent += (first.len() + second.len()) as u64;
        }
        is_sent
    }

    /// Bytes of answers that were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// tiny_http lets go of the way to answer when the body was read to its end.
    fn begin_answer(&mut self) {
        if self.request.is_some() {
            let mut buf = [0; 16 * 1024];
            while !self.ended && self.receive(&mut buf).is_ok_and(|n| n > 0) {}
            self.writer = self.take_request().map(Request::into_writer);
        }
    }

    /// What tiny_http would allocate for the missing rest of a body when the request is dropped may be more than there is. The
    /// connection is given up then, and never closed.
    fn take_request(&mut self) -> Option<Request> {
        let request = self.request.take()?;
        if self.missing() > DROPPABLE {
            std::mem::forget(request);
            return None;
        }
        Some(request)
    }
}

/// The body, from where it was rewound to.
impl Read for Client {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut kept = self.kept.get(self.replayed..).unwrap_or_default();
        let n = if kept.is_empty() && !self.ended { self.receive(buf)? } else { kept.read(buf)? };
        self.replayed = self.kept.len().min(self.replayed + n);
        if self.max.is_some_and(|max| self.read > max) {
            self.fault = Some(Cause::BodyTooLarge);
            return Err(io::Error::other("the body is larger than the route accepts"));
        }
        Ok(n)
    }
}
