//! The slow path: any packet, by the rules that the shortcuts follow where those apply.
//!
//! A step expands the whole connection from its record, or begins one. Then the step asks the gateway, counts, infers
//! the originator and advances Zeek's view. At the end the record is written again, which decides on shortcuts for the
//! next packet.

use crate::connection::{Connection, EndReason, Evidence};
use crate::direction;
use crate::flow::Side;
use crate::proto::CtState;
use crate::table::{FinalConnection, Lookup, NO_SLOT, SlotId};
use crate::zeek::{self, Roles};
use conntrack_decode::{L4, Packet, ipproto};

use super::gateway::{Answer, INVALID, Outcome, ask_gateway, ask_gateway_within};
use super::input::{Context, Input};
use super::label::Label;
use super::{Closed, PacketLookup, Tracker, hand_out};

/// The connection of a step on the slow path: the number of its cold part, its slot if any, and the positions of its
/// ends.
pub(super) struct SlowStep {
    pub(super) cold: u32,
    pub(super) slot: Option<SlotId>,
    places: u32,
}

impl Tracker {
    /// The slow path: process any packet. `slot`: the slot of its connection, if there is one.
    #[inline(never)]
    pub(super) fn step(
        &mut self,
        Input { packet, frame, ts, context }: Input<'_>,
        found: &PacketLookup,
        slot: Option<SlotId>,
        closed: &mut impl FnMut(&Closed),
    ) -> Label {
        let PacketLookup { lookup, side } = *found;
        let Some(held) = self.hold(&lookup, slot, packet, (side, ts), closed) else {
            return Label::outside(CtState::Invalid);
        };
        let numbered = packet.is_unnumbered().then(|| self.in_order(packet, held.cold, side));
        let packet = numbered.as_ref().unwrap_or(packet);
        let input = Input { packet, frame, ts, context };
        let (held, side, outcome) = match self.early(&held, packet, side, ts) {
            Some(early) => self.put_right(held, &lookup, input, (side, early), closed),
            None => self.take_in(held, &lookup, input, side, closed),
        };
        self.settle(&held, &lookup, (ts, context), (outcome, side), closed)
    }

    /// Ask the gateway, count, infer the originator, and advance Zeek's view. Returns also the connection that the
    /// packet belongs to: its own, or the one that it opens.
    pub(super) fn take_in(
        &mut self,
        held: SlowStep,
        lookup: &Lookup,
        Input { packet, frame, ts, context }: Input<'_>,
        side: Side,
        closed: &mut impl FnMut(&Closed),
    ) -> (SlowStep, Side, Outcome) {
        let (held, side, outcome) = self.ask(held, lookup, packet, (side, ts), closed);
        if let Some(connection) = self.table.cold(held.cold) {
            // The receiver drops packets with a wrong checksum, which count for nothing.
            if !packet.bad_checksum {
                connection.note_tags(packet, side);
                connection.count(packet, side, ts);
                if packet.packets > 0 {
                    direction::infer(connection, packet, frame, side);
                }
            }
            if context.related.is_some() {
                connection.evidence = connection.evidence.max(Evidence::Related);
            }
            if packet.complete && !packet.bad_header {
                connection.zeek.note(packet, side, connection.orig, Roles::Given, ts);
            }
        }
        (held, side, outcome)
    }

    /// Process a packet by Zeek's boundaries of connections. The gateway is also asked, but its entries begin and end
    /// within the connection.
    pub(super) fn zeek_packet(
        &mut self,
        packet: &Packet,
        frame: &[u8],
        ts: i64,
        carrier: Option<u64>,
        closed: &mut impl FnMut(&Closed),
    ) -> Label {
        // Zeek sees datagrams after reassembly, and none without a header.
        if !packet.complete || packet.bad_header || zeek::is_truncated(packet) {
            return Label::outside(CtState::Invalid);
        }
        if zeek::is_extension(packet) {
            return Label::outside(CtState::Untracked);
        }
        let PacketLookup { lookup, side } = self.keys.of(packet);
        let context = Context { related: self.related(packet, ts), carrier };
        let begun = self.next_id;
        let slot = self.table.find(&lookup, NO_SLOT);
        let Some(held) = self.hold(&lookup, slot, packet, (side, ts), closed) else {
            return Label::outside(CtState::Invalid);
        };
        let numbered = packet.is_unnumbered().then(|| self.in_order(packet, held.cold, side));
        let packet = numbered.as_ref().unwrap_or(packet);
        let rules = self.table.limits().rules;
        let (Some(ports), Some(connection)) = (self.zeek.as_ref(), self.table.cold(held.cold)) else {
            return Label::outside(CtState::Invalid);
        };
        if self.next_id > begun {
            direction::begin_as_zeek(connection, packet, ports);
        }
        let (side, outcome) = ask_gateway_within(connection, packet, side, ts, &rules);
        let readable = !(packet.malformed && packet.tuple.proto == ipproto::TCP);
        if readable {
            direction::follow_zeek(connection, packet, side, ts);
            if !packet.bad_checksum {
                connection.count(packet, side, ts);
                direction::read_as_zeek(connection, packet, frame, side, ports);
            }
        }
        self.settle(&held, &lookup, (ts, context), (outcome, side), closed)
    }

    /// End a step, and return the packet's label.
    fn settle(
        &mut self,
        held: &SlowStep,
        lookup: &Lookup,
        (ts, context): (i64, Context),
        (outcome, side): (Outcome, Side),
        closed: &mut impl FnMut(&Closed),
    ) -> Label {
        let Some((connection, rules)) = self.table.cold_and_rules(held.cold) else {
            return Label::outside(CtState::Invalid);
        };
        connection.set_deadline(ts, rules);
        let id = connection.id;
        let related = context.related.and_then(|label| label.connection);
        connection.related_to = connection.related_to.or(related);
        connection.carrier = connection.carrier.or(context.carrier);
        let label = context.related.unwrap_or(Label::new(connection.id, outcome, side));
        let slot = match held.slot {
            Some(slot) => {
                self.table.settle(slot, held.cold);
                Some(slot)
            }
            None => self.table.insert_cold(lookup, held.cold, held.places),
        };
        if let Some(slot) = slot.filter(|_| self.table.is_bounded()) {
            if held.slot.is_none() {
                self.note_error(lookup, slot, id);
            }
            self.give_back(slot, ts, closed);
        }
        label
    }

    /// The connection of a packet's key for a step, or a new one; None where the packet may not begin one, or without
    /// room.
    fn hold(
        &mut self,
        lookup: &Lookup,
        slot: Option<SlotId>,
        packet: &Packet,
        (side, ts): (Side, i64),
        closed: &mut impl FnMut(&Closed),
    ) -> Option<SlowStep> {
        if let Some(slot) = slot {
            let deadline = self.table.hot(slot)?.deadline(self.table.limits());
            if deadline <= self.over_until(ts) {
                self.end(slot, EndReason::Timeout, deadline, closed);
            } else {
                let cold = self.table.step(slot)?;
                let is_reuse = |orig: &Connection| self.zeek.is_some() && orig.zeek.is_reuse(packet, orig.orig);
                if !self.table.cold(cold).is_some_and(|connection| is_reuse(connection)) {
                    return Some(SlowStep { cold, slot: Some(slot), places: 0 });
                }
                self.table.settle(slot, cold);
                self.end(slot, EndReason::Reused, ts, closed);
            }
        }
        if !may_begin(packet) || !self.make_room(lookup, true, ts, closed) {
            return None;
        }
        self.begin(lookup, packet, side, ts)
    }

    /// Remove a connection that is over since `gone` from the table.
    pub(super) fn end(&mut self, slot: SlotId, cause: EndReason, gone: i64, closed: &mut impl FnMut(&Closed)) {
        let Self { table, errors, .. } = self;
        table.remove(slot, |last, places| {
            errors.note_end(&last);
            hand_out(last, places, cause, (None, Some(gone)), closed);
        });
    }

    /// Begin a connection; None for a later fragment whose connection is gone.
    fn begin(&mut self, lookup: &Lookup, packet: &Packet, side: Side, ts: i64) -> Option<SlowStep> {
        if !may_begin(packet) {
            return None;
        }
        let roles = if self.zeek.is_some() { Roles::Zeek } else { Roles::Given };
        let key = lookup.key();
        let connection = Connection::begin(key, self.next_id, side, packet, roles, ts);
        let cold = self.table.begin(connection)?;
        self.next_id += 1;
        Some(SlowStep { cold, slot: None, places: self.keys.places(&key) })
    }

    /// Ask the gateway. A packet that opens a new entry over an old one ends the old connection and begins another.
    fn ask(
        &mut self,
        mut held: SlowStep,
        lookup: &Lookup,
        packet: &Packet,
        (side, ts): (Side, i64),
        closed: &mut impl FnMut(&Closed),
    ) -> (SlowStep, Side, Outcome) {
        loop {
            let Some((connection, rules)) = self.table.cold_and_rules(held.cold) else {
                return (held, side, INVALID);
            };
            match ask_gateway(connection, packet, side, ts, (rules, self.policy.as_deref())) {
                Answer::Outcome(side, outcome) => return (held, side, outcome),
                Answer::OpensAnew => {
                    let Some(begun) = self.begin(lookup, packet, side, ts) else { return (held, side, INVALID) };
                    let old = std::mem::replace(&mut held, begun);
                    match old.slot {
                        Some(slot) => {
                            self.table.settle(slot, old.cold);
                            self.end(slot, EndReason::Reused, ts, closed);
                        }
                        None => {
                            if let Some(connection) = self.table.forget(old.cold) {
                                let last = FinalConnection::Whole(connection);
                                hand_out(last, old.places, EndReason::Reused, (None, Some(ts)), closed);
                            }
                        }
                    }
                }
            }
        }
    }

    /// A segment without numbers as if all segments had come once and in order.
    fn in_order(&mut self, packet: &Packet, cold: u32, side: Side) -> Packet {
        let mut packet = *packet;
        if let (L4::Tcp(segment), Some(connection)) = (&mut packet.l4, self.table.cold(cold)) {
            *segment = segment.numbered(connection.zeek.in_order(segment.flags, side));
        }
        packet
    }
}

/// Test for a packet that may begin a connection: no later fragment whose connection is gone.
fn may_begin(packet: &Packet) -> bool {
    packet.packets > 0 || packet.complete
}
