//! Concurrent readers and feeders: linearizability of recorded histories, and a stress test.
//!
//! `CONNTRACK_STRESS_SECONDS=600 cargo test --release -p conntrack-core --test readers` is the long form.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conntrack_core::capture::{LinkType, Record, RecordBatch};
use conntrack_core::config::Config;
use conntrack_core::decode::{Addr, Family, FiveTuple, Vlan, ipproto};
use conntrack_core::labels::WIDTH;
use conntrack_core::pipeline::Stream;
use conntrack_core::time::SECOND;

const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 53);

fn client(number: u32) -> ([u8; 4], u16) {
    let [_, b, c, d] = (number / 1_000).to_be_bytes();
    ([172, 16 + b, c, d], 20_000 + (number % 1_000) as u16)
}

/// A UDP datagram from a client, or to it, as an IP packet.
fn datagram(number: u32, from_client: bool) -> Vec<u8> {
    let (src, dst) = if from_client { (client(number), SERVER) } else { (SERVER, client(number)) };
    let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, ipproto::UDP, 0, 0];
    bytes.extend(src.0.into_iter().chain(dst.0));
    bytes.extend([src.1, dst.1, 8, 0].map(u16::to_be_bytes).concat());
    bytes
}

fn batch(packets: impl IntoIterator<Item = (i64, Vec<u8>)>) -> Arc<RecordBatch> {
    let mut batch = RecordBatch::default();
    for (ts, bytes) in packets {
        let (start, len) = (batch.data.len() as u32, bytes.len() as u32);
        batch.records.push(Record {
            ts,
            offset: 0,
            start,
            caplen: len,
            len,
            file: 0,
            linktype: LinkType::RAW,
            abridged: false,
            unsummed: false,
        });
        batch.data.extend(bytes);
    }
    Arc::new(batch)
}

fn tuple(number: u32) -> FiveTuple {
    let (addr, sport) = client(number);
    let (src, dst) = (Addr::v4(addr), Addr::v4(SERVER.0));
    FiveTuple { src, dst, sport, dport: SERVER.1, proto: ipproto::UDP, family: Family::V4 }
}

/// Packets of a connection as a lookup sees them; 0: no connection.
fn packets(stream: &Stream, number: u32) -> u64 {
    stream.lookup(&tuple(number), Vlan::default()).map_or(0, |rows| {
        let row = rows.iter().next().unwrap();
        assert_eq!(row.sent(0).ip_bytes, 28 * row.sent(0).packets, "counts of one moment");
        assert_eq!(row.sent(1).ip_bytes, 28 * row.sent(1).packets, "counts of one moment");
        row.sent(0).packets + row.sent(1).packets
    })
}

/// An operation on one connection: times of call and return, and the number of packets fed or seen.
struct Operation {
    called: u64,
    returned: u64,
    packets: u64,
}

/// Asserts that lookups are linearizable (Herlihy and Wing, 1990). Packets of a connection are fed one after another. So a
/// lookup that sees n packets overlaps the time from the call of the n-th to the return of the next. No lookup sees fewer
/// packets than one that returned before its call.
fn assert_linearizable(fed: &[Operation], mut seen: Vec<Operation>) {
    for lookup in &seen {
        let settled = fed.iter().filter(|packet| packet.returned < lookup.called).count() as u64;
        let begun = fed.iter().filter(|packet| packet.called < lookup.returned).count() as u64;
        assert!((settled..=begun).contains(&lookup.packets), "{} is not in {settled}..={begun}", lookup.packets);
    }
    seen.sort_by_key(|lookup| lookup.called);
    let mut returned: Vec<&Operation> = seen.iter().collect();
    returned.sort_by_key(|lookup| lookup.returned);
    let (mut before, mut highest) = (returned.into_iter().peekable(), 0);
    for lookup in &seen {
        while let Some(earlier) = before.next_if(|earlier| earlier.returned < lookup.called) {
            highest = highest.max(earlier.packets);
        }
        assert!(lookup.packets >= highest, "a lookup sees {} after one that saw {highest}", lookup.packets);
    }
}

#[test]
fn lookups_are_linearizable() {
    const CONNECTIONS: u32 = 3;
    for round in 0..20 {
        let stream = Stream::new(&Config::default());
        let (clock, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let tick = || clock.fetch_add(1, Ordering::SeqCst);
        let (fed, seen) = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..CONNECTIONS)
                .map(|number| {
                    let (stream, over, tick) = (&stream, &over, &tick);
                    scope.spawn(move || {
                        let mut seen = Vec::new();
                        while !over.load(Ordering::Acquire) {
                            let called = tick();
                            let packets = packets(stream, number);
                            seen.push(Operation { called, returned: tick(), packets });
                        }
                        seen
                    })
                })
                .collect();
            let mut fed: Vec<Vec<Operation>> = (0..CONNECTIONS).map(|_| Vec::new()).collect();
            for packet in 0..300 {
                for number in 0..CONNECTIONS {
                    let called = tick();
                    let from_client = packet == 0 || (packet + number + round) % 2 == 0;
                    stream.process(batch([(SECOND + i64::from(packet), datagram(number, from_client))]));
                    fed[number as usize].push(Operation { called, returned: tick(), packets: u64::from(packet) + 1 });
                }
            }
            over.store(true, Ordering::Release);
            (fed, readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>())
        });
        for (fed, seen) in fed.iter().zip(seen) {
            assert_linearizable(fed, seen);
        }
    }
}

#[test]
fn a_wrong_history_is_found() {
    let fed = [Operation { called: 0, returned: 1, packets: 1 }, Operation { called: 4, returned: 5, packets: 2 }];
    let seen = |packets: [u64; 2]| {
        let [first, second] = packets;
        vec![
            Operation { called: 2, returned: 6, packets: first },
            Operation { called: 7, returned: 8, packets: second },
        ]
    };
    assert_linearizable(&fed, seen([1, 2]));
    for wrong in [[0, 2], [1, 1], [2, 1], [3, 2]] {
        assert!(std::panic::catch_unwind(|| assert_linearizable(&fed, seen(wrong))).is_err(), "{wrong:?}");
    }
}

/// Several threads feed connections of their own, which time out and begin anew; others look up, snapshot and drain.
#[test]
fn everything_at_once() {
    const FEEDERS: u32 = 3;
    const EACH: u32 = 500;
    let seconds = std::env::var("CONNTRACK_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let end = Instant::now() + Duration::from_secs(seconds);
    let stream = Stream::new(&Config::default());
    let over = AtomicBool::new(false);
    let moment = AtomicU64::new(0);
    let (fed, drained) = std::thread::scope(|scope| {
        let feeders: Vec<_> = (0..FEEDERS)
            .map(|feeder| {
                let (stream, moment) = (&stream, &moment);
                scope.spawn(move || {
                    let mut fed = 0_u64;
                    let mut chance = u64::from(feeder) + 1;
                    while Instant::now() < end {
                        // Time runs fast, so that some time out and others live.
                        let now = moment.fetch_add(1, Ordering::Relaxed) as i64 * SECOND / 20;
                        let batch = batch((0..64).map(|_| {
                            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            let number = feeder * EACH + (chance >> 33) as u32 % EACH;
                            (now, datagram(number, (chance >> 60) % 4 > 0))
                        }));
                        let labels = stream.process(batch.clone());
                        assert_eq!(labels.len(), batch.records.len() * WIDTH);
                        fed += batch.records.len() as u64;
                    }
                    fed
                })
            })
            .collect();
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let (stream, over) = (&stream, &over);
                scope.spawn(move || {
                    let mut number = reader;
                    while !over.load(Ordering::Acquire) {
                        number = (number + 7) % (FEEDERS * EACH);
                        packets(stream, number);
                        if number % 64 == 0 {
                            let rows = stream.snapshot();
                            let keys: HashSet<_> = rows
                                .iter()
                                .map(|row| (row.ip(0).min(row.ip(1)), row.port(0).max(row.port(1))))
                                .collect();
                            let mut numbers = HashSet::new();
                            for row in rows.iter() {
                                assert_eq!(row.sent(0).ip_bytes, 28 * row.sent(0).packets);
                                assert!(numbers.insert(row.number()), "a connection is in it once");
                            }
                            assert!(keys.len() <= (FEEDERS * EACH) as usize);
                        }
                    }
                })
            })
            .collect();
        let drainer = {
            let (stream, over) = (&stream, &over);
            scope.spawn(move || {
                let mut drained = 0;
                while !over.load(Ordering::Acquire) {
                    drained += count(&stream.drain());
                    std::thread::sleep(Duration::from_millis(5));
                }
                drained
            })
        };
        let fed: u64 = feeders.into_iter().map(|feeder| feeder.join().unwrap()).sum();
        over.store(true, Ordering::Release);
        for reader in readers {
            reader.join().unwrap();
        }
        (fed, drainer.join().unwrap())
    });
    assert_eq!(drained + count(&stream.finish()), fed, "every packet is in one connection");
    assert!(stream.snapshot().is_empty());
}

fn count(rows: &conntrack_core::rows::Rows) -> u64 {
    rows.iter().map(|row| row.sent(0).packets + row.sent(1).packets).sum()
}
