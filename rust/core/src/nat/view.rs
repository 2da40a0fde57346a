//! Rows with what pairs and a gateway's table tell of their ends.

use std::sync::Arc;

use conntrack_output::rows::told::Nat;
use conntrack_output::rows::{Ends, Row, Rows, View, revealed};
use conntrack_track::direction::Locality;

use super::Proof;
use super::memory::{Memory, Recalled};
use super::pair::Pair;

impl Pair {
    /// Confidence in the pair, measured on pairs with this evidence and rounded down: docs/how-to/translations.md.
    pub fn confidence(&self) -> f32 {
        match self.proof {
            Proof::Gateway => 1.0,
            Proof::Isn | Proof::Seq | Proof::Dns | Proof::Payload | Proof::IcmpSeq => 0.999,
            Proof::IpId => 0.99,
            Proof::Tsval => 0.98,
        }
    }
}

/// The ends of a row, in the order of the roles of another row that may be crossed.
pub fn ends_of(row: Row<'_>, crossed: bool) -> Ends {
    [0, 1].map(|end: usize| end ^ usize::from(crossed)).map(|end| (row.ip(end), row.port(end)))
}

/// A translation of a row, from ends in the order of its roles.
pub fn nat_of(row: Row<'_>, mut ends: Ends, evidence: Proof, confidence: f32) -> Nat {
    if row.orig() as usize == 1 {
        ends.swap(0, 1);
    }
    Nat { ends: ends.map(Some), evidence, confidence }
}

/// Notes the ends of pairs, as the other side has them, in the rows of both sides.
pub fn translate(inside: &mut Rows, outside: &mut Rows, pairs: &[Pair]) {
    let (mut ours, mut theirs) = (vec![None; inside.len()], vec![None; outside.len()]);
    for pair in pairs {
        let there: &Rows = if pair.hairpin { inside } else { outside };
        let rows = (inside.get(pair.inside as usize), there.get(pair.outside as usize));
        let (Some(own), Some(other)) = rows else { continue };
        let nat = |row, other| nat_of(row, ends_of(other, pair.crossed), pair.proof, pair.confidence());
        let (forth, back) = (nat(own, other), nat(other, own));
        ours[pair.inside as usize] = Some(forth);
        let back_to = if pair.hairpin { &mut ours } else { &mut theirs };
        back_to[pair.outside as usize] = Some(back);
    }
    inside.translate(|place| ours[place]);
    outside.translate(|place| theirs[place]);
}

/// The rows with the ends of their translations in place of their own, from a confidence on.
pub fn reveal<'a>(rows: impl Iterator<Item = Row<'a>>, locality: Arc<Locality>, least: f32) -> Rows {
    revealed(rows, locality, |row| {
        let nat = row.nat().filter(|nat| nat.confidence >= least)?;
        let ends = [row.nat_end(0)?, row.nat_end(1)?];
        Some(View::Real(ends, nat.evidence, nat.confidence))
    })
}

/// Numbers of rows of which the gateway remembers the translation, and of those whose entry it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Rows with a translation.
    pub told: u64,
    /// Rows whose tuple several entries have, which time does not tell apart.
    pub untold: u64,
}

/// The rows with their translations in the gateway's table; `real`: with the true ends in place of their own.
pub fn recall<'a>(
    rows: impl Iterator<Item = Row<'a>>,
    locality: Arc<Locality>,
    memory: &Memory,
    real: bool,
) -> (Rows, Remembered) {
    let mut count = Remembered::default();
    let rows = revealed(rows, locality, |row| {
        let (recalled, known) = memory.recall(row);
        count.told += u64::from(recalled.is_some());
        count.untold += u64::from(known && recalled.is_none());
        let Recalled { other, real: ends } = recalled?;
        Some(if real {
            View::Real(ends, Proof::Gateway, 1.0)
        } else {
            View::Translated(nat_of(row, other, Proof::Gateway, 1.0))
        })
    });
    (rows, count)
}
