//! The shard of a packet in a distributed run: a stable hash of its two addresses, equal on every machine and in every
//! version.
//!
//! The hash uses the pair of addresses, since later fragments have no ports and ICMP errors quote another tuple. An
//! error belongs to the shard of the packet that the error quotes. There are 65,536 cells. A shard is a cell modulo the
//! number of shards: a cell is always in one shard, for any number of shards.

use conntrack_decode::{Addr, Family, L4, Packet, flat};

/// The number of cells, and the most shards.
pub const CELLS: usize = 1 << 16;

/// The cell of two addresses, version 1, fixed for ever.
///
/// Both addresses are 16 bytes (IPv4 mapped into IPv6, RFC 4291 section 2.5.5.2), the smaller one first. They are read
/// as four big-endian words of 64 bits. From `h = 0`, each word is mixed in by `h = mix(h ^ word)`, where `mix` is the
/// step of SplitMix64 (Steele, Lea, Flood 2014). The cell is the upper 16 bits of `h`.
pub fn cell_v1(one: (Addr, Family), other: (Addr, Family)) -> u16 {
    let [one, other] = [one, other].map(|(addr, family)| u128::from_be_bytes(flat::mapped(addr, family)));
    let (low, high) = (one.min(other), one.max(other));
    let words = [low >> 64, low, high >> 64, high];
    (words.into_iter().fold(0, |hash, word| mix(hash ^ word as u64)) >> 48) as u16
}

/// The next number of SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The cell of a packet: that of the quoted packet's addresses for an ICMP error in one piece, else that of its own.
pub fn cell_of(packet: &Packet) -> u16 {
    let tuple = match &packet.l4 {
        L4::IcmpError { quoted: Some(quoted), .. } if !packet.fragment => quoted,
        _ => &packet.tuple,
    };
    cell_v1((tuple.src, tuple.family), (tuple.dst, tuple.family))
}

/// Make connections of ICMP errors local to one cell: errors about a peer in another shard must not be counted here.
/// Drop quotes of fragmented errors, whose remaining fragments another shard may have.
pub fn keep_in_cell(packet: &mut Packet) {
    let cell = cell_of(packet);
    if let L4::IcmpError { quoted, .. } = &mut packet.l4 {
        packet.flow_id = cell;
        if packet.fragment {
            *quoted = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(one: &str, other: &str) -> u16 {
        let [one, other] = [one, other].map(|text| match text.parse() {
            Ok(std::net::IpAddr::V4(addr)) => (Addr::v4(addr.octets()), Family::V4),
            Ok(std::net::IpAddr::V6(addr)) => (Addr::v6(addr.octets()), Family::V6),
            Err(error) => panic!("{text}: {error}"),
        });
        assert_eq!(cell_v1(one, other), cell_v1(other, one), "it is symmetric");
        cell_v1(one, other)
    }

    #[test]
    fn golden_values() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "SplitMix64's own first number for seed 0");
        let values = [
            ("0.0.0.0", "0.0.0.0"),
            ("10.0.0.1", "10.0.0.2"),
            ("10.0.0.5", "203.0.113.80"),
            ("255.255.255.255", "0.0.0.0"),
            ("::", "::"),
            ("2001:db8::1", "2001:db8::2"),
            ("fe80::1", "ff02::fb"),
        ];
        let cells = values.map(|(one, other)| cell(one, other));
        assert_eq!(cells, [52537, 23076, 43141, 34935, 8496, 25147, 31374]);
    }
}
