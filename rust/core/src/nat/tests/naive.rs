//! Pairs as the rules have them, by comparing all connections with all others.

use std::collections::{BTreeMap, BTreeSet};

use super::super::clock::Clock;
use super::super::features::{Features, Token};
use super::super::join::Entry;
use super::super::pair::{Correlated, LEAD, MARGIN, MOST_CANDIDATES, RESENT, Side};
use super::super::score::{Match, candidate, is_strong};

fn entries(side: Side<'_>, row: usize) -> Vec<Entry> {
    let Some(features) = side.sketch.get(row) else { return Vec::new() };
    let of = |end: usize| {
        features
            .tokens(end)
            .map(move |(token, ts)| Entry { token, ts, row: row as u32, end: end as u8 })
            .collect::<Vec<_>>()
    };
    [of(0), of(1)].concat()
}

/// Pairs (inside, outside) by the rules with a known clock, among rows that are not paired yet.
pub fn pairs(inside: Side<'_>, outside: Side<'_>, clock: &Clock, sure: &BTreeSet<(u32, u32)>) -> BTreeSet<(u32, u32)> {
    let open = |side: usize, row: usize| !sure.iter().any(|pair| [pair.0, pair.1][side] as usize == row);
    let all = |side: Side<'_>, at: usize| -> Vec<Entry> {
        (0..side.rows.len()).filter(|row| open(at, *row)).flat_map(|row| entries(side, row)).collect()
    };
    let (ours, theirs) = (all(inside, 0), all(outside, 1));
    let owners = |entries: &[Entry], token: Token| {
        entries.iter().filter(|one| one.token.hash == token.hash).map(|one| one.row).collect::<BTreeSet<_>>().len()
    };
    let mut matches: BTreeMap<(u32, u32), Vec<Match>> = BTreeMap::new();
    for own in &ours {
        let tolerance = clock.tolerance + if is_strong(own.token.proof) { RESENT } else { 0 };
        let near = |other: &&Entry| {
            other.token.hash == own.token.hash && (other.ts - clock.outside(own.ts)).abs() <= tolerance
        };
        let others: Vec<&Entry> = theirs.iter().filter(near).collect();
        if others.len() <= MOST_CANDIDATES {
            for other in others {
                let unique = owners(&ours, own.token) == 1 && owners(&theirs, own.token) == 1;
                matches.entry((own.row, other.row)).or_default().push(Match::of(own, other, unique));
            }
        }
    }
    let features = |side: Side<'_>, row: u32| side.sketch.get(row as usize).copied().unwrap_or_default();
    let same_end = |a: u32, b: u32, crossed: bool| {
        let (row, there) = (inside.rows.get(a as usize).unwrap(), outside.rows.get(b as usize).unwrap());
        let end = usize::from(!crossed);
        row.ip(1) == there.ip(end) && row.port(1) == there.port(end)
    };
    let mut rest: BTreeMap<(u32, u32), (u16, bool)> = BTreeMap::new();
    for (pair, mut found) in matches {
        found.sort_unstable();
        let both = (features(inside, pair.0), features(outside, pair.1));
        if let Some(one) = candidate(&found, (&both.0, &both.1), |crossed| same_end(pair.0, pair.1, crossed)) {
            let strong = is_strong(one.proof);
            let enough = f64::from(one.bits) >= needed([inside, outside], &both, clock, strong);
            rest.insert(pair, (one.bits, enough));
        }
    }
    let mut chosen = BTreeSet::new();
    loop {
        let rivals = |pair: &(u32, u32), bits: u16| {
            let meets = |other: &&(u32, u32)| *other != pair && (other.0 == pair.0 || other.1 == pair.1);
            rest.keys().filter(meets).all(|other| rest[other].0 + LEAD <= bits)
        };
        let best: Vec<(u32, u32)> = rest
            .iter()
            .filter(|(pair, (bits, enough))| *enough && *bits >= LEAD && rivals(pair, *bits))
            .map(|one| *one.0)
            .collect();
        if best.is_empty() {
            return chosen;
        }
        for pair in best {
            rest.retain(|other, _| other.0 != pair.0 && other.1 != pair.1);
            chosen.insert(pair);
        }
    }
}

fn needed(sides: [Side<'_>; 2], both: &(Features, Features), clock: &Clock, strong: bool) -> f64 {
    let tolerance = clock.tolerance + if strong { RESENT } else { 0 };
    let near = |side: usize, features: &Features| {
        let firsts = (0..sides[side].rows.len()).filter_map(|row| sides[side].sketch.get(row));
        firsts.filter(|one| one.class == both.0.class && (one.first - features.first).abs() <= tolerance).count()
    };
    MARGIN + (near(0, &both.0).max(near(1, &both.1)).max(1) as f64).log2()
}

/// The pairs of a result without hairpins.
pub fn across(found: &Correlated) -> BTreeSet<(u32, u32)> {
    found.pairs.iter().filter(|pair| !pair.hairpin).map(|pair| (pair.inside, pair.outside)).collect()
}
