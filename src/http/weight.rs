//! How much a client would like something, in thousandths (RFC 9110 §12.4.2).

/// The weight of what is not given one.
const FULL: u16 = 1000;

/// The weight among the parameters of an element. `None` if it is malformed.
pub(super) fn weight<'a>(mut parameters: impl Iterator<Item = &'a [u8]>) -> Option<u16> {
    let given = parameters.find_map(|parameter| match parameter {
        [b'q' | b'Q', b'=', weight @ ..] => Some(weight),
        _ => None,
    });
    given.map_or(Some(FULL), thousandths)
}

/// `0.8` (RFC 9110 §12.4.2).
fn thousandths(weight: &[u8]) -> Option<u16> {
    let (whole, digits) = match weight {
        [b'0'] => (0, &b""[..]),
        [b'1'] => (1, &b""[..]),
        [b'0', b'.', digits @ ..] => (0, digits),
        [b'1', b'.', digits @ ..] => (1, digits),
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let place = |n: usize| digits.get(n).map_or(0, |digit| u16::from(digit - b'0'));
    let weight = whole * 1000 + place(0) * 100 + place(1) * 10 + place(2);
    (weight <= FULL).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("0.", Some(0)),
            ("0.5", Some(500)),
            ("0.05", Some(50)),
            ("0.005", Some(5)),
            ("1.000", Some(1000)),
            ("1.001", None),
            ("0.0001", None),
            (".5", None),
            ("", None),
            ("0,5", None),
            ("-1", None),
        ] {
            assert_eq!(thousandths(text.as_bytes()), expected, "{text:?}");
        }
    }
}
