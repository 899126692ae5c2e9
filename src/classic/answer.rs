//! The answer that ureq has got: its head by the rules that both engines have, and its body on its way to the client.

use std::io::{self, Read};

use bytes::Bytes;
use http::Method;
use http::response::Parts;
use ureq::Body;

use super::client::Client;
use super::fault;
use crate::error::Cause;
use crate::exchange::framed::Framed;
use crate::http::fields::Fields;
use crate::http::head::Version;
use crate::http::response_head::{ResponseFraming, ResponseHead};
use crate::http::response_out::Delimited;

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
pub(super) fn pass_on(body: Body, mut framed: Framed, client: &mut Client) -> Result<(), Cause> {
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
        if !client.answer(&out) {
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
