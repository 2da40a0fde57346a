//! Runs that once went apart, or might.

use conntrack_core::time::SECOND;

use super::moves::{A, F, Move, PLAIN, opening};
use super::play::{Plan, agree};

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
    agree(&Plan::of(moves)).expect("both ways agree");
    assert_eq!(PLAIN.wait, SECOND / 100);
}
