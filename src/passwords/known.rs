//! [`Known`]: results of a while ago, so that not each request of somebody takes as long as the first. What is kept is a
//! keyed hash of name, password and what it was compared with: no password, and nothing that still holds when the file has
//! another hash for the name.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::rules::{Credentials, Users};

/// How long a result is kept: of the right password, after it was used last.
const KEPT: Duration = Duration::from_secs(300);
/// Results of each kind. Right ones are as many as there are users who come; however many wrong ones there are, they take the
/// places of wrong ones.
const MOST: usize = 1024;

/// What stands for an attempt.
pub(super) type Digest = [u8; 32];

/// Makes the digests of attempts. The key is another one for each process.
#[derive(Debug)]
pub(super) struct Digester(Hmac<Sha256>);

impl Digester {
    /// `None`: the system has no random numbers.
    pub(super) fn new() -> Option<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).ok()?;
        Hmac::new_from_slice(&key).ok().map(Self)
    }

    pub(super) fn digest(&self, users: &Users, credentials: &Credentials) -> Digest {
        let mut mac = self.0.clone();
        mac.update(users.record(&credentials.user).as_bytes());
        // Neither has a fixed length, but the name has no NUL.
        mac.update(credentials.user.as_bytes());
        mac.update(b"\0");
        mac.update(credentials.password());
        mac.finalize().into_bytes().into()
    }
}

/// What has come out.
#[derive(Debug, Default)]
pub(super) struct Known {
    right: HashMap<Digest, Instant>,
    wrong: HashMap<Digest, Instant>,
}

impl Known {
    /// The result of an attempt of a while ago.
    pub(super) fn get(&mut self, digest: &Digest, now: Instant) -> Option<bool> {
        let is_kept = |at: &Instant| now.saturating_duration_since(*at) < KEPT;
        if let Some(used) = self.right.get_mut(digest).filter(|at| is_kept(at)) {
            *used = now.max(*used);
            return Some(true);
        }
        self.wrong.get(digest).filter(|at| is_kept(at)).map(|_| false)
    }

    /// Keeps one, in place of the oldest of its kind if there are too many.
    pub(super) fn keep(&mut self, digest: Digest, is_right: bool, now: Instant) {
        let kind = if is_right { &mut self.right } else { &mut self.wrong };
        if kind.len() >= MOST && !kind.contains_key(&digest) {
            kind.retain(|_, at| now.saturating_duration_since(*at) < KEPT);
            let oldest = kind.iter().min_by_key(|(_, at)| **at).map(|(digest, _)| *digest);
            if let Some(oldest) = oldest.filter(|_| kind.len() >= MOST) {
                kind.remove(&oldest);
            }
        }
        kind.insert(digest, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::basic_auth::tests::{basic, line};

    fn digest(n: u32) -> Digest {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_be_bytes());
        digest
    }

    #[test]
    fn results_are_kept_for_a_time() {
        let (mut known, start) = (Known::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        assert_eq!(known.get(&digest(1), at(0)), None);
        known.keep(digest(1), true, at(0));
        known.keep(digest(2), false, at(0));
        assert_eq!(
            (known.get(&digest(1), at(299)), known.get(&digest(2), at(299))),
            (Some(true), Some(false))
        );
        // Who comes again and again is not asked to wait again.
        assert_eq!((known.get(&digest(1), at(598)), known.get(&digest(2), at(300))), (Some(true), None));
        assert_eq!(known.get(&digest(1), at(898)), None);
    }

    #[test]
    fn guesses_do_not_take_the_places_of_users() {
        let (mut known, start) = (Known::default(), Instant::now());
        known.keep(digest(0), true, start);
        for n in 1..=5_000 {
            known.keep(digest(n), false, start + Duration::from_millis(n.into()));
        }
        let now = start + Duration::from_secs(6);
        assert_eq!(known.get(&digest(0), now), Some(true));
        assert_eq!((known.right.len(), known.wrong.len()), (1, MOST));
        assert_eq!((known.get(&digest(5_000), now), known.get(&digest(1), now)), (Some(false), None));
    }

    #[test]
    fn a_digest_is_of_all_there_is() {
        let digester = Digester::new().unwrap();
        let users = |text: String| Users::parse(&text).unwrap();
        let one = users(line("anna", "a") + &line("ann", "a"));
        let of = |users: &Users, text: &str| digester.digest(users, &basic(text).unwrap());
        assert_eq!(of(&one, "anna:a"), of(&one, "anna:a"));
        let changed = users(line("anna", "b"));
        let all = [
            of(&one, "anna:a"),
            of(&one, "anna:b"),
            of(&one, "ann:aa"),
            of(&one, "x:a"),
            of(&changed, "anna:a"),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[..n].contains(one), "{n}");
        }
        assert_ne!(Digester::new().unwrap().digest(&one, &basic("anna:a").unwrap()), all[0], "another key");
    }
}
