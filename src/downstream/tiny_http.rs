//! The second way in: a `tiny_http::Server` whose `recv` loop feeds the workers. The smallest amount of own code, for
//! trusted networks only: it limits neither the time nor the size of a head, it can't close a connection, and a
//! request that is dropped with a large part of its body unread allocates that part.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::HeaderValue;
use socket2::Socket;
use tiny_http::{Request, Server};

use super::answer;
use super::exchange::Client;
use crate::error::Cause;
use crate::gateway::Gateway;
use crate::http::framing::BodyFraming;
use crate::http::head::{HeadError, HeadLimits, RequestHead, Version};
use crate::stop::StopToken;
use crate::workers::pool::Pool;
use crate::workers::reserve::{Look, TICK};

/// While no work is queued, the loop looks after this long whether it was told to stop, should the wake-up get lost.
const LOOK_UP: Duration = Duration::from_millis(500);

/// A body up to this long is kept, to be sent again when a backend fails.
const REPLAYABLE: u64 = 64 * 1024;

/// The loop that takes requests from tiny_http and queues them.
pub(crate) struct TinyHttp {
    stop: StopToken,
    server: Arc<Server>,
    thread: JoinHandle<()>,
}

impl TinyHttp {
    /// Takes requests from `listener` until told to stop.
    pub(crate) fn start(
        listener: TcpListener,
        pool: Arc<Pool<Request>>,
        gateway: Arc<Gateway>,
    ) -> io::Result<Self> {
        let server =
            Server::from_listener(listener, None).map_err(|error| io::Error::other(error.to_string()))?;
        let server = Arc::new(server);
        let stop = StopToken::new();
        let (token, same) = (stop.clone(), Arc::clone(&server));
        let thread = thread::Builder::new()
            .name("tiny-http".to_owned())
            .spawn(move || receive(&same, &pool, &gateway, &token))?;
        Ok(Self { stop, server, thread })
    }

    /// Stops accepting. What has been received is queued.
    pub(crate) fn stop(self) {
        self.stop.stop();
        self.server.unblock();
        if self.thread.join().is_err() {
            log::error!("the tiny-http thread had panicked");
        }
    }
}

fn receive(server: &Server, pool: &Pool<Request>, gateway: &Gateway, stop: &StopToken) {
    let mut work_waits = false;
    let mut look = Look::of_this_thread();
    loop {
        let received = server.recv_timeout(if work_waits { TICK } else { LOOK_UP });
        match received {
            Ok(Some(request)) => {
                if let Err(request) = pool.submit(request) {
                    gateway.counters.count(Cause::Overloaded);
                    let mut client = TinyClient::new(request, BodyFraming::None);
                    log::debug!("refused client={} cause={}", client.address, Cause::Overloaded);
                    let bytes = answer::refusal(Cause::Overloaded, Version::Http11, false, false);
                    drop(client.write(&bytes));
                }
            }
            Ok(None) if stop.is_stopped() => return,
            Ok(None) => {}
            Err(error) => {
                // tiny_http's accept loop has ended; what it had accepted is still served.
                log::error!(
                    "tiny_http accepts no further connections: {error}; restart the proxy, or use engine = \"native\""
                );
                if stop.sleep(Duration::from_secs(1)) {
                    return;
                }
            }
        }
        work_waits = pool.call_reserve(&mut look);
    }
}

/// What a worker does with a request.
pub(crate) fn serve(request: Request, gateway: &Gateway, limits: &HeadLimits) {
    match head_of(&request, limits) {
        Ok(head) => {
            let mut client = TinyClient::new(request, head.framing);
            gateway.serve(&head, &mut client, std::time::Instant::now());
        }
        Err(error) => {
            let cause = Cause::Head(error);
            gateway.counters.count(cause);
            let is_head = request.method() == &tiny_http::Method::Head;
            let mut client = TinyClient::new(request, BodyFraming::None);
            log::debug!("refused client={} cause={cause}", client.address);
            drop(client.write(&answer::refusal(cause, Version::Http11, is_head, false)));
        }
    }
}

fn head_of(request: &Request, limits: &HeadLimits) -> Result<RequestHead, HeadError> {
    let version = if request.http_version().1 == 0 { Version::Http10 } else { Version::Http11 };
    let fields = request
        .headers()
        .iter()
        .map(|header| (header.field.as_str().as_str().as_bytes(), header.value.as_str().as_bytes()));
    RequestHead::from_parts(
        request.method().as_str().as_bytes(),
        request.url().as_bytes(),
        version,
        fields,
        limits,
    )
}

/// The client of one request. tiny_http gives either the request, whose body can be read, or the writer.
struct TinyClient {
    state: State,
    address: IpAddr,
    forwarded_for: HeaderValue,
    framing: BodyFraming,
    /// Bytes read of the body.
    read: u64,
    /// The body was read to its end.
    ended: bool,
    /// All that was read, unless it is more than [`REPLAYABLE`]; as far as `replayed`, it was given out (again).
    kept: Vec<u8>,
    replayed: usize,
}

enum State {
    Request(Request),
    Writer(Box<dyn Write + Send>),
    Taken,
}

impl TinyClient {
    fn new(request: Request, framing: BodyFraming) -> Self {
        let address = request.remote_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), SocketAddr::ip);
        let forwarded_for = HeaderValue::from_str(&address.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let ended = matches!(framing, BodyFraming::None | BodyFraming::Length(0));
        let (read, kept, replayed) = (0, Vec::new(), 0);
        Self { state: State::Request(request), address, forwarded_for, framing, read, ended, kept, replayed }
    }

    fn writer(&mut self) -> io::Result<&mut (dyn Write + Send)> {
        let state = std::mem::replace(&mut self.state, State::Taken);
        self.state = match state {
            State::Request(mut request) => {
                if !self.ended {
                    // Dropped with unread bytes, the request would allocate room for all of them at once.
                    // That it can't be read to its end is no reason not to answer.
                    drop(io::copy(request.as_reader(), &mut io::sink()));
                }
                State::Writer(request.into_writer())
            }
            other => other,
        };
        match &mut self.state {
            State::Writer(writer) => Ok(writer),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Client for TinyClient {
    fn address(&self) -> IpAddr {
        self.address
    }

    fn forwarded_for(&self) -> &HeaderValue {
        &self.forwarded_for
    }

    fn socket(&self) -> Option<&Arc<Socket>> {
        None
    }

    fn read_body(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Cause> {
        let kept = self.kept.get(self.replayed..).unwrap_or_default();
        if let Some(n) = Some(kept.len().min(buf.len())).filter(|n| *n > 0) {
            if let (Some(kept), Some(buf)) = (kept.get(..n), buf.get_mut(..n)) {
                buf.copy_from_slice(kept);
            }
            self.replayed += n;
            return Ok(Some(n));
        }
        let State::Request(request) = &mut self.state else { return Ok(Some(0)) };
        if self.ended {
            return Ok(Some(0));
        }
        let n = request.as_reader().read(buf).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Cause::BadBody,
            _ => Cause::ClientLeft,
        })?;
        self.read += n as u64;
        if self.read <= REPLAYABLE {
            self.kept.extend_from_slice(buf.get(..n).unwrap_or_default());
        } else {
            self.kept = Vec::new();
        }
        self.replayed = self.kept.len();
        if n == 0 {
            self.ended = true;
            if matches!(self.framing, BodyFraming::Length(length) if self.read < length) {
                return Err(Cause::ClientLeft);
            }
        }
        Ok(Some(n))
    }

    fn rewind_body(&mut self) -> bool {
        self.replayed = 0;
        self.read <= REPLAYABLE
    }

    fn can_keep_alive(&self) -> bool {
        true
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writer = self.writer()?;
        writer.write_all(bytes)?;
        // tiny_http would keep up to 1 KiB to itself.
        writer.flush()
    }
}
