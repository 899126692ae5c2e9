//! Compressing an answer on its way, for both engines: whether, and who keeps the state.

use http::StatusCode;

use super::gateway::{Place, Places};
use crate::error::Cause;
use crate::http::gzip::Gzip;
use crate::http::head::RequestHead;
use crate::http::response_head::{ResponseFraming, ResponseHead};
use crate::logging::sparingly::log_sparingly;
use crate::rules::compress::{self, Compress, Verdict};

/// Bytes that are compressed at once at least: fewer would only be more turns.
const LEAST: usize = 1024;

/// A body that is being compressed.
#[derive(Debug)]
pub(crate) struct Coder {
    gzip: Gzip,
    /// How many bytes are passed on in the time in which one is compressed.
    weight: usize,
    _place: Place,
}

/// Changes the head of an answer as `compress` of its route says. The coder for its body, if that is to be compressed:
/// its length is not known then.
pub(crate) fn code(
    rule: &Compress,
    request: &RequestHead,
    answer: &mut ResponseHead,
    places: &Places,
) -> Option<Coder> {
    if answer.status == StatusCode::NOT_MODIFIED {
        compress::amend_not_modified(rule, &request.fields, answer);
        return None;
    }
    match rule.verdict(request, answer) {
        Verdict::Stays => None,
        Verdict::StaysForThisClient => {
            compress::vary(answer);
            None
        }
        Verdict::Compressed if answer.framing == ResponseFraming::None => {
            compress::amend(answer);
            None
        }
        Verdict::Compressed => {
            let Some(place) = places.take() else {
                log_sparingly!(warn, "an answer is not compressed: as many are as max_compressing allows");
                compress::vary(answer);
                return None;
            };
            compress::amend(answer);
            Some(Coder { gzip: Gzip::new(rule.level), weight: weight(rule.level), _place: place })
        }
    }
}

/// By what the slowest content takes that was found: two letters at random. A turn ends after a few milliseconds of that, and
/// well below one of anything that people have.
fn weight(level: u8) -> usize {
    match level {
        ..=6 => 8,
        7 => 16,
        _ => 64,
    }
}

impl Coder {
    /// What `n` bytes take of a turn.
    pub(crate) fn cost(&self, n: usize) -> usize {
        n.saturating_mul(self.weight)
    }

    /// Of `n` bytes, how many are compressed in what is left of a turn.
    pub(crate) fn fits(&self, n: usize, budget: usize) -> usize {
        n.min((budget / self.weight).max(LEAST))
    }

    /// See [`Gzip::push`].
    pub(crate) fn push(&mut self, data: &[u8], put: &mut impl FnMut(&[u8])) -> Result<(), Cause> {
        self.gzip.push(data, put).map_err(|_| Cause::Internal)
    }

    /// See [`Gzip::keeps_back`].
    pub(crate) fn keeps_back(&self) -> bool {
        self.gzip.keeps_back()
    }

    /// See [`Gzip::flush`].
    pub(crate) fn flush(&mut self, put: &mut impl FnMut(&[u8])) -> Result<(), Cause> {
        self.gzip.flush(put).map_err(|_| Cause::Internal)
    }

    /// See [`Gzip::finish`].
    pub(crate) fn finish(self, put: &mut impl FnMut(&[u8])) -> Result<(), Cause> {
        self.gzip.finish(put).map_err(|_| Cause::Internal)
    }
}
