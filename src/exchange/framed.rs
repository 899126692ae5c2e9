//! [`Framed`]: the body of an answer as its client gets it, compressed or not. For both engines.

use super::coding::Coder;
use crate::error::Cause;
use crate::http::chunked::write_chunk;
use crate::http::fields::Fields;
use crate::http::head::Version;
use crate::http::hop_by_hop::ConnectionOptions;
use crate::http::response_head::ResponseHead;
use crate::http::response_out::Delimited;
use crate::http::trailers::write_last_chunk;
use crate::rules::compress;

/// What is made of a body on its way to the client.
#[derive(Debug)]
pub(crate) struct Framed {
    pub to: Delimited,
    /// Decides about trailers.
    pub options: ConnectionOptions,
    /// Compresses what is passed on.
    pub coder: Option<Coder>,
}

impl Framed {
    /// For a client that speaks `version`. `coder`: for a body that is to be compressed.
    pub(crate) fn new(head: &ResponseHead, version: Version, coder: Option<Coder>) -> Self {
        let mut options = head.options.clone();
        if coder.is_none() {
            return Self { to: Delimited::of(head.framing, version), options, coder };
        }
        compress::not_behind_it().for_each(|name| options.hide(&name));
        Self { to: Delimited::unknown(version), options, coder }
    }

    /// Puts a piece of the body into `out`, or keeps it back for the coder.
    pub(crate) fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Cause> {
        match &mut self.coder {
            Some(coder) => coder.push(data, &mut |piece| frame(self.to, piece, out)),
            None => {
                frame(self.to, data, out);
                Ok(())
            }
        }
    }

    /// Puts into `out` what the coder has kept back so far.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Cause> {
        match &mut self.coder {
            Some(coder) => coder.flush(&mut |piece| frame(self.to, piece, out)),
            None => Ok(()),
        }
    }

    /// The body is whole.
    pub(crate) fn end(&mut self, trailers: Option<&Fields>, out: &mut Vec<u8>) -> Result<(), Cause> {
        if let Some(coder) = self.coder.take() {
            coder.finish(&mut |piece| frame(self.to, piece, out))?;
        }
        if self.to == Delimited::Chunked {
            write_last_chunk(out, trailers, &self.options);
        }
        Ok(())
    }
}

fn frame(to: Delimited, data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    if to == Delimited::Chunked {
        write_chunk(data, out);
    } else {
        out.extend_from_slice(data);
    }
}
