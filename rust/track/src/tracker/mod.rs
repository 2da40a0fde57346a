//! The tracker: one packet at a time through table, state machine and direction.

mod answer;
mod evictions;
mod gateway;
mod input;
mod keys;
mod label;
mod reorder;
mod room;
mod shortcut;
mod slow;
mod tags;

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::config::{Config, ServerPorts, VlanMode};
use crate::conn::{self, Flags, Limits};
use crate::connection::{Connection, EndReason};
use crate::direction::Direction;
use crate::flow::descriptor::Arrival;
use crate::flow::{Descriptor, Side};
use crate::policy::Policy;
use crate::proto::CtState;
use crate::table::{Expired, FinalConnection, FlowTable, NO_SLOT, Reader, SlotId};
use crate::zeek;
use conntrack_base::checkpoint::{self, CheckpointError, Count};
use conntrack_base::time::{Clock, SECOND};
use conntrack_decode::Packet;

pub use evictions::{Evictions, MOST_ERRORS};
pub use keys::{Keys, PacketLookup};
pub use label::Label;

use answer::Sent;
use evictions::Errors;
use input::{Context, Input};

/// The most connections that a checkpoint may have begun: a number has 48 bits in a row, and more follow.
const MOST_CONNECTIONS: u64 = 1 << 47;

/// A closed connection, with the reason.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The connection as of its end.
    pub what: FinalConnection,
    /// The scopes of its ends, as bits of [`crate::conn::path`].
    pub places: u32,
    /// The reason for the end.
    pub reason: EndReason,
    /// The capture time at which the tracker stopped, if the stop ended the connection.
    pub stopped: Option<i64>,
    /// The capture time of the end; None: alive when the tracker stopped.
    pub gone: Option<i64>,
}

impl Closed {
    /// The connection as of its end.
    pub fn connection(&self) -> Cow<'_, Connection> {
        self.what.connection()
    }
}

/// A tracker of the connections of a capture.
pub struct Tracker {
    table: FlowTable,
    clock: Clock,
    /// Connections due before this capture time are over, swept or not; and whether more of them may be left.
    swept: i64,
    pending: bool,
    keys: Keys,
    /// Zeek's boundaries of connections, with Zeek's server ports; None: those of nf_conntrack.
    zeek: Option<ServerPorts>,
    next_id: u64,
    /// Connections that the checkpoint had begun.
    begun_before: u64,
    /// Connections dropped for others, and packets that could not begin one.
    evicted: Evictions,
    refused: u64,
    errors: Errors,
    /// Join halves whose tags differ by direction.
    joins: bool,
    /// Take shortcuts.
    shortcuts: bool,
    /// Packets before this capture time may find a connection that is over: the last sweep; without shortcuts all
    /// packets.
    quick_from: i64,
    /// The policy on initiators; None: no restriction.
    policy: Option<Arc<Policy>>,
    /// See [`Config::reorder_window`].
    reorder_window: u64,
}

/// Connections that are visited for each record when due: more than records can begin.
const SWEEP: usize = 4;

impl Tracker {
    /// A tracker with an empty table.
    pub fn new(config: &Config) -> Self {
        Self::with_keys(config, Keys::new(config))
    }

    /// A tracker with an empty table, and keys in common with others.
    pub fn with_keys(config: &Config, keys: Keys) -> Self {
        let joins = config.vlan == VlanMode::Key && !config.zeek;
        let mut table = FlowTable::new(Limits::new(config.rules), config.bounds, keys.hasher().clone());
        if joins {
            table.join_tags();
        }
        Self {
            table,
            clock: Clock::default(),
            swept: i64::MIN,
            pending: false,
            keys,
            zeek: config.zeek.then(|| config.likely_server_ports.clone().unwrap_or_else(ServerPorts::zeek)),
            next_id: 0,
            begun_before: 0,
            evicted: Evictions::default(),
            refused: 0,
            errors: Errors::default(),
            joins,
            shortcuts: !config.zeek,
            quick_from: if config.zeek { i64::MAX } else { i64::MIN },
            policy: None,
            reorder_window: config.reorder_window.unsigned_abs(),
        }
    }

    /// Put the tracker behind a gateway with a policy on initiators. A dropped packet opens no entry: see
    /// [`Label::is_refused`]. Zeek's view has no such gateway.
    #[must_use]
    pub fn behind(mut self, policy: Arc<Policy>) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Send every packet down the slow path. The results are equal.
    #[must_use]
    pub fn without_shortcuts(mut self) -> Self {
        self.shortcuts = false;
        self.set_swept(self.swept);
        self
    }

    /// Write all state that later packets depend on.
    pub fn save(&self, out: &mut checkpoint::Writer<'_, impl Write>) -> io::Result<()> {
        out.put(&(self.clock, self.swept, self.pending))?;
        out.put(&(self.next_id, self.evicted.sum(), self.refused))?;
        self.table.save(out)
    }

    /// Read the state of a tracker of an equal configuration into a new tracker.
    pub fn load(&mut self, from: &mut checkpoint::Reader<impl Read>) -> Result<(), CheckpointError> {
        (self.clock, self.swept, self.pending) = from.get()?;
        // Counts of the account begin anew.
        let (Count(begun), Count(_), Count(_)) = from.get()?;
        (self.next_id, self.begun_before) = (begun, begun);
        if self.next_id > MOST_CONNECTIONS {
            return Err(CheckpointError::damaged("too many connections have begun"));
        }
        self.set_swept(self.swept);
        self.table.load(from)?;
        self.list_errors();
        Ok(())
    }

    /// The number of connections begun.
    pub fn begun(&self) -> u64 {
        self.next_id
    }

    /// The number of connections begun since the checkpoint, where there is one.
    pub fn begun_here(&self) -> u64 {
        self.next_id.saturating_sub(self.begun_before)
    }

    /// Connections dropped to make room, by the bound that was hit.
    pub fn evicted(&self) -> Evictions {
        self.evicted
    }

    /// The number of packets that would have begun a connection in a full table, where the search for a victim found
    /// assured connections only.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The number of connections with tags that no packet with other tags may join, for lack of room.
    pub fn crowded(&self) -> u64 {
        self.table.crowded()
    }

    /// Bytes of memory that the live connections take.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// The most live connections at any time.
    pub fn peak(&self) -> usize {
        self.table.peak()
    }

    /// The live connections, in no specified order.
    pub fn snapshot(&self) -> impl Iterator<Item = Connection> {
        self.table.snapshot()
    }

    /// Create a reader of the table, for any thread.
    pub fn reader(&mut self) -> Reader {
        self.table.reader()
    }

    /// Advance capture time: expired connections are passed to `closed`, a few at a time.
    #[inline]
    pub fn advance(&mut self, ts: i64, closed: impl FnMut(&Closed)) {
        let due = self.clock.tick(ts);
        self.pass(due, closed);
    }

    /// Advance capture time without a packet, as at two packets of this time, and end every connection that is over.
    pub fn advance_to(&mut self, ts: i64, mut closed: impl FnMut(&Closed)) {
        for _ in 0..2 {
            self.advance(ts, &mut closed);
        }
        if self.pending {
            self.sweep(usize::MAX, &mut closed);
        }
    }

    /// Advance capture time over these packets, if no second of the clock ends among them; false: the caller owes
    /// [`Self::advance`] for each. As many connections are visited as by single calls.
    pub fn is_quiet<I: Iterator<Item = i64>>(
        &mut self,
        count: usize,
        times: impl Fn() -> I,
        mut closed: impl FnMut(&Closed),
    ) -> bool {
        if !self.clock.pass(times()) {
            return false;
        }
        if self.pending {
            self.sweep(SWEEP * count, &mut closed);
        }
        true
    }

    /// Advance capture time by an external clock: `due` is its time.
    #[inline]
    pub fn pass(&mut self, due: Option<i64>, mut closed: impl FnMut(&Closed)) {
        if let Some(due) = due {
            let swept = due.div_euclid(SECOND).saturating_mul(SECOND);
            if swept < self.swept {
                // The clock went back; connections that were due are over all the same.
                self.sweep(usize::MAX, &mut closed);
            }
            self.set_swept(swept);
            self.pending = true;
        }
        if self.pending {
            self.sweep(SWEEP, &mut closed);
        }
    }

    fn set_swept(&mut self, swept: i64) {
        self.swept = swept;
        self.table.set_over(swept.saturating_sub(1));
        self.quick_from = if self.shortcuts { swept } else { i64::MAX };
    }

    #[inline(never)]
    fn sweep(&mut self, most: usize, closed: &mut impl FnMut(&Closed)) {
        for _ in 0..most {
            match self.table.expire(self.swept) {
                Expired::None => {
                    self.pending = false;
                    return;
                }
                Expired::NotYet => {}
                Expired::Now(slot, deadline) => self.end(slot, EndReason::Timeout, deadline, closed),
            }
        }
    }

    /// Process the packets of one record with these bytes, outermost first; the label is that of the innermost.
    pub fn record(&mut self, packets: &[Packet], bytes: &[u8], ts: i64, closed: impl FnMut(&Closed)) -> Label {
        match packets {
            [packet] => self.packet(packet, bytes, ts, self.related(packet, ts), closed),
            _ => self.record_at_length(packets, bytes, ts, closed),
        }
    }

    /// Process the packets of one record without descriptors.
    pub fn record_at_length(
        &mut self,
        packets: &[Packet],
        bytes: &[u8],
        ts: i64,
        mut closed: impl FnMut(&Closed),
    ) -> Label {
        if let [packet] = packets {
            return self.packet_at_length(packet, bytes, ts, self.related(packet, ts), closed);
        }
        let mut label = Label::outside(CtState::Untracked);
        let mut carrier = None;
        for (packet, more) in packets.iter().zip((0..packets.len()).rev()) {
            label = match self.zeek {
                // Zeek opens IP tunnels without a connection for them.
                Some(_) if more > 0 && zeek::is_ip_tunnel(packet) => continue,
                Some(_) => self.zeek_packet(packet, bytes, ts, carrier, &mut closed),
                None => {
                    let context = Context { related: self.related(packet, ts), carrier };
                    let input = Input { packet, frame: bytes, ts, context };
                    self.step_found(input, &mut closed)
                }
            };
            carrier = label.connection;
        }
        label
    }

    /// Process the only packet of a record; `related`: the label of the connection that the packet, an error, quotes.
    pub fn packet(
        &mut self,
        packet: &Packet,
        frame: &[u8],
        ts: i64,
        related: Option<Label>,
        mut closed: impl FnMut(&Closed),
    ) -> Label {
        if let Some((descriptor, wide)) = self.keys.describe(packet, ts, frame) {
            let arrival = Arrival { descriptor: &descriptor, wide: &wide, frame, decoded: Some(packet) };
            return self.take(&arrival, NO_SLOT, &mut closed);
        }
        self.packet_at_length(packet, frame, ts, related, closed)
    }

    /// Process the only packet of a record without a descriptor.
    pub fn packet_at_length(
        &mut self,
        packet: &Packet,
        frame: &[u8],
        ts: i64,
        related: Option<Label>,
        mut closed: impl FnMut(&Closed),
    ) -> Label {
        if self.zeek.is_some() {
            return self.zeek_packet(packet, frame, ts, None, &mut closed);
        }
        let context = Context { related, carrier: None };
        self.step_found(Input { packet, frame, ts, context }, &mut closed)
    }

    /// The slow path of a packet whose key is not yet looked up.
    fn step_found(&mut self, input: Input<'_>, closed: &mut impl FnMut(&Closed)) -> Label {
        let found = self.keys.of(input.packet);
        let mut slot = self.table.find(&found.lookup, NO_SLOT);
        if self.may_join(found.lookup.words.is_tagged()) {
            slot = slot.filter(|slot| !self.end_if_over(*slot, input.ts, closed));
            slot = slot.or_else(|| self.with_tags(&found, Sent::of(input.packet), input.ts, closed));
        }
        self.step(input, &found, slot, closed)
    }

    /// The current state of a key's connection.
    pub fn look(&self, found: &PacketLookup) -> Option<Connection> {
        self.table.look(self.slot_of(found)?)
    }

    /// The current state of an ordinary packet's connection, with a guess of its slot.
    pub fn look_one(&self, one: &Descriptor, wide: &[u64; 4], guess: u32) -> Option<Connection> {
        self.table.look(self.slot_of_one(one, wide, guess)?)
    }

    /// The originator of a key's connection, as known so far, and the resulting direction.
    pub fn known(&self, found: &PacketLookup) -> Option<(Side, Direction)> {
        self.known_at(self.slot_of(found)?)
    }

    /// The originator and direction of the connection that an ICMP error at `ts` quotes.
    pub fn known_quoted(&self, quoted: &PacketLookup, ts: i64) -> Option<(Side, Direction)> {
        self.known_at(self.quoted_slot(quoted, ts)?)
    }

    /// The originator and direction of an ordinary packet's connection, with a guess of its slot.
    #[inline]
    pub fn known_one(&self, one: &Descriptor, wide: &[u64; 4], guess: u32) -> Option<(Side, Direction)> {
        self.known_at(self.slot_of_one(one, wide, guess)?)
    }

    #[inline]
    fn slot_of_one(&self, one: &Descriptor, wide: &[u64; 4], guess: u32) -> Option<SlotId> {
        let slot = self.table.find_one(one, wide, guess);
        slot.or_else(|| self.table.by_reply(&self.keys.found(one, wide).lookup))
    }

    #[inline]
    fn known_at(&self, slot: SlotId) -> Option<(Side, Direction)> {
        let hot = self.table.hot(slot)?;
        let (flags, bits) = (Flags(hot.flags.get()), hot.path.get());
        let (orig, was_broadcast) = if flags.kind() == Flags::COLD || flags.has(Flags::TO_GROUP) {
            let connection = self.table.look(slot)?;
            (connection.orig, connection.was_broadcast())
        } else {
            (flags.orig(), false)
        };
        Some((orig, conn::direction(bits, orig, was_broadcast)))
    }

    /// The current capture time.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// The key maker of packets.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The table of live connections.
    pub fn table(&self) -> &FlowTable {
        &self.table
    }

    /// End every live connection.
    pub fn finish(&mut self, closed: impl FnMut(&Closed)) {
        self.finish_at(self.clock, closed);
    }

    /// End every live connection by an external clock.
    pub fn finish_at(&mut self, clock: Clock, mut closed: impl FnMut(&Closed)) {
        self.errors = Errors::default();
        self.table.drain(|last, places| {
            let is_over = last.deadline() <= clock.now();
            let cause = if is_over { EndReason::Timeout } else { EndReason::EndOfCapture };
            let when = if is_over { (None, Some(last.deadline())) } else { (Some(clock.end()), None) };
            hand_out(last, places, cause, when, &mut closed);
        });
    }

    /// The latest deadline that is over for a packet at `ts`; a late packet also finds swept deadlines over.
    #[inline]
    fn over_until(&self, ts: i64) -> i64 {
        ts.max(self.swept.saturating_sub(1))
    }

    fn related(&self, packet: &Packet, ts: i64) -> Option<Label> {
        self.about(&self.keys.quoted(packet)?, ts)
    }

    /// The label of an ICMP error that quotes a packet of this key: its connection and the direction of the error. None
    /// where a gateway has no entry.
    pub fn about(&self, quoted: &PacketLookup, ts: i64) -> Option<Label> {
        let connection = self.table.look(self.quoted_slot(quoted, ts)?)?;
        let lives = |deadline: i64| deadline > self.over_until(ts);
        let entry = connection.gateway.as_ref().filter(|entry| lives(entry.deadline) && lives(connection.deadline))?;
        // The error travels in the direction of the other side's packets.
        let side = quoted.side.other();
        Some(Label::new(connection.id, (CtState::Related, entry.dir(side), entry.reported_state()), side))
    }
}

/// Pass on a closed connection; see [`Closed`].
#[inline]
fn hand_out(
    what: FinalConnection,
    places: u32,
    cause: EndReason,
    (stopped, gone): (Option<i64>, Option<i64>),
    closed: &mut impl FnMut(&Closed),
) {
    let reason = what.end_reason(cause);
    closed(&Closed { what, places, reason, stopped, gone });
}
