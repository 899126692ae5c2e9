//! The plainest threads there are, for comparison: `thread-proxy LISTEN BACKEND...`.
//!
//! A thread per client connection with a connection of its own to every backend, blocking reads and writes on plain
//! sockets, round robin. Knows just enough HTTP for the benchmark: requests without a body, answers with a
//! Content-Length. What a fixed pool of workers has to reach when backends are slow.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use peers::{content_length, head_length};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listener = TcpListener::bind(arguments.next().ok_or("usage: thread-proxy LISTEN BACKEND...")?)?;
    let backends: Arc<[String]> = arguments.collect();
    let turn = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        let (client, backends, turn) = (client?, Arc::clone(&backends), Arc::clone(&turn));
        thread::Builder::new().stack_size(128 * 1024).spawn(move || serve(client, &backends, &turn))?;
    }
    Ok(())
}

fn serve(mut client: TcpStream, backends: &[String], turn: &AtomicUsize) -> io::Result<()> {
    client.set_nodelay(true)?;
    let address = client.peer_addr()?.ip();
    let mut open: Vec<Option<TcpStream>> = backends.iter().map(|_| None).collect();
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    loop {
        request.clear();
        let Some(end) = read_head(&mut client, &mut request)? else { return Ok(()) };
        let forwarded = format!("X-Forwarded-For: {address}\r\n\r\n");
        request.splice(end - 2..end, forwarded.bytes());

        let turn = turn.fetch_add(1, Ordering::Relaxed) % backends.len();
        let backend = match &mut open[turn] {
            Some(backend) => backend,
            none => {
                let backend = TcpStream::connect(&backends[turn])?;
                backend.set_nodelay(true)?;
                none.insert(backend)
            }
        };
        backend.write_all(&request)?;
        answer.clear();
        let end = read_head(backend, &mut answer)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let total = end + content_length(&answer[..end]).ok_or(io::ErrorKind::InvalidData)?;
        while answer.len() < total {
            read_more(backend, &mut answer)?;
        }
        client.write_all(&answer)?;
    }
}

/// Reads until a head is complete; its length, or `None` if the other side closes.
fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    loop {
        match read_more(stream, buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        if let Some(end) = head_length(buffer) {
            return Ok(Some(end));
        }
    }
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    let filled = buffer.len();
    buffer.resize(filled + 16 * 1024, 0);
    let read = stream.read(&mut buffer[filled..]);
    buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
    if read? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
