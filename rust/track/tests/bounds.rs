//! Bounds of memory for live connections, and the cost of freeing.
#![allow(clippy::print_stdout, reason = "a test says what it measured")]

use conntrack_base::time::SECOND;
use conntrack_decode::testkit::whole;
use conntrack_decode::{Addr, Family, FiveTuple, L4, Packet, Tcp, ipproto, tcpflag};
use conntrack_track::config::{Bounds, Config};
use conntrack_track::connection::EndReason;
use conntrack_track::proto::CtState;
use conntrack_track::tracker::{Evictions, Label, Tracker};

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
    let evicted = Evictions { connections: 4_940, ..Evictions::default() };
    assert_eq!((tracker.evicted(), tracker.refused()), (evicted, 0));
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
    assert_eq!((tracker.evicted().sum(), tracker.refused(), tracker.snapshot().count()), (0, 1, 40));
}

const LIMIT: usize = 4 << 20;

#[test]
fn memory_has_a_bound() {
    let mut tracker = bounded(usize::MAX, LIMIT);
    let mut reasons = Vec::new();
    for number in 0..200_000 {
        syn(&mut tracker, number, 1, &mut reasons);
        assert!(tracker.bytes() <= LIMIT, "{}", tracker.bytes());
    }
    let least = LIMIT / 16 * 13 / 160;
    assert!(tracker.snapshot().count() > least, "{}", tracker.snapshot().count());
    assert_eq!(tracker.evicted(), Evictions { memory: reasons.len() as u64, ..Evictions::default() });
}

/// An ICMP error from a host of its own, about a packet that nobody saw.
fn error(tracker: &mut Tracker, number: u32, ts: i64) -> Label {
    let (src, dst) = (Addr::v4(number.to_be_bytes()), Addr::v4([10, 0, 0, 1]));
    let tuple = FiveTuple { src, dst, sport: 3, dport: 3, proto: ipproto::ICMP, family: Family::V4 };
    let quoted = FiveTuple { src: dst, dst: src, sport: 40_000, dport: 53, proto: ipproto::UDP, family: Family::V4 };
    let l4 = L4::IcmpError { kind: 3, code: 3, quoted: Some(quoted), quoted_id: 0 };
    tracker.record(&[whole(tuple, l4, 28)], &[], ts, |_| ())
}

/// An answer whose SYN nobody saw, which has a cold part.
fn syn_ack(tracker: &mut Tracker, number: u32, ts: i64) -> Label {
    let packet = segment(number, false, tcpflag::SYN | tcpflag::ACK, 1, 2);
    tracker.record(&[packet], &[], ts, |_| ())
}

fn syn_over_ipv6(tracker: &mut Tracker, number: u32, ts: i64) -> Label {
    let packet = segment_of(Family::V6, number, true, tcpflag::SYN, (1, 0, 0));
    tracker.record(&[packet], &[], ts, |_| ())
}

#[test]
fn a_flood_of_one_kind_leaves_memory_for_the_others() {
    let by_record = |tracker: &mut Tracker, number: u32, ts: i64| syn(tracker, number, ts, &mut Vec::new());
    let kinds: [fn(&mut Tracker, u32, i64) -> Label; 3] = [by_record, syn_over_ipv6, syn_ack];
    for (at, flood) in kinds.iter().enumerate() {
        let mut tracker = bounded(usize::MAX, LIMIT);
        for number in 0..100_000 {
            flood(&mut tracker, number, 1);
            assert!(tracker.bytes() <= LIMIT, "kind {at}: {}", tracker.bytes());
        }
        let evicted = tracker.evicted();
        assert!(evicted.memory > 0 && tracker.refused() == 0, "kind {at}: {evicted:?}");
        for (other, begin) in kinds.iter().enumerate().filter(|(other, _)| *other != at) {
            for number in 200_000..200_100 {
                assert!(begin(&mut tracker, number, 2).connection.is_some(), "kind {other} after {at}");
            }
        }
        assert!(tracker.bytes() <= LIMIT + LIMIT / 16, "kind {at}: {}", tracker.bytes());
        assert_eq!(tracker.refused(), 0);
    }
}

#[test]
fn connections_that_grow_stay_within_the_memory() {
    const LIVE: u32 = 15_000;
    let mut tracker = bounded(usize::MAX, LIMIT);
    for number in 0..LIVE {
        assured(&mut tracker, number);
    }
    assert_eq!((tracker.begun(), tracker.evicted().sum()), (u64::from(LIVE), 0));
    // Holes in each, which take memory for each piece behind them.
    let mut ended = 0;
    for (number, piece) in (0..LIVE).flat_map(|number| (0..20).map(move |piece| (number, piece))) {
        let seq = 1_000 + 100 * piece;
        let packet = segment_of(Family::V4, number, true, tcpflag::ACK, (seq, 2, 10));
        tracker.record(&[packet], &[], 1, |closed| ended += u64::from(closed.reason == EndReason::Evicted));
        assert!(tracker.bytes() <= LIMIT, "{}", tracker.bytes());
    }
    assert_eq!(tracker.evicted(), Evictions { memory: ended, ..Evictions::default() });
    assert!(ended > 1_000, "{ended}");
    assert!(syn(&mut tracker, 99_999, 2, &mut Vec::new()).connection.is_some(), "a record has its own share");
}

#[test]
fn errors_evict_errors() {
    const MOST: u32 = 65_536;
    let mut tracker = bounded(1_000_000, usize::MAX);
    for number in 0..1_000 {
        syn(&mut tracker, number, 0, &mut Vec::new());
    }
    let numbers: Vec<_> = (0..MOST + 500).map(|number| error(&mut tracker, 10_000 + number, 1).connection).collect();
    assert_eq!(tracker.evicted(), Evictions { errors: 500, ..Evictions::default() });
    let mut live: Vec<_> = tracker.snapshot().map(|one| one.id).collect();
    live.sort_unstable();
    assert_eq!(live.len(), 1_000 + MOST as usize);
    assert_eq!((live[999], Some(live[1_000])), (999, numbers[500]), "the oldest errors have left");
    // Later ones of a live pair belong to it, and evict none.
    assert_eq!(error(&mut tracker, 10_000 + MOST, 2).connection, numbers[MOST as usize]);
    assert_eq!(tracker.evicted().errors, 500);
    // All are over; what ended leaves room.
    tracker.advance_to(100 * SECOND, |_| ());
    error(&mut tracker, 7, 100 * SECOND);
    assert_eq!(tracker.evicted().errors, 500);
    let mut free = bounded(usize::MAX, usize::MAX);
    for number in 0..MOST + 500 {
        error(&mut free, number, 1);
    }
    assert_eq!((free.evicted().sum(), free.snapshot().count()), (0, MOST as usize + 500), "no bound was asked for");
}

#[test]
fn smaller_bounds_are_reached_as_connections_begin() {
    let mut tracker = bounded(usize::MAX, usize::MAX);
    for number in 0..1_000 {
        syn(&mut tracker, number, 0, &mut Vec::new());
    }
    tracker.set_bounds(Bounds { connections: 100, ..Bounds::default() });
    for number in 1_000..1_200 {
        syn(&mut tracker, number, 1, &mut Vec::new());
    }
    assert_eq!((tracker.snapshot().count(), tracker.refused()), (100, 0));
    assert_eq!(tracker.evicted().connections, 1_100);
}

/// A month of capture time: floods, silence, clocks that jump.
#[test]
fn a_month_stays_within_its_bounds() {
    const DAY: i64 = 86_400 * SECOND;
    const MOST: usize = 2_000;
    let mut tracker = bounded(MOST, LIMIT);
    let mut number = 0;
    for day in 0..30 {
        // An assured connection lives for five days.
        for _ in 0..10 {
            number += 1;
            assured(&mut tracker, number);
        }
        for step in 0..5_000 {
            number += 1;
            // Every seventh packet is stamped an hour before the others.
            let back = if step % 7 == 0 { 3_600 * SECOND } else { 0 };
            let ts = day * DAY + i64::from(step) * SECOND / 1_000 - back;
            match step % 4 {
                0 => syn_over_ipv6(&mut tracker, number, ts),
                1 => error(&mut tracker, number, ts),
                2 => syn_ack(&mut tracker, number, ts),
                _ => syn(&mut tracker, number, ts, &mut Vec::new()),
            };
            tracker.advance(ts, |_| ());
            assert!(tracker.table().len() <= MOST && tracker.bytes() <= LIMIT, "day {day}");
        }
        tracker.advance_to((day + 1) * DAY - SECOND, |_| ());
        assert!(tracker.table().len() <= 50, "day {day}: {} live", tracker.table().len());
    }
    assert!(tracker.evicted().connections > 10_000 && tracker.refused() == 0, "{:?}", tracker.evicted());
    let mut ended = 0;
    tracker.advance_to(400 * DAY, |_| ended += 1);
    assert_eq!((tracker.table().len(), tracker.table().peak()), (0, MOST));
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
