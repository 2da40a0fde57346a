//! The tracker: one packet at a time through table, state machine and direction.

use crate::config::{Config, Rules, ServerPorts};
use crate::connection::{Connection, EndReason, Evidence};
use crate::decode::{FiveTuple, L4, Packet, Tunnel, TunnelMode, Vlan, ipproto};
use crate::direction::{self, Announcements};
use crate::flow::{FlowKey, Side};
use crate::proto::{self, Verdict};
use crate::proto::{CtDir, CtState, State};
use crate::table::{FlowTable, SlotId};
use crate::time::{Clock, SECOND};
use crate::zeek::{self, Roles};

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
    /// The label of a record that is in no connection.
    pub const fn outside(ctstate: CtState) -> Self {
        Self { connection: None, ctstate, ctdir: CtDir::None, state: State::None, side: Side::A }
    }
}

/// A connection that is over, and why.
#[derive(Clone, Debug)]
pub struct Closed {
    /// As it was at the end.
    pub connection: Connection,
    /// Why it is over.
    pub reason: EndReason,
    /// The capture time at which the tracker stopped, if that is what ended it.
    pub stopped: Option<i64>,
}

/// Follows connections through a capture.
pub struct Tracker {
    table: FlowTable,
    rules: Rules,
    clock: Clock,
    vlan_in_key: bool,
    /// Whose connections these are: ours, or Zeek's with its server ports.
    zeek: Option<ServerPorts>,
    /// What FTP announced.
    announced: Announcements,
    next_id: u64,
}

/// What a step did with a packet: its word, direction and the state after it.
type Outcome = (CtState, CtDir, State);

const INVALID: Outcome = (CtState::Invalid, CtDir::None, State::None);

impl Tracker {
    /// A tracker with an empty table.
    pub fn new(config: &Config) -> Self {
        Self {
            table: FlowTable::default(),
            rules: config.rules,
            clock: Clock::default(),
            // A gateway terminates VLANs: what it sees has none.
            vlan_in_key: config.decode.tunnels != TunnelMode::Outer,
            zeek: config.zeek.then(|| config.likely_server_ports.clone().unwrap_or_else(ServerPorts::zeek)),
            announced: Announcements::default(),
            next_id: 0,
        }
    }

    /// What FTP announced.
    pub fn announced(&self) -> &Announcements {
        &self.announced
    }

    /// How many connections have begun.
    pub fn begun(&self) -> u64 {
        self.next_id
    }

    /// The most connections that lived at once.
    pub fn peak(&self) -> usize {
        self.table.peak()
    }

    /// The live connections, in no promised order.
    pub fn snapshot(&self) -> impl Iterator<Item = &Connection> {
        self.table.snapshot()
    }

    /// Lets capture time pass: connections that timed out are handed to `closed`.
    #[inline]
    pub fn advance(&mut self, ts: i64, mut closed: impl FnMut(Closed)) {
        if let Some(due) = self.clock.tick(ts) {
            self.table.expire(due, |connection| closed(finish(connection, EndReason::Timeout)));
        }
    }

    /// Takes the packets of one record, whose bytes these are, outermost first; the label speaks of the innermost.
    pub fn record(&mut self, packets: &[Packet], bytes: &[u8], ts: i64, mut closed: impl FnMut(Closed)) -> Label {
        let mut label = Label::outside(CtState::Untracked);
        let mut parent = None;
        for (packet, more) in packets.iter().zip((0..packets.len()).rev()) {
            label = match self.zeek {
                // Zeek opens IP tunnels without a connection for them.
                Some(_) if more > 0 && zeek::is_ip_tunnel(packet) => continue,
                Some(_) => self.zeek_packet(packet, bytes, ts, parent, &mut closed),
                None => self.packet(packet, bytes, ts, parent, &mut closed),
            };
            parent = label.connection;
        }
        label
    }

    /// Ends every connection that is left.
    pub fn finish(&mut self, mut closed: impl FnMut(Closed)) {
        let (now, end) = (self.clock.now(), self.clock.end());
        for connection in self.table.drain() {
            let cause = if connection.deadline <= now { EndReason::Timeout } else { EndReason::EndOfCapture };
            let stopped = (cause == EndReason::EndOfCapture).then_some(end);
            closed(Closed { stopped, ..finish(connection, cause) });
        }
    }

    fn packet(
        &mut self,
        packet: &Packet,
        bytes: &[u8],
        ts: i64,
        parent: Option<u64>,
        closed: &mut impl FnMut(Closed),
    ) -> Label {
        let (key, side) = self.key(&packet.tuple, packet.flow_id, packet.vlan, packet.tunnel);
        let related = self.related(packet, ts);
        let slot = self.live(&key, ts, closed);
        let Some(slot) = slot.or_else(|| self.begin(key, packet, side, ts)) else {
            return Label::outside(CtState::Invalid);
        };
        let (slot, side, outcome) = self.step(slot, packet, side, ts, closed);
        let Some(connection) = self.table.at_mut(slot) else { return Label::outside(CtState::Invalid) };
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
        self.announced.note(packet, bytes, ts);
        connection.related_to = connection.related_to.or(related.and_then(|label| label.connection));
        connection.carrier = connection.carrier.or(parent);
        let (ctstate, ctdir, state) = outcome;
        let label = related.unwrap_or(Label { connection: Some(connection.id), ctstate, ctdir, state, side });
        self.table.arm(slot);
        label
    }

    /// A packet by Zeek's rules of what a connection is. The gateway's word is asked for all the same, but its entries
    /// begin and end within.
    fn zeek_packet(
        &mut self,
        packet: &Packet,
        bytes: &[u8],
        ts: i64,
        parent: Option<u64>,
        closed: &mut impl FnMut(Closed),
    ) -> Label {
        // Zeek sees datagrams once they are whole, and none without a header.
        if !packet.complete || packet.bad_header || zeek::is_truncated(packet) {
            return Label::outside(CtState::Invalid);
        }
        let (key, side) = self.key(&packet.tuple, packet.flow_id, packet.vlan, packet.tunnel);
        let related = self.related(packet, ts);
        let mut found = self.live(&key, ts, closed);
        if let Some(slot) = found
            && self.table.at(slot).is_some_and(|connection| connection.zeek.is_reuse(packet, connection.orig))
        {
            self.end(slot, EndReason::Reused, closed);
            found = None;
        }
        let begins = found.is_none();
        let Some(slot) = found.or_else(|| self.begin(key, packet, side, ts)) else {
            return Label::outside(CtState::Invalid);
        };
        let ports = self.zeek.as_ref();
        let Some((connection, ports)) = self.table.at_mut(slot).zip(ports) else {
            return Label::outside(CtState::Invalid);
        };
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
        connection.related_to = connection.related_to.or(related.and_then(|label| label.connection));
        connection.carrier = connection.carrier.or(parent);
        let (ctstate, ctdir, state) = outcome;
        let label = related.unwrap_or(Label { connection: Some(connection.id), ctstate, ctdir, state, side });
        self.table.arm(slot);
        label
    }

    /// The key of a tuple, and the side that sent it.
    #[inline]
    fn key(&self, tuple: &FiveTuple, id: u16, vlan: Vlan, tunnel: Tunnel) -> (FlowKey, Side) {
        if self.zeek.is_some() {
            return zeek::key(tuple);
        }
        let vlan = if self.vlan_in_key { vlan } else { Vlan::default() };
        FlowKey::of_tuple(tuple, id, vlan, tunnel)
    }

    /// The place of a key's connection, unless it has expired by now.
    fn live(&mut self, key: &FlowKey, ts: i64, closed: &mut impl FnMut(Closed)) -> Option<SlotId> {
        let slot = self.table.get(key)?;
        if self.table.at(slot)?.deadline > ts {
            return Some(slot);
        }
        self.end(slot, EndReason::Timeout, closed);
        None
    }

    fn end(&mut self, slot: SlotId, cause: EndReason, closed: &mut impl FnMut(Closed)) {
        if let Some(connection) = self.table.remove(slot) {
            closed(finish(connection, cause));
        }
    }

    /// A new connection; None for a later fragment whose connection is gone.
    fn begin(&mut self, key: FlowKey, packet: &Packet, side: Side, ts: i64) -> Option<SlotId> {
        if packet.packets == 0 && !packet.complete {
            return None;
        }
        let roles = if self.zeek.is_some() { Roles::Zeek } else { Roles::Given };
        let connection = Connection::begin(key, self.next_id, side, packet, roles, ts);
        self.next_id += 1;
        Some(self.table.insert(connection))
    }

    /// Asks the gateway. A packet that opens a new entry over an old one ends the old connection and begins another.
    fn step(
        &mut self,
        mut slot: SlotId,
        packet: &Packet,
        side: Side,
        ts: i64,
        closed: &mut impl FnMut(Closed),
    ) -> (SlotId, Side, Outcome) {
        while let Some(connection) = self.table.at_mut(slot) {
            let key = connection.key;
            match ask_gateway(connection, packet, side, ts, &self.rules) {
                Answer::Word(side, outcome) => return (slot, side, outcome),
                Answer::OpensAnew => {
                    self.end(slot, EndReason::Reused, closed);
                    let Some(begun) = self.begin(key, packet, side, ts) else { break };
                    slot = begun;
                }
            }
        }
        (slot, side, INVALID)
    }

    /// The label of an ICMP error about a live entry: that connection, the direction in which the error travels.
    fn related(&self, packet: &Packet, ts: i64) -> Option<Label> {
        let L4::IcmpError { quoted: Some(quoted), quoted_id, .. } = packet.l4 else { return None };
        // The error goes to whoever sent the quoted packet.
        if packet.malformed || packet.bad_checksum || packet.tuple.dst != quoted.src {
            return None;
        }
        let (key, side) = self.key(&quoted, quoted_id, packet.vlan, packet.tunnel);
        let connection = self.table.at(self.table.get(&key)?)?;
        let entry = connection.gateway.as_ref().filter(|entry| entry.deadline > ts)?;
        // It travels as the other side's packets do.
        let side = side.other();
        Some(Label {
            connection: Some(connection.id),
            ctstate: CtState::Related,
            ctdir: entry.dir(side),
            state: entry.reported_state(),
            side,
        })
    }
}

/// What the gateway says to a packet.
enum Answer {
    /// Its word, and the side that the packet came from as it sees it.
    Word(Side, Outcome),
    /// The old entry is gone, and this packet opens another.
    OpensAnew,
}

/// How far behind its connection's last packet a packet can be and still count as captured late.
const LATE: i64 = 60 * SECOND;

fn ask_gateway(connection: &mut Connection, packet: &Packet, side: Side, ts: i64, rules: &Rules) -> Answer {
    // A fragment waits for the rest of its datagram.
    if !packet.complete || proto::untracked(packet) {
        return Answer::Word(side, (CtState::Untracked, CtDir::None, State::None));
    }
    let opened = connection.gateway.is_none();
    if opened {
        match proto::open(packet, side, ts, rules) {
            None => return Answer::Word(side, INVALID),
            Some(_) if connection.closed => return Answer::OpensAnew,
            entry => connection.gateway = entry,
        }
    }
    let Some(entry) = &mut connection.gateway else { return Answer::Word(side, INVALID) };
    // Both directions look the same; the kernel then finds the reply.
    let side = if !opened && connection.key.is_self() { entry.orig.other() } else { side };
    // A packet captured a little late does not take time from its connection; a clock that was set back does.
    let late = connection.end.saturating_sub(ts);
    let ts = if (0..LATE).contains(&late) { connection.end } else { ts };
    let dir = entry.dir(side);
    let reply = dir == CtDir::Reply;
    let ctstate = if reply || entry.seen_reply { CtState::Established } else { CtState::New };
    let verdict = proto::step(entry, dir, packet, ts, rules);
    let accepted = match verdict {
        Verdict::Reopen => return Answer::OpensAnew,
        Verdict::Invalid if opened => {
            connection.gateway = None;
            return Answer::Word(side, INVALID);
        }
        Verdict::Invalid => false,
        Verdict::Ignore | Verdict::Delete => true,
        Verdict::Accept(timeout) => {
            if let Some(timeout) = timeout {
                let (datagrams, bytes) = &mut entry.counted[usize::from(reply)];
                *datagrams += 1;
                *bytes += u64::from(packet.datagram_bytes);
                entry.timeout = timeout;
                entry.deadline = ts.saturating_add(rules.timeouts.get(timeout));
            }
            true
        }
    };
    entry.seen_reply |= reply && accepted;
    connection.status = (entry.seen_reply, entry.assured);
    connection.closed = verdict == Verdict::Delete;
    if connection.closed {
        connection.gateway = None;
    }
    if verdict == Verdict::Invalid {
        return Answer::Word(side, INVALID);
    }
    connection.note_end(packet);
    Answer::Word(side, (ctstate, dir, connection.state()))
}

/// Asks the gateway, whose entries begin and end within the connection.
fn ask_gateway_within(
    connection: &mut Connection,
    packet: &Packet,
    side: Side,
    ts: i64,
    rules: &Rules,
) -> (Side, Outcome) {
    if connection.gateway.as_ref().is_some_and(|entry| entry.deadline <= ts) {
        connection.gateway = None;
    }
    for _ in 0..2 {
        match ask_gateway(connection, packet, side, ts, rules) {
            Answer::Word(side, outcome) => return (side, outcome),
            Answer::OpensAnew => {
                connection.gateway = None;
                connection.closed = false;
            }
        }
    }
    (side, INVALID)
}

fn finish(connection: Connection, cause: EndReason) -> Closed {
    let reason = connection.end_reason(cause);
    Closed { connection, reason, stopped: None }
}
