//! Live connections by second of capture time, independent of the order in which ends are found.

use ahash::HashMap;

use conntrack_base::time::SECOND;

/// Change of the number of live connections, for each second of capture time.
#[derive(Default)]
pub struct Alive {
    changes: HashMap<i64, i64>,
    /// The last changed second and its change, cached in front of the map.
    latest: (i64, i64),
}

impl Alive {
    /// Counts a connection from `start` to `gone` (capture times, nanoseconds); None: alive at the end.
    #[inline]
    pub fn note(&mut self, start: i64, gone: Option<i64>) {
        self.change(start, 1);
        if let Some(gone) = gone {
            self.change(gone.max(start), -1);
        }
    }

    #[inline]
    fn change(&mut self, time: i64, by: i64) {
        let second = time.div_euclid(SECOND);
        if second != self.latest.0 {
            let (second_before, change) = std::mem::replace(&mut self.latest, (second, 0));
            self.keep(second_before, change);
        }
        self.latest.1 += by;
    }

    fn keep(&mut self, second: i64, change: i64) {
        if change != 0 {
            *self.changes.entry(second).or_default() += change;
        }
    }

    /// Adds the counts of another part.
    pub fn add(&mut self, other: Self) {
        self.keep(other.latest.0, other.latest.1);
        for (second, change) in other.changes {
            self.keep(second, change);
        }
    }

    /// Maximum over the ends of all seconds.
    pub fn peak(mut self) -> u64 {
        self.keep(self.latest.0, self.latest.1);
        let mut changes: Vec<_> = self.changes.into_iter().collect();
        changes.sort_unstable();
        let mut alive = 0;
        let counts = changes.into_iter().map(|(_, change)| {
            alive += change;
            alive
        });
        counts.max().unwrap_or(0).try_into().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_ends_does_not_matter() {
        let lives = [(1, Some(4)), (2, Some(3)), (2, None), (5, Some(5)), (6, Some(9)), (6, Some(8))];
        let peak = |lives: &mut dyn Iterator<Item = &(i64, Option<i64>)>| {
            let mut alive = Alive::default();
            let mut more = Alive::default();
            for (number, (start, gone)) in lives.enumerate() {
                let into = if number % 2 == 0 { &mut alive } else { &mut more };
                into.note(start * SECOND, gone.map(|gone| gone * SECOND));
            }
            alive.add(more);
            alive.peak()
        };
        assert_eq!((peak(&mut lives.iter()), peak(&mut lives.iter().rev())), (3, 3));
        assert_eq!(Alive::default().peak(), 0);
    }
}
