//! A [`FlowKey`] packed into words: compared and hashed in a few instructions, and stored in atomics.
//!
//! There are two widths. Two words hold the key of nearly every connection (IPv4, TCP, UDP or ICMP, in no tunnel); six
//! words hold any key.

use super::{FlowKey, Side};
use conntrack_decode::{Addr, Family, FiveTuple, Tunnel, TunnelKind, Vlan, ipproto};

/// The key of a connection over IPv4 in no tunnel.
pub type Narrow = [u64; 2];
/// Any key.
pub type Wide = [u64; 6];

/// A packed key of either width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedKey {
    /// A narrow key: TCP, UDP or ICMP over IPv4 in no tunnel.
    V4(Narrow),
    /// Any other key.
    Wide(Wide),
}

/// The protocols of narrow keys, by their number in the key.
const PROTOCOLS: [u8; 3] = [ipproto::TCP, ipproto::UDP, ipproto::ICMP];

/// A VLAN tag in twelve bits: tags hold the VID and one, and VID 0 is no VLAN.
#[inline]
fn vid(tag: u16) -> u64 {
    u64::from(tag.saturating_sub(1))
}

fn tag(vid: u64) -> u16 {
    if vid == 0 { 0 } else { vid as u16 + 1 }
}

/// The tags in the second word of a narrow key.
pub(super) const NARROW_TAGS: u64 = 0xffff_ff00;
/// The VLAN tags in the fifth word of a wide key, and the network identifier in the sixth.
pub(super) const WIDE_TAGS: u64 = 0xffff_ffff;

impl Default for PackedKey {
    fn default() -> Self {
        Self::V4([0; 2])
    }
}

impl PackedKey {
    /// The key of a TCP segment or UDP datagram in no tunnel, and the sender's side; equal to the result of
    /// [`FlowKey::of_tuple`].
    #[inline]
    pub fn of_ports(tuple: &FiveTuple, vlan: Vlan) -> (Self, Side) {
        let Vlan { outer, inner } = vlan;
        let (words, forward) = match tuple.family {
            Family::V4 => {
                // An end is 48 bits: the address, then the port.
                let end = |addr: Addr, port: u16| u64::from(addr.0 as u32) << 16 | u64::from(port);
                let (src, dst) = (end(tuple.src, tuple.sport), end(tuple.dst, tuple.dport));
                let (a, b) = (src.min(dst), src.max(dst));
                let proto = u64::from(tuple.proto == ipproto::UDP);
                let rest = vid(outer) << 20 | vid(inner) << 8 | proto << 1;
                (Self::V4([a >> 16 << 32 | b >> 16, a << 48 | (b & 0xffff) << 32 | rest]), src <= dst)
            }
            Family::V6 => {
                let forward = (tuple.src, tuple.sport) <= (tuple.dst, tuple.dport);
                let (a, a_port, b, b_port) = if forward {
                    (tuple.src, tuple.sport, tuple.dst, tuple.dport)
                } else {
                    (tuple.dst, tuple.dport, tuple.src, tuple.sport)
                };
                let ports = u64::from(a_port) << 16 | u64::from(b_port);
                let words = Self::Wide([
                    (a.0 >> 64) as u64,
                    a.0 as u64,
                    (b.0 >> 64) as u64,
                    b.0 as u64,
                    ports << 32 | u64::from(outer) << 16 | u64::from(inner),
                    u64::from(tuple.proto) << 56 | (Family::V6 as u64) << 48,
                ]);
                (words, forward)
            }
        };
        (words, if forward { Side::A } else { Side::B })
    }
}

impl PackedKey {
    /// Test for a VLAN tag or a network identifier.
    #[inline]
    pub fn is_tagged(&self) -> bool {
        match self {
            Self::V4([_, ports]) => ports & NARROW_TAGS != 0,
            Self::Wide([.., ports, kind]) => (ports | kind) & WIDE_TAGS != 0,
        }
    }

    /// The key without VLAN tags and network identifier.
    #[must_use]
    pub fn without_tags(&self) -> Self {
        match *self {
            Self::V4([addrs, ports]) => Self::V4([addrs, ports & !NARROW_TAGS]),
            Self::Wide([a, b, c, d, ports, kind]) => Self::Wide([a, b, c, d, ports & !WIDE_TAGS, kind & !WIDE_TAGS]),
        }
    }
}

impl FlowKey {
    /// Pack into as few words as possible.
    pub fn words(&self) -> PackedKey {
        let proto = PROTOCOLS.iter().position(|proto| *proto == self.proto);
        match proto {
            Some(proto) if self.family == Family::V4 && self.tunnel == Tunnel::default() => {
                let rest = vid(self.vlan.outer) << 20 | vid(self.vlan.inner) << 8 | (proto as u64) << 1;
                let ports = u64::from(self.a_port) << 48 | u64::from(self.b_port) << 32;
                PackedKey::V4([(self.a.0 as u64) << 32 | self.b.0 as u64, ports | rest | u64::from(self.a_asks)])
            }
            _ => PackedKey::Wide(self.wide()),
        }
    }

    /// Pack into six words, as any key.
    pub fn wide(&self) -> Wide {
        let vlan = u64::from(self.vlan.outer) << 16 | u64::from(self.vlan.inner);
        let kind = u64::from(self.proto) << 56 | (self.family as u64) << 48 | u64::from(self.a_asks) << 40;
        [
            (self.a.0 >> 64) as u64,
            self.a.0 as u64,
            (self.b.0 >> 64) as u64,
            self.b.0 as u64,
            u64::from(self.a_port) << 48 | u64::from(self.b_port) << 32 | vlan,
            kind | (self.tunnel.kind as u64) << 32 | u64::from(self.tunnel.vni),
        ]
    }
}

impl From<Narrow> for FlowKey {
    fn from([addrs, rest]: Narrow) -> Self {
        Self {
            a: Addr(u128::from(addrs >> 32)),
            b: Addr(u128::from(addrs as u32)),
            a_port: (rest >> 48) as u16,
            b_port: (rest >> 32) as u16,
            proto: PROTOCOLS.get((rest >> 1 & 3) as usize).copied().unwrap_or_default(),
            family: Family::V4,
            a_asks: rest & 1 != 0,
            vlan: Vlan { outer: tag(rest >> 20 & 0xfff), inner: tag(rest >> 8 & 0xfff) },
            tunnel: Tunnel::default(),
        }
    }
}

impl From<Wide> for FlowKey {
    fn from([a_high, a_low, b_high, b_low, ports, kind]: Wide) -> Self {
        Self {
            a: Addr(u128::from(a_high) << 64 | u128::from(a_low)),
            b: Addr(u128::from(b_high) << 64 | u128::from(b_low)),
            a_port: (ports >> 48) as u16,
            b_port: (ports >> 32) as u16,
            proto: (kind >> 56) as u8,
            family: if kind >> 48 & 0xff == Family::V6 as u64 { Family::V6 } else { Family::V4 },
            a_asks: kind >> 40 & 1 != 0,
            vlan: Vlan { outer: (ports >> 16) as u16, inner: ports as u16 },
            tunnel: Tunnel { kind: TunnelKind::numbered((kind >> 32) as u8), vni: kind as u32 },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::Tags;

    fn keys() -> impl Strategy<Value = (FiveTuple, u16, Vlan, Tunnel)> {
        let addr = prop_oneof![any::<u32>().prop_map(u128::from), any::<u128>()];
        let proto = prop::sample::select(vec![1_u8, 6, 17, 47, 58, 132, 50]);
        let vids = (0..=4095_u16, 0..=4095_u16);
        let ends = (addr.clone(), addr, any::<u16>(), any::<u16>(), proto);
        (ends, any::<u16>(), vids, 0..9_u8, 0..1_u32 << 24).prop_map(|(ends, id, vids, kind, vni)| {
            let (src, dst, sport, dport, proto) = ends;
            let family = if src > u128::from(u32::MAX) || dst > u128::from(u32::MAX) { Family::V6 } else { Family::V4 };
            let tuple = FiveTuple { src: Addr(src), dst: Addr(dst), sport, dport, proto, family };
            let vlan = Vlan { outer: tag(vids.0.into()), inner: tag(vids.1.into()) };
            (tuple, id, vlan, Tunnel { kind: TunnelKind::numbered(kind), vni })
        })
    }

    proptest! {
        #[test]
        fn tags_are_in_known_bits((tuple, id, vlan, tunnel) in keys()) {
            // Without a tunnel there is no network identifier.
            let vni = if tunnel.kind == TunnelKind::None { 0 } else { tunnel.vni };
            for tunnel in [Tunnel { vni, ..tunnel }, Tunnel::default()] {
                let (key, _) = FlowKey::of_tuple(&tuple, id, vlan, tunnel);
                let (tags, bare) = (Tags { vlan, vni: tunnel.vni }, key.with_tags(Tags::default()));
                prop_assert_eq!(key.words().without_tags(), bare.words());
                prop_assert_eq!(key.words().is_tagged(), tags != Tags::default());
                prop_assert!(!bare.words().is_tagged());
                prop_assert_eq!(bare.with_tags(tags), key);
            }
        }

        #[test]
        fn words_are_the_key((tuple, id, vlan, tunnel) in keys()) {
            for tunnel in [tunnel, Tunnel::default()] {
                let (key, side) = FlowKey::of_tuple(&tuple, id, vlan, tunnel);
                let back = match key.words() {
                    PackedKey::V4(words) => FlowKey::from(words),
                    PackedKey::Wide(words) => FlowKey::from(words),
                };
                prop_assert_eq!(back, key);
                if tunnel == Tunnel::default() && matches!(tuple.proto, ipproto::TCP | ipproto::UDP) {
                    prop_assert_eq!(PackedKey::of_ports(&tuple, vlan), (key.words(), side));
                }
            }
        }
    }
}
