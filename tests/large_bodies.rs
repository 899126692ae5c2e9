//! Bodies far larger than any buffer, compared by hash.

use crate::support::engines::{on_both_engines, on_native_over_tls};
use crate::support::wire::{LAST_CHUNK, chunk};
use crate::support::{
    Client, Echo, Engine, Framing, Hash, Origin, ScriptedBackend, TestProxy, pattern, spawn,
};

const SIZE: usize = 64 * 1024 * 1024;

/// A length that fits no buffer and no page, so that a lost or doubled piece shifts what follows.
const PIECE: usize = 65_521;

/// The body in pieces: one pattern, again and again.
fn pieces() -> impl Iterator<Item = Vec<u8>> {
    let piece = pattern(42, PIECE);
    (0..SIZE.div_ceil(PIECE)).map(move |number| {
        let length = PIECE.min(SIZE - number * PIECE);
        piece[..length].to_vec()
    })
}

fn expected() -> String {
    let mut hash = Hash::new();
    pieces().for_each(|piece| hash.update(&piece));
    assert_eq!(hash.length(), SIZE as u64);
    hash.finish()
}

fn download_with_length(engine: Engine) {
    download(engine, Framing::Length(SIZE as u64));
}

fn download_in_chunks(engine: Engine) {
    download(engine, Framing::Chunked);
}

fn download(engine: Engine, framing: Framing) {
    let backend = ScriptedBackend::per_request(move |conn, _| {
        if framing == Framing::Chunked {
            conn.send_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"])?;
            pieces().try_for_each(|piece| conn.send(&chunk(&piece)))?;
            conn.send(LAST_CHUNK)
        } else {
            conn.send_head(&["HTTP/1.1 200 OK", &format!("Content-Length: {SIZE}")])?;
            pieces().try_for_each(|piece| conn.send(&piece))
        }
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let (head, hash) = client.hashed_response();
    assert_eq!((head.status, head.framing), (200, framing));
    assert_eq!(hash.finish(), expected());
}

fn upload_with_length(engine: Engine) {
    let echo = upload(engine, &format!("Content-Length: {SIZE}"), |client| {
        pieces().for_each(|piece| client.send(piece));
    });
    assert_eq!(echo.framing, format!("length {SIZE}"), "a known length stays known");
}

fn upload_in_chunks(engine: Engine) {
    let echo = upload(engine, "Transfer-Encoding: chunked", |client| {
        pieces().for_each(|piece| client.send(chunk(&piece)));
        client.send(LAST_CHUNK);
    });
    assert_eq!(echo.framing, "chunked");
}

fn upload(engine: Engine, framing: &str, send: impl FnOnce(&mut Client)) -> Echo {
    let origin = Origin::echo();
    let proxy = TestProxy::to(engine, &[origin.addr()], "");
    let mut client = Client::connect(proxy.addr());
    client.send(format!("PUT / HTTP/1.1\r\nHost: proxy.test\r\n{framing}\r\n\r\n"));
    send(&mut client);
    let echo = Echo::parse(&client.response_to("PUT").expect(200).body);
    assert_eq!(echo.hash, expected());
    echo
}

/// Several at a time, each there and back, none mixed up with another.
fn several_there_and_back(engine: Engine) {
    const SIZE: usize = 4 * 1024 * 1024;
    let backend = ScriptedBackend::per_request(|conn, request| {
        let mut received = Vec::new();
        conn.body_pieces(request, |piece| received.extend_from_slice(piece))?;
        conn.send_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"])?;
        for piece in received.chunks(10_000) {
            conn.send(&chunk(piece))?;
        }
        conn.send(LAST_CHUNK)
    });
    let proxy = TestProxy::to(engine, &[backend.addr()], "");
    let addr = proxy.addr();
    let clients: Vec<_> = (0..4)
        .map(|seed| {
            spawn(&format!("client-{seed}"), move || {
                let body = pattern(seed, SIZE);
                let mut client = Client::connect(addr);
                client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n"));
                client.send(&body);
                assert!(client.response_to("POST").expect(200).body == body, "the body has changed");
            })
        })
        .collect();
    for client in clients {
        client.join();
    }
}

on_both_engines!(
    download_with_length,
    download_in_chunks,
    upload_with_length,
    upload_in_chunks,
    several_there_and_back,
);

on_native_over_tls!(
    download_with_length,
    download_in_chunks,
    upload_with_length,
    upload_in_chunks,
    several_there_and_back,
);
