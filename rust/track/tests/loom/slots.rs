//! Slots with concurrent readers: changed, retired, listed, drained, and growth of the index.

use conntrack_base::sync::Mutant;
use conntrack_track::connection::Connection;
use conntrack_track::table::{Lookup, Reader};
use loom::thread;

use super::explore;
use super::packets::{answer, begin, table};

/// The valid states of such a connection: begun, or answered; nothing between.
fn as_it_may_be(port: u16) -> [Connection; 2] {
    let mut table = table();
    let (slot, _) = begin(&mut table, port);
    let begun = table.look(slot).unwrap();
    answer(&mut table, slot, port);
    [begun, table.look(slot).unwrap()]
}

/// Ports in both regions of a model's table.
const PORTS: [u16; 3] = [1, 2, 3];

fn update_beside_a_reader(left_out: Option<Mutant>) {
    explore(
        left_out,
        || as_it_may_be(1),
        |may_be| {
            let mut table = table();
            let (slot, lookup) = begin(&mut table, 1);
            let reader = table.reader();
            let (may_be, last) = (may_be.clone(), may_be[1].clone());
            let beside = thread::spawn(move || {
                let seen = reader.lookup(&lookup).expect("it lives all the time");
                assert!(may_be.contains(&seen), "{seen:?}");
            });
            answer(&mut table, slot, 1);
            beside.join().unwrap();
            assert_eq!(table.reader().lookup(&lookup), Some(last));
        },
    );
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

/// A reader's operation.
type Look = fn(&Reader, &Lookup) -> Vec<Connection>;

const LOOK_UP: Look = |reader, lookup| reader.lookup(lookup).into_iter().collect();
const LIST: Look = |reader, _| reader.snapshot().collect();

/// Remove a connection, and reuse its slot for another one, with a concurrent reader.
fn retire_beside_a_reader(left_out: Option<Mutant>, look: Look, may_be_new: bool) {
    explore(
        left_out,
        || [as_it_may_be(1), as_it_may_be(2)],
        move |[old, new]| {
            let (begun, next) = (old[0].clone(), new[0].clone());
            let mut table = table();
            let (slot, lookup) = begin(&mut table, 1);
            let reader = table.reader();
            let beside = {
                let (reader, next) = (reader.clone(), next.clone());
                thread::spawn(move || {
                    for seen in look(&reader, &lookup) {
                        assert!(seen == begun || (may_be_new && seen == next), "{seen:?}");
                    }
                })
            };
            table.remove(slot, |_, _| ());
            let (reused, _) = begin(&mut table, 2);
            assert_eq!(reused, slot, "the place is used again");
            beside.join().unwrap();
            assert_eq!(reader.lookup(&lookup), None);
            assert!(reader.snapshot().eq([next]));
        },
    );
}

#[test]
fn retire_and_lookup() {
    retire_beside_a_reader(None, LOOK_UP, false);
}

#[test]
fn retire_without_versions_is_caught() {
    retire_beside_a_reader(Some(Mutant::NoVersion), LIST, true);
}

#[test]
fn retire_without_comparing_keys_is_caught() {
    retire_beside_a_reader(Some(Mutant::NoCompare), LOOK_UP, false);
}

fn snapshot_beside_the_owner(left_out: Option<Mutant>) {
    explore(
        left_out,
        || [as_it_may_be(1), as_it_may_be(2)],
        |[stays, goes]| {
            let (stays, goes) = (stays.clone(), goes.clone());
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
            table.remove(slot, |_, _| ());
            beside.join().unwrap();
            assert!(reader.snapshot().eq([lives]));
        },
    );
}

#[test]
fn snapshot_and_retire() {
    snapshot_beside_the_owner(None);
}

#[test]
fn snapshot_of_places_that_were_not_vacated_is_caught() {
    snapshot_beside_the_owner(Some(Mutant::NoVacating));
}

/// Drain a table, and free its memory, while a reader takes a snapshot.
#[test]
fn snapshot_and_reclaim() {
    explore(
        None,
        || PORTS.map(as_it_may_be),
        |may_be| {
            let may_be = may_be.clone();
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
        },
    );
}

/// Grow the index with a concurrent reader of an existing entry.
fn growth_beside_a_reader(left_out: Option<Mutant>) {
    explore(
        left_out,
        || as_it_may_be(1),
        |may_be| {
            let may_be = may_be.clone();
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
        },
    );
}

#[test]
fn growth_and_lookup() {
    growth_beside_a_reader(None);
}

#[test]
fn growth_that_is_shown_too_early_is_caught() {
    growth_beside_a_reader(Some(Mutant::EarlyRegion));
}
