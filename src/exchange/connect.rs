//! Stage: a connection to the backend, an idle one or a new one, TLS included.

use std::io;
use std::time::{Duration, Instant};

use super::auth::other_side;
use super::context::Context;
use super::tries::Failed;
use super::{Due, Exchange, Next, Stage};
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::net::proxy_protocol;
use crate::upstream::{fault, shortage};

/// A Unix-domain socket whose backlog is full is tried again after so long; nothing else tells when it is not any more.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Connecting.
#[derive(Debug)]
pub(super) struct Connect {
    /// When the connection has to stand. Known from the first step on.
    until: Option<Instant>,
    is_connected: bool,
    /// What of the PROXY header has not left yet.
    preface: Vec<u8>,
}

impl Connect {
    pub(super) fn new() -> Self {
        Self { until: None, is_connected: false, preface: Vec::new() }
    }
}

impl Exchange {
    pub(super) fn connect(&mut self, client: &Connection, cx: &mut Context<'_>) -> Next {
        let route = other_side(self.route.as_ref(), self.asking);
        let (Stage::Connect(connect), Some(route), Some(guard)) = (&mut self.stage, route, &self.guard)
        else {
            return Next::Failed(Cause::Internal);
        };
        let upstream = guard.upstream();
        let until = *connect.until.get_or_insert(cx.now + route.config().connect_timeout);
        let due = Due::fails(until, Cause::ConnectTimeout);
        if self.backend.is_none() {
            // A second try takes a new connection: the backend may have closed all idle ones.
            if self.tries.tried().is_empty() {
                let look = !super::retry::is_idempotent(&self.head.method);
                if let Some(idle) = cx.upstreams.take_idle(upstream, cx.client, look, cx.now) {
                    self.backend = Some(idle);
                    return self.begin_to_send(client, cx);
                }
            }
            match cx.upstreams.connect(upstream, cx.client) {
                Ok(connection) => self.backend = Some(connection),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Next::Wait(due.or(Due::look(cx.now + TRY_AGAIN)));
                }
                Err(error) => return self.not_connected(&error),
            }
        }
        let (Stage::Connect(connect), Some(backend), Some(guard)) =
            (&mut self.stage, &mut self.backend, &self.guard)
        else {
            return Next::Failed(Cause::Internal);
        };
        if !connect.is_connected {
            match backend.stream.connected() {
                None => return Next::Wait(due),
                Some(Ok(())) => {
                    connect.is_connected = true;
                    if guard.upstream().sends_proxy() {
                        connect.preface = proxy_protocol::header(client.ends());
                    }
                }
                Some(Err(error)) => return self.not_connected(&error),
            }
        }
        while !connect.preface.is_empty() {
            match backend.stream.write_before_tls(&connect.preface) {
                Ok(n) => drop(connect.preface.drain(..n.min(connect.preface.len()))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Wait(due),
                Err(error) => return self.not_connected(&error),
            }
        }
        match backend.stream.handshake() {
            Ok(true) => self.begin_to_send(client, cx),
            Ok(false) => Next::Wait(due),
            Err(error) => self.not_connected(&error),
        }
    }

    fn not_connected(&self, error: &io::Error) -> Next {
        let Some(guard) = &self.guard else { return Next::Failed(Cause::Internal) };
        let cause = fault::connect_cause(error, guard.upstream().is_unresolved());
        log::debug!("try failed backend={} cause={cause} reason={:?}", guard.label(), fault::reason(error));
        Next::TryFailed(Failed { cause, is_ours: shortage::is_ours(error) })
    }
}
