//! Backends that do exactly what a test tells them, byte for byte.

use std::collections::HashMap;
use std::io::Result;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use socket2::{Domain, SockAddr, Socket, Type};

#[cfg(feature = "tls")]
use super::wire::Tls;
use super::wire::{Body, Fields, Framing, Wire, text};

/// A port of our own on which nobody listens: connections to it are refused.
#[derive(Debug)]
pub struct DeadPort {
    _socket: Socket,
    addr: SocketAddr,
}

impl DeadPort {
    pub fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // On Linux a bound socket keeps the port for us and lets our own listener bind it as well.
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        let addr = socket.local_addr().expect("its address").as_socket().expect("an IPv4 address");
        Self { _socket: socket, addr }
    }

    pub fn addr(&self) -> String {
        self.addr.to_string()
    }
}

/// A listener that stays on the same port when it is stopped and started again.
#[derive(Debug)]
struct Port {
    addr: SockAddr,
    /// As it is written in the configuration.
    shown: String,
    /// Where a second socket can hold the port while nobody listens.
    _reserved: Option<DeadPort>,
}

impl Port {
    fn any() -> (Self, Socket) {
        let reserved = DeadPort::reserve();
        let port = Self { addr: reserved.addr.into(), shown: reserved.addr(), _reserved: Some(reserved) };
        let listener = port.listen().expect("listen on a reserved port");
        (port, listener)
    }

    fn unix(path: &Path) -> (Self, Socket) {
        let addr = SockAddr::unix(path).expect("a path that fits");
        let port = Self { addr, shown: format!("unix:{}", path.display()), _reserved: None };
        let listener = port.listen().expect("listen on a path of our own");
        (port, listener)
    }

    fn listen(&self) -> Result<Socket> {
        let socket = Socket::new(self.addr.domain(), Type::STREAM, None)?;
        if self.addr.domain() == Domain::IPV4 {
            socket.set_reuse_address(true)?;
        }
        if let Some(path) = self.addr.as_pathname() {
            drop(std::fs::remove_file(path));
        }
        socket.bind(&self.addr)?;
        socket.listen(1024)?;
        Ok(socket)
    }

    /// Makes whoever accepts look up.
    fn knock(&self) {
        if let Ok(socket) = Socket::new(self.addr.domain(), Type::STREAM, None) {
            drop(socket.connect(&self.addr));
        }
    }
}

/// What a connection to a scripted backend runs. An error ends the connection and is no failure of the test: the
/// proxy may close whenever it likes. A panic is, and comes out where the backend is dropped.
type Script = dyn Fn(Conn) -> Result<()> + Send + Sync;

/// Accepts connections and hands each to a script, in a thread of its own.
#[derive(Debug)]
pub struct ScriptedBackend {
    port: Port,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// Connections whose script has ended.
    ended: AtomicUsize,
    /// To wake the scripts when the backend stops.
    sockets: Mutex<HashMap<usize, Socket>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl ScriptedBackend {
    /// Runs `script` with every connection.
    pub fn per_connection(script: impl Fn(Conn) -> Result<()> + Send + Sync + 'static) -> Self {
        Self::on(Port::any(), script)
    }

    /// [`per_connection`](Self::per_connection) on a Unix-domain socket.
    pub fn unix(path: &Path, script: impl Fn(Conn) -> Result<()> + Send + Sync + 'static) -> Self {
        Self::on(Port::unix(path), script)
    }

    /// [`unix`](Self::unix) on a socket that listens at `path` already.
    pub fn on_unix_listener(
        path: &Path,
        listener: Socket,
        script: impl Fn(Conn) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let addr = SockAddr::unix(path).expect("a path that fits");
        let port = Port { addr, shown: format!("unix:{}", path.display()), _reserved: None };
        Self::on((port, listener), script)
    }

    /// [`per_connection`](Self::per_connection) with TLS: `script` begins before the handshake, which the first read
    /// or write makes.
    #[cfg(feature = "tls")]
    pub fn tls(
        config: Arc<rustls::ServerConfig>,
        script: impl Fn(Conn) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let mut backend = Self::per_connection(move |mut conn| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).expect("a TLS session");
            conn.wire.set_tls(Tls::Server(Box::new(session)));
            script(conn)
        });
        backend.port.shown.insert_str(0, "https://");
        backend
    }

    fn on(
        (port, listener): (Port, Socket),
        script: impl Fn(Conn) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::default();
        let acceptor = Some(accept(listener, Arc::clone(&shared), Arc::new(script)));
        Self { port, shared, acceptor }
    }

    /// Runs `script` with every request head; the connection stays open afterwards.
    pub fn per_request(script: impl Fn(&mut Conn, &Request) -> Result<()> + Send + Sync + 'static) -> Self {
        Self::per_connection(each_request(script))
    }

    /// Reads each request to its end and answers it with these bytes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::per_request(move |conn, request| {
            conn.body(request)?;
            conn.send(&answer)
        })
    }

    pub fn addr(&self) -> String {
        self.port.shown.clone()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Request heads read so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Connections whose script has come to its end.
    pub fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::SeqCst)
    }

    /// Closes the listener and all connections and waits for the scripts. The port stays ours where that can be.
    pub fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.port.knock();
        let accepted = acceptor.join();
        for socket in lock(&self.shared.sockets).values() {
            drop(socket.shutdown(Shutdown::Both));
        }
        let threads = std::mem::take(&mut *lock(&self.shared.threads));
        let results: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
        for result in results.into_iter().chain([accepted]) {
            if let Err(panic) = result
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// Listens again after [`stop`](Self::stop), on the same port, with another script.
    pub fn restart(&mut self, script: impl Fn(Conn) -> Result<()> + Send + Sync + 'static) {
        assert!(self.acceptor.is_none(), "the backend is running");
        let listener = super::wait_for("the backend's port to be free again", || self.port.listen());
        self.shared.stopping.store(false, Ordering::SeqCst);
        self.acceptor = Some(accept(listener, Arc::clone(&self.shared), Arc::new(script)));
    }
}

impl Drop for ScriptedBackend {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A script that runs another with each request head; the connection stays open in between.
pub fn each_request(
    script: impl Fn(&mut Conn, &Request) -> Result<()> + Send + Sync + 'static,
) -> impl Fn(Conn) -> Result<()> + Send + Sync + 'static {
    move |mut conn| {
        while let Some(request) = conn.request()? {
            script(&mut conn, &request)?;
        }
        Ok(())
    }
}

fn accept(listener: Socket, shared: Arc<Shared>, script: Arc<Script>) -> JoinHandle<()> {
    let accept = move || {
        loop {
            let stream = listener.accept();
            if shared.stopping.load(Ordering::SeqCst) {
                return;
            }
            // A client may be gone before it is accepted.
            let Ok((stream, _)) = stream else { continue };
            let Ok(second) = stream.try_clone() else { continue };
            let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
            lock(&shared.sockets).insert(number, second);
            let conn = Conn { number, wire: Wire::new(stream), shared: Arc::clone(&shared) };
            let (script, ended) = (Arc::clone(&script), Arc::clone(&shared));
            let serve = move || {
                let _count = Ended(ended);
                drop(script(conn));
            };
            let thread = Builder::new().name(format!("backend-{number}")).spawn(serve);
            let mut threads = lock(&shared.threads);
            threads.push(thread.expect("start a thread"));
        }
    };
    Builder::new().name("backend".into()).spawn(accept).expect("start a thread")
}

/// Counts a script that has ended, by whatever way.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection from the proxy. Dropping it closes with FIN.
#[derive(Debug)]
pub struct Conn {
    /// 1 for the backend's first connection.
    pub number: usize,
    wire: Wire,
    shared: Arc<Shared>,
}

/// The head of a request that came through the proxy.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: String,
    pub fields: Fields,
}

impl Request {
    pub fn framing(&self) -> Framing {
        self.fields.framing(Framing::None)
    }
}

impl Conn {
    /// The next request's head; `None` when the proxy closed the connection between two requests.
    pub fn request(&mut self) -> Result<Option<Request>> {
        let Some(lines) = self.wire.head()? else {
            return Ok(None);
        };
        self.shared.requests.fetch_add(1, Ordering::SeqCst);
        let start = text(&lines[0]);
        let parts: Vec<&str> = start.split(' ').collect();
        let [method, target, version] = parts[..] else { panic!("request line {start:?}") };
        Ok(Some(Request {
            method: method.into(),
            target: target.into(),
            version: version.into(),
            fields: Fields::parse(&lines[1..]),
        }))
    }

    /// The whole body of `request`.
    pub fn body(&mut self, request: &Request) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body_pieces(request, |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// The body of `request`, piece by piece as it arrives.
    pub fn body_pieces(&mut self, request: &Request, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut body = Body::new(request.framing());
        while let Some(piece) = self.wire.piece(&mut body)? {
            each(&piece);
        }
        Ok(())
    }

    /// The trailers of the last chunked body that was read to its end.
    pub fn trailers(&self) -> &Fields {
        &self.wire.trailers
    }

    /// The next bytes of a body; `None` at its end.
    pub fn piece(&mut self, body: &mut Body) -> Result<Option<Vec<u8>>> {
        self.wire.piece(body)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.send(bytes)
    }

    /// Sends a head of these lines (without CRLF).
    pub fn send_head(&mut self, lines: &[&str]) -> Result<()> {
        self.send(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())
    }

    /// The socket itself, for another protocol. Nothing must have been read yet.
    pub fn stream(&self) -> Result<TcpStream> {
        Ok(self.wire.stream.try_clone()?.into())
    }

    /// What else comes, until the proxy has finished its side.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        let (mut rest, mut bytes) = (Body::new(Framing::UntilClose), Vec::new());
        while let Some(piece) = self.wire.piece(&mut rest)? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// The next `count` bytes.
    pub fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        let (mut body, mut bytes) = (Body::new(Framing::Length(count as u64)), Vec::new());
        while let Some(piece) = self.wire.piece(&mut body)? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Announces the end of what is sent.
    #[cfg(feature = "tls")]
    pub fn close_notify(&mut self) -> Result<()> {
        self.wire.close_notify()
    }

    /// Makes the TLS handshake and returns the session.
    #[cfg(feature = "tls")]
    pub fn tls(&mut self) -> Result<&mut rustls::ServerConnection> {
        self.wire.send(b"")?;
        Ok(self.wire.tls())
    }

    /// The next bytes, however many; `None` at the end.
    #[cfg(feature = "tls")]
    pub fn bytes(&mut self) -> Result<Option<Vec<u8>>> {
        self.wire.piece(&mut Body::new(Framing::UntilClose))
    }

    /// Closes with RST.
    pub fn reset(self) {
        self.wire.reset_on_close();
    }

    /// Says nothing until the proxy has closed the connection; what else it sends is thrown away.
    pub fn hang(&mut self) -> Result<()> {
        let mut rest = Body::new(Framing::UntilClose);
        while self.wire.piece(&mut rest)?.is_some() {}
        Ok(())
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // While a second descriptor of the socket is open, closing ours closes nothing.
        lock(&self.shared.sockets).remove(&self.number);
    }
}

/// A listening socket whose backlog is full: connecting to it takes for ever.
#[derive(Debug)]
pub struct FullBacklog {
    addr: SocketAddr,
    _listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl FullBacklog {
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        listener.listen(1).expect("listen");
        let addr = listener.local_addr().expect("its address").as_socket().expect("an IPv4 address");
        let mut waiting = Vec::new();
        let patience = std::time::Duration::from_millis(300);
        while let Ok(stream) = TcpStream::connect_timeout(&addr, patience) {
            waiting.push(stream);
            assert!(waiting.len() < 100, "the backlog does not fill");
        }
        Self { addr, _listener: listener, _waiting: waiting }
    }

    pub fn addr(&self) -> String {
        self.addr.to_string()
    }
}
