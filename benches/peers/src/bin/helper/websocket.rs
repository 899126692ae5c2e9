//! WebSockets, as a client: each sends a message of 64 bytes, waits until it is back, and sends the next.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use peers::head_length;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Fault;

/// The example of RFC 6455, section 1.3. The client always sends this key.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MESSAGE: [u8; 64] = [b'm'; 64];
const PATIENCE: Duration = Duration::from_secs(5);

pub async fn drive(addr: SocketAddr, connections: usize, time: Duration) -> Result<(), Fault> {
    let mut opened = Vec::new();
    let mut errors = 0;
    for _ in 0..connections {
        match WebSocket::open(addr).await {
            Ok(socket) => opened.push(socket),
            Err(error) => {
                eprintln!("helper: {error}");
                errors += 1;
            }
        }
    }
    let start = Instant::now();
    let exchanges = opened.into_iter().map(|socket| tokio::spawn(exchange(socket, start + time)));
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

/// One message after the other until `end`. The microseconds each took, and whether it ended in an error.
async fn exchange(mut socket: WebSocket, end: Instant) -> (Vec<u32>, bool) {
    let mut latencies = Vec::new();
    loop {
        let start = Instant::now();
        if start >= end {
            return (latencies, false);
        }
        match socket.there_and_back().await {
            Ok(()) => latencies.push(start.elapsed().as_micros() as u32),
            Err(_) => return (latencies, true),
        }
    }
}

/// One that is open.
pub struct WebSocket {
    stream: TcpStream,
    message: Vec<u8>,
    expected: Vec<u8>,
    answer: Vec<u8>,
}

impl WebSocket {
    pub async fn open(addr: SocketAddr) -> Result<Self, Fault> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while head_length(&head).is_none() {
            if stream.read_buf(&mut head).await? == 0 {
                return Err("closed instead of an answer".into());
            }
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().into());
        }
        // A final binary frame, masked, with a mask that changes nothing.
        let message = [&[0x82, 0x80 | MESSAGE.len() as u8, 0, 0, 0, 0], &MESSAGE[..]].concat();
        let expected = [&[0x82, MESSAGE.len() as u8], &MESSAGE[..]].concat();
        let answer = vec![0; expected.len()];
        Ok(Self { stream, message, expected, answer })
    }

    /// Sends a message and waits until it is back.
    pub async fn there_and_back(&mut self) -> Result<(), Fault> {
        let round = async {
            self.stream.write_all(&self.message).await?;
            self.stream.read_exact(&mut self.answer).await
        };
        timeout(PATIENCE, round).await.map_err(|_| "a message is not back after 5 s")??;
        if self.answer == self.expected { Ok(()) } else { Err("another message came back".into()) }
    }

    /// Returns when something comes without having been asked for, or the connection ends.
    pub async fn disturbed(&mut self) -> Fault {
        match self.stream.read(&mut self.answer).await {
            Ok(0) => "closed while idle".into(),
            Ok(_) => "a message that nobody has sent".into(),
            Err(error) => error.into(),
        }
    }
}
