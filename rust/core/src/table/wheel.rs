//! When to look at a connection again: slots by the second of their deadline.
//!
//! A packet that moves its connection's deadline on does not move its mark: the wheel finds out when it looks, and marks
//! the new one. Only a deadline that comes nearer (a close) is marked at once; the old mark is then stale, and ignored.

use std::collections::BTreeMap;

use crate::time::SECOND;

/// Marks for each connection on average, beyond which a nearer deadline is not marked: connections that keep closing and
/// living on make stale ones, and are then looked at when their old one comes.
const MOST_MARKS: usize = 4;
const FEW: usize = 4096;

/// Marks by second.
#[derive(Default)]
pub(super) struct Wheel {
    seconds: BTreeMap<i64, Vec<u32>>,
    marks: usize,
}

/// The second after a deadline: everything in it is due once that second has begun.
pub(super) fn second_of(deadline: i64) -> i64 {
    deadline.div_euclid(SECOND) + 1
}

impl Wheel {
    /// Whether a deadline that came nearer may have a mark of its own.
    pub(super) fn has_room(&self, live: usize) -> bool {
        self.marks < MOST_MARKS * live + FEW
    }

    /// Bytes of a mark.
    pub(super) const MARK_BYTES: usize = size_of::<u32>();

    /// Bytes of its marks.
    pub(super) fn bytes(&self) -> usize {
        self.marks * Self::MARK_BYTES
    }

    /// Marks a slot.
    pub(super) fn put(&mut self, slot: u32, second: i64) {
        self.seconds.entry(second).or_default().push(slot);
        self.marks += 1;
    }

    /// Its marks by second, for checkpoints.
    pub(super) fn marks(&self) -> &BTreeMap<i64, Vec<u32>> {
        &self.seconds
    }

    /// A mark whose second has come.
    pub(super) fn pop(&mut self, due: i64) -> Option<(u32, i64)> {
        let now = due.div_euclid(SECOND);
        loop {
            let mut first = self.seconds.first_entry()?;
            let second = *first.key();
            if second > now {
                return None;
            }
            if let Some(slot) = first.get_mut().pop() {
                self.marks -= 1;
                return Some((slot, second));
            }
            first.remove();
        }
    }
}
