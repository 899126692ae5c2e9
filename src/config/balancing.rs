//! How a backend is chosen: `balancing_algorithm`, `hash_on`, `sticky_cookie`.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderName;
use toml::Spanned;

use super::RouteConfig;
use super::forms::Seconds;
use super::raw::RawStickyCookie;
use super::values::Resolver;
use crate::http::framing::is_tchar;
use crate::routing::Prefix;

/// How a backend is chosen among the eligible ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// One after the other, whatever their weights.
    RoundRobin,
    /// The one with the fewest exchanges in flight for its weight.
    LeastConnections,
    /// Of two at random, the one with fewer exchanges in flight for its weight.
    RandomTwoChoices,
    /// One after the other, in proportion to their weights.
    WeightedRoundRobin,
    /// The one from which an answer is to be expected soonest.
    LeastTime,
    /// The one that a hash of something in the request leads to.
    ConsistentHash(HashOn),
}

/// The word in the configuration.
impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "round_robin",
            Self::LeastConnections => "least_connections",
            Self::RandomTwoChoices => "random_two_choices",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::LeastTime => "least_time",
            Self::ConsistentHash(_) => "consistent_hash",
        })
    }
}

/// `hash_on`: what in a request decides where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The address the client's connection comes from.
    ClientAddress,
    /// The first line of this field.
    Header(HeaderName),
    /// The first cookie of this name.
    Cookie(String),
}

/// `sticky_cookie = { ... }` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyCookieConfig {
    /// What the cookie is called: a token (RFC 6265 §4.1.1).
    pub name: String,
    /// Seconds the client keeps it; absent = until it is closed.
    pub max_age_secs: Option<NonZeroU32>,
}

/// Browsers keep no cookie longer: 400 days (RFC 6265bis §5.5).
const MAX_AGE: i128 = 34_560_000;

impl Resolver<'_> {
    pub(super) fn algorithm(
        &mut self,
        route: &str,
        word: Option<Spanned<String>>,
        hash_on: Option<Spanned<String>>,
        into: &mut Algorithm,
    ) {
        let all = [
            Algorithm::RoundRobin,
            Algorithm::LeastConnections,
            Algorithm::RandomTwoChoices,
            Algorithm::WeightedRoundRobin,
            Algorithm::LeastTime,
            Algorithm::ConsistentHash(HashOn::ClientAddress),
        ];
        let mut is_known = true;
        if let Some(word) = word {
            match self.word(&word, &format!("{route}.balancing_algorithm"), "an algorithm", &all) {
                Some(found) => *into = found,
                None => is_known = false,
            }
        }
        let Some(text) = hash_on else { return };
        let key = format!("{route}.hash_on");
        match (hash_on_of(text.get_ref()), &mut *into) {
            (None, _) => {
                let problem = "is nothing to hash on; \
                    expected \"client_address\", \"header:NAME\" or \"cookie:NAME\", for example \"cookie:session\"";
                self.refuse_text(&text, &key, problem);
            }
            (Some(found), Algorithm::ConsistentHash(on)) => *on = found,
            // Perhaps the word that was refused was meant to be this one.
            (Some(_), _) if !is_known => {}
            (Some(_), other) => {
                let problem = format!(
                    "has a meaning only with balancing_algorithm = \"consistent_hash\"; this route has \"{other}\""
                );
                self.refuse(&text.span(), &key, problem);
            }
        }
    }

    /// `slow_start_secs`, when it is known how backends are chosen.
    pub(super) fn slow_start(&mut self, key: &str, time: Spanned<Seconds>, route: &mut RouteConfig) {
        if matches!(route.algorithm, Algorithm::ConsistentHash(_)) {
            let problem = "has no meaning with balancing_algorithm = \"consistent_hash\", where who asks decides, and \
                           not how much a backend has to do; leave it out, or take another algorithm";
            self.refuse(&time.span(), key, problem.to_owned());
        }
        let slow_start = route.slow_start.insert(Duration::MAX);
        self.timeout(key, Some(time), slow_start);
    }

    pub(super) fn sticky_cookie(
        &mut self,
        key: &str,
        raw: Spanned<RawStickyCookie>,
        prefix: &Prefix,
    ) -> Option<StickyCookieConfig> {
        let span = raw.span();
        let raw = raw.into_inner();
        if prefix.as_str().contains(';') {
            let problem = format!(
                "the cookie's path would be the prefix {:?}, and no cookie's path has a semicolon; \
                 expected none in the prefix, or no sticky_cookie",
                prefix.as_str()
            );
            self.refuse(&span, key, problem);
        }
        let name_key = format!("{key}.name");
        match &raw.name {
            None => self.missing(Some(&span), &name_key, "a name, for example name = \"backend\""),
            Some(name) => {
                if let Err(problem) = cookie_name(name.get_ref()) {
                    self.refuse_text(name, &name_key, problem);
                }
            }
        }
        let mut max_age_secs = None;
        if raw.max_age_secs.is_some() {
            let seconds = max_age_secs.insert(NonZeroU32::MIN);
            self.count(&format!("{key}.max_age_secs"), raw.max_age_secs, 1..=MAX_AGE, seconds);
        }
        Some(StickyCookieConfig { name: raw.name?.into_inner(), max_age_secs })
    }
}

fn hash_on_of(text: &str) -> Option<HashOn> {
    match text.split_once(':') {
        None => (text == "client_address").then_some(HashOn::ClientAddress),
        Some(("header", name)) => HeaderName::try_from(name).ok().map(HashOn::Header),
        Some(("cookie", name)) => is_token(name).then(|| HashOn::Cookie(name.to_owned())),
        Some(_) => None,
    }
}

/// Whether a browser would keep a cookie of that name. The answer is the end of a sentence.
fn cookie_name(name: &str) -> Result<(), &'static str> {
    if !is_token(name) {
        return Err("is not the name of a cookie; expected letters, digits and !#$%&'*+-.^_`|~");
    }
    let begins = |with: &str| name.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    if begins("__Host-") || begins("__Secure-") {
        return Err(
            "begins as only cookies with the attribute Secure may, which this one lacks; expected another name",
        );
    }
    Ok(())
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}
