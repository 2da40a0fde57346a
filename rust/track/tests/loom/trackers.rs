//! Trackers with several feeding threads, and expiry with a concurrent reader.

use std::sync::Arc;

use conntrack_base::sync::{Mutant, Station};
use conntrack_base::time::SECOND;
use conntrack_decode::tcpflag;
use conntrack_track::config::Config;
use conntrack_track::connection::Connection;
use conntrack_track::table::Reader;
use conntrack_track::tracker::{Keys, Tracker};
use loom::thread;

use super::explore;
use super::packets::{config, found, segment, tracker};

/// A waiting SYN for a tracker, and its time: from the client (true) or the server.
type Waiting = (bool, i64);

fn track(tracker: &mut (Tracker, Vec<u64>), (from_client, ts): Waiting) {
    let (tracker, closed) = tracker;
    let packet = segment(1, from_client, tcpflag::SYN);
    tracker.advance(ts, |over| closed.push(over.connection().id));
    tracker.record(&[packet], &[], ts, |over| closed.push(over.connection().id));
}

/// Two threads bring a packet each; waiting packets are processed by whichever thread comes. Returns the live
/// connections, and the closed ones.
fn feed(known: &(Config, Keys), before: Option<Waiting>, arrivals: [Waiting; 2], check: fn(&[Connection], &[u64])) {
    let mut tracker = tracker(known);
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
    explore(left_out, config, |known| {
        feed(known, None, [(true, SECOND), (true, SECOND)], |live, closed| {
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

/// A connection times out while its successor begins: one end is reported, and one connection lives.
fn insert_and_expire_of_one(left_out: Option<Mutant>) {
    explore(left_out, config, |known| {
        feed(known, Some((true, SECOND)), [(true, 1_000 * SECOND), (true, 1_000 * SECOND)], |live, closed| {
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

/// A reader whose connection expires and begins again sees the old one, none or the new one.
#[test]
fn expire_and_lookup() {
    explore(None, config, |known| {
        let mut tracker = tracker(known);
        let reader: Reader = tracker.reader();
        let syn = segment(1, true, tcpflag::SYN);
        tracker.record(&[syn], &[], SECOND, |_| ());
        let lookup = reader.lookup_of(found(&syn).0.words);
        let beside = thread::spawn(move || {
            let seen = reader.lookup(&lookup);
            let seen = seen.map(|seen| (seen.id, seen.start, seen.ends.map(|end| end.packets).iter().sum()));
            let may_be = [None, Some((0, SECOND, 1_u64)), Some((1, 1_000 * SECOND, 1))];
            assert!(may_be.contains(&seen), "{seen:?}");
        });
        tracker.record(&[syn], &[], 1_000 * SECOND, |_| ());
        beside.join().unwrap();
    });
}
