//! A chunked body in any division, and its data framed anew.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use reverse_proxy::http::chunked::{ChunkError, Decoder, LAST_CHUNK, encode_head};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// How many bytes arrive at a time, over and over.
    pieces: Vec<u8>,
    /// How much output there is at a time.
    room: u8,
    body: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    data: Vec<u8>,
    /// How it ended, and how many bytes it took.
    end: Result<(bool, usize), ChunkError>,
}

fuzz_target!(|input: Input<'_>| {
    let Input { pieces, room, body } = input;
    let room = usize::from(room) + 1;

    let whole = decode(body, &[], body.len() + 1);
    assert_eq!(decode(body, &pieces, room), whole);
    assert_eq!(decode(body, &[1], 1), whole);
    assert!(whole.data.len() <= body.len());
    if let Ok((done, consumed)) = whole.end {
        assert!(done || consumed == body.len());
        if done {
            // Neither does the end depend on what comes after it, nor is anything else an end.
            assert_eq!(decode(&body[..consumed], &pieces, room), whole);
            assert!(body[..consumed].ends_with(b"\r\n\r\n") || body[..consumed].ends_with(b"\r\n"));
            assert_eq!(decode(&body[..consumed - 1], &pieces, room).end, Ok((false, consumed - 1)));
        }
    }

    // The bytes as data: framed in chunks of these sizes, and back again.
    let mut encoded = Vec::new();
    let mut rest = body;
    let mut sizes = pieces.iter().map(|&n| usize::from(n).max(1)).chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
        encode_head(chunk.len(), &mut encoded);
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
        rest = after;
    }
    encoded.extend_from_slice(LAST_CHUNK);
    let len = encoded.len();
    encoded.extend_from_slice(body);
    let outcome = decode(&encoded, &pieces, room);
    assert_eq!(outcome, Outcome { data: body.to_vec(), end: Ok((true, len)) });
});

fn decode(input: &[u8], pieces: &[u8], room: usize) -> Outcome {
    let mut decoder = Decoder::new();
    let mut output = vec![0; room];
    let mut data = Vec::new();
    let mut consumed = 0;
    let mut arrived = 0;
    let mut pieces = pieces.iter().map(|&n| usize::from(n).max(1)).cycle();
    loop {
        arrived = input.len().min(arrived + pieces.next().unwrap_or(input.len()));
        loop {
            let step = match decoder.decode(&input[consumed..arrived], &mut output) {
                Ok(step) => step,
                Err(error) => {
                    return Outcome { data, end: Err(error) };
                }
            };
            data.extend_from_slice(&output[..step.produced]);
            consumed += step.consumed;
            assert_eq!(step.done, decoder.is_done());
            if step.done {
                return Outcome { data, end: Ok((true, consumed)) };
            }
            if consumed == arrived {
                break;
            }
            assert!(step.consumed > 0, "stuck");
        }
        if arrived == input.len() {
            return Outcome { data, end: Ok((false, consumed)) };
        }
    }
}
