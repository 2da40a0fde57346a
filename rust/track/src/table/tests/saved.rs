//! A table after save and load against the original.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use conntrack_base::checkpoint::{Reader, Writer};
use conntrack_base::time::SECOND;

/// A deed for the connection of a number.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Begin(Family, u8),
    Answer,
    Count(u32),
    Remove,
    Expire,
}

fn deeds() -> impl Strategy<Value = Vec<(u16, Deed, i64)>> {
    let family = prop_oneof![3 => Just(Family::V4), 1 => Just(Family::V6)];
    let deed = prop_oneof![
        4 => (family, prop_oneof![2 => Just(ipproto::TCP), 1 => Just(ipproto::UDP)]).prop_map(|(a, b)| Deed::Begin(a, b)),
        2 => Just(Deed::Answer),
        2 => (1..2_000_u32).prop_map(Deed::Count),
        1 => Just(Deed::Remove),
        1 => Just(Deed::Expire),
    ];
    prop::collection::vec((0..40_u16, deed, 0..5 * SECOND), 0..200)
}

/// A packet of the client, or the answer, by protocol.
fn message(family: Family, number: u16, proto: u8, answers: bool) -> Packet {
    let (numbers, flags) = if answers { ((900, 101), SYN | ACK) } else { ((100, 0), SYN) };
    let tcp = Tcp { seq: numbers.0, ack: numbers.1, flags, window: 1_000, ..Tcp::default() };
    let l4 = if proto == ipproto::TCP { L4::Tcp(tcp) } else { L4::Udp };
    packet(tuple(family, number, !answers, proto), l4, 0)
}

/// Perform all deeds, and return the time at the end.
fn act(table: &mut FlowTable, deeds: &[(u16, Deed, i64)]) -> i64 {
    let mut now = 1_000 * SECOND;
    let mut live: std::collections::HashMap<u16, (SlotId, Family, u8, bool)> = std::collections::HashMap::new();
    for ((number, deed, wait), id) in deeds.iter().zip(0..) {
        now += wait;
        match (*deed, live.get(number).copied()) {
            (Deed::Begin(family, proto), None) => {
                let slot = begin(table, &message(family, *number, proto, false), id, now);
                live.insert(*number, (slot, family, proto, false));
            }
            (Deed::Answer, Some((slot, family, ipproto::TCP, false))) => {
                answer(table, slot, &message(family, *number, ipproto::TCP, true), now);
                live.insert(*number, (slot, family, ipproto::TCP, true));
            }
            (Deed::Count(bytes), Some((slot, family, proto, _))) => {
                let one = Packet { payload_bytes: bytes, ..message(family, *number, proto, false) };
                count(table, slot, &one, now);
                // A shortcut for an answer is only for what has no cold part.
                live.insert(*number, (slot, family, proto, true));
            }
            (Deed::Remove, Some((slot, ..))) => {
                removed(table, slot);
                live.remove(number);
            }
            (Deed::Expire, _) => {
                while let Some(over) = gone(table, now - 60 * SECOND) {
                    let over = over.0;
                    live.retain(|_, (slot, ..)| table.look(*slot).is_some_and(|one| one.id != over));
                }
            }
            _ => {}
        }
    }
    now
}

/// Number and deadline of the next connection that is over by `due`.
fn gone(table: &mut FlowTable, due: i64) -> Option<(u64, i64)> {
    loop {
        match table.expire(due) {
            Expired::None => return None,
            Expired::NotYet => {}
            Expired::Now(slot, deadline) => return Some((removed(table, slot).0.id, deadline)),
        }
    }
}

fn written(table: &FlowTable) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    table.save(&mut writer).unwrap();
    writer.finish().unwrap()
}

fn live(table: &FlowTable) -> Vec<Connection> {
    let mut live: Vec<_> = table.snapshot().collect();
    live.sort_by_key(|one| one.id);
    live
}

fn loaded(bytes: &[u8]) -> FlowTable {
    // Another key of the hash: results must not depend on it.
    let mut table = FlowTable::new(limits(), Bounds::default(), KeyHasher::new(None));
    table.load(&mut Reader::new(Cursor::new(bytes)).unwrap()).unwrap();
    table
}

fn compare(mut first: FlowTable, now: i64) -> Result<(), TestCaseError> {
    let mut second = loaded(&written(&first));
    prop_assert_eq!(live(&first), live(&second));
    prop_assert_eq!((first.len(), 0), (second.len(), second.peak()));
    for one in live(&first) {
        let words = one.key.words();
        let lookup = Lookup { words, hash: second.hasher.words(&words) };
        let slot = second.find(&lookup, NO_SLOT).unwrap();
        prop_assert_eq!(second.hot(slot).unwrap().deadline(second.limits()), one.deadline);
        prop_assert_eq!(second.look(slot), Some(one));
    }
    for step in 0..40 {
        let due = now + step * 20 * SECOND;
        loop {
            let next = gone(&mut first, due);
            prop_assert_eq!(gone(&mut second, due), next);
            if next.is_none() {
                break;
            }
        }
    }
    prop_assert_eq!(live(&first), live(&second));
    prop_assert_eq!(
        first.victim(Full::Connections, false).is_some(),
        second.victim(Full::Connections, false).is_some()
    );
    Ok(())
}

#[test]
fn hot_cold_and_free_slots_are_saved() {
    let mut table = table();
    let slots: Vec<_> = (0..4_u16)
        .map(|number| begin(&mut table, &message(Family::V4, number, ipproto::TCP, false), number.into(), 0))
        .collect();
    count(&mut table, slots[1], &message(Family::V4, 1, ipproto::TCP, false), SECOND);
    answer(&mut table, slots[2], &message(Family::V4, 2, ipproto::TCP, true), SECOND);
    removed(&mut table, slots[0]);
    begin(&mut table, &message(Family::V6, 9, ipproto::UDP, false), 9, 2 * SECOND);
    let mut again = loaded(&written(&table));
    assert_eq!(again.snapshot().map(|one| one.id).collect::<Vec<_>>(), [1, 2, 3, 9]);
    assert_eq!(again.colds.held(), table.colds.held());
    let next = message(Family::V4, 7, ipproto::TCP, false);
    let (key, _) = FlowKey::of_tuple(&next.tuple, 0, Vlan::default(), Tunnel::default());
    let lookup = Lookup { words: key.words(), hash: again.hasher.words(&key.words()) };
    let image = again.hot(slots[3]).unwrap().image();
    assert_eq!(again.insert(&lookup, &image), Some(slots[0]), "the free slot is taken first");
    compare(table, 2 * SECOND).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_loaded_table_goes_on_as_the_saved_one(deeds in deeds()) {
        let mut table = table();
        let now = act(&mut table, &deeds);
        compare(table, now)?;
    }
}
