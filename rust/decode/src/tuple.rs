//! The five-tuple of a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// IP version of a packet's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Family {
    /// IPv4; an [`Addr`] stores the address in its low 32 bits.
    #[default]
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// Address as a number, hashed and compared in two words. Convert with [`Addr::ip`].
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

    /// Convert to the standard library's type.
    pub fn ip(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(self.0 as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(self.0)),
        }
    }
}

/// Source, destination and protocol of a packet, in the packet's direction.
///
/// TCP, UDP, UDP-Lite and SCTP have ports; ICMP and ICMPv6 have type (`sport`) and code (`dport`); other protocols
/// have 0.
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
    /// IP version of the addresses.
    pub family: Family,
}
