//! The gateway's own table of its translations.
//!
//! An entry has a tuple before the translation and one behind it, and either may be that of a captured connection. A tuple
//! that several entries had is told apart by time: its entry is the last one that began before the connection did. Where
//! entries agree, no time is needed, so a listing without times is enough.

use std::collections::HashMap;
use std::net::IpAddr;

use conntrack_base::time::UNTIMED;
use conntrack_output::rows::{Ends, Row};
use conntrack_track::flow::icmp::is_icmp;

use super::clock::Clock;

/// Nanoseconds by which an entry may begin after the first packet of its connection: the gateway sees a packet later than a
/// capture before it, and conntrack writes whole or partial seconds.
const LATE: i64 = 1_500_000_000;

/// Protocol and both ends, the smaller one first; ICMP has no ports here.
type Key = (u8, (IpAddr, u16), (IpAddr, u16));

/// An entry of the gateway.
#[derive(Clone, Copy, PartialEq)]
struct Entry {
    start: i64,
    /// Ends before the translation, and behind it; the originator first.
    ends: [Ends; 2],
}

/// A connection in a gateway's memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recalled {
    /// The ends on the other side of the gateway, in the order of the row's roles.
    pub other: Ends,
    /// The true ends: the originator before the translation, and the responder behind it.
    pub real: Ends,
}

/// Entries by their tuples.
pub struct Memory {
    entries: HashMap<Key, Vec<(Entry, bool)>>,
    clock: Option<Clock>,
}

impl Memory {
    /// The entries of a table of translations that have one.
    pub fn new<'a>(rows: impl Iterator<Item = Row<'a>>) -> Self {
        let mut entries: HashMap<Key, Vec<(Entry, bool)>> = HashMap::new();
        for row in rows {
            let before = [0, 1].map(|end| (row.ip(end), row.port(end)));
            let behind = [0, 1].map(|end| row.nat_end(end).unwrap_or(before[end]));
            if row.nat().is_none() {
                continue;
            }
            let entry = Entry { start: row.start(), ends: [before, behind] };
            entries.entry(key(row.proto(), before)).or_default().push((entry, false));
            if key(row.proto(), before) != key(row.proto(), behind) {
                entries.entry(key(row.proto(), behind)).or_default().push((entry, true));
            }
        }
        for same in entries.values_mut() {
            same.sort_by_key(|(entry, behind)| (entry.start, *behind));
        }
        Self { entries, clock: None }
    }

    /// True without an entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Estimates the clock of the gateway from connections whose tuples have one entry.
    #[must_use]
    pub fn with_clock<'a>(mut self, rows: impl Iterator<Item = Row<'a>>) -> Self {
        let samples = rows.filter_map(|row| {
            let [(entry, _)] = self.entries.get(&key_of(row))?[..] else { return None };
            let is_timed = entry.start != UNTIMED && row.start() != UNTIMED;
            is_timed.then(|| (row.start(), entry.start.saturating_sub(row.start())))
        });
        self.clock = Clock::of_samples(samples.collect());
        self
    }

    /// The connection in the gateway's memory; None where it has no entry, or entries that time does not tell apart. The
    /// flag: entries there are.
    pub fn recall(&self, row: Row<'_>) -> (Option<Recalled>, bool) {
        let Some(same) = self.entries.get(&key_of(row)) else { return (None, false) };
        let mut all = same.iter().map(|found| recalled(row, found));
        let first = all.next();
        if all.all(|other| Some(other) == first) {
            return (first, true);
        }
        let Some(clock) = self.clock.as_ref().filter(|_| row.start() != UNTIMED) else { return (None, true) };
        let begun = clock.outside(row.start()).saturating_add(LATE);
        if same[0].0.start == UNTIMED {
            return (None, true);
        }
        let before = same.partition_point(|(entry, _)| entry.start <= begun);
        let last = before.checked_sub(1).and_then(|last| same.get(last));
        // Two entries within the tolerance may both be the one.
        let second = before.checked_sub(2).and_then(|second| same.get(second));
        let is_clear = last.zip(second).is_none_or(|(last, second)| {
            begun.saturating_sub(last.0.start) > 2 * LATE || last.0.start.saturating_sub(second.0.start) > 2 * LATE
        });
        (last.filter(|_| is_clear).map(|found| recalled(row, found)), true)
    }
}

fn key(proto: u8, ends: Ends) -> Key {
    let [one, other] = if is_icmp(proto) { ends.map(|(addr, _)| (addr, 0)) } else { ends };
    (proto, one.min(other), one.max(other))
}

fn key_of(row: Row<'_>) -> Key {
    key(row.proto(), [0, 1].map(|end| (row.ip(end), row.port(end))))
}

/// The ends of an entry in the order of the row's roles.
fn recalled(row: Row<'_>, (entry, behind): &(Entry, bool)) -> Recalled {
    let (own, other) = if *behind { (entry.ends[1], entry.ends[0]) } else { (entry.ends[0], entry.ends[1]) };
    let real = [entry.ends[0][0], entry.ends[1][1]];
    let icmp = is_icmp(row.proto());
    let ports = [row.port(0), row.port(1)];
    let is_turned = if icmp { own[0].0 != row.ip(0) } else { own[0] != (row.ip(0), row.port(0)) };
    let place = |mut ends: Ends| {
        if is_turned {
            ends.swap(0, 1);
        }
        if icmp { [0, 1].map(|end| (ends[end].0, ports[end])) } else { ends }
    };
    Recalled { other: place(other), real: place(real) }
}
