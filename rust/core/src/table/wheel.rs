//! When to look at a connection again: places by the second of their deadline, re-armed lazily.
//!
//! A packet only moves its connection's deadline; the wheel finds out when it looks. Each live connection has exactly
//! one mark here, so the wheel is no larger than the table.

use std::collections::BTreeMap;

use crate::time::SECOND;

/// The longest time between two looks: a connection that closes early does not wait for the long timeout it had.
const LOOK_AGAIN: i64 = 60 * SECOND;

/// Slots and generations, by second.
#[derive(Default)]
pub(super) struct Wheel {
    seconds: BTreeMap<i64, Vec<(u32, u32)>>,
}

impl Wheel {
    /// Looks at a slot when `deadline` is due, or in a while from `now`.
    pub(super) fn arm(&mut self, slot: u32, generation: u32, deadline: i64, now: i64) {
        let look = deadline.min(now.saturating_add(LOOK_AGAIN));
        // The second after: everything in it is due once that second has begun.
        let second = look.div_euclid(SECOND).saturating_add(1);
        self.seconds.entry(second).or_default().push((slot, generation));
    }

    /// A slot whose second has come.
    pub(super) fn pop(&mut self, due: i64) -> Option<(u32, u32)> {
        let now = due.div_euclid(SECOND);
        loop {
            let mut first = self.seconds.first_entry()?;
            if *first.key() > now {
                return None;
            }
            if let Some(mark) = first.get_mut().pop() {
                return Some(mark);
            }
            first.remove();
        }
    }
}
