//! Stage: a name and a password have come, and are compared on another thread: see [`passwords`](crate::passwords).

use std::time::Instant;

use super::context::Context;
use super::queued::Waiting;
use super::record::Record;
use super::{Due, Exchange, Next, Stage};
use crate::balance::line::Wake;
use crate::downstream::connection::Connection;
use crate::error::Cause;
use crate::http::fields::Fields;
use crate::passwords::{PATIENCE, Passwords, Said, Ticket};
use crate::rules::{BasicAuth, Credentials};

/// Waiting for that.
#[derive(Debug)]
pub(super) struct Authenticate {
    ticket: Ticket,
    until: Instant,
}

/// Compares the name and the password that came with a request, for both engines. What is waited for, if it takes a while;
/// the error: it is not the password, or not now. See [`Passwords::ask`](crate::passwords::Passwords::ask).
pub(crate) fn ask(
    auth: &BasicAuth,
    fields: &Fields,
    record: &mut Record,
    passwords: &Passwords,
    now: Instant,
    wake: Option<Box<dyn Wake + Sync>>,
) -> Result<Option<Ticket>, Cause> {
    let credentials = Credentials::of(fields).ok_or(Cause::Unauthorized)?;
    record.user = Some(credentials.user.as_str().into());
    match passwords.ask(&auth.users, credentials, now, wake) {
        Said::Known(true) => Ok(None),
        Said::Known(false) => Err(Cause::Unauthorized),
        Said::Wait(ticket) => Ok(Some(ticket)),
        Said::Busy => Err(Cause::AuthBusy),
    }
}

impl Exchange {
    /// What is known of the name and the password, or the stage in which it is waited for.
    pub(super) fn authenticate(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Next {
        let rules = self.route.as_ref().map(|(route, _)| &route.config().rules);
        let Some(auth) = rules.and_then(|rules| rules.basic_auth.as_ref()) else {
            return Next::Failed(Cause::Internal);
        };
        let wake = Some(Box::new(Waiting::new(cx)) as _);
        let passwords = &cx.gateway.passwords;
        match ask(auth, &self.head.fields, &mut self.record, passwords, cx.now, wake) {
            Ok(None) => self.authenticated(client, cx),
            Ok(Some(ticket)) => {
                // A client may end its side with its request, and waits for the answer all the same.
                self.half_closed = client.stream.has_hung_up();
                Next::Stage(Stage::Authenticate(Authenticate { ticket, until: cx.now + PATIENCE }))
            }
            Err(cause) => Next::Failed(cause),
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
