//! Every kind has the imperfection of its name and no other.

mod frames;

use conntrack_bench_peers::frame::flags;
use conntrack_bench_peers::imperfect::{Kind, Packets, Plan};
use frames::{Seen, connections, read};

const CONNECTIONS: usize = 50;
const ROUNDS: usize = 80;

fn plan(kind: Kind) -> Plan {
    Plan { kind, connections: CONNECTIONS as u32, rounds: ROUNDS as u32, seed: 1 }
}

fn packets(plan: Plan) -> Vec<Seen> {
    let mut packets = Packets::new(plan);
    let mut seen = Vec::new();
    while let Some((at, frame)) = packets.next_packet() {
        seen.push(read(at, frame));
    }
    seen
}

/// Imperfections counted in a capture.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flaws {
    /// Segments less than in a clean capture, repeated ones left out.
    missing: usize,
    /// Segments with data that came before.
    repeated: usize,
    /// Jumps over data that has not come.
    gaps: usize,
    /// Data that comes after its acknowledgement.
    late: usize,
    sack_blocks: usize,
    /// Connections whose first packet is no SYN.
    headless: usize,
    /// Sequence numbers that began again at 0.
    wraps: usize,
}

/// One end of a connection.
#[derive(Clone, Copy, Default)]
struct End {
    /// The next sequence number.
    next: Option<u32>,
    acknowledged: Option<u32>,
}

/// True where the second number comes after the first, modulo 2^32.
fn before(first: u32, second: u32) -> bool {
    second.wrapping_sub(first).cast_signed() > 0
}

fn flaws(seen: &[Seen]) -> Flaws {
    let mut flaws = Flaws::default();
    for packets in connections(seen).into_values() {
        flaws.headless += usize::from(packets[0].flags & flags::SYN == 0);
        let mut ends = [End::default(); 2];
        for packet in packets {
            flaws.sack_blocks += usize::from(packet.options.starts_with(&[1, 1, 5, 10]));
            let from = usize::from(packet.from_first);
            let takes = packet.payload as u32 + u32::from(packet.flags & flags::SYN != 0);
            let (start, end) = (packet.numbers.0, packet.numbers.0.wrapping_add(takes));
            let repeated = takes > 0 && ends[from].next.is_some_and(|next| before(start, next));
            flaws.repeated += usize::from(repeated);
            flaws.gaps += usize::from(ends[from].next.is_some_and(|next| before(next, start)));
            let late = takes > 0 && ends[from].acknowledged.is_some_and(|edge| before(start, edge));
            flaws.late += usize::from(late && !repeated);
            if !repeated {
                flaws.wraps += usize::from(end < start);
                ends[from].next = Some(end);
            }
            if packet.flags & flags::ACK != 0 {
                ends[1 - from].acknowledged = Some(packet.numbers.1);
            }
        }
    }
    flaws.missing = CONNECTIONS * (3 + 3 * ROUNDS) + flaws.repeated - seen.len();
    flaws
}

/// About one in a hundred.
fn is_a_hundredth(count: usize, of: usize) -> bool {
    (of / 200..=of / 50).contains(&count)
}

#[test]
fn kinds_have_their_own_flaw_alone() {
    let all = CONNECTIONS;
    for (kind, name) in Kind::ALL {
        let found = flaws(&packets(plan(kind)));
        let none = Flaws::default();
        let expected = match kind {
            Kind::Clean | Kind::Snaplen => none,
            Kind::Retransmission => Flaws { repeated: all, ..none },
            Kind::Loss => Flaws { missing: all, gaps: all, ..none },
            Kind::Reordering => Flaws { late: all, ..none },
            Kind::Sack => Flaws { sack_blocks: all * ROUNDS / 10, ..none },
            Kind::MidStream => Flaws { headless: all, missing: 3 * all, ..none },
            Kind::Wrap => Flaws { wraps: 2 * all, ..none },
            Kind::Reorder1 => {
                assert!(is_a_hundredth(found.late, all * ROUNDS), "{name}: {found:?}");
                Flaws { late: found.late, ..none }
            }
            Kind::Loss1 => {
                assert!(is_a_hundredth(found.missing, all * ROUNDS * 3), "{name}: {found:?}");
                // Two of three segments have data.
                assert!(is_a_hundredth(found.gaps, all * ROUNDS * 2), "{name}: {found:?}");
                Flaws { missing: found.missing, gaps: found.gaps, ..none }
            }
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_repeated_segment_is_the_same_segment() {
    let seen = packets(plan(Kind::Retransmission));
    for packets in connections(&seen).into_values() {
        let twice = packets.windows(2).filter(|pair| pair[0].payload > 0 && pair[0].numbers == pair[1].numbers);
        assert_eq!(twice.count(), 1);
    }
}

#[test]
fn connections_take_turns() {
    let seen = packets(plan(Kind::Clean));
    assert!(seen.is_sorted_by_key(|packet| packet.at));
    assert_eq!(connections(&seen).len(), CONNECTIONS);
    // Three packets each turn.
    assert!(seen.chunks(3).collect::<Vec<_>>().windows(2).all(|turns| turns[0][0].key != turns[1][0].key));
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
    for (kind, name) in Kind::ALL {
        assert_eq!(bytes(plan(kind)), bytes(plan(kind)), "{name}");
        let by_chance = matches!(kind, Kind::Loss1 | Kind::Reorder1);
        assert_eq!(bytes(plan(kind)) != bytes(Plan { seed: 2, ..plan(kind) }), by_chance, "{name}");
    }
}
