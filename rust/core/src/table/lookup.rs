//! Keys and their hash.

use ahash::RandomState;

use crate::flow::{FlowKey, Words};

/// A key, ready to be looked up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookup {
    pub(super) words: Words,
    pub(super) hash: u64,
}

impl Lookup {
    /// Which of so many tables it belongs to, by bits of the hash that the index does not look at first.
    #[inline]
    pub fn shard(&self, shards: usize) -> usize {
        ((self.hash >> 32 & 0xffff) as usize * shards) >> 16
    }

    /// The key.
    pub fn key(&self) -> FlowKey {
        match self.words {
            Words::Narrow(key) => key.into(),
            Words::Broad(key) => key.into(),
        }
    }
}

/// Makes keys ready to be looked up in one table.
#[derive(Clone)]
pub struct Lookups(pub(super) RandomState);

impl Lookups {
    /// With a hash that is keyed with fresh random numbers; a model needs the same ones every time.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        Self(if cfg!(feature = "models") { RandomState::with_seeds(1, 2, 3, 4) } else { RandomState::new() })
    }

    /// A key, ready to be looked up.
    #[inline]
    pub fn lookup(&self, words: Words) -> Lookup {
        let hash = match &words {
            Words::Narrow(key) => self.0.hash_one(key),
            Words::Broad(key) => self.0.hash_one(key),
        };
        Lookup { words, hash }
    }
}
