//! The timer wheel: slots by the second of their deadline.
//!
//! A packet that postpones its connection's deadline does not move the mark. The wheel visits the slot at the old time,
//! and marks the new one. Only a deadline that becomes earlier (a close) is marked at once; the old mark is then stale,
//! and ignored.

use std::collections::{BTreeMap, VecDeque};

use conntrack_base::time::SECOND;

/// Marks for each connection on average, beyond which an earlier deadline is not marked. Connections that repeatedly
/// close and live on make stale marks; the wheel then visits their slots at the old mark.
const MOST_MARKS: usize = 4;
const FEW: usize = 4096;
/// Seconds of the ring: more than the longest timeout of short-lived connections.
const RING: usize = 1 << 10;

/// Marks by second: those of the next minutes in a ring, the others in a tree.
#[derive(Default)]
pub(super) struct Wheel {
    /// Marks of the seconds from `first` on, in order.
    ring: VecDeque<Vec<u32>>,
    first: i64,
    others: BTreeMap<i64, Vec<u32>>,
    marks: usize,
}

/// The second after a deadline: all its marks are due once that second has begun.
#[inline]
pub(super) fn second_of(deadline: i64) -> i64 {
    deadline.div_euclid(SECOND) + 1
}

impl Wheel {
    /// Test whether an earlier deadline may have a mark of its own.
    pub(super) fn has_room(&self, live: usize) -> bool {
        self.marks < MOST_MARKS * live + FEW
    }

    /// The most bytes of all marks, with this many slots.
    pub(super) fn most_bytes(slots: usize) -> usize {
        slots * MOST_MARKS * size_of::<u32>()
    }

    /// Mark a slot.
    #[inline]
    pub(super) fn put(&mut self, slot: u32, second: i64) {
        self.marks += 1;
        let ahead = usize::try_from(second.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        match self.ring.get_mut(ahead) {
            Some(marks) => marks.push(slot),
            None => self.put_beyond(slot, second, ahead),
        }
    }

    #[inline(never)]
    fn put_beyond(&mut self, slot: u32, second: i64, ahead: usize) {
        if self.ring.is_empty() && self.others.is_empty() {
            (self.first, self.ring) = (second, VecDeque::from([vec![slot]]));
        } else if !self.ring.is_empty() && ahead < RING && self.first.checked_add(RING as i64).is_some() {
            self.ring.resize_with(ahead + 1, Vec::new);
            self.ring[ahead].push(slot);
        } else {
            self.others.entry(second).or_default().push(slot);
        }
    }

    /// The next marks to be popped, where their number is a multiple of this; else none.
    #[inline]
    pub(super) fn next<const MANY: usize>(&self) -> &[u32] {
        match self.ring.front() {
            Some(marks) if marks.len().is_multiple_of(MANY) => &marks[marks.len().saturating_sub(MANY)..],
            _ => &[],
        }
    }

    /// All marks by second, for checkpoints.
    pub(super) fn marks(&self) -> impl Iterator<Item = (i64, &Vec<u32>)> {
        let ring = (self.first..).zip(&self.ring).filter(|(_, marks)| !marks.is_empty());
        ring.chain(self.others.iter().map(|(second, marks)| (*second, marks)))
    }

    /// A mark whose second has come, with that second; the earliest first.
    pub(super) fn pop(&mut self, due: i64) -> Option<(u32, i64)> {
        let now = due.div_euclid(SECOND);
        while let Some(marks) = self.ring.front_mut() {
            let is_earliest = self.others.first_key_value().is_none_or(|(second, _)| *second >= self.first);
            if !is_earliest || self.first > now {
                break;
            }
            if let Some(slot) = marks.pop() {
                self.marks -= 1;
                return Some((slot, self.first));
            }
            self.ring.pop_front();
            self.first += 1;
        }
        let mut first = self.others.first_entry().filter(|first| *first.key() <= now)?;
        let second = *first.key();
        let slot = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        self.marks -= usize::from(slot.is_some());
        Some((slot?, second))
    }
}
