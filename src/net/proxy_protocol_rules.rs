//! What holds for the PROXY header that is found in any bytes, by a reader that does nothing but follow the text of the
//! specification. For the tests here and for `fuzz/fuzz_targets/proxy_header.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::proxy_protocol::{Ends, Found, canonical, find};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of either version.
const MOST: [usize; 2] = [107, 4096];

/// Checks what [`find`] makes of `input`, in whatever pieces that comes.
pub(crate) fn check(input: &[u8]) {
    let read = read(input);
    let found = find(input);
    match read {
        Some(whole) => assert_eq!(found, whole, "{input:?}"),
        None => assert!(!matches!(found, Found::Whole { .. }), "{found:?} in {input:?}"),
    }
    let most = MOST[usize::from(!input.starts_with(b"P"))];
    let declared = match input.get(..16) {
        Some([.., high, low]) if most == MOST[1] => 16 + usize::from(*high) * 256 + usize::from(*low),
        _ => usize::MAX,
    };
    let mut before = Found::Part;
    // Beyond the longest one nothing is looked at.
    for end in 0..=input.len().min(most + 10) {
        let now = find(&input[..end]);
        match (before, now) {
            (Found::Part, Found::Part) => {
                assert!(end < most.min(declared), "waits for more than there can be: {input:?}");
            }
            (Found::Part, Found::Whole { len, .. }) => assert_eq!(len, end, "nothing is waited for in vain"),
            (Found::Part, Found::Bad(_)) => {}
            (Found::Whole { .. }, now) => assert_eq!(now, before, "{end} bytes of {input:?}"),
            (Found::Bad(_), now) => assert!(matches!(now, Found::Bad(_)), "{end} bytes of {input:?}"),
        }
        before = now;
    }
}

/// The whole header that `input` begins with.
fn read(input: &[u8]) -> Option<Found> {
    if input.starts_with(SIGNATURE) { read_v2(input) } else { read_v1(input) }
}

fn read_v1(input: &[u8]) -> Option<Found> {
    let input = &input[..input.len().min(MOST[0])];
    let end = input.iter().position(|byte| *byte == b'\r')?;
    let line = str::from_utf8(&input[..end]).ok();
    if input.get(end + 1) != Some(&b'\n') {
        return None;
    }
    let len = end + 2;
    if input.starts_with(b"PROXY UNKNOWN") {
        return Some(Found::Whole { len, ends: None });
    }
    let words: Vec<&str> = line?.split(' ').collect();
    let ["PROXY", family, source, destination, from, to] = words[..] else { return None };
    let addr = |ip: &str, port: &str| {
        let ip: IpAddr = match family {
            "TCP4" => ip.parse::<Ipv4Addr>().ok()?.into(),
            "TCP6" => ip.parse::<Ipv6Addr>().ok()?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port.parse().ok()?))
    };
    let (source, destination) = (addr(source, from)?, addr(destination, to)?);
    Some(Found::Whole { len, ends: ends(source, destination) })
}

fn read_v2(input: &[u8]) -> Option<Found> {
    let [command, family, high, low] = *input.get(12..16)? else { return None };
    let rest = usize::from(high) * 256 + usize::from(low);
    let len = 16 + rest;
    let rest = input.get(16..len).filter(|_| len <= MOST[1])?;
    let room = match family {
        0 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return None,
    };
    if !matches!(command, 0x20 | 0x21) || rest.len() < room {
        return None;
    }
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let v6 = |at: usize| <[u8; 16]>::try_from(&rest[at..at + 16]).map(IpAddr::from).ok();
    let v4 = |at: usize| <[u8; 4]>::try_from(&rest[at..at + 4]).map(IpAddr::from).ok();
    let ends = match (command, family) {
        (0x21, 0x11) => ends(SocketAddr::new(v4(0)?, port(8)), SocketAddr::new(v4(4)?, port(10))),
        (0x21, 0x21) => ends(SocketAddr::new(v6(0)?, port(32)), SocketAddr::new(v6(16)?, port(34))),
        _ => None,
    };
    Some(Found::Whole { len, ends })
}

/// From nowhere comes nobody.
fn ends(source: SocketAddr, destination: SocketAddr) -> Option<Ends> {
    let ends = Ends { source: canonical(source), destination: canonical(destination) };
    (!ends.source.ip().is_unspecified()).then_some(ends)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::proxy_protocol::header;
    use super::*;

    /// Words of headers of version 1, and some that are none.
    const WORDS: [&str; 22] = [
        "PROXY",
        "TCP4",
        "TCP6",
        "UNKNOWN",
        "TCP5",
        "192.0.2.7",
        "0.0.0.0",
        "256.1.1.1",
        "1.2.3",
        "::1",
        "::",
        "::ffff:192.0.2.7",
        "2001:db8:1111:2222:3333:4444:5555:6666",
        "0",
        "443",
        "65535",
        "65536",
        "0080",
        "+1",
        "-1",
        "",
        "\r",
    ];

    fn v1() -> impl Strategy<Value = Vec<u8>> {
        let families = || select(vec!["TCP4", "TCP6"]);
        let good = (families(), vec(select(&WORDS[5..]), 4))
            .prop_map(|(family, rest)| format!("PROXY {family} {}", rest.join(" ")));
        let others = vec(select(&WORDS[..]), 0..9).prop_map(|words| format!("PROXY {}", words.join(" ")));
        let fits = (any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>()).prop_map(|(from, to, a, b)| {
            format!("PROXY TCP4 {} {} {a} {b}", Ipv4Addr::from(from), Ipv4Addr::from(to))
        });
        let line = prop_oneof![good, others, fits];
        let end = select(vec!["\r\n", "\n", "\r", "\r\r\n", ""]);
        (line, end).prop_map(|(line, end)| (line + end).into_bytes())
    }

    fn v2() -> impl Strategy<Value = Vec<u8>> {
        let command = prop_oneof![4 => select(vec![0x20, 0x21]), 1 => any::<u8>()];
        let family = prop_oneof![4 => select(vec![0, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32]), 1 => any::<u8>()];
        let rest =
            prop_oneof![vec(any::<u8>(), 0..60), vec(any::<u8>(), 200..260), vec(any::<u8>(), 4060..4100)];
        (command, family, rest, -2..3_i32).prop_map(|(command, family, rest, wrong)| {
            // Mostly the length of what follows.
            let len = i32::try_from(rest.len()).unwrap() + wrong.signum() * (wrong.abs() - 1).max(0);
            let len = u16::try_from(len.max(0)).unwrap().to_be_bytes();
            [SIGNATURE, &[command, family], &len, &rest].concat()
        })
    }

    /// Some bytes are others, the end is missing, or something follows.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let header = prop_oneof![4 => v1(), 4 => v2(), 1 => vec(any::<u8>(), 0..200)];
        let changes = prop_oneof![vec((any::<prop::sample::Index>(), any::<u8>()), 0..3), Just(Vec::new())];
        let cut = prop::option::of(any::<prop::sample::Index>());
        (header, changes, cut, vec(any::<u8>(), 0..130)).prop_map(|(mut header, changes, cut, rest)| {
            for (at, byte) in changes {
                if !header.is_empty() {
                    let at = at.index(header.len());
                    header[at] = byte;
                }
            }
            match cut {
                Some(at) => header.truncate(at.index(header.len() + 1)),
                None => header.extend(rest),
            }
            header
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_the_specification_has_it(input in bytes()) {
            check(&input);
        }

        /// What is written is found, whoever reads it.
        #[test]
        fn there_and_back(source: (u128, u16), destination: (u128, u16), is_v4: bool, rest in vec(any::<u8>(), 0..20)) {
            let addr = |(ip, port): (u128, u16)| {
                let ip = if is_v4 { IpAddr::from((ip as u32).to_be_bytes()) } else { IpAddr::from(ip.to_be_bytes()) };
                SocketAddr::new(ip, port)
            };
            let ends = ends(addr(source), addr(destination));
            let bytes = [header(ends), rest].concat();
            let found = find(&bytes);
            prop_assert_eq!(Some(found), read(&bytes));
            let Found::Whole { ends: read, .. } = found else { panic!("{found:?}") };
            prop_assert_eq!(read, ends);
        }
    }
}
