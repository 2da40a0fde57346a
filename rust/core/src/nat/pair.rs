//! Pairs of connections across a gateway, and those that stay alone.

use conntrack_output::rows::{Row, Rows};
use conntrack_track::flow::icmp::is_icmp;

use super::Proof;
use super::clock::{Clock, Vote};
use super::features::{Features, Sketch, class};
use super::join::{Entry, Open, each_common, rows_of};
use super::score::{Candidate, Match, candidate, is_strong};

/// Bits by which the evidence must exceed what chance explains.
pub const MARGIN: f64 = 8.0;
/// The same without a clock, among all connections, and the least bits: two small captures may have little to be confused.
const MARGIN_WITHOUT_CLOCK: f64 = 12.0;
const LEAST_WITHOUT_CLOCK: f64 = 54.0;
/// Bits by which the best match must exceed the second.
pub const LEAD: u16 = 6;
/// Bits of the initial sequence numbers of both directions.
const BOTH_NUMBERS: u16 = 64;
/// Least bits of a match that votes for a clock.
const VOTING_BITS: u8 = 16;
/// Connections that a token leads to, at most; more are a tie.
pub const MOST_CANDIDATES: usize = 8;
/// Rounds in which pairs leave room for others, at most.
const MOST_ROUNDS: usize = 8;
/// Nanoseconds after which a lost SYN is sent again for the third time; RFC 6298 doubles one second.
pub const RESENT: i64 = 8_000_000_000;
/// Connections of one side of the gateway.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The rows.
    pub rows: &'a Rows,
    /// Their features.
    pub sketch: &'a Sketch,
}

/// Two connections that are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Row inside.
    pub inside: u32,
    /// Row outside; of a hairpin the row inside of the second leg.
    pub outside: u32,
    /// True for two legs inside.
    pub hairpin: bool,
    /// True where the originator inside is the responder outside.
    pub crossed: bool,
    /// The strongest evidence.
    pub proof: Proof,
    /// Bits of evidence beyond what chance explains.
    pub bits: u16,
}

/// Counts of a correlation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Connections that share evidence with others and could not be paired, inside and outside.
    pub ambiguous: [u64; 2],
    /// Pairs of connections that share evidence and have different initial sequence numbers.
    pub contradicted: u64,
}

/// Result of a correlation.
pub struct Correlated {
    /// The pairs, by row inside.
    pub pairs: Vec<Pair>,
    /// Counts.
    pub account: Account,
    /// The clock of the outside; None where nothing sure was found.
    pub clock: Option<Clock>,
}

/// Pairs the connections of both sides of a gateway. `clock`: the clock of the outside where it is known.
pub fn correlate(inside: Side<'_>, outside: Side<'_>, clock: Option<Clock>) -> Correlated {
    let mut work = Work::new(inside, outside);
    work.pair_sure();
    let clock = clock.or_else(|| Clock::of_samples(work.samples())).or_else(|| work.vote());
    let (candidates, contradicted) = work.candidates(clock.as_ref());
    work.choose(&candidates, clock.as_ref());
    work.pair_hairpins();
    let mut pairs = work.pairs;
    pairs.sort_unstable_by_key(|pair| (pair.inside, pair.outside));
    let alone =
        |tied: &[bool], paired: &[bool]| tied.iter().zip(paired).filter(|(tied, paired)| **tied && !**paired).count();
    let ambiguous = [0, 1].map(|side| alone(&work.tied[side], &work.paired[side]) as u64);
    Correlated { pairs, account: Account { ambiguous, contradicted }, clock }
}

pub(super) struct Work<'a> {
    sides: [Side<'a>; 2],
    paired: [Vec<bool>; 2],
    /// Rows that share a token with the other side.
    tied: [Vec<bool>; 2],
    /// Times of first packets, sorted, by class.
    firsts: [[Vec<i64>; class::COUNT]; 2],
    pairs: Vec<Pair>,
}

impl<'a> Work<'a> {
    fn new(inside: Side<'a>, outside: Side<'a>) -> Self {
        let sides = [inside, outside];
        let none = || sides.map(|side| vec![false; side.rows.len()]);
        let firsts = sides.map(|side| {
            let mut firsts: [Vec<i64>; class::COUNT] = Default::default();
            for row in 0..side.rows.len() {
                if let Some(features) = side.sketch.get(row).filter(|features| features.class != 0) {
                    firsts[usize::from(features.class)].push(features.first);
                }
            }
            for times in &mut firsts {
                times.sort_unstable();
            }
            firsts
        });
        Self { sides, paired: none(), tied: none(), firsts, pairs: Vec::new() }
    }

    pub(super) fn open(&self, side: usize) -> Open<'_> {
        Open { sketch: self.sides[side].sketch, paired: &self.paired[side] }
    }

    pub(super) fn features(&self, side: usize, row: u32) -> &'a Features {
        static NONE: std::sync::LazyLock<Features> = std::sync::LazyLock::new(Features::default);
        self.sides[side].sketch.get(row as usize).unwrap_or(&NONE)
    }

    pub(super) fn add(&mut self, found: &Candidate, hairpin: bool) {
        let Candidate { inside, outside, bits, proof, crossed } = *found;
        self.paired[0][inside as usize] = true;
        self.paired[usize::from(!hairpin)][outside as usize] = true;
        self.pairs.push(Pair { inside, outside, hairpin, crossed, proof, bits });
    }

    /// Pairs connections by the initial sequence numbers of both directions, where one of each side has them.
    fn pair_sure(&mut self) {
        let mut lists = [0, 1].map(|side| {
            let numbered = self.open(side).rows().filter_map(|(row, features)| Some((features.numbers()?, row)));
            numbered.collect::<Vec<_>>()
        });
        for list in &mut lists {
            list.sort_unstable();
        }
        let [ours, theirs] = lists;
        let mut there = theirs.chunk_by(|one, next| one.0 == next.0).peekable();
        for own in ours.chunk_by(|one, next| one.0 == next.0) {
            let (numbers, inside) = own[0];
            while there.next_if(|others| others[0].0 < numbers).is_some() {}
            let Some([(found, outside)]) = there.peek() else { continue };
            if own.len() == 1 && *found == numbers {
                let ends = [self.features(0, inside), self.features(1, *outside)].map(|features| features.isn(0));
                let (bits, crossed) = (BOTH_NUMBERS, ends[0] != ends[1]);
                self.add(&Candidate { inside, outside: *outside, bits, proof: Proof::Isn, crossed }, false);
            }
        }
    }

    /// Differences of the clocks by the pairs so far: those of a packet that both sides saw.
    fn samples(&self) -> Vec<(i64, i64)> {
        let sample = |pair: &Pair| {
            let shared = common(self.features(0, pair.inside), self.features(1, pair.outside), pair.crossed);
            // A segment is one packet; an initial number may be known from another one.
            let found = shared.min_by_key(|found| (found.proof == Proof::Isn, found.ts))?;
            Some((found.ts, found.there.saturating_sub(found.ts)))
        };
        self.pairs.iter().filter_map(sample).collect()
    }

    /// The clock on which most tokens agree that one connection of each side has.
    fn vote(&self) -> Option<Clock> {
        let mut votes: Vec<(u32, u32, Vote)> = Vec::new();
        each_common(self.open(0), self.open(1), |ours, theirs| {
            if rows_of(ours) == 1 && rows_of(theirs) == 1 {
                let (own, other) = (&ours[0], &theirs[0]);
                let bits = own.token.bits.min(other.token.bits);
                if bits >= VOTING_BITS {
                    votes.push((own.row, other.row, (own.ts, other.ts.saturating_sub(own.ts), bits)));
                }
            }
        });
        // One vote of each pair, its best and first.
        votes.sort_unstable_by_key(|(own, other, (ts, _, bits))| (*own, *other, u8::MAX - bits, *ts));
        votes.dedup_by_key(|vote| (vote.0, vote.1));
        let both = self.firsts.iter().map(|firsts| firsts.iter().map(Vec::len).sum::<usize>()).min();
        Clock::of_votes(votes.into_iter().map(|vote| vote.2).collect(), both.unwrap_or(0))
    }

    /// All pairs of connections that share tokens at one time, with the number of contradicted ones.
    fn candidates(&mut self, clock: Option<&Clock>) -> (Vec<Candidate>, u64) {
        let mut matches = Vec::new();
        let mut tied = std::mem::take(&mut self.tied);
        each_common(self.open(0), self.open(1), |ours, theirs| {
            let unique = rows_of(ours) == 1 && rows_of(theirs) == 1;
            match_at_one_time(ours, theirs, clock, &mut tied, |own, other| matches.push(Match::of(own, other, unique)));
        });
        self.tied = tied;
        self.scored(matches, [0, 1])
    }

    pub(super) fn scored(&self, mut matches: Vec<Match>, sides: [usize; 2]) -> (Vec<Candidate>, u64) {
        matches.sort_unstable();
        let mut contradicted = 0;
        let mut candidates = Vec::new();
        for both in matches.chunk_by(|one, next| (one.inside, one.outside) == (next.inside, next.outside)) {
            let (inside, outside) = (both[0].inside, both[0].outside);
            let rows = (self.row(sides[0], inside), self.row(sides[1], outside));
            let responder = |crossed: bool| is_same_end(rows, 1, usize::from(!crossed));
            let features = (self.features(sides[0], inside), self.features(sides[1], outside));
            match candidate(both, features, responder) {
                Some(found) => candidates.push(found),
                None => contradicted += 1,
            }
        }
        (candidates, contradicted)
    }

    pub(super) fn row(&self, side: usize, row: u32) -> Option<Row<'a>> {
        self.sides[side].rows.get(row as usize)
    }

    /// Pairs the best matches of both ends. Pairs leave room for others, so that there are several rounds.
    fn choose(&mut self, candidates: &[Candidate], clock: Option<&Clock>) {
        let mut rest: Vec<&Candidate> =
            candidates.iter().filter(|one| f64::from(one.bits) >= self.needed(one, clock)).collect();
        // What falls short of the need still competes with others.
        let mut rivals: Vec<&Candidate> = candidates.iter().collect();
        for _ in 0..MOST_ROUNDS {
            let best = Best::of(&rivals, [self.paired[0].len(), self.paired[1].len()]);
            let before = self.pairs.len();
            for one in &rest {
                if best.is_clear(one) {
                    self.add(one, false);
                }
            }
            if self.pairs.len() == before {
                return;
            }
            let open = |one: &&Candidate| !self.paired[0][one.inside as usize] && !self.paired[1][one.outside as usize];
            rest.retain(open);
            rivals.retain(open);
        }
    }

    /// Bits that a pair needs: those that chance gives to the best of all connections it might be confused with, and a margin.
    fn needed(&self, one: &Candidate, clock: Option<&Clock>) -> f64 {
        let own = self.features(0, one.inside);
        let Some(clock) = clock else {
            let all = |side: usize| self.firsts[side].iter().map(Vec::len).sum::<usize>().max(1) as f64;
            return (MARGIN_WITHOUT_CLOCK + all(0).log2() + all(1).log2()).max(LEAST_WITHOUT_CLOCK);
        };
        let tolerance = if is_strong(one.proof) { clock.tolerance + RESENT } else { clock.tolerance };
        let other = self.features(1, one.outside);
        let near = |side: usize, at: i64| {
            let firsts = &self.firsts[side][usize::from(own.class)];
            let end = firsts.partition_point(|ts| *ts <= at.saturating_add(tolerance));
            end - firsts.partition_point(|ts| *ts < at.saturating_sub(tolerance)).min(end)
        };
        let most = near(1, other.first).max(near(0, own.first));
        MARGIN + (most.max(1) as f64).log2()
    }
}

/// A token of two connections.
pub(super) struct Common {
    pub proof: Proof,
    pub end: usize,
    pub ts: i64,
    pub there: i64,
}

/// The tokens that two connections share.
pub(super) fn common<'a>(own: &'a Features, other: &'a Features, crossed: bool) -> impl Iterator<Item = Common> + 'a {
    (0..2).flat_map(move |end| {
        let find = move |hash: u64| other.tokens(end ^ usize::from(crossed)).find(|(token, _)| token.hash == hash);
        own.tokens(end)
            .filter_map(move |(token, ts)| Some(Common { proof: token.proof, end, ts, there: find(token.hash)?.1 }))
    })
}

/// Visits the entries of both sides that may be of one packet, and notes their rows; a token that leads to many connections
/// leads to none.
fn match_at_one_time(
    ours: &[Entry],
    theirs: &[Entry],
    clock: Option<&Clock>,
    tied: &mut [Vec<bool>; 2],
    mut visit: impl FnMut(&Entry, &Entry),
) {
    let strong = is_strong(ours[0].token.proof);
    let mut sorted: [Vec<&Entry>; 2] = [ours.iter().collect(), theirs.iter().collect()];
    for entries in &mut sorted {
        entries.sort_unstable_by_key(|one| (one.ts, one.row, one.end));
    }
    let [ours, theirs] = &sorted;
    let tolerance = clock.map(|clock| if strong { clock.tolerance + RESENT } else { clock.tolerance });
    let mut noted = 0;
    for own in ours {
        let (from, to) = match clock.zip(tolerance) {
            Some((clock, tolerance)) => {
                let at = clock.outside(own.ts);
                let from = theirs.partition_point(|other| other.ts < at.saturating_sub(tolerance));
                (from, theirs.partition_point(|other| other.ts <= at.saturating_add(tolerance)))
            }
            None => (0, theirs.len()),
        };
        let near = theirs.get(from..to).unwrap_or_default();
        tied[0][own.row as usize] |= !near.is_empty();
        for other in theirs.get(from.max(noted)..to).unwrap_or_default() {
            tied[1][other.row as usize] = true;
        }
        noted = noted.max(to);
        if near.len() <= MOST_CANDIDATES && (strong || clock.is_some()) {
            for other in near {
                visit(own, other);
            }
        }
    }
}

pub(super) fn is_same_end(rows: (Option<Row<'_>>, Option<Row<'_>>), end: usize, other: usize) -> bool {
    let (Some(row), Some(there)) = rows else { return false };
    row.ip(end) == there.ip(other) && (is_icmp(row.proto()) || row.port(end) == there.port(other))
}

pub(super) fn is_same_tuple(rows: (Option<Row<'_>>, Option<Row<'_>>)) -> bool {
    (is_same_end(rows, 0, 0) && is_same_end(rows, 1, 1)) || (is_same_end(rows, 0, 1) && is_same_end(rows, 1, 0))
}

/// Bits of the best candidate of every row, and of the second.
struct Best([Vec<[u16; 2]>; 2]);

impl Best {
    fn of(candidates: &[&Candidate], rows: [usize; 2]) -> Self {
        let mut best = rows.map(|rows| vec![[0; 2]; rows]);
        for one in candidates {
            for (side, row) in [one.inside, one.outside].into_iter().enumerate() {
                let [first, second] = &mut best[side][row as usize];
                let lower = one.bits.min(*first);
                (*first, *second) = (one.bits.max(*first), lower.max(*second));
            }
        }
        Self(best)
    }

    /// Test for a candidate that is far better than any other of both its rows.
    fn is_clear(&self, one: &Candidate) -> bool {
        let clear = |[first, second]: [u16; 2]| one.bits == first && first >= second + LEAD;
        clear(self.0[0][one.inside as usize]) && clear(self.0[1][one.outside as usize])
    }
}
