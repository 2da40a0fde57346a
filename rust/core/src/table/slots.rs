//! Connections in their places: a slot is a key and a [`Compact`]. Narrow ones are two whole cache lines.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::compact::{Compact, WORDS};
use crate::config::Timeouts;
use crate::sync::Cells;

/// A key of `K` words and what belongs to it.
#[derive(Default)]
pub(super) struct Slot<const K: usize> {
    key: Cells<K>,
    words: Cells<WORDS>,
}

impl<const K: usize> Slot<K> {
    /// The key that was put here last.
    #[inline]
    pub(super) fn key(&self) -> [u64; K] {
        self.key.load()
    }

    /// The connection that is here; not [`Compact::is_some`]: none is.
    #[inline]
    pub(super) fn compact(&self) -> Compact {
        Compact::of_words(self.words.load())
    }

    /// Reads the same for who may change it.
    #[inline]
    pub(super) fn read_own(&self, into: &mut Compact) {
        self.words.read_own(into.words_mut());
    }

    /// Whether a connection is here.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.words.get(Compact::FLAGS) != 0
    }

    /// When the connection that is here expires.
    #[inline]
    pub(super) fn deadline(&self, timeouts: &Timeouts) -> i64 {
        Compact::deadline_in(|at| self.words.get(at), timeouts)
    }

    /// Writes what became of what [`Self::read_own`] read, the wheel's mark with it.
    #[inline]
    pub(super) fn change(&self, compact: &Compact) {
        self.words.store(compact.words());
    }

    /// Puts another connection of the same key here. What the wheel has of this place is not the connection's.
    #[inline]
    pub(super) fn set(&self, compact: &Compact) {
        let armed = self.armed();
        for (at, word) in compact.words().iter().enumerate() {
            let word = if at == Compact::ARMED { marked(*word, armed) } else { *word };
            self.words.set(at, word);
        }
    }

    /// Puts a connection here.
    #[inline]
    pub(super) fn fill(&self, key: &[u64; K], compact: &Compact) {
        self.key.store(key);
        self.set(compact);
    }

    /// Nothing is here any more: the flags say so, whatever else was left.
    pub(super) fn vacate(&self) {
        self.words.set(Compact::FLAGS, 0);
    }

    /// The second under which the wheel has this place, modulo 2^32; 0: it has not. It stays when a connection goes, and
    /// serves the next one.
    #[inline]
    pub(super) fn armed(&self) -> u32 {
        (self.words.get(Compact::ARMED) >> 32) as u32
    }

    /// Notes the second under which the wheel has it.
    #[inline]
    pub(super) fn set_armed(&self, second: u32) {
        self.words.set(Compact::ARMED, marked(self.words.get(Compact::ARMED), second));
    }

    /// Everything in it, as it is.
    pub(super) fn raw(&self) -> Raw<K> {
        Raw(self.key.load(), self.words.load())
    }

    /// Puts all of it here.
    pub(super) fn set_raw(&self, raw: &Raw<K>) {
        self.key.store(&raw.0);
        self.words.store(&raw.1);
    }

    /// Reads a word of the first line and one of the last.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        self.key.get(0) ^ self.words.get(WORDS - 1)
    }
}

/// A key and the words behind it, for checkpoints: one list of numbers.
pub(super) struct Raw<const K: usize>([u64; K], [u64; WORDS]);

impl<const K: usize> Serialize for Raw<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(K + WORDS)?;
        for word in self.0.iter().chain(&self.1) {
            tuple.serialize_element(word)?;
        }
        tuple.end()
    }
}

impl<'de, const K: usize> Deserialize<'de> for Raw<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<const K: usize>;

        impl<'de, const K: usize> Visitor<'de> for List<K> {
            type Value = Raw<K>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{} words", K + WORDS)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw<K>, A::Error> {
                let mut raw = Raw([0; K], [0; WORDS]);
                for (at, word) in raw.0.iter_mut().chain(&mut raw.1).enumerate() {
                    *word = list.next_element()?.ok_or_else(|| Error::invalid_length(at, &self))?;
                }
                Ok(raw)
            }
        }

        deserializer.deserialize_tuple(K + WORDS, List)
    }
}

fn marked(word: u64, second: u32) -> u64 {
    word & u64::from(u32::MAX) | u64::from(second) << 32
}

/// A narrow slot, which begins with a cache line.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Lines(Slot<2>);

impl AsRef<Slot<2>> for Lines {
    #[inline]
    fn as_ref(&self) -> &Slot<2> {
        &self.0
    }
}

impl AsRef<Slot<6>> for Slot<6> {
    #[inline]
    fn as_ref(&self) -> &Slot<6> {
        self
    }
}
