//! Traffic is what its plan says, and the same each time.

mod frames;

use std::collections::HashMap;

use conntrack_bench_peers::frame::flags;
use conntrack_bench_peers::{Packets, Plan, Shape};
use frames::{Seen, connections, read};

const IMIX: Plan = Plan { packets: 40_000, connections: 2_000, seconds: 60, seed: 1, shape: Shape::Imix };
const SCAN: Plan = Plan { packets: 4_000, shape: Shape::Scan, ..IMIX };

fn packets(plan: Plan) -> Vec<Seen> {
    let mut packets = Packets::new(plan);
    let mut seen = Vec::new();
    while let Some((at, frame)) = packets.next_packet() {
        seen.push(read(at, frame));
    }
    seen
}

#[test]
fn equal_plans_give_equal_bytes() {
    let bytes = |plan| {
        let mut packets = Packets::new(plan);
        let mut bytes = Vec::new();
        while let Some((at, frame)) = packets.next_packet() {
            bytes.extend_from_slice(&at.to_le_bytes());
            bytes.extend_from_slice(frame);
        }
        bytes
    };
    assert_eq!(bytes(IMIX), bytes(IMIX));
    assert_ne!(bytes(IMIX), bytes(Plan { seed: 2, ..IMIX }));
}

#[test]
fn a_plan_is_kept() {
    for plan in [IMIX, SCAN] {
        let seen = packets(plan);
        assert_eq!(seen.len() as u64, plan.packets);
        assert!(seen.is_sorted_by_key(|packet| packet.at));
        let lasts = (seen[seen.len() - 1].at - seen[0].at) / 1_000_000;
        assert!((48..=60).contains(&lasts), "{lasts} s");
        let found = connections(&seen);
        assert_eq!(found.len(), plan.connections as usize);
        let v6 = found.values().filter(|packets| packets[0].v6).count() * 100 / found.len();
        assert!((16..24).contains(&v6), "{v6} % of IPv6");
    }
}

#[test]
fn sizes_follow_zipf() {
    let seen = packets(IMIX);
    let mut sizes: Vec<usize> = connections(&seen).values().map(Vec::len).collect();
    sizes.sort_by_key(|&size| std::cmp::Reverse(size));
    assert!(sizes.iter().all(|&size| size >= 2));
    for rank in [2, 4, 8, 16, 32] {
        let (first, there) = (sizes[0] as f64, sizes[rank - 1] as f64);
        assert!((first / there / rank as f64 - 1.0).abs() < 0.05, "rank {rank}: {there} of {first}");
    }
}

#[test]
fn protocols_are_mixed() {
    let seen = packets(IMIX);
    let found = connections(&seen);
    let share = |protocols: &[u8]| {
        found.values().filter(|packets| protocols.contains(&packets[0].protocol)).count() * 100 / found.len()
    };
    assert!((60..70).contains(&share(&[6])));
    assert!((25..35).contains(&share(&[17])));
    assert!((3..8).contains(&share(&[1, 58])));
}

#[test]
fn tcp_is_consistent() {
    let seen = packets(IMIX);
    let (mut whole, mut closed, mut reset) = (0, 0, 0);
    for packets in connections(&seen).into_values().filter(|packets| packets[0].protocol == 6 && packets.len() > 6) {
        whole += 1;
        assert_eq!(packets[0].flags, flags::SYN);
        assert_eq!(packets[1].flags, flags::SYN | flags::ACK);
        let says = |first| packets.iter().any(|packet| packet.payload > 0 && packet.from_first == first);
        assert!(packets.len() < 40 || (says(true) && says(false)));
        // Each end goes on where it was, and acknowledges all that the other has sent.
        let mut next = HashMap::new();
        for packet in &packets {
            if let Some(&expected) = next.get(&packet.from_first) {
                assert_eq!(packet.numbers.0, expected);
            }
            if let Some(&expected) = next.get(&!packet.from_first) {
                assert_eq!(packet.numbers.1, expected);
            }
            let taken = packet.payload as u32 + u32::from(packet.flags & (flags::SYN | flags::FIN) != 0);
            next.insert(packet.from_first, packet.numbers.0.wrapping_add(taken));
        }
        let fins = packets.iter().filter(|packet| packet.flags & flags::FIN != 0).count();
        closed += usize::from(fins == 2);
        reset += usize::from(packets[packets.len() - 1].flags & flags::RST != 0);
    }
    assert_eq!(closed + reset, whole);
    assert!((5..25).contains(&(reset * 100 / whole)), "{reset} of {whole} are reset");
}
