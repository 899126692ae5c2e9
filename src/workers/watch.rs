//! [`Watch`]: what others may ask the workers.

use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::mailbox::{Enquiry, NotAsked};
use super::report::WorkerLoad;
use crate::exchange::sight::Sight;

/// Asks the workers, and does not keep them from ending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    pub(super) enquiries: Vec<Enquiry>,
}

impl Watch {
    /// How busy each worker is, and how many connections it has.
    pub(crate) fn loads(&self) -> impl Iterator<Item = (&WorkerLoad, usize)> {
        self.enquiries.iter().map(|worker| (worker.report(), worker.load()))
    }

    /// The oldest `most` exchanges of all workers, the oldest first; and the numbers of those workers that did not answer
    /// within `patience`.
    pub(crate) fn exchanges(&self, most: usize, patience: Duration) -> (Vec<Sight>, Vec<usize>) {
        let deadline = Instant::now() + patience;
        let answers: Vec<_> = self.enquiries.iter().map(|worker| worker.ask(most)).collect();
        let (mut sights, mut silent) = (Vec::new(), Vec::new());
        for (number, answer) in answers.into_iter().enumerate() {
            match answer.map(|answer| answer.recv_deadline(deadline)) {
                Ok(Ok(mut its)) => sights.append(&mut its),
                // It has ended meanwhile, or had before.
                Ok(Err(RecvTimeoutError::Disconnected)) | Err(NotAsked::Gone) => {}
                Ok(Err(RecvTimeoutError::Timeout)) | Err(NotAsked::Busy) => silent.push(number),
            }
        }
        sights.sort_by_key(|sight: &Sight| std::cmp::Reverse(sight.age));
        sights.truncate(most);
        (sights, silent)
    }
}
