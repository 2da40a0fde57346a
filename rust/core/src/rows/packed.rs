//! A finished connection in 96 bytes, and what has no room there beside it.

use serde::{Deserialize, Serialize};

use crate::compact::Kept;
use crate::connection::{Connection, EndReason, Endpoint, Evidence};
use crate::decode::{Addr, Family, Tunnel, TunnelKind, Vlan, ipproto};
use crate::direction::{Direction, Locality, Place};
use crate::flow::{FlowKey, Side};
use crate::proto::State;
use crate::table::Gone;
use crate::time::SECOND;
use crate::tracker::Closed;
use crate::zeek::ConnState;

use super::letters::{self, Letters};
use super::segments::Segments;

/// A finished connection, as nearly all are. What belongs to an end is told of originator and responder, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Packed {
    pub start: i64,
    pub end: i64,
    /// Its number in 48 bits, more than any capture has packets, and its [`flag`]s.
    number_and_flags: u64,
    pub history: u64,
    pub sent: [Sent; 2],
    /// Addresses of IPv4; of IPv6: where they are.
    pub addr: [u32; 2],
    pub port: [u16; 2],
    pub vlan: Vlan,
    /// The kind in the upper eight bits, the network identifier in the others.
    tunnel: u32,
    /// Whole seconds that the gateway's entry had left when the capture ended, and one; 0: no entry was alive.
    pub left: u32,
    /// Nanoseconds from the last packet that Zeek's `duration` counts to the last one.
    pub quiet: u32,
    /// Where the rest is, and one; 0: there is nothing more.
    rare: u32,
    pub proto: u8,
    pub state: State,
    /// As it is, and as it would be, were the roles the other way round.
    pub conn_state: [ConnState; 2],
    pub evidence: Evidence,
    /// What the confidence comes from.
    pub sure: Evidence,
    pub end_reason: EndReason,
    pub direction: Direction,
}

const _: () = assert!(size_of::<Packed>() == 96);

/// What an end sent, in numbers that are large enough for nearly all.
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

/// Yes or no.
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
    /// The original direction of the gateway's entry is the responder's.
    pub const SWAPPED: u64 = 1 << 8;
    /// The originator, and not the responder, is an address of many.
    pub const FROM_GROUP: u64 = 1 << 9;
    pub const BITS: u32 = 16;
}

/// What hardly any row has. A row that has one of it reads all of it here.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Rare {
    pub sent: [Endpoint; 2],
    pub history: Letters,
    pub active_until: i64,
    pub missed_bytes: u64,
    pub related_to: Option<u64>,
    pub carrier: Option<u64>,
    pub pure_acks: [u32; 2],
    pub first_window: [u16; 2],
    pub live: Option<Live>,
}

/// What a listing of gateway entries needs beyond the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Whole seconds left when the capture ended.
    pub seconds: i64,
    /// The original direction is the responder's.
    pub swapped: bool,
    /// Datagrams and bytes that the gateway counts, original and reply.
    pub counted: [(u64, u64); 2],
    /// Identifier of an ICMP query, call id of GRE version 1.
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

    /// The entry of a row that sent this, where it counted all of it.
    pub(super) fn of_all(seconds: i64, swapped: bool, sent: [Endpoint; 2]) -> Self {
        let mut counted = sent.map(|sent| (sent.packets, sent.ip_bytes));
        if swapped {
            counted.swap(0, 1);
        }
        Self { seconds, swapped, counted, id: 0, code: 0 }
    }
}

/// What is beside the rows.
#[derive(Default)]
pub(super) struct Beside {
    /// Addresses of IPv6.
    pub addrs: Segments<[Addr; 2]>,
    pub rare: Segments<Rare>,
}

/// By how far what is beside rows has moved: addresses, and the rest.
#[derive(Clone, Copy)]
pub(super) struct Moved(u32, u32);

impl Beside {
    /// Adds what is beside the rows of another one, which speak of rows by other numbers.
    pub(super) fn add(&mut self, other: Self, named: impl Fn(u64) -> u64) -> Moved {
        let moved = Moved(self.addrs.len() as u32, self.rare.len() as u32);
        for addrs in other.addrs {
            self.addrs.push(addrs);
        }
        for mut rare in other.rare {
            rare.related_to = rare.related_to.map(&named);
            rare.carrier = rare.carrier.map(&named);
            self.rare.push(rare);
        }
        moved
    }
}

/// What any row says of its connection, however that was kept.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
struct Facts<'a> {
    key: &'a FlowKey,
    id: u64,
    start: i64,
    end: i64,
    orig: Side,
    vlan: Vlan,
    tunnel: Tunnel,
    state: State,
    /// A reply was seen, and that it is assured.
    status: (bool, bool),
    /// As it is, and were the roles the other way round.
    conn_state: [ConnState; 2],
    evidence: Evidence,
    flipped: bool,
    was_broadcast: bool,
    is_error: bool,
    answers_unseen: bool,
    swapped: bool,
}

impl Packed {
    /// Gives it another number, beside what has moved.
    pub(super) fn move_to(&mut self, number: u64, moved: Moved) {
        self.number_and_flags = number << flag::BITS | self.number_and_flags & ((1 << flag::BITS) - 1);
        if self.has(flag::V6) {
            self.addr[0] += moved.0;
        }
        if self.rare > 0 {
            self.rare += moved.1;
        }
    }

    /// The row of a closed connection.
    pub(super) fn of(closed: &Closed, locality: &Locality, beside: &mut Beside) -> Self {
        if let Gone::Kept(kept) = &closed.what
            && let Some(packed) = Self::of_kept(kept, closed, locality, beside)
        {
            debug_assert_eq!(packed.alone(beside), {
                let mut own = Beside::default();
                Self::of_whole(&kept.connection(), closed, locality, &mut own).alone(&own)
            });
            return packed;
        }
        Self::of_whole(&closed.connection(), closed, locality, beside)
    }

    /// All that there is to say, wherever its addresses are.
    fn alone(mut self, beside: &Beside) -> (Self, Option<[Addr; 2]>) {
        let addrs = self.has(flag::V6).then(|| beside.addrs.get(self.addr[0] as usize).copied()).flatten();
        if addrs.is_some() {
            self.addr = [0; 2];
        }
        (self, addrs)
    }

    /// The same of one that is told by its words; None where more is to be said.
    fn of_kept(kept: &Kept, closed: &Closed, locality: &Locality, beside: &mut Beside) -> Option<Self> {
        if !kept.is_plain() {
            return None;
        }
        let (orig, resp) = (kept.orig(), kept.orig().other());
        let caret = kept.flipped().then_some(b'^');
        let history = letters::pack(caret.into_iter().chain(kept.letters(orig)))?;
        let left = closed.stopped.filter(|_| !kept.is_gone()).map(|now| kept.deadline.saturating_sub(now));
        let left = left.filter(|left| *left > 0).map(|left| left / SECOND);
        let left = left.map_or(Some(0), |seconds| u32::try_from(seconds).ok()?.checked_add(1))?;
        let facts = Facts {
            key: &kept.key,
            id: kept.words().id(),
            start: kept.words().start(),
            end: kept.words().end(),
            orig,
            vlan: kept.key.vlan,
            tunnel: kept.key.tunnel,
            state: kept.state(),
            status: kept.status(),
            conn_state: [kept.conn_state(orig), kept.conn_state(resp)],
            evidence: kept.evidence(),
            flipped: kept.flipped(),
            was_broadcast: kept.was_broadcast(),
            is_error: false,
            answers_unseen: false,
            swapped: left > 0 && kept.gateway_orig() != orig,
        };
        let mut packed = Self::begin(&facts, closed.reason, locality, beside);
        let sent = kept.sent();
        packed.sent = [orig, resp].map(|side| {
            let (packets, ip_bytes, payload_bytes) = sent[side as usize];
            Sent { packets, ip_bytes, payload_bytes }
        });
        (packed.history, packed.quiet, packed.left) = (history, kept.quiet(), left);
        Some(packed)
    }

    fn of_whole(connection: &Connection, closed: &Closed, locality: &Locality, beside: &mut Beside) -> Self {
        let (orig, resp) = (connection.orig, connection.orig.other());
        let sent = [connection.sent(orig), connection.sent(resp)];
        let live = closed.stopped.and_then(|now| Live::of(connection, now));
        let facts = Facts {
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
        let mut packed = Self::begin(&facts, closed.reason, locality, beside);
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
                    pure_acks: [orig, resp].map(|side| connection.pure_acks[side as usize]),
                    first_window: [orig, resp].map(|side| connection.first_window[side as usize]),
                    live,
                },
                beside,
            );
        }
        packed
    }

    /// What any row says, and nothing of what may have no room.
    #[inline]
    fn begin(facts: &Facts<'_>, end_reason: EndReason, locality: &Locality, beside: &mut Beside) -> Self {
        let Facts { key, orig, was_broadcast, .. } = *facts;
        let addrs = [key.addr(orig), key.addr(orig.other())];
        let places = [locality.place(addrs[0].ip(key.family)), locality.place(addrs[1].ip(key.family))];
        let (orig_port, resp_port) = key.ports(orig);
        let mut packed = Self {
            start: facts.start,
            end: facts.end,
            number_and_flags: facts.id << flag::BITS,
            history: 0,
            sent: [Sent::default(); 2],
            addr: [addrs[0].0 as u32, addrs[1].0 as u32],
            port: [orig_port, resp_port],
            vlan: facts.vlan,
            tunnel: (facts.tunnel.kind as u32) << 24 | facts.tunnel.vni & 0xff_ffff,
            left: 0,
            quiet: 0,
            rare: 0,
            proto: key.proto,
            state: facts.state,
            conn_state: facts.conn_state,
            evidence: facts.evidence,
            sure: facts.evidence,
            end_reason,
            direction: Place::direction(places, was_broadcast),
        };
        if key.family == Family::V6 {
            packed.set(flag::V6, true);
            packed.addr = [beside.addrs.push(addrs) as u32, 0];
        }
        packed.set(flag::ORIG_B, orig == Side::B);
        packed.set(flag::ASSURED, facts.status.1);
        packed.set(flag::SEEN_REPLY, facts.status.0);
        packed.set(flag::FLIPPED, facts.flipped);
        packed.set(flag::WAS_BROADCAST, was_broadcast);
        packed.set(flag::IS_ERROR, facts.is_error);
        packed.set(flag::ANSWERS_UNSEEN, facts.answers_unseen);
        packed.set(flag::SWAPPED, facts.swapped);
        packed.set(flag::FROM_GROUP, places[0].is_group && !places[1].is_group);
        packed
    }

    /// What may have no room; None where something has none.
    fn add_ordinary(&mut self, connection: &Connection, sent: [Endpoint; 2], live: Option<Live>) -> Option<()> {
        let has_more = connection.zeek.missed() > 0
            || connection.related_to.is_some()
            || connection.carrier.is_some()
            || connection.pure_acks != [0; 2]
            || connection.first_window != [0; 2];
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

    fn add_rare(&mut self, rare: Rare, beside: &mut Beside) {
        self.rare = beside.rare.push(rare) as u32 + 1;
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
    pub(super) fn rare<'a>(&self, beside: &'a Beside) -> Option<&'a Rare> {
        beside.rare.get((self.rare as usize).checked_sub(1)?)
    }

    /// Exchanges originator and responder, and everything that belongs to them. `rare`: all of it, as it is before.
    pub(super) fn flip(&mut self, mut rare: Rare, locality: &Locality, beside: &mut Beside) {
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
        } else if let Some(place) = beside.addrs.get_mut(self.addr[0] as usize) {
            addrs = *place;
            place.swap(0, 1);
        }
        let places = [addrs[1], addrs[0]].map(|addr| locality.place(addr.ip(self.family())));
        self.set(flag::FROM_GROUP, places[0].is_group && !places[1].is_group);
        self.direction = Place::direction(places, self.has(flag::WAS_BROADCAST));
        rare.sent.swap(0, 1);
        rare.pure_acks.swap(0, 1);
        rare.first_window.swap(0, 1);
        rare.history = letters::flip(rare.history, flipped);
        if let Some(live) = &mut rare.live {
            live.swapped = !live.swapped;
        }
        let letters = rare.history.0.into_iter().take(usize::from(rare.history.1));
        match ((self.rare as usize).checked_sub(1), letters::pack(letters)) {
            (Some(place), _) => {
                if let Some(place) = beside.rare.get_mut(place) {
                    *place = rare;
                }
            }
            (None, Some(history)) => self.history = history,
            // The mark was one letter too many.
            (None, None) => self.add_rare(rare, beside),
        }
    }
}
