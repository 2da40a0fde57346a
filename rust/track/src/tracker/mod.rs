//! The tracker: one packet at a time through table, state machine and direction.

mod gateway;
mod input;
mod keys;
mod label;
mod shortcut;
mod slow;

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::config::{Config, ServerPorts};
use crate::conn::{self, Flags, Limits};
use crate::connection::{Connection, EndReason};
use crate::direction::Direction;
use crate::flow::descriptor::Arrival;
use crate::flow::{Descriptor, Side};
use crate::policy::Policy;
use crate::proto::CtState;
use crate::table::{Expired, FlowTable, Last, NO_SLOT, Reader, SlotId};
use crate::zeek;
use conntrack_base::checkpoint::{self, CheckpointError, Count};
use conntrack_base::time::{Clock, SECOND};
use conntrack_decode::Packet;

pub use keys::{Found, Keys};
pub use label::Label;

use input::{Context, Input};

/// Connections that a checkpoint may have begun: a number has 48 bits in a row, and more follow.
const MOST_CONNECTIONS: u64 = 1 << 47;

/// A connection that is over, and why.
#[derive(Clone, Debug)]
pub struct Closed {
    /// As it was at the end.
    pub what: Last,
    /// Where its ends are, as bits of [`crate::conn::path`].
    pub places: u32,
    /// Why it is over.
    pub reason: EndReason,
    /// The capture time at which the tracker stopped, if that is what ended it.
    pub stopped: Option<i64>,
    /// The capture time at which it was over; it lived on where the tracker stopped.
    pub gone: Option<i64>,
}

impl Closed {
    /// The connection as it was at the end.
    pub fn connection(&self) -> Cow<'_, Connection> {
        self.what.connection()
    }
}

/// Follows connections through a capture.
pub struct Tracker {
    table: FlowTable,
    clock: Clock,
    /// What was due before this capture time is over, whether it was swept or not; and whether there may be more of it.
    swept: i64,
    pending: bool,
    keys: Keys,
    /// Whose connections these are: ours, or Zeek's with its server ports.
    zeek: Option<ServerPorts>,
    next_id: u64,
    /// Connections that gave way to others, and packets that could not begin one.
    evicted: u64,
    refused: u64,
    /// Shortcuts are taken.
    shortcuts: bool,
    /// Earlier packets may find a connection that is over: what was swept, or with no shortcuts everything.
    quick_from: i64,
    /// Who may initiate; None: everybody.
    policy: Option<Arc<Policy>>,
}

/// How many connections that may be due are looked at for each record: more than records can begin.
const SWEEP: usize = 4;

impl Tracker {
    /// A tracker with an empty table.
    pub fn new(config: &Config) -> Self {
        Self::with_keys(config, Keys::new(config))
    }

    /// The same, with keys that others have, too.
    pub fn with_keys(config: &Config, keys: Keys) -> Self {
        Self {
            table: FlowTable::new(Limits::new(config.rules), config.bounds, keys.hasher().clone()),
            clock: Clock::default(),
            swept: i64::MIN,
            pending: false,
            keys,
            zeek: config.zeek.then(|| config.likely_server_ports.clone().unwrap_or_else(ServerPorts::zeek)),
            next_id: 0,
            evicted: 0,
            refused: 0,
            shortcuts: !config.zeek,
            quick_from: if config.zeek { i64::MAX } else { i64::MIN },
            policy: None,
        }
    }

    /// The same behind a gateway that lets nobody initiate but whom the policy allows. A packet that it drops opens no
    /// entry: see [`Label::is_refused`]. Zeek's view knows no such gateway.
    #[must_use]
    pub fn behind(mut self, policy: Arc<Policy>) -> Self {
        self.policy = Some(policy);
        self
    }

    /// The same without shortcuts: every packet takes the slow path. The answers are the same.
    #[must_use]
    pub fn without_shortcuts(mut self) -> Self {
        self.shortcuts = false;
        self.set_swept(self.swept);
        self
    }

    /// Writes everything that the next packet may meet.
    pub fn save(&self, out: &mut checkpoint::Writer<'_, impl Write>) -> io::Result<()> {
        out.put(&(self.clock, self.swept, self.pending))?;
        out.put(&(self.next_id, self.evicted, self.refused))?;
        self.table.save(out)
    }

    /// Reads what was written by a tracker of the same configuration; nothing was tracked yet.
    pub fn load(&mut self, from: &mut checkpoint::Reader<impl Read>) -> Result<(), CheckpointError> {
        (self.clock, self.swept, self.pending) = from.get()?;
        (Count(self.next_id), Count(self.evicted), Count(self.refused)) = from.get()?;
        if self.next_id > MOST_CONNECTIONS {
            return Err(CheckpointError::damaged("too many connections have begun"));
        }
        self.set_swept(self.swept);
        self.table.load(from)
    }

    /// How many connections have begun.
    pub fn begun(&self) -> u64 {
        self.next_id
    }

    /// Connections that were ended because there was no room for another one.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Packets that would have begun a connection, and found no room because every other one is assured.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Bytes of memory that the live connections take.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// The most connections that lived at once.
    pub fn peak(&self) -> usize {
        self.table.peak()
    }

    /// The live connections, in no promised order.
    pub fn snapshot(&self) -> impl Iterator<Item = Connection> {
        self.table.snapshot()
    }

    /// Reads its table from any thread, while it works.
    pub fn reader(&mut self) -> Reader {
        self.table.reader()
    }

    /// Lets capture time pass: connections that timed out are handed to `closed`, a few at a time.
    #[inline]
    pub fn advance(&mut self, ts: i64, closed: impl FnMut(&Closed)) {
        let due = self.clock.tick(ts);
        self.pass(due, closed);
    }

    /// Lets the time of so many packets pass at once, if no second of the clock ends among them; false: [`Self::advance`] has
    /// to be asked for each. As many connections are looked at as would have been.
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

    /// The same where somebody else has the clock: `due` is what it says.
    #[inline]
    pub fn pass(&mut self, due: Option<i64>, mut closed: impl FnMut(&Closed)) {
        if let Some(due) = due {
            let swept = due.div_euclid(SECOND).saturating_mul(SECOND);
            if swept < self.swept {
                // The clock went back; what was due is over all the same.
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

    /// Takes the packets of one record, whose bytes these are, outermost first; the label speaks of the innermost.
    pub fn record(&mut self, packets: &[Packet], bytes: &[u8], ts: i64, closed: impl FnMut(&Closed)) -> Label {
        match packets {
            [packet] => self.packet(packet, bytes, ts, self.related(packet, ts), closed),
            _ => self.record_at_length(packets, bytes, ts, closed),
        }
    }

    /// The same where no packet has a descriptor.
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
                    let found = self.keys.of(packet);
                    self.step(input, &found, self.table.find(&found.lookup, NO_SLOT), &mut closed)
                }
            };
            carrier = label.connection;
        }
        label
    }

    /// Takes the only packet of a record; `related`: the label of the connection that it is an error about.
    pub fn packet(
        &mut self,
        packet: &Packet,
        frame: &[u8],
        ts: i64,
        related: Option<Label>,
        mut closed: impl FnMut(&Closed),
    ) -> Label {
        if let Some((descriptor, broad)) = self.keys.describe(packet, ts, frame) {
            let arrival = Arrival { descriptor: &descriptor, broad: &broad, frame, decoded: Some(packet) };
            return self.take(&arrival, NO_SLOT, &mut closed);
        }
        self.packet_at_length(packet, frame, ts, related, closed)
    }

    /// The same of a packet that has no descriptor.
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
        let found = self.keys.of(packet);
        let slot = self.table.find(&found.lookup, NO_SLOT);
        self.step(Input { packet, frame, ts, context }, &found, slot, &mut closed)
    }

    /// The connection of a key as it is now.
    pub fn look(&self, found: &Found) -> Option<Connection> {
        self.table.look(self.table.find(&found.lookup, NO_SLOT)?)
    }

    /// Who initiated the connection of a key, as far as is known, and the direction that makes.
    pub fn known(&self, found: &Found) -> Option<(Side, Direction)> {
        self.known_at(self.table.find(&found.lookup, NO_SLOT)?)
    }

    /// The same of an ordinary packet's connection, which may be in this slot.
    #[inline]
    pub fn known_one(&self, one: &Descriptor, broad: &[u64; 4], guess: u32) -> Option<(Side, Direction)> {
        self.known_at(self.table.find_one(one, broad, guess)?)
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

    /// How it finds packets.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The connections that live.
    pub fn table(&self) -> &FlowTable {
        &self.table
    }

    /// Ends every connection that is left.
    pub fn finish(&mut self, closed: impl FnMut(&Closed)) {
        self.finish_at(self.clock, closed);
    }

    /// The same where somebody else has the clock.
    pub fn finish_at(&mut self, clock: Clock, mut closed: impl FnMut(&Closed)) {
        self.table.drain(|last, places| {
            let is_over = last.deadline() <= clock.now();
            let cause = if is_over { EndReason::Timeout } else { EndReason::EndOfCapture };
            let when = if is_over { (None, Some(last.deadline())) } else { (Some(clock.end()), None) };
            hand_out(last, places, cause, when, &mut closed);
        });
    }

    /// The last deadline that is over for a packet at `ts`: what was due when memory was swept is over for a late one, too.
    #[inline]
    fn over_until(&self, ts: i64) -> i64 {
        ts.max(self.swept.saturating_sub(1))
    }

    fn related(&self, packet: &Packet, ts: i64) -> Option<Label> {
        self.about(&self.keys.quoted(packet)?, ts)
    }

    /// The label of an ICMP error that quotes a packet of this key: its connection, if a gateway has an entry for it, and the
    /// direction in which the error travels.
    pub fn about(&self, quoted: &Found, ts: i64) -> Option<Label> {
        let connection = self.look(quoted)?;
        let lives = |deadline: i64| deadline > self.over_until(ts);
        let entry = connection.gateway.as_ref().filter(|entry| lives(entry.deadline) && lives(connection.deadline))?;
        // It travels as the other side's packets do.
        let side = quoted.side.other();
        Some(Label::new(connection.id, (CtState::Related, entry.dir(side), entry.reported_state()), side))
    }
}

/// Hands out a connection that is over; see [`Closed`].
#[inline]
fn hand_out(
    what: Last,
    places: u32,
    cause: EndReason,
    (stopped, gone): (Option<i64>, Option<i64>),
    closed: &mut impl FnMut(&Closed),
) {
    let reason = what.end_reason(cause);
    closed(&Closed { what, places, reason, stopped, gone });
}
