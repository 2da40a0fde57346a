//! What stands beside a slot goes with its connection.

use super::*;
use crate::config::Config;
use crate::decode::{Addr, Brief, Family, FiveTuple, Tcp, Vlan, ipproto, tcpflag};
use crate::flow::Side;

const SYN: u8 = tcpflag::SYN;
const ACK: u8 = tcpflag::ACK;

/// A segment of the client, or of the server, and its sender.
fn segment(from_client: bool, flags: u8, (seq, ack): (u32, u32), payload_bytes: u32) -> (Brief, Words, Side) {
    let (client, server) = ((Addr::v4([10, 0, 0, 1]), 40_000), (Addr::v4([10, 0, 0, 2]), 80));
    let ((src, sport), (dst, dport)) = if from_client { (client, server) } else { (server, client) };
    let tuple = FiveTuple { src, dst, sport, dport, proto: ipproto::TCP, family: Family::V4 };
    let tcp = Tcp { seq, ack, flags, window: 1_000, ..Tcp::default() };
    let (words, side) = Words::of_ports(&tuple, Vlan::default());
    (
        Brief { tuple, tcp, payload_bytes, ip_bytes: 40 + payload_bytes, cut: payload_bytes > 0, ..Brief::default() },
        words,
        side,
    )
}

/// A table with a connection of which 500 bytes were cut and acknowledged.
fn with_a_gap() -> (FlowTable, SlotId) {
    let rules = Config::default().rules;
    let mut table = FlowTable::new(rules.timeouts, Bounds::default(), Lookups::new());
    let (syn, words, side) = segment(true, SYN, (100, 0), 0);
    let (begun, _) = Compact::begin(7, &syn, side, 0, &rules, || None).unwrap();
    let lookup = table.lookups().lookup(words);
    let slot = table.insert_compact(&lookup, begun).unwrap();
    let rest = [
        segment(false, SYN | ACK, (900, 101), 0),
        segment(true, ACK, (101, 901), 0),
        segment(true, ACK, (101, 901), 500),
        segment(false, ACK, (901, 601), 0),
    ];
    for (one, ts) in rest.iter().zip(1..) {
        let step =
            |compact: &mut Compact, extras: &mut Extras| compact.express(&one.0, one.2, ts, &rules, extras, || None);
        table.update(slot, step).unwrap();
    }
    (table, slot)
}

#[test]
fn an_extra_line_is_given_back() {
    let (mut table, slot) = with_a_gap();
    assert_eq!(table.extras.used(), 1);
    let seen = table.look(slot).unwrap();
    assert_eq!((seen.id, seen.zeek.missed(), seen.zeek.letters().gaps().iter().sum::<u32>()), (7, 500, 1));
    assert!(table.snapshot().eq([seen.clone()]));
    let held = table.take(slot).unwrap();
    assert_eq!(*held, seen);
    table.put(slot, held);
    assert_eq!((table.extras.used(), table.at(slot).unwrap().wide()), (1, None));
    assert_eq!(*table.remove(slot).unwrap(), seen);
    assert_eq!(table.extras.used(), 0);
}

#[test]
fn extra_lines_are_drained() {
    let (mut table, _) = with_a_gap();
    let mut missed = Vec::new();
    table.drain(|connection, _| missed.push(connection.zeek.missed()));
    assert_eq!((missed, table.extras.used()), (vec![500], 0));
}
