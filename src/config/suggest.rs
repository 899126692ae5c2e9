//! "did you mean": the word someone probably had in mind.

/// The one of `words` that `found` is most likely a slip of, if there is one.
pub(super) fn closest<'a>(found: &str, words: &[&'a str]) -> Option<&'a str> {
    let near = words
        .iter()
        .map(|&word| (distance(found, word), word))
        .filter(|&(distance, word)| distance <= (found.len().max(word.len()) / 3).max(1))
        .min_by_key(|&(distance, _)| distance);
    if let Some((_, word)) = near {
        return Some(word);
    }
    // A part of the name: `algorithm` for `balancing_algorithm`, `backends` for `backend_addrs`.
    let part = found.trim_end_matches('s');
    let mut longer = words.iter().copied().filter(|word| part.len() >= 4 && word.contains(part));
    match (longer.next(), longer.next()) {
        (Some(word), None) => Some(word),
        _ => None,
    }
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
            ("backends", Some("backend_addrs")),
            ("algorithm", Some("balancing_algorithm")),
            ("timeout", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(closest(found, &keys), expected, "{found}");
        }
    }
}
