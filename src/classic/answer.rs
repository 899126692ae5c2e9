//! The answer that ureq has got, on its way to the client.

use std::io::{self, Read};
use std::time::Instant;

use bytes::Bytes;
use http::response::Parts;
use http::{Method, Response};
use ureq::Body;

use super::client::Client;
use super::exchange::Exchange;
use super::fault;
use crate::error::Cause;
use crate::exchange::coding::code;
use crate::exchange::framed::Framed;
use crate::exchange::record::Phase;
use crate::http::fields::Fields;
use crate::http::head::Version;
use crate::http::response_head::{ResponseFraming, ResponseHead};
use crate::http::response_out::{Added, Delimited, write_response_head};

impl Exchange<'_> {
    /// Passes the answer on: that of a backend as the rules of the route have it, that of the service of `forward_auth` as it is.
    pub(super) fn answer(&mut self, response: Response<Body>) -> Result<(), Cause> {
        let (parts, body) = response.into_parts();
        let mut head = head_of(&parts, &self.head.method)?;
        let (status, now) = (head.status.as_u16(), Instant::now());
        let (mut coder, mut cookie) = (None, None);
        if let (Some(route), Some(guard), false) = (&self.route, &self.guard, self.asking) {
            route.note_answer(guard, status, self.record.in_phase(now));
            let rules = &route.config().rules;
            if rules.intercept.as_ref().is_some_and(|intercept| intercept.has(status)) {
                // To read the body to its end would be to wait for it: ureq closes the connection.
                drop(body);
                let answer = self.view().refused(self.head.keep_alive).intercepted(&head);
                self.record.answer_begins(now);
                self.answer_itself(status, &answer);
                return Ok(());
            }
            self.view().amend(&mut head, guard);
            let compress = rules.compress.as_ref();
            coder = compress.and_then(|rule| code(rule, &self.head, &mut head, &self.gateway.compressing));
            cookie = self.view().sticky_cookie(guard);
        }
        let framed = Framed::new(&head, self.head.version, coder);
        let may_stay = framed.to != Delimited::UntilClose && !self.gateway.is_draining();
        let keep_alive = self.head.keep_alive && may_stay;
        let mut out = Vec::with_capacity(4 * 1024);
        let added = Added { request_id: self.record.id.as_bytes(), cookie: cookie.as_ref(), hsts: None };
        write_response_head(&mut out, &head, framed.to, self.head.version, keep_alive, &added);
        self.answered = Some(status);
        self.record.enter(Phase::Relay, now);
        self.record.answer_begins(now);
        self.record.head_sent(out.len());
        if !self.client.answer(&out, b"") {
            return Err(Cause::ClientLeft);
        }
        pass_on(body, framed, &mut self.client)
    }
}

/// The head of an answer to a request with this method.
pub(super) fn head_of(parts: &Parts, method: &Method) -> Result<ResponseHead, Cause> {
    let version = if parts.version == http::Version::HTTP_10 { Version::Http10 } else { Version::Http11 };
    let reason = Bytes::from_static(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    let fields: Fields = parts.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let head = ResponseHead::build(version, parts.status, reason, fields, method)?;
    // A switch of protocols that nobody has asked for.
    if head.status.is_informational() { Err(Cause::BadResponse) } else { Ok(head) }
}

/// Passes the body on.
fn pass_on(body: Body, mut framed: Framed, client: &mut Client) -> Result<(), Cause> {
    if framed.to == Delimited::NoBody {
        return Ok(());
    }
    let mut reader = body.into_reader();
    let (mut buf, mut out) = (vec![0; 16 * 1024], Vec::new());
    loop {
        let read = reader.read(&mut buf);
        match read {
            Ok(0) => framed.end(None, &mut out)?,
            _ => {
                let n = read.as_ref().map_or(0, |n| *n);
                framed.push(buf.get(..n).unwrap_or_default(), &mut out)?;
                framed.flush(&mut out)?;
            }
        }
        // Also what came before a fault: the missing end shows that it is not whole.
        if !client.answer(&out, b"") {
            return Err(Cause::ClientLeft);
        }
        out.clear();
        if read.map_err(|error| fault::of_body(&error))? == 0 {
            return Ok(());
        }
    }
}

/// Reads a body that is nobody's, so that the connection can be used again: not more than is worth it.
pub(super) fn throw_away(body: Body, framing: ResponseFraming) -> Result<(), Cause> {
    if framing != ResponseFraming::UntilClose {
        let read = io::copy(&mut body.into_reader().take(64 * 1024), &mut io::sink());
        read.map_err(|error| fault::of_body(&error))?;
    }
    Ok(())
}
