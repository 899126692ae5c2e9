//! The PROXY protocol: what a load balancer says before anything else about whose connection it passes on, and what the proxy
//! says so to its backends. Bytes and addresses, no sockets.
//!
//! The grammar is that of the crate `proxy-header`. Here is what it leaves open: when to stop waiting for more, how long a
//! header may be, and which addresses are taken.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ::proxy_header::{Error, ParseConfig, Protocol, ProxiedAddress, ProxyHeader};

/// What each header of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What each header of version 1 begins with.
const V1: &[u8] = b"PROXY ";
/// The longest header of version 1, its line end included.
const V1_MOST: usize = 107;
/// What says how long a header of version 2 is.
const V2_FIXED: usize = 16;
/// The longest header of version 2. The addresses take 216 bytes at most; what else it says is seldom more than a name and
/// an id, and read by nobody here.
const V2_MOST: usize = 4096;

/// What has come of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// More has to come.
    Part,
    /// A header of `len` bytes. `ends`: absent, if the connection is the sender's own, or from what has no address.
    Whole { len: usize, ends: Option<Ends> },
    /// None will come of this.
    Bad(Fault),
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The client.
    pub(crate) source: SocketAddr,
    /// Where the client has connected to.
    pub(crate) destination: SocketAddr,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What has come is something else.
    Malformed,
    /// It would be longer than a header may be.
    TooLong,
    /// The connection ended within it.
    Cut,
    /// It did not come in time.
    Late,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "what came is no PROXY header",
            Self::TooLong => "the PROXY header is too long",
            Self::Cut => "the connection ended within the PROXY header",
            Self::Late => "no PROXY header came in time",
        })
    }
}

/// Looks for a header at the beginning of `input`.
pub(crate) fn find(input: &[u8]) -> Found {
    let has_begun = |with: &[u8]| input.iter().zip(with).all(|(found, expected)| found == expected);
    let most = if has_begun(V1) {
        V1_MOST
    } else if has_begun(SIGNATURE) {
        // The crate looks at the version when all is here.
        if input.get(SIGNATURE.len()).is_some_and(|version| !matches!(version, 0x20 | 0x21)) {
            return Found::Bad(Fault::Malformed);
        }
        V2_MOST
    } else {
        return Found::Bad(Fault::Malformed);
    };
    let mut is_all_here = false;
    if let (Some(high), Some(low)) = (input.get(V2_FIXED - 2), input.get(V2_FIXED - 1))
        && most == V2_MOST
    {
        let len = V2_FIXED + usize::from(u16::from_be_bytes([*high, *low]));
        if len > most {
            return Found::Bad(Fault::TooLong);
        }
        is_all_here = input.len() >= len;
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    // The crate takes no more than this for version 1 either, but only if no line end has come.
    match ProxyHeader::parse(input.get(..most).unwrap_or(input), config) {
        Ok((header, len)) => Found::Whole { len, ends: header.proxied_address().and_then(ends_of) },
        // It has no room for its addresses, and the crate waits for them.
        Err(Error::BufferTooShort) if is_all_here => Found::Bad(Fault::Malformed),
        Err(Error::BufferTooShort) if input.len() < most => Found::Part,
        Err(Error::BufferTooShort) => Found::Bad(Fault::TooLong),
        Err(_) if most == V1_MOST && input.len() >= most && !has_line_end(input) => {
            Found::Bad(Fault::TooLong)
        }
        Err(_) => Found::Bad(Fault::Malformed),
    }
}

fn has_line_end(input: &[u8]) -> bool {
    input.iter().take(V1_MOST).any(|byte| *byte == b'\n')
}

/// What is no connection of TCP, or from nowhere, is nobody's address: 0.0.0.0 stands for clients of Unix-domain sockets.
fn ends_of(found: &ProxiedAddress) -> Option<Ends> {
    let ProxiedAddress { protocol, source, destination } = found;
    let (source, destination) = (canonical(*source), canonical(*destination));
    (*protocol == Protocol::Stream && !source.ip().is_unspecified()).then_some(Ends { source, destination })
}

/// The same address, an IPv4 address as such.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V6(_) => {
            let ip = addr.ip().to_canonical();
            if ip.is_ipv4() { SocketAddr::new(ip, addr.port()) } else { addr }
        }
        IpAddr::V4(_) => addr,
    }
}

/// A header of version 2 for a connection with these ends; `None`: a connection of the proxy's own, or from what has no address.
pub(crate) fn header(ends: Option<Ends>) -> Vec<u8> {
    let header = match ends {
        None => ProxyHeader::with_local(),
        Some(Ends { source, destination }) => {
            // Both ends are of one family.
            let (source, destination) = if source.is_ipv4() == destination.is_ipv4() {
                (source, destination)
            } else {
                (mapped(source), mapped(destination))
            };
            ProxyHeader::with_address(ProxiedAddress::stream(source, destination))
        }
    };
    let mut bytes = Vec::new();
    // Fails only where families differ, and for what is longer than this can be.
    let written = header.encode_v2(&mut bytes);
    debug_assert!(written.is_ok(), "{written:?}");
    bytes
}

fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

    fn ends(source: &str, destination: &str) -> Option<Ends> {
        Some(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &len, rest].concat()
    }

    /// Whatever follows, and however little of it is here.
    fn expect_whole(header: &[u8], expected: Option<Ends>) {
        for short in 0..header.len() {
            assert_eq!(find(&header[..short]), Found::Part, "{short} bytes of {header:?}");
        }
        for rest in [&b""[..], b"GET / HTTP/1.1\r\n", b"\r\n", &[22, 3, 1], &[0; 70_000]] {
            let found = find(&[header, rest].concat());
            assert_eq!(found, Found::Whole { len: header.len(), ends: expected }, "{header:?}");
        }
    }

    #[test]
    fn headers_are_found_in_any_pieces() {
        expect_whole(V4, ends("192.0.2.7:4711", "198.51.100.1:443"));
        let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n";
        expect_whole(v6, ends("[2001:db8::7]:4711", "[2001:db8::1]:443"));
        let mapped = b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 4711 443\r\n";
        expect_whole(mapped, ends("192.0.2.7:4711", "192.0.2.1:443"));
        expect_whole(b"PROXY UNKNOWN\r\n", None);
        expect_whole(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None);
        expect_whole(b"PROXY TCP4 0.0.0.0 192.0.2.1 0 443\r\n", None);
        let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 1, 187];
        expect_whole(&v2(0x21, 0x11, &addresses), ends("192.0.2.7:4711", "198.51.100.1:443"));
        let tlvs = [&addresses[..], &[2, 0, 4], b"shop", &[0xEE, 0, 0]].concat();
        expect_whole(&v2(0x21, 0x11, &tlvs), ends("192.0.2.7:4711", "198.51.100.1:443"));
        expect_whole(&v2(0x20, 0x11, &addresses), None);
        expect_whole(&v2(0x20, 0, &[]), None);
        expect_whole(&v2(0x21, 0, &[4, 0, 1, 0]), None);
        expect_whole(&v2(0x21, 0x31, &[b'/'; 216]), None);
        // Of UDP, which is not what is spoken here.
        expect_whole(&v2(0x21, 0x12, &addresses), None);
        expect_whole(&v2(0x20, 0, &[0; V2_MOST - V2_FIXED]), None);
    }

    #[test]
    fn what_is_none_is_known_as_soon_as_can_be() {
        for (input, fault) in [
            (&b"G"[..], Fault::Malformed),
            (b"POST / HTTP/1.1\r\n", Fault::Malformed),
            (b"PO", Fault::Malformed),
            (&[22, 3, 1], Fault::Malformed),
            (b"\r\n\r\nGET", Fault::Malformed),
            (b"PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n", Fault::Malformed),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", Fault::Malformed),
            (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n", Fault::Malformed),
            (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\r", Fault::Malformed),
            (b"PROXYTCP4 192.0.2.7 192.0.2.1 1 2\r\n", Fault::Malformed),
            (&v2(0x22, 0x11, &[0; 12]), Fault::Malformed),
            (&v2(0x11, 0x11, &[0; 12])[..13], Fault::Malformed),
            (&v2(0x21, 0x41, &[0; 12]), Fault::Malformed),
            (&v2(0x21, 0x11, &[0; 11]), Fault::Malformed),
            (&v2(0x21, 0x21, &[0; 12]), Fault::Malformed),
            (&v2(0x21, 0x11, &[0; V2_MOST])[..V2_FIXED], Fault::TooLong),
            (&[b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(), Fault::TooLong),
            (&[b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200], b"\r\n".to_vec()].concat(), Fault::TooLong),
        ] {
            assert_eq!(find(input), Found::Bad(fault), "{input:?}");
        }
    }

    #[test]
    fn what_is_written_is_found() {
        for ends in [
            None,
            ends("192.0.2.7:4711", "198.51.100.1:443"),
            ends("[2001:db8::7]:4711", "[2001:db8::1]:443"),
            // The mapped one becomes what it stands for.
            ends("192.0.2.7:4711", "[2001:db8::1]:443"),
        ] {
            let bytes = header(ends);
            assert_eq!(find(&bytes), Found::Whole { len: bytes.len(), ends });
        }
    }
}
