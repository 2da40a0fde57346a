//! A list that grows a segment at a time: growing never copies, and never needs memory for two copies.

/// Capacity of a segment.
pub const SEGMENT: usize = 1 << 14;

/// A list in segments.
pub struct Segments<T> {
    segments: Vec<Vec<T>>,
    /// Memory for the next segment.
    spare: Option<Vec<T>>,
}

impl<T> Default for Segments<T> {
    fn default() -> Self {
        Self { segments: Vec::new(), spare: None }
    }
}

impl<T> Segments<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.segments.last().map_or(0, |last| (self.segments.len() - 1) * SEGMENT + last.len())
    }

    /// Appends an element, and returns its index.
    #[inline]
    pub fn push(&mut self, content: T) -> usize {
        if self.segments.last().is_none_or(|last| last.len() == SEGMENT) {
            self.segments.push(self.spare.take().unwrap_or_else(|| Vec::with_capacity(SEGMENT)));
        }
        let before = (self.segments.len() - 1) * SEGMENT;
        let Some(last) = self.segments.last_mut() else { return 0 };
        last.push(content);
        before + last.len() - 1
    }

    /// Recycles a vector as the next segment: its pages are already mapped.
    pub fn recycle(&mut self, mut memory: Vec<T>) {
        memory.clear();
        self.spare = Some(memory).filter(|memory| memory.capacity() == SEGMENT);
    }

    /// Frees the spare segment; nothing is appended after.
    pub fn close(&mut self) {
        self.spare = None;
    }

    /// All elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flatten()
    }

    #[inline]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.segments.get(place / SEGMENT)?.get(place % SEGMENT)
    }

    #[inline]
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.segments.get_mut(place / SEGMENT)?.get_mut(place % SEGMENT)
    }
}

impl<T> IntoIterator for Segments<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Vec<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.segments.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_across_segments() {
        let mut list = Segments::default();
        let count = 2 * SEGMENT + 7;
        for place in 0..count {
            assert_eq!(list.push(place), place);
        }
        *list.get_mut(SEGMENT).unwrap() = 0;
        assert_eq!(
            (list.len(), list.get(SEGMENT), list.get(count - 1), list.get(count)),
            (count, Some(&0), Some(&(count - 1)), None)
        );
    }
}
