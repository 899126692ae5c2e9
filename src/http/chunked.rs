//! Chunked transfer coding: a decoder that does no I/O of its own, and the few bytes an encoder adds
//! (RFC 9112 §7.1).
//!
//! Strict for the same reason as the framing of requests: where two parties disagree about a chunk size, they
//! disagree about where the next message begins. The decoded bytes are framed anew before they are sent on, so
//! sizes and extensions of the sender reach nobody; of its trailers, `trailers.rs` says which do.

use std::error::Error;
use std::fmt;
use std::io::Write;

use http::header::{HeaderName, HeaderValue};

use super::fields::Fields;
use super::framing::is_tchar;

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Hexadecimal digits in a chunk size: leading zeros are fine, as long as 64 bits hold it at a glance.
const MAX_SIZE_DIGITS: u8 = 16;
/// Bytes of extensions in one line.
const MAX_EXTENSION: u16 = 256;
/// A chunk may have so much of line and line ends beside its data, and as much again as it has data…
const FREE_OVERHEAD: u64 = 16;
/// …and what goes beyond that adds up to at most this: else a sender could keep a reader busy for ever with
/// long lines around single bytes.
const MAX_OVERHEAD: u64 = 16 * 1024;
/// Bytes of trailers, with the line ends.
const MAX_TRAILER_BYTES: usize = 8 * 1024;
/// Lines of trailers.
const MAX_TRAILER_LINES: u8 = 100;

/// Why a body isn't validly chunked. Where it ends is unknown then: the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// A size that doesn't consist of 1 to 16 hexadecimal digits, or is followed by something else than an
    /// extension or CRLF: signs, `0x`, whitespace, bare LF.
    Size,
    /// An extension of more than 256 bytes, with a control character, or with bare CR or LF.
    Extension,
    /// Sizes and extensions out of proportion to the data.
    Overhead,
    /// The data of a chunk isn't followed by CRLF.
    DataEnd,
    /// A trailer line that isn't a field.
    Trailer,
    /// More than 8 KiB or 100 lines of trailers.
    TrailersTooLarge,
}

impl ChunkError {
    /// What was wrong, for the log.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Size => "malformed chunk size",
            Self::Extension => "malformed or too long chunk extension",
            Self::Overhead => "chunk sizes and extensions out of proportion to the data",
            Self::DataEnd => "chunk data not followed by CRLF",
            Self::Trailer => "malformed trailer",
            Self::TrailersTooLarge => "trailers too large",
        }
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

impl Error for ChunkError {}

/// What a call of [`Decoder::decode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes taken from the input.
    pub consumed: usize,
    /// Bytes put into the output.
    pub produced: usize,
    /// The body has ended, trailers included; what is left of the input comes after it.
    pub done: bool,
}

/// Where in the coding the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the digits of a size.
    Size {
        digits: u8,
        size: u64,
    },
    /// In the extensions behind it.
    Extension {
        size: u64,
        len: u16,
    },
    /// Behind the CR of that line.
    SizeLf {
        size: u64,
    },
    /// In the data of a chunk, of which so much is missing.
    Data {
        left: u64,
    },
    /// Behind the data.
    DataCr,
    /// Behind the CR that follows the data.
    DataLf,
    /// At the beginning of a trailer line or of the empty line that ends the body.
    TrailerStart,
    TrailerName,
    TrailerValue,
    /// Behind the CR of a trailer.
    TrailerLf,
    /// Behind the CR of the empty line.
    EndLf,
    Done,
    Failed(ChunkError),
}

/// Decodes one chunked body, from any division of it into pieces.
///
/// ```
/// use reverse_proxy::http::chunked::Decoder;
///
/// let mut output = [0; 16];
/// let step = Decoder::new().decode(b"5\r\nhello\r\n0\r\n\r\nGET /", &mut output).unwrap();
/// assert_eq!((step.consumed, step.produced, step.done), (15, 5, true));
/// assert_eq!(&output[..5], b"hello");
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    /// Bytes of the present size line.
    line: u64,
    /// Bytes beyond what is free, over all chunks.
    overhead: u64,
    /// The trailer lines so far.
    trailers: Vec<u8>,
    trailer_lines: u8,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// At the beginning of a body.
    pub const fn new() -> Self {
        Self {
            state: State::Size { digits: 0, size: 0 },
            line: 0,
            overhead: 0,
            trailers: Vec::new(),
            trailer_lines: 0,
        }
    }

    /// What came behind the last chunk, once the body has ended; `None` where that was nothing.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        if !self.is_done() || self.trailers.is_empty() {
            return None;
        }
        let mut lines = std::mem::take(&mut self.trailers);
        lines.extend_from_slice(b"\r\n");
        let mut slots = [httparse::EMPTY_HEADER; MAX_TRAILER_LINES as usize];
        // The decoder has let nothing pass that could not be parsed.
        let (_, parsed) = httparse::parse_headers(&lines, &mut slots).ok().and_then(complete)?;
        let field = |line: &httparse::Header<'_>| {
            Some((
                HeaderName::from_bytes(line.name.as_bytes()).ok()?,
                HeaderValue::from_bytes(line.value).ok()?,
            ))
        };
        Some(parsed.iter().filter_map(field).collect())
    }

    /// Whether the body has ended.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes from `input` what there is and fits into `output`; what isn't data is taken even if that is full.
    /// Call it again with the rest of the input (`consumed` says where it begins) and more. Nothing is consumed
    /// after the end.
    ///
    /// # Errors
    ///
    /// At the first byte that breaks the rules, and from then on. Data decoded before it is handed out first, so
    /// that what the caller gets does not depend on how the input was divided.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, ChunkError> {
        let mut consumed = 0;
        let mut produced = 0;
        while let Some(rest @ [byte, ..]) = input.get(consumed..) {
            self.state = match self.state {
                State::Done | State::Failed(_) => break,
                State::Data { left } => {
                    let room = output.get_mut(produced..).unwrap_or_default();
                    let n = rest.len().min(room.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
                    let (Some(to), Some(from), 1..) = (room.get_mut(..n), rest.get(..n), n) else {
                        break;
                    };
                    to.copy_from_slice(from);
                    consumed += n;
                    produced += n;
                    match left - n as u64 {
                        0 => State::DataCr,
                        left => State::Data { left },
                    }
                }
                state => match self.next(state, *byte) {
                    Ok(state) => {
                        consumed += 1;
                        state
                    }
                    Err(error) => State::Failed(error),
                },
            };
        }
        match self.state {
            State::Failed(error) if produced == 0 => Err(error),
            state => Ok(Step { consumed, produced, done: state == State::Done }),
        }
    }

    /// The state after a byte that isn't data.
    fn next(&mut self, state: State, byte: u8) -> Result<State, ChunkError> {
        match state {
            State::Size { digits, size } => {
                self.line += 1;
                match byte {
                    b'\r' if digits > 0 => Ok(State::SizeLf { size }),
                    b';' if digits > 0 => Ok(State::Extension { size, len: 0 }),
                    _ => {
                        let digit = char::from(byte).to_digit(16).ok_or(ChunkError::Size)?;
                        if digits == MAX_SIZE_DIGITS {
                            return Err(ChunkError::Size);
                        }
                        Ok(State::Size { digits: digits + 1, size: (size << 4) | u64::from(digit) })
                    }
                }
            }
            State::Extension { size, len } => {
                self.line += 1;
                match byte {
                    b'\r' => Ok(State::SizeLf { size }),
                    _ if is_control(byte) || len == MAX_EXTENSION => Err(ChunkError::Extension),
                    _ => Ok(State::Extension { size, len: len + 1 }),
                }
            }
            State::SizeLf { size } => {
                if byte != b'\n' {
                    return Err(ChunkError::Size);
                }
                // The LF, and the CRLF after the data.
                let line = self.line + 3;
                self.line = 0;
                let free = size.saturating_add(FREE_OVERHEAD);
                self.overhead = self.overhead.saturating_add(line).saturating_sub(free);
                if self.overhead > MAX_OVERHEAD {
                    return Err(ChunkError::Overhead);
                }
                Ok(if size == 0 { State::TrailerStart } else { State::Data { left: size } })
            }
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::Size { digits: 0, size: 0 }),
            State::DataCr | State::DataLf => Err(ChunkError::DataEnd),
            State::EndLf if byte == b'\n' => Ok(State::Done),
            State::TrailerStart if byte == b'\r' => Ok(State::EndLf),
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::EndLf => self.next_in_trailers(state, byte),
            State::Data { .. } | State::Done | State::Failed(_) => Ok(state),
        }
    }

    /// Trailers are checked and kept apart: merged into the head they could say there what was refused before.
    fn next_in_trailers(&mut self, state: State, byte: u8) -> Result<State, ChunkError> {
        if state == State::TrailerStart {
            self.trailer_lines += 1;
        }
        if self.trailer_lines > MAX_TRAILER_LINES || self.trailers.len() == MAX_TRAILER_BYTES {
            return Err(ChunkError::TrailersTooLarge);
        }
        self.trailers.push(byte);
        match (state, byte) {
            (State::TrailerStart | State::TrailerName, byte) if is_tchar(byte) => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, byte) if !is_control(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => Err(ChunkError::Trailer),
        }
    }
}

fn complete<T>(status: httparse::Status<T>) -> Option<T> {
    match status {
        httparse::Status::Complete(done) => Some(done),
        httparse::Status::Partial => None,
    }
}

/// Neither visible, nor space, nor tab, nor obs-text (RFC 9110 §5.5).
const fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Begins a chunk of `len` bytes: its size and CRLF. The caller adds the data and another CRLF.
///
/// `len` must not be 0: that is what the end of a body looks like ([`LAST_CHUNK`]).
pub fn encode_head(len: usize, out: &mut Vec<u8>) {
    debug_assert_ne!(len, 0, "a chunk without data ends the body");
    // A Vec takes whatever is written to it.
    let _ = write!(out, "{len:X}\r\n");
}

/// One chunk with all of `data`, which must not be empty.
pub fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    encode_head(data.len(), out);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Everything a decoder made of some bytes: the data, how much it took (0 after an error), and how it ended.
    #[derive(Debug, PartialEq, Eq)]
    struct Outcome {
        data: Vec<u8>,
        consumed: usize,
        end: Result<bool, ChunkError>,
    }

    /// Decodes pieces that end at `cuts`, with an output of `room` bytes.
    fn decode(input: &[u8], cuts: &[usize], room: usize) -> Outcome {
        let mut decoder = Decoder::new();
        let mut output = vec![0; room];
        let mut data = Vec::new();
        let mut consumed = 0;
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        ends.push(input.len());
        ends.sort_unstable();
        for end in ends {
            loop {
                match decoder.decode(&input[consumed..end], &mut output) {
                    Ok(step) => {
                        data.extend_from_slice(&output[..step.produced]);
                        consumed += step.consumed;
                        if step.done {
                            return Outcome { data, consumed, end: Ok(true) };
                        }
                        if step.consumed == 0 && step.produced == 0 {
                            assert_eq!(consumed, end, "stuck");
                            break;
                        }
                    }
                    Err(error) => {
                        return Outcome { data, consumed: 0, end: Err(error) };
                    }
                }
            }
        }
        Outcome { data, consumed, end: Ok(false) }
    }

    fn whole(input: &[u8]) -> Outcome {
        decode(input, &[], 64)
    }

    fn error(input: &[u8]) -> ChunkError {
        whole(input).end.expect_err("should have been refused")
    }

    #[test]
    fn the_plain_cases() {
        let outcome = whole(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET / HTTP/1.1");
        assert_eq!(outcome, Outcome { data: b"hello world".to_vec(), consumed: 26, end: Ok(true) });
        assert_eq!(whole(LAST_CHUNK), Outcome { data: vec![], consumed: 5, end: Ok(true) });
        assert_eq!(whole(b"00000000000000aA\r\n"), Outcome { data: vec![], consumed: 18, end: Ok(false) });
        assert_eq!(whole(b"ffffffffffffffff\r\nab").end, Ok(false));
        assert_eq!(whole(b"1;a=b;c=\"d e\"\r\nx\r\n0;\xff\r\n\r\n").data, b"x");
        assert_eq!(whole(b"0\r\nA: b\r\nc:\r\n\r\n").end, Ok(true));
    }

    #[test]
    fn nothing_is_taken_after_the_end() {
        let mut decoder = Decoder::new();
        assert!(decoder.decode(LAST_CHUNK, &mut []).unwrap().done);
        assert!(decoder.is_done());
        let step = decoder.decode(LAST_CHUNK, &mut [0; 8]).unwrap();
        assert_eq!(step, Step { consumed: 0, produced: 0, done: true });
    }

    #[test]
    fn what_is_not_data_is_taken_even_if_the_output_is_full() {
        let step = Decoder::new().decode(b"2\r\nab\r\n0\r\n\r\n", &mut [0; 2]).unwrap();
        assert_eq!(step, Step { consumed: 12, produced: 2, done: true });
        let step = Decoder::new().decode(b"2\r\nab\r\n", &mut []).unwrap();
        assert_eq!(step, Step { consumed: 3, produced: 0, done: false });
    }

    #[test]
    fn data_before_an_error_comes_first() {
        let mut decoder = Decoder::new();
        let input = b"2\r\nabX";
        let step = decoder.decode(input, &mut [0; 8]).unwrap();
        assert_eq!(step, Step { consumed: 5, produced: 2, done: false });
        assert_eq!(decoder.decode(&input[5..], &mut [0; 8]), Err(ChunkError::DataEnd));
        assert_eq!(decoder.decode(b"\r\n0\r\n\r\n", &mut [0; 8]), Err(ChunkError::DataEnd));
    }

    #[test]
    fn malformed_sizes() {
        let bad: [&[u8]; 17] = [
            b"\r\n",
            b"\n",
            b"+5\r\n",
            b"-1\r\n",
            b" 5\r\n",
            b"\t5\r\n",
            b"5 \r\n",
            b"5 ;x\r\n",
            b"0x5\r\n",
            b"g\r\n",
            b"5g\r\n",
            b";a\r\n",
            b"10000000000000000\r\n",
            b"00000000000000001\r\n",
            b"5\nhello",
            b"5\r\rhello",
            b"5\rhello",
        ];
        for input in bad {
            assert_eq!(error(input), ChunkError::Size, "{input:?}");
        }
        assert_eq!(error(b"\xd9\xa5\r\n"), ChunkError::Size);
        assert_eq!(error(b"5\0\r\n"), ChunkError::Size);
    }

    #[test]
    fn malformed_ends_of_data() {
        for input in [&b"1\r\nab\r\n"[..], b"1\r\na\n", b"1\r\na\r\r", b"1\r\na0\r\n\r\n"] {
            assert_eq!(error(input), ChunkError::DataEnd, "{input:?}");
        }
    }

    #[test]
    fn malformed_extensions() {
        for input in [&b"1;a\nx"[..], b"1;\0\r\n", b"1;a\x7f\r\n"] {
            assert_eq!(error(input), ChunkError::Extension, "{input:?}");
        }
        assert_eq!(error(b"1;a\rb\r\nx"), ChunkError::Size);
        let longest = [b"0;", "x".repeat(MAX_EXTENSION.into()).as_bytes(), b"\r\n\r\n"].concat();
        assert_eq!(whole(&longest).end, Ok(true));
        let too_long = [b"0;", "x".repeat(usize::from(MAX_EXTENSION) + 1).as_bytes(), b"\r\n\r\n"].concat();
        assert_eq!(error(&too_long), ChunkError::Extension);
    }

    #[test]
    fn overhead_is_bounded_but_single_bytes_may_be_sent_for_ever() {
        let chunk = [b"1;", "x".repeat(200).as_bytes(), b"\r\na\r\n"].concat();
        let outcome = whole(&chunk.repeat(100));
        assert_eq!(outcome.end, Err(ChunkError::Overhead));
        assert!(outcome.data.len() < 100);
        assert_eq!(whole(&b"1\r\na\r\n".repeat(10_000)).end, Ok(false));
        assert_eq!(whole(&b"1;signature=0\r\na\r\n".repeat(1_000)).end, Ok(false));
    }

    #[test]
    fn malformed_trailers() {
        let bad: [&[u8]; 9] = [
            b"0\r\n a: b\r\n",
            b"0\r\na : b\r\n",
            b"0\r\n: b\r\n",
            b"0\r\na\r\n",
            b"0\r\na: b\n\n",
            b"0\r\na: b\rc",
            b"0\r\na: \0\r\n",
            b"0\r\na: b\r\n c\r\n",
            b"0\r\n\r\r",
        ];
        for input in bad {
            assert_eq!(error(input), ChunkError::Trailer, "{input:?}");
        }
        assert_eq!(error(b"0\r\n\n"), ChunkError::Trailer);
    }

    #[test]
    fn trailers_are_kept() {
        let mut decoder = Decoder::new();
        assert!(decoder.decode(b"1\r\nx\r\n0\r\nA: b \r\nc:\r\nA:\td\xff\r\n\r", &mut [0; 9]).is_ok());
        assert_eq!(decoder.take_trailers(), None, "not at the end yet");
        assert!(decoder.decode(b"\n", &mut []).unwrap().done);
        let value = |value: &[u8]| HeaderValue::from_bytes(value).unwrap();
        let (a, c) = (HeaderName::from_static("a"), HeaderName::from_static("c"));
        let expected = [(a.clone(), value(b"b")), (c, value(b"")), (a, value(b"d\xff"))];
        assert_eq!(decoder.take_trailers(), Some(expected.into_iter().collect()));
        assert_eq!(decoder.take_trailers(), None);
    }

    #[test]
    fn too_many_trailers() {
        let lines = |n| [b"0\r\n", "a:\r\n".repeat(n).as_bytes(), b"\r\n"].concat();
        assert_eq!(whole(&lines(MAX_TRAILER_LINES.into())).end, Ok(true));
        assert_eq!(error(&lines(usize::from(MAX_TRAILER_LINES) + 1)), ChunkError::TrailersTooLarge);
        let long = [b"0\r\na:", "x".repeat(MAX_TRAILER_BYTES).as_bytes(), b"\r\n\r\n"].concat();
        assert_eq!(error(&long), ChunkError::TrailersTooLarge);
    }

    fn encode(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut encoded = Vec::new();
        for chunk in chunks {
            encode_head(chunk.len(), &mut encoded);
            encoded.extend_from_slice(chunk);
            encoded.extend_from_slice(b"\r\n");
        }
        encoded.extend_from_slice(LAST_CHUNK);
        encoded
    }

    #[test]
    fn sizes_are_hexadecimal() {
        assert_eq!(
            encode(&[vec![b'x'; 26]]),
            [b"1A\r\n", "x".repeat(26).as_bytes(), b"\r\n0\r\n\r\n"].concat()
        );
    }

    /// Bytes that look like a chunked body more often than random ones do.
    fn nearly_chunked() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => Just(b"\r\n".to_vec()),
            3 => Just(b"1\r\na\r\n".to_vec()),
            3 => Just(b"3;x=y\r\nabc\r\n".to_vec()),
            3 => Just(b"0\r\n".to_vec()),
            2 => Just(b"a: b\r\n".to_vec()),
            1 => vec(any::<u8>(), 0..4),
            1 => vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b';'), Just(b'f')], 0..4),
        ];
        vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_division_decodes_alike(input in nearly_chunked(), cuts in vec(any::<usize>(), 0..8), room in 1_usize..8) {
            let expected = whole(&input);
            prop_assert_eq!(&decode(&input, &cuts, room), &expected);
            let every_byte: Vec<usize> = (0..input.len()).collect();
            prop_assert_eq!(&decode(&input, &every_byte, 1), &expected);
        }

        #[test]
        fn round_trip(
            chunks in vec(vec(any::<u8>(), 1..300), 0..6),
            rest in vec(any::<u8>(), 0..8),
            cuts in vec(any::<usize>(), 0..8),
            room in 1_usize..400,
        ) {
            let encoded = encode(&chunks);
            let outcome = decode(&[&encoded[..], &rest].concat(), &cuts, room);
            prop_assert_eq!(outcome, Outcome { data: chunks.concat(), consumed: encoded.len(), end: Ok(true) });
        }
    }
}
