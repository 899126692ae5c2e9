//! After a 101: two connections joined, bytes both ways, each tunnel on a thread of its own.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use socket2::Socket;

use super::call::SLICE;
use super::conn::Conn;
use crate::balance::BackendGuard;
use crate::socket::{Ready, wait};

/// Bytes under way in one direction, at most.
const BUFFER: usize = 16 * 1024;
/// The room for what comes first: most messages are small. Only who fills it gets [`BUFFER`].
const SMALL_BUFFER: usize = 4 * 1024;

/// What the gateway hands on when a backend has switched protocols.
#[derive(Debug)]
pub struct Tunnel {
    pub(crate) backend: Conn,
    /// What came behind the backend's head.
    pub(crate) early: Vec<u8>,
    /// Neither side has sent anything for so long: the tunnel ends.
    pub(crate) idle: Duration,
    /// The tunnel counts as an exchange in flight on its backend.
    pub(crate) guard: BackendGuard,
    pub(crate) permit: Permit,
}

/// All tunnels: how many there may be, and how they end.
#[derive(Debug)]
pub(crate) struct Tunnels {
    max: usize,
    /// Permits given out. Each guards one tunnel, nothing else: `Relaxed`.
    open: Arc<AtomicUsize>,
    started: AtomicUsize,
    /// Read by all of them for each message: a lock would be what they wait for.
    stop: Arc<AtomicBool>,
    running: Mutex<Vec<Running>>,
    alive: Mutex<Option<Sender<()>>>,
    /// Disconnected once `alive` and the last tunnel are gone.
    ended: Receiver<()>,
}

/// A tunnel's thread, and how it is woken.
#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    /// Whatever else is done with them, they are closed as soon as the tunnel lets go of them.
    sockets: [Weak<Socket>; 2],
}

impl Running {
    /// Makes the thread look whether it is told to stop. It may sleep for as long as the tunnel may be idle, waiting for
    /// bytes: the end of the stream counts as such. Nothing of this is sent over TCP; who writes to a Unix socket learns of
    /// it, just before the end.
    fn wake(&self) {
        for socket in self.sockets.iter().filter_map(Weak::upgrade) {
            // Fails only if the connection is gone, and that has woken the thread.
            drop(socket.shutdown(Shutdown::Read));
        }
    }
}

/// One of `max_tunnels`. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tunnels {
    pub(crate) fn new(max: usize) -> Self {
        let (alive, ended) = bounded(0);
        Self {
            max,
            open: Arc::default(),
            started: AtomicUsize::new(0),
            stop: Arc::default(),
            running: Mutex::default(),
            alive: Mutex::new(Some(alive)),
            ended,
        }
    }

    /// A place for one more tunnel. `None` beyond `max_tunnels`.
    pub(crate) fn permit(&self) -> Option<Permit> {
        let count = |open| (open < self.max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).ok()?;
        Some(Permit(Arc::clone(&self.open)))
    }

    /// Tunnels open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Joins `client` and the backend of `tunnel` until one of them ends it. `early`: what the client sent behind its
    /// head. `owner` is kept as long as the tunnel lives.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        tunnel: Tunnel,
        client: Arc<Socket>,
        early: Vec<u8>,
        owner: T,
    ) -> io::Result<()> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stop = Arc::clone(&self.stop);
        let sockets = [&client, tunnel.backend.socket()].map(Arc::downgrade);
        let thread = thread::Builder::new().name(format!("tunnel-{number}")).spawn(move || {
            let _owned = (alive, owner);
            let Tunnel { mut backend, early: from_backend, idle, guard, permit } = tunnel;
            let _counted = (guard, permit);
            let mut client = Conn::plain(client);
            let result = join(&mut client, early, &mut backend, from_backend, idle, &stop);
            log::debug!(
                "tunnel ended reason={:?}",
                result.map_or_else(|error| error.to_string(), str::to_owned)
            );
            // The other holders of the sockets, if any, must not keep the connections open.
            client.shut_down();
            backend.shut_down();
        })?;
        let new = Running { thread, sockets };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|tunnel| !tunnel.thread.is_finished());
        // Who stops the tunnels sets `stop` before taking this lock: either this one is found here, or it is seen here.
        if self.stop.load(Ordering::Acquire) {
            new.wake();
        }
        running.push(new);
        Ok(())
    }

    /// Waits for the tunnels until `deadline`, then ends those that are left. How many those were.
    pub(crate) fn drain(&self, deadline: Instant) -> usize {
        drop(self.alive.lock().unwrap_or_else(PoisonError::into_inner).take());
        let all_ended =
            self.ended.recv_deadline(deadline) != Err(crossbeam_channel::RecvTimeoutError::Timeout);
        let cut = if all_ended { 0 } else { self.open() };
        self.stop.store(true, Ordering::Release);
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        running.iter().for_each(Running::wake);
        for tunnel in running {
            if tunnel.thread.join().is_err() {
                log::error!("a tunnel had panicked");
            }
        }
        cut
    }
}

/// One direction.
struct Pipe {
    buf: Vec<u8>,
    /// `buf[start..end]` is still to be sent.
    start: usize,
    end: usize,
    /// The source has no more.
    ended: bool,
    /// The end was passed on.
    closed: bool,
}

impl Pipe {
    fn new(early: Vec<u8>) -> Self {
        Self { start: 0, end: early.len(), buf: early, ended: false, closed: false }
    }

    fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    fn wants_input(&self) -> bool {
        self.is_empty() && !self.ended
    }

    /// Gives the memory back, unless something is in it.
    fn release(&mut self) {
        if self.is_empty() {
            (self.buf, self.start, self.end) = (Vec::new(), 0, 0);
        }
    }

    /// Moves what can be moved without waiting, from a source that has something to say if `readable`. Whether anything
    /// was moved.
    fn pump(&mut self, from: &mut Conn, to: &mut Conn, readable: bool) -> io::Result<bool> {
        let mut moved = false;
        if readable && self.wants_input() {
            if self.buf.len() < SMALL_BUFFER {
                self.buf.resize(SMALL_BUFFER, 0);
            } else if self.end >= self.buf.len() && self.buf.len() < BUFFER {
                self.buf.resize(BUFFER, 0);
            }
            match from.recv_now(&mut self.buf) {
                Ok(n) => {
                    (self.start, self.end) = (0, n);
                    self.ended = n == 0;
                    moved = true;
                }
                Err(error) if is_again(&error) => {}
                Err(error) => return Err(error),
            }
        }
        while !self.is_empty() || to.has_unsent() {
            match to.send_now(self.buf.get(self.start..self.end).unwrap_or_default(), false) {
                Ok(n) => {
                    self.start += n;
                    moved = true;
                }
                Err(error) if is_again(&error) => return Ok(moved),
                Err(error) => return Err(error),
            }
        }
        if self.ended && !self.closed {
            match to.finish() {
                Ok(()) => self.closed = true,
                Err(error) if is_again(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }
}

fn is_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Copies both ways until both sides have ended, one breaks, nothing moves for `idle`, or told to stop. Says why it ended.
fn join(
    client: &mut Conn,
    from_client: Vec<u8>,
    backend: &mut Conn,
    from_backend: Vec<u8>,
    idle: Duration,
    stop: &AtomicBool,
) -> io::Result<&'static str> {
    let mut up = Pipe::new(from_client);
    let mut down = Pipe::new(from_backend);
    let mut moved_at = Instant::now();
    let (mut client_speaks, mut backend_speaks) = (false, false);
    // Before anything is read: what wakes a tunnel that has to stop looks like the end of both streams.
    while !stop.load(Ordering::Acquire) {
        let moved_up = up.pump(client, backend, client_speaks)?;
        let moved_down = down.pump(backend, client, backend_speaks)?;
        if up.closed && down.closed {
            return Ok("both sides ended");
        }
        let now = Instant::now();
        if moved_up || moved_down {
            moved_at = now;
        }
        let quiet = now.duration_since(moved_at);
        let left = idle.saturating_sub(quiet);
        if left.is_zero() && !(moved_up || moved_down) {
            return Ok("idle");
        }
        // What is decrypted already makes no socket readable.
        client_speaks = up.wants_input() && client.has_input();
        backend_speaks = down.wants_input() && backend.has_input();
        let limit = if client_speaks || backend_speaks {
            Duration::ZERO
        } else if quiet < SLICE || !(up.wants_input() || down.wants_input()) {
            // Who waits for no bytes is not woken to stop, and has to look by itself.
            left.min(SLICE)
        } else {
            // It may be long until somebody speaks again.
            up.release();
            down.release();
            left
        };
        let client_wants = Ready {
            readable: up.wants_input(),
            writable: !down.is_empty() || client.has_unsent(),
            hung_up: false,
        };
        let backend_wants = Ready {
            readable: down.wants_input(),
            writable: !up.is_empty() || backend.has_unsent(),
            hung_up: false,
        };
        let mut both = [(&**client.socket(), client_wants), (&**backend.socket(), backend_wants)];
        let [client_is, backend_is] = &mut both;
        // A side that is gone would be reported for ever, while what it sent last has not left yet: of whom nothing is
        // wanted, nothing is asked.
        let nothing = Ready::default();
        match (client_wants == nothing, backend_wants == nothing) {
            (true, true) => wait(&mut [], limit)?,
            (true, false) => wait(std::array::from_mut(backend_is), limit)?,
            (false, true) => wait(std::array::from_mut(client_is), limit)?,
            (false, false) => wait(&mut both, limit)?,
        }
        let [(_, client_is), (_, backend_is)] = both;
        client_speaks |= client_wants.readable && client_is.readable;
        backend_speaks |= backend_wants.readable && backend_is.readable;
    }
    Ok("drain deadline")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    fn pair() -> (TcpStream, Conn) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (ours, Conn::plain(Arc::new(Socket::from(listener.accept().unwrap().0))))
    }

    #[test]
    fn early_bytes_half_close_and_large_volumes_pass_both_ways() {
        let (mut client, mut client_side) = pair();
        let (mut backend, mut backend_side) = pair();
        let tunnel = thread::Builder::new()
            .spawn(move || {
                let idle = Duration::from_secs(60);
                let stop = AtomicBool::new(false);
                let (up, down) = (b"up".to_vec(), b"down".to_vec());
                join(&mut client_side, up, &mut backend_side, down, idle, &stop).unwrap()
            })
            .unwrap();
        let mut four = [0; 4];
        client.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"down");
        client.write_all(b"!").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut all = String::new();
        backend.read_to_string(&mut all).unwrap();
        assert_eq!(all, "up!");
        // The other direction is open still, and carries more than all buffers hold.
        let sender = thread::Builder::new()
            .spawn(move || {
                let data = vec![7; 5_000_000];
                backend.write_all(&data).unwrap();
                drop(backend);
            })
            .unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 5_000_000);
        sender.join().unwrap();
        assert_eq!(tunnel.join().unwrap(), "both sides ended");
    }

    #[test]
    fn silence_ends_it() {
        let (_client, mut client_side) = pair();
        let (_backend, mut backend_side) = pair();
        let idle = Duration::from_millis(20);
        let ended =
            join(&mut client_side, Vec::new(), &mut backend_side, Vec::new(), idle, &AtomicBool::new(false));
        assert_eq!(ended.unwrap(), "idle");
    }
}
