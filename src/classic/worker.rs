//! A thread of the pool: one request after another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;
use http::StatusCode;
use tiny_http::Request;

use super::agents::Agents;
use super::client::Client;
use super::forward::Forward;
use crate::access_log::Entry;
use crate::counters::InFlight;
use crate::error::Cause;
use crate::exchange::gateway::Gateway;
use crate::exchange::last_hop;
use crate::exchange::refusal::{Pages, Refused};
use crate::http::framing::BodyFraming;
use crate::http::head::{HeadError, HeadLimits, RequestHead, Version};
use crate::http::request_id::RequestId;

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
                return refuse(&mut client, Cause::Head(error), is_head, &self.gateway);
            }
        };
        let mut client = Client::new(request, head.framing);
        let mut forward = Forward::new(&self.gateway, &snapshot, &self.agents, &head);
        let result = if last_hop::ends_here(&head) {
            let answer = last_hop::answer(&head, forward.id(), head.keep_alive);
            forward.answer_itself(&answer, &mut client);
            Ok(StatusCode::OK)
        } else {
            forward.run(&mut client)
        };
        if let Err(cause) = result {
            self.gateway.counters.count(cause);
            if !forward.has_begun() {
                let answer = forward.refused().answer(cause);
                forward.answer_itself(&answer, &mut client);
            }
        }
        forward.note_end(result, &client);
    }
}

/// Answers what is no request, or finds no place.
pub(super) fn refuse(client: &mut Client, cause: Cause, is_head: bool, gateway: &Gateway) {
    gateway.counters.count(cause);
    gateway.counters.unrouted.count(cause.status());
    log::debug!("refused client={} cause={cause}", client.address());
    let id = RequestId::random();
    let snapshot = gateway.snapshot();
    let pages = Pages { of_route: None, of_all: snapshot.error_pages.as_ref() };
    let answer = Refused::unknown(&id, is_head, true, pages).answer(cause);
    client.answer_whole(&answer);
    if let Some(log) = &snapshot.access_log {
        let bytes_sent = answer.content.len() as u64;
        let entry = Entry::refused(id.as_str(), client.address(), cause);
        let mut line = Vec::new();
        log.write(&Entry { bytes_sent, ..entry }, &mut line);
        log.send(line);
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
