//! Handshakes stored in an order that TCP cannot have: see [`crate::early`].

use crate::connection::{Connection, Evidence};
use crate::early::{self, Early, EarlySegment};
use crate::flow::Side;
use crate::table::Lookup;
use crate::zeek::Roles;
use conntrack_decode::Packet;

use super::gateway::Outcome;
use super::input::{Context, Input};
use super::slow::SlowStep;
use super::{Closed, Tracker};

impl Tracker {
    /// The segments that this packet, the SYN, belongs before. None: another packet; a SYN+ACK without its SYN is
    /// remembered.
    #[inline]
    pub(super) fn early(&mut self, held: &SlowStep, packet: &Packet, side: Side, ts: i64) -> Option<Early> {
        let waits = self.table.cold(held.cold).is_some_and(|connection| connection.reorder.is_some());
        if waits || early::is_syn_ack(packet) { self.follow(held, packet, side, ts) } else { None }
    }

    #[cold]
    fn follow(&mut self, held: &SlowStep, packet: &Packet, side: Side, ts: i64) -> Option<Early> {
        let (window, begins) = (self.reorder_window, held.slot.is_none());
        let connection = self.table.cold(held.cold)?;
        let early = connection.take_early();
        if window == 0 {
            return None;
        }
        if let Some(early) = early {
            let segment = EarlySegment::of(packet, ts)?;
            if early.side != side && early.answers(&segment, window) {
                return Some(early);
            }
            if let Some(early) = early.extended(&segment, side, window) {
                connection.set_early(early);
                return None;
            }
        }
        if early::is_syn_ack(packet)
            && let Some(segment) = EarlySegment::of(packet, ts)
            && let Some(early) = unanswered(connection, segment, side, begins)
        {
            connection.set_early(early);
        }
        None
    }

    /// Process a SYN before the segments that were stored before it. The SYN opens the connection, or another one, as
    /// in the order sent; the segments follow. Times stay as stamped: the connection starts at the earlier one, and the
    /// gateway sees no segment before the SYN.
    #[cold]
    pub(super) fn put_right(
        &mut self,
        held: SlowStep,
        lookup: &Lookup,
        syn: Input<'_>,
        (side, mut early): (Side, Early),
        closed: &mut impl FnMut(&Closed),
    ) -> (SlowStep, Side, Outcome) {
        let before = early.before.take();
        let begins = before.is_none();
        let mut key = lookup.key();
        if let Some(connection) = self.table.cold(held.cold) {
            key = connection.key;
            if let Some(before) = before {
                connection.go_back(*before, &early);
            } else {
                // The direction of the SYN is the first one, and the SYN+ACK has the tags of the reply.
                let tags = connection.tags();
                *connection = Connection::begin(key, connection.id, side, syn.packet, Roles::Given, syn.ts);
                connection.reply_tags = Some(tags).filter(|tags| *tags != connection.tags());
            }
        }
        let (mut held, side, outcome) = self.take_in(held, lookup, syn, side, closed);
        let begins = begins || held.slot.is_none();
        let sender = early.side;
        for segment in &early.segments {
            let packet = segment.packet(&key, sender);
            let input = Input { packet: &packet, frame: &[], ts: segment.ts.max(syn.ts), context: Context::default() };
            held = self.take_in(held, lookup, input, sender, closed).0;
        }
        if let (Some(connection), Some(first)) = (self.table.cold(held.cold), early.segments.first()) {
            let reorder = connection.reorder.get_or_insert_default();
            reorder.lead.get_or_insert(syn.ts.saturating_sub(first.ts));
            if begins {
                connection.start = connection.start.min(first.ts);
            }
        }
        (held, side, outcome)
    }
}

/// The memory of a SYN+ACK; None where its SYN came before. `begins`: the segment begins the connection.
fn unanswered(connection: &Connection, segment: EarlySegment, side: Side, begins: bool) -> Option<Early> {
    let syn = segment.tcp.ack.wrapping_sub(1);
    if connection.key.is_self() || connection.zeek.has_syn(side.other(), syn) {
        return None;
    }
    // Payloads that may name the originator are not kept.
    let is_told = begins || segment.payload_bytes == 0 || connection.evidence >= Evidence::Syn;
    let before = (!begins).then(|| connection.before());
    is_told.then(|| Early::begin(side, segment, before))
}
