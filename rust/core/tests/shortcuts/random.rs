//! Random runs of every kind.

use conntrack_core::decode::Family;
use conntrack_core::time::SECOND;
use proptest::collection::vec;
use proptest::prelude::*;

use super::frames;
use super::moves::{self, A, Move, PLAIN, S, data, offers, opening};
use super::play::{CONFIGS, Plan, agree};

/// Number of cases: `PROPTEST_CASES`, or else `usual`.
fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    ProptestConfig { cases, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() }
}

/// Runs of these moves in all circumstances.
fn plans(moves: impl Strategy<Value = Vec<Move>>) -> impl Strategy<Value = Plan> {
    let family = prop_oneof![4 => Just(Family::V4), 1 => Just(Family::V6)];
    let start = (moves::starts(), moves::starts()).prop_map(|(client, server)| [client, server]);
    let tag = || prop_oneof![Just(0_u16), 2..4_097_u16];
    let vlan = prop_oneof![3 => Just([0_u16; 2]), 1 => tag().prop_map(|tag| [tag; 2]), 2 => [tag(), tag()]];
    let policy = prop_oneof![8 => Just(0_u8), 1 => Just(1), 1 => Just(2)];
    let config = prop_oneof![1 => Just(0_u8), 1 => 0..CONFIGS];
    let at = || prop_oneof![3 => Just(None), 1 => (0..60_u8).prop_map(Some)];
    (moves, family, start, vlan, policy, config, at(), at()).prop_map(
        |(moves, family, start, vlan, policy, config, reads, saved)| Plan {
            moves,
            family,
            start,
            vlan,
            policy,
            config,
            reads,
            saved,
        },
    )
}

/// These moves, behind an opening or not.
fn behind(moves: impl Strategy<Value = Vec<Move>>, opens: f64) -> impl Strategy<Value = Vec<Move>> {
    (moves, prop::bool::weighted(opens), offers()).prop_map(|(moves, opens, offers)| {
        let mut all = if opens { opening(offers) } else { Vec::new() };
        all.extend(moves);
        all
    })
}

/// A capture that misses data. Acknowledgements of the missing data are refused, and so are acknowledgements of refused data:
/// both directions stay out of step.
fn out_of_step() -> impl Strategy<Value = Vec<Move>> {
    (1..9_000_u32, any::<bool>(), offers()).prop_map(|(missing, of_client, offers)| {
        let mut all = opening(offers);
        all.push(Move { fate: moves::Fate::Lost, ..data(of_client, missing) });
        all.push(data(!of_client, 200));
        all.push(data(of_client, 100));
        all
    })
}

fn together(
    first: impl Strategy<Value = Vec<Move>>,
    next: impl Strategy<Value = Vec<Move>>,
) -> impl Strategy<Value = Vec<Move>> {
    (first, next).prop_map(|(first, next)| [first, next].concat())
}

/// The handshake alone.
fn handshake() -> impl Strategy<Value = Vec<Move>> {
    (offers(), any::<bool>()).prop_map(|(offers, is_complete)| opening(offers)[..2 + usize::from(is_complete)].to_vec())
}

/// A handshake, behind an old connection or not, whose SYN is captured behind its answer, and perhaps behind more of the server.
fn early_answers() -> impl Strategy<Value = Vec<Move>> {
    let old = vec(moves::closing(), 0..6);
    let between = vec((prop_oneof![2 => Just(S | A), 3 => Just(A)], prop_oneof![Just(0_u32), Just(100)]), 0..4);
    let wait = || prop_oneof![6 => 0..SECOND / 20, 1 => 0..SECOND / 5, 1 => -SECOND / 10..0];
    (offers(), old, prop::bool::ANY, between, (wait(), wait()), vec(moves::transfer(), 0..30)).prop_map(
        |(offers, old, is_anew, between, (skew, wait), rest)| {
            let mut all = if is_anew { Vec::new() } else { opening(offers) };
            all.extend(if is_anew { Vec::new() } else { old });
            let opens = |from_client, flags| Move { from_client, flags, payload: 0, ..offers };
            let late = moves::Fate::Later(1 + between.len() as u8);
            all.push(Move { fate: late, wait: skew, ..opens(true, S) });
            all.push(Move { wait, ..opens(false, S | A) });
            all.extend(between.into_iter().map(|(flags, payload)| match flags {
                A => Move { wait, ..data(false, payload) },
                _ => Move { fate: moves::Fate::Again(0), wait, ..opens(false, flags) },
            }));
            all.extend(opening(offers).into_iter().skip(2));
            all.extend(rest);
            all
        },
    )
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn handshakes_out_of_order(plan in plans(early_answers())) {
        agree(&plan)?;
    }

    #[test]
    fn anything(plan in plans(behind(vec(moves::anything(), 1..40), 0.5))) {
        agree(&plan)?;
    }

    #[test]
    fn without_numbers(
        moves in vec((moves::anything(), prop::bool::weighted(0.95)), 1..60),
        begins in any::<bool>(),
        numbered in prop::bool::weighted(0.1),
        plan in plans(Just(Vec::new())),
    ) {
        let opening = opening(PLAIN).into_iter().map(|one| (one, !numbered)).filter(|_| begins);
        let moves = opening.chain(moves).map(|(one, unnumbered)| Move { unnumbered, ..one }).collect();
        agree(&Plan { moves, ..plan })?;
    }

    #[test]
    fn transfers(plan in plans(behind(vec(moves::transfer(), 1..80), 0.9))) {
        agree(&plan)?;
    }

    #[test]
    fn leaps_and_wraps(plan in plans(behind(vec(moves::leaps(), 1..60), 0.8))) {
        agree(&plan)?;
    }

    #[test]
    fn missing_data(plan in plans(behind(vec(moves::cut(), 1..100), 0.95))) {
        agree(&plan)?;
    }

    #[test]
    fn refused_directions(plan in plans(together(out_of_step(), vec(moves::refused(), 1..60)))) {
        agree(&plan)?;
    }

    #[test]
    fn mid_stream(plan in plans(vec(moves::midway(), 1..60))) {
        agree(&plan)?;
    }

    #[test]
    fn one_sided(plan in plans(behind(vec(moves::one_sided(), 1..60), 0.2))) {
        agree(&plan)?;
    }

    #[test]
    fn closings(plan in plans(together(handshake(), vec(moves::closing(), 1..20)))) {
        agree(&plan)?;
    }

    #[test]
    fn closings_after_data(plan in plans(behind(vec(moves::closing(), 1..20), 1.0))) {
        agree(&plan)?;
    }

    #[test]
    fn datagrams(plan in plans(vec(moves::datagrams(), 1..40))) {
        agree(&plan)?;
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn frames_of_handshakes_out_of_order(plan in plans(early_answers()), cuts in vec(1..30_usize, 1..5)) {
        frames::agree(&plan, &cuts)?;
    }

    #[test]
    fn frames_of_anything(plan in plans(behind(vec(moves::anything(), 1..40), 0.5)), cuts in vec(1..40_usize, 1..5)) {
        frames::agree(&plan, &cuts)?;
    }

    #[test]
    fn frames_of_transfers(plan in plans(behind(vec(moves::transfer(), 1..200), 0.9)), cuts in vec(1..150_usize, 1..5)) {
        frames::agree(&plan, &cuts)?;
    }

    #[test]
    fn frames_of_missing_data(plan in plans(behind(vec(moves::cut(), 1..200), 0.95)), cuts in vec(1..150_usize, 1..5)) {
        frames::agree(&plan, &cuts)?;
    }

    #[test]
    fn frames_of_refused_directions(
        plan in plans(together(out_of_step(), vec(moves::refused(), 1..100))),
        cuts in vec(1..80_usize, 1..5),
    ) {
        frames::agree(&plan, &cuts)?;
    }

    #[test]
    fn frames_of_mid_stream(plan in plans(vec(moves::midway(), 1..100)), cuts in vec(1..80_usize, 1..5)) {
        frames::agree(&plan, &cuts)?;
    }

    #[test]
    fn frames_of_one_side(plan in plans(vec(moves::one_sided(), 1..100)), cuts in vec(1..80_usize, 1..5)) {
        frames::agree(&plan, &cuts)?;
    }

    #[test]
    fn frames_of_closings(plan in plans(together(handshake(), vec(moves::closing(), 1..20))), cuts in vec(1..20_usize, 1..5)) {
        frames::agree(&plan, &cuts)?;
    }

    #[test]
    fn frames_of_datagrams(plan in plans(vec(moves::datagrams(), 1..60)), cuts in vec(1..60_usize, 1..5)) {
        frames::agree(&plan, &cuts)?;
    }
}
