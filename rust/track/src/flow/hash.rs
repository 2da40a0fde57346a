//! The hash of keys, keyed with fresh random numbers: an attacker gains nothing by five-tuples chosen to collide.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use super::{Narrow, PackedKey, Wide};

/// The key hash of the tables of one run.
#[derive(Clone)]
pub struct KeyHasher(RandomState);

impl KeyHasher {
    /// A hasher with this key, or with a fresh random one.
    pub fn new(key: Option<[u64; 4]>) -> Self {
        Self(key.map_or_else(RandomState::new, |[a, b, c, d]| RandomState::with_seeds(a, b, c, d)))
    }

    /// The hash of a key of two words.
    #[inline]
    pub fn narrow(&self, [a, b]: &Narrow) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u128(u128::from(*a) << 64 | u128::from(*b));
        hasher.finish()
    }

    /// The hash of a key of six words.
    #[inline]
    pub fn wide(&self, key: &Wide) -> u64 {
        let mut hasher = self.0.build_hasher();
        for pair in key.as_chunks::<2>().0 {
            hasher.write_u128(u128::from(pair[0]) << 64 | u128::from(pair[1]));
        }
        hasher.finish()
    }

    /// The hash of a key.
    #[inline]
    pub fn words(&self, words: &PackedKey) -> u64 {
        match words {
            PackedKey::V4(key) => self.narrow(key),
            PackedKey::Wide(key) => self.wide(key),
        }
    }
}

/// The shard of a key with this hash, of so many. Uses bits that the index of a table uses last.
#[inline]
pub fn shard_of(hash: u64, shards: usize) -> usize {
    ((hash >> 32 & 0xffff) as usize * shards) >> 16
}
