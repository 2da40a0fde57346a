//! Bounds of memory for live connections, and the cost of freeing.
#![allow(clippy::print_stdout, reason = "a test says what it measured")]

use conntrack_base::time::SECOND;
use conntrack_decode::testkit::whole;
use conntrack_decode::{Addr, Family, FiveTuple, L4, Packet, Tcp, ipproto, tcpflag};
use conntrack_track::config::{Bounds, Config};
use conntrack_track::connection::EndReason;
use conntrack_track::proto::CtState;
use conntrack_track::tracker::{Label, Tracker};

/// A segment of the connection with this number, each with a source of its own.
fn segment(number: u32, from_client: bool, flags: u8, seq: u32, ack: u32) -> Packet {
    segment_of(Family::V4, number, from_client, flags, (seq, ack, 0))
}

/// A segment of a connection in a family, with this many bytes of payload.
fn segment_of(
    family: Family,
    number: u32,
    from_client: bool,
    flags: u8,
    (seq, ack, payload_bytes): (u32, u32, u32),
) -> Packet {
    let addr = |number: u32| match family {
        Family::V4 => Addr::v4(number.to_be_bytes()),
        Family::V6 => Addr(0x2001_0db8 << 96 | u128::from(number)),
    };
    let (client, server) = (addr(number), addr(0xc000_0201));
    let (src, dst, sport, dport) =
        if from_client { (client, server, 40_000, 443) } else { (server, client, 443, 40_000) };
    let tuple = FiveTuple { src, dst, sport, dport, proto: ipproto::TCP, family };
    let l4 = L4::Tcp(Tcp { seq, ack, window: 64_000, flags, ..Tcp::default() });
    whole(tuple, l4, payload_bytes)
}

fn bounded(connections: usize, bytes: usize) -> Tracker {
    Tracker::new(&Config { bounds: Bounds { connections, bytes }, ..Config::default() })
}

fn syn(tracker: &mut Tracker, number: u32, ts: i64, reasons: &mut Vec<EndReason>) -> Label {
    let packet = segment(number, true, tcpflag::SYN, 1, 0);
    tracker.record(&[packet], &[], ts, |closed| reasons.push(closed.reason))
}

/// Begin an assured connection, which survives early drop.
fn assured(tracker: &mut Tracker, number: u32) {
    let (syn, ack) = (tcpflag::SYN, tcpflag::ACK);
    for (from_client, flags, seq, acked) in
        [(true, syn, 1, 0), (false, syn | ack, 1, 2), (true, ack, 2, 2), (false, ack, 2, 2)]
    {
        tracker.record(&[segment(number, from_client, flags, seq, acked)], &[], 0, |_| ());
    }
}

#[test]
fn a_flood_takes_places_of_the_unassured_only() {
    let mut tracker = bounded(100, usize::MAX);
    for number in 0..40 {
        assured(&mut tracker, number);
    }
    let mut reasons = Vec::new();
    for number in 1_000..6_000 {
        syn(&mut tracker, number, 1, &mut reasons);
    }
    let live: Vec<_> = tracker.snapshot().collect();
    assert_eq!(live.len(), 100);
    assert_eq!(live.iter().filter(|connection| connection.is_assured()).count(), 40);
    assert_eq!((tracker.evicted(), tracker.refused()), (4_940, 0));
    assert!(reasons.len() == 4_940 && reasons.iter().all(|reason| *reason == EndReason::Evicted));
    assert_eq!(tracker.peak(), 100);
}

#[test]
fn a_table_of_assured_connections_takes_no_more() {
    let mut tracker = bounded(40, usize::MAX);
    for number in 0..40 {
        assured(&mut tracker, number);
    }
    let label = syn(&mut tracker, 77, 1, &mut Vec::new());
    assert_eq!((label.connection, label.ctstate), (None, CtState::Invalid));
    assert_eq!((tracker.evicted(), tracker.refused(), tracker.snapshot().count()), (0, 1, 40));
}

#[test]
fn memory_has_a_bound() {
    const LIMIT: usize = 4 << 20;
    let mut tracker = bounded(usize::MAX, LIMIT);
    let mut reasons = Vec::new();
    for number in 0..200_000 {
        syn(&mut tracker, number, 1, &mut reasons);
        assert!(tracker.bytes() <= LIMIT, "{}", tracker.bytes());
    }
    assert!(tracker.snapshot().count() > LIMIT / 160, "{}", tracker.snapshot().count());
    assert_eq!(tracker.evicted(), reasons.len() as u64);
}

const MANY: u32 = 300_000;

/// Bytes of each of many connections after these packets: sender, flags, numbers and payload.
fn bytes_each(family: Family, packets: &[(bool, u8, (u32, u32, u32))]) -> usize {
    let mut tracker = Tracker::new(&Config::default());
    for number in 0..MANY {
        for (from_client, flags, numbers) in packets {
            let packet = segment_of(family, number, *from_client, *flags, *numbers);
            tracker.record(&[packet], &[], 1, |_| ());
        }
    }
    assert_eq!(tracker.begun(), u64::from(MANY));
    let each = tracker.bytes() / MANY as usize;
    println!("{family:?}, {} packets: {each} bytes each", packets.len());
    each
}

const HANDSHAKE: [(bool, u8, (u32, u32, u32)); 4] = [
    (true, tcpflag::SYN, (1, 0, 0)),
    (false, tcpflag::SYN | tcpflag::ACK, (1, 2, 0)),
    (true, tcpflag::ACK, (2, 2, 0)),
    (true, tcpflag::ACK, (2, 2, 10)),
];

#[test]
fn a_live_connection_takes_160_bytes_and_224_over_ipv6() {
    for (family, most) in [(Family::V4, 160), (Family::V6, 224)] {
        for count in [1, HANDSHAKE.len()] {
            let each = bytes_each(family, &HANDSHAKE[..count]);
            assert!(each <= most, "{each} bytes over {family:?}");
        }
    }
}

#[test]
fn one_with_a_cold_part_takes_800_bytes() {
    // The data is retransmitted.
    let packets = [&HANDSHAKE[..], &HANDSHAKE[3..]].concat();
    let each = bytes_each(Family::V4, &packets);
    assert!((200..=800).contains(&each), "{each} bytes");
}

#[test]
fn many_that_are_due_at_once_stall_no_record() {
    let mut tracker = Tracker::new(&Config::default());
    for number in 0..100_000 {
        syn(&mut tracker, number, 1, &mut Vec::new());
    }
    // An hour later all of them are over, and each record sweeps a few.
    let (mut most, mut all) = (0, 0);
    for record in 0..100_000 {
        let mut now = 0;
        tracker.advance(3_600 * SECOND + record, |_| now += 1);
        most = most.max(now);
        all += now;
    }
    assert_eq!(all, 100_000);
    assert!(most <= 4, "{most}");
}
