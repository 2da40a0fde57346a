//! Runs that once went apart.

use conntrack_core::time::SECOND;

use super::frames;
use super::moves::{A, F, Fate, Move, Odd, PLAIN, S, data, opening, segment};
use super::play::{Plan, agree};

/// Both ways agree about these packets and about their frames, from these numbers on.
fn from(start: [u32; 2], moves: Vec<Move>) {
    let plan = Plan { start, ..Plan::of(moves) };
    agree(&plan).expect("both ways agree");
    frames::agree(&plan, &[1, 7]).expect("frames agree");
}

const fn lost(from_client: bool, payload: u32) -> Move {
    Move { fate: Fate::Lost, ..data(from_client, payload) }
}

/// Data that ends so far ahead that numbers wrap soon.
const fn ahead(from_client: bool, seq: i32, payload: u32) -> Move {
    Move { seq, window: u16::MAX, ..data(from_client, payload) }
}

#[test]
fn a_clock_that_was_set_back_before_the_start() {
    let at = |from_client, flags, window, wait| Move { from_client, flags, window, wait, ..PLAIN };
    let mut moves = opening(PLAIN);
    moves.extend([
        at(true, F | A, 64_000, 0),
        at(false, F | A, 64_000, -40_000_001),
        at(false, A, 64_000, 0),
        at(false, A, 1, 40_000_001),
    ]);
    from([1_000; 2], moves);
}

/// A sequence number that is the largest, and the oldest.
#[test]
fn an_acknowledgement_from_before_the_beginning() {
    let handshake = opening(PLAIN)[..3].to_vec();
    from([0, 1_000], [&handshake[..], &[Move { ack: -2, ..segment(false, A) }]].concat());
    from([1_000, 0], [&opening(PLAIN)[..], &[Move { ack: -1_302, ..segment(false, A) }]].concat());
    let cut = Move { odd: Odd::Cut, timestamps: true, ..data(false, 1_460) };
    let missing = [cut, Move { ack: -1_460, ..cut }, data(false, 20)];
    from([1_000, u32::MAX - 30_000], [&opening(PLAIN)[..], &missing].concat());
}

#[test]
fn an_old_acknowledgement_out_of_step() {
    let refused = [lost(false, 1), segment(true, A), data(false, 100)];
    let long = [data(true, 9_000), data(true, 9_000), data(true, 9_000), data(true, 1_460), data(true, 1_460)];
    let acks = [segment(false, A), Move { ack: -221, ..segment(false, A) }, segment(false, A)];
    from([u32::MAX - 30_000, 0], [&opening(PLAIN)[..], &refused, &long, &acks].concat());
}

#[test]
fn more_than_two_gibibytes_ahead_in_mid_stream() {
    let server = [672_400_397, 826_731_029, 805_448_018].map(|seq| ahead(false, seq, 0));
    let rest = [ahead(false, 809_644_561, 1_460), ahead(false, 559_171_708, 0), ahead(true, 0, 0)];
    let first = [ahead(false, -621_570_124, 0), ahead(true, 0, 0), ahead(true, 0, 100)];
    from([1_000; 2], [&first[..], &server, &rest].concat());
    let client = [(990_532_540, 1_460), (875_581_504, 1_460), (692_472_990, 1_460), (760_053_021, 1_460)];
    let client = client.map(|(seq, payload)| ahead(true, seq, payload));
    let first = [ahead(true, -320_993_641, 0), ahead(true, 655_458_830, 0), ahead(false, 0, 1_460)];
    from([1_000; 2], [&first[..], &client, &[ahead(false, 0, 1_460)]].concat());
}

/// A SYN+ACK answers a SYN alone: not an acknowledgement in mid-stream, whose number it acknowledges.
#[test]
fn a_syn_ack_after_an_acknowledgement_in_mid_stream() {
    for first in [segment(true, A), data(true, 30), segment(true, F | A)] {
        let answer = Move { flags: S | A, ..segment(false, A) };
        from([1_000; 2], vec![first, answer, data(true, 30), data(false, 30)]);
        from([1_000; 2], vec![first, segment(false, S | A), segment(false, A)]);
    }
}

/// Of the other end nothing but an acknowledgement was captured.
#[test]
fn a_syn_in_mid_stream_and_one_side() {
    let first = [segment(true, A), segment(true, S), segment(false, A)];
    let rest = [lost(false, 30), segment(true, A), lost(false, 30), segment(true, A)];
    from([1_000; 2], [&first[..], &rest].concat());
    let data = [segment(true, A), segment(true, S), data(true, 30), segment(false, A), lost(false, 30)];
    from([1_000; 2], [&data[..], &[segment(true, A), segment(true, A)]].concat());
}

#[test]
fn a_syn_behind_one_that_timed_out() {
    let late = Move { wait: 300 * SECOND, ..segment(false, A) };
    let rest = [segment(false, S), segment(true, A), Move { ack: -1, ..data(false, 100) }];
    let tagged = Move { tag: 2, ..segment(true, S) };
    from([1_000; 2], [&[segment(false, S), late][..], &rest, &[tagged, segment(false, A)]].concat());
}

/// A SYN midstream restarts counting: data after the hole is then ahead of delivered data.
#[test]
fn a_syn_behind_a_hole() {
    let hole = [lost(true, 5_872), data(true, 1_460), segment(true, S), data(false, 1_460), segment(false, A)];
    let filled = [data(true, 1_460), data(true, 3_252), segment(false, A), Move { window: 1, ..data(true, 1_460) }];
    from([1_000; 2], [&opening(PLAIN)[..], &hole, &filled].concat());
    let cut = Move { odd: Odd::Cut, ..data(true, 1_460) };
    let stamped = Move { timestamps: true, ..data(true, 30) };
    from([0, 1_000], vec![data(true, 30), cut, stamped, segment(true, S), data(true, 30), data(true, 1_460)]);
}
