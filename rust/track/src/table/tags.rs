//! Connections whose tags may differ by direction: VLAN tags, and the network identifiers of VXLAN and GENEVE.
//!
//! The index of a table hashes whole keys. So tenants with equal five-tuples share no chain of buckets, however many
//! there are. This module leads from a five-tuple to its connections with other tags:
//!
//! * *Halves* are the connections with tags, by the hash of their keys without tags; at most [`MOST_HALVES`] of a
//!   five-tuple that a packet could still join. A connection beyond is counted, and never joined.
//! * *Replies* are the keys of packets that joined a connection, each with the slot of the connection. Other threads
//!   read them, too.
//!
//! A connection without tags is in neither list until a packet with tags joins. Whether a half is listed must not
//! depend on the moment of a sweep: only an answered half, or one that the last sweep found over, makes room.

use std::io::{self, Read, Write};

use super::width::{Hasher, NO_SLOT, Table};
use super::{FlowTable, Lookup, SlotId};
use crate::conn::{Image, path};
use crate::connection::Connection;
use crate::flow::{FlowKey, KeyHasher, PackedKey, Side, Tags};
use conntrack_base::checkpoint::{CheckpointError, Count, Reader, Writer};

/// The most connections of a five-tuple with tags that packets may join.
pub const MOST_HALVES: usize = 16;

/// The slot that the record of a reply leads to.
pub(super) fn target(reply: &Image) -> SlotId {
    if reply.first[0] == 0 { SlotId::V4(reply.cold) } else { SlotId::Wide(reply.cold) }
}

impl FlowTable {
    /// Let packets join connections with other tags.
    pub fn join_tags(&mut self) {
        self.tags.joins = true;
    }

    /// Test whether a packet without tags may belong to a connection with tags.
    #[inline]
    pub fn has_halves(&self) -> bool {
        self.tags.halves.as_ref().is_some_and(|halves| halves.narrow.len() + halves.wide.len() > 0)
    }

    /// Note the time until which connections are over for every packet.
    pub fn set_over(&mut self, until: i64) {
        self.tags.over_until = until;
    }

    /// The number of connections with tags that no packet may join, for lack of room.
    pub fn crowded(&self) -> u64 {
        self.tags.crowded
    }

    /// The connection that packets with this key have joined.
    #[inline]
    pub fn by_reply(&self, lookup: &Lookup) -> Option<SlotId> {
        if self.tags.replies.index.len() == 0 { None } else { self.search_reply(&lookup.key()) }
    }

    #[inline(never)]
    fn search_reply(&self, key: &FlowKey) -> Option<SlotId> {
        let reply = self.tags.replies.slot(self.reply_of(key)?)?.hot.image();
        let slot = target(&reply);
        // A forged checkpoint may have replies to connections that ended.
        self.hot(slot).filter(|hot| hot.flags.get() != 0 && hot.id.get() == reply.id).map(|_| slot)
    }

    fn reply_of(&self, key: &FlowKey) -> Option<u32> {
        let words = key.wide();
        self.tags.replies.find(self.hasher.wide(&words), &words, NO_SLOT)
    }

    /// Visit the connections with the five-tuple of this key and other tags.
    pub fn others(&self, lookup: &Lookup, mut visit: impl FnMut(SlotId)) {
        let (bare, is_tagged) = (lookup.words.without_tags(), lookup.words.is_tagged());
        let hash = if is_tagged { self.hasher.words(&bare) } else { lookup.hash };
        if is_tagged && let Some(slot) = self.find(&Lookup { words: bare, hash }, NO_SLOT) {
            visit(slot);
        }
        self.halves_of(&bare, hash, visit);
    }

    fn halves_of(&self, bare: &PackedKey, hash: u64, mut visit: impl FnMut(SlotId)) {
        let Some(halves) = &self.tags.halves else { return };
        let mut look = |slot: SlotId| {
            if self.words_at(slot).is_some_and(|words| words.without_tags() == *bare) {
                visit(slot);
            }
            false
        };
        match bare {
            PackedKey::V4(_) => halves.narrow.find(hash, |slot| look(SlotId::V4(slot))),
            PackedKey::Wide(_) => halves.wide.find(hash, |slot| look(SlotId::Wide(slot))),
        };
    }

    fn words_at(&self, slot: SlotId) -> Option<PackedKey> {
        match slot {
            SlotId::V4(slot) => self.narrow.slot(slot).map(|slot| PackedKey::V4(slot.key())),
            SlotId::Wide(slot) => self.wide.slot(slot).map(|slot| PackedKey::Wide(slot.key())),
        }
    }

    /// The cold part of a connection, which the record may be ahead of.
    pub fn whole(&self, slot: SlotId) -> Option<&Connection> {
        let hot = self.hot(slot)?;
        if hot.path.get() & path::COLD == 0 { None } else { self.colds.get(hot.cold.get()) }
    }

    /// The sides of a connection that have sent packets.
    pub fn senders(&self, slot: SlotId) -> Option<[bool; 2]> {
        let (hot, whole) = (self.hot(slot)?, self.whole(slot));
        let counted = |side: Side| whole.is_some_and(|whole| whole.ends[side as usize].packets > 0);
        Some(Side::BOTH.map(|side| counted(side) || hot.packets[side as usize].get() > 0))
    }

    /// Let packets with this key belong to the connection in `slot`; false where there is no room, and nothing was
    /// changed.
    pub fn join(&mut self, slot: SlotId, lookup: &Lookup) -> bool {
        let Some(id) = self.hot(slot).map(|hot| hot.id.get()) else { return false };
        let key = lookup.key();
        if !self.has_room_for_tags(self.tags.replies.slots.next_capacity(), [0; 2]) || !self.add_reply(slot, &key, id) {
            return false;
        }
        if let Some(number) = self.step(slot) {
            if let Some(connection) = self.colds.get_mut(number) {
                connection.reply_tags = Some(key.tags());
            }
            self.settle(slot, number);
        }
        true
    }

    fn add_reply(&mut self, slot: SlotId, key: &FlowKey, id: u32) -> bool {
        let is_wide = u32::from(matches!(slot, SlotId::Wide(_)));
        let image = Image { flags: 1, cold: slot.number(), first: [is_wide, 0], id, ..Image::default() };
        let (words, Self { tags, hasher, .. }) = (key.wide(), self);
        let Some(reply) = tags.replies.fill(&words, &image) else { return false };
        tags.replies.list(hasher.wide(&words), reply, hasher);
        true
    }

    /// Forget the key of packets that joined the connection with this number.
    pub(super) fn remove_reply(&mut self, key: &FlowKey, id: u32) {
        let Some(reply) = self.reply_of(key) else { return };
        if self.tags.replies.slot(reply).is_some_and(|slot| slot.hot.id.get() == id) {
            self.tags.replies.remove(reply, &self.hasher);
        }
    }

    /// List a new connection with tags.
    #[inline(never)]
    pub(super) fn add_half(&mut self, slot: SlotId, words: &PackedKey) {
        if !self.tags.joins {
            return;
        }
        let bare = words.without_tags();
        let hash = self.hasher.words(&bare);
        let mut listed = [None; MOST_HALVES];
        let mut count = 0;
        self.halves_of(&bare, hash, |half| {
            if let Some(place) = listed.get_mut(count) {
                *place = Some(half);
                count += 1;
            }
        });
        if count == MOST_HALVES {
            for half in listed.into_iter().flatten().filter(|half| !self.may_be_joined(*half)).collect::<Vec<_>>() {
                self.unlist(half, hash);
                count -= 1;
            }
        }
        if count == MOST_HALVES || !self.has_room_for_half(slot) {
            self.tags.crowded += 1;
        } else {
            self.list(slot, hash);
        }
    }

    /// Test for a connection of one direction, which may be alive.
    fn may_be_joined(&self, slot: SlotId) -> bool {
        let is_over = self.hot(slot).is_none_or(|hot| hot.deadline(&self.limits) <= self.tags.over_until);
        !is_over && self.senders(slot) != Some([true; 2])
    }

    fn has_room_for_half(&self, slot: SlotId) -> bool {
        self.has_room_for_tags(self.tags.replies.slots.capacity(), self.halves_with(slot))
    }

    /// The numbers of narrow and wide halves with this slot.
    fn halves_with(&self, slot: SlotId) -> [usize; 2] {
        let len = self.tags.halves.as_ref().map_or([0; 2], |halves| [halves.narrow.len(), halves.wide.len()]);
        match slot {
            SlotId::V4(_) => [len[0] + 1, len[1]],
            SlotId::Wide(_) => [len[0], len[1] + 1],
        }
    }

    /// Add a slot to its list.
    fn list(&mut self, slot: SlotId, hash: u64) {
        let least = self.halves_with(slot);
        let Self { tags, narrow, wide, hasher, .. } = self;
        let halves = tags.halves.get_or_insert_default();
        match slot {
            SlotId::V4(slot) => halves.narrow.insert(hash, slot, |slot| bare_hash(narrow, slot, hasher, PackedKey::V4)),
            SlotId::Wide(slot) => halves.wide.insert(hash, slot, |slot| bare_hash(wide, slot, hasher, PackedKey::Wide)),
        }
        halves.most = [0, 1].map(|at| halves.most[at].max(least[at]));
    }

    fn unlist(&mut self, slot: SlotId, hash: u64) {
        let Some(halves) = &mut self.tags.halves else { return };
        match slot {
            SlotId::V4(slot) => halves.narrow.remove(hash, slot),
            SlotId::Wide(slot) => halves.wide.remove(hash, slot),
        }
    }

    /// Strike a connection that ends from its list.
    #[inline]
    pub(super) fn remove_half(&mut self, slot: SlotId, key: &FlowKey) {
        if self.has_halves() && key.tags() != Tags::default() {
            let hash = self.hasher.words(&key.words().without_tags());
            self.unlist(slot, hash);
        }
    }

    pub(super) fn clear_halves(&mut self) {
        self.tags.halves = None;
    }

    /// Write the number of crowded connections, and the slots of the lists.
    pub(super) fn save_halves(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        out.put(&self.tags.crowded)?;
        let is_listed = |slot: &SlotId| self.is_listed(*slot);
        let narrow = (0..self.narrow.slots.reach()).filter(|slot| is_listed(&SlotId::V4(*slot)));
        out.put_all(narrow.clone().count(), narrow)?;
        let wide = (0..self.wide.slots.reach()).filter(|slot| is_listed(&SlotId::Wide(*slot)));
        out.put_all(wide.clone().count(), wide)
    }

    fn is_listed(&self, slot: SlotId) -> bool {
        let is_used = self.hot(slot).is_some_and(|hot| hot.flags.get() != 0);
        let words = self.words_at(slot).filter(|words| is_used && self.has_halves() && words.is_tagged());
        words.is_some_and(|words| {
            let (bare, mut found) = (words.without_tags(), false);
            self.halves_of(&bare, self.hasher.words(&bare), |half| found |= half == slot);
            found
        })
    }

    /// Read the lists into a table with all connections.
    pub(super) fn load_halves(&mut self, from: &mut Reader<impl Read>) -> Result<(), CheckpointError> {
        Count(self.tags.crowded) = from.get()?;
        for kind in [SlotId::V4, SlotId::Wide] {
            from.get_all(|slot: u32| {
                self.restore_half(kind(slot)).ok_or(CheckpointError::damaged("a list of tags has a wrong slot"))
            })?;
        }
        Ok(())
    }

    fn restore_half(&mut self, slot: SlotId) -> Option<()> {
        let words = self.words_at(slot).filter(PackedKey::is_tagged)?;
        let is_used = self.hot(slot).is_some_and(|hot| hot.flags.get() != 0);
        let (bare, mut count) = (words.without_tags(), 0);
        let hash = self.hasher.words(&bare);
        self.halves_of(&bare, hash, |_| count += 1);
        let may_list = is_used && self.tags.joins && count < MOST_HALVES && !self.is_listed(slot);
        may_list.then(|| self.list(slot, hash))
    }

    /// List the replies of the connections in a loaded table.
    pub(super) fn restore_replies(&mut self) -> Result<(), CheckpointError> {
        if !self.tags.joins {
            return Ok(());
        }
        let slots = (0..self.narrow.slots.reach()).map(SlotId::V4);
        for slot in slots.chain((0..self.wide.slots.reach()).map(SlotId::Wide)) {
            let Some(joined) = self.whole(slot).filter(|_| self.hot(slot).is_some_and(|hot| hot.flags.get() != 0))
            else {
                continue;
            };
            let id = joined.id as u32;
            let Some(reply) = joined.reply_key() else { continue };
            if self.reply_of(&reply).is_some() || !self.add_reply(slot, &reply, id) {
                return Err(CheckpointError::damaged("two connections have joined tags of one key"));
            }
        }
        Ok(())
    }
}

/// The hash of the key in a slot, without its tags.
fn bare_hash<const K: usize>(table: &Table<K>, slot: u32, hasher: &KeyHasher, pack: fn([u64; K]) -> PackedKey) -> u64
where
    KeyHasher: Hasher<K>,
{
    table.slot(slot).map_or(0, |slot| hasher.words(&pack(slot.key()).without_tags()))
}
