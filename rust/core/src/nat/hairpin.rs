//! Hairpins: connections from inside to inside by the gateway's address, both legs of which are in the captures of the inside.

use std::collections::{HashMap, HashSet};

use super::Proof;
use super::features::UNIT;
use super::join::each_repeated;
use super::pair::{Work, common, is_same_tuple};
use super::score::{Candidate, Match, is_strong};

/// Bits that a hairpin needs: its legs are in one capture, where relays repeat contents, too.
const HAIRPIN_BITS: u16 = 40;
/// Tolerance between the legs of a hairpin, nanoseconds.
const HAIRPIN_TOLERANCE: i64 = 50_000_000;

impl Work<'_> {
    /// Pairs two legs inside that the gateway sent back to where they came from.
    pub(super) fn pair_hairpins(&mut self) {
        let mut matches = Vec::new();
        each_repeated(self.open(0), |entries| {
            let mut rows = entries.chunk_by(|one, next| one.row == next.row);
            let (Some(first), Some(second), None) = (rows.next(), rows.next(), rows.next()) else { return };
            let is_near = first[0].ts.abs_diff(second[0].ts) <= HAIRPIN_TOLERANCE.unsigned_abs();
            if is_near && !is_same_tuple((self.row(0, first[0].row), self.row(0, second[0].row))) {
                let pairs = first.iter().flat_map(|own| second.iter().map(move |other| (own, other)));
                matches.extend(pairs.map(|(own, other)| Match::of(own, other, true)));
            }
        });
        let is_told = |found: &Match| is_strong(found.proof) || found.proof == Proof::IpId;
        let told: HashSet<(u32, u32)> =
            matches.iter().filter(|found| is_told(found)).map(|found| (found.inside, found.outside)).collect();
        let (candidates, _) = self.scored(matches, [0, 0]);
        let enough = |one: &&Candidate| one.bits >= HAIRPIN_BITS && told.contains(&(one.inside, one.outside));
        let rest: Vec<&Candidate> = candidates.iter().filter(enough).collect();
        let mut uses = HashMap::<u32, usize>::new();
        rest.iter().flat_map(|one| [one.inside, one.outside]).for_each(|row| *uses.entry(row).or_default() += 1);
        for one in rest {
            if uses[&one.inside] == 1 && uses[&one.outside] == 1 {
                let Candidate { inside, outside, .. } = *one;
                let Some(is_turned) = self.is_second_leg(one) else { continue };
                let (inside, outside) = if is_turned { (outside, inside) } else { (inside, outside) };
                // A gateway sends back to the inside what came from there; else it is a relay, or a copy.
                let is_local = |row: u32, end: usize| self.row(0, row).is_some_and(|row| row.is_local(end));
                if is_local(inside, 0) && is_local(outside, 1) {
                    self.add(&Candidate { inside, outside, ..*one }, true);
                }
            }
        }
    }

    /// Test whether the row inside of a hairpin is the leg behind the gateway: it has packets of the originator later than the
    /// other leg, and those of the responder earlier. None where no packet was seen on both legs.
    fn is_second_leg(&self, one: &Candidate) -> Option<bool> {
        let (own, other) = (self.features(0, one.inside), self.features(0, one.outside));
        if let Some((here, there)) = own.opened(0).zip(other.opened(usize::from(one.crossed))) {
            return Some(here > there);
        }
        let exact = common(own, other, one.crossed).filter(|found| found.proof != Proof::Isn);
        let order = exact.map(|found| match (found.ts - found.there, found.end) {
            // Times of tokens are rounded.
            (later, _) if later.abs() <= UNIT => 0,
            (later, end) if (later > 0) == (end == 0) => 1,
            _ => -1,
        });
        let sum = order.sum::<i32>();
        (sum != 0).then_some(sum > 0)
    }
}
