//! [`Collected`]: the beginning of a request body, kept in memory. Large ones are in buffers that a worker uses again, for another
//! body: making one anew costs as much as filling it.

use std::cell::RefCell;

/// Bytes in a large buffer: what is collected of a body at most.
pub(crate) const COLLECT: usize = 64 * 1024;
/// Large buffers that a thread keeps while they are not used.
const SPARE: usize = 8;
/// How much room a body of unknown length gets at a time while it is small.
const PIECE: usize = 8 * 1024;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Up to [`COLLECT`] bytes.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// The bytes, and room for more behind them.
    buf: Vec<u8>,
    len: usize,
}

impl Collected {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn from(&self, start: usize) -> &[u8] {
        self.buf.get(start.min(self.len)..self.len).unwrap_or_default()
    }

    /// Room for more: all of `wanted`, if that is known, as far as it is collected. Empty when no more is collected.
    pub(super) fn room(&mut self, wanted: Option<u64>) -> &mut [u8] {
        let left = COLLECT - self.len;
        let wanted = wanted.map_or(PIECE, |wanted| usize::try_from(wanted).unwrap_or(left)).min(left);
        if self.buf.len() - self.len < wanted {
            self.grow(self.len + wanted);
        }
        self.buf.get_mut(self.len..self.len + wanted).unwrap_or_default()
    }

    /// The first `n` bytes of the room are bytes of the body now.
    pub(super) fn add(&mut self, n: usize) {
        self.len = (self.len + n).min(self.buf.len());
    }

    fn grow(&mut self, needed: usize) {
        // Small ones get what they need, and large ones no more than once.
        let mut buf = if needed > COLLECT / 2 { spare() } else { vec![0; needed] };
        if let (Some(to), Some(from)) = (buf.get_mut(..self.len), self.buf.get(..self.len)) {
            to.copy_from_slice(from);
        }
        put_back(std::mem::replace(&mut self.buf, buf));
    }

    /// Lets go of the bytes.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        put_back(std::mem::take(&mut self.buf));
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        put_back(std::mem::take(&mut self.buf));
    }
}

fn spare() -> Vec<u8> {
    let spare = SPARES.try_with(|spares| spares.try_borrow_mut().ok()?.pop());
    spare.ok().flatten().unwrap_or_else(|| vec![0; COLLECT])
}

/// What is in it stays, and is overwritten before anybody reads it.
fn put_back(buf: Vec<u8>) {
    if buf.len() == COLLECT {
        // A thread that ends has none to keep.
        let _ = SPARES.try_with(|spares| {
            if let Ok(mut spares) = spares.try_borrow_mut()
                && spares.len() < SPARE
            {
                spares.push(buf);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spares() -> usize {
        SPARES.with_borrow(Vec::len)
    }

    fn fill(collected: &mut Collected, wanted: Option<u64>, with: u8) -> usize {
        let room = collected.room(wanted);
        room.fill(with);
        let n = room.len();
        collected.add(n);
        n
    }

    #[test]
    fn it_takes_what_is_wanted_and_no_more_than_it_may() {
        let mut body = Collected::default();
        assert_eq!(fill(&mut body, Some(5), b'a'), 5);
        assert_eq!(body.buf.len(), 5);
        assert_eq!(fill(&mut body, None, b'b'), PIECE);
        assert_eq!(fill(&mut body, Some(u64::MAX), b'c'), COLLECT - PIECE - 5);
        assert_eq!((fill(&mut body, Some(9), b'd'), fill(&mut body, None, b'd')), (0, 0));
        let expected = [vec![b'a'; 5], vec![b'b'; PIECE], vec![b'c'; COLLECT - PIECE - 5]].concat();
        assert!(body.from(0) == expected && body.from(5) == &expected[5..] && body.from(COLLECT).is_empty());
    }

    #[test]
    fn a_large_buffer_is_used_again_and_shows_nothing_of_before() {
        let mut first = Collected::default();
        fill(&mut first, Some(COLLECT as u64), b'x');
        let place = first.buf.as_ptr();
        first.clear();
        assert_eq!((first.len(), first.from(0), spares()), (0, &b""[..], 1));
        let mut second = Collected::default();
        second.room(Some(40_000));
        second.add(3);
        assert_eq!((second.buf.as_ptr(), second.len(), spares()), (place, 3, 0));
        drop(second);
        // What a burst took is given back.
        let many: Vec<_> = (0..3 * SPARE)
            .map(|_| {
                let mut body = Collected::default();
                fill(&mut body, Some(COLLECT as u64), b'y');
                body
            })
            .collect();
        drop(many);
        assert_eq!(spares(), SPARE);
    }
}
