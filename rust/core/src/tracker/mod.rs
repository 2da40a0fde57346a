//! The tracker: one packet at a time through table, state machine and direction.

mod gateway;
mod keys;

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::checkpoint::{self, CheckpointError};
use crate::compact::Compact;
use crate::config::{Config, Rules, ServerPorts};
use crate::connection::{Connection, EndReason, Evidence};
use crate::decode::{Brief, L4, Packet, Tunnel, ipproto};
use crate::direction;
use crate::flow::Side;
use crate::policy::Policy;
use crate::proto::{CtDir, CtState, State};
use crate::table::{Expired, FlowTable, Gone, Guess, Lookup, Reader, SlotId};
use crate::time::{Clock, SECOND};
use crate::zeek::{self, Roles};

pub use keys::{Found, Keys};

use gateway::{Answer, INVALID, Outcome, REFUSED, ask_gateway, ask_gateway_within};

/// What a tracker says of one packet. Who initiated may still change; `side` is what stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The connection's number, or None: not tracked. An ICMP error that a gateway finds related carries the number of
    /// the connection it speaks of.
    pub connection: Option<u64>,
    /// The gateway's word.
    pub ctstate: CtState,
    /// The direction within the gateway's entry.
    pub ctdir: CtDir,
    /// The state of the gateway's entry after this packet.
    pub state: State,
    /// The side of the connection that sent it.
    pub side: Side,
}

impl Label {
    fn new(connection: u64, (ctstate, ctdir, state): Outcome, side: Side) -> Self {
        Self { connection: Some(connection), ctstate, ctdir, state, side }
    }

    /// The gateway's policy let it open no entry.
    pub fn is_refused(&self) -> bool {
        (self.ctstate, self.ctdir, self.state) == REFUSED
    }

    /// The label of a record that is in no connection.
    pub const fn outside(ctstate: CtState) -> Self {
        Self { connection: None, ctstate, ctdir: CtDir::None, state: State::None, side: Side::A }
    }
}

/// A connection that is over, and why.
#[derive(Clone, Debug)]
pub struct Closed {
    /// As it was at the end.
    pub what: Gone,
    /// Why it is over.
    pub reason: EndReason,
    /// The capture time at which the tracker stopped, if that is what ended it.
    pub stopped: Option<i64>,
    /// The capture time at which it was over; it lived on where the tracker stopped.
    pub gone: Option<i64>,
}

impl Closed {
    /// Capture time of its first packet.
    #[inline]
    pub fn start(&self) -> i64 {
        match &self.what {
            Gone::Kept(kept) => kept.words().start(),
            Gone::Whole(connection) => connection.start,
        }
    }

    /// The connection as it was at the end.
    pub fn connection(&self) -> Cow<'_, Connection> {
        self.what.connection()
    }
}

/// Follows connections through a capture.
pub struct Tracker {
    table: FlowTable,
    rules: Rules,
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
    /// Short cuts are taken.
    express: bool,
    /// Who may initiate; None: everybody.
    policy: Option<Arc<Policy>>,
}

/// A connection that is being looked at, and its place if it has one.
struct Held {
    connection: Box<Connection>,
    slot: Option<SlotId>,
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
            table: FlowTable::new(config.rules.timeouts, config.bounds, keys.lookups.clone()),
            rules: config.rules,
            clock: Clock::default(),
            swept: i64::MIN,
            pending: false,
            keys,
            zeek: config.zeek.then(|| config.likely_server_ports.clone().unwrap_or_else(ServerPorts::zeek)),
            next_id: 0,
            evicted: 0,
            refused: 0,
            express: !config.zeek,
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

    /// The same without short cuts: every packet takes the way that is written for any. The answers are the same.
    #[must_use]
    pub fn without_express(mut self) -> Self {
        self.express = false;
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
        (self.next_id, self.evicted, self.refused) = from.get()?;
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
    pub fn reader(&self) -> Reader {
        self.table.reader()
    }

    /// Lets capture time pass: connections that timed out are handed to `closed`, a few at a time.
    #[inline]
    pub fn advance(&mut self, ts: i64, closed: impl FnMut(&Closed)) {
        let due = self.clock.tick(ts);
        self.pass(due, closed);
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
            self.swept = swept;
            self.pending = true;
        }
        if self.pending {
            self.sweep(SWEEP, &mut closed);
        }
    }

    fn sweep(&mut self, most: usize, closed: &mut impl FnMut(&Closed)) {
        for _ in 0..most {
            match self.table.expire(self.swept) {
                Expired::None => {
                    self.pending = false;
                    return;
                }
                Expired::NotYet => {}
                Expired::Gone(gone) => {
                    let deadline = gone.deadline();
                    self.close(gone, EndReason::Timeout, deadline, closed);
                }
            }
        }
    }

    /// Takes the packets of one record, whose bytes these are, outermost first; the label speaks of the innermost.
    pub fn record(&mut self, packets: &[Packet], bytes: &[u8], ts: i64, mut closed: impl FnMut(&Closed)) -> Label {
        if let [packet] = packets
            && let Some(brief) = self.express.then(|| Brief::of(packet)).flatten()
            && packet.tunnel == Tunnel::default()
        {
            let found = self.keys.found(&brief);
            return self.brief(&brief, &found, Guess::default(), bytes, ts, closed);
        }
        let mut label = Label::outside(CtState::Untracked);
        let mut parent = None;
        for (packet, more) in packets.iter().zip((0..packets.len()).rev()) {
            label = match self.zeek {
                // Zeek opens IP tunnels without a connection for them.
                Some(_) if more > 0 && zeek::is_ip_tunnel(packet) => continue,
                Some(_) => self.zeek_packet(packet, bytes, ts, parent, &mut closed),
                None => {
                    let (found, related) = (self.keys.of(packet), self.related(packet, ts));
                    self.step(packet, &found, bytes, ts, (related, parent), &mut closed)
                }
            };
            parent = label.connection;
        }
        label
    }

    /// Takes any packet of which this is the key; `related`: what is known of the connection that it is an error about.
    pub fn packet(
        &mut self,
        packet: &Packet,
        found: &Found,
        bytes: &[u8],
        ts: i64,
        related: Option<Label>,
        mut closed: impl FnMut(&Closed),
    ) -> Label {
        if related.is_none()
            && packet.tunnel == Tunnel::default()
            && let Some(brief) = self.express.then(|| Brief::of(packet)).flatten()
        {
            return self.brief(&brief, found, Guess::default(), bytes, ts, closed);
        }
        self.step(packet, found, bytes, ts, (related, None), &mut closed)
    }

    /// The connection of a key as it is now.
    pub fn look(&self, found: &Found) -> Option<Connection> {
        self.table.look(self.table.find(&found.lookup, Guess::default())?)
    }

    /// The current capture time.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// How it finds packets.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Reads what the packets with these keys will read of the table, so that they wait for memory together; see
    /// [`FlowTable::touch`].
    #[inline]
    pub fn touch<'a>(&self, found: impl Iterator<Item = &'a Found> + Clone, guesses: &mut Vec<Guess>) {
        self.table.touch(found.map(|found| &found.lookup), guesses);
    }

    /// Takes the only packet of a record, an ordinary one.
    #[inline]
    pub fn brief(
        &mut self,
        brief: &Brief,
        found: &Found,
        guess: Guess,
        bytes: &[u8],
        ts: i64,
        mut closed: impl FnMut(&Closed),
    ) -> Label {
        let (lookup, side) = (&found.lookup, found.side);
        let over_until = self.over_until(ts);
        let rules = &self.rules;
        let held = self.table.change(lookup, guess, |compact, extras| {
            let lives = compact.deadline(&rules.timeouts) > over_until;
            if !lives || direction::may_announce(brief) {
                return None;
            }
            let says = || direction::says(brief, bytes, side);
            let (outcome, nearer) = compact.express(brief, side, ts, rules, extras, says)?;
            Some((Label::new(compact.id(), outcome, side), nearer))
        });
        if let Some((slot, Some((label, nearer)))) = held {
            if nearer {
                self.table.arm(slot);
            }
            return label;
        }
        if held.is_none()
            && !brief.is_self()
            && self.keys.holds_vlan(brief)
            && self.table.may_insert(lookup)
            && self.policy.as_ref().is_none_or(|policy| policy.passes(&brief.tuple))
            && let Some((compact, outcome)) =
                Compact::begin(self.next_id, brief, side, ts, &self.rules, || direction::says(brief, bytes, side))
        {
            self.table.insert_compact(lookup, compact);
            self.next_id += 1;
            return Label::new(compact.id(), outcome, side);
        }
        self.step(&brief.packet(), found, bytes, ts, (None, None), &mut closed)
    }

    /// Ends every connection that is left.
    pub fn finish(&mut self, closed: impl FnMut(&Closed)) {
        self.finish_at(self.clock, closed);
    }

    /// The same where somebody else has the clock.
    pub fn finish_at(&mut self, clock: Clock, mut closed: impl FnMut(&Closed)) {
        self.table.drain(|what, table| {
            let is_over = what.deadline() <= clock.now();
            let cause = if is_over { EndReason::Timeout } else { EndReason::EndOfCapture };
            let (stopped, gone) = if is_over { (None, Some(what.deadline())) } else { (Some(clock.end()), None) };
            hand_out(what, cause, (stopped, gone), table, &mut closed);
        });
    }

    /// Takes any packet.
    fn step(
        &mut self,
        packet: &Packet,
        found: &Found,
        bytes: &[u8],
        ts: i64,
        (related, parent): (Option<Label>, Option<u64>),
        closed: &mut impl FnMut(&Closed),
    ) -> Label {
        let Found { lookup, side } = *found;
        let held = self.live(&lookup, ts, closed);
        if held.is_none() && !self.make_room(&lookup, ts, closed) {
            return Label::outside(CtState::Invalid);
        }
        let Some(held) = held.or_else(|| self.begin(&lookup, packet, side, ts)) else {
            return Label::outside(CtState::Invalid);
        };
        let numbered = packet.is_unnumbered().then(|| in_order(packet, &held.connection, side));
        let packet = numbered.as_ref().unwrap_or(packet);
        let (mut held, side, outcome) = self.ask(held, &lookup, packet, side, ts, closed);
        let connection = &mut held.connection;
        // Its receiver throws away what has a wrong checksum: it counts for nothing.
        if !packet.bad_checksum {
            connection.count(packet, side, ts);
            if packet.packets > 0 {
                direction::infer(connection, packet, bytes, side);
            }
        }
        if related.is_some() {
            connection.evidence = connection.evidence.max(Evidence::Related);
        }
        if packet.complete && !packet.bad_header {
            connection.zeek.note(packet, side, connection.orig, Roles::Given, ts);
        }
        connection.set_deadline(ts, &self.rules);
        self.hold(held, &lookup, related, outcome, side, parent)
    }

    /// A packet by Zeek's rules of what a connection is. The gateway's word is asked for all the same, but its entries
    /// begin and end within.
    fn zeek_packet(
        &mut self,
        packet: &Packet,
        bytes: &[u8],
        ts: i64,
        parent: Option<u64>,
        closed: &mut impl FnMut(&Closed),
    ) -> Label {
        // Zeek sees datagrams once they are whole, and none without a header.
        if !packet.complete || packet.bad_header || zeek::is_truncated(packet) {
            return Label::outside(CtState::Invalid);
        }
        let Found { lookup, side } = self.keys.of(packet);
        let related = self.related(packet, ts);
        let mut found = self.live(&lookup, ts, closed);
        if let Some(held) = found.take_if(|held| held.connection.zeek.is_reuse(packet, held.connection.orig)) {
            self.end(held, EndReason::Reused, ts, closed);
        }
        let begins = found.is_none();
        if begins && !self.make_room(&lookup, ts, closed) {
            return Label::outside(CtState::Invalid);
        }
        let Some(mut held) = found.or_else(|| self.begin(&lookup, packet, side, ts)) else {
            return Label::outside(CtState::Invalid);
        };
        let Some(ports) = self.zeek.as_ref() else { return Label::outside(CtState::Invalid) };
        let numbered = packet.is_unnumbered().then(|| in_order(packet, &held.connection, side));
        let packet = numbered.as_ref().unwrap_or(packet);
        let connection = &mut *held.connection;
        if begins {
            direction::begin_as_zeek(connection, packet, ports);
        }
        let (side, outcome) = ask_gateway_within(connection, packet, side, ts, &self.rules);
        let readable = !(packet.malformed && packet.tuple.proto == ipproto::TCP);
        if readable {
            direction::follow_zeek(connection, packet, side, ts);
            if !packet.bad_checksum {
                connection.count(packet, side, ts);
                direction::read_as_zeek(connection, packet, bytes, side, ports);
            }
        }
        connection.set_deadline(ts, &self.rules);
        self.hold(held, &lookup, related, outcome, side, parent)
    }

    /// Keeps a connection after a packet, and says the packet's label.
    fn hold(
        &mut self,
        mut held: Held,
        lookup: &Lookup,
        related: Option<Label>,
        outcome: Outcome,
        side: Side,
        parent: Option<u64>,
    ) -> Label {
        let connection = &mut held.connection;
        connection.related_to = connection.related_to.or(related.and_then(|label| label.connection));
        connection.carrier = connection.carrier.or(parent);
        let label = related.unwrap_or(Label::new(connection.id, outcome, side));
        match held.slot {
            Some(slot) => self.table.put(slot, held.connection),
            None => {
                self.table.insert(lookup, held.connection);
            }
        }
        label
    }

    /// The last deadline that is over for a packet at `ts`: what was due when memory was swept is over for a late one, too.
    #[inline]
    fn over_until(&self, ts: i64) -> i64 {
        ts.max(self.swept.saturating_sub(1))
    }

    /// A key's connection in hand, unless it has expired by now.
    fn live(&mut self, lookup: &Lookup, ts: i64, closed: &mut impl FnMut(&Closed)) -> Option<Held> {
        let slot = self.table.find(lookup, Guess::default())?;
        let held = Held { connection: self.table.take(slot)?, slot: Some(slot) };
        if held.connection.deadline > self.over_until(ts) {
            return Some(held);
        }
        let deadline = held.connection.deadline;
        self.end(held, EndReason::Timeout, deadline, closed);
        None
    }

    /// Makes room for a connection, by the kernel's rule of early drop; false where there is none.
    fn make_room(&mut self, lookup: &Lookup, ts: i64, closed: &mut impl FnMut(&Closed)) -> bool {
        if self.table.may_insert(lookup) {
            return true;
        }
        let victim = self.table.victim(lookup).and_then(|slot| self.table.remove(slot));
        let Some(victim) = victim else {
            self.refused += 1;
            return false;
        };
        self.evicted += 1;
        self.close(victim, EndReason::Evicted, ts, closed);
        let has_room = self.table.may_insert(lookup);
        self.refused += u64::from(!has_room);
        has_room
    }

    fn end(&mut self, held: Held, cause: EndReason, gone: i64, closed: &mut impl FnMut(&Closed)) {
        if let Some(slot) = held.slot {
            self.table.discard(slot);
        }
        self.close(Gone::Whole(held.connection), cause, gone, closed);
    }

    /// Hands out a connection that is over since `gone`.
    fn close(&mut self, what: Gone, cause: EndReason, gone: i64, closed: &mut impl FnMut(&Closed)) {
        hand_out(what, cause, (None, Some(gone)), &mut self.table, closed);
    }

    /// A new connection; None for a later fragment whose connection is gone.
    fn begin(&mut self, lookup: &Lookup, packet: &Packet, side: Side, ts: i64) -> Option<Held> {
        if packet.packets == 0 && !packet.complete {
            return None;
        }
        let roles = if self.zeek.is_some() { Roles::Zeek } else { Roles::Given };
        let connection = Connection::begin(lookup.key(), self.next_id, side, packet, roles, ts);
        self.next_id += 1;
        Some(Held { connection: self.table.boxed(connection), slot: None })
    }

    /// Asks the gateway. A packet that opens a new entry over an old one ends the old connection and begins another.
    fn ask(
        &mut self,
        mut held: Held,
        lookup: &Lookup,
        packet: &Packet,
        side: Side,
        ts: i64,
        closed: &mut impl FnMut(&Closed),
    ) -> (Held, Side, Outcome) {
        loop {
            let gateway = (&self.rules, self.policy.as_deref());
            match ask_gateway(&mut held.connection, packet, side, ts, gateway) {
                Answer::Word(side, outcome) => return (held, side, outcome),
                Answer::OpensAnew => {
                    let Some(begun) = self.begin(lookup, packet, side, ts) else { return (held, side, INVALID) };
                    self.end(held, EndReason::Reused, ts, closed);
                    held = begun;
                }
            }
        }
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

/// A segment without numbers as if everything had come once and in order.
fn in_order(packet: &Packet, connection: &Connection, side: Side) -> Packet {
    let mut packet = *packet;
    if let L4::Tcp(segment) = &mut packet.l4 {
        *segment = segment.numbered(connection.zeek.in_order(segment.flags, side));
    }
    packet
}

/// Hands out a connection that is over, and keeps its box; see [`Closed`].
fn hand_out(
    what: Gone,
    cause: EndReason,
    (stopped, gone): (Option<i64>, Option<i64>),
    table: &mut FlowTable,
    closed: &mut impl FnMut(&Closed),
) {
    let reason = what.end_reason(cause);
    let over = Closed { what, reason, stopped, gone };
    closed(&over);
    if let Gone::Whole(connection) = over.what {
        table.unbox(connection);
    }
}
