//! One try: the request out, the response head in.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderValue, SET_COOKIE};
use http::{Request, Response, Version};
use socket2::Socket;
use ureq::{Body, SendBody};

use super::agent::Upstream;
use super::call::{Call, CallScope, with_current};
use super::conn::Conn;
use super::failure;
use super::headers::{Rewrite, rewrite};
use super::retry::Progress;
use super::transport;
use crate::config::RouteConfig;
use crate::downstream::exchange::Client;
use crate::error::Cause;
use crate::http::framing::BodyFraming;
use crate::http::head::RequestHead;
use crate::http::hop_by_hop::ConnectionOptions;
use crate::socket::{Pipe, Ready, wait};

/// What the proxy makes a line longer by, at most: an address in `X-Forwarded-For`, the name of a backend in `Host`.
const ADDED_TO_A_LINE: usize = 512;
/// While a large upload runs, the backend is asked after so many bytes whether it has answered already.
const EARLY_ANSWER_CHECK: u64 = 1024 * 1024;
/// What may be left of an upload that the backend did not want. ureq has to be fed with filler up to the declared
/// length before it reads the answer; this much takes it about 40 ms, which a client must not be able to multiply.
const MAX_FILLER: u64 = 4 * 1024 * 1024 * 1024;

/// What one try is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try<'a> {
    pub head: &'a RequestHead,
    pub route: &'a RouteConfig,
    pub upstream: &'a Upstream,
    /// Take no idle connection.
    pub fresh: bool,
    /// The end of the whole exchange.
    pub deadline: Option<Instant>,
    /// The client is one of `trusted_proxies`.
    pub trusted: bool,
    /// Ask the backend to switch protocols, as the client does.
    pub upgrade: bool,
}

/// A response head, and its body still to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    // Declared, and so dropped, before the scope: what a dropped body tells about its connection goes there.
    response: Response<Body>,
    scope: CallScope,
}

/// A try that ended without a response head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub cause: Cause,
    pub progress: Progress,
    /// Ours, not the backend's: it is not held against it.
    pub is_ours: bool,
}

/// Sends the request of `client` to a backend and waits for the response head.
pub(crate) fn send<C: Client>(one: Try<'_>, client: &mut C) -> Result<Answer, Failed> {
    let mut request = Request::new(());
    *request.method_mut() = one.head.method.clone();
    *request.uri_mut() = one.upstream.uri(one.head.target.path_and_query().clone());
    let host = if one.route.preserve_host && !one.head.host.is_empty() {
        &one.head.host
    } else {
        one.upstream.host()
    };
    let upgrade = one.upgrade;
    let with = Rewrite { host, client: client.forwarded_for(), trusted: one.trusted, upgrade };
    rewrite(one.head, with, request.headers_mut());

    let has_body = !matches!(one.head.framing, BodyFraming::None | BodyFraming::Length(0));
    let mut call = Call::new(one.upstream.limits(one.deadline));
    call.client = client.socket().cloned();
    call.fresh = one.fresh;
    call.upgrade = upgrade;
    call.body_follows = has_body;
    call.longest_line = one.head.len + ADDED_TO_A_LINE;
    let scope = CallScope::enter(call);

    let mut upload = Upload::new(one, client);
    let result = if has_body {
        one.upstream.agent().run(request.map(|()| SendBody::from_reader(&mut upload)))
    } else {
        one.upstream.agent().run(request)
    };
    let body_error = upload.error;
    match result {
        Ok(response) => {
            scope.with(|call| (call.head_complete, call.body_is_due) = (true, true));
            Ok(Answer { response, scope })
        }
        Err(error) => {
            let cause = body_error.unwrap_or_else(|| failure::cause(&scope, &error));
            if cause == Cause::Internal {
                log::error!("request refused by the client library: {error}");
            }
            let (sent, received) = scope.with(|call| (call.sent, call.received)).unwrap_or((1, 1));
            let (reason, is_ours) = scope.with(|call| (call.reason.take(), call.is_ours)).unwrap_or_default();
            if let Some(reason) = reason {
                let host = String::from_utf8_lossy(one.upstream.host().as_bytes());
                log::debug!("try failed backend={host} cause={cause} reason={reason:?}");
            }
            drop(scope);
            let replayable = client.rewind_body();
            Err(Failed { cause, progress: Progress { sent, received, replayable }, is_ours })
        }
    }
}

impl Answer {
    pub(crate) fn head(&self) -> &Response<Body> {
        &self.response
    }

    /// Adds a cookie for the client.
    pub(crate) fn add_cookie(&mut self, cookie: HeaderValue) {
        if self.response.headers_mut().try_append(SET_COOKIE, cookie).is_err() {
            // Far more than ureq lets through.
            log::error!("too many fields in an answer to add a cookie");
        }
    }

    /// Calls `read` for each piece of the body. See [`BodyReader`]. `options`: those of the answer.
    pub(crate) fn read_body<R>(
        &mut self,
        options: &ConnectionOptions,
        read: impl FnOnce(&mut BodyReader<'_>) -> R,
    ) -> R {
        let stays_open = stays_open(self.response.version(), options);
        let reader = self.response.body_mut().as_reader();
        let mut reader = BodyReader { reader, scope: &self.scope, stays_open };
        read(&mut reader)
    }

    /// After a 101: the connection to the backend, and what came behind the head.
    pub(crate) fn into_upgraded(self) -> Option<(Conn, Vec<u8>)> {
        let Self { response, scope } = self;
        drop(response);
        scope.with(|call| call.upgraded.take()).flatten()
    }
}

/// Whether the backend keeps the connection after this answer (RFC 9112 §9.3).
fn stays_open(version: Version, options: &ConnectionOptions) -> bool {
    !options.close() && (version == Version::HTTP_11 || options.keep_alive())
}

/// The body of an answer.
pub(crate) struct BodyReader<'a> {
    reader: ureq::BodyReader<'a>,
    scope: &'a CallScope,
    /// The backend did not say that it closes the connection.
    stays_open: bool,
}

impl BodyReader<'_> {
    /// Reads the next piece; `Ok(Some(0))` at the end. With `wait` it waits for one up to `idle_timeout_secs`, without
    /// it says `Ok(None)` when nothing is here yet.
    pub(crate) fn read(&mut self, buf: &mut [u8], wait: bool) -> Result<Option<usize>, Cause> {
        self.scope.with(|call| (call.no_wait, call.hold_back) = (!wait, false));
        match self.reader.read(buf) {
            Ok(n) => Ok(Some(n)),
            Err(error) if !wait && error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(failure::body_cause(self.scope, &error)),
        }
    }

    /// Whether the backend sends the body of known length as it is, so that the rest of it can be passed on
    /// [past](Self::fill) ureq.
    pub(crate) fn is_plain(&self) -> bool {
        self.scope.with(|call| call.conn.as_ref().is_some_and(Conn::is_plain)).unwrap_or(false)
    }

    /// Reads what ureq has already. `Ok(None)`: nothing, all that comes has to be read from the connection.
    pub(crate) fn read_held(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Cause> {
        self.scope.with(|call| (call.hold_back, call.drained) = (true, false));
        match self.reader.read(buf) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Anything else would be lost, were the rest read past it.
                let drained = self.scope.with(|call| call.drained).unwrap_or(false);
                if drained { Ok(None) } else { Err(Cause::Internal) }
            }
            Err(error) => Err(failure::body_cause(self.scope, &error)),
        }
    }

    /// Takes the next bytes past ureq, `most` at most; waits up to `idle_timeout_secs`. 0 is the end of the stream.
    /// Only when [`read_held`](Self::read_held) has said that there is nothing else.
    pub(crate) fn fill(&mut self, pipe: &mut Pipe, most: usize) -> Result<usize, Cause> {
        transport::fill(pipe, most).map_err(|error| failure::cause(self.scope, &error))
    }

    /// All of the body was read, as its length says. The connection can carry the next exchange at once, if the backend
    /// does not close it: ureq would say the same, after another read.
    pub(crate) fn end(&mut self) {
        transport::let_go(self.stays_open);
    }
}

/// What went to the backend past ureq.
enum Sent {
    Bytes(usize),
    /// Nothing: the backend has answered while the client was waited for.
    Answered,
    /// Nothing: this part has to go the usual way.
    Nothing,
}

/// A request body on its way from the client to ureq.
struct Upload<'a, C> {
    client: &'a mut C,
    /// Bytes left of a declared length.
    left: Option<u64>,
    /// Bytes the route still takes.
    allowed: u64,
    /// Bytes until the backend is next asked whether it has answered.
    until_check: u64,
    filler: u64,
    /// Bytes that were sent past ureq, and that it has to be told of.
    untold: usize,
    /// What the rest of a large body passes through.
    pipe: Option<Pipe>,
    /// There is none to be had.
    no_pipe: bool,
    /// The end of the whole exchange.
    deadline: Option<Instant>,
    error: Option<Cause>,
}

impl<'a, C: Client> Upload<'a, C> {
    fn new(one: Try<'_>, client: &'a mut C) -> Self {
        let left = match one.head.framing {
            BodyFraming::Length(length) => Some(length),
            BodyFraming::None | BodyFraming::Chunked => None,
        };
        let allowed = one.route.max_body_bytes.unwrap_or(u64::MAX);
        let (until_check, deadline) = (EARLY_ANSWER_CHECK, one.deadline);
        Self {
            client,
            left,
            allowed,
            until_check,
            filler: 0,
            untold: 0,
            pipe: None,
            no_pipe: false,
            deadline,
            error: None,
        }
    }

    fn fail(&mut self, cause: Cause) -> io::Error {
        self.error = Some(cause);
        io::Error::other(cause.word())
    }

    /// Sends the next part of a body of known length without ureq's buffer, if that is possible: what is in memory as
    /// it lies there, the rest through a pipe.
    fn send_past(&mut self) -> io::Result<Sent> {
        let failed = |error: ureq::Error| io::Error::other(error.to_string());
        let held = self.client.held_body();
        if !held.is_empty() {
            let n = held.len();
            transport::send_past(held).map_err(failed)?;
            self.client.consume_body(n);
            return Ok(Sent::Bytes(n));
        }
        if self.pipe.is_none() && !self.may_pipe() {
            return Ok(Sent::Nothing);
        }
        let Some(pipe) = &mut self.pipe else { return Ok(Sent::Nothing) };
        match self.client.fill_with_body(pipe) {
            Ok(Some(n)) if n > 0 => {
                transport::pour_past(pipe, n).map_err(failed)?;
                Ok(Sent::Bytes(n))
            }
            Ok(Some(_)) => Ok(Sent::Nothing),
            Ok(None) => Ok(Sent::Answered),
            Err(cause) => Err(self.fail(cause)),
        }
    }

    /// Makes a pipe for the rest of the body, if it is large enough and both ends are sockets that carry it as it is.
    fn may_pipe(&mut self) -> bool {
        let is_plain = || with_current(|call| call.conn.as_ref().is_some_and(Conn::is_plain)) == Some(true);
        if !self.no_pipe && self.left >= Some(Pipe::WORTH_IT) && self.client.can_fill() && is_plain() {
            self.pipe = Pipe::new().ok();
            self.no_pipe = self.pipe.is_none();
        }
        self.pipe.is_some()
    }

    /// The backend has answered: give ureq what it waits for, so that it turns to the answer.
    fn skip(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(left) = &mut self.left else { return Ok(0) };
        let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
        *left -= n as u64;
        self.filler += n as u64;
        if self.filler > MAX_FILLER {
            return Err(self.fail(Cause::UploadAbandoned));
        }
        Ok(n)
    }
}

impl<C: Client> Read for Upload<'_, C> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == Some(0) || buf.is_empty() {
            return Ok(0);
        }
        if self.until_check == 0 {
            self.until_check = EARLY_ANSWER_CHECK;
            look_for_early_answer();
        }
        if send_broken() {
            return self.skip(buf);
        }
        if self.deadline.is_some_and(|at| Instant::now() >= at) {
            return Err(self.fail(Cause::DeadlineExceeded));
        }
        if self.left.is_some() && self.untold == 0 {
            match self.send_past()? {
                Sent::Bytes(n) => self.untold = n,
                Sent::Answered => return self.skip(buf),
                Sent::Nothing => {}
            }
        }
        let n = if self.untold > 0 {
            let n = self.untold.min(buf.len());
            self.untold -= n;
            n
        } else {
            match self.client.read_body(buf) {
                Ok(Some(n)) => n,
                // The backend spoke while the client was waited for.
                Ok(None) => return self.skip(buf),
                Err(cause) => return Err(self.fail(cause)),
            }
        };
        if n == 0 && self.left.is_some() {
            // Never `Ok(0)` before the declared length: ureq would ask for ever.
            return Err(self.fail(Cause::ClientLeft));
        }
        let Some(allowed) = self.allowed.checked_sub(n as u64) else {
            return Err(self.fail(Cause::BodyTooLarge));
        };
        self.allowed = allowed;
        self.until_check = self.until_check.saturating_sub(n as u64);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(n as u64);
        }
        Ok(n)
    }
}

fn send_broken() -> bool {
    with_current(|call| call.send_broken).unwrap_or(false)
}

/// The connection on which an early answer would come.
fn answering_socket() -> Option<Arc<Socket>> {
    with_current(|call| {
        call.conn.as_ref().filter(|_| !call.only_interim).map(|conn| Arc::clone(conn.socket()))
    })
    .flatten()
}

fn look_for_early_answer() {
    let Some(socket) = answering_socket() else { return };
    let mut state = [(&*socket, Ready { readable: true, ..Ready::default() })];
    if wait(&mut state, Duration::ZERO).is_ok() && state.iter().any(|(_, ready)| ready.readable) {
        transport::look_for_early_answer();
    }
}

/// Waits until the client has sent more of its body, the backend has answered early, or `limit` is over. For a way in
/// that reads the body from a socket.
pub(crate) fn wait_for_body(client: &Socket, limit: Duration) -> io::Result<BodyWait> {
    let backend = answering_socket();
    let readable = Ready { readable: true, ..Ready::default() };
    let Some(backend) = backend else {
        let mut state = [(client, readable)];
        wait(&mut state, limit)?;
        let [(_, client)] = state;
        return Ok(if client.readable { BodyWait::Client } else { BodyWait::TimedOut });
    };
    let mut state = [(client, readable), (&*backend, readable)];
    wait(&mut state, limit)?;
    let [(_, client), (_, spoke)] = state;
    if client.readable {
        return Ok(BodyWait::Client);
    }
    if spoke.readable {
        transport::look_for_early_answer();
        return Ok(if send_broken() { BodyWait::EarlyAnswer } else { BodyWait::TimedOut });
    }
    Ok(BodyWait::TimedOut)
}

/// What [`wait_for_body`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyWait {
    /// The client has sent bytes, or the end of the stream.
    Client,
    /// The backend has answered before it had the whole request, or has gone.
    EarlyAnswer,
    /// Neither, in the time given or less.
    TimedOut,
}
