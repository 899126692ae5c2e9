//! A well-behaved backend that answers with what it received.

use std::collections::VecDeque;
use std::io::Result;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::backend::{Conn, Request, ScriptedBackend};
use super::hash::Hash;
use super::wait::Gate;
use super::wire::{Fields, Framing, text};

/// The target of health probes in all tests.
pub const HEALTH: &str = "/health";

/// Keeps connections alive and answers each request with an [`Echo`] of it. [`HEALTH`] is answered with a status
/// that can be switched; targets with `hold` in them are answered after [`release`](Self::release).
#[derive(Debug)]
pub struct Origin {
    backend: ScriptedBackend,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    name: String,
    health: AtomicU16,
    /// Statuses for the next probes, used up before `health` counts again.
    health_script: Mutex<VecDeque<u16>>,
    probes: AtomicUsize,
    requests: AtomicUsize,
    held: AtomicUsize,
    released: Gate,
}

impl Origin {
    pub fn echo() -> Self {
        Self::named("origin")
    }

    /// An origin that says its name in its answers.
    pub fn named(name: &str) -> Self {
        let state = Arc::new(State {
            name: name.into(),
            health: AtomicU16::new(200),
            health_script: Mutex::default(),
            probes: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            released: Gate::new(),
        });
        let same = Arc::clone(&state);
        Self { backend: ScriptedBackend::per_connection(move |conn| same.serve(conn)), state }
    }

    pub fn addr(&self) -> String {
        self.backend.addr()
    }

    /// From now on probes get this status.
    pub fn set_health(&self, status: u16) {
        self.state.health.store(status, Ordering::SeqCst);
    }

    /// The next probes get these statuses, one after the other.
    pub fn script_health(&self, statuses: impl IntoIterator<Item = u16>) {
        self.state.health_script.lock().unwrap_or_else(PoisonError::into_inner).extend(statuses);
    }

    /// How many scripted statuses no probe has fetched yet.
    pub fn scripted_probes_left(&self) -> usize {
        self.state.health_script.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Probes answered so far.
    pub fn probes(&self) -> usize {
        self.state.probes.load(Ordering::SeqCst)
    }

    /// Requests received so far, probes not counted.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.backend.connections()
    }

    /// Requests waiting for [`release`](Self::release), and those that have waited.
    pub fn held(&self) -> usize {
        self.state.held.load(Ordering::SeqCst)
    }

    /// Answers what is held, now and later.
    pub fn release(&self) {
        self.state.released.open();
    }

    pub fn stop(&mut self) {
        self.backend.stop();
    }

    pub fn restart(&mut self) {
        let state = Arc::clone(&self.state);
        self.backend.restart(move |conn| state.serve(conn));
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.release();
    }
}

impl State {
    fn serve(&self, mut conn: Conn) -> Result<()> {
        while let Some(request) = conn.request()? {
            if request.target == HEALTH {
                self.answer_probe(&mut conn)?;
            } else {
                self.answer(&mut conn, &request)?;
            }
        }
        Ok(())
    }

    fn answer_probe(&self, conn: &mut Conn) -> Result<()> {
        let scripted = self.health_script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let status = scripted.unwrap_or_else(|| self.health.load(Ordering::SeqCst));
        self.probes.fetch_add(1, Ordering::SeqCst);
        conn.send_head(&[&format!("HTTP/1.1 {status} probed"), "Content-Length: 0"])
    }

    fn answer(&self, conn: &mut Conn, request: &Request) -> Result<()> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mut hash = Hash::new();
        conn.body_pieces(request, |piece| hash.update(piece))?;
        if request.target.contains("hold") {
            self.held.fetch_add(1, Ordering::SeqCst);
            self.released.wait("the test to release a held request");
        }
        let body = Echo::write(&self.name, request, &hash);
        let length = format!("Content-Length: {}", body.len());
        conn.send_head(&["HTTP/1.1 200 OK", "Content-Type: text/plain", &length])?;
        if request.method == "HEAD" { Ok(()) } else { conn.send(&body) }
    }
}

/// What an [`Origin`] says it has received.
#[derive(Debug)]
pub struct Echo {
    pub origin: String,
    pub method: String,
    pub target: String,
    pub version: String,
    pub framing: String,
    /// [`hash_of`](super::hash_of) the body.
    pub hash: String,
    pub fields: Fields,
}

impl Echo {
    fn write(origin: &str, request: &Request, hash: &Hash) -> Vec<u8> {
        let framing = match request.framing() {
            Framing::Length(length) => format!("length {length}"),
            Framing::Chunked => "chunked".into(),
            Framing::None | Framing::UntilClose => "none".into(),
        };
        let Request { method, target, version, .. } = request;
        let hash = hash.finish();
        let start = [origin, method, target, version, &framing, &hash].join("\n");
        let mut bytes: Vec<u8> = start.chars().map(|char| char as u8).collect();
        for (name, value) in &request.fields.0 {
            bytes.push(b'\n');
            bytes.extend_from_slice(&[name, &b": "[..], value].concat());
        }
        bytes
    }

    /// Reads what an origin has answered.
    #[track_caller]
    pub fn parse(body: &[u8]) -> Self {
        let lines: Vec<Vec<u8>> = body.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        assert!(lines.len() >= 6, "not the answer of an origin: {:?}", text(body));
        let [origin, method, target, version, framing, hash] = [0, 1, 2, 3, 4, 5].map(|at| text(&lines[at]));
        let fields = Fields::parse(&lines[6..]);
        Self { origin, method, target, version, framing, hash, fields }
    }
}
