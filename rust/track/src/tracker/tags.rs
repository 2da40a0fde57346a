//! Packets whose tags differ by direction: a packet without a connection of its own joins the one that it answers.
//!
//! A switch may tag one direction only, or each with another VLAN; a fabric may return traffic in another VXLAN
//! segment. Tenants may also use equal five-tuples under different tags. So a packet joins a connection with other tags
//! only where all of these hold:
//!
//! * the connection was seen one way only, from the other end, is alive, and was not joined before;
//! * address family, protocol, ports and the kind of tunnel are equal;
//! * TCP: the sequence numbers fit ([`Sent::fits`]); of several connections an exact one, then the oldest;
//! * others, and segments with known flags alone: exactly one connection fits.
//!
//! A join holds until the connection ends. Until then, packets with either tags belong to the connection. Two
//! connections that both exist are never merged: labels of their packets were already given.

use crate::conn::Flags;
use crate::flow::{Side, Tags};
use crate::table::{NO_SLOT, SlotId};
use crate::zeek::EndState;
use conntrack_decode::{Packet, ipproto};

use super::answer::{Fit, Half, HalfStream, Opening, Sent};
use super::{Closed, EndReason, PacketLookup, Tracker};

impl Tracker {
    /// Test whether a packet may belong to a connection with other tags. `is_tagged`: the packet's key has tags.
    #[inline]
    pub(super) fn may_join(&self, is_tagged: bool) -> bool {
        self.joins && (is_tagged || self.table.has_halves())
    }

    /// End a connection that is over for a packet at `ts`; false: the connection is alive.
    pub(super) fn end_if_over(&mut self, slot: SlotId, ts: i64, closed: &mut impl FnMut(&Closed)) -> bool {
        let deadline = self.table.hot(slot).map(|hot| hot.deadline(self.table.limits()));
        let over = deadline.filter(|deadline| *deadline <= self.over_until(ts));
        if let Some(deadline) = over {
            self.end(slot, EndReason::Timeout, deadline, closed);
        }
        over.is_some()
    }

    /// The live connection of a packet whose key has none: joined by the key before, or joined now.
    #[inline(never)]
    pub(super) fn with_tags(
        &mut self,
        found: &PacketLookup,
        sent: Sent,
        ts: i64,
        closed: &mut impl FnMut(&Closed),
    ) -> Option<SlotId> {
        if let Some(slot) = self.table.by_reply(&found.lookup)
            && !self.end_if_over(slot, ts, closed)
        {
            return Some(slot);
        }
        let half = self.answered(found, sent, self.over_until(ts))?;
        self.table.join(half, &found.lookup).then_some(half)
    }

    /// The connection with other tags that a packet answers.
    fn answered(&self, found: &PacketLookup, sent: Sent, until: i64) -> Option<SlotId> {
        let (mut best, mut count) = (None, 0);
        self.table.others(&found.lookup, |slot| {
            let Some(half) = self.half(slot, found.side, until) else { return };
            let Some(fit) = sent.fits(&half) else { return };
            count += 1;
            if best.is_none_or(|(fit_before, id, _)| (fit, half.id) < (fit_before, id)) {
                best = Some((fit, half.id, slot));
            }
        });
        best.filter(|(fit, ..)| *fit != Fit::Opposite || count == 1).map(|(.., slot)| slot)
    }

    /// The live connection of a quoted packet: with its key, joined by its key, or the only one of one direction with
    /// other tags, which the error then has.
    pub(super) fn quoted_slot(&self, quoted: &PacketLookup, ts: i64) -> Option<SlotId> {
        let until = self.over_until(ts);
        let lives = |slot: &SlotId| self.table.hot(*slot).is_some_and(|hot| hot.deadline(self.table.limits()) > until);
        let slot = self.slot_of(quoted).filter(lives);
        if slot.is_some() || !self.may_join(quoted.lookup.words.is_tagged()) {
            return slot;
        }
        let opposite = PacketLookup { side: quoted.side.other(), ..*quoted };
        let (mut only, mut count) = (None, 0);
        self.table.others(&opposite.lookup, |slot| {
            if self.half(slot, opposite.side, until).is_some() {
                only = Some(slot);
                count += 1;
            }
        });
        only.filter(|_| count == 1)
    }

    /// The slot of a key's connection: with the key, or joined by packets with the key.
    #[inline]
    pub(super) fn slot_of(&self, found: &PacketLookup) -> Option<SlotId> {
        let slot = self.table.find(&found.lookup, NO_SLOT);
        slot.or_else(|| self.table.by_reply(&found.lookup))
    }

    /// The connection in a slot, if alive, not joined, and seen only from the side other than `side`.
    fn half(&self, slot: SlotId, side: Side, until: i64) -> Option<Half> {
        let (hot, whole) = (self.table.hot(slot)?, self.table.whole(slot));
        let (own, peer) = (side.other() as usize, side as usize);
        let senders = self.table.senders(slot)?;
        let is_joined = whole.is_some_and(|whole| whole.reply_tags.is_some());
        let is_over = hot.deadline(self.table.limits()) <= until;
        if is_joined || is_over || senders[peer] || !senders[own] {
            return None;
        }
        let expects = |start: u32, last: u32| ((start, last) != (0, 0)).then(|| start.wrapping_add(1));
        let Some(whole) = whole else {
            let is_tcp = Flags(hot.flags.get()).kind() == Flags::TCP;
            let (start, last) = (hot.first[own].get(), hot.next[own].get());
            let stream = is_tcp.then_some(HalfStream { opening: Opening::Syn, start, last, expects: None });
            return Some(Half { id: hot.id.get().into(), stream });
        };
        let is_tcp = whole.key.proto == ipproto::TCP;
        let (end, unseen) = (&whole.zeek.ends[own], &whole.zeek.ends[peer]);
        if is_tcp && !end.seen {
            return None;
        }
        let opening = match (end.state, end.before) {
            (EndState::SynSent, _) | (_, EndState::SynSent) => Opening::Syn,
            (EndState::SynAckSent | EndState::Established, _) | (_, EndState::SynAckSent | EndState::Established) => {
                Opening::SynAck
            }
            _ => Opening::Unseen,
        };
        let is_behind = Flags(hot.flags.get()).kind() == Flags::TCP;
        let (last, expects) = if is_behind {
            (hot.next[own].get(), expects(hot.first[peer].get(), hot.next[peer].get()))
        } else {
            (end.last, expects(unseen.start, unseen.last))
        };
        let stream = HalfStream { opening, start: end.start, last, expects };
        Some(Half { id: whole.id, stream: is_tcp.then_some(stream) })
    }

    /// Test for a packet of a record with tags outside of the key, which a record has no room for.
    #[inline]
    pub(super) fn brings_tags(&self, decoded: Option<&Packet>) -> bool {
        !self.keys.contain_tags() && decoded.is_some_and(|packet| Tags::of(packet) != Tags::default())
    }
}
