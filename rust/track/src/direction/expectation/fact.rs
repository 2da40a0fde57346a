//! Expectations as facts, and bounded sets of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use conntrack_base::time::SECOND;
use conntrack_decode::{Addr, Family, FiveTuple, Packet, Tunnel, Vlan};

/// The most by which a connection may precede its announcement: two packets of one moment may be captured in any order.
const LATE: i64 = SECOND;

/// The initiator of an expected connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Initiator {
    /// The named endpoint, which asked for the connection.
    Named,
    /// The peer of the named endpoint, which was asked to connect.
    Peer,
}

/// A connection that a message announces, between a named endpoint and any port of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Expectation {
    /// Capture time of the message, nanoseconds.
    pub ts: i64,
    /// First and last time at which the connection may begin.
    pub begins: [i64; 2],
    /// IP protocol of the connection.
    pub proto: u8,
    /// Address family.
    pub family: Family,
    /// Address of the named endpoint.
    pub addr: Addr,
    /// Port of the named endpoint.
    pub port: u16,
    /// Address of the peer; None: any.
    pub peer: Option<Addr>,
    /// The end that initiates.
    pub initiator: Initiator,
    /// Source and destination of the message: address and port.
    pub parent: [(Addr, u16); 2],
    /// IP protocol of the message.
    pub parent_proto: u8,
    /// VLAN tags and tunnel of the message.
    pub tags: (Vlan, Tunnel),
}

/// An announcement in a message.
pub(super) struct Announcement {
    pub(super) proto: u8,
    /// Named endpoint.
    pub(super) addr: Addr,
    pub(super) port: u16,
    pub(super) initiator: Initiator,
    /// The peer is the receiver of the message; else any host.
    pub(super) by_receiver: bool,
    /// Lifetime, nanoseconds.
    pub(super) holds: i64,
}

/// Expectations, the earliest ones where there are more than a bound.
#[derive(Debug)]
pub struct Expectations {
    all: BTreeSet<Expectation>,
    most: usize,
}

impl Default for Expectations {
    fn default() -> Self {
        Self::bounded(Self::MOST)
    }
}

impl Expectations {
    /// The most stored announcements: a bound on memory far beyond ordinary use.
    pub const MOST: usize = 1 << 16;

    /// At most so many expectations.
    pub fn bounded(most: usize) -> Self {
        Self { all: BTreeSet::new(), most }
    }

    /// The earliest of these expectations, at most so many.
    pub fn of(mut all: Vec<Expectation>, most: usize) -> Self {
        all.sort_unstable();
        all.dedup();
        all.truncate(most);
        Self { all: all.into_iter().collect(), most }
    }

    /// Add an expectation. Returns true if it is new, and among the earliest.
    pub fn insert(&mut self, one: Expectation) -> bool {
        if self.all.len() >= self.most && self.all.last().is_none_or(|last| one >= *last) {
            return false;
        }
        let is_new = self.all.insert(one);
        if self.all.len() > self.most {
            self.all.pop_last();
        }
        is_new
    }

    /// Add the expectations of another part of the packets or connections.
    pub fn merge(&mut self, other: Self) {
        for one in other.all {
            self.insert(one);
        }
    }

    /// All expectations, in the order of their times.
    pub fn iter(&self) -> impl Iterator<Item = &Expectation> {
        self.all.iter()
    }
}

impl Announcement {
    pub(super) fn expected(&self, packet: &Packet, ts: i64) -> Expectation {
        let FiveTuple { src, dst, sport, dport, proto, family } = packet.tuple;
        Expectation {
            ts,
            begins: [ts.saturating_sub(LATE), ts.saturating_add(self.holds)],
            proto: self.proto,
            family,
            addr: self.addr,
            port: self.port,
            peer: self.by_receiver.then_some(dst),
            initiator: self.initiator,
            parent: [(src, sport), (dst, dport)],
            parent_proto: proto,
            tags: (packet.vlan, packet.tunnel),
        }
    }
}
