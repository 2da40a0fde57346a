//! Tests of tokens, clocks and joins alone; of pairs against a slow and plain reference.

mod naive;
mod pairs;

use conntrack_decode::{FiveTuple, L4, Packet, Tcp, ipproto};
use conntrack_track::flow::Side as KeySide;
use proptest::prelude::*;

use super::clock::Clock;
use super::features::{Features, Seen};

/// A packet in pieces: who sent it, its protocol, numbers, content and identification.
type Piece = (bool, u8, u32, u32, Vec<u8>, u16);

fn piece() -> impl Strategy<Value = Piece> {
    let few = prop_oneof![Just(5_u32), 0x7000_0000_u32..0x7000_0004, any::<u32>()];
    (any::<bool>(), 0_u8..4, few, any::<u32>(), prop::collection::vec(any::<u8>(), 0..24), 0_u16..6)
}

fn take(features: &mut Features, (is_b, kind, seq, ack, content, id): &Piece, ts: i64) {
    let tcp = |flags| L4::Tcp(Tcp { seq: *seq, ack: *ack, flags, ..Tcp::default() });
    let (proto, l4) = match kind {
        0 => (ipproto::TCP, tcp(0x02)),
        1 => (ipproto::TCP, tcp(0x12)),
        2 => (ipproto::TCP, tcp(0x18)),
        _ => (ipproto::UDP, L4::Udp),
    };
    let packet = Packet {
        tuple: FiveTuple { proto, ..FiveTuple::default() },
        packets: 1,
        payload_bytes: content.len() as u32,
        identification: *id,
        l4,
        payload: (0, content.len() as u32),
        ..Packet::default()
    };
    let side = if *is_b { KeySide::B } else { KeySide::A };
    features.take(&Seen { ts, side, packet: &packet, frame: content, echo: None });
}

/// Tokens without their times.
fn shown(features: &Features) -> Vec<(usize, u64, u8)> {
    let of = |end: usize| features.tokens(end).map(move |(token, _)| (end, token.hash, token.bits)).collect::<Vec<_>>();
    let mut all = [of(0), of(1)].concat();
    all.sort_unstable();
    all
}

proptest! {
    #[test]
    fn tokens_do_not_depend_on_the_order_of_packets(
        pieces in prop::collection::vec(piece().prop_filter("segments and datagrams", |piece| piece.1 >= 2), 1..30),
        seed in any::<u64>(),
    ) {
        let class = pieces[0].1;
        let pieces: Vec<&Piece> = pieces.iter().filter(|piece| piece.1 == class).collect();
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_by_key(|at| (*at as u64 + 1).wrapping_mul(seed | 1).rotate_left(17));
        let (mut one, mut other) = (Features::default(), Features::default());
        pieces.iter().for_each(|piece| take(&mut one, piece, 0));
        order.iter().for_each(|at| take(&mut other, pieces[*at], 0));
        order.iter().for_each(|at| take(&mut other, pieces[*at], 7_000_000_000));
        prop_assert_eq!(shown(&one), shown(&other));
    }

    #[test]
    fn nothing_in_a_packet_panics(pieces in prop::collection::vec(piece(), 0..20), times in any::<[i64; 2]>()) {
        let mut features = Features::default();
        for (at, piece) in pieces.iter().enumerate() {
            take(&mut features, piece, times[at % 2]);
        }
        prop_assert!(shown(&features).len() <= 8);
    }

    #[test]
    fn a_clock_ignores_wrong_samples_and_follows_a_drift(
        offset in -4_000_000_000_000_i64..4_000_000_000_000,
        drift in -500_i64..500,
        wrong in prop::collection::vec((0_i64..3_600, -10_000_i64..10_000), 0..40),
    ) {
        let second = 1_000_000_000_i64;
        let right = (0..3_600).step_by(4).map(|at| (at * second, offset + at * drift * 1_000));
        let bad = wrong.iter().map(|(at, error)| (at * second, offset + error * 1_000_000));
        let clock = Clock::of_samples(right.chain(bad).collect()).unwrap();
        for at in (0..3_600).step_by(100) {
            let error = clock.difference(at * second) - (offset + at * drift * 1_000);
            prop_assert!(error.abs() <= clock.tolerance, "{error} at {at} s");
        }
        prop_assert!(clock.tolerance < 200_000_000);
    }

    #[test]
    fn votes_of_chance_make_no_clock(votes in prop::collection::vec((0_i64..3_600, -3_600_i64..3_600), 0..60)) {
        let votes: Vec<_> = votes.iter().map(|(at, off)| (at * 1_000_000_000, off * 1_000_000_000, 16)).collect();
        let most = votes.iter().map(|vote| votes.iter().filter(|other| other.1 == vote.1).count()).max().unwrap_or(0);
        prop_assert!(most >= 4 || Clock::of_votes(votes, 1_000).is_none());
    }
}

#[test]
fn a_clock_needs_samples_that_agree() {
    assert_eq!(Clock::of_samples(vec![(0, 5), (1, 5)]), None);
    assert_eq!(Clock::of_votes(vec![(0, 5, 32)], 1), None);
    let few = Clock::of_votes(vec![(0, 5, 32), (9, 7, 40)], 2).unwrap();
    assert_eq!((few.offset(), few.samples), (5, 2));
    // Four of a hundred connections are chance.
    let votes = |count: i64| (0..count).map(|at| (at, 3, 32)).collect::<Vec<_>>();
    assert_eq!(Clock::of_votes(votes(4), 100), None);
    assert_eq!(Clock::of_votes(votes(5), 100).unwrap().difference(77), 3);
}

#[test]
fn the_difference_is_interpolated_and_constant_outside() {
    let second = 1_000_000_000;
    let samples = (0..62).map(|at| (at * second, if at < 31 { 0 } else { 100 })).collect();
    let clock = Clock::of_samples(samples).unwrap();
    assert_eq!((clock.difference(i64::MIN), clock.difference(0)), (0, 0));
    assert_eq!((clock.difference(i64::MAX), clock.difference(61 * second)), (100, 100));
    assert_eq!(clock.outside(5 * second), 5 * second);
    assert_eq!(Clock::given(7, 1).outside(i64::MAX), i64::MAX);
}
