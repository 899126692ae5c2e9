//! The answer on its way to the client: the head and the first bytes in one write, framing decided anew.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use http::header;
use http::{Method, StatusCode};

use super::exchange::{Client, End};
use super::pass;
use crate::error::Cause;
use crate::http::chunked;
use crate::http::head::{RequestHead, Version};
use crate::http::hop_by_hop::{ConnectionOptions, crosses};
use crate::socket::Pipe;
use crate::upstream::call;
use crate::upstream::forward::{Answer, BodyReader};

/// Bytes collected before they are sent, if they are here already.
const BATCH: usize = 32 * 1024;
/// One read of the body.
const PIECE: usize = 32 * 1024;

thread_local! {
    /// The buffers of this thread, from one answer to the next.
    static SPARE: RefCell<Buffers> = const { RefCell::new(Buffers { out: Vec::new(), piece: Vec::new() }) };
}

/// What an answer passes through.
#[derive(Default)]
struct Buffers {
    /// What the client is owed: the head, and the body as far as it was collected.
    out: Vec<u8>,
    /// What one read of the body fills. Apart from `out`, so that it need not be cleared each time.
    piece: Vec<u8>,
}

impl Buffers {
    fn take() -> Self {
        let spare = SPARE.with(|spare| spare.try_borrow_mut().map(|mut spare| std::mem::take(&mut *spare)));
        let mut buffers = spare.unwrap_or_default();
        buffers.piece.resize(PIECE, 0);
        buffers
    }

    fn give_back(mut self) {
        if self.out.capacity() <= 4 * BATCH {
            self.out.clear();
            SPARE.with(|spare| {
                if let Ok(mut spare) = spare.try_borrow_mut() {
                    *spare = self;
                }
            });
        }
    }
}

/// How the end of an answer is told to the client (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// There is no body: HEAD, 204, 304.
    NoBody,
    Length(u64),
    Chunked,
    UntilClose,
}

/// How passing on an answer ended.
#[derive(Debug)]
pub(crate) enum Relayed {
    /// The client has all of it.
    Whole(End),
    /// Nothing was sent yet: the client can still be answered otherwise.
    Unsent(Cause),
    /// It broke off midway.
    Broken(Cause),
}

/// Passes the answer of a backend on to the client.
pub(crate) fn relay<C: Client>(
    answer: &mut Answer,
    head: &RequestHead,
    client: &mut C,
    keep_alive: bool,
) -> Relayed {
    let status = answer.head().status();
    let options = ConnectionOptions::from_values(answer.head().headers().get_all(header::CONNECTION).iter());
    let framing = match framing(&head.method, head.version, answer.head(), &options) {
        Ok(framing) => framing,
        Err(cause) => return Relayed::Unsent(cause),
    };
    let keep_alive = keep_alive && framing != Framing::UntilClose && client.can_keep_alive();
    let mut buffers = Buffers::take();
    write_status_line(&mut buffers.out, status);
    write_fields(&mut buffers.out, answer.head(), &options, framing);
    write_connection(&mut buffers.out, head.version, keep_alive);
    buffers.out.extend_from_slice(b"\r\n");
    let mut sent_any = false;
    let result =
        answer.read_body(&options, |body| copy_body(body, framing, client, &mut buffers, &mut sent_any));
    let relayed = match result {
        Ok(()) if keep_alive => Relayed::Whole(End::KeepAlive),
        Ok(()) => Relayed::Whole(End::Close),
        Err(Interrupted::Upstream(cause)) if !sent_any => Relayed::Unsent(cause),
        Err(Interrupted::Upstream(cause)) => {
            // What is here of the answer is the client's; the missing end shows that it is not whole.
            if cause.blame() != crate::error::Blame::Downstream {
                drop(client.write(&buffers.out));
            }
            Relayed::Broken(cause)
        }
        Err(Interrupted::Downstream(error)) => Relayed::Broken(write_cause(&error)),
    };
    buffers.give_back();
    if framing == Framing::UntilClose
        && let Relayed::Broken(_) = relayed
        && let Some(socket) = client.socket()
    {
        // Nothing but a reset tells this client that the end of the connection is not the end of the answer.
        drop(socket.set_linger(Some(Duration::ZERO)));
    }
    relayed
}

/// Tells the client that the backend switches protocols (RFC 9110 §15.2.2).
pub(crate) fn switch_protocols<C: Client>(answer: &Answer, client: &mut C) -> io::Result<()> {
    let headers = answer.head().headers();
    let options = ConnectionOptions::from_values(headers.get_all(header::CONNECTION).iter());
    let mut out = Vec::with_capacity(512);
    write_status_line(&mut out, StatusCode::SWITCHING_PROTOCOLS);
    for (name, value) in headers {
        if *name == header::UPGRADE || (*name != header::CONTENT_LENGTH && crosses(name, &options)) {
            write_field(&mut out, name.as_str(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"connection: upgrade\r\n\r\n");
    client.write(&out)
}

/// Why an answer broke off.
pub(super) enum Interrupted {
    Upstream(Cause),
    Downstream(io::Error),
}

fn write_cause(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let is_over = call::deadline().is_some_and(|at| std::time::Instant::now() >= at);
            if is_over { Cause::DeadlineExceeded } else { Cause::WriteTimeout }
        }
        _ => Cause::ClientLeft,
    }
}

/// Copies the body behind the head that is in `out`. Waits for the backend only when the client has everything.
fn copy_body<C: Client>(
    body: &mut BodyReader<'_>,
    framing: Framing,
    client: &mut C,
    buffers: &mut Buffers,
    sent_any: &mut bool,
) -> Result<(), Interrupted> {
    let Buffers { out, piece } = buffers;
    let mut owed = match framing {
        Framing::Length(length) => Some(length),
        _ => None,
    };
    // Of a body of known length ureq is not asked for the end.
    while owed != Some(0) {
        if let Some(left) = owed
            && left >= Pipe::WORTH_IT
            && out.is_empty()
            && body.is_plain()
            && let Some(pipe) = pass::way(client)
        {
            // The client has all that was read, and a good part is still to come.
            return pass::pass(body, left, client, pipe, piece);
        }
        let read = body.read(piece, out.is_empty()).map_err(Interrupted::Upstream)?;
        if read == Some(0) {
            break;
        }
        let data = piece.get(..read.unwrap_or(0)).unwrap_or_default();
        owed = owed.map(|owed| owed.saturating_sub(data.len() as u64));
        if out.is_empty() && data.len() == PIECE && framing != Framing::Chunked {
            // A large body on its way: not copied once more.
            *sent_any = true;
            client.write(data).map_err(Interrupted::Downstream)?;
            continue;
        }
        match framing {
            Framing::Chunked if !data.is_empty() => {
                chunked::encode_head(data.len(), out);
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
            _ => out.extend_from_slice(data),
        }
        if read.is_none() || out.len() >= BATCH {
            *sent_any = true;
            client.write(out).map_err(Interrupted::Downstream)?;
            out.clear();
        }
    }
    match framing {
        Framing::Chunked => out.extend_from_slice(chunked::LAST_CHUNK),
        Framing::Length(_) if owed != Some(0) => return Err(Interrupted::Upstream(Cause::BackendClosed)),
        // Before the client is told: its next request may be here soon, and looks for a connection.
        Framing::Length(_) => body.end(),
        Framing::NoBody | Framing::UntilClose => {}
    }
    if !out.is_empty() {
        *sent_any = true;
        client.write(out).map_err(Interrupted::Downstream)?;
    }
    Ok(())
}

/// Decides how the body is framed towards the client, and refuses an answer that does not say how long it is.
fn framing<B>(
    method: &Method,
    version: Version,
    response: &http::Response<B>,
    options: &ConnectionOptions,
) -> Result<Framing, Cause> {
    let (status, headers) = (response.status(), response.headers());
    if status.is_informational() {
        // ureq swallows interim answers; a 101 nobody asked for is not HTTP any more.
        return Err(Cause::BadResponse);
    }
    if options.is_excessive() {
        return Err(Cause::BadResponse);
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if let Some(coding) = coding {
        // Anything but one `chunked` would reach the client half decoded; in HTTP/1.0 ureq leaves even that undecoded.
        let one_chunked =
            coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        if !one_chunked || response.version() == http::Version::HTTP_10 {
            return Err(Cause::BadResponse);
        }
    }
    if *method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Ok(Framing::NoBody);
    }
    if coding.is_none()
        && let Some(length) = headers.get(header::CONTENT_LENGTH)
    {
        let length = length.to_str().ok().and_then(|length| length.trim().parse().ok());
        return length.map(Framing::Length).ok_or(Cause::BadResponse);
    }
    Ok(match version {
        Version::Http11 => Framing::Chunked,
        Version::Http10 => Framing::UntilClose,
    })
}

/// Writes the fields that the client gets of the backend's, and how the body is framed.
fn write_fields<B>(
    out: &mut Vec<u8>,
    response: &http::Response<B>,
    options: &ConnectionOptions,
    framing: Framing,
) {
    let (status, headers) = (response.status(), response.headers());
    let mut length_written = false;
    for (name, value) in headers {
        if *name == header::CONTENT_LENGTH {
            // HEAD and 304 say what a GET would have said, 204 says nothing (RFC 9110 §8.6). Equal lines become one.
            let wanted = match framing {
                Framing::NoBody => {
                    status != StatusCode::NO_CONTENT && !headers.contains_key(header::TRANSFER_ENCODING)
                }
                Framing::Length(_) => true,
                Framing::Chunked | Framing::UntilClose => false,
            };
            if !wanted || length_written {
                continue;
            }
            length_written = true;
        } else if !crosses(name, options) {
            continue;
        }
        write_field(out, name.as_str(), value.as_bytes());
    }
    if framing == Framing::Chunked {
        write_field(out, "transfer-encoding", b"chunked");
    }
}

fn write_status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    // ureq does not tell the backend's own phrase, and clients are to ignore it (RFC 9112 §4).
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_connection(out: &mut Vec<u8>, version: Version, keep_alive: bool) {
    match (version, keep_alive) {
        (_, false) => write_field(out, "connection", b"close"),
        (Version::Http10, true) => write_field(out, "connection", b"keep-alive"),
        (Version::Http11, true) => {}
    }
}

/// The bytes of an answer made by the proxy itself. `request`: version, and whether it was HEAD.
pub(crate) fn refusal(cause: Cause, version: Version, is_head: bool, keep_alive: bool) -> Vec<u8> {
    let status = StatusCode::from_u16(cause.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = status.canonical_reason().unwrap_or_default();
    let body = format!("{} {reason}: {} ({cause})\n", status.as_u16(), cause.sentence());
    let mut out = Vec::with_capacity(512);
    write_status_line(&mut out, status);
    write_field(&mut out, "content-type", b"text/plain; charset=utf-8");
    write_field(&mut out, "content-length", body.len().to_string().as_bytes());
    let proxy_status = format!("reverse-proxy; error={}; details=\"{cause}\"", cause.proxy_error_type());
    write_field(&mut out, "proxy-status", proxy_status.as_bytes());
    if let Some(seconds) = cause.retry_after_secs() {
        write_field(&mut out, "retry-after", seconds.to_string().as_bytes());
    }
    if cause.status() == 405 {
        // CONNECT is the one method refused by name.
        write_field(&mut out, "allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");
    }
    write_connection(&mut out, version, keep_alive);
    out.extend_from_slice(b"\r\n");
    if !is_head {
        out.extend_from_slice(body.as_bytes());
    }
    out
}
