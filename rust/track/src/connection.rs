//! A live connection: what its two ends have sent, who initiated it, and the entry a gateway holds for it.

use serde::{Deserialize, Serialize};

use crate::config::Rules;
use crate::flow::{FlowKey, Side};
use crate::proto::{self, Gateway, State};
use crate::zeek::{ConnState, Roles, View};
use conntrack_base::checkpoint::count;
use conntrack_decode::{L4, Packet, Tunnel, Vlan, ipproto, sctp_chunk};

pub use crate::evidence::Evidence;

/// UDP packets of a connection that are read for what they say; nobody says it later.
pub const READ_UDP: u64 = 8;
/// Of messages that contradict each other, so many times more must name one originator.
const CLEAR_MAJORITY: u16 = 4;

/// Takes one more message that names an originator: who it is now, and why. Any bytes may look like a message, so those that
/// contradict each other need a clear majority, and without one they say nothing.
pub fn take_claim(claims: &mut [u8; 2], orig: Side, first: Side) -> (Side, Evidence) {
    let claim = &mut claims[orig as usize];
    *claim = claim.saturating_add(1);
    let [one, other] = claims.map(u16::from);
    if one >= CLEAR_MAJORITY * other {
        (Side::A, Evidence::Payload)
    } else if other >= CLEAR_MAJORITY * one {
        (Side::B, Evidence::Payload)
    } else {
        (first, Evidence::FirstPacket)
    }
}

conntrack_base::words! {
    /// How a connection ended.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum EndReason {
        /// Both ends closed it.
        Closed = "closed",
        /// An RST ended it.
        Reset = "reset",
        /// Nothing came for as long as its timeout.
        Timeout = "timeout",
        /// The table was full.
        Evicted = "evicted",
        /// The capture ended first.
        EndOfCapture = "end_of_capture",
        /// A new connection took its five-tuple.
        Reused = "reused",
    }
}

impl EndReason {
    /// Of a connection whose entry reports this state or was `closed`, and whose association was `over` for a reason, if
    /// it was.
    #[inline]
    pub fn of(state: State, closed: bool, over: Option<Self>, cause: Self) -> Self {
        match state {
            _ if closed => Self::Reset,
            State::Close => Self::Reset,
            State::TimeWait => Self::Closed,
            State::Closed => over.unwrap_or(cause),
            _ => cause,
        }
    }
}

/// What one end has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// IP datagrams.
    #[serde(deserialize_with = "count")]
    pub packets: u64,
    /// Bytes from the IP header on.
    #[serde(deserialize_with = "count")]
    pub ip_bytes: u64,
    /// Bytes above the transport header.
    #[serde(deserialize_with = "count")]
    pub payload_bytes: u64,
}

/// A connection. Everything that belongs to a side is kept by [`Side`], so that a late decision about the originator
/// changes `orig` and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// What its packets have in common.
    pub key: FlowKey,
    /// Its number, in the order of first packets.
    pub id: u64,
    /// Capture time of the first packet, nanoseconds.
    pub start: i64,
    /// Capture time of the last packet, nanoseconds.
    pub end: i64,
    /// What each [`Side`] has sent.
    pub ends: [Endpoint; 2],
    /// Who sent the first packet seen.
    pub first: Side,
    /// Who initiated.
    pub orig: Side,
    /// Why we say so.
    pub evidence: Evidence,
    /// VLAN tags of the first packet.
    pub vlan: Vlan,
    /// Tunnel of the first packet.
    pub tunnel: Tunnel,
    /// The gateway's entry, while there is one.
    pub gateway: Option<Gateway>,
    /// An SCTP association was shut down or aborted.
    pub over: Option<EndReason>,
    /// An entry was deleted: what comes now is an echo of the past, or a new connection.
    pub closed: bool,
    /// The entry's `seen_reply` and `assured`, also after it is gone.
    pub status: (bool, bool),
    /// Zeek's view.
    pub zeek: View,
    /// Whose word it is who initiated.
    pub roles: Roles,
    /// The connection that an ICMP error speaks of.
    pub related_to: Option<u64>,
    /// The connection that carries the tunnel it is in.
    pub carrier: Option<u64>,
    /// A packet of the originator was sent to a group or to everybody.
    pub to_group: bool,
    /// It is an ICMP error.
    pub is_error: bool,
    /// TCP segments of each side that acknowledge and do nothing else.
    pub pure_acks: [u32; 2],
    /// The first window of each side, as sent in a TCP segment with timestamps that is neither a SYN nor an RST; 0: none.
    pub first_window: [u16; 2],
    /// How often the payload said that the originator is this side; see [`Evidence::Payload`].
    pub claims: [u8; 2],
    /// Capture time at which it expires.
    pub deadline: i64,
}

impl Connection {
    /// A connection begins with this packet from `first`.
    pub fn begin(key: FlowKey, id: u64, first: Side, packet: &Packet, roles: Roles, ts: i64) -> Self {
        Self {
            key,
            id,
            start: ts,
            end: ts,
            ends: [Endpoint::default(); 2],
            first,
            orig: first,
            evidence: Evidence::FirstPacket,
            vlan: packet.vlan,
            tunnel: packet.tunnel,
            gateway: None,
            over: None,
            closed: false,
            status: (false, false),
            zeek: View::begin(ts, roles),
            roles,
            related_to: None,
            carrier: None,
            to_group: false,
            is_error: matches!(packet.l4, L4::IcmpError { .. }),
            pure_acks: [0; 2],
            first_window: [0; 2],
            claims: [0; 2],
            deadline: ts,
        }
    }

    /// Notes the end of an SCTP association in a packet that the gateway accepted.
    pub fn note_end(&mut self, packet: &Packet) {
        let L4::Sctp(sctp) = packet.l4 else { return };
        for (kind, _) in sctp.chunks() {
            match kind {
                sctp_chunk::ABORT => self.over = Some(EndReason::Reset),
                sctp_chunk::SHUTDOWN_COMPLETE => self.over = Some(EndReason::Closed),
                sctp_chunk::INIT => self.over = None,
                _ => {}
            }
        }
    }

    /// Counts a packet from `side`.
    #[inline]
    pub fn count(&mut self, packet: &Packet, side: Side, ts: i64) {
        let end = &mut self.ends[side as usize];
        match self.roles {
            Roles::Given => {
                end.packets += u64::from(packet.packets);
                end.ip_bytes += u64::from(packet.ip_bytes);
                end.payload_bytes += u64::from(packet.payload_bytes);
            }
            // Zeek sees datagrams, not fragments.
            Roles::Zeek => {
                end.packets += 1;
                end.ip_bytes += u64::from(packet.datagram_bytes);
                end.payload_bytes += u64::from(packet.segment_bytes);
            }
        }
        self.end = self.end.max(ts);
        self.to_group |= packet.to_group && side == self.first;
    }

    /// What a side has sent, as it is reported.
    pub fn sent(&self, side: Side) -> Endpoint {
        let counted = self.ends[side as usize];
        match (self.roles, self.key.proto) {
            (Roles::Zeek, ipproto::TCP) => Endpoint { payload_bytes: self.zeek.tcp_size(side), ..counted },
            (Roles::Zeek, ipproto::UDP | ipproto::ICMP | ipproto::ICMPV6) | (Roles::Given, _) => counted,
            (Roles::Zeek, _) => Endpoint { payload_bytes: 0, ..counted },
        }
    }

    /// Sets the time at which it expires, after a packet at `ts`: the entry's, or as long as one without an entry waits
    /// for its next packet; or Zeek's.
    #[inline]
    pub fn set_deadline(&mut self, ts: i64, rules: &Rules) {
        self.deadline = match (&self.gateway, self.roles) {
            (_, Roles::Zeek) => self.zeek.deadline(self.key.proto, self.orig, self.start, &rules.timeouts),
            (Some(entry), Roles::Given) => entry.deadline,
            (None, Roles::Given) => ts.saturating_add(rules.timeouts.get(proto::linger(self.key.proto, self.closed))),
        };
    }

    /// A gateway's entry that survives a full table.
    pub fn is_assured(&self) -> bool {
        self.gateway.as_ref().is_some_and(|entry| entry.assured)
    }

    /// Bytes that it takes on the heap, itself included.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.zeek.heap_bytes()
    }

    /// The state a gateway would report after the last packet.
    pub fn state(&self) -> State {
        self.gateway.as_ref().map_or(State::None, Gateway::reported_state)
    }

    /// The first packet seen was sent by the responder.
    pub fn flipped(&self) -> bool {
        self.first != self.orig
    }

    /// Its first packets were sent to a group address of the link, and nobody answered: a directed broadcast. TCP is
    /// not; a cluster that shares a group address answers.
    pub fn was_broadcast(&self) -> bool {
        let answered = self.ends[self.first.other() as usize].packets > 0;
        self.to_group && !answered && !self.flipped() && self.key.proto != ipproto::TCP
    }

    /// Zeek's conn_state, if this side is the originator.
    pub fn conn_state(&self, orig: Side) -> ConnState {
        self.zeek.conn_state(self.key.proto, orig, self.ends.map(|end| end.packets > 0))
    }

    /// The reason to report where something other than the packets ended it.
    pub fn end_reason(&self, cause: EndReason) -> EndReason {
        match self.roles {
            Roles::Zeek if self.zeek.was_reset() => EndReason::Reset,
            Roles::Zeek if self.zeek.was_closed() => EndReason::Closed,
            Roles::Zeek => cause,
            Roles::Given => EndReason::of(self.state(), self.closed, self.over, cause),
        }
    }
}
