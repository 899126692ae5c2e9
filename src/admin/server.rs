//! [`Admin`]: the listener and the threads that answer. One request on each connection, with a limit for everything: whoever
//! is slow gets seconds, not a thread.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::view::{View, rules};
use super::{control, metrics, origin, status};
use crate::config::ListenAddr;
use crate::downstream::listener::Listener;
use crate::http::head::{HeadLimits, RequestHead, Scan, scan};
use crate::http::response_out::{write_date, write_decimal, write_field, write_status_line};
use crate::logging::panics::panic_message;
use crate::logging::sparingly::log_sparingly;
use crate::stop::join_within;

/// Threads that answer, and so connections that are looked at. Others wait in the backlog.
const THREADS: usize = 4;
/// A thread looks after this long whether it was told to stop.
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// What a client gets to send its request in, and to take its answer in.
const PATIENCE: Duration = Duration::from_secs(2);
/// For what a client sends behind its request: closing with unread bytes would reset the connection, and the answer with it.
const LINGER: Duration = Duration::from_millis(200);
/// When the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
/// What threads that are answering get to finish when the proxy ends.
const STOP_GRACE: Duration = Duration::from_millis(300);
const LIMITS: HeadLimits = HeadLimits { max_header_bytes: 16 * 1024, max_headers: 64 };

const PAGE: &str = include_str!("page.html");

/// The running listener. Dropping it ends its threads, and waits for them, but not for clients that keep them.
#[derive(Debug)]
pub(crate) struct Admin {
    addr: ListenAddr,
    is_stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Admin {
    /// Starts the threads `admin-N`.
    ///
    /// # Errors
    /// A thread can't be started.
    pub(crate) fn start(listener: Listener, view: &View) -> io::Result<Self> {
        let addr = listener.addr.clone();
        let socket = Arc::new(listener.into_polled()?);
        // One that other machines reach is asked for by name, too.
        let is_local = addr.tcp().is_some_and(|addr| addr.ip().is_loopback());
        let mut admin = Self { addr, is_stopped: Arc::default(), threads: Vec::new() };
        for number in 0..THREADS {
            let (socket, view, is_stopped) =
                (Arc::clone(&socket), view.clone(), Arc::clone(&admin.is_stopped));
            let name = format!("admin-{number}");
            let thread =
                Builder::new().name(name).spawn(move || run(&socket, &view, is_local, &is_stopped))?;
            admin.threads.push(thread);
        }
        Ok(admin)
    }

    /// With the port the system has chosen.
    pub(crate) fn addr(&self) -> &ListenAddr {
        &self.addr
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        join_within(self.threads.drain(..), STOP_GRACE, "an admin thread");
        if let ListenAddr::Unix(path) = &self.addr {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn run(listener: &Socket, view: &View, is_local: bool, is_stopped: &AtomicBool) {
    while !is_stopped.load(Ordering::Relaxed) {
        // All threads may be woken for one connection: those that find none go back.
        let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&LOOK_UP));
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => {
                log_sparingly!(warn, "the admin listener cannot accept a connection: {error}");
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        let served =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(&client, view, is_local)));
        if let Err(panic) = served {
            log::error!("a request of the admin listener panicked: {}", panic_message(&*panic));
        }
    }
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

impl Answer {
    pub(super) fn text(status: u16, text: impl Into<String>) -> Self {
        let mut body = text.into();
        body.push('\n');
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }

    fn of(content_type: &'static str, body: String) -> Self {
        Self { status: 200, content_type, body }
    }
}

/// Reads a request and answers it. Whoever does not send one in time, or nothing that is one, is closed or told so.
fn serve(client: &Socket, view: &View, is_local: bool) {
    let deadline = Instant::now() + PATIENCE;
    if client.set_nonblocking(false).is_err() {
        return;
    }
    let (answer, is_head) = match read_head(client, deadline) {
        Ok(Some(head)) => (answer(&head, view, is_local), head.method == Method::HEAD),
        Ok(None) => (Answer::text(400, "this is no request"), false),
        Err(_) => return,
    };
    let bytes = written(&answer, is_head);
    if write_all(client, &bytes, Instant::now() + PATIENCE).is_ok()
        && client.shutdown(Shutdown::Write).is_ok()
    {
        let until = Instant::now() + LINGER;
        while matches!(read_within(client, &mut [0; 4096], until), Ok(1..)) {}
    }
}

/// `None`: what came is no request.
fn read_head(client: &Socket, deadline: Instant) -> io::Result<Option<RequestHead>> {
    let (mut input, mut scanned) = (Vec::new(), 0);
    loop {
        let mut buf = [0; 4096];
        let n = read_within(client, &mut buf, deadline)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        input.extend_from_slice(buf.get(..n).unwrap_or_default());
        match scan(&input, scanned, &LIMITS) {
            Scan::Incomplete { scanned: so_far } => scanned = so_far,
            Scan::Bad(_) => return Ok(None),
            // What follows is a body, or another request: neither is wanted.
            Scan::Complete { len } => {
                input.truncate(len);
                return Ok(RequestHead::parse(Bytes::from(input), &LIMITS).ok());
            }
        }
    }
}

/// What is left of the time, if anything is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn read_within(mut client: &Socket, buf: &mut [u8], deadline: Instant) -> io::Result<usize> {
    client.set_read_timeout(Some(left(deadline)?))?;
    client.read(buf)
}

fn write_all(mut client: &Socket, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        client.set_write_timeout(Some(left(deadline)?))?;
        match client.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => bytes = bytes.get(n..).unwrap_or_default(),
        }
    }
    Ok(())
}

fn written(answer: &Answer, is_head: bool) -> Vec<u8> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut out = Vec::with_capacity(1024 + answer.body.len());
    write_status_line(&mut out, status, status.canonical_reason().unwrap_or_default().as_bytes());
    write_date(&mut out);
    for (name, value) in [
        ("content-type", answer.content_type),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        (
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        ("connection", "close"),
    ] {
        write_field(&mut out, name.as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"content-length: ");
    write_decimal(&mut out, answer.body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    if !is_head {
        out.extend_from_slice(answer.body.as_bytes());
    }
    out
}

fn answer(head: &RequestHead, view: &View, is_local: bool) -> Answer {
    let host = head.host.to_str().unwrap_or_default();
    if is_local && !origin::is_direct(host) {
        return Answer::text(421, "ask for this by an address, or as localhost: a name could be anybody's");
    }
    let path = head.target.path_and_query().path();
    if head.method == Method::POST && path.starts_with(control::PREFIX) {
        let origin = head.fields.get(&header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
        if origin::is_foreign(origin, host) {
            return Answer::text(403, "orders are not taken from pages of other origins");
        }
        if !rules(&view.snapshot()).is_some_and(|rules| rules.control) {
            return Answer::text(403, "orders are not taken: set control = true below [admin]");
        }
        return control::obey(path, view);
    }
    if matches!(head.method, Method::GET | Method::HEAD) {
        get(path, view)
    } else {
        Answer::text(405, "GET, or POST /backends/ROUTE/ADDRESS/drain, down or ready")
    }
}

fn get(path: &str, view: &View) -> Answer {
    match path {
        "/" => Answer::of("text/html; charset=utf-8", PAGE.to_owned()),
        "/livez" => match view.silent_workers().as_slice() {
            [] => Answer::text(200, "ok"),
            silent => Answer::text(503, format!("workers that do not answer: {silent:?}")),
        },
        "/readyz" => match view.not_ready() {
            None => Answer::text(200, "ok"),
            Some(why) => Answer::text(503, why),
        },
        "/metrics" => match metrics::text(view) {
            Ok(text) => Answer::of(metrics::CONTENT_TYPE, text),
            Err(_) => Answer::text(500, "the metrics can not be written"),
        },
        "/status.json" => match status::json(view) {
            Ok(text) => Answer::of("application/json", text),
            Err(_) => Answer::text(500, "the status can not be written"),
        },
        _ => Answer::text(404, "here are /, /status.json, /metrics, /livez and /readyz"),
    }
}
