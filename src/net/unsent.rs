//! Bytes that a connection did not take yet.

use std::io;

use super::stream::Stream;

/// What is owed to one connection, in order. Empty as a rule: it costs memory only while the other side is slow.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    buf: Vec<u8>,
    pos: usize,
}

impl Unsent {
    pub(crate) fn is_empty(&self) -> bool {
        self.pos >= self.buf.len()
    }

    /// Bytes owed.
    pub(crate) fn len(&self) -> usize {
        self.buf.len().saturating_sub(self.pos)
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
        self.buf.reserve_exact(rest.len());
        self.buf.extend_from_slice(rest);
        Ok(false)
    }

    /// Adds bytes without trying to send them.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Sends what is owed. Whether nothing is any more.
    pub(crate) fn flush(&mut self, stream: &mut Stream) -> io::Result<bool> {
        while let Some(rest @ [_, ..]) = self.buf.get(self.pos..) {
            match stream.write(rest, false) {
                Ok(n) => self.pos += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if !self.buf.is_empty() {
            *self = Self::default();
        }
        stream.flush()
    }

    /// Forgets what is owed.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
