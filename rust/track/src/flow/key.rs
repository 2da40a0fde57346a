//! The direction-free key of a connection, and the side of a packet's sender.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use conntrack_decode::{Addr, Family, FiveTuple, Packet, Tunnel, Vlan, ipproto};

use super::icmp;

/// One end of a [`FlowKey`]. The order of the ends does not depend on the originator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Side {
    /// The end with the smaller address and port.
    #[default]
    A = 0,
    /// The other end.
    B = 1,
}

impl Side {
    /// Both sides, in the order of their numbers.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The opposite side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The key that packets of one connection share in both directions.
///
/// ICMP queries and replies share the identifier. `a_port` and `b_port` then hold the identifier on the querying side
/// and the query's type and code on the other. `a_asks` distinguishes the two directions of ping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowKey {
    /// Address of side A.
    pub a: Addr,
    /// Address of side B.
    pub b: Addr,
    /// Port of side A.
    pub a_port: u16,
    /// Port of side B.
    pub b_port: u16,
    /// IP protocol number.
    pub proto: u8,
    /// The family of both addresses.
    pub family: Family,
    /// ICMP: side A sent the query (or the one-way message).
    pub a_asks: bool,
    /// VLAN tags.
    pub vlan: Vlan,
    /// Tunnel.
    pub tunnel: Tunnel,
}

/// The parts of a key that a device on the path may change: VLAN tags, and the network identifier of the tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    /// VLAN tags.
    pub vlan: Vlan,
    /// Network identifier; see [`Tunnel::vni`].
    pub vni: u32,
}

impl Tags {
    /// The tags of a packet.
    pub fn of(packet: &Packet) -> Self {
        Self { vlan: packet.vlan, vni: packet.tunnel.vni }
    }
}

impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.a.0);
        state.write_u128(self.b.0);
        let ports = (self.a_port as u64) << 48 | (self.b_port as u64) << 32;
        let vlan = (self.vlan.outer as u64) << 16 | self.vlan.inner as u64;
        state.write_u64(ports | vlan);
        let kind = (self.proto as u64) << 56 | (self.family as u64) << 48 | (self.a_asks as u64) << 40;
        state.write_u64(kind | (self.tunnel.kind as u64) << 32 | self.tunnel.vni as u64);
    }
}

impl FlowKey {
    /// The key of a packet, and the sender's side.
    #[inline]
    pub fn of(packet: &Packet) -> (Self, Side) {
        Self::of_tuple(&packet.tuple, packet.flow_id, packet.vlan, packet.tunnel)
    }

    /// The key of a tuple from source to destination, and the source's side. `id`: the ICMP identifier, or the GRE call
    /// id.
    #[inline]
    pub fn of_tuple(tuple: &FiveTuple, id: u16, vlan: Vlan, tunnel: Tunnel) -> (Self, Side) {
        // ICMP of the other version is no ICMP, and has no types.
        let icmp = icmp::is_icmp(tuple.proto) && (tuple.proto == ipproto::ICMP) == (tuple.family == Family::V4);
        let (src_port, dst_port, asks) = match tuple.proto {
            ipproto::ICMP | ipproto::ICMPV6 if icmp => {
                let (ask, asked) = icmp::question(tuple.proto, tuple.sport as u8, tuple.dport as u8);
                if asked { (ask, id, false) } else { (id, ask, true) }
            }
            ipproto::GRE => (0, id, false),
            _ => (tuple.sport, tuple.dport, false),
        };
        let forward = (tuple.src, src_port) <= (tuple.dst, dst_port);
        let mut key = Self {
            a: tuple.src,
            b: tuple.dst,
            a_port: src_port,
            b_port: dst_port,
            proto: tuple.proto,
            family: tuple.family,
            a_asks: icmp && asks,
            vlan,
            tunnel,
        };
        if !forward {
            std::mem::swap(&mut key.a, &mut key.b);
            std::mem::swap(&mut key.a_port, &mut key.b_port);
            key.a_asks = icmp && !asks;
        }
        (key, if forward { Side::A } else { Side::B })
    }

    /// The tags in the key.
    pub fn tags(&self) -> Tags {
        Tags { vlan: self.vlan, vni: self.tunnel.vni }
    }

    /// The key with other tags.
    #[must_use]
    pub fn with_tags(self, Tags { vlan, vni }: Tags) -> Self {
        Self { vlan, tunnel: Tunnel { vni, ..self.tunnel }, ..self }
    }

    /// Test whether both ends are equal: the direction of a packet is then ambiguous.
    pub fn is_self(&self) -> bool {
        self.a == self.b && self.a_port == self.b_port
    }

    /// The address of one side.
    pub fn addr(&self, side: Side) -> Addr {
        match side {
            Side::A => self.a,
            Side::B => self.b,
        }
    }

    /// The port of one side.
    pub fn port(&self, side: Side) -> u16 {
        match side {
            Side::A => self.a_port,
            Side::B => self.b_port,
        }
    }

    /// Test for an ICMP message without a counterpart: an error, a redirect.
    pub fn is_one_way(&self) -> bool {
        let asker = if self.a_asks { Side::A } else { Side::B };
        icmp::is_one_way(self.proto, self.port(asker.other()).to_be_bytes()[0])
    }

    /// Ports as reported for this originator, as in Zeek. For ICMP: the originator's type and its counterpart (the code
    /// where a type has none).
    pub fn ports(&self, orig: Side) -> (u16, u16) {
        if !icmp::is_icmp(self.proto) {
            return (self.port(orig), self.port(orig.other()));
        }
        let asker = if self.a_asks { Side::A } else { Side::B };
        let question = self.port(asker.other());
        icmp::ports(self.proto, question, orig == asker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(src: u8, dst: u8, sport: u16, dport: u16, proto: u8) -> FiveTuple {
        FiveTuple {
            src: Addr::v4([10, 0, 0, src]),
            dst: Addr::v4([10, 0, 0, dst]),
            sport,
            dport,
            proto,
            family: Family::V4,
        }
    }

    fn key(tuple: &FiveTuple, id: u16) -> (FlowKey, Side) {
        FlowKey::of_tuple(tuple, id, Vlan::default(), Tunnel::default())
    }

    #[test]
    fn both_directions_have_one_key() {
        let (there, side) = key(&tuple(9, 2, 40_000, 443, 6), 0);
        let (back, other) = key(&tuple(2, 9, 443, 40_000, 6), 0);
        assert_eq!(there, back);
        assert_eq!(side.other(), other);
        assert_eq!(there.ports(side), (40_000, 443));
    }

    #[test]
    fn equal_addresses_are_told_apart_by_port() {
        let (_, side) = key(&tuple(1, 1, 5, 7, 17), 0);
        let (_, other) = key(&tuple(1, 1, 7, 5, 17), 0);
        assert_ne!(side, other);
    }

    #[test]
    fn ping_and_its_answer_share_a_key_and_the_other_ping_does_not() {
        for id in [0, 7, 0x0800] {
            let (request, asker) = key(&tuple(1, 2, 8, 0, 1), id);
            let (reply, answerer) = key(&tuple(2, 1, 0, 0, 1), id);
            assert_eq!(request, reply);
            assert_eq!(asker.other(), answerer);
            assert_eq!(request.ports(asker), (8, 0));
            let (back, _) = key(&tuple(2, 1, 8, 0, 1), id);
            assert_ne!(request, back);
        }
    }

    #[test]
    fn icmp_of_the_other_version_has_no_types() {
        let (found, side) = key(&FiveTuple { family: Family::V6, ..tuple(1, 2, 0, 0, 1) }, 0);
        assert_eq!((found.ports(side), found.a_asks), ((0, 0), false));
    }

    #[test]
    fn one_way_messages_show_type_and_code() {
        let (unreachable, side) = key(&tuple(1, 2, 3, 13, 1), 0);
        assert_eq!(unreachable.ports(side), (3, 13));
        let (ping, _) = key(&tuple(1, 2, 8, 0, 1), 0x0300);
        let (answer, _) = key(&tuple(1, 2, 0, 0, 1), 0x0300);
        assert!(unreachable.is_one_way() && !ping.is_one_way() && !answer.is_one_way());
        assert!(!key(&tuple(1, 2, 0x0300, 0x0300, 17), 0).0.is_one_way());
        let (solicitation, side) = key(&FiveTuple { family: Family::V6, ..tuple(1, 2, 135, 0, 58) }, 0);
        assert_eq!(solicitation.ports(side), (135, 136));
        let (advert, side) = key(&FiveTuple { family: Family::V6, ..tuple(2, 1, 136, 0, 58) }, 0);
        assert_eq!(solicitation, advert);
        assert_eq!(advert.ports(side), (136, 135));
    }
}
