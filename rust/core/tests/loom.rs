//! Every order in which threads may touch a table, as far as two changes of thread at unfortunate moments reach: models that are
//! explored, not stress. For each thing that keeps them right there is a mutant that leaves it out, and has to be caught.
//!
//! The owner goes first and the reader is the thread beside him: the explorer remembers one access of each word, and an owner
//! who looks at a word before he writes it would hide from it that a reader looked, too.
//!
//! `make model-test`
#![cfg(feature = "models")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use conntrack_core::compact::{Compact, Extras};
use conntrack_core::config::{Bounds, Config};
use conntrack_core::connection::Connection;
use conntrack_core::decode::{Addr, Brief, Family, FiveTuple, Tcp, Vlan, ipproto, tcpflag};
use conntrack_core::flow::{Side, Words};
use conntrack_core::sync::{Mutant, Station, mutate};
use conntrack_core::table::{FlowTable, Guess, Lookup, Lookups, Reader, SlotId};
use conntrack_core::time::SECOND;
use conntrack_core::tracker::Tracker;
use loom::thread;

/// What the models leave out is one for all of them.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn explore(left_out: Option<Mutant>, model: impl Fn() + Sync + Send + 'static) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    mutate(left_out);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.max_branches = 100_000;
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = orders.clone();
    let explored = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            model();
        });
    }));
    mutate(None);
    match (left_out, explored) {
        (None, Err(panic)) => std::panic::resume_unwind(panic),
        (Some(mutant), Ok(())) => panic!("the model does not catch {mutant:?}"),
        (None, Ok(())) => {
            let orders = orders.load(Ordering::Relaxed);
            println!("{orders} orders");
            assert!(orders > 10, "nothing was explored");
        }
        _ => {}
    }
}

/// A segment of a client at this port, or to it.
fn segment(port: u16, from_client: bool, flags: u8) -> (Brief, Words, Side) {
    let (client, server) = ((Addr::v4([10, 0, 0, 1]), port), (Addr::v4([10, 0, 0, 2]), 80));
    let ((src, sport), (dst, dport)) = if from_client { (client, server) } else { (server, client) };
    let tuple = FiveTuple { src, dst, sport, dport, proto: ipproto::TCP, family: Family::V4 };
    let (seq, ack) = if from_client { (100, 0) } else { (900, 101) };
    let tcp = Tcp { seq, ack, flags, window: 1_000, ..Tcp::default() };
    let (words, side) = Words::of_ports(&tuple, Vlan::default());
    (Brief { tuple, tcp, ip_bytes: 40, ..Brief::default() }, words, side)
}

fn table() -> FlowTable {
    FlowTable::new(Config::default().rules.timeouts, Bounds::default(), Lookups::new())
}

/// Begins a connection at this port, whose number and time are the port's.
fn begin(table: &mut FlowTable, port: u16) -> (SlotId, Lookup) {
    let (syn, words, side) = segment(port, true, tcpflag::SYN);
    let rules = Config::default().rules;
    let (compact, _) = Compact::begin(port.into(), &syn, side, port.into(), &rules, || None).unwrap();
    let lookup = table.lookups().lookup(words);
    (table.insert_compact(&lookup, compact).unwrap(), lookup)
}

/// Its answer.
fn answer(table: &mut FlowTable, port: u16) {
    let rules = Config::default().rules;
    let (reply, words, side) = segment(port, false, tcpflag::SYN | tcpflag::ACK);
    let lookup = table.lookups().lookup(words);
    let step = |compact: &mut Compact, extras: &mut Extras| {
        compact.express(&reply, side, i64::from(port) + 1, &rules, extras, || None)
    };
    table.change(&lookup, Guess::default(), step).unwrap().1.unwrap();
}

/// What such a connection may look like: begun, or answered; nothing between.
fn as_it_may_be(port: u16) -> [Connection; 2] {
    let mut table = table();
    let (slot, _) = begin(&mut table, port);
    let begun = table.look(slot).unwrap();
    answer(&mut table, port);
    [begun, table.look(slot).unwrap()]
}

/// Ports in both regions of a model's table.
const PORTS: [u16; 3] = [1, 2, 3];

fn update_beside_a_reader(left_out: Option<Mutant>) {
    explore(left_out, || {
        let may_be = as_it_may_be(1);
        let mut table = table();
        let (_, lookup) = begin(&mut table, 1);
        let reader = table.reader();
        let last = may_be[1].clone();
        let beside = thread::spawn(move || {
            let seen = reader.lookup(&lookup).expect("it lives all the time");
            assert!(may_be.contains(&seen), "{seen:?}");
        });
        answer(&mut table, 1);
        beside.join().unwrap();
        assert_eq!(table.reader().lookup(&lookup), Some(last));
    });
}

#[test]
fn update_and_lookup() {
    update_beside_a_reader(None);
}

#[test]
fn update_without_versions_is_caught() {
    update_beside_a_reader(Some(Mutant::NoVersion));
}

#[test]
fn update_with_relaxed_writes_is_caught() {
    update_beside_a_reader(Some(Mutant::RelaxedWords));
}

#[test]
fn update_with_relaxed_reads_is_caught() {
    update_beside_a_reader(Some(Mutant::RelaxedReads));
}

/// A connection goes, and another one comes into its place.
fn retire_beside_a_reader(left_out: Option<Mutant>) {
    explore(left_out, || {
        let (old, new) = (as_it_may_be(1), as_it_may_be(2));
        let mut table = table();
        let (slot, lookup) = begin(&mut table, 1);
        let reader = table.reader();
        let beside = {
            let reader = reader.clone();
            thread::spawn(move || {
                let seen = reader.lookup(&lookup);
                assert!(seen.is_none() || seen.as_ref() == Some(&old[0]), "{seen:?}");
            })
        };
        table.discard(slot);
        let (reused, _) = begin(&mut table, 2);
        assert_eq!(reused, slot, "the place is used again");
        beside.join().unwrap();
        assert_eq!(reader.lookup(&lookup), None);
        assert!(reader.snapshot().eq([new[0].clone()]));
    });
}

#[test]
fn retire_and_lookup() {
    retire_beside_a_reader(None);
}

#[test]
fn retire_without_versions_is_caught() {
    retire_beside_a_reader(Some(Mutant::NoVersion));
}

#[test]
fn retire_without_comparing_keys_is_caught() {
    retire_beside_a_reader(Some(Mutant::NoCompare));
}

fn snapshot_beside_the_owner(left_out: Option<Mutant>) {
    explore(left_out, || {
        let (stays, goes) = (as_it_may_be(1), as_it_may_be(2));
        let mut table = table();
        begin(&mut table, 1);
        let (slot, _) = begin(&mut table, 2);
        let reader = table.reader();
        let lives = stays[0].clone();
        let beside = {
            let reader = reader.clone();
            thread::spawn(move || {
                let seen: Vec<_> = reader.snapshot().collect();
                assert_eq!(
                    seen.iter().filter(|one| **one == stays[0]).count(),
                    1,
                    "what lives all the time is in it once"
                );
                let others: Vec<_> = seen.iter().filter(|one| **one != stays[0]).collect();
                assert!(others.is_empty() || others == [&goes[0]], "{others:?}");
            })
        };
        table.discard(slot);
        beside.join().unwrap();
        assert!(reader.snapshot().eq([lives]));
    });
}

#[test]
fn snapshot_and_retire() {
    snapshot_beside_the_owner(None);
}

#[test]
fn snapshot_of_places_that_were_not_vacated_is_caught() {
    snapshot_beside_the_owner(Some(Mutant::NoVacating));
}

/// Everything is taken out, and its memory freed, while a reader walks through it.
#[test]
fn snapshot_and_reclaim() {
    explore(None, || {
        let may_be = PORTS.map(as_it_may_be);
        let mut table = table();
        let [_, _, (_, lookup)] = PORTS.map(|port| begin(&mut table, port));
        let reader = table.reader();
        let beside = {
            let reader = reader.clone();
            thread::spawn(move || {
                for seen in reader.lookup(&lookup).into_iter().chain(reader.snapshot()) {
                    assert!(may_be.iter().any(|one| one[0] == seen), "{seen:?}");
                }
            })
        };
        let mut gone = 0;
        table.drain(|_, _| gone += 1);
        assert_eq!(gone, PORTS.len());
        beside.join().unwrap();
        assert_eq!(reader.snapshot().count(), 0);
    });
}

/// The index grows beside a reader of what was there before.
fn growth_beside_a_reader(left_out: Option<Mutant>) {
    explore(left_out, || {
        let may_be = as_it_may_be(1);
        let mut table = table();
        let (_, lookup) = begin(&mut table, 1);
        let reader = table.reader();
        let beside = {
            let reader = reader.clone();
            thread::spawn(move || {
                assert_eq!(reader.lookup(&lookup).as_ref(), Some(&may_be[0]), "it lives all the time");
            })
        };
        for port in &PORTS[1..] {
            begin(&mut table, *port);
        }
        beside.join().unwrap();
        assert_eq!(table.len(), PORTS.len());
        assert_eq!(reader.snapshot().count(), PORTS.len());
    });
}

#[test]
fn growth_and_lookup() {
    growth_beside_a_reader(None);
}

#[test]
fn growth_that_is_shown_too_early_is_caught() {
    growth_beside_a_reader(Some(Mutant::EarlyRegion));
}

/// One packet that waits for a tracker: its sender, and its time.
type Arrival = (bool, i64);

fn track(tracker: &mut (Tracker, Vec<u64>), (from_client, ts): Arrival) {
    let (tracker, closed) = tracker;
    let (brief, ..) = segment(1, from_client, tcpflag::SYN);
    tracker.advance(ts, |over| closed.push(over.connection().id));
    let found = tracker.keys().found(&brief);
    tracker.brief(&brief, &found, Guess::default(), &[], ts, |over| closed.push(over.connection().id));
}

/// Two threads bring a packet each; what waits is done by whoever comes. Returns the connections that live, and those that
/// were closed.
fn feed(before: Option<Arrival>, arrivals: [Arrival; 2], check: fn(&[Connection], &[u64])) {
    let mut tracker = Tracker::new(&Config::default());
    let reader = tracker.reader();
    let mut start = (tracker, Vec::new());
    if let Some(arrival) = before {
        track(&mut start, arrival);
    }
    tracker = start.0;
    let station = Arc::new(Station::new(Box::new((tracker, Vec::new()))));
    let [first, second] = arrivals;
    let other = {
        let station = station.clone();
        thread::spawn(move || {
            station.bring(first);
            station.serve(track);
        })
    };
    station.bring(second);
    station.serve(track);
    other.join().unwrap();
    let live: Vec<_> = reader.snapshot().collect();
    let closed = station.between(|(_, closed)| std::mem::take(closed));
    check(&live, &closed);
}

/// Two first packets of one connection.
fn insert_and_insert_of_one(left_out: Option<Mutant>) {
    explore(left_out, || {
        feed(None, [(true, SECOND), (true, SECOND)], |live, closed| {
            assert_eq!((live.len(), closed.len()), (1, 0));
            assert_eq!(live[0].ends.map(|end| end.packets).iter().sum::<u64>(), 2, "none is left behind");
        });
    });
}

#[test]
fn insert_and_insert() {
    insert_and_insert_of_one(None);
}

#[test]
fn insert_and_insert_without_another_look_is_caught() {
    insert_and_insert_of_one(Some(Mutant::NoRescan));
}

/// A connection times out while its next one begins: it ends once, and one lives.
fn insert_and_expire_of_one(left_out: Option<Mutant>) {
    explore(left_out, || {
        feed(Some((true, SECOND)), [(true, 1_000 * SECOND), (true, 1_000 * SECOND)], |live, closed| {
            assert_eq!((live.len(), closed), (1, &[0][..]));
            assert_eq!(live[0].ends.map(|end| end.packets).iter().sum::<u64>(), 2, "none is left behind");
        });
    });
}

#[test]
fn insert_and_expire() {
    insert_and_expire_of_one(None);
}

#[test]
fn insert_and_expire_without_another_look_is_caught() {
    insert_and_expire_of_one(Some(Mutant::NoRescan));
}

/// A reader whose connection expires and begins anew sees the one, none or the other.
#[test]
fn expire_and_lookup() {
    explore(None, || {
        let mut tracker = Tracker::new(&Config::default());
        let reader: Reader = tracker.reader();
        let (brief, words, _) = segment(1, true, tcpflag::SYN);
        let found = tracker.keys().found(&brief);
        tracker.brief(&brief, &found, Guess::default(), &[], SECOND, |_| ());
        let lookup = reader.lookups().lookup(words);
        let beside = thread::spawn(move || {
            let seen = reader.lookup(&lookup);
            let seen = seen.map(|seen| (seen.id, seen.start, seen.ends.map(|end| end.packets).iter().sum()));
            let may_be = [None, Some((0, SECOND, 1_u64)), Some((1, 1_000 * SECOND, 1))];
            assert!(may_be.contains(&seen), "{seen:?}");
        });
        tracker.brief(&brief, &found, Guess::default(), &[], 1_000 * SECOND, |_| ());
        beside.join().unwrap();
    });
}
