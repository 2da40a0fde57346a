//! Cold parts with concurrent readers: a step of the slow path is visible at once, when settled.

use conntrack_base::sync::Mutant;
use conntrack_decode::{Addr, Family, FiveTuple, Packet, tcpflag};
use conntrack_track::connection::Connection;
use conntrack_track::tracker::Tracker;
use loom::thread;

use super::explore;
use super::packets::{begin, config, count, found, numbered, segment, table, tracker};

/// A packet of the client or of the server, and its time.
type PacketAt = (Packet, i64);

/// A connection whose second data segment is retransmitted: from then on, a cold part and further packets.
fn with_a_cold_part() -> Vec<PacketAt> {
    let (syn, ack) = (tcpflag::SYN, tcpflag::ACK);
    let data = |seq: u32| numbered(true, ack, (seq, 901), 10);
    let packets = [
        numbered(true, syn, (100, 0), 0),
        numbered(false, syn | ack, (900, 101), 0),
        numbered(true, ack, (101, 901), 0),
        numbered(false, ack, (901, 101), 0),
        data(101),
        data(101),
        data(111),
        data(111),
    ];
    packets.into_iter().zip(1..).collect()
}

/// Process packets by the shortcuts or the slow path, as needed.
fn take(tracker: &mut Tracker, packets: &[PacketAt]) {
    for (packet, ts) in packets {
        tracker.record(std::slice::from_ref(packet), &[], *ts, |_| ());
    }
}

/// The connection after each packet.
fn as_it_becomes() -> Vec<Connection> {
    let mut tracker = tracker(&config());
    let packets = with_a_cold_part();
    let all = packets.iter().map(|one| {
        take(&mut tracker, std::slice::from_ref(one));
        tracker.snapshot().next().unwrap()
    });
    all.collect()
}

/// A packet of a connection with a concurrent reader, which is created after `before` packets.
fn packet_beside_a_reader(left_out: Option<Mutant>, before: usize) {
    explore(
        left_out,
        || (as_it_becomes(), config()),
        move |(all, known)| {
            let packets = with_a_cold_part();
            let mut tracker = tracker(known);
            take(&mut tracker, &packets[..before]);
            let reader = tracker.reader();
            let lookup = reader.lookup_of(found(&packets[0].0).0.words);
            let may_be = [all[before - 1].clone(), all[before].clone()];
            let beside = {
                let reader = reader.clone();
                thread::spawn(move || {
                    let seen = reader.lookup(&lookup).expect("it lives all the time");
                    assert!(may_be.contains(&seen), "{seen:?}");
                })
            };
            take(&mut tracker, &packets[before..=before]);
            beside.join().unwrap();
            assert_eq!(reader.lookup(&lookup).as_ref(), Some(&all[before]));
        },
    );
}

/// The number of packets before the retransmission, which makes the cold part.
const FIRST_AGAIN: usize = 5;
/// The number of packets before the first one that a connection with a cold part processes in place.
const IN_PLACE: usize = 6;
/// The number of packets before the second retransmission: the record has counted since the cold part was synchronised.
const AGAIN: usize = 7;

#[test]
fn the_first_slow_step_and_lookup() {
    packet_beside_a_reader(None, FIRST_AGAIN);
}

#[test]
fn a_shortcut_beside_a_cold_part_and_lookup() {
    packet_beside_a_reader(None, IN_PLACE);
}

/// A reader created after the cold part.
#[test]
fn a_slow_step_with_a_cold_part_and_lookup() {
    packet_beside_a_reader(None, AGAIN);
}

#[test]
fn a_slow_step_without_versions_is_caught() {
    packet_beside_a_reader(Some(Mutant::NoVersion), AGAIN);
}

#[test]
fn the_first_slow_step_without_versions_is_caught() {
    packet_beside_a_reader(Some(Mutant::NoVersion), FIRST_AGAIN);
}

/// The owner's step by hand: invisible until settled.
#[test]
fn step_and_settle_and_lookup() {
    let seen_after = |step: bool| {
        let mut table = table();
        let (slot, _) = begin(&mut table, 1);
        if step {
            count(&mut table, slot, 1, 5);
        }
        table.look(slot).unwrap()
    };
    explore(
        None,
        move || [seen_after(false), seen_after(true)],
        |may_be| {
            let mut table = table();
            let (slot, lookup) = begin(&mut table, 1);
            let reader = table.reader();
            let number = table.step(slot).unwrap();
            assert_eq!(reader.lookup(&lookup).as_ref(), Some(&may_be[0]));
            let beside = {
                let (may_be, reader) = (may_be.clone(), reader.clone());
                thread::spawn(move || {
                    let seen = reader.lookup(&lookup).expect("it lives all the time");
                    assert!(may_be.contains(&seen), "{seen:?}");
                })
            };
            let syn = segment(1, true, tcpflag::SYN);
            table.cold(number).unwrap().count(&syn, found(&syn).1, 5);
            table.settle(slot, number);
            beside.join().unwrap();
            assert_eq!(reader.lookup(&lookup).as_ref(), Some(&may_be[1]));
        },
    );
}

/// Drain with a concurrent reader: a new connection reuses the number of the cold part that the reader looks for.
#[test]
fn cold_numbers_that_are_used_again_and_lookup() {
    explore(
        None,
        || (as_it_becomes(), config()),
        |(all, known)| {
            let packets = with_a_cold_part();
            let mut tracker = tracker(known);
            take(&mut tracker, &packets[..=FIRST_AGAIN]);
            let reader = tracker.reader();
            let lookup = reader.lookup_of(found(&packets[0].0).0.words);
            let lived = all[FIRST_AGAIN].clone();
            let beside = {
                let reader = reader.clone();
                thread::spawn(move || {
                    let seen = reader.lookup(&lookup);
                    assert!(seen.is_none() || seen.as_ref() == Some(&lived), "{seen:?}");
                })
            };
            tracker.finish(|_| ());
            // Slots of another width have versions of their own.
            let addr = |last: u8| Addr::v6([last; 16]);
            let tuple = FiveTuple { src: addr(1), dst: addr(2), family: Family::V6, ..packets[0].0.tuple };
            let ack = Packet { tuple, ..numbered(true, tcpflag::ACK, (7, 7), 0) };
            take(&mut tracker, &[(ack, 100)]);
            beside.join().unwrap();
            assert_eq!(reader.lookup(&lookup), None);
        },
    );
}
