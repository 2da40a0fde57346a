//! Places by number: what is put into one never moves.
//!
//! Places are added a segment at a time, so that growing copies nothing and costs as little for the millionth as for the
//! first; collections that grow by copying themselves would stall a packet.

/// Places of a segment.
pub const SEGMENT: usize = 1 << 10;

/// Begins with a cache line.
#[repr(align(64))]
struct Segment<T>([T; SEGMENT]);

/// Places by number. A free one keeps what was left in it.
pub struct Slab<T> {
    segments: Vec<Box<Segment<T>>>,
    free: Vec<u32>,
    /// The first one that was never taken.
    fresh: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { segments: Vec::new(), free: Vec::new(), fresh: 0 }
    }
}

impl<T: Default> Slab<T> {
    /// Takes a place, and returns its number and what was left in it; None where there are no more numbers.
    pub fn take(&mut self) -> Option<(u32, &mut T)> {
        let number = if let Some(number) = self.free.pop() {
            number
        } else {
            let number = self.fresh;
            self.fresh = number.checked_add(1)?;
            number
        };
        if number as usize / SEGMENT == self.segments.len() {
            self.segments.push(Box::new(Segment(std::array::from_fn(|_| T::default()))));
        }
        Some((number, self.get_mut(number)?))
    }
}

impl<T> Slab<T> {
    /// What is in a place.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        let segment = self.segments.get(number as usize / SEGMENT)?;
        Some(&segment.0[number as usize % SEGMENT])
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let segment = self.segments.get_mut(number as usize / SEGMENT)?;
        Some(&mut segment.0[number as usize % SEGMENT])
    }

    /// Gives a place back that was taken.
    pub fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }

    /// Places that there is memory for.
    pub fn capacity(&self) -> usize {
        self.segments.len() * SEGMENT
    }

    /// The same once another one is taken.
    pub fn next_capacity(&self) -> usize {
        let is_full = self.free.is_empty() && self.fresh as usize == self.capacity();
        self.capacity() + if is_full { SEGMENT } else { 0 }
    }

    /// How many places were ever taken: their numbers are below.
    pub fn reach(&self) -> u32 {
        self.fresh
    }

    /// How many are taken.
    pub fn len(&self) -> usize {
        self.fresh as usize - self.free.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is in the places there is memory for, taken or not, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flat_map(|segment| &segment.0)
    }
}

impl<T: Copy> Slab<T> {
    /// The same; each segment is freed once it has been walked through.
    pub fn into_contents(self) -> impl Iterator<Item = T> {
        self.segments.into_iter().flat_map(|segment| (0..SEGMENT).map(move |place| segment.0[place]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_again() {
        let mut slab: Slab<u32> = Slab::default();
        assert_eq!((slab.capacity(), slab.next_capacity()), (0, SEGMENT));
        for number in 0..3_000 {
            let (taken, content) = slab.take().unwrap();
            assert_eq!(taken, number);
            *content = number;
        }
        slab.give_back(7);
        assert_eq!((slab.len(), slab.reach(), slab.is_empty()), (2_999, 3_000, false));
        assert_eq!(slab.take(), Some((7, &mut 7)), "what was left");
        assert_eq!(slab.iter().take(3_000).copied().sum::<u32>(), 3_000 * 2_999 / 2);
        assert_eq!(slab.into_contents().count(), 3 * SEGMENT);
    }
}
