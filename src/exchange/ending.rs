//! What is counted and said of an exchange that is over, and of what never became one. For both engines.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, header};

use super::record::Record;
use super::refusal::{OwnAnswer, Pages, Refused};
use super::view::View;
use crate::access_log::{Entry, Lines, RequestLine};
use crate::balance::Backend;
use crate::counters::Counters;
use crate::counters::tally::Ended;
use crate::error::Cause;
use crate::http::request_id::RequestId;
use crate::snapshot::Snapshot;

/// An exchange that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending<'a> {
    pub view: View<'a>,
    /// Who had it last.
    pub backend: Option<&'a Backend>,
    /// That is the service of `forward_auth`.
    pub asking: bool,
    /// That of the answer, as far as one has begun; 0: none has.
    pub status: u16,
    /// Why it is no whole answer of a backend.
    pub cause: Option<Cause>,
    /// Bytes of the body of the request.
    pub received: u64,
    /// Bytes of the body of the answer.
    pub sent: u64,
    pub whole: Duration,
    /// The version of TLS with the client.
    pub tls: Option<&'static str>,
}

impl<'a> Ending<'a> {
    /// Tells who follows single exchanges. `client`: whose connection it was.
    pub(crate) fn log(&self, client: &str) {
        log::debug!(
            "exchange client={client} method={} target={:?} status={} cause={} backend={} ms={}",
            self.view.head.method,
            self.view.head.target.as_str(),
            self.status,
            self.cause.map_or("-", Cause::word),
            self.backend.map_or("-", Backend::label),
            self.whole.as_millis(),
        );
    }

    /// Counts it, and writes its line.
    pub(crate) fn note(&self, counters: &Counters, lines: &mut Lines) {
        let Self { status, cause, received, sent, whole, .. } = *self;
        let Record { first_byte, retries, .. } = *self.view.record;
        match self.view.route {
            Some(route) => {
                let ended = Ended { status, cause, first_byte, whole, received, sent, retries };
                // What the service of `forward_auth` answers is no answer of a backend.
                route.count(&ended, self.backend.filter(|_| !self.asking));
            }
            None => counters.unrouted.count(status),
        }
        if let Some(log) = &self.view.snapshot.access_log {
            lines.add(log, &self.entry());
        }
    }

    fn entry(&self) -> Entry<'a> {
        let View { head, record, route, client, .. } = self.view;
        let field = |name| head.fields.get(&name).map_or(&b""[..], HeaderValue::as_bytes);
        let (method, target) = (head.method.as_str(), head.target.as_str());
        Entry {
            request_id: record.id.as_str(),
            client,
            user: record.user.as_deref(),
            request: Some(RequestLine { method, target, version: head.version }),
            tls: self.tls,
            host: head.host.as_bytes(),
            referer: field(header::REFERER),
            user_agent: field(header::USER_AGENT),
            route: route.map(|route| route.label()),
            pool: route.and_then(|route| route.share_of(self.backend?)),
            backend: self.backend.map(Backend::label),
            status: self.status,
            cause: self.cause,
            stage: record.phase.word(),
            bytes_received: self.received,
            bytes_sent: self.sent,
            retries: record.retries,
            asked: record.asked(record.started + self.whole),
            queued: record.queued,
            connecting: record.connecting,
            first_byte: record.first_byte,
            whole: self.whole,
        }
    }
}

/// What came from `client` and is no request, or finds no place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stray<'a> {
    pub cause: Cause,
    pub client: IpAddr,
    /// Whose connection it was, for the log.
    pub who: &'a str,
    pub is_head: bool,
    /// Its connection can carry another one.
    pub keep_alive: bool,
}

impl Stray<'_> {
    /// Counts it, writes its line, and says what it is answered.
    pub(crate) fn refuse(&self, snapshot: &Snapshot, counters: &Counters, lines: &mut Lines) -> OwnAnswer {
        let Self { cause, client, who, is_head, keep_alive } = *self;
        counters.count(cause);
        counters.unrouted.count(cause.status());
        log::debug!("refused client={who} cause={cause}");
        let id = RequestId::random();
        let pages = Pages { of_route: None, of_all: snapshot.error_pages.as_ref() };
        let answer = Refused::unknown(&id, is_head, keep_alive, pages).answer(cause);
        if let Some(log) = &snapshot.access_log {
            let bytes_sent = answer.content.len() as u64;
            lines.add(log, &Entry { bytes_sent, ..Entry::refused(id.as_str(), client, cause) });
        }
        answer
    }
}
