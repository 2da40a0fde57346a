//! A slot: a key of `K` words and the hot record of its connection.

use serde::{Deserialize, Serialize};

use crate::conn::{Hot, Image, Shared};
use conntrack_base::sync::Cell64;

/// A slot; with two words of key two cache lines, with six three.
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
    /// The key that was put here last.
    #[inline]
    pub(super) fn key(&self) -> [u64; K] {
        std::array::from_fn(|at| self.key[at].get())
    }

    /// Whether this key was put here last.
    #[inline]
    pub(super) fn has(&self, key: &[u64; K]) -> bool {
        let mut differs = 0;
        for (cell, word) in self.key.iter().zip(key) {
            differs |= cell.get() ^ word;
        }
        differs == 0
    }

    /// The same for any other thread.
    pub(super) fn read_key(&self) -> [u64; K] {
        std::array::from_fn(|at| self.key[at].read())
    }

    /// Whether a connection is here.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.hot.flags.get() != 0
    }

    /// Puts a connection here. What the wheel has of this slot stays.
    #[inline]
    pub(super) fn fill(&self, key: &[u64; K], image: &Image) {
        for (cell, word) in self.key.iter().zip(key) {
            cell.set(*word);
        }
        self.hot.store(image);
    }

    /// Frees the slot: flags and path say so, whatever else was left.
    pub(super) fn vacate(&self) {
        self.hot.path.set(0);
        self.hot.flags.set(0);
    }

    /// Reads a word of the first line and one of the last.
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
