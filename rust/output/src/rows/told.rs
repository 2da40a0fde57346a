//! Connections that a log told.
//!
//! A flow log lacks most of what packets show. So a told row has [`Facts`]: which columns are unknown, who refused the
//! connection, where it was observed. A translation is a fact of tracked rows, too.

use std::net::IpAddr;
use std::sync::Arc;

use conntrack_decode::{Addr, Family, FiveTuple, Tunnel, Vlan};
use conntrack_track::connection::{EndReason, Endpoint, Evidence};
use conntrack_track::direction::{AddressScope, Locality};
use conntrack_track::flow::Side;
use conntrack_track::proto::State;
use conntrack_track::zeek::ConnState;

use super::beside::Beside;
pub use super::beside::{Facts, Nat, NatEvidence, lack};
use super::letters;
use super::packed::{Overflow, Packed, Rare, flag};
use super::segments::Segments;
use super::{HistoryLetters, Row, Rows};

/// A connection as a log tells it; arrays have the originator first.
#[derive(Clone, Debug)]
pub struct Told {
    /// The five-tuple, from the originator to the responder.
    pub tuple: FiveTuple,
    /// Time of the first packet, nanoseconds, or `UNTIMED`.
    pub start: i64,
    /// Time of the last packet, in the same way.
    pub end: i64,
    /// Packets and bytes of each end.
    pub sent: [Endpoint; 2],
    /// Letters of Zeek's history, as far as the log shows them.
    pub history: HistoryLetters,
    /// Zeek's `conn_state`.
    pub conn_state: ConnState,
    /// Conntrack state.
    pub state: State,
    /// ASSURED.
    pub assured: bool,
    /// Reason for the end.
    pub end_reason: EndReason,
    /// Evidence for the originator.
    pub evidence: Evidence,
    /// The responder sent the first packet.
    pub flipped: bool,
    /// VLAN tags.
    pub vlan: Vlan,
    /// Facts beyond those of packets.
    pub facts: Facts,
    /// Translation.
    pub nat: Option<Nat>,
}

/// Rows of told connections.
pub struct ToldRows {
    packed: Segments<Packed>,
    overflow: Overflow,
    beside: Beside,
    locality: Arc<Locality>,
}

impl ToldRows {
    /// No rows; directions are seen from the local networks. `observers`: names for [`Facts::observed_at`].
    pub fn new(locality: Arc<Locality>, observers: Vec<String>) -> Self {
        let beside = Beside { observers, ..Beside::default() };
        Self { packed: Segments::default(), overflow: Overflow::default(), beside, locality }
    }

    /// Adds a connection.
    pub fn push(&mut self, told: &Told) {
        let number = self.packed.len() as u64;
        let packed = Packed::of_told(told, number, &self.locality, &mut self.overflow);
        self.packed.push(packed);
        self.beside.add(number, told.facts, told.nat);
    }

    /// The rows, in the order in which they were added.
    pub fn finish(mut self) -> Rows {
        self.packed.close();
        Rows {
            packed: self.packed,
            overflow: self.overflow,
            locality: self.locality,
            beside: Some(Box::new(self.beside)),
        }
    }
}

/// The side of a tuple's source in the key of the connection.
pub fn side_of(tuple: &FiveTuple) -> Side {
    if (tuple.src, tuple.sport) <= (tuple.dst, tuple.dport) { Side::A } else { Side::B }
}

impl Packed {
    fn of_told(told: &Told, number: u64, locality: &Locality, overflow: &mut Overflow) -> Self {
        let tuple = &told.tuple;
        let addrs = [tuple.src, tuple.dst];
        let scopes = addrs.map(|addr| locality.scope_of(addr.ip(tuple.family), tuple.proto));
        let orig = side_of(tuple);
        let mut packed = Self::blank(number, AddressScope::direction(scopes, false), told.vlan, Tunnel::default());
        (packed.start, packed.end, packed.proto) = (told.start, told.end, tuple.proto);
        packed.port = [tuple.sport, tuple.dport];
        (packed.state, packed.conn_state) = (told.state, [told.conn_state; 2]);
        (packed.evidence, packed.sure, packed.end_reason) = (told.evidence, told.evidence, told.end_reason);
        let seen_reply = told.facts.replied.unwrap_or_else(|| told.sent.iter().all(|sent| sent.packets > 0));
        packed.put_ends(tuple.family, addrs, overflow);
        packed.put_flags([
            (flag::ORIG_B, orig == Side::B),
            (flag::ASSURED, told.assured),
            (flag::SEEN_REPLY, seen_reply),
            (flag::FLIPPED, told.flipped),
            (flag::FROM_GROUP, scopes[0].is_group && !scopes[1].is_group),
        ]);
        let letters = told.history.0.into_iter().take(usize::from(told.history.1));
        if packed.put_sent(told.sent, letters::pack(letters)).is_none() {
            let rare = Rare {
                sent: told.sent,
                history: told.history,
                active_until: told.end,
                missed_bytes: 0,
                related_to: None,
                carrier: None,
                first_window: [0; 2],
                lead: None,
                reply_tags: None,
                live: None,
            };
            packed.put_rare(rare, overflow);
        }
        packed
    }
}

impl Rows {
    /// True for rows of a log.
    pub fn are_told(&self) -> bool {
        self.beside.is_some()
    }

    /// Sets the confidence in the originator of a row in place of the ladder's. Rows without facts are left alone.
    pub fn trust(&mut self, number: u64, confidence: f32) {
        let Some(beside) = self.beside.as_deref_mut() else { return };
        if let Some(facts) = beside.place(number).and_then(|at| beside.facts.get_mut(at)) {
            facts.confidence = Some(confidence);
        }
    }

    /// Notes the translations of rows, by place; facts of a log are kept.
    pub fn translate(&mut self, nat: impl Fn(usize) -> Option<Nat>) {
        let mut beside = Beside::default();
        if let Some(before) = self.beside.as_deref() {
            beside.observers.clone_from(&before.observers);
        }
        for (place, row) in self.iter().enumerate() {
            let (facts, nat) = (row.facts().copied(), nat(place).or_else(|| row.nat().copied()));
            if facts.is_some() || nat.is_some() {
                beside.add(row.number(), facts.unwrap_or_default(), nat);
            }
        }
        self.beside = Some(Box::new(beside));
    }
}

impl<'a> Row<'a> {
    /// Facts beyond those of packets; None for most tracked rows.
    #[inline]
    pub fn facts(self) -> Option<&'a Facts> {
        self.rows.beside.as_deref()?.get(self.number())
    }

    /// Test for something that the source does not know: a bit of [`lack`].
    pub fn lacks(self, what: u16) -> bool {
        self.facts().is_some_and(|facts| facts.unknown & what != 0)
    }

    /// Test for something of an end (0: originator) that the source does not know: a bit of [`lack`] for side A.
    pub fn end_lacks(self, what: u16, end: usize) -> bool {
        self.lacks(what << (end ^ self.orig() as usize))
    }

    /// True for a row of a log, whose silence before the first record says nothing.
    pub fn is_logged(self) -> bool {
        self.facts().is_some_and(|facts| facts.records > 0)
    }

    /// True where the times do not tell who sent first.
    pub fn is_unordered(self) -> bool {
        self.facts().is_some_and(|facts| facts.unordered)
    }

    /// The end (0: originator) whose side refused the connection.
    pub fn refused(self) -> Option<usize> {
        Some(self.facts()?.refused_by? as usize ^ self.orig() as usize)
    }

    /// The observers that logged the connection.
    pub fn observed_at(self) -> Option<&'a str> {
        let place = self.facts()?.observed_at?;
        self.rows.beside.as_deref()?.observers.get(place as usize).map(String::as_str)
    }

    /// The translation.
    pub fn nat(self) -> Option<&'a Nat> {
        let place = self.facts()?.nat?;
        self.rows.beside.as_deref()?.nats.get(place as usize)
    }

    /// Address and port of an end (0: originator) on the other side of the translation.
    pub fn nat_end(self, end: usize) -> Option<(IpAddr, u16)> {
        self.nat()?.ends[end ^ self.orig() as usize]
    }
}

/// The facts of some rows; None where there are none.
pub(super) fn facts_of<'a>(rows: impl Iterator<Item = Row<'a>>) -> Option<Box<Beside>> {
    let mut found: Vec<Row<'a>> = rows.filter(|row| row.facts().is_some()).collect();
    found.sort_by_key(|row| row.number());
    let all = found.first()?.rows.beside.as_deref()?;
    let mut part = Beside { observers: all.observers.clone(), ..Beside::default() };
    for row in found {
        part.add(row.number(), row.facts().copied().unwrap_or_default(), row.nat().copied());
    }
    Some(Box::new(part))
}

/// The five-tuple in the other direction.
#[must_use]
pub fn turned(tuple: FiveTuple) -> FiveTuple {
    FiveTuple { src: tuple.dst, dst: tuple.src, sport: tuple.dport, dport: tuple.sport, ..tuple }
}

/// The address of an [`IpAddr`], with its family.
pub fn addr_of(ip: IpAddr) -> (Addr, Family) {
    match ip {
        IpAddr::V4(addr) => (Addr(u32::from(addr).into()), Family::V4),
        IpAddr::V6(addr) => (Addr(u128::from(addr)), Family::V6),
    }
}
