//! What becomes of a connection whose client has `max_connections_per_client` of them: a word at once where plain HTTP is
//! spoken, and the end. It costs no worker, no buffer and no time of waiting, so that it can be done to any number.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown};

use socket2::Socket;

use crate::counters::Counters;
use crate::downstream::listener::Entrance;
use crate::downstream::per_client::ClientPlace;
use crate::error::Cause;
use crate::exchange::gateway::Gateway;
use crate::exchange::refusal::{Pages, Refused};
use crate::http::request_id::RequestId;
use crate::logging::sparingly::log_sparingly;

/// A head that has come is read, for closing a socket with unread bytes in it resets the connection, and takes away the answer.
const HEAD: usize = 8 * 1024;

/// The place of one more connection of this client, if each has a number of them. The error: there is none.
pub(super) fn place_of(client: IpAddr, gateway: &Gateway) -> Result<Option<ClientPlace>, ()> {
    let snapshot = gateway.snapshot.load();
    let Some(max) = snapshot.max_connections_per_client else { return Ok(None) };
    gateway.per_client.take(client, max.get(), &snapshot.trusted).map_err(|_| ())
}

/// Says why, as far as that can be said at once. Whoever has the socket closes it then.
pub(super) fn turn_away(socket: &Socket, entrance: Entrance, client: IpAddr, counters: &Counters) {
    const CAUSE: Cause = Cause::TooManyConnections;
    counters.count(CAUSE);
    log_sparingly!(
        warn,
        "a connection was turned away: its client has max_connections_per_client of them client={}",
        client.to_canonical()
    );
    if entrance.tls {
        return;
    }
    counters.unrouted.count(CAUSE.status());
    let answer = Refused::unknown(&RequestId::random(), false, false, Pages::default()).answer(CAUSE);
    // There is room for it, nothing having been sent before; and if not, or if the client is gone, that is the end as well.
    let _ = socket.send(&[&answer.head[..], &answer.content[..]].concat());
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.recv(&mut [MaybeUninit::uninit(); HEAD]);
}
