//! Cold parts and guesses belong to their slots.

mod saved;

use crate::flow::Descriptor;

use super::*;
use crate::config::Config;
use crate::flow::descriptor::Arrival;
use conntrack_decode::testkit::{client_server as tuple, whole as packet};
use conntrack_decode::{Family, L4, Packet, Tcp, Tunnel, Vlan, ipproto, tcpflag};

const SYN: u8 = tcpflag::SYN;
const ACK: u8 = tcpflag::ACK;

fn limits() -> Limits {
    Limits::new(Config::default().rules)
}

fn hasher() -> KeyHasher {
    KeyHasher::new(Some([1, 2, 3, 4]))
}

fn table() -> FlowTable {
    FlowTable::new(limits(), Bounds::default(), hasher())
}

/// A segment of the client with this port, or to the client.
fn segment(number: u16, from_client: bool, flags: u8, (seq, ack): (u32, u32), payload: u32) -> Packet {
    let tcp = Tcp { seq, ack, flags, window: 1_000, ..Tcp::default() };
    packet(tuple(Family::V4, number, from_client, ipproto::TCP), L4::Tcp(tcp), payload)
}

/// A packet's key with its hash, and the sender's side.
fn found(packet: &Packet) -> (Lookup, crate::flow::Side) {
    let (key, side) = FlowKey::of_tuple(&packet.tuple, packet.flow_id, Vlan::default(), Tunnel::default());
    let words = key.words();
    (Lookup { words, hash: hasher().words(&words) }, side)
}

/// A packet's descriptor, with the first words of a wide key.
fn described(packet: &Packet, ts: i64) -> (Descriptor, [u64; 4]) {
    let (lookup, side) = found(packet);
    let (mut one, wide) = Descriptor::of_packet(packet, ts, (lookup.words, side), &[]).unwrap();
    one.hash = lookup.hash;
    (one, wide)
}

/// Begin a connection with a packet, by shortcut.
fn begin(table: &mut FlowTable, packet: &Packet, id: u64, ts: i64) -> SlotId {
    let (descriptor, wide) = described(packet, ts);
    let arrival = Arrival { descriptor: &descriptor, wide: &wide, frame: &[], decoded: Some(packet) };
    let image = conn::begin(&arrival, id, table.limits()).unwrap();
    table.insert(&found(packet).0, &image).unwrap()
}

/// Process the answer to a SYN, by shortcut.
fn answer(table: &mut FlowTable, slot: SlotId, packet: &Packet, ts: i64) {
    let (descriptor, wide) = described(packet, ts);
    let arrival = Arrival { descriptor: &descriptor, wide: &wide, frame: &[], decoded: Some(packet) };
    let taken = table.change::<false, _>(slot, |change| conn::answer(change.hot, &arrival, change.limits));
    assert_eq!(taken, Some(true));
    table.arm(slot);
}

/// Count a packet on the slow path, after which the connection has a cold part.
fn count(table: &mut FlowTable, slot: SlotId, packet: &Packet, ts: i64) {
    let number = table.step(slot).unwrap();
    table.cold(number).unwrap().count(packet, found(packet).1, ts);
    table.settle(slot, number);
}

/// Remove a connection.
fn removed(table: &mut FlowTable, slot: SlotId) -> (Connection, u32) {
    let mut gone = None;
    table.remove(slot, |last, places| gone = Some((last.connection().into_owned(), places)));
    gone.unwrap()
}

/// A table with a connection that has a cold part.
fn with_a_cold_part() -> (FlowTable, SlotId) {
    let mut table = table();
    let slot = begin(&mut table, &segment(1, true, SYN, (100, 0), 0), 7, 0);
    answer(&mut table, slot, &segment(1, false, SYN | ACK, (900, 101), 0), 1);
    count(&mut table, slot, &segment(1, true, ACK, (101, 901), 500), 2);
    (table, slot)
}

#[test]
fn a_cold_part_is_given_back() {
    let (mut table, slot) = with_a_cold_part();
    assert!(table.colds.held() > 0);
    let seen = table.look(slot).unwrap();
    assert_eq!((seen.id, seen.ends[0].packets, seen.ends[0].payload_bytes), (7, 2, 500));
    assert!(table.snapshot().eq([seen.clone()]));
    count(&mut table, slot, &segment(1, true, ACK, (101, 901), 500), 3);
    let again = table.look(slot).unwrap();
    assert_eq!((again.ends[0].packets, again.end), (3, 3));
    assert_eq!(removed(&mut table, slot), (again, 0));
    assert_eq!((table.colds.held(), table.len()), (0, 0));
}

#[test]
fn cold_parts_are_drained() {
    let (mut table, _) = with_a_cold_part();
    begin(&mut table, &segment(2, true, SYN, (100, 0), 0), 8, 0);
    let mut gone = Vec::new();
    table.drain(|last, _| gone.push(last.connection().ends[0].payload_bytes));
    assert_eq!((gone, table.colds.held(), table.len()), (vec![500, 0], 0, 0));
}

#[test]
fn what_was_begun_without_a_slot_is_forgotten() {
    let mut table = table();
    let one = Connection::begin(
        found(&segment(1, true, SYN, (1, 0), 0)).0.key(),
        3,
        crate::flow::Side::A,
        &segment(1, true, SYN, (1, 0), 0),
        crate::zeek::Roles::Given,
        5,
    );
    let number = table.begin(one).unwrap();
    assert_eq!(table.forget(number).map(|one| (one.id, one.start)), Some((3, 5)));
    assert_eq!((table.colds.held(), table.len()), (0, 0));
    assert!(table.forget(number).is_none());
}

#[test]
fn a_guess_finds_what_is_there_and_nothing_else() {
    let (mut table, slot) = with_a_cold_part();
    let syn = segment(1, true, SYN, (100, 0), 0);
    let (lookup, _) = found(&syn);
    let one = described(&syn, 0).0;
    let mut guesses = [NO_SLOT];
    table.touch_index([one].iter());
    table.guess([one].iter(), &mut guesses);
    table.touch_slots([one].iter(), &guesses);
    let [guess] = guesses;
    assert_eq!((guess, table.find(&lookup, guess)), (0, Some(slot)));
    removed(&mut table, slot);
    assert_eq!(table.find(&lookup, guess), None, "it has left its key behind");
    assert_eq!(table.ready::<false, _>(&one.key, guess, |_| ()), None, "a free slot is not ready");
    let next = segment(2, true, SYN, (100, 0), 0);
    let (other, _) = found(&next);
    assert_eq!(begin(&mut table, &next, 8, 0), slot, "the place is used again");
    assert_eq!((table.find(&lookup, guess), table.find(&other, guess)), (None, Some(slot)));
    assert_eq!(table.find(&other, NO_SLOT), Some(slot), "without a guess");
}
