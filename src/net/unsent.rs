//! Bytes that a connection did not take yet.

use std::io;

use bytes::Bytes;

use super::stream::Stream;

/// What is owed to one connection, in order. Empty as a rule: it costs memory only while the other side is slow.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    buf: Vec<u8>,
    pos: usize,
    /// What comes after that: the rest of a content that is held once for everybody, whoever is owed it.
    shared: Bytes,
}

impl Unsent {
    pub(crate) fn is_empty(&self) -> bool {
        self.pos >= self.buf.len() && self.shared.is_empty()
    }

    /// Bytes owed.
    pub(crate) fn len(&self) -> usize {
        self.buf.len().saturating_sub(self.pos) + self.shared.len()
    }

    /// Sends `bytes`, after what is owed already; keeps what is not taken. Whether nothing is owed any more.
    pub(crate) fn send(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<bool> {
        self.send_part(stream, bytes, false)
    }

    /// [`send`](Self::send) of `first` and `second`, as one.
    pub(crate) fn send_two(&mut self, stream: &mut Stream, first: &[u8], second: &[u8]) -> io::Result<bool> {
        let is_sent = self.send_part(stream, first, !second.is_empty())?;
        if second.is_empty() { Ok(is_sent) } else { self.send_part(stream, second, false) }
    }

    /// [`send_two`](Self::send_two) where `second` is held by others too: what is not taken of it is not copied.
    pub(crate) fn send_shared(
        &mut self,
        stream: &mut Stream,
        first: &[u8],
        second: &Bytes,
    ) -> io::Result<bool> {
        let is_sent = self.send_part(stream, first, !second.is_empty())?;
        if second.is_empty() {
            return Ok(is_sent);
        }
        let mut rest = second.clone();
        if self.is_empty() {
            write_all(stream, &mut rest)?;
        }
        self.owe(rest);
        Ok(self.is_empty())
    }

    /// `more`: the kernel need not send it before the next part.
    fn send_part(&mut self, stream: &mut Stream, bytes: &[u8], more: bool) -> io::Result<bool> {
        let mut rest = bytes;
        if self.is_empty() {
            while !rest.is_empty() {
                match stream.write(rest, more) {
                    Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        if rest.is_empty() {
            return Ok(self.is_empty());
        }
        // As much as is owed and no more: a thousand slow readers have one each.
        self.buf.drain(..self.pos.min(self.buf.len()));
        self.pos = 0;
        let shared = std::mem::take(&mut self.shared);
        self.buf.reserve_exact(shared.len() + rest.len());
        self.buf.extend_from_slice(&shared);
        self.buf.extend_from_slice(rest);
        Ok(false)
    }

    /// Adds bytes without trying to send them.
    pub(crate) fn push(&mut self, first: &[u8], second: &Bytes) {
        self.buf.extend_from_slice(&std::mem::take(&mut self.shared));
        self.buf.extend_from_slice(first);
        self.owe(second.clone());
    }

    /// Behind all the rest.
    fn owe(&mut self, bytes: Bytes) {
        if self.shared.is_empty() {
            self.shared = bytes;
        } else if !bytes.is_empty() {
            self.buf.extend_from_slice(&std::mem::replace(&mut self.shared, bytes));
        }
    }

    /// Sends what is owed. Whether nothing is any more.
    pub(crate) fn flush(&mut self, stream: &mut Stream) -> io::Result<bool> {
        while let Some(rest @ [_, ..]) = self.buf.get(self.pos..) {
            match stream.write(rest, !self.shared.is_empty()) {
                Ok(n) => self.pos += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if !self.buf.is_empty() {
            (self.buf, self.pos) = (Vec::new(), 0);
        }
        if !write_all(stream, &mut self.shared)? {
            return Ok(false);
        }
        stream.flush()
    }

    /// Forgets what is owed.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Sends what is taken of `bytes`, and leaves the rest in it. Whether that is nothing.
fn write_all(stream: &mut Stream, bytes: &mut Bytes) -> io::Result<bool> {
    while !bytes.is_empty() {
        match stream.write(bytes, false) {
            Ok(n) => drop(bytes.split_to(n.min(bytes.len()))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    // No part of a content is held any longer.
    *bytes = Bytes::new();
    Ok(true)
}
