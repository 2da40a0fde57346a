//! A live connection: the traffic of its two ends, its originator, and the gateway's entry.

use serde::{Deserialize, Serialize};

use crate::config::Rules;
use crate::early::{Before, Early, Reorder};
use crate::flow::{FlowKey, Side, Tags};
use crate::proto::{self, Gateway, State, Status};
use crate::zeek::{ConnState, Roles, View};
use conntrack_base::checkpoint::count;
use conntrack_decode::{L4, Packet, Tunnel, Vlan, ipproto, sctp_chunk};

pub use crate::evidence::Evidence;

/// The number of UDP packets per connection whose payload may name the originator.
pub const READ_UDP: u64 = 8;
/// The majority by which contradicting messages must name one originator.
const CLEAR_MAJORITY: u16 = 4;

/// Count one more message that names `orig`, and return the new originator with its evidence. Any bytes may look like a
/// message: contradicting ones need a clear majority, and count as nothing without one.
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
    /// The reason for the end of a connection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum EndReason {
        /// Closed by both ends.
        Closed = "closed",
        /// Ended by an RST.
        Reset = "reset",
        /// No packet within the timeout.
        Timeout = "timeout",
        /// Dropped from a full table.
        Evicted = "evicted",
        /// Alive at the end of the capture.
        EndOfCapture = "end_of_capture",
        /// Replaced by a new connection with an equal five-tuple.
        Reused = "reused",
    }
}

impl EndReason {
    /// The reason for a connection whose entry reports this state or was `closed`. `over`: the reason why the
    /// association ended, if at all.
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

/// The traffic that one end has sent.
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

/// A connection. Everything per side is stored by [`Side`]: a late decision about the originator changes `orig` and
/// nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// The key that all packets share.
    pub key: FlowKey,
    /// The connection's number, in the order of first packets.
    pub id: u64,
    /// Capture time of the first packet, nanoseconds.
    pub start: i64,
    /// Capture time of the last packet, nanoseconds.
    pub end: i64,
    /// The traffic that each [`Side`] has sent.
    pub ends: [Endpoint; 2],
    /// The sender of the first packet seen.
    pub first: Side,
    /// The originator.
    pub orig: Side,
    /// The evidence for the originator.
    pub evidence: Evidence,
    /// VLAN tags of the first packet.
    pub vlan: Vlan,
    /// Tunnel of the first packet.
    pub tunnel: Tunnel,
    /// Tags of the first packet of the other direction, where they differ from those of the first packet.
    pub reply_tags: Option<Tags>,
    /// The gateway's entry, if there is one.
    pub gateway: Option<Gateway>,
    /// The reason, once an SCTP association was shut down or aborted.
    pub over: Option<EndReason>,
    /// An entry was deleted: later packets are stray, or open a new connection.
    pub closed: bool,
    /// The entry's `seen_reply` and `assured`, also after its deletion.
    pub status: Status,
    /// Zeek's view.
    pub zeek: View,
    /// The authority on who is the originator.
    pub roles: Roles,
    /// The connection that an ICMP error quotes.
    pub related_to: Option<u64>,
    /// The connection that carries the tunnel.
    pub carrier: Option<u64>,
    /// A packet of the originator had a multicast or broadcast destination.
    pub to_group: bool,
    /// The connection consists of ICMP errors.
    pub is_error: bool,
    /// The first window of each side, as sent in a TCP segment with timestamps, neither a SYN nor an RST; 0: none.
    pub first_window: [u16; 2],
    /// The number of payloads that named this side as the originator; see [`Evidence::Payload`].
    pub claims: [u8; 2],
    /// Capture time at which the connection expires, nanoseconds.
    pub deadline: i64,
    /// Handshakes stored out of order, if any.
    pub reorder: Option<Box<Reorder>>,
}

impl Connection {
    /// A connection that begins with this packet from `first`, captured at `ts`.
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
            reply_tags: None,
            gateway: None,
            over: None,
            closed: false,
            status: Status::default(),
            zeek: View::begin(ts, roles),
            roles,
            related_to: None,
            carrier: None,
            to_group: false,
            is_error: matches!(packet.l4, L4::IcmpError { .. }),
            first_window: [0; 2],
            claims: [0; 2],
            deadline: ts,
            reorder: None,
        }
    }

    /// Test for the invariants of the parts; for state from outside.
    pub fn is_sound(&self) -> bool {
        let early = self.reorder.as_deref().and_then(|reorder| reorder.early.as_ref());
        self.gateway.as_ref().is_none_or(|entry| entry.is_sound(self.key.proto))
            && self.zeek.is_sound()
            && early.is_none_or(|early| early.is_sound(self.key.proto))
    }

    /// Tags of the first packet.
    pub fn tags(&self) -> Tags {
        Tags { vlan: self.vlan, vni: self.tunnel.vni }
    }

    /// The key of the packets with other tags that joined the connection. The connection's key has the tags of either
    /// direction: of the SYN+ACK, where that was stored before its SYN.
    pub fn reply_key(&self) -> Option<FlowKey> {
        let reply = self.reply_tags?;
        let other = if reply == self.key.tags() { self.tags() } else { reply };
        Some(self.key.with_tags(other))
    }

    /// Note the tags of a packet from `side`, if the packet is the first one of its direction and the tags differ.
    pub fn note_tags(&mut self, packet: &Packet, side: Side) {
        let is_first_reply = side != self.first && self.ends[side as usize].packets == 0;
        if is_first_reply && Tags::of(packet) != self.tags() {
            self.reply_tags.get_or_insert(Tags::of(packet));
        }
    }

    /// Note the end of an SCTP association in a packet that the gateway accepted.
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

    /// Count a packet from `side`.
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

    /// The traffic that a side has sent, as reported.
    pub fn sent(&self, side: Side) -> Endpoint {
        let counted = self.ends[side as usize];
        match (self.roles, self.key.proto) {
            (Roles::Zeek, ipproto::TCP) => Endpoint { payload_bytes: self.zeek.tcp_size(side), ..counted },
            (Roles::Zeek, ipproto::UDP | ipproto::ICMP | ipproto::ICMPV6) | (Roles::Given, _) => counted,
            (Roles::Zeek, _) => Endpoint { payload_bytes: 0, ..counted },
        }
    }

    /// Set the deadline after a packet at `ts`: the entry's; without an entry, [`proto::linger`];
    /// or Zeek's.
    #[inline]
    pub fn set_deadline(&mut self, ts: i64, rules: &Rules) {
        self.deadline = match (&self.gateway, self.roles) {
            (_, Roles::Zeek) => self.zeek.deadline(self.key.proto, self.orig, self.start, &rules.timeouts),
            (Some(entry), Roles::Given) => entry.deadline,
            (None, Roles::Given) => ts.saturating_add(rules.timeouts.get(proto::linger(self.key.proto, self.closed))),
        };
    }

    /// Test whether the gateway's entry survives early drop.
    pub fn is_assured(&self) -> bool {
        self.gateway.as_ref().is_some_and(|entry| entry.assured)
    }

    /// Bytes on the heap, the connection included.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.parts_bytes()
    }

    /// Bytes on the heap beside the connection.
    pub fn parts_bytes(&self) -> usize {
        self.zeek.heap_bytes() + self.reorder.as_ref().map_or(0, |reorder| reorder.heap_bytes())
    }

    /// Take the SYN+ACK whose SYN has not come yet out of memory.
    pub fn take_early(&mut self) -> Option<Early> {
        let reorder = self.reorder.as_mut()?;
        let early = reorder.early.take();
        if reorder.lead.is_none() {
            self.reorder = None;
        }
        early
    }

    /// Remember a SYN+ACK whose SYN has not come yet.
    pub fn set_early(&mut self, early: Early) {
        self.reorder.get_or_insert_default().early = Some(early);
    }

    /// Test for a SYN+ACK whose SYN has not come yet.
    pub fn awaits_syn(&self) -> bool {
        self.reorder.as_ref().is_some_and(|reorder| reorder.early.is_some())
    }

    /// The time between the two segments of the first handshake that was put right; see [`Reorder::lead`].
    pub fn lead(&self) -> Option<i64> {
        self.reorder.as_ref()?.lead
    }

    /// The part that a segment may change, for [`Self::go_back`].
    pub fn before(&self) -> Before {
        Before {
            end: self.end,
            orig: self.orig,
            evidence: self.evidence,
            gateway: self.gateway,
            closed: self.closed,
            status: self.status,
            zeek: self.zeek.clone(),
            first_window: self.first_window,
            deadline: self.deadline,
        }
    }

    /// Go back to the moment before the remembered segments, the last ones that were counted.
    pub fn go_back(&mut self, before: Before, early: &Early) {
        let sent = &mut self.ends[early.side as usize];
        for segment in &early.segments {
            sent.packets = sent.packets.saturating_sub(1);
            sent.ip_bytes = sent.ip_bytes.saturating_sub(segment.ip_bytes.into());
            sent.payload_bytes = sent.payload_bytes.saturating_sub(segment.payload_bytes.into());
        }
        let Before { end, orig, evidence, gateway, closed, status, zeek, first_window, deadline } = before;
        (self.end, self.orig, self.evidence, self.deadline) = (end, orig, evidence, deadline);
        (self.gateway, self.closed, self.status, self.zeek) = (gateway, closed, status, zeek);
        self.first_window = first_window;
    }

    /// The state that a gateway would report after the last packet.
    pub fn state(&self) -> State {
        self.gateway.as_ref().map_or(State::None, Gateway::reported_state)
    }

    /// Test whether the responder sent the first packet seen.
    pub fn flipped(&self) -> bool {
        self.first != self.orig
    }

    /// Test for a directed broadcast: the first packets had a group address on the link, and nobody answered. Never
    /// TCP: a cluster that shares a group address answers.
    pub fn was_broadcast(&self) -> bool {
        let answered = self.ends[self.first.other() as usize].packets > 0;
        self.to_group && !answered && !self.flipped() && self.key.proto != ipproto::TCP
    }

    /// Zeek's conn_state with this side as the originator.
    pub fn conn_state(&self, orig: Side) -> ConnState {
        self.zeek.conn_state(self.key.proto, orig, self.ends.map(|end| end.packets > 0))
    }

    /// The reason to report where something other than the packets ended the connection.
    pub fn end_reason(&self, cause: EndReason) -> EndReason {
        match self.roles {
            Roles::Zeek if self.zeek.was_reset() => EndReason::Reset,
            Roles::Zeek if self.zeek.was_closed() => EndReason::Closed,
            Roles::Zeek => cause,
            Roles::Given => EndReason::of(self.state(), self.closed, self.over, cause),
        }
    }
}
