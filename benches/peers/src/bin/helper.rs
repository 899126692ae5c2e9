//! What the benchmark needs beside nginx and wrk.
//!
//! - `helper origin LISTEN...`: an origin for what nginx does not serve by itself. `/slow` answers after 20 ms,
//!   `/soon` after 2 ms, `/chunked` in eight chunks of 1 KiB, `/upload` after having read the body, `/ws` is a WebSocket that sends
//!   every message back, `/head` shows the fields it was asked with.
//! - `helper websocket ADDR CONNECTIONS SECONDS`: so many WebSockets, each of which sends a message of 64 bytes,
//!   waits until it is back, and sends the next. Prints one line of JSON.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SLOW: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_millis(2);
const CHUNKS: usize = 8;
const CHUNK: Bytes = Bytes::from_static(&[b'x'; 1024]);
/// The example of RFC 6455, section 1.3. The client always sends this key.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MESSAGE: [u8; 64] = [b'm'; 64];

type Fault = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["origin", listen @ ..] if !listen.is_empty() => {
            let mut ports = Vec::new();
            for addr in listen {
                let listener = TcpListener::bind(addr).await?;
                ports.push(tokio::spawn(origin(listener)));
            }
            for port in ports {
                port.await?;
            }
            Ok(())
        }
        ["websocket", addr, connections, seconds] => {
            websockets(addr.parse()?, connections.parse()?, Duration::from_secs_f64(seconds.parse()?)).await
        }
        _ => Err("usage: helper origin LISTEN... | helper websocket ADDR CONNECTIONS SECONDS".into()),
    }
}

async fn origin(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(serve))
                .with_upgrades()
                .await;
        });
    }
}

async fn serve(mut request: Request<Incoming>) -> Result<Response<Answer>, Fault> {
    Ok(match request.uri().path() {
        "/slow" => {
            tokio::time::sleep(SLOW).await;
            text("slow but steady\n")
        }
        "/soon" => {
            tokio::time::sleep(SOON).await;
            text("soon and steady\n")
        }
        "/chunked" => Response::new(Answer { piece: CHUNK, left: CHUNKS, length: None }),
        "/upload" => {
            let mut length = 0;
            while let Some(frame) = request.body_mut().frame().await {
                length += frame?.data_ref().map_or(0, Bytes::len);
            }
            text(format!("{length}\n"))
        }
        "/ws" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    let _ = echo(TokioIo::new(upgraded)).await;
                }
            });
            let mut response = Response::new(Answer { piece: Bytes::new(), left: 0, length: None });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(WEBSOCKET_ACCEPT));
            response
        }
        "/head" => text(format!("{:#?}\n", request.headers())),
        _ => {
            let mut response = text("no such thing\n");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

fn text(text: impl Into<Bytes>) -> Response<Answer> {
    let piece = text.into();
    let length = Some(piece.len() as u64);
    Response::new(Answer { piece, left: 1, length })
}

/// A body: `piece`, so many times. Without a length it is sent chunked.
struct Answer {
    piece: Bytes,
    left: usize,
    length: Option<u64>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Sends every frame back unmasked, until the client closes. Frames of up to 125 bytes are all there is.
async fn echo(mut client: TokioIo<Upgraded>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    while client.read_buf(&mut buffer).await? > 0 {
        let mut answer = Vec::with_capacity(buffer.len());
        while let [start, second, rest @ ..] = buffer.as_slice() {
            let length = usize::from(second & 0x7f);
            let Some((mask, rest)) = rest.split_first_chunk::<4>() else { break };
            let Some(payload) = rest.get(..length) else { break };
            answer.extend([*start, second & 0x7f]);
            answer.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            buffer.drain(..6 + length);
        }
        client.write_all(&answer).await?;
    }
    Ok(())
}

async fn websockets(addr: SocketAddr, connections: usize, time: Duration) -> Result<(), Fault> {
    let mut opened = Vec::new();
    let mut errors = 0;
    for _ in 0..connections {
        match open(addr).await {
            Ok(stream) => opened.push(stream),
            Err(error) => {
                eprintln!("helper: {error}");
                errors += 1;
            }
        }
    }
    let start = Instant::now();
    let exchanges = opened.into_iter().map(|stream| tokio::spawn(exchange(stream, start + time)));
    let mut latencies = Vec::new();
    for exchange in exchanges.collect::<Vec<_>>() {
        let (mut some, failed) = exchange.await?;
        errors += usize::from(failed);
        latencies.append(&mut some);
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| {
        let position = (latencies.len() as f64 * share) as usize;
        latencies.get(position).or(latencies.last()).copied().unwrap_or_default()
    };
    println!(
        "{{\"requests\":{},\"seconds\":{seconds:.6},\"p50_us\":{},\"p99_us\":{},\"errors\":{errors}}}",
        latencies.len(),
        at(0.5),
        at(0.99)
    );
    Ok(())
}

async fn open(addr: SocketAddr) -> Result<TcpStream, Fault> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Err("closed instead of an answer".into());
        }
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().into());
    }
    Ok(stream)
}

/// One message after the other until `end`. The microseconds each took, and whether it ended in an error.
async fn exchange(mut stream: TcpStream, end: Instant) -> (Vec<u32>, bool) {
    // A final binary frame, masked, with a mask that changes nothing.
    let message = [&[0x82, 0x80 | MESSAGE.len() as u8, 0, 0, 0, 0], &MESSAGE[..]].concat();
    let expected = [&[0x82, MESSAGE.len() as u8], &MESSAGE[..]].concat();
    let mut latencies = Vec::new();
    let mut answer = vec![0; expected.len()];
    loop {
        let start = Instant::now();
        if start >= end {
            return (latencies, false);
        }
        let round = async {
            stream.write_all(&message).await?;
            stream.read_exact(&mut answer).await
        };
        match tokio::time::timeout(Duration::from_secs(5), round).await {
            Ok(Ok(_)) if answer == expected => latencies.push(start.elapsed().as_micros() as u32),
            _ => return (latencies, true),
        }
    }
}
