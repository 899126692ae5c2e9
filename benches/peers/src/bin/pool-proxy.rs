//! A poller and a pool of workers, for comparison: `pool-proxy LISTEN BACKEND...`.
//!
//! One thread polls and reads requests, a channel, four workers per core, blocking reads and writes on plain sockets,
//! round robin. Knows just enough HTTP for the benchmark: requests without a body, answers with a Content-Length, nobody
//! who fails. What it costs is the price of handing requests from thread to thread.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use peers::{content_length, head_length};
use rustix::event::epoll::{self, EventData, EventFlags};

const ONCE: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);
const LISTENER: u64 = u64::MAX;

struct Connection {
    client: TcpStream,
    request: Vec<u8>,
    is_new: bool,
}

/// Where connections wait for a request, by descriptor.
struct Room {
    epoll: OwnedFd,
    parked: Vec<Mutex<Option<Connection>>>,
}

struct Backend {
    address: String,
    idle: Mutex<Vec<TcpStream>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listener = TcpListener::bind(arguments.next().ok_or("usage: pool-proxy LISTEN BACKEND...")?)?;
    let backends: Arc<[Backend]> =
        arguments.map(|address| Backend { address, idle: Mutex::default() }).collect();
    let room = Arc::new(Room {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        parked: (0..4096).map(|_| Mutex::default()).collect(),
    });
    epoll::add(&room.epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let (jobs, queue) = bounded(4096);
    let turn = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 * thread::available_parallelism()?.get() {
        let (queue, room, backends) = (queue.clone(), Arc::clone(&room), Arc::clone(&backends));
        let turn = Arc::clone(&turn);
        thread::spawn(move || work(&queue, &room, &backends, &turn));
    }

    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        events.clear();
        match epoll::wait(&room.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            // Whoever counts its instructions (benches/layers) sends it signals.
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited?,
        };
        for event in &events {
            let mut connection = match event.data.u64() {
                LISTENER => {
                    let client = listener.accept()?.0;
                    client.set_nodelay(true)?;
                    room.park(Connection { client, request: Vec::new(), is_new: true })?;
                    continue;
                }
                descriptor => match lock(&room.parked[usize::try_from(descriptor)?]).take() {
                    Some(connection) => connection,
                    None => continue,
                },
            };
            let read = connection.client.read(&mut buffer).unwrap_or(0);
            connection.request.extend_from_slice(&buffer[..read]);
            if head_length(&connection.request).is_some() {
                jobs.send(connection)?;
            } else if read > 0 {
                room.park(connection)?;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    fn park(&self, mut connection: Connection) -> io::Result<()> {
        let descriptor = connection.client.as_raw_fd();
        let mut slot = lock(&self.parked[usize::try_from(descriptor).map_err(io::Error::other)?]);
        let is_new = std::mem::take(&mut connection.is_new);
        let data = EventData::new_u64(descriptor as u64);
        let client = &slot.insert(connection).client;
        if is_new {
            epoll::add(&self.epoll, client, data, ONCE)?;
        } else {
            epoll::modify(&self.epoll, client, data, ONCE)?;
        }
        Ok(())
    }
}

fn work(queue: &Receiver<Connection>, room: &Room, backends: &[Backend], turn: &AtomicUsize) {
    let mut answer = vec![0; 32 * 1024];
    for mut connection in queue {
        let backend = &backends[turn.fetch_add(1, Ordering::Relaxed) % backends.len()];
        let served = serve(&mut connection, backend, &mut answer);
        if let Err(error) = served.and_then(|()| room.park(connection)) {
            eprintln!("pool-proxy: {error}");
        }
    }
}

fn serve(connection: &mut Connection, backend: &Backend, answer: &mut [u8]) -> io::Result<()> {
    let end = head_length(&connection.request).ok_or(io::ErrorKind::InvalidData)?;
    connection.request.splice(end - 2..end, *b"X-Forwarded-For: 127.0.0.1\r\n\r\n");
    let idle = lock(&backend.idle).pop();
    let mut upstream = match idle {
        Some(upstream) => upstream,
        None => {
            let upstream = TcpStream::connect(&backend.address)?;
            upstream.set_nodelay(true)?;
            upstream
        }
    };
    upstream.write_all(&connection.request)?;
    connection.request.clear();
    let mut filled = 0;
    loop {
        let read = upstream.read(&mut answer[filled..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let Some(end) = head_length(&answer[..filled]) else { continue };
        if filled == end + content_length(&answer[..end]).ok_or(io::ErrorKind::InvalidData)? {
            break;
        }
    }
    lock(&backend.idle).push(upstream);
    connection.client.write_all(&answer[..filled])
}
