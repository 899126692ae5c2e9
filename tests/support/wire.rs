//! HTTP/1.1 as bytes on a socket, from either end: heads as lines, bodies by their framing, every read with a
//! deadline. Strict, because the proxy's framing is what is tested; independent of the proxy's own parsers.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket};

use super::wait::PATIENCE;

/// One side of a connection.
#[derive(Debug)]
pub struct Wire {
    pub stream: Socket,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    buffer: Vec<u8>,
    patience: Duration,
    /// Those of the last chunked body that was read to its end.
    pub trailers: Fields,
}

/// A TLS session of either side.
#[cfg(feature = "tls")]
#[derive(Debug)]
pub enum Tls {
    Server(Box<rustls::ServerConnection>),
    Client(Box<rustls::ClientConnection>),
}

#[cfg(feature = "tls")]
impl Tls {
    fn write(&mut self, stream: &mut Socket, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Server(tls) => {
                let mut stream = rustls::Stream::new(&mut **tls, stream);
                stream.write_all(bytes).and_then(|()| stream.flush())
            }
            Self::Client(tls) => {
                let mut stream = rustls::Stream::new(&mut **tls, stream);
                stream.write_all(bytes).and_then(|()| stream.flush())
            }
        }
    }

    fn read(&mut self, stream: &mut Socket, buf: &mut [u8]) -> Result<usize> {
        match self {
            Self::Server(tls) => rustls::Stream::new(&mut **tls, stream).read(buf),
            Self::Client(tls) => rustls::Stream::new(&mut **tls, stream).read(buf),
        }
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// How far a body has been read.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    /// Of the length, or of the chunk.
    left: u64,
    started: bool,
    done: bool,
}

impl Body {
    pub fn new(framing: Framing) -> Self {
        let (left, done) = match framing {
            Framing::None => (0, true),
            Framing::Length(length) => (length, length == 0),
            Framing::Chunked | Framing::UntilClose => (0, false),
        };
        Self { framing, left, started: false, done }
    }
}

impl Wire {
    pub fn new(stream: impl Into<Socket>) -> Self {
        let stream = stream.into();
        if stream.local_addr().is_ok_and(|addr| addr.domain() != Domain::UNIX) {
            stream.set_tcp_nodelay(true).expect("TCP_NODELAY");
        }
        stream.set_write_timeout(Some(PATIENCE)).expect("write time-out");
        Self {
            stream,
            #[cfg(feature = "tls")]
            tls: None,
            buffer: Vec::new(),
            patience: PATIENCE,
            trailers: Fields::default(),
        }
    }

    /// From now on it speaks TLS. Dropping it without [`close_notify`](Self::close_notify) truncates.
    #[cfg(feature = "tls")]
    pub fn set_tls(&mut self, tls: Tls) {
        self.tls = Some(tls);
    }

    /// The TLS session of a server.
    #[cfg(feature = "tls")]
    pub fn tls(&mut self) -> &mut rustls::ServerConnection {
        match &mut self.tls {
            Some(Tls::Server(tls)) => tls,
            _ => panic!("no TLS session of a server"),
        }
    }

    /// The TLS session of a client.
    #[cfg(feature = "tls")]
    pub fn tls_client(&mut self) -> &mut rustls::ClientConnection {
        match &mut self.tls {
            Some(Tls::Client(tls)) => tls,
            _ => panic!("no TLS session of a client"),
        }
    }

    /// Announces the end of what is sent.
    #[cfg(feature = "tls")]
    pub fn close_notify(&mut self) -> Result<()> {
        match &mut self.tls {
            Some(Tls::Server(tls)) => tls.send_close_notify(),
            Some(Tls::Client(tls)) => tls.send_close_notify(),
            None => panic!("no TLS session"),
        }
        self.send(b"")
    }

    #[cfg(feature = "tls")]
    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Makes the handshake, and takes in what comes with it: from then on nothing comes that was not sent as content.
    #[cfg(feature = "tls")]
    pub fn shake_hands(&mut self) -> Result<()> {
        /// What rustls hands out.
        const TICKETS: u32 = 2;
        self.stream.set_read_timeout(Some(self.patience))?;
        let Self { stream, tls: Some(Tls::Client(tls)), .. } = self else {
            panic!("no TLS session of a client")
        };
        while tls.is_handshaking() {
            tls.complete_io(stream)?;
        }
        let has_tickets = tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        while has_tickets && tls.tls13_tickets_received() < TICKETS {
            if tls.read_tls(stream)? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "closed in the handshake"));
            }
            tls.process_new_packets().map_err(Error::other)?;
        }
        Ok(())
    }

    /// How many bytes there are that were not read, if the socket does not block; 0 = the other side has finished.
    pub fn peek(&mut self) -> Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(Tls::Client(tls)) = &mut self.tls {
            loop {
                match tls.reader().into_first_chunk() {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    known => return known.map(<[u8]>::len),
                }
                tls.read_tls(&mut self.stream)?;
                tls.process_new_packets().map_err(Error::other)?;
            }
        }
        self.stream.peek(&mut [std::mem::MaybeUninit::uninit()])
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.read(&mut self.stream, buf);
        }
        self.stream.read(buf)
    }

    /// How long each later read may take.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.write(&mut self.stream, bytes);
        }
        self.stream.write_all(bytes)
    }

    /// Makes closing send RST: nothing queued is sent any more.
    pub fn reset_on_close(&self) {
        self.stream.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Reads once into the buffer; 0 = the other side has finished.
    fn fill(&mut self, deadline: Instant) -> Result<usize> {
        let late = || Error::new(ErrorKind::TimedOut, "the deadline of this read has passed");
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 64 * 1024];
        loop {
            match self.read(&mut piece) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(late());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A line without its CRLF. A bare LF is an error.
    fn line(&mut self, deadline: Instant) -> Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=searched + at).collect();
                line.pop();
                if line.pop() != Some(b'\r') {
                    return Err(Error::new(ErrorKind::InvalidData, "line feed without carriage return"));
                }
                return Ok(line);
            }
            searched = self.buffer.len();
            if self.fill(deadline)? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "closed in the middle of a line"));
            }
        }
    }

    /// The lines of a head; `None` when the connection was closed before its first byte.
    pub fn head(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        let deadline = Instant::now() + self.patience;
        if self.buffer.is_empty() && self.fill(deadline)? == 0 {
            return Ok(None);
        }
        let mut lines = Vec::new();
        loop {
            let line = self.line(deadline)?;
            if line.is_empty() {
                return Ok(Some(lines));
            }
            lines.push(line);
        }
    }

    /// The next bytes of a body as they come; `None` when it is complete. Broken off: an error.
    pub fn piece(&mut self, body: &mut Body) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + self.patience;
        if body.done {
            return Ok(None);
        }
        if body.framing == Framing::Chunked && body.left == 0 {
            if body.started && !self.line(deadline)?.is_empty() {
                return Err(Error::new(ErrorKind::InvalidData, "chunk without CRLF at its end"));
            }
            body.started = true;
            body.left = chunk_size(&self.line(deadline)?)?;
            if body.left == 0 {
                let mut lines = Vec::new();
                loop {
                    let line = self.line(deadline)?;
                    if line.is_empty() {
                        break;
                    }
                    lines.push(line);
                }
                self.trailers = Fields::parse(&lines);
                body.done = true;
                return Ok(None);
            }
        }
        if self.buffer.is_empty() && self.fill(deadline)? == 0 {
            if body.framing == Framing::UntilClose {
                body.done = true;
                return Ok(None);
            }
            return Err(Error::new(ErrorKind::UnexpectedEof, "closed in the middle of a body"));
        }
        if body.framing == Framing::UntilClose {
            return Ok(Some(std::mem::take(&mut self.buffer)));
        }
        let count = usize::try_from(body.left).unwrap_or(usize::MAX).min(self.buffer.len());
        body.left -= count as u64;
        body.done = body.framing != Framing::Chunked && body.left == 0;
        let rest = self.buffer.split_off(count);
        Ok(Some(std::mem::replace(&mut self.buffer, rest)))
    }

    /// How the other side closes: `Ok` = FIN with nothing before it, else the error or the bytes that came instead.
    pub fn end(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.patience;
        if self.buffer.is_empty() && self.fill(deadline)? == 0 {
            return Ok(());
        }
        let bytes = String::from_utf8_lossy(&self.buffer).into_owned();
        Err(Error::new(ErrorKind::InvalidData, format!("more bytes instead of the end: {bytes:?}")))
    }
}

fn chunk_size(line: &[u8]) -> Result<u64> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| {
            let line = String::from_utf8_lossy(line).into_owned();
            Error::new(ErrorKind::InvalidData, format!("bad chunk size {line:?}"))
        })
}

/// `body` as one chunk for each of `pieces`, without the last chunk.
pub fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", piece.len()).into_bytes();
    bytes.extend_from_slice(piece);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Header lines in their order, names and values as they were sent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(Vec<u8>, Vec<u8>)>);

impl std::fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.0.iter().map(|(name, value)| (text(name), text(value)));
        formatter.debug_list().entries(lines).finish()
    }
}

impl Fields {
    pub fn parse(lines: &[Vec<u8>]) -> Self {
        Self(lines.iter().map(|line| split_field(line)).collect())
    }

    /// The values of all lines of this name, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        let same = |other: &[u8]| other.eq_ignore_ascii_case(name.as_bytes());
        self.0.iter().filter(|(other, _)| same(other)).map(|(_, value)| text(value)).collect()
    }

    /// The value of the only line of this name; panics when there are more.
    pub fn one(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times: {all:?}", all.len());
        all.pop()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// All names in lower case, sorted, each once.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.iter().map(|(name, _)| text(name).to_lowercase()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The framing these fields declare, or `without` if none.
    pub fn framing(&self, without: Framing) -> Framing {
        let codings = self.all("transfer-encoding");
        let lengths = self.all("content-length");
        match (codings.as_slice(), lengths.as_slice()) {
            ([], []) => without,
            ([], [length]) => Framing::Length(
                length.parse().unwrap_or_else(|_| panic!("Content-Length is {length:?}: {self:?}")),
            ),
            ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
            _ => panic!("ambiguous framing: transfer-encoding {codings:?}, content-length {lengths:?}"),
        }
    }
}

fn split_field(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let colon = line.iter().position(|byte| *byte == b':');
    let colon = colon.unwrap_or_else(|| panic!("header line without colon: {:?}", text(line)));
    (line[..colon].to_vec(), line[colon + 1..].trim_ascii().to_vec())
}

/// Bytes as text, one character a byte beyond ASCII.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
