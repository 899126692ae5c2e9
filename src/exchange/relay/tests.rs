use std::io::Write;

use bytes::Bytes;
use http::Method;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::exchange::coding::code;
use crate::exchange::gateway::Places;
use crate::http::head::{HeadLimits, RequestHead};
use crate::http::response_head::{ResponseScan, scan};
use crate::rules::Compress;

/// What a client that speaks `version` gets of an answer, if it comes in `pieces`, and how the relay stands then.
fn relayed(version: Version, pieces: &[&[u8]]) -> (Result<Vec<u8>, Cause>, Relay) {
    relayed_with(version, None, pieces)
}

fn relayed_with(version: Version, coder: Option<Coder>, pieces: &[&[u8]]) -> (Result<Vec<u8>, Cause>, Relay) {
    let now = Instant::now();
    let mut bytes = pieces.concat();
    let ResponseScan::Complete { len } = scan(&bytes, 0) else { panic!("no head: {pieces:?}") };
    let body_begins = len;
    let head = Bytes::from(bytes.drain(..len).collect::<Vec<u8>>());
    let head = ResponseHead::parse(&head, &Method::GET).unwrap();
    let mut relay = Relay::new(&head, version, true, coder, now);
    let (mut out, mut decoded, mut at) = (Vec::new(), vec![0; 1024], 0);
    for piece in pieces {
        // The head was taken before.
        let skip = body_begins.saturating_sub(at).min(piece.len());
        at += piece.len();
        let Some(body @ [_, ..]) = piece.get(skip..) else { continue };
        if let Err(cause) = relay.receive(body, &mut decoded, &mut out, now) {
            return (Err(cause), relay);
        }
    }
    (Ok(out), relay)
}

const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const UNTIL_CLOSE: &[u8] = b"HTTP/1.0 200 OK\r\n\r\n";

#[test]
fn a_body_of_known_length_passes_as_it_is_and_ends_there() {
    let (out, relay) = relayed(Version::Http11, &[LENGTH, b"he", b"llo"]);
    assert_eq!(out.unwrap(), b"hello");
    assert!(relay.is_received() && relay.backend_stays && relay.keep_alive);
    let (out, relay) = relayed(Version::Http11, &[LENGTH, b"hell"]);
    assert_eq!(out.unwrap(), b"hell");
    assert!(!relay.is_received());
}

/// Nobody has asked for it: who knows what it is the answer to.
#[test]
fn what_comes_behind_the_answer_costs_the_backend_its_connection() {
    for pieces in [
        &[LENGTH, b"hello!"][..],
        &[LENGTH, b"hello", b"HTTP/1.1 200 OK\r\n\r\n"],
        &[CHUNKED, b"0\r\n\r\n!"],
        &[b"HTTP/1.1 204 No Content\r\n\r\n", b"x"],
    ] {
        let (out, relay) = relayed(Version::Http11, pieces);
        assert!(!out.unwrap().ends_with(b"!"));
        assert!(relay.is_received() && !relay.backend_stays, "{pieces:?}");
    }
}

#[test]
fn chunks_are_made_anew_and_trailers_pass_to_who_knows_them() {
    let body = b"3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 7\r\nKeep-Alive: x\r\n\r\n";
    let (out, relay) = relayed(Version::Http11, &[CHUNKED, body]);
    assert_eq!(out.unwrap(), b"5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
    assert!(relay.is_received() && relay.backend_stays);
    // There the end of the connection is the end of the body.
    let (out, relay) = relayed(Version::Http10, &[CHUNKED, body]);
    assert_eq!(out.unwrap(), b"hello");
    assert!(relay.ends_with_connection() && !relay.keep_alive && relay.backend_stays);
}

#[test]
fn a_body_without_a_length_gets_chunks() {
    let (out, mut relay) = relayed(Version::Http11, &[UNTIL_CLOSE, b"hello"]);
    let mut out = out.unwrap();
    assert!(!relay.is_received() && !relay.backend_stays);
    relay.end_of_stream(&mut out).unwrap();
    assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
    assert!(relay.is_received());
}

#[test]
fn an_end_in_the_middle_is_no_end() {
    for pieces in [&[LENGTH, b"hell"][..], &[CHUNKED, b"5\r\nhello\r\n"], &[CHUNKED, b"0\r\n"]] {
        let (out, mut relay) = relayed(Version::Http11, pieces);
        assert_eq!(relay.end_of_stream(&mut out.unwrap()), Err(Cause::BackendClosed), "{pieces:?}");
    }
}

#[test]
fn what_is_no_chunk_breaks_the_answer_off() {
    for body in ["+5\r\nhello\r\n", " 5\r\nhello\r\n", "5\nhello\n", "12345678901234567\r\n", "5\r\nhelloX"] {
        let (out, relay) = relayed(Version::Http11, &[CHUNKED, body.as_bytes()]);
        assert_eq!(out, Err(Cause::BadResponse), "{body:?}");
        assert!(!relay.is_received());
    }
}

fn coder() -> Coder {
    coder_of(5)
}

fn coder_of(level: u8) -> Coder {
    let limits = HeadLimits { max_header_bytes: 8192, max_headers: 10 };
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n";
    let request = RequestHead::parse(Bytes::from_static(request), &limits).unwrap();
    let answer = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n");
    let mut answer = ResponseHead::parse(&answer, &Method::GET).unwrap();
    code(&Compress { level, ..Compress::default() }, &request, &mut answer, &Places::new(1)).unwrap()
}

/// What chunks have in them, what comes out of that, and whether both are whole.
fn unzipped(chunks: &[u8]) -> (Vec<u8>, bool) {
    let (mut decoder, mut coded) = (Decoder::new(), vec![0; chunks.len()]);
    let step = decoder.decode(chunks, &mut coded).unwrap();
    let mut unzip = flate2::write::GzDecoder::new(Vec::new());
    unzip.write_all(&coded[..step.produced]).unwrap();
    unzip.flush().unwrap();
    let found = unzip.get_ref().clone();
    assert_eq!(unzip.finish().is_ok(), step.done, "one is whole and the other is not");
    (found, step.done)
}

#[test]
fn what_is_compressed_gets_chunks_and_an_end() {
    let body: &[u8] = b"5\r\nhello\r\n0\r\nETag: \"a\"\r\nX-Sum: 7\r\n\r\n";
    for (pieces, trailer) in [(&[LENGTH, b"he", b"llo"][..], false), (&[CHUNKED, body], true)] {
        let (out, relay) = relayed_with(Version::Http11, Some(coder()), pieces);
        let out = out.unwrap();
        assert_eq!(unzipped(&out), (b"hello".to_vec(), true));
        assert_eq!(out.ends_with(b"\r\n0\r\nx-sum: 7\r\n\r\n"), trailer);
        assert!(relay.is_received() && relay.backend_stays && relay.keep_alive && relay.body.coder.is_none());
    }
    let (out, mut relay) = relayed_with(Version::Http11, Some(coder()), &[UNTIL_CLOSE, b"hello"]);
    let mut out = out.unwrap();
    relay.end_of_stream(&mut out).unwrap();
    assert_eq!(unzipped(&out), (b"hello".to_vec(), true));
}

#[test]
fn what_breaks_off_is_there_once_it_is_flushed_and_has_no_end() {
    for pieces in [&[LENGTH, b"hell"][..], &[CHUNKED, b"4\r\nhell\r\n"], &[CHUNKED, b"8\r\nhell"]] {
        let (out, mut relay) = relayed_with(Version::Http11, Some(coder()), pieces);
        let mut out = out.unwrap();
        assert_eq!(relay.end_of_stream(&mut out), Err(Cause::BackendClosed));
        relay.flush(&mut out).unwrap();
        assert_eq!(unzipped(&out), (b"hell".to_vec(), false), "{pieces:?}");
    }
}

#[test]
fn compressing_takes_more_of_a_turn() {
    let (_, plain) = relayed(Version::Http11, &[LENGTH]);
    assert_eq!((plain.cost(1000), plain.fits(100_000, 0)), (1000, 100_000));
    for (level, weight) in [(1, 8), (5, 8), (7, 16), (9, 64)] {
        let (_, coded) = relayed_with(Version::Http11, Some(coder_of(level)), &[LENGTH]);
        assert_eq!(coded.cost(1000), 1000 * weight);
        assert_eq!(coded.fits(100_000, 256 * 1024), 256 * 1024 / weight);
        assert_eq!((coded.fits(100_000, 0), coded.fits(10, 0)), (1024, 10));
    }
}

proptest! {
    #[test]
    fn how_the_bytes_are_divided_makes_no_difference(
        which in 0_usize..3,
        old: bool,
        cuts in vec(0_usize..80, 0..6),
    ) {
        let bytes = match which {
            0 => [LENGTH, b"hello"].concat(),
            1 => [CHUNKED, b"3\r\nhel\r\n2;x=\"y\"\r\nlo\r\n0\r\na: b\r\n\r\n"].concat(),
            _ => [UNTIL_CLOSE, b"hello"].concat(),
        };
        let version = if old { Version::Http10 } else { Version::Http11 };
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut start = 0;
        let mut pieces = Vec::new();
        for end in ends {
            pieces.push(&bytes[start..end]);
            start = end;
        }
        let data = |out: Vec<u8>| {
            // In chunks of any size the data is the same.
            let mut decoder = Decoder::new();
            let mut data = vec![0; 1024];
            let length = if version == Version::Http11 && which > 0 {
                let mut length = 0;
                let mut rest = &out[..];
                while !rest.is_empty() && !decoder.is_done() {
                    let step = decoder.decode(rest, &mut data[length..]).unwrap();
                    length += step.produced;
                    rest = &rest[step.consumed..];
                }
                length
            } else {
                data[..out.len()].copy_from_slice(&out);
                out.len()
            };
            data.truncate(length);
            (data, decoder.take_trailers().is_some())
        };
        let (whole, _) = relayed(version, &[&bytes]);
        let (divided, relay) = relayed(version, &pieces);
        prop_assert_eq!(data(divided.unwrap()), data(whole.unwrap()));
        prop_assert_eq!(relay.is_received(), which < 2);
    }
}
