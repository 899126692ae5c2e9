//! The subject of a certificate as a string of RFC 4514, from its DER.

use std::fmt::Write;

/// The tags of DER that are met here (X.690 §8, X.680 §41).
mod tag {
    pub(super) const OID: u8 = 0x06;
    pub(super) const UTF8: u8 = 0x0c;
    pub(super) const NUMERIC: u8 = 0x12;
    pub(super) const PRINTABLE: u8 = 0x13;
    pub(super) const T61: u8 = 0x14;
    pub(super) const IA5: u8 = 0x16;
    pub(super) const VISIBLE: u8 = 0x1a;
    pub(super) const UNIVERSAL: u8 = 0x1c;
    pub(super) const BMP: u8 = 0x1e;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
}

/// Longer ones are not written: a part of a name would be another name.
const LONGEST: usize = 1024;

/// Types of attributes that have a name, by their DER. Those of OpenSSL, and so of nginx and HAProxy, are the same.
const NAMES: [(&[u8], &str); 14] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 42], "GN"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
];

/// `der`: what is inside of the outer sequence of a name. All of the text is visible ASCII or spaces, whatever is in the
/// name: what else there is, is escaped. `None`: it is no name, or an empty one, or too long.
pub(super) fn subject(der: &[u8]) -> Option<String> {
    let mut sets = Vec::new();
    let mut rest = der;
    while !rest.is_empty() {
        let (tag::SET, set, after) = take(rest)? else { return None };
        sets.push(set);
        rest = after;
    }
    let mut text = String::new();
    // The last one comes first (RFC 4514 §2.1).
    for mut set in sets.into_iter().rev() {
        let mut separator = if text.is_empty() { "" } else { "," };
        while !set.is_empty() {
            let (tag::SEQUENCE, pair, after) = take(set)? else { return None };
            let (tag::OID, kind, value) = take(pair)? else { return None };
            text.push_str(separator);
            put_attribute(&mut text, kind, value)?;
            if text.len() > LONGEST {
                return None;
            }
            separator = "+";
            set = after;
        }
    }
    Some(text).filter(|text| !text.is_empty())
}

/// The tag and the content of the first value, and what follows it. DER has one form for each length (X.690 §10.1); here
/// those suffice that a certificate can have.
fn take(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&len, rest) = rest.split_first()?;
            (usize::from(len), rest)
        }
        0x82 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// `value`: its whole DER.
fn put_attribute(text: &mut String, kind: &[u8], value: &[u8]) -> Option<()> {
    let (tag, content, []) = take(value)? else { return None };
    let name = NAMES.iter().find(|(der, _)| *der == kind);
    match name {
        Some((_, name)) => text.push_str(name),
        None => put_oid(text, kind)?,
    }
    text.push('=');
    match name.and_then(|_| read(tag, content)) {
        Some(value) => put_escaped(text, &value),
        // What has no name, or is no text, is written as it is encoded (RFC 4514 §2.4).
        None => {
            text.push('#');
            value.iter().try_for_each(|byte| write!(text, "{byte:02X}")).ok()?;
        }
    }
    Some(())
}

/// The text of a value. `None`: it is none.
fn read(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        tag::UTF8 => str::from_utf8(content).ok().map(str::to_owned),
        tag::NUMERIC | tag::PRINTABLE | tag::IA5 | tag::VISIBLE => {
            str::from_utf8(content).ok().filter(|text| text.is_ascii()).map(str::to_owned)
        }
        // Nobody has ever put anything else than Latin-1 into it.
        tag::T61 => Some(content.iter().copied().map(char::from).collect()),
        tag::BMP => {
            let units: Vec<u16> = content.as_chunks().0.iter().copied().map(u16::from_be_bytes).collect();
            String::from_utf16(&units).ok().filter(|_| content.len().is_multiple_of(2))
        }
        tag::UNIVERSAL => {
            let units = content.as_chunks().0.iter().copied().map(u32::from_be_bytes);
            units.map(char::from_u32).collect::<Option<String>>().filter(|_| content.len().is_multiple_of(4))
        }
        _ => None,
    }
}

/// RFC 4514 §2.4. What is no visible ASCII is written as the bytes of its UTF-8, which §2.4 allows: fields have room for
/// nothing else.
fn put_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b'#' if at == 0 => text.push_str("\\#"),
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(text, "\\{byte:02X}")),
        }
    }
}

/// In the notation with dots (RFC 4512 §1.4). Numbers are in base 128, and the first stands for two (X.690 §8.19).
fn put_oid(text: &mut String, der: &[u8]) -> Option<()> {
    let mut number: u64 = 0;
    let mut is_first = true;
    for byte in der {
        number = number.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 != 0 {
            continue;
        }
        if is_first {
            let first = (number / 40).min(2);
            write!(text, "{first}.{}", number - 40 * first).ok()?;
            is_first = false;
        } else {
            write!(text, ".{number}").ok()?;
        }
        number = 0;
    }
    der.last().is_some_and(|byte| byte & 0x80 == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        let head = if content.len() < 0x80 { vec![tag, len[1]] } else { vec![tag, 0x82, len[0], len[1]] };
        [head, content.to_vec()].concat()
    }

    fn pair(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        der(tag::SEQUENCE, &[der(tag::OID, kind), der(tag, value)].concat())
    }

    fn name(sets: &[&[Vec<u8>]]) -> Vec<u8> {
        sets.iter().flat_map(|pairs| der(tag::SET, &pairs.concat())).collect()
    }

    fn of_one(tag: u8, value: &[u8]) -> Option<String> {
        subject(&name(&[&[pair(&[0x55, 4, 3], tag, value)]]))
    }

    /// Those of RFC 4514 §4 among them.
    #[test]
    fn names_are_written_as_the_rfc_has_it() {
        const CN: &[u8] = &[0x55, 4, 3];
        const OU: &[u8] = &[0x55, 4, 11];
        const DC: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
        let steve = name(&[
            &[pair(DC, tag::IA5, b"net")],
            &[pair(DC, tag::IA5, b"example")],
            &[pair(OU, tag::UTF8, b"Sales"), pair(CN, tag::UTF8, b"J.  Smith")],
        ]);
        assert_eq!(subject(&steve).unwrap(), "OU=Sales+CN=J.  Smith,DC=example,DC=net");
        for (value, expected) in [
            ("James \"Jim\" Smith, III", "CN=James \\\"Jim\\\" Smith\\, III"),
            ("Before\rAfter", "CN=Before\\0DAfter"),
            ("Lu\u{10d}i\u{107}", "CN=Lu\\C4\\8Di\\C4\\87"),
            ("#a#", "CN=\\#a#"),
            (" ", "CN=\\ "),
            (" a b ", "CN=\\ a b\\ "),
            ("a\r\nX-Admin: yes\0", "CN=a\\0D\\0AX-Admin: yes\\00"),
            ("a=b;c<d>e\\f+g", "CN=a=b\\;c\\<d\\>e\\\\f\\+g"),
            ("", "CN="),
        ] {
            assert_eq!(of_one(tag::UTF8, value.as_bytes()).unwrap(), expected);
        }
        let unnamed = name(&[&[pair(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 2], tag::IA5, b"a")]]);
        assert_eq!(subject(&unnamed).unwrap(), "1.2.840.113549.1.9.2=#160161");
        let joint = name(&[&[pair(&[0x88, 0x37, 3], tag::UTF8, b"Hi")]]);
        assert_eq!(subject(&joint).unwrap(), "2.999.3=#0C024869");
    }

    #[test]
    fn every_kind_of_string_is_read() {
        for (tag, value, expected) in [
            (tag::BMP, &b"\0H\0i"[..], "CN=Hi"),
            (tag::BMP, b"\0H\0", "CN=#1E03004800"),
            (tag::UNIVERSAL, b"\0\0\0H\0\0\0i", "CN=Hi"),
            (tag::UNIVERSAL, b"\0\x11\0\0", "CN=#1C0400110000"),
            (tag::T61, b"\xe4", "CN=\\C3\\A4"),
            (tag::PRINTABLE, b"a", "CN=a"),
            (tag::PRINTABLE, b"\xff", "CN=#1301FF"),
            (tag::UTF8, b"\xff", "CN=#0C01FF"),
            (0x02, b"\x05", "CN=#020105"),
        ] {
            assert_eq!(of_one(tag, value).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_name_or_too_long_is_none() {
        assert_eq!(subject(b""), None);
        assert_eq!(of_one(tag::UTF8, &[b'a'; LONGEST - 3]).unwrap().len(), LONGEST);
        assert_eq!(of_one(tag::UTF8, &[b'a'; LONGEST - 2]), None);
        let whole = name(&[&[pair(&[0x55, 4, 3], tag::UTF8, b"abc")]]);
        for end in 1..whole.len() {
            assert_eq!(subject(&whole[..end]), None, "{end}");
        }
        assert_eq!(subject(&name(&[&[pair(&[0x88], tag::UTF8, b"a")]])), None, "half an object identifier");
    }

    proptest! {
        /// Nothing in a certificate ends a line, and nothing makes it fail.
        #[test]
        fn a_line_stays_a_line(tag in any::<u8>(), value in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(text) = of_one(tag, &value) {
                prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
            }
        }

        #[test]
        fn any_bytes_are_fine(der in prop::collection::vec(any::<u8>(), 0..80)) {
            let is_line = |text: String| text.len() <= LONGEST && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            prop_assert!(subject(&der).is_none_or(is_line));
        }
    }
}
