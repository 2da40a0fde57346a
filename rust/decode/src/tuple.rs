//! The five-tuple as a packet carries it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The network protocol of a packet's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Family {
    /// IPv4; an [`Addr`] holds it in its low 32 bits.
    #[default]
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// An address as a number, so that it hashes and compares in two words. Read it with [`Addr::ip`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Addr(pub u128);

impl Addr {
    /// An IPv4 address from its four bytes in network order.
    pub fn v4(bytes: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(bytes) as u128)
    }

    /// An IPv6 address from its sixteen bytes in network order.
    pub fn v6(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The standard library's form.
    pub fn ip(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(self.0 as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(self.0)),
        }
    }
}

/// Source, destination and protocol of one packet, in the direction it travelled.
///
/// Ports: TCP, UDP, UDP-Lite and SCTP carry theirs; ICMP and ICMPv6 carry type (`sport`) and code (`dport`); every
/// other protocol has 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FiveTuple {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port, or ICMP type.
    pub sport: u16,
    /// Destination port, or ICMP code.
    pub dport: u16,
    /// IP protocol number (after IPv6 extension headers).
    pub proto: u8,
    /// Which protocol the addresses belong to.
    pub family: Family,
}
