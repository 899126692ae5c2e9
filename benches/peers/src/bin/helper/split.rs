//! An origin that writes the head of each answer and then its body, with Nagle's algorithm on: the kernel keeps the body
//! back until the head is acknowledged. Many programs do so without knowing. Who acknowledges late waits for 40 ms.

use std::io;

use peers::head_length;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 72\r\n\r\n";
const BODY: &[u8; 72] = b"reverse-proxy benchmark: a small answer of seventy-two bytes, as it is.\n";

pub async fn serve(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let _ = answer(stream).await;
        });
    }
}

/// Answers every request, whatever it asks for, until the proxy closes. Requests have no body.
async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::with_capacity(4096);
    while stream.read_buf(&mut request).await? > 0 {
        while let Some(length) = head_length(&request) {
            request.drain(..length);
            stream.write_all(HEAD).await?;
            stream.write_all(BODY).await?;
        }
    }
    Ok(())
}
