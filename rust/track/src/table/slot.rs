//! A slot: a key of `K` words and the hot record of its connection.

use serde::{Deserialize, Serialize};

use crate::conn::{Hot, Image, Shared};
use conntrack_base::sync::Cell64;

/// A slot: two cache lines with a key of two words, three with six.
#[repr(C, align(64))]
pub(super) struct Slot<const K: usize> {
    key: [Cell64; K],
    pub(super) hot: Shared,
}

impl<const K: usize> Default for Slot<K> {
    fn default() -> Self {
        Self { key: std::array::from_fn(|_| Cell64::default()), hot: Hot::default() }
    }
}

#[cfg(not(feature = "models"))]
const _: () = assert!(size_of::<Slot<2>>() == 128 && size_of::<Slot<6>>() == 192);

impl<const K: usize> Slot<K> {
    /// The key of the last connection in the slot.
    #[inline]
    pub(super) fn key(&self) -> [u64; K] {
        std::array::from_fn(|at| self.key[at].get())
    }

    /// Test whether the last connection in the slot has this key.
    #[inline]
    pub(super) fn has(&self, key: &[u64; K]) -> bool {
        let mut differs = 0;
        for (cell, word) in self.key.iter().zip(key) {
            differs |= cell.get() ^ word;
        }
        differs == 0
    }

    /// The key, for any other thread.
    pub(super) fn read_key(&self) -> [u64; K] {
        std::array::from_fn(|at| self.key[at].read())
    }

    /// Test whether the slot is in use.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.hot.flags.get() != 0
    }

    /// Store a connection in the slot. The wheel's mark of the slot stays.
    #[inline]
    pub(super) fn fill(&self, key: &[u64; K], image: &Image) {
        for (cell, word) in self.key.iter().zip(key) {
            cell.set(*word);
        }
        self.hot.store(image);
    }

    /// Free the slot by flags and path alone; the other fields stay.
    pub(super) fn vacate(&self) {
        self.hot.path.set(0);
        self.hot.flags.set(0);
    }

    /// Read a word of the first line and one of the last.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        self.key[0].get() ^ self.hot.letters.get()
    }
}

/// A slot in a checkpoint.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) key: Vec<u64>,
    pub(super) image: Image,
}
