//! Prefetch: memory for the packets of a batch, read before the first of them is processed, so that cache misses
//! overlap.

use crate::flow::Descriptor;
use crate::flow::descriptor::kind;

use super::FlowTable;
use super::slot::Slot;
use super::width::{IN_CACHE, NO_SLOT};

impl FlowTable {
    /// Guess the slots of these packets in a table larger than the caches: read all index lines, then all slots. In a
    /// smaller table every guess is [`NO_SLOT`], and left to [`Self::guessed`].
    pub fn look_ahead<'a>(&self, packets: impl Iterator<Item = &'a Descriptor> + Clone, guesses: &mut [u32]) {
        if self.len() > IN_CACHE {
            self.touch_index(packets.clone());
            self.guess(packets.clone(), guesses);
            self.touch_slots(packets, guesses);
        } else {
            guesses.fill(NO_SLOT);
        }
    }

    /// The guess for a packet at its turn: a missing one is made now, and finds connections begun within the batch.
    #[inline]
    pub fn guessed(&self, one: &Descriptor, guess: u32) -> u32 {
        if guess == NO_SLOT { self.guess_one(one) } else { guess }
    }

    /// Read the index lines of these packets, so that cache misses overlap.
    #[inline(never)]
    pub(super) fn touch_index<'a>(&self, packets: impl Iterator<Item = &'a Descriptor>) {
        let touch = |one: &Descriptor| {
            let index = if one.is(kind::WIDE) { &self.wide.index } else { &self.narrow.index };
            index.touch(one.hash)
        };
        // The reads have no other use, and stay.
        std::hint::black_box(packets.fold(0, |all, one| all ^ touch(one)));
    }

    /// The likely slots of these packets, by the tags of their hashes alone.
    #[inline(never)]
    pub(super) fn guess<'a>(&self, packets: impl Iterator<Item = &'a Descriptor>, guesses: &mut [u32]) {
        for (one, guess) in packets.zip(guesses) {
            *guess = self.guess_one(one);
        }
    }

    /// The likely slot of a packet, by the tag of its hash alone; [`NO_SLOT`]: none.
    #[inline]
    pub fn guess_one(&self, one: &Descriptor) -> u32 {
        let index = if one.is(kind::WIDE) { &self.wide.index } else { &self.narrow.index };
        index.guess(one.hash).unwrap_or(NO_SLOT)
    }

    /// Read both lines of these slots, so that cache misses overlap.
    #[inline(never)]
    pub(super) fn touch_slots<'a>(&self, packets: impl Iterator<Item = &'a Descriptor>, guesses: &[u32]) {
        let touch = |one: &Descriptor, guess: u32| {
            if one.is(kind::WIDE) {
                self.wide.slot(guess).map_or(0, Slot::touch)
            } else {
                self.narrow.slot(guess).map_or(0, Slot::touch)
            }
        };
        std::hint::black_box(packets.zip(guesses).fold(0, |all, (one, guess)| all ^ touch(one, *guess)));
    }
}
