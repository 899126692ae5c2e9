//! A thread of the pool: one request after another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;
use tiny_http::Request;

use super::agents::Agents;
use super::client::Client;
use super::exchange::Exchange;
use crate::access_log::Lines;
use crate::counters::InFlight;
use crate::error::Cause;
use crate::exchange::ending::Stray;
use crate::exchange::gateway::Gateway;
use crate::http::framing::BodyFraming;
use crate::http::head::{HeadError, HeadLimits, RequestHead, Version};

/// Until nobody sends requests any more.
pub(super) fn run(requests: &Receiver<Request>, gateway: &Gateway, agents: &Agents) {
    while let Ok(request) = requests.recv() {
        if catch_unwind(AssertUnwindSafe(|| serve(request, gateway, agents))).is_err() {
            gateway.counters.panics.fetch_add(1, Ordering::Relaxed);
            log::error!("an exchange panicked; this is a defect of the proxy, please report it");
        }
    }
}

fn serve(request: Request, gateway: &Gateway, agents: &Agents) {
    let _in_flight = InFlight::enter(&gateway.counters);
    let snapshot = gateway.snapshot();
    match head_of(&request, &snapshot.limits.head) {
        Ok(head) => Exchange::new(gateway, &snapshot, agents, head, request).serve(),
        Err(error) => refuse(request, Cause::Head(error), gateway),
    }
}

/// Answers what is no request, or finds no place.
pub(super) fn refuse(request: Request, cause: Cause, gateway: &Gateway) {
    let is_head = *request.method() == tiny_http::Method::Head;
    let mut client = Client::new(request, BodyFraming::None);
    let mut lines = Lines::default();
    let stray = Stray { cause, client: client.address(), who: client.who(), is_head, keep_alive: true };
    let answer = stray.refuse(&gateway.snapshot(), &gateway.counters, &mut lines);
    client.answer(&answer.head, &answer.content);
    lines.hand_over();
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
