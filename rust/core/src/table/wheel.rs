//! When to look at a connection again: places by the second of their deadline.
//!
//! A packet that moves its connection's deadline on does not move its mark: the wheel finds out when it looks, and marks
//! the new one. Only a deadline that comes nearer (a close) is marked at once; the old mark is then stale, and ignored.

use std::collections::BTreeMap;

use crate::time::SECOND;

/// Marks a slot may have at once. A connection that keeps closing and living on makes stale ones; beyond these it is
/// looked at when its nearest one comes.
const MOST_MARKS: u8 = 4;

/// A mark: the slot and the generation it was made for.
type Mark = (u32, u32);

/// Marks by second.
#[derive(Default)]
pub(super) struct Wheel {
    seconds: BTreeMap<i64, Vec<Mark>>,
}

/// What a slot knows of its marks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Armed {
    /// The second of the nearest one.
    second: i64,
    /// How many there are.
    marks: u8,
}

/// The second after a deadline: everything in it is due once that second has begun.
fn second_of(deadline: i64) -> i64 {
    deadline.div_euclid(SECOND) + 1
}

impl Wheel {
    /// Marks a connection that is new, or whose deadline has come nearer.
    #[inline]
    pub(super) fn arm(&mut self, mark: Mark, armed: &mut Armed, deadline: i64) {
        let second = second_of(deadline);
        if armed.marks == 0 || (second < armed.second && armed.marks < MOST_MARKS) {
            self.put(mark, armed, second);
        }
    }

    /// Marks again a connection whose nearest mark has been taken out, and which is not due.
    pub(super) fn again(&mut self, mark: Mark, armed: &mut Armed, deadline: i64) {
        self.put(mark, armed, second_of(deadline));
    }

    fn put(&mut self, mark: Mark, armed: &mut Armed, second: i64) {
        self.seconds.entry(second).or_default().push(mark);
        *armed = Armed { second, marks: armed.marks + 1 };
    }

    /// A mark whose second has come.
    pub(super) fn pop(&mut self, due: i64) -> Option<(Mark, i64)> {
        let now = due.div_euclid(SECOND);
        loop {
            let mut first = self.seconds.first_entry()?;
            let second = *first.key();
            if second > now {
                return None;
            }
            if let Some(mark) = first.get_mut().pop() {
                return Some((mark, second));
            }
            first.remove();
        }
    }
}

impl Armed {
    /// A mark of that second was taken out: true if it was the nearest one, false if it was stale.
    pub(super) fn take(&mut self, second: i64) -> bool {
        self.marks = self.marks.saturating_sub(1);
        second == self.second
    }
}
