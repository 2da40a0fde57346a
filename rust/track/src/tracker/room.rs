//! Room for new connections: early drop, and the bound on ICMP errors.
//!
//! Errors about unknown connections open no entry in a kernel. Here each has a row. A flood of them would evict
//! half-open connections, so that a bounded table holds a limited number, and evicts the oldest of them.

use crate::config::Bounds;
use crate::connection::EndReason;
use crate::flow::PackedKey;
use crate::table::{Full, Lookup, NO_SLOT, SlotId};

use super::evictions::{Errors, MOST_ERRORS};
use super::{Closed, Tracker};

/// Connections evicted for one packet: more than one where memory grew, or a bound became smaller.
const MOST_EVICTED: usize = 8;

impl Tracker {
    /// Make room for a connection, with a wide key or not, with a cold part or not, by the kernel's rule of early drop;
    /// false: no room.
    #[inline]
    pub(super) fn make_room(
        &mut self,
        lookup: &Lookup,
        is_cold: bool,
        ts: i64,
        closed: &mut impl FnMut(&Closed),
    ) -> bool {
        !self.table.is_bounded() || self.make_room_within(lookup, is_cold, ts, closed)
    }

    #[inline(never)]
    fn make_room_within(&mut self, lookup: &Lookup, is_cold: bool, ts: i64, closed: &mut impl FnMut(&Closed)) -> bool {
        let is_wide = matches!(lookup.words, PackedKey::Wide(_));
        if is_cold && lookup.key().is_one_way() {
            self.make_room_for_error(ts, closed);
        }
        for _ in 0..MOST_EVICTED {
            let Some(full) = self.table.full(is_wide, is_cold) else { return true };
            let Some(victim) = self.table.victim(full, is_wide) else {
                self.refused += 1;
                return false;
            };
            self.evict(victim, full, ts, closed);
        }
        // The table has become smaller all the same.
        true
    }

    fn evict(&mut self, victim: SlotId, full: Full, ts: i64, closed: &mut impl FnMut(&Closed)) {
        match full {
            Full::Connections => self.evicted.connections += 1,
            Full::Slots | Full::Colds => self.evicted.memory += 1,
        }
        self.end(victim, EndReason::Evicted, ts, closed);
    }

    /// Evict connections after a step that took memory: those that are not assured, or else the one of the step.
    #[inline]
    pub(super) fn give_back(&mut self, slot: SlotId, ts: i64, closed: &mut impl FnMut(&Closed)) {
        if self.table.has_outgrown() {
            self.give_back_now(slot, ts, closed);
        }
    }

    #[inline(never)]
    fn give_back_now(&mut self, slot: SlotId, ts: i64, closed: &mut impl FnMut(&Closed)) {
        for _ in 0..MOST_EVICTED {
            if !self.table.has_outgrown() {
                return;
            }
            let Some(victim) = self.table.victim(Full::Colds, false) else { break };
            self.evict(victim, Full::Colds, ts, closed);
            if victim == slot {
                return;
            }
        }
        if self.table.has_outgrown() {
            self.evict(slot, Full::Colds, ts, closed);
        }
    }

    fn make_room_for_error(&mut self, ts: i64, closed: &mut impl FnMut(&Closed)) {
        while self.errors.live >= MOST_ERRORS {
            let Some((slot, id)) = self.errors.begun.pop_front() else { break };
            if self.is_error_at(slot, id) {
                self.evicted.errors += 1;
                self.end(slot, EndReason::Evicted, ts, closed);
            }
        }
        if self.errors.begun.len() >= 2 * MOST_ERRORS {
            let begun = std::mem::take(&mut self.errors.begun);
            self.errors.begun = begun.into_iter().filter(|(slot, id)| self.is_error_at(*slot, *id)).collect();
        }
    }

    fn is_error_at(&self, slot: SlotId, id: u64) -> bool {
        self.table.whole(slot).is_some_and(|connection| connection.id == id)
    }

    /// Note a new connection, which may be that of an error.
    pub(super) fn note_error(&mut self, lookup: &Lookup, slot: SlotId, id: u64) {
        if lookup.key().is_one_way() {
            self.errors.begun.push_back((slot, id));
            self.errors.live += 1;
        }
    }

    /// Set other bounds. A table beyond them shrinks as connections begin.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.table.set_bounds(bounds);
        self.list_errors();
    }

    /// List the errors of a table.
    pub(super) fn list_errors(&mut self) {
        self.errors = Errors::default();
        if !self.table.is_bounded() {
            return;
        }
        let mut errors: Vec<_> = self.table.snapshot().filter(|one| one.key.is_one_way()).collect();
        errors.sort_unstable_by_key(|one| one.id);
        for one in errors {
            let lookup = self.keys.of_key(&one.key);
            if let Some(slot) = self.table.find(&lookup, NO_SLOT) {
                self.note_error(&lookup, slot, one.id);
            }
        }
    }
}
