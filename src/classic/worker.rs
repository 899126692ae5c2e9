//! A thread of the pool: one request after another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;
use http::Method;
use tiny_http::Request;

use super::agents::Agents;
use super::client::Client;
use super::forward::Forward;
use crate::counters::InFlight;
use crate::error::Cause;
use crate::exchange::gateway::Gateway;
use crate::exchange::last_hop;
use crate::exchange::refusal::refusal;
use crate::http::framing::BodyFraming;
use crate::http::head::{HeadError, HeadLimits, RequestHead, Version};

/// What a thread of the pool needs.
#[derive(Debug)]
pub(super) struct Worker {
    gateway: Arc<Gateway>,
    agents: Arc<Agents>,
}

impl Worker {
    pub(super) fn new(gateway: Arc<Gateway>, agents: Arc<Agents>) -> Self {
        Self { gateway, agents }
    }

    /// Until nobody sends requests any more.
    pub(super) fn run(&self, requests: &Receiver<Request>) {
        while let Ok(request) = requests.recv() {
            if catch_unwind(AssertUnwindSafe(|| self.serve(request))).is_err() {
                self.gateway.counters.panics.fetch_add(1, Ordering::Relaxed);
                log::error!("an exchange panicked; this is a defect of the proxy, please report it");
            }
        }
    }

    fn serve(&self, request: Request) {
        let _in_flight = InFlight::enter(&self.gateway.counters);
        let snapshot = self.gateway.snapshot();
        let head = match head_of(&request, &snapshot.limits.head) {
            Ok(head) => head,
            Err(error) => {
                let is_head = *request.method() == tiny_http::Method::Head;
                let mut client = Client::new(request, BodyFraming::None);
                let cause = Cause::Head(error);
                self.gateway.counters.count(cause);
                log::debug!("refused client={} cause={cause}", client.address());
                client.answer(&refusal(cause, Version::Http11, is_head, true));
                return;
            }
        };
        let mut client = Client::new(request, head.framing);
        // tiny_http decides by the request alone what becomes of the connection.
        let keep_alive = head.keep_alive;
        if last_hop::ends_here(&head) {
            client.answer(&last_hop::answer(&head, keep_alive));
            return;
        }
        let mut forward = Forward::new(&self.gateway, &snapshot, &self.agents, &head);
        let result = forward.run(&mut client);
        log::debug!(
            "exchange client={} method={} target={:?} status={} cause={} backend={} ms={}",
            client.address(),
            head.method,
            head.target.as_str(),
            result.map_or_else(Cause::status, |status| status.as_u16()),
            result.err().map_or("-", Cause::word),
            forward.backend(),
            forward.started().elapsed().as_millis(),
        );
        if let Err(cause) = result {
            self.gateway.counters.count(cause);
            if !forward.has_begun() {
                client.answer(&refusal(cause, head.version, head.method == Method::HEAD, keep_alive));
            }
        }
    }
}

fn head_of(request: &Request, limits: &HeadLimits) -> Result<RequestHead, HeadError> {
    let version = if request.http_version().1 == 0 { Version::Http10 } else { Version::Http11 };
    let fields = request
        .headers()
        .iter()
        .map(|header| (header.field.as_str().as_str().as_bytes(), header.value.as_str().as_bytes()));
    let (method, target) = (request.method().as_str().as_bytes(), request.url().as_bytes());
    RequestHead::from_parts(method, target, version, fields, limits)
}
