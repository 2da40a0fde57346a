//! Equal tokens of two sketches, by sorting and merging.
//!
//! Hashes are taken in ranges, so that the lists in memory have a bound whatever the number of connections.

use super::features::{Features, Sketch, Token};

/// Entries of a side that are sorted at once, on average.
const AT_ONCE: usize = 1 << 21;
/// Tokens of a connection, at most.
const TOKENS: usize = 8;

/// A token of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The token.
    pub token: Token,
    /// Time of its packet, nanoseconds.
    pub ts: i64,
    /// The row of the connection.
    pub row: u32,
    /// The role of the sender: 0 originator, 1 responder.
    pub end: u8,
}

/// Connections of one side that may still be paired.
#[derive(Clone, Copy)]
pub struct Open<'a> {
    /// Their features.
    pub sketch: &'a Sketch,
    /// True for rows that are paired.
    pub paired: &'a [bool],
}

impl<'a> Open<'a> {
    /// Rows that may be paired, with their features.
    pub fn rows(self) -> impl Iterator<Item = (u32, &'a Features)> {
        let open = move |row: &usize| !self.paired.get(*row).copied().unwrap_or(true);
        let rows = 0..self.paired.len().min(u32::MAX as usize);
        rows.filter(open).filter_map(move |row| Some((row as u32, self.sketch.get(row)?)))
    }
}

/// Visits all tokens that both sides have: the entries inside, and the entries outside, each sorted by row.
pub fn each_common(inside: Open<'_>, outside: Open<'_>, mut visit: impl FnMut(&[Entry], &[Entry])) {
    let ranges = (inside.paired.len().max(outside.paired.len()) * TOKENS / AT_ONCE + 1).next_power_of_two() as u64;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for range in 0..ranges {
        list(inside, range, ranges, &mut ours);
        list(outside, range, ranges, &mut theirs);
        let (mut here, mut there) = (&ours[..], &theirs[..]);
        while let (Some(one), Some(other)) = (here.first(), there.first()) {
            let least = one.token.hash.min(other.token.hash);
            let (own, others) = (equal(&mut here, least), equal(&mut there, least));
            if !own.is_empty() && !others.is_empty() {
                visit(own, others);
            }
        }
    }
}

/// Visits the tokens that several connections of one side have.
pub fn each_repeated(side: Open<'_>, mut visit: impl FnMut(&[Entry])) {
    let ranges = (side.paired.len() * TOKENS / AT_ONCE + 1).next_power_of_two() as u64;
    let mut entries = Vec::new();
    for range in 0..ranges {
        list(side, range, ranges, &mut entries);
        let mut rest = &entries[..];
        while let Some(one) = rest.first() {
            let same = equal(&mut rest, one.token.hash);
            if same.len() > 1 {
                visit(same);
            }
        }
    }
}

/// Lists the entries whose hashes are in one of so many ranges, sorted.
fn list(side: Open<'_>, range: u64, ranges: u64, into: &mut Vec<Entry>) {
    into.clear();
    for (row, features) in side.rows() {
        for end in 0..2_u8 {
            let tokens = features.tokens(end.into());
            let some = tokens.filter(|(token, _)| token.hash & (ranges - 1) == range);
            into.extend(some.map(|(token, ts)| Entry { token, ts, row, end }));
        }
    }
    into.sort_unstable_by_key(|entry| (entry.token.hash, entry.row, entry.end));
}

/// Splits off the first entries, those with this hash.
fn equal<'a>(entries: &mut &'a [Entry], hash: u64) -> &'a [Entry] {
    let count = entries.iter().take_while(|entry| entry.token.hash == hash).count();
    let (first, rest) = entries.split_at(count);
    *entries = rest;
    first
}

/// Number of different rows of entries sorted by row.
pub fn rows_of(entries: &[Entry]) -> usize {
    entries.chunk_by(|one, next| one.row == next.row).count()
}
