//! "did you mean": the word someone probably had in mind.

use super::raw::{TABLES, TableKeys};

/// The one of `words` that `found` is most likely a slip of, if there is one.
pub(super) fn closest<'a>(found: &str, words: &[&'a str]) -> Option<&'a str> {
    match like(found, words.iter().copied()) {
        Some((_, word)) => Some(word),
        None => match parts(found, words).as_slice() {
            [word] => Some(word),
            _ => None,
        },
    }
}

/// What there is to say about a key that its table does not have.
#[derive(Debug)]
pub(super) struct Advice {
    /// In words.
    pub(super) problem: String,
    /// The key of the same table that was probably meant.
    pub(super) meant: Option<&'static str>,
}

/// What to say about `name`, which is no key of the table `known`.
pub(super) fn about_unknown(name: &str, known: &'static TableKeys) -> Advice {
    let lookup = |of: &'static [(&'static str, &'static str)], other: &str| {
        of.iter().find(|(written, _)| *written == other).map(|(_, found)| *found)
    };
    let say = |problem: String| Advice { problem: format!("unknown key{problem}"), meant: None };
    let key = |key: &'static str| Advice { meant: Some(key), ..say(format!("; did you mean {key}?")) };
    // Elsewhere and nearly so.
    let other =
        |key: &str, table: &TableKeys| say(format!("; did you mean {key}? It belongs to {}", table.name));

    if let Some(advice) = lookup(known.absent, name) {
        return say(format!("; {advice}"));
    }
    if let Some(alias_of) = lookup(known.aliases, name) {
        return key(alias_of);
    }
    if let Some(home) = TABLES.iter().find(|table| table.keys.contains(&name)) {
        // The trap of TOML: what comes below a header belongs to it.
        let or_here = one_of(&parts(name, known.keys)).map(|keys| format!("; or did you mean {keys}?"));
        return say(format!(" here, it belongs to {}{}", home.name, or_here.unwrap_or_default()));
    }
    let near = like(name, words(known));
    // The slip may be in the name and in the place, but a name that is nearer to one of here is one of here.
    let elsewhere = TABLES
        .iter()
        .filter_map(|table| {
            like(name, table.keys.iter().copied()).map(|(distance, key)| (distance, key, table))
        })
        .min_by_key(|(distance, ..)| *distance);
    match (near, elsewhere) {
        (Some((here, _)), Some((there, key, table))) if there < here => other(key, table),
        (Some((_, word)), _) => match lookup(known.absent, word) {
            Some(advice) => say(format!("; {advice}")),
            None => key(lookup(known.aliases, word).unwrap_or(word)),
        },
        (None, Some((_, key, table))) => other(key, table),
        (None, None) => match parts(name, known.keys).as_slice() {
            [] => say(String::new()),
            [part] => key(part),
            several => say(one_of(several).map(|keys| format!("; did you mean {keys}?")).unwrap_or_default()),
        },
    }
}

/// `a, b or c`; nothing of nothing.
fn one_of(words: &[&str]) -> Option<String> {
    match words {
        [] => None,
        [word] => Some((*word).to_owned()),
        [words @ .., last] => Some(format!("{} or {last}", words.join(", "))),
    }
}

/// Everything that may have been meant in the table `known`.
fn words(known: &'static TableKeys) -> impl Iterator<Item = &'static str> {
    let others = known.aliases.iter().chain(known.absent).map(|(written, _)| *written);
    known.keys.iter().copied().chain(others)
}

/// The one of `words` with the smallest distance from `found`, if that is small; and the distance.
fn like<'a>(found: &str, words: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    words
        .map(|word| (distance(found, word), word))
        .filter(|&(distance, word)| distance <= (found.len().max(word.len()) / 3).max(1))
        .min_by_key(|&(distance, _)| distance)
}

/// Those of `words` that `found` is a part of: `algorithm` is one of `balancing_algorithm`.
fn parts<'a>(found: &str, words: &[&'a str]) -> Vec<&'a str> {
    let part = found.trim_end_matches('s');
    words.iter().copied().filter(|word| part.len() >= 4 && word.contains(part)).collect()
}

/// Levenshtein distance: characters to insert, delete or replace to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut above: Vec<usize> = (0..=b.chars().count()).collect();
    for (row, in_a) in a.chars().enumerate() {
        let mut left = row + 1;
        let mut current = vec![left];
        for (in_b, corner) in b.chars().zip(above.windows(2)) {
            let &[diagonal, up] = corner else { continue };
            left = (diagonal + usize::from(in_a != in_b)).min(up + 1).min(left + 1);
            current.push(left);
        }
        above = current;
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("kitten", "sitting", 3), ("wieght", "weight", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn suggests_the_likely_and_nothing_else() {
        let keys =
            ["prefix", "backend_addrs", "balancing_algorithm", "connect_timeout_secs", "idle_timeout_secs"];
        for (found, expected) in [
            ("prefx", Some("prefix")),
            ("Prefix", Some("prefix")),
            ("backend_addr", Some("backend_addrs")),
            ("algorithm", Some("balancing_algorithm")),
            ("timeout", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(closest(found, &keys), expected, "{found}");
        }
    }

    #[test]
    fn about_keys_that_are_none() {
        use crate::config::raw::{HEALTH_CHECK, POOL, ROUTE, SERVER, TLS, TOP};
        for (known, name, expected) in [
            (&ROUTE, "backend", "did you mean backend_addrs?"),
            (&ROUTE, "bakends", "did you mean backends?"),
            (&ROUTE, "pool", "did you mean backends?"),
            (&TOP, "pools", "did you mean backends?"),
            (&POOL, "backend_addrs", "did you mean addrs?"),
            (&ROUTE, "backend_adrs", "did you mean backend_addrs?"),
            (&ROUTE, "backend_adresses", "did you mean backend_addrs?"),
            (&ROUTE, "upstreams", "did you mean backend_addrs?"),
            (&ROUTE, "path", "did you mean prefix?"),
            (&ROUTE, "host", "did you mean hosts?"),
            (&ROUTE, "server_name", "did you mean hosts?"),
            (&ROUTE, "prefxi", "did you mean prefix?"),
            (&ROUTE, "algorithm", "did you mean balancing_algorithm?"),
            (&ROUTE, "max_inflight", "did you mean max_in_flight?"),
            (
                &ROUTE,
                "listen_adr",
                "did you mean listen_addr? It belongs to the top level, above the first [table]",
            ),
            (
                &ROUTE,
                "timeout",
                "did you mean connect_timeout_secs, response_timeout_secs, idle_timeout_secs, queue_timeout_secs or \
                 fail_timeout_secs?",
            ),
            (&HEALTH_CHECK, "interval", "did you mean interval_secs?"),
            (&SERVER, "wrokers", "did you mean workers?"),
            (&TLS, "verify", "did you mean insecure_skip_verify?"),
            (&TOP, "listen", "did you mean listen_addr?"),
            (&TOP, "shutdown_timeout_secs", "did you mean shutdown_timeout?"),
            (&TOP, "route", "did you mean routes?"),
        ] {
            assert_eq!(about_unknown(name, known).problem, format!("unknown key; {expected}"));
        }
        assert_eq!(about_unknown("colour", &ROUTE).problem, "unknown key");
        assert_eq!(
            about_unknown("interval_secs", &ROUTE).problem,
            "unknown key here, it belongs to health_check"
        );
        assert_eq!(
            about_unknown("timeout_secs", &ROUTE).problem,
            "unknown key here, it belongs to health_check; or did you mean connect_timeout_secs, \
             response_timeout_secs, idle_timeout_secs, queue_timeout_secs or fail_timeout_secs?"
        );
        for (known, name, words) in [
            (&TOP, "ssl", "tls = true"),
            (&TOP, "upstream", "below the line [[routes]]"),
            (&TOP, "path", "prefix, below the line [[routes]]"),
            (&SERVER, "tls", "tls = true"),
            (&ROUTE, "rewrite", "strip_prefix and replace_prefix"),
            (&SERVER, "port", "listen_addr"),
        ] {
            let advice = about_unknown(name, known).problem;
            assert!(advice.contains(words) && !advice.contains("did you mean"), "{name}: {advice}");
        }
    }
}
