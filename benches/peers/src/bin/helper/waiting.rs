//! Clients that wait: for a long time, many at once, and with little to do for a proxy meanwhile.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use peers::{content_length, head_length};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{interval, sleep, timeout};

use crate::Fault;
use crate::origin::{EVENT, EVENTS_APART, FILLER, POLL};
use crate::websocket::WebSocket;

/// So many are opened at once, with a pause between: a burst is not what is measured.
const BATCH: usize = 50;
const PAUSE: Duration = Duration::from_millis(20);
/// How late an answer, an event or the next bytes may be.
const PATIENCE: Duration = Duration::from_secs(10);

/// A slow reader takes so many bytes each second.
const PER_SECOND: usize = 1024;
const AT_ONCE: usize = 64 * 1024;
/// Segments as on an Ethernet, and a small window: with the segments of loopback, of 64 KiB, the proxy's kernel would
/// take in all of the answer at once.
const SEGMENT: u32 = 1460;
const WINDOW: u32 = 16 * 1024;

#[derive(Clone, Copy)]
pub enum Kind {
    /// Reads a large answer, 1 KiB each second, and at the end the rest at once.
    SlowReaders,
    /// Asks for what takes 15 s, again and again.
    LongPolls,
    /// Has a stream of events open.
    EventStreams,
    /// Has a WebSocket open and says nothing between its first and its last message.
    Tunnels,
}

impl FromStr for Kind {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        match text {
            "slow-readers" => Ok(Self::SlowReaders),
            "long-polls" => Ok(Self::LongPolls),
            "event-streams" => Ok(Self::EventStreams),
            "tunnels" => Ok(Self::Tunnels),
            _ => Err("there are slow-readers, long-polls, event-streams and tunnels".into()),
        }
    }
}

/// Opens `count`, says so, and keeps them waiting until the input ends. A long poll is over when it has been answered
/// at least once.
pub async fn wait(kind: Kind, addr: SocketAddr, count: usize) -> Result<(), Fault> {
    let (stop, stopped) = watch::channel(false);
    let mut clients = JoinSet::new();
    let mut open = 0;
    for first in (0..count).step_by(BATCH) {
        let mut batch = Vec::new();
        for _ in first..count.min(first + BATCH) {
            let (ready, opened) = oneshot::channel();
            clients.spawn(run(kind, addr, ready, Stop(stopped.clone())));
            batch.push(opened);
        }
        for opened in batch {
            open += usize::from(opened.await.is_ok());
        }
        sleep(PAUSE).await;
    }
    println!("{{\"open\":{open}}}");
    io::stdout().flush()?;
    spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;

    stop.send(true)?;
    let mut reasons = BTreeMap::<String, usize>::new();
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended? {
            *reasons.entry(error.to_string()).or_default() += 1;
        }
    }
    for (reason, times) in &reasons {
        eprintln!("helper: {times} × {reason}");
    }
    println!("{{\"failures\":{}}}", reasons.values().sum::<usize>());
    Ok(())
}

/// Tells a client when it is time to end.
struct Stop(watch::Receiver<bool>);

impl Stop {
    async fn wait(&mut self) {
        // An error means that nobody can say so any more.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

async fn run(kind: Kind, addr: SocketAddr, ready: oneshot::Sender<()>, stop: Stop) -> Result<(), Fault> {
    match kind {
        Kind::SlowReaders => slow_reader(addr, ready, stop).await,
        Kind::LongPolls => long_poll(addr, ready, stop).await,
        Kind::EventStreams => event_stream(addr, ready, stop).await,
        Kind::Tunnels => tunnel(addr, ready, stop).await,
    }
}

async fn slow_reader(addr: SocketAddr, ready: oneshot::Sender<()>, mut stop: Stop) -> Result<(), Fault> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    let socket = TcpSocket::from_std_stream(socket.into());
    socket.set_recv_buffer_size(WINDOW)?;
    let mut client = Client::new(socket.connect(addr).await?);
    client.ask(addr, "/large").await?;
    let mut left = client.head(PATIENCE).await?.ok_or("an answer of unknown length")?;
    let mut seconds = interval(Duration::from_secs(1));
    seconds.tick().await;
    let mut ready = Some(ready);
    let mut at_once = PER_SECOND;
    while left > 0 {
        let wanted = left.min(at_once);
        let piece = client.take(wanted, PATIENCE).await?;
        if piece.iter().any(|byte| *byte != FILLER) {
            return Err("not what the backend has sent".into());
        }
        left -= wanted;
        if let Some(ready) = ready.take() {
            let _ = ready.send(());
        }
        tokio::select! {
            _ = seconds.tick() => {}
            // The rest shows that there is more behind than what the kernel held.
            () = stop.wait() => at_once = AT_ONCE,
        }
    }
    Ok(())
}

async fn long_poll(addr: SocketAddr, ready: oneshot::Sender<()>, mut stop: Stop) -> Result<(), Fault> {
    let mut client = Client::new(TcpStream::connect(addr).await?);
    client.ask(addr, "/poll").await?;
    let _ = ready.send(());
    client.answer(POLL + PATIENCE).await?;
    loop {
        let again = async {
            client.ask(addr, "/poll").await?;
            client.answer(POLL + PATIENCE).await
        };
        tokio::select! {
            answered = again => answered?,
            () = stop.wait() => return Ok(()),
        }
    }
}

async fn event_stream(addr: SocketAddr, ready: oneshot::Sender<()>, mut stop: Stop) -> Result<(), Fault> {
    // Events come one by one, each in a chunk of its own, whatever is in front of the backend.
    let event = format!("{:x}\r\n{EVENT}\r\n", EVENT.len());
    let mut client = Client::new(TcpStream::connect(addr).await?);
    client.ask(addr, "/events").await?;
    client.head(PATIENCE).await?;
    let mut ready = Some(ready);
    loop {
        tokio::select! {
            came = client.take(event.len(), EVENTS_APART + PATIENCE) => {
                if !came?.eq_ignore_ascii_case(event.as_bytes()) {
                    return Err("not the event that the backend has sent".into());
                }
            }
            () = stop.wait() => return Ok(()),
        }
        if let Some(ready) = ready.take() {
            let _ = ready.send(());
        }
    }
}

async fn tunnel(addr: SocketAddr, ready: oneshot::Sender<()>, mut stop: Stop) -> Result<(), Fault> {
    let mut socket = timeout(PATIENCE, WebSocket::open(addr)).await.map_err(|_| "not open after 10 s")??;
    socket.there_and_back().await?;
    let _ = ready.send(());
    tokio::select! {
        fault = socket.disturbed() => return Err(fault),
        () = stop.wait() => {}
    }
    socket.there_and_back().await
}

/// A connection on which one answer after the other is read.
struct Client {
    stream: TcpStream,
    /// What has come and has not been taken.
    buffer: Vec<u8>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    async fn ask(&mut self, addr: SocketAddr, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await
    }

    /// The head of a good answer; the length of the body, if it says so.
    async fn head(&mut self, patience: Duration) -> Result<Option<usize>, Fault> {
        let length = loop {
            if let Some(length) = head_length(&self.buffer) {
                break length;
            }
            self.more(4096, patience).await?;
        };
        let head: Vec<u8> = self.buffer.drain(..length).collect();
        if !head.starts_with(b"HTTP/1.1 200 ") {
            return Err(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().into());
        }
        Ok(content_length(&head))
    }

    async fn answer(&mut self, patience: Duration) -> Result<(), Fault> {
        let length = self.head(patience).await?.ok_or("an answer of unknown length")?;
        self.take(length, patience).await?;
        Ok(())
    }

    /// The next bytes of a body, as many as that. Nothing is lost when this is given up and tried again.
    async fn take(&mut self, length: usize, patience: Duration) -> Result<Vec<u8>, Fault> {
        while self.buffer.len() < length {
            self.more(length - self.buffer.len(), patience).await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn more(&mut self, most: usize, patience: Duration) -> Result<(), Fault> {
        let mut limited = (&mut self.stream).take(most as u64);
        match timeout(patience, limited.read_buf(&mut self.buffer)).await {
            Err(_) => Err(format!("nothing came for {} s", patience.as_secs()).into()),
            Ok(Ok(0)) => Err("closed before its end".into()),
            Ok(read) => Ok(read.map(drop)?),
        }
    }
}
