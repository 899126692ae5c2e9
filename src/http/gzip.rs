//! The gzip coding (RFC 1952) of a body that comes in pieces. No I/O of its own: what it makes, it hands to whoever asks.

use std::error::Error;
use std::fmt;

use flate2::{Compress, Compression, FlushCompress, Status};

/// The window, 32 KiB, as every gzip has it: a smaller one would save little, because most of the state is tables whose
/// size does not depend on it.
const WINDOW_BITS: u8 = 15;
/// What is handed out at once, at most.
const PIECE: usize = 8 * 1024;

/// The coder has failed, which it never should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GzipError;

impl fmt::Display for GzipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the gzip coder has failed")
    }
}

impl Error for GzipError {}

/// Codes one body.
///
/// ```
/// use reverse_proxy::http::gzip::Gzip;
///
/// let (mut gzip, mut coded) = (Gzip::new(5), Vec::new());
/// let mut put = |piece: &[u8]| coded.extend_from_slice(piece);
/// gzip.push(&[b'a'; 1000], &mut put).unwrap();
/// gzip.finish(&mut put).unwrap();
/// assert!(coded.starts_with(b"\x1f\x8b") && coded.len() < 50);
/// ```
#[derive(Debug)]
pub struct Gzip {
    deflate: Compress,
    /// Something was pushed, and not all that it became was handed out.
    keeps_back: bool,
}

impl Gzip {
    /// What one takes: two windows and their chains, the table of hashes, and what is kept back.
    pub const MEMORY: usize = 384 * 1024;
    /// From the fastest level to the one that makes the least of it.
    pub const LEVELS: std::ops::RangeInclusive<u8> = 1..=9;

    /// At the beginning of a body.
    #[must_use]
    pub fn new(level: u8) -> Self {
        let level = level.clamp(*Self::LEVELS.start(), *Self::LEVELS.end());
        Self { deflate: Compress::new_gzip(Compression::new(level.into()), WINDOW_BITS), keeps_back: false }
    }

    /// Takes in the next bytes. What they become may be handed out later, at [`flush`](Self::flush) or before.
    ///
    /// # Errors
    /// See [`GzipError`].
    pub fn push(&mut self, data: &[u8], put: &mut impl FnMut(&[u8])) -> Result<(), GzipError> {
        if data.is_empty() {
            return Ok(());
        }
        self.keeps_back = true;
        self.run(data, FlushCompress::None, put)
    }

    /// Whether a [`flush`](Self::flush) would hand out anything.
    #[must_use]
    pub fn keeps_back(&self) -> bool {
        self.keeps_back
    }

    /// Hands out all that was pushed, so that whoever has it can decode it to the last byte.
    ///
    /// # Errors
    /// See [`GzipError`].
    pub fn flush(&mut self, put: &mut impl FnMut(&[u8])) -> Result<(), GzipError> {
        if !std::mem::take(&mut self.keeps_back) {
            return Ok(());
        }
        self.run(&[], FlushCompress::Sync, put)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// See [`GzipError`].
    pub fn finish(mut self, put: &mut impl FnMut(&[u8])) -> Result<(), GzipError> {
        self.run(&[], FlushCompress::Finish, put)
    }

    fn run(
        &mut self,
        mut data: &[u8],
        flush: FlushCompress,
        put: &mut impl FnMut(&[u8]),
    ) -> Result<(), GzipError> {
        let mut piece = [0; PIECE];
        loop {
            let (taken, made) = (self.deflate.total_in(), self.deflate.total_out());
            let status = self.deflate.compress(data, &mut piece, flush).map_err(|_| GzipError)?;
            let taken = since(taken, self.deflate.total_in());
            let made = since(made, self.deflate.total_out());
            data = data.get(taken..).unwrap_or_default();
            let made = piece.get(..made).unwrap_or_default();
            if !made.is_empty() {
                put(made);
            }
            let is_done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                // Room that is left means that there is no more to hand out.
                _ => data.is_empty() && made.len() < piece.len(),
            };
            if is_done {
                return Ok(());
            }
            if taken == 0 && made.is_empty() {
                return Err(GzipError);
            }
        }
    }
}

fn since(before: u64, now: u64) -> usize {
    usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What can be decoded of the beginning of a body, and whether that is all of it.
    fn decoded(coded: &[u8]) -> (Vec<u8>, bool) {
        let mut decoder = Decompress::new_gzip(WINDOW_BITS);
        let mut out = Vec::with_capacity(1024);
        loop {
            let before = (decoder.total_in(), out.len());
            let rest = &coded[since(0, decoder.total_in())..];
            let status = decoder.decompress_vec(rest, &mut out, FlushDecompress::Sync).unwrap();
            if status == Status::StreamEnd || before == (decoder.total_in(), out.len()) {
                return (out, status == Status::StreamEnd);
            }
            out.reserve(64 * 1024);
        }
    }

    /// Bytes that can be compressed, and some that cannot.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..3000),
            vec(0..3_u8, 0..3000),
            (any::<u8>(), 0..200_000_usize).prop_map(|(byte, n)| vec![byte; n]),
            (0..40_000_u32)
                .prop_map(|n| (0..n).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn each_piece_can_be_decoded_once_it_is_flushed(pieces in vec((bytes(), any::<bool>()), 0..8), level in 1..=9_u8) {
            let (mut gzip, mut coded, mut pushed) = (Gzip::new(level), Vec::new(), Vec::new());
            for (piece, flushes) in &pieces {
                gzip.push(piece, &mut |made| coded.extend_from_slice(made)).unwrap();
                pushed.extend_from_slice(piece);
                if *flushes {
                    gzip.flush(&mut |made| coded.extend_from_slice(made)).unwrap();
                    prop_assert!(!gzip.keeps_back());
                    prop_assert_eq!(decoded(&coded), (pushed.clone(), false));
                }
            }
            gzip.finish(&mut |made| coded.extend_from_slice(made)).unwrap();
            prop_assert_eq!(decoded(&coded), (pushed, true));
        }

        #[test]
        fn little_is_handed_out_at_once(data in bytes(), level in 1..=9_u8) {
            let (mut gzip, mut handed_out, mut largest) = (Gzip::new(level), 0, 0);
            let mut put = |made: &[u8]| {
                handed_out += made.len();
                largest = largest.max(made.len());
            };
            gzip.push(&data, &mut put).unwrap();
            gzip.flush(&mut put).unwrap();
            prop_assert!(largest <= PIECE);
            // What cannot be compressed grows by a few bytes a block; at level 1, eight bits become nine.
            prop_assert!(handed_out <= data.len() + data.len() / 8 + 64, "{} of {}", handed_out, data.len());
        }
    }

    #[test]
    fn nothing_is_flushed_twice() {
        let mut gzip = Gzip::new(5);
        let mut sizes = Vec::new();
        gzip.flush(&mut |_| panic!("nothing was pushed")).unwrap();
        gzip.push(b"", &mut |_| panic!("nothing was pushed")).unwrap();
        gzip.push(b"data: a\n\n", &mut |made| sizes.push(made.len())).unwrap();
        gzip.flush(&mut |made| sizes.push(made.len())).unwrap();
        assert!(sizes.iter().sum::<usize>() < 60, "{sizes:?}");
        gzip.flush(&mut |_| panic!("all was handed out")).unwrap();
    }

    #[test]
    fn an_empty_body_has_a_coding() {
        let mut coded = Vec::new();
        Gzip::new(5).finish(&mut |made| coded.extend_from_slice(made)).unwrap();
        assert_eq!(decoded(&coded), (Vec::new(), true));
    }
}
