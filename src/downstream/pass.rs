//! The rest of a large answer, from the backend's socket to the client's without ureq's buffers, and without a copy.

use super::answer::Interrupted;
use super::exchange::Client;
use crate::error::Cause;
use crate::socket::Pipe;
use crate::upstream::forward::BodyReader;

/// A pipe to this client, if it has a socket to lead to and there are descriptors. It is made for one answer: kept by
/// the workers they would hold two descriptors each, and making one is nothing beside such an answer.
pub(super) fn way<C: Client>(client: &C) -> Option<Pipe> {
    client.socket().and_then(|_| Pipe::new().ok())
}

/// Passes on the last `left` bytes of a body, when the client has all before them. `piece` is the caller's buffer.
pub(super) fn pass<C: Client>(
    body: &mut BodyReader<'_>,
    mut left: u64,
    client: &mut C,
    mut pipe: Pipe,
    piece: &mut [u8],
) -> Result<(), Interrupted> {
    while let Some(n) = body.read_held(piece).map_err(Interrupted::Upstream)? {
        if n == 0 {
            // ureq had all of it, and has seen the end for itself.
            return if left == 0 { Ok(()) } else { Err(Interrupted::Upstream(Cause::BackendClosed)) };
        }
        left = left.saturating_sub(n as u64);
        client.write(piece.get(..n).unwrap_or_default()).map_err(Interrupted::Downstream)?;
    }
    while left > 0 {
        let most = usize::try_from(left.min(Pipe::MOST)).unwrap_or(usize::MAX);
        let n = body.fill(&mut pipe, most).map_err(Interrupted::Upstream)?;
        if n == 0 {
            return Err(Interrupted::Upstream(Cause::BackendClosed));
        }
        left = left.saturating_sub(n as u64);
        client.pour(&mut pipe).map_err(Interrupted::Downstream)?;
    }
    body.end();
    Ok(())
}
