//! Stage: a name and a password have come, and are compared on another thread: see [`passwords`](crate::passwords).

use std::time::Instant;

use super::context::Context;
use super::queued::Waiting;
use super::{Due, Exchange, Next, Stage};
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::passwords::{PATIENCE, Said, Ticket};
use crate::rules::Credentials;

/// Waiting for that.
#[derive(Debug)]
pub(super) struct Authenticate {
    ticket: Ticket,
    until: Instant,
}

impl Exchange {
    /// What is known of the name and the password, or the stage in which it is waited for.
    pub(super) fn authenticate(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        let rules = self.route.as_ref().map(|(route, _)| &route.config().rules);
        let Some(auth) = rules.and_then(|rules| rules.basic_auth.as_ref()) else {
            return Next::Failed(Cause::Internal);
        };
        let Some(credentials) = Credentials::of(&self.head.fields) else {
            return Next::Failed(Cause::Unauthorized);
        };
        self.record.user = Some(credentials.user.as_str().into());
        let wake = Some(Box::new(Waiting::new(cx)) as _);
        match cx.gateway.passwords.ask(&auth.users, credentials, cx.now, wake) {
            Said::Known(true) => self.authenticated(client, cx),
            Said::Known(false) => Next::Failed(Cause::Unauthorized),
            Said::Wait(ticket) => {
                // A client may end its side with its request, and waits for the answer all the same.
                self.half_closed = client.stream.has_hung_up();
                Next::Stage(Stage::Authenticate(Authenticate { ticket, until: cx.now + PATIENCE }))
            }
            Said::Busy => Next::Failed(Cause::AuthBusy),
        }
    }

    pub(super) fn await_password(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        let Stage::Authenticate(Authenticate { ticket, until }) = &self.stage else {
            return Next::Failed(Cause::Internal);
        };
        match ticket.result() {
            Some(true) => self.authenticated(client, cx),
            Some(false) => Next::Failed(Cause::Unauthorized),
            None => Next::Wait(Due::fails(*until, Cause::AuthBusy)),
        }
    }
}
