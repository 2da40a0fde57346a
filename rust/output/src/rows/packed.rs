//! A finished connection in 96 bytes, with an overflow store for rare fields and IPv6 addresses.

use serde::{Deserialize, Serialize};

use conntrack_base::time::SECOND;
use conntrack_decode::{Addr, Family, Tunnel, TunnelKind, Vlan, ipproto};
use conntrack_track::conn::{self, Flags, Image, path};
use conntrack_track::connection::{Connection, EndReason, Endpoint, Evidence};
use conntrack_track::direction::{AddressScope, Direction, Locality};
use conntrack_track::flow::{FlowKey, Side, Tags};
use conntrack_track::proto::{State, Status};
use conntrack_track::table::FinalConnection;
use conntrack_track::tracker::Closed;
use conntrack_track::zeek::ConnState;

use super::letters::{self, HistoryLetters};
use super::segments::Segments;

/// A finished connection without rare fields. Arrays have the originator first, then the responder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Packed {
    pub start: i64,
    pub end: i64,
    /// Connection number in the upper 48 bits, more than any capture has packets, and [`flag`]s.
    number_and_flags: u64,
    pub history: u64,
    pub sent: [Sent; 2],
    /// IPv4 addresses; for IPv6 an index into the overflow store.
    pub addr: [u32; 2],
    pub port: [u16; 2],
    pub vlan: Vlan,
    /// Tunnel kind in the upper eight bits, network identifier in the lower 24.
    tunnel: u32,
    /// Remaining seconds of the conntrack entry at the end of the capture, plus one; 0: no live entry.
    pub left: u32,
    /// Nanoseconds from the last packet that Zeek's `duration` counts to the last packet.
    pub quiet: u32,
    /// Index of the rare fields in the overflow store, plus one; 0: none.
    rare: u32,
    pub proto: u8,
    pub state: State,
    /// As is, and with the roles exchanged.
    pub conn_state: [ConnState; 2],
    pub evidence: Evidence,
    /// Evidence that gives the confidence.
    pub sure: Evidence,
    pub end_reason: EndReason,
    pub direction: Direction,
}

const _: () = assert!(size_of::<Packed>() == 96);

/// Counters of an end, 32 bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sent {
    packets: u32,
    ip_bytes: u32,
    payload_bytes: u32,
}

impl Sent {
    fn of(sent: Endpoint) -> Option<Self> {
        Some(Self {
            packets: sent.packets.try_into().ok()?,
            ip_bytes: sent.ip_bytes.try_into().ok()?,
            payload_bytes: sent.payload_bytes.try_into().ok()?,
        })
    }

    pub(super) fn endpoint(self) -> Endpoint {
        Endpoint {
            packets: self.packets.into(),
            ip_bytes: self.ip_bytes.into(),
            payload_bytes: self.payload_bytes.into(),
        }
    }
}

/// Bits of `Packed::number_and_flags`.
pub(super) mod flag {
    /// Side B is the originator.
    pub const ORIG_B: u64 = 1;
    pub const V6: u64 = 1 << 1;
    pub const ASSURED: u64 = 1 << 2;
    pub const SEEN_REPLY: u64 = 1 << 3;
    pub const FLIPPED: u64 = 1 << 4;
    pub const WAS_BROADCAST: u64 = 1 << 5;
    pub const IS_ERROR: u64 = 1 << 6;
    pub const ANSWERS_UNSEEN: u64 = 1 << 7;
    /// The conntrack ORIGINAL direction is the responder's.
    pub const SWAPPED: u64 = 1 << 8;
    /// The originator, and not the responder, is a multicast or broadcast address.
    pub const FROM_GROUP: u64 = 1 << 9;
    /// The tags differ by direction; the rare fields have those of the other direction.
    pub const OTHER_TAGS: u64 = 1 << 10;
    pub const BITS: u32 = 16;
}

/// Rare fields. A row with any of them has all of them here.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Rare {
    pub sent: [Endpoint; 2],
    pub history: HistoryLetters,
    pub active_until: i64,
    pub missed_bytes: u64,
    pub related_to: Option<u64>,
    pub carrier: Option<u64>,
    pub first_window: [u16; 2],
    /// Nanoseconds from the SYN+ACK to the SYN that was stored after it and put right; negative: the SYN was stamped earlier.
    pub lead: Option<i64>,
    pub reply_tags: Option<Tags>,
    pub live: Option<Live>,
}

/// Fields of a live conntrack entry beyond those of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Remaining whole seconds at the end of the capture.
    pub seconds: i64,
    /// The ORIGINAL direction is the responder's.
    pub swapped: bool,
    /// Datagrams and bytes of `nf_conntrack_acct`, ORIGINAL and REPLY.
    pub counted: [(u64, u64); 2],
    /// Identifier of an ICMP query, call ID of GRE version 1.
    pub id: u16,
    /// Code of an ICMP query.
    pub code: u8,
}

impl Live {
    fn of(connection: &Connection, now: i64) -> Option<Self> {
        let entry = connection.gateway.as_ref()?;
        let key = &connection.key;
        let (id, code) = match key.proto {
            ipproto::ICMP | ipproto::ICMPV6 => (key.port(entry.orig), key.port(entry.orig.other()) as u8),
            ipproto::GRE => (key.port(entry.orig.other()), 0),
            _ => (0, 0),
        };
        let left = entry.deadline.saturating_sub(now);
        let swapped = entry.orig != connection.orig;
        (left > 0).then_some(Self { seconds: left / SECOND, swapped, counted: entry.counted, id, code })
    }

    /// The entry of a row with these counters, if the entry counted every packet.
    pub(super) fn of_all(seconds: i64, swapped: bool, sent: [Endpoint; 2]) -> Self {
        let mut counted = sent.map(|sent| (sent.packets, sent.ip_bytes));
        if swapped {
            counted.swap(0, 1);
        }
        Self { seconds, swapped, counted, id: 0, code: 0 }
    }
}

/// Overflow store of the rows.
#[derive(Default)]
pub(super) struct Overflow {
    /// IPv6 addresses.
    pub addrs: Segments<[Addr; 2]>,
    pub rare: Segments<Rare>,
}

/// Offsets of appended overflow entries: of addresses, of rare fields.
#[derive(Clone, Copy)]
pub(super) struct Shift(u32, u32);

impl Overflow {
    /// Appends another store; `named` maps the connection numbers in its rare fields.
    pub(super) fn add(&mut self, other: Self, named: impl Fn(u64) -> u64) -> Shift {
        let shift = Shift(self.addrs.len() as u32, self.rare.len() as u32);
        for addrs in other.addrs {
            self.addrs.push(addrs);
        }
        for mut rare in other.rare {
            rare.related_to = rare.related_to.map(&named);
            rare.carrier = rare.carrier.map(&named);
            self.rare.push(rare);
        }
        shift
    }
}

/// Zeek's `conn_state` of a connection in its hot record, with `orig` as the originator.
fn hot_state(hot: &Image, orig: Side) -> ConnState {
    let (own, other) = (orig as usize, orig.other() as usize);
    match hot.flags().kind() {
        Flags::TCP => {
            let [own, other] = [orig, orig.other()].map(|side| conn::end_states(hot.flags(), side).0);
            // After two RSTs more than the states counts; a record has at most one.
            ConnState::of_tcp(own, other, || false, conn::written(hot.letters >> 16, orig))
        }
        Flags::STATELESS => ConnState::Oth,
        _ => ConnState::of_activity(hot.packets[own] > 0, hot.packets[other] > 0),
    }
}

/// Fields of every row, from a hot record or a whole connection.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
struct Fields<'a> {
    key: &'a FlowKey,
    id: u64,
    start: i64,
    end: i64,
    orig: Side,
    vlan: Vlan,
    tunnel: Tunnel,
    state: State,
    /// SEEN_REPLY and ASSURED.
    status: Status,
    /// As is, and with the roles exchanged.
    conn_state: [ConnState; 2],
    evidence: Evidence,
    flipped: bool,
    was_broadcast: bool,
    is_error: bool,
    answers_unseen: bool,
    swapped: bool,
}

impl Packed {
    /// Test for places in the overflow store, and times with a sum; for rows from outside.
    pub(super) fn is_sound(&self, overflow: &Overflow) -> bool {
        let is_in = |place: usize, len: usize| place < len;
        (!self.has(flag::V6) || is_in(self.addr[0] as usize, overflow.addrs.len()))
            && (self.rare == 0 || is_in(self.rare as usize - 1, overflow.rare.len()))
            && self.end.checked_sub(self.quiet.into()).is_some()
    }

    /// Renumbers the row, and moves its overflow indices.
    pub(super) fn move_to(&mut self, number: u64, shift: Shift) {
        self.number_and_flags = number << flag::BITS | self.number_and_flags & ((1 << flag::BITS) - 1);
        if self.has(flag::V6) {
            self.addr[0] += shift.0;
        }
        if self.rare > 0 {
            self.rare += shift.1;
        }
    }

    /// The row with another overflow store for its rare fields and addresses.
    pub(super) fn copied(mut self, from: &Overflow, to: &mut Overflow) -> Self {
        if let Some(addrs) = self.has(flag::V6).then(|| from.addrs.get(self.addr[0] as usize)).flatten() {
            self.addr = [to.addrs.push(*addrs) as u32, 0];
        }
        if let Some(rare) = self.rare(from).copied() {
            self.add_rare(rare, to);
        }
        self
    }

    /// The row with other addresses of its family.
    pub(super) fn renamed(mut self, addrs: [Addr; 2], overflow: &mut Overflow) -> Self {
        if !self.has(flag::V6) {
            self.addr = addrs.map(|addr| addr.0 as u32);
        } else if let Some(place) = overflow.addrs.get_mut(self.addr[0] as usize) {
            *place = addrs;
        }
        self
    }

    /// The row of a closed connection.
    pub(super) fn of(closed: &Closed, overflow: &mut Overflow) -> Self {
        if let FinalConnection::Hot { key, image, deadline } = &closed.what
            && let Some(packed) = Self::of_hot(key, image, *deadline, closed, overflow)
        {
            debug_assert_eq!(packed.alone(overflow), {
                let mut own = Overflow::default();
                Self::of_whole(&closed.connection(), closed, &mut own).alone(&own)
            });
            return packed;
        }
        Self::of_whole(&closed.connection(), closed, overflow)
    }

    /// Row and addresses, comparable between overflow stores.
    fn alone(mut self, overflow: &Overflow) -> (Self, Option<[Addr; 2]>) {
        let addrs = self.has(flag::V6).then(|| overflow.addrs.get(self.addr[0] as usize).copied()).flatten();
        if addrs.is_some() {
            self.addr = [0; 2];
        }
        (self, addrs)
    }

    /// The row of a hot record; None where rare fields are needed.
    fn of_hot(key: &FlowKey, hot: &Image, deadline: i64, closed: &Closed, overflow: &mut Overflow) -> Option<Self> {
        let (flags, orig, resp) = (hot.flags(), hot.flags().orig(), hot.flags().orig().other());
        let flipped = orig != flags.opener();
        let history = letters::of_codes(hot.letters >> 16, orig, flipped)?;
        let left = closed.stopped.filter(|_| !hot.is_refused()).map(|now| deadline.saturating_sub(now));
        let left = left.filter(|left| *left > 0).map(|left| left / SECOND);
        // The entry of a live echo has an identifier and a code.
        if left.is_some() && flags.kind() == Flags::STATELESS {
            return None;
        }
        let left = left.map_or(Some(0), |seconds| u32::try_from(seconds).ok()?.checked_add(1))?;
        let answered = hot.packets[flags.opener().other() as usize] > 0;
        let is_tcp = flags.kind() == Flags::TCP;
        let fields = Fields {
            key,
            id: hot.id.into(),
            start: hot.start as i64,
            end: hot.end(),
            orig,
            vlan: key.vlan,
            tunnel: key.tunnel,
            state: hot.state(),
            status: flags.status(),
            conn_state: [hot_state(hot, orig), hot_state(hot, resp)],
            evidence: flags.evidence(),
            flipped,
            was_broadcast: !is_tcp && flags.has(Flags::TO_GROUP) && !answered && !flipped,
            is_error: false,
            answers_unseen: false,
            swapped: left > 0 && flipped,
        };
        let mut packed = Self::begin(&fields, closed, overflow);
        packed.sent = [orig, resp].map(|side| Sent {
            packets: hot.packets[side as usize],
            ip_bytes: hot.ip_bytes[side as usize],
            payload_bytes: if is_tcp { conn::delivered(hot, side) as u32 - 1 } else { hot.first[side as usize] },
        });
        (packed.history, packed.quiet, packed.left) = (history, hot.cold, left);
        Some(packed)
    }

    fn of_whole(connection: &Connection, closed: &Closed, overflow: &mut Overflow) -> Self {
        let (orig, resp) = (connection.orig, connection.orig.other());
        let sent = [connection.sent(orig), connection.sent(resp)];
        let live = closed.stopped.and_then(|now| Live::of(connection, now));
        let fields = Fields {
            key: &connection.key,
            id: connection.id,
            start: connection.start,
            end: connection.end,
            orig,
            vlan: connection.vlan,
            tunnel: connection.tunnel,
            state: connection.state(),
            status: connection.status,
            conn_state: [connection.conn_state(orig), connection.conn_state(resp)],
            evidence: connection.evidence,
            flipped: connection.flipped(),
            was_broadcast: connection.was_broadcast(),
            is_error: connection.is_error,
            answers_unseen: connection.zeek.answers_unseen(),
            swapped: live.is_some_and(|live| live.swapped),
        };
        let mut packed = Self::begin(&fields, closed, overflow);
        packed.set(flag::OTHER_TAGS, connection.reply_tags.is_some());
        if packed.add_ordinary(connection, sent, live).is_none() {
            let letters = connection.zeek.history(connection.orig, connection.flipped(), connection.roles);
            packed.add_rare(
                Rare {
                    sent,
                    history: letters::collected(letters),
                    active_until: connection.zeek.active_until(),
                    missed_bytes: connection.zeek.missed(),
                    related_to: connection.related_to,
                    carrier: connection.carrier,
                    first_window: [orig, resp].map(|side| connection.first_window[side as usize]),
                    lead: connection.lead(),
                    reply_tags: connection.reply_tags,
                    live,
                },
                overflow,
            );
        }
        packed
    }

    /// The row with the fields that always fit.
    #[inline]
    fn begin(fields: &Fields<'_>, closed: &Closed, overflow: &mut Overflow) -> Self {
        let Fields { key, orig, was_broadcast, .. } = *fields;
        let addrs = [key.addr(orig), key.addr(orig.other())];
        let (orig_port, resp_port) = key.ports(orig);
        let direction = conn::direction(closed.places, orig, was_broadcast);
        let mut packed = Self::blank(fields.id, direction, fields.vlan, fields.tunnel);
        (packed.start, packed.end, packed.proto) = (fields.start, fields.end, key.proto);
        packed.port = [orig_port, resp_port];
        (packed.state, packed.conn_state) = (fields.state, fields.conn_state);
        (packed.evidence, packed.sure, packed.end_reason) = (fields.evidence, fields.evidence, closed.reason);
        packed.put_ends(key.family, addrs, overflow);
        packed.set(flag::ORIG_B, orig == Side::B);
        packed.set(flag::ASSURED, fields.status.assured);
        packed.set(flag::SEEN_REPLY, fields.status.seen_reply);
        packed.set(flag::FLIPPED, fields.flipped);
        packed.set(flag::WAS_BROADCAST, was_broadcast);
        packed.set(flag::IS_ERROR, fields.is_error);
        packed.set(flag::ANSWERS_UNSEEN, fields.answers_unseen);
        packed.set(flag::SWAPPED, fields.swapped);
        let group = [orig, orig.other()].map(|side| closed.places & path::GROUP[side as usize] != 0);
        packed.set(flag::FROM_GROUP, group[0] && !group[1]);
        packed
    }

    /// A row of a connection number without ends.
    #[inline]
    pub(super) fn blank(number: u64, direction: Direction, vlan: Vlan, tunnel: Tunnel) -> Self {
        Self {
            start: 0,
            end: 0,
            number_and_flags: number << flag::BITS,
            history: 0,
            sent: [Sent::default(); 2],
            addr: [0; 2],
            port: [0; 2],
            vlan,
            tunnel: (tunnel.kind as u32) << 24 | tunnel.vni & 0xff_ffff,
            left: 0,
            quiet: 0,
            rare: 0,
            proto: 0,
            state: State::None,
            conn_state: [ConnState::Oth; 2],
            evidence: Evidence::Unknown,
            sure: Evidence::Unknown,
            end_reason: EndReason::EndOfCapture,
            direction,
        }
    }

    /// Writes the addresses of both ends.
    #[inline]
    pub(super) fn put_ends(&mut self, family: Family, addrs: [Addr; 2], overflow: &mut Overflow) {
        self.addr = [addrs[0].0 as u32, addrs[1].0 as u32];
        if family == Family::V6 {
            self.set(flag::V6, true);
            self.addr = [overflow.addrs.push(addrs) as u32, 0];
        }
    }

    /// Writes flags.
    pub(super) fn put_flags<const N: usize>(&mut self, flags: [(u64, bool); N]) {
        for (flag, value) in flags {
            self.set(flag, value);
        }
    }

    /// Writes counters and packed history; None where they do not fit.
    pub(super) fn put_sent(&mut self, sent: [Endpoint; 2], history: Option<u64>) -> Option<()> {
        (self.sent, self.history) = ([Sent::of(sent[0])?, Sent::of(sent[1])?], history?);
        Some(())
    }

    /// Adds the fields that may not fit; None if one does not.
    fn add_ordinary(&mut self, connection: &Connection, sent: [Endpoint; 2], live: Option<Live>) -> Option<()> {
        let has_more = connection.zeek.missed() > 0
            || connection.related_to.is_some()
            || connection.carrier.is_some()
            || connection.reply_tags.is_some()
            || connection.first_window != [0; 2]
            || connection.lead().is_some();
        if has_more {
            return None;
        }
        self.sent = [Sent::of(sent[0])?, Sent::of(sent[1])?];
        self.quiet = connection.end.checked_sub(connection.zeek.active_until())?.try_into().ok()?;
        self.history = letters::pack(connection.zeek.history(connection.orig, connection.flipped(), connection.roles))?;
        if let Some(live) = live {
            if live != Live::of_all(live.seconds, live.swapped, sent) {
                return None;
            }
            self.left = u32::try_from(live.seconds).ok()?.checked_add(1)?;
        }
        Some(())
    }

    fn add_rare(&mut self, rare: Rare, overflow: &mut Overflow) {
        self.rare = overflow.rare.push(rare) as u32 + 1;
    }

    /// Writes all rare fields, in place of those the row has.
    pub(super) fn put_rare(&mut self, rare: Rare, overflow: &mut Overflow) {
        match (self.rare as usize).checked_sub(1).and_then(|place| overflow.rare.get_mut(place)) {
            Some(place) => *place = rare,
            None => self.add_rare(rare, overflow),
        }
    }

    #[inline]
    pub(super) fn number(&self) -> u64 {
        self.number_and_flags >> flag::BITS
    }

    #[inline]
    pub(super) fn has(&self, flag: u64) -> bool {
        self.number_and_flags & flag != 0
    }

    #[inline]
    fn set(&mut self, flag: u64, value: bool) {
        self.number_and_flags = self.number_and_flags & !flag | if value { flag } else { 0 };
    }

    #[inline]
    pub(super) fn family(&self) -> Family {
        if self.has(flag::V6) { Family::V6 } else { Family::V4 }
    }

    pub(super) fn tunnel(&self) -> Tunnel {
        Tunnel { kind: TunnelKind::numbered((self.tunnel >> 24) as u8), vni: self.tunnel & 0xff_ffff }
    }

    #[inline]
    pub(super) fn rare<'a>(&self, overflow: &'a Overflow) -> Option<&'a Rare> {
        overflow.rare.get((self.rare as usize).checked_sub(1)?)
    }

    /// Exchanges originator and responder, and all fields of either. `rare`: the rare fields before the exchange.
    pub(super) fn flip(&mut self, mut rare: Rare, locality: &Locality, overflow: &mut Overflow) {
        let flipped = !self.has(flag::FLIPPED);
        self.set(flag::FLIPPED, flipped);
        self.set(flag::ORIG_B, !self.has(flag::ORIG_B));
        self.port.swap(0, 1);
        self.sent.swap(0, 1);
        self.conn_state.swap(0, 1);
        let is_live = self.left > 0 || rare.live.is_some();
        self.set(flag::SWAPPED, is_live && !self.has(flag::SWAPPED));
        let mut addrs = self.addr.map(|addr| Addr(addr.into()));
        if !self.has(flag::V6) {
            self.addr.swap(0, 1);
        } else if let Some(place) = overflow.addrs.get_mut(self.addr[0] as usize) {
            addrs = *place;
            place.swap(0, 1);
        }
        let places = [addrs[1], addrs[0]].map(|addr| locality.scope_of(addr.ip(self.family()), self.proto));
        self.set(flag::FROM_GROUP, places[0].is_group && !places[1].is_group);
        self.direction = AddressScope::direction(places, self.has(flag::WAS_BROADCAST) && !flipped);
        rare.sent.swap(0, 1);
        rare.first_window.swap(0, 1);
        rare.history = letters::flip(rare.history, flipped);
        if let Some(live) = &mut rare.live {
            live.swapped = !live.swapped;
        }
        let letters = rare.history.0.into_iter().take(usize::from(rare.history.1));
        match ((self.rare as usize).checked_sub(1), letters::pack(letters)) {
            (Some(place), _) => {
                if let Some(place) = overflow.rare.get_mut(place) {
                    *place = rare;
                }
            }
            (None, Some(history)) => self.history = history,
            // The mark was one letter too many.
            (None, None) => self.add_rare(rare, overflow),
        }
    }
}
