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
        table.change(&lookup, Guess::default(), step).unwrap().1.unwrap();
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
    assert_eq!(*table.remove(slot).unwrap().connection(), seen);
    assert_eq!(table.extras.used(), 0);
}

#[test]
fn extra_lines_are_drained() {
    let (mut table, _) = with_a_gap();
    let mut missed = Vec::new();
    table.drain(|gone, _| missed.push(gone.connection().zeek.missed()));
    assert_eq!((missed, table.extras.used()), (vec![500], 0));
}

#[test]
fn a_guess_finds_what_is_there_and_nothing_else() {
    let (mut table, slot) = with_a_gap();
    let (syn, words, side) = segment(true, SYN, (100, 0), 0);
    let lookup = table.lookups().lookup(words);
    let mut guesses = Vec::new();
    table.touch([&lookup].into_iter(), &mut guesses);
    let [guess] = guesses[..] else { panic!("one for each lookup") };
    assert_eq!((guess.0, table.find(&lookup, guess)), (0, Some(slot)));
    table.discard(slot);
    assert_eq!(table.find(&lookup, guess), None, "it has left its key behind");
    let mut words = words;
    let Words::Narrow([_, ports]) = &mut words else { panic!("IPv4") };
    *ports ^= 1 << 32;
    let other = table.lookups().lookup(words);
    let (begun, _) = Compact::begin(8, &syn, side, 0, &Config::default().rules, || None).unwrap();
    assert_eq!(table.insert_compact(&other, begun), Some(slot), "the place is used again");
    assert_eq!((table.find(&lookup, guess), table.find(&other, guess)), (None, Some(slot)));
    assert_eq!(table.find(&other, Guess::default()), Some(slot), "without a guess");
}
