//! Facts of a connection beyond those of packets, by the number of the connection, beside the rows: a tracked row does not
//! grow by them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use conntrack_track::flow::Side;

/// Bits of [`Facts::unknown`]. Those of an end are of side A, and shifted by one of side B.
pub mod lack {
    /// The conntrack state.
    pub const STATE: u16 = 1;
    /// Zeek's `conn_state`.
    pub const CONN_STATE: u16 = 1 << 1;
    /// Zeek's history: its letters serve the ladder of evidence alone.
    pub const HISTORY: u16 = 1 << 2;
    /// ASSURED.
    pub const ASSURED: u16 = 1 << 3;
    /// SEEN_REPLY.
    pub const SEEN_REPLY: u16 = 1 << 4;
    /// The sender of the first packet.
    pub const FLIPPED: u16 = 1 << 5;
    /// The reason for the end.
    pub const END_REASON: u16 = 1 << 6;
    /// Both ports.
    pub const PORTS: u16 = 1 << 7;
    /// Packets of an end.
    pub const PACKETS: u16 = 1 << 8;
    /// Bytes of an end from the IP header on.
    pub const IP_BYTES: u16 = 1 << 10;
    /// Bytes of an end above the transport header.
    pub const PAYLOAD: u16 = 1 << 12;
}

conntrack_base::words! {
    /// The evidence that two connections are one, before and behind a translation; from the weakest to the strongest.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum NatEvidence {
        /// Identification of the IPv4 header, with the content of the packet.
        #[default]
        IpId = "ip_id",
        /// Sequence number and content of an ICMP query or its reply.
        IcmpSeq = "icmp_seq",
        /// Content of a UDP datagram.
        Payload = "payload",
        /// DNS id and question.
        Dns = "dns",
        /// TCP timestamps, RFC 7323.
        Tsval = "tsval",
        /// TCP sequence and acknowledgement number of a segment.
        Seq = "seq",
        /// TCP initial sequence number, or SCTP verification tag.
        Isn = "isn",
        /// The gateway's own table.
        Gateway = "gateway",
    }
}

/// A translation of a connection: the ends as the other side of the gateway sees them, by [`Side`] of the row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nat {
    /// Address and port of each end; None: not translated as far as known.
    pub ends: [Option<(IpAddr, u16)>; 2],
    /// The evidence.
    pub evidence: NatEvidence,
    /// Probability that the translation is right.
    pub confidence: f32,
}

/// Facts of a connection beyond those of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Columns that the source cannot know: bits of [`lack`].
    pub unknown: u16,
    /// The times of both ends do not tell who sent first.
    pub unordered: bool,
    /// The end whose side refused the connection.
    pub refused_by: Option<Side>,
    /// Place in the names of observers.
    pub observed_at: Option<u32>,
    /// Records of the log; 0: of no log.
    pub records: u32,
    /// One of so many packets was counted; 0: an unknown part of them. None: the source does not say.
    pub sampled: Option<u32>,
    /// Both ends sent, where the source says more than its counts.
    pub replied: Option<bool>,
    /// Confidence in the originator in place of the ladder's.
    pub confidence: Option<f32>,
    /// Place among the translations; the rows set it.
    pub nat: Option<u32>,
}

/// Facts by the numbers of connections.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Beside {
    /// Numbers in ascending order, one for each of `facts`.
    pub(super) numbers: Vec<u64>,
    pub(super) facts: Vec<Facts>,
    pub(super) observers: Vec<String>,
    pub(super) nats: Vec<Nat>,
}

impl Beside {
    pub(super) fn place(&self, number: u64) -> Option<usize> {
        // The numbers of a log's rows have no gaps.
        let dense = usize::try_from(number).ok().filter(|at| self.numbers.get(*at) == Some(&number));
        dense.or_else(|| self.numbers.binary_search(&number).ok())
    }

    pub(super) fn get(&self, number: u64) -> Option<&Facts> {
        self.facts.get(self.place(number)?)
    }

    /// Adds facts of a number above all others; what has none is not kept.
    pub(super) fn add(&mut self, number: u64, mut facts: Facts, nat: Option<Nat>) {
        facts.nat = nat.map(|nat| {
            self.nats.push(nat);
            self.nats.len() as u32 - 1
        });
        if self.numbers.last().is_none_or(|last| *last < number) {
            self.numbers.push(number);
            self.facts.push(facts);
        }
    }

    /// Test for one place for each number, in ascending order, and places that exist; for facts from outside.
    pub(super) fn is_sound(&self) -> bool {
        let within = |at: Option<u32>, len: usize| at.is_none_or(|at| (at as usize) < len);
        self.numbers.len() == self.facts.len()
            && self.numbers.windows(2).all(|two| two[0] < two[1])
            && self.facts.iter().all(|facts| within(facts.observed_at, self.observers.len()))
            && self.facts.iter().all(|facts| within(facts.nat, self.nats.len()))
    }
}
