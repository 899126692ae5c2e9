//! [`IpNetwork`]: CIDR notation, and whether an address is within.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNetwork {
    /// The network's address, host bits zero.
    pub addr: IpAddr,
    /// Length of the network part, in bits.
    pub prefix_len: u8,
}

impl IpNetwork {
    /// Stands for whoever comes in through a Unix-domain socket: nobody has this address, and those have no other.
    pub(crate) const UNIX_CLIENTS: Self = Self { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix_len: 32 };

    /// Whether `addr` is within. An IPv4 address that came in over an IPv6 socket (`::ffff:10.0.0.1`) counts as the
    /// IPv4 address it is.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        masked(addr.to_canonical(), self.prefix_len) == Some(self.addr)
    }
}

/// `10.0.0.0/8`.
impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix_len)
    }
}

/// `10.0.0.0/8`, `fd00::/8`, or one address: `10.0.0.1`.
impl FromStr for IpNetwork {
    type Err = IpNetworkError;

    fn from_str(text: &str) -> Result<Self, IpNetworkError> {
        let (addr, len) = text.split_once('/').map_or((text, None), |(addr, len)| (addr, Some(len)));
        let addr: IpAddr = addr.parse().map_err(|_| IpNetworkError::NotANetwork)?;
        if addr.to_canonical() != addr {
            return Err(IpNetworkError::MappedV4);
        }
        let prefix_len = match len {
            None => width(addr),
            Some(len) if len.bytes().all(|b| b.is_ascii_digit()) => {
                len.parse().map_err(|_| IpNetworkError::NotANetwork)?
            }
            Some(_) => return Err(IpNetworkError::NotANetwork),
        };
        match masked(addr, prefix_len) {
            Some(network) if network == addr => Ok(Self { addr, prefix_len }),
            // Most likely a slip: a network was meant and a host written, or the other way round.
            Some(network) => Err(IpNetworkError::HostBits(Self { addr: network, prefix_len })),
            None => Err(IpNetworkError::NotANetwork),
        }
    }
}

fn width(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// `addr` with everything behind the first `len` bits cleared; `None` when it has not that many.
fn masked(addr: IpAddr, len: u8) -> Option<IpAddr> {
    let host_bits = u32::from(width(addr).checked_sub(len)?);
    Some(match addr {
        // A shift by the full width is `None`: no bit is kept.
        IpAddr::V4(v4) => {
            Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()
        }
        IpAddr::V6(v6) => {
            Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into()
        }
    })
}

/// Why a text is not an [`IpNetwork`]. `Display` says so as the end of a sentence that begins with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpNetworkError {
    /// Neither an address nor an address, a slash, and a length it can have.
    NotANetwork,
    /// Bits are set behind the network part; the network that was probably meant.
    HostBits(IpNetwork),
    /// An IPv4 address in IPv6 clothes: clients are compared as the IPv4 addresses they are, so it would never match.
    MappedV4,
}

impl fmt::Display for IpNetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANetwork => f.write_str(
                "is not a network; expected an address, CIDR notation or \"unix:\", for example \"10.0.0.0/8\"",
            ),
            Self::HostBits(network) => {
                write!(f, "has bits set behind the network part; expected \"{network}\"")
            }
            Self::MappedV4 => f.write_str("is an IPv4 address written as IPv6; expected the IPv4 form"),
        }
    }
}

impl std::error::Error for IpNetworkError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn contains() {
        for (net, addr, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::1", "::1", true),
        ] {
            assert_eq!(network(net).contains(addr.parse().unwrap()), expected, "{net} {addr}");
        }
        assert_eq!(network("10.0.0.1").to_string(), "10.0.0.1/32");
    }

    #[test]
    fn refuses_what_is_no_network() {
        for text in
            ["", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "10.0.0/8", "10.0.0.0/8/8", "all"]
        {
            assert_eq!(text.parse::<IpNetwork>(), Err(IpNetworkError::NotANetwork), "{text}");
        }
        assert_eq!("10.1.2.3/8".parse::<IpNetwork>(), Err(IpNetworkError::HostBits(network("10.0.0.0/8"))));
        assert_eq!("::ffff:10.0.0.1".parse::<IpNetwork>(), Err(IpNetworkError::MappedV4));
    }
}
