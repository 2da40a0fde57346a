//! Bit rows, one bit for each rule.

/// Rows of equal length in one vector.
pub(super) struct Rows {
    words: usize,
    bits: Vec<u64>,
    pushed: u32,
}

impl Rows {
    /// An empty table with this many bits for each row.
    pub(super) fn new(bits: usize) -> Self {
        Self { words: bits.div_ceil(64), bits: Vec::new(), pushed: 0 }
    }

    /// A row with these bits.
    pub(super) fn row(&self, set: impl Iterator<Item = usize>) -> Vec<u64> {
        let mut row = vec![0; self.words];
        set.for_each(|bit| row[bit / 64] |= 1 << (bit % 64));
        row
    }

    /// Add a row, and return its number.
    pub(super) fn push(&mut self, row: &[u64]) -> u32 {
        self.bits.extend_from_slice(row);
        self.pushed += 1;
        self.pushed - 1
    }

    /// The row with this number.
    #[inline]
    pub(super) fn get(&self, row: u32) -> &[u64] {
        let start = row as usize * self.words;
        &self.bits[start..start + self.words]
    }
}

/// The first bit in `first..next` that is set in both rows.
#[inline]
pub(super) fn first_of_both(a: &[u64], b: &[u64], first: u32, next: u32) -> Option<u32> {
    if first >= next {
        return None;
    }
    let (from, to) = (first as usize / 64, (next as usize - 1) / 64);
    let mut mask = u64::MAX << (first % 64);
    for (word, (a, b)) in (from..).zip(a[from..=to].iter().zip(&b[from..=to])) {
        let both = a & b & mask;
        if both != 0 {
            let bit = word as u32 * 64 + both.trailing_zeros();
            return (bit < next).then_some(bit);
        }
        mask = u64::MAX;
    }
    None
}
