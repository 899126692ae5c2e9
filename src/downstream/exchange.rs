//! The seam between how a request came in and what the proxy does with it.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use socket2::Socket;

use crate::error::Cause;
use crate::socket::Pipe;

/// The client of one exchange, as its way in presents it: a body to read and a way to answer. The parsed head travels
/// beside it.
pub trait Client {
    /// Its address.
    fn address(&self) -> IpAddr;

    /// Its address as a field value.
    fn forwarded_for(&self) -> &HeaderValue;

    /// The socket to watch while a backend thinks; `None` where the way in keeps it to itself.
    fn socket(&self) -> Option<&Arc<Socket>>;

    /// Reads the next piece of the request body, its coding removed: `Some(0)` is its end, `None` means that the backend
    /// answered while the client was waited for. Sends `100 Continue` first where the client waits for it.
    ///
    /// # Errors
    /// The body is malformed, too slow, or the client left.
    fn read_body(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Cause>;

    /// What of the request body is in memory and was not read.
    fn held_body(&self) -> &[u8] {
        &[]
    }

    /// `n` bytes of what is [held](Self::held_body) were read.
    fn consume_body(&mut self, _n: usize) {}

    /// Whether the body can be [taken](Self::fill_with_body) from the socket as it comes.
    fn can_fill(&self) -> bool {
        false
    }

    /// Like [`read_body`](Self::read_body), into an empty pipe. Only where that [can be](Self::can_fill).
    ///
    /// # Errors
    /// As for [`read_body`](Self::read_body).
    fn fill_with_body(&mut self, _pipe: &mut Pipe) -> Result<Option<usize>, Cause> {
        Ok(Some(0))
    }

    /// Goes back to the beginning of the body. Whether that was possible: nothing was read of it, or all of it is in
    /// memory.
    fn rewind_body(&mut self) -> bool;

    /// Whether the connection can carry another request after this one: the body is read, or small and here.
    fn can_keep_alive(&self) -> bool;

    /// Sends `bytes` to the client, all of them.
    ///
    /// # Errors
    /// The client left, or did not read for `write_timeout_secs`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Sends all that `pipe` holds to the client. Only where there is a [`socket`](Self::socket).
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    fn pour(&mut self, pipe: &mut Pipe) -> io::Result<()> {
        debug_assert!(pipe.is_empty(), "nobody fills a pipe that leads nowhere");
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What becomes of the client's connection after an exchange.
#[derive(Debug)]
pub enum End {
    /// It can carry the next request.
    KeepAlive,
    /// The answer is complete and said that the connection closes.
    Close,
    /// The backend has switched protocols, and the client was told so: join the two.
    Tunnel(Box<crate::upstream::tunnel::Tunnel>),
    /// The answer broke off, or there was nobody to answer: close so that the client sees it.
    Broken,
}
