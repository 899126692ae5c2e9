//! [`Admin`]: the listener and the threads that answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tiny_http::{Header, Method, Request, Response, Server};

use super::view::{View, rules};
use super::{control, metrics, origin, status};
use crate::config::ListenAddr;
use crate::downstream::listener::Listener;
use crate::logging::panics::panic_message;

/// Threads that answer. One that reads slowly keeps another free.
const THREADS: usize = 4;
/// The threads look after this long whether they were told to stop, should the wake-up get lost.
const LOOK_UP: Duration = Duration::from_millis(500);

const PAGE: &str = include_str!("page.html");

/// The running listener. Dropping it ends and joins its threads.
#[derive(Debug)]
pub(crate) struct Admin {
    addr: ListenAddr,
    server: Shared,
    is_stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared(Arc<Server>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tiny_http::Server")
    }
}

impl Admin {
    /// Starts the threads `admin-N`.
    ///
    /// # Errors
    /// A thread can't be started.
    pub(crate) fn start(listener: Listener, view: &View) -> io::Result<Self> {
        let addr = listener.addr.clone();
        let server = Server::from_listener(into_tiny_http(listener), None)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let server = Shared(Arc::new(server));
        let mut admin =
            Self { addr, server: server.clone(), is_stopped: Arc::default(), threads: Vec::new() };
        for number in 0..THREADS {
            let (server, view, is_stopped) = (server.clone(), view.clone(), Arc::clone(&admin.is_stopped));
            // One that other machines reach is asked for by name, too.
            let is_local = admin.addr.tcp().is_some_and(|addr| addr.ip().is_loopback());
            let name = format!("admin-{number}");
            let thread =
                Builder::new().name(name).spawn(move || run(&server.0, &view, is_local, &is_stopped))?;
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
        for _ in &self.threads {
            self.server.0.unblock();
        }
        for thread in self.threads.drain(..) {
            // Their panics are caught. One that waits for a client that does not read can't be called back.
            if thread.is_finished() || self.addr.tcp().is_none() {
                drop(thread.join());
            }
        }
        if let ListenAddr::Unix(path) = &self.addr {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(unix)]
fn into_tiny_http(listener: Listener) -> tiny_http::Listener {
    match listener.addr {
        ListenAddr::Tcp(_) => tiny_http::Listener::Tcp(listener.socket.into()),
        ListenAddr::Unix(_) => tiny_http::Listener::Unix(listener.socket.into()),
    }
}

#[cfg(not(unix))]
fn into_tiny_http(listener: Listener) -> tiny_http::Listener {
    tiny_http::Listener::Tcp(listener.socket.into())
}

fn run(server: &Server, view: &View, is_local: bool, is_stopped: &AtomicBool) {
    while !is_stopped.load(Ordering::Relaxed) {
        match server.recv_timeout(LOOK_UP) {
            Ok(Some(request)) => {
                let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    serve(request, view, is_local);
                }));
                if let Err(panic) = answered {
                    log::error!("a request of the admin listener panicked: {}", panic_message(&*panic));
                }
            }
            Ok(None) => {}
            Err(error) => {
                log::error!("the admin listener accepts no further connections: {error}; restart the proxy");
                return;
            }
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

fn serve(request: Request, view: &View, is_local: bool) {
    let answer = answer(&request, view, is_local);
    let mut response = Response::from_string(answer.body).with_status_code(answer.status);
    for (name, value) in [
        ("Content-Type", answer.content_type),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        (
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    ] {
        if let Ok(field) = Header::from_bytes(name, value) {
            response.add_header(field);
        }
    }
    // Fails if nobody is there any more.
    let _ = request.respond(response);
}

fn answer(request: &Request, view: &View, is_local: bool) -> Answer {
    let field = |name: &'static str| {
        let mut fields = request.headers().iter().filter(|field| field.field.equiv(name));
        fields.next().map(|field| field.value.as_str())
    };
    let host = field("Host").unwrap_or_default();
    if is_local && !origin::is_direct(host) {
        return Answer::text(421, "ask for this by an address, or as localhost: a name could be anybody's");
    }
    let path = request.url().split('?').next().unwrap_or_default();
    match (request.method(), path) {
        (Method::Post, path) if path.starts_with(control::PREFIX) => {
            if origin::is_foreign(field("Origin"), host) {
                return Answer::text(403, "orders are not taken from pages of other origins");
            }
            if !rules(&view.snapshot()).is_some_and(|rules| rules.control) {
                return Answer::text(403, "orders are not taken: set control = true below [admin]");
            }
            control::obey(path, view)
        }
        (Method::Get | Method::Head, path) => get(path, view),
        _ => Answer::text(405, "GET, or POST /backends/ROUTE/ADDRESS/drain, down or ready"),
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
