//! A client that sends any bytes in any pieces and reads answers by their framing.

use std::io::{Error, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::hash::Hash;
use super::wait::PATIENCE;
use super::wire::{Body, Fields, Framing, Wire, text};

/// A connection to the proxy. Dropping it closes it.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
}

/// Status line and fields of an answer, and how its body ends.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    /// One character a byte.
    pub reason: String,
    pub fields: Fields,
    pub framing: Framing,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub head: Head,
    /// As far as it came.
    pub body: Vec<u8>,
    /// Why there is no more of it, when it did not come whole.
    pub broken: Option<Error>,
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    pub fn fields(&self) -> &Fields {
        &self.head.fields
    }

    pub fn text(&self) -> String {
        text(&self.body)
    }

    /// Fails unless the answer is complete and has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert!(self.broken.is_none(), "the answer broke off: {:?}\n{self:?}", self.broken);
        assert_eq!(self.head.status, status, "{:?}\n{}", self.head, self.text());
        self
    }

    /// Fails unless the proxy itself made this answer, for this cause.
    #[track_caller]
    pub fn expect_failure(self, status: u16, cause: &str) -> Self {
        let response = self.expect(status);
        let proxy_status = response.fields().one("proxy-status").unwrap_or_else(|| {
            panic!("no Proxy-Status in {:?}: {}", response.head, response.text());
        });
        assert!(proxy_status.contains("error="), "Proxy-Status: {proxy_status}");
        let mut words = proxy_status.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
        assert!(words.any(|word| word == cause), "expected {cause} in Proxy-Status: {proxy_status}");
        response
    }
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr)
            .unwrap_or_else(|error| panic!("cannot connect to the proxy at {addr}: {error}"))
    }

    pub fn try_connect(addr: SocketAddr) -> Result<Self, Error> {
        Self { wire: Wire::new(TcpStream::connect_timeout(&addr, PATIENCE)?) }.secured(addr)
    }

    /// Speaks TLS, if the proxy at this address does so because of `support/secured.rs`.
    fn secured(self, _addr: SocketAddr) -> Result<Self, Error> {
        #[cfg(feature = "tls")]
        if super::secured::is_spoken_at(_addr) {
            let mut client = self.with_tls(super::secured::config(), "shop.test");
            client.wire.shake_hands()?;
            return Ok(client);
        }
        Ok(self)
    }

    /// One that has come in by itself.
    pub fn of(stream: TcpStream) -> Self {
        Self { wire: Wire::new(stream) }
    }

    /// A client that speaks TLS, to whoever is called `name`. The handshake is made by what is sent or read first.
    #[cfg(feature = "tls")]
    pub fn connect_tls(addr: SocketAddr, config: &std::sync::Arc<rustls::ClientConfig>, name: &str) -> Self {
        Self::connect(addr).with_tls(config, name)
    }

    /// Speaks TLS from now on.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, config: &std::sync::Arc<rustls::ClientConfig>, name: &str) -> Self {
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
        let session = rustls::ClientConnection::new(std::sync::Arc::clone(config), name);
        self.wire.stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
        self.wire.set_tls(super::wire::Tls::Client(Box::new(session.expect("a TLS session"))));
        self
    }

    /// The TLS session.
    #[cfg(feature = "tls")]
    pub fn tls(&mut self) -> &mut rustls::ClientConnection {
        self.wire.tls_client()
    }

    /// Announces the end of what is sent.
    #[cfg(feature = "tls")]
    pub fn close_notify(&mut self) {
        drop(self.wire.close_notify());
    }

    /// A client whose kernel takes little before somebody reads it.
    pub fn with_small_window(addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
        socket.connect_timeout(&addr.into(), PATIENCE).expect("connect to the proxy");
        let client = Self { wire: Wire::new(socket) };
        client.secured(addr).unwrap_or_else(|error| panic!("no TLS with the proxy at {addr}: {error}"))
    }

    /// The socket itself, to write to from another thread.
    pub fn stream(&self) -> TcpStream {
        self.wire.stream.try_clone().expect("a second handle of the socket").into()
    }

    /// Says that nothing more will be sent; over TLS too, if that is spoken.
    pub fn finish(&mut self) {
        #[cfg(feature = "tls")]
        if self.wire.speaks_tls() {
            self.close_notify();
        }
        self.truncate();
    }

    /// Sends nothing more. Over TLS, nobody knows that this was meant.
    pub fn truncate(&self) {
        drop(self.wire.stream.shutdown(Shutdown::Write));
    }

    /// Whether the other side has closed, as far as is known here without waiting. Bytes that wait are no end.
    pub fn is_closed(&mut self) -> bool {
        match self.peek() {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Whether bytes or the end have arrived and were not read.
    pub fn has_input(&mut self) -> bool {
        !matches!(self.peek(), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    fn peek(&mut self) -> Result<usize, Error> {
        self.wire.stream.set_nonblocking(true).expect("a socket that does not block");
        let peeked = self.wire.peek();
        self.wire.stream.set_nonblocking(false).expect("a socket that blocks");
        peeked
    }

    /// How long each later read may take.
    pub fn set_patience(&mut self, patience: Duration) {
        self.wire.set_patience(patience);
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("cannot send to the proxy: {error}"));
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        self.wire.send(bytes.as_ref())
    }

    /// Closes, with RST or (unless there are bytes nobody has read) with FIN.
    pub fn leave(self, reset: bool) {
        if reset {
            self.wire.reset_on_close();
        }
    }

    /// The next head, whatever its status; `None` when the proxy closed the connection instead.
    pub fn any_head(&mut self, method: &str) -> Result<Option<Head>, Error> {
        let Some(lines) = self.wire.head()? else {
            return Ok(None);
        };
        let line = text(&lines[0]);
        let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
        let status = rest.and_then(|rest| rest.get(..3)).and_then(|digits| digits.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("status line {line:?}"));
        let reason = rest.and_then(|rest| rest.get(4..)).unwrap_or_default().to_owned();
        let fields = Fields::parse(&lines[1..]);
        let framing = match status {
            100..=199 | 204 | 304 => Framing::None,
            _ if method == "HEAD" => Framing::None,
            _ => fields.framing(Framing::UntilClose),
        };
        Ok(Some(Head { status, reason, fields, framing }))
    }

    /// The head of the final answer to a request of this method.
    #[track_caller]
    pub fn head(&mut self, method: &str) -> Head {
        self.try_head(method).unwrap_or_else(|error| panic!("no answer to {method}: {error}"))
    }

    fn try_head(&mut self, method: &str) -> Result<Head, Error> {
        loop {
            match self.any_head(method)? {
                Some(head) if head.status < 200 && head.status != 101 => {}
                Some(head) => return Ok(head),
                None => return Err(Error::new(ErrorKind::UnexpectedEof, "closed without an answer")),
            }
        }
    }

    /// The trailers of the last chunked body that was read to its end.
    pub fn trailers(&self) -> &Fields {
        &self.wire.trailers
    }

    /// The next bytes of a body; `None` at its end.
    pub fn piece(&mut self, body: &mut Body) -> Result<Option<Vec<u8>>, Error> {
        self.wire.piece(body)
    }

    /// The answer to a request of this method; a body that breaks off is part of the result.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        self.try_response_to(method).unwrap_or_else(|error| panic!("no answer to {method}: {error}"))
    }

    pub fn try_response_to(&mut self, method: &str) -> Result<Response, Error> {
        let head = self.try_head(method)?;
        Ok(self.rest_of(head))
    }

    /// The answer to a GET; its head may take as long as any, its body not longer than `patience`. For answers that
    /// may stay without an end.
    #[track_caller]
    pub fn response_whose_end_may_be_missing(&mut self, patience: Duration) -> Response {
        let head = self.head("GET");
        self.set_patience(patience);
        self.rest_of(head)
    }

    fn rest_of(&mut self, head: Head) -> Response {
        let mut rest = Body::new(head.framing);
        let mut response = Response { head, body: Vec::new(), broken: None };
        loop {
            match self.wire.piece(&mut rest) {
                Ok(Some(piece)) => response.body.extend_from_slice(&piece),
                Ok(None) => return response,
                Err(error) => {
                    response.broken = Some(error);
                    return response;
                }
            }
        }
    }

    /// Reads a body to its end; it ends with an error when it breaks off.
    pub fn rest(&mut self, head: &Head) -> Result<Vec<u8>, Error> {
        let (mut body, mut bytes) = (Body::new(head.framing), Vec::new());
        while let Some(piece) = self.wire.piece(&mut body)? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// The answer to anything but HEAD.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Sends `GET target` and reads the answer; the connection stays open.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: proxy.test\r\n\r\n"));
        self.response()
    }

    /// Head and hash of an answer whose body is too large to keep.
    #[track_caller]
    pub fn hashed_response(&mut self) -> (Head, Hash) {
        let head = self.head("GET");
        let (mut rest, mut hash) = (Body::new(head.framing), Hash::new());
        loop {
            match self.wire.piece(&mut rest) {
                Ok(Some(piece)) => hash.update(&piece),
                Ok(None) => return (head, hash),
                Err(error) => panic!("broken off after {} bytes: {error}", hash.length()),
            }
        }
    }

    /// Fails unless the proxy closes in good order: with FIN, and not another byte before it.
    #[track_caller]
    pub fn expect_fin(&mut self) {
        self.wire.end().unwrap_or_else(|error| panic!("not closed in good order: {error}"));
    }

    /// How the proxy ends the connection: `Ok` = closed or reset without another byte.
    pub fn end(&mut self) -> Result<(), Error> {
        match self.wire.end() {
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::InvalidData) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Sends these bytes on a connection of their own and reads the answer.
#[track_caller]
pub fn send_once(addr: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    let request = request.as_ref();
    let mut client = Client::connect(addr);
    client.send(request);
    let method = request.split(|byte| *byte == b' ').next().unwrap_or_default();
    client.response_to(&text(method))
}

/// `GET target` on a connection of its own.
#[track_caller]
pub fn get(addr: SocketAddr, target: &str) -> Response {
    Client::connect(addr).get(target)
}
