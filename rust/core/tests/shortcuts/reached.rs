//! Coverage of the fast path. A record without a cold part, or newer than its synchronised cold part, was changed in place.

use conntrack_core::config::Config;
use conntrack_core::conn::path;
use conntrack_core::decode::Family;
use conntrack_core::table::NO_SLOT;
use conntrack_core::tracker::Tracker;

use super::ends::Sent;
use super::moves::{A, F, Fate, Move, Odd, PLAIN, Proto, R, S, data, opening, segment};
use super::play::{self, Plan};

/// Path of a packet, and the record after it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Way {
    in_place: bool,
    /// Bits of [`path`].
    path: u32,
}

fn way(tracker: &mut Tracker, one: &Sent) -> Way {
    tracker.advance(one.ts, |_| ());
    tracker.record(&[one.packet], &one.bytes, one.ts, |_| ());
    let found = tracker.keys().of(&one.packet);
    let slot = tracker.table().find(&found.lookup, NO_SLOT).expect("it lives");
    let image = tracker.table().hot(slot).expect("its record").image();
    // The slow path leaves a cold part behind, and a record that has counted nothing since.
    Way { in_place: !image.is(path::COLD) || image.packets != [0; 2], path: image.path }
}

fn ways_of(plan: &Plan, config: &Config) -> Vec<Way> {
    let mut tracker = play::tracker(plan, config);
    let captured = plan.captured();
    let ways = captured.iter().flatten().map(|one| way(&mut tracker, one)).collect();
    play::agree(plan).expect("both ways agree");
    ways
}

fn ways(moves: &[Move]) -> Vec<Way> {
    ways_of(&Plan::of(moves.to_vec()), &Config::default())
}

/// Packets changed in place: before the first that was not, and in all.
fn in_place(ways: &[Way]) -> (usize, usize) {
    (ways.iter().take_while(|way| way.in_place).count(), ways.iter().filter(|way| way.in_place).count())
}

const OFFERS: Move = Move { shift: 8, sack_permitted: true, timestamps: true, ..PLAIN };
/// Packets of an opening.
const OPENING: usize = 5;

/// An opening and these.
fn opened(moves: &[Move]) -> Vec<Move> {
    [&opening(OFFERS)[..], moves].concat()
}

/// All of these packets go in place, over both families, and leave no cold part.
fn all_in_place(moves: &[Move]) {
    for family in [Family::V4, Family::V6] {
        let ways = ways_of(&Plan { family, ..Plan::of(moves.to_vec()) }, &Config::default());
        assert!(ways.iter().all(|way| way.in_place && way.path & path::COLD == 0), "{family:?} {ways:?}");
    }
}

#[test]
fn opening_transfer_and_both_orders_of_closing() {
    let transfer = [data(true, 100), data(false, 1_460), segment(true, A), data(false, 1_460), segment(true, A)];
    for first in [true, false] {
        let closing = [segment(first, F | A), segment(!first, A), segment(!first, F | A), segment(first, A)];
        all_in_place(&opened(&[&transfer[..], &closing].concat()));
        let at_once = [segment(first, F | A), segment(!first, F | A), segment(first, A)];
        all_in_place(&opened(&at_once));
    }
}

#[test]
fn a_refused_syn() {
    all_in_place(&[segment(true, S), segment(false, R | A)]);
}

#[test]
fn datagrams_echo_and_esp() {
    for proto in [Proto::Udp, Proto::Echo, Proto::Generic] {
        let one = |from_client, message| Move { from_client, proto, payload: 40, message, ..PLAIN };
        all_in_place(&[one(true, 1), one(false, 2), one(true, 1), one(false, 0)].repeat(4));
    }
    let group = Move { proto: Proto::Udp, payload: 40, odd: Odd::Group, ..PLAIN };
    all_in_place(&[group; 3]);
}

#[test]
fn segments_without_numbers() {
    let moves = opened(&[data(true, 100), data(false, 1_460), segment(true, A)]);
    let moves: Vec<_> = moves.into_iter().map(|one| Move { unnumbered: true, ..one }).collect();
    all_in_place(&moves);
}

/// A retransmission takes the slow path; all later packets are handled in place with a cold part.
#[test]
fn beside_a_cold_part() {
    let again = Move { fate: Fate::Again(1), ..PLAIN };
    let rest = [data(false, 100), segment(true, A), data(true, 500), segment(false, A)];
    let ways = ways(&opened(&[&[segment(false, A), again][..], &rest].concat()));
    assert_eq!(in_place(&ways).0, OPENING + 1, "{ways:?}");
    assert!(!ways[OPENING + 1].in_place && ways[OPENING + 1].path & path::READY != 0, "{ways:?}");
    let behind = &ways[OPENING + 2..];
    assert!(behind.iter().all(|way| way.in_place && way.path & path::COLD != 0), "{ways:?}");
}

/// Packets after cut or delayed data are handled in place, with a hole.
#[test]
fn beside_a_hole() {
    let cut = Move { odd: Odd::Cut, ..data(false, 1_460) };
    let ways =
        ways(&opened(&[cut, cut, segment(true, A), cut, data(false, 20), segment(true, A), cut, segment(true, A)]));
    let with_hole = ways.iter().filter(|way| way.in_place && way.path & path::HOLE[1] != 0).count();
    assert!(with_hole >= 4, "{ways:?}");
    assert!(ways.iter().all(|way| way.in_place), "{ways:?}");
}

/// Data that acknowledges uncaptured data is refused, and so are acknowledgements of that data: both in place.
#[test]
fn out_of_step() {
    let lost = Move { fate: Fate::Lost, ..data(false, 1_460) };
    let rest = [data(true, 100), data(false, 100), segment(true, A), segment(false, A)].repeat(4);
    let ways = ways(&opened(&[&[lost][..], &rest].concat()));
    let out = ways.iter().filter(|way| way.in_place && way.path & path::OUT != 0).count();
    assert!(out >= 8, "{ways:?}");
}

/// A connection of which the opening was not seen, once both ends were.
#[test]
fn mid_stream() {
    let exchange = [data(true, 100), data(false, 500), segment(true, A), segment(false, A)].repeat(4);
    let ways = ways(&exchange);
    let unseen = ways.iter().filter(|way| way.in_place && way.path & path::UNSEEN != 0).count();
    assert!(unseen >= 8, "{ways:?}");
}

/// Numbers of either side that wrap take the slow path once.
#[test]
fn wrapped() {
    let exchange = [data(true, 1_000), data(false, 1_000), segment(true, A)].repeat(8);
    let plan = Plan { start: [u32::MAX - 3_000, u32::MAX - 6_000], ..Plan::of(opened(&exchange)) };
    let ways = ways_of(&plan, &Config::default());
    let wrapped = path::WRAPPED[0] | path::WRAPPED[1];
    let behind = ways.iter().filter(|way| way.in_place && way.path & wrapped == wrapped).count();
    assert!(behind >= 6, "{ways:?}");
    assert!(in_place(&ways).1 + 6 >= ways.len(), "{ways:?}");
}

/// One end is captured alone.
#[test]
fn one_sided() {
    let exchange = [data(true, 100), Move { fate: Fate::Lost, ..data(false, 500) }, segment(true, A)].repeat(8);
    let ways = ways(&exchange);
    let lone = ways.iter().filter(|way| way.in_place && way.path & path::LONE != 0).count();
    assert!(lone >= 6, "{ways:?}");
}

/// Nothing goes in place where a tracker has no shortcuts.
#[test]
fn without_shortcuts() {
    let mut tracker = Tracker::new(&Config::default()).without_shortcuts();
    let captured = Plan::of(opened(&[data(true, 9)])).captured();
    assert!(captured.iter().flatten().all(|one| !way(&mut tracker, one).in_place));
}

/// A handshake that was put right leaves a cold part, and its data goes in place.
#[test]
fn behind_a_syn_ack_that_came_first() {
    let late = Move { fate: Fate::Later(1), ..opening(OFFERS)[0] };
    let transfer = [data(true, 100), data(false, 1_460), segment(true, A), data(false, 1_460)];
    let ways = ways(&[&[late][..], &opening(OFFERS)[1..], &transfer].concat());
    let (_, number) = in_place(&ways);
    assert!(number >= transfer.len(), "{ways:?}");
}
