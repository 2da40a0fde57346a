//! A SYN+ACK stored before the SYN that it acknowledges, until that SYN comes.
//!
//! No gateway saw that order: an answer cannot precede its question (RFC 9293 section 3.5). Taps with different clocks,
//! queues of a network card and unsorted files store it. No packet waits for another. The SYN+ACK keeps its label, and
//! the connection remembers the segment and its own past. The SYN begins at that past, and the segment follows it.

use serde::{Deserialize, Serialize};

use conntrack_decode::{FiveTuple, L4, Packet, Tcp, tcpflag};

use crate::evidence::Evidence;
use crate::flow::{FlowKey, Side};
use crate::proto::{Gateway, Status};
use crate::zeek::View;

/// The most segments that are remembered, the SYN+ACK included: copies of it, and what its sender sent next.
const MOST_EARLY: usize = 4;

/// Test for a SYN+ACK.
#[inline]
pub fn is_syn_ack(packet: &Packet) -> bool {
    matches!(packet.l4, L4::Tcp(segment) if segment.flags & KINDS == SYN_ACK)
}

/// The flags that select the kind of a segment.
const KINDS: u8 = tcpflag::SYN | tcpflag::ACK | tcpflag::RST | tcpflag::FIN;
const SYN_ACK: u8 = tcpflag::SYN | tcpflag::ACK;

/// The handshakes of a connection that were stored out of order, in one pointer: hardly any connection has one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reorder {
    /// A SYN+ACK whose SYN has not come yet.
    pub early: Option<Early>,
    /// The time by which a SYN+ACK stored before its SYN was also stamped before it, nanoseconds; negative where it was
    /// stamped later.
    pub lead: Option<i64>,
}

impl Reorder {
    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.early.as_ref().map_or(0, Early::heap_bytes)
    }
}

/// A SYN+ACK without its SYN, the segments of its sender since then, and the connection before them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Early {
    /// The sender of the SYN+ACK.
    pub side: Side,
    /// The segments in stored order; the first one is the SYN+ACK.
    pub segments: Vec<EarlySegment>,
    /// The connection before the SYN+ACK; None: the SYN+ACK began the connection.
    pub before: Option<Box<Before>>,
}

impl Early {
    /// The memory of this SYN+ACK alone.
    pub fn begin(side: Side, segment: EarlySegment, before: Option<Before>) -> Self {
        Self { side, segments: vec![segment], before: before.map(Box::new) }
    }

    /// Test for the invariants of the parts; for state from outside.
    pub fn is_sound(&self, proto: u8) -> bool {
        let before = self.before.as_deref();
        (1..=MOST_EARLY).contains(&self.segments.len())
            && before.is_none_or(|before| {
                before.zeek.is_sound() && before.gateway.as_ref().is_none_or(|entry| entry.is_sound(proto))
            })
    }

    /// Test for the SYN that the SYN+ACK acknowledges, with or without its data (TCP Fast Open, RFC 7413), at most
    /// `window` nanoseconds earlier or later. A copy of a SYN that came before is none.
    pub fn answers(&self, syn: &EarlySegment, window: u64) -> bool {
        let Some(first) = self.segments.first() else { return false };
        let acked = first.tcp.ack.wrapping_sub(syn.tcp.seq).wrapping_sub(1);
        let is_near = first.ts.abs_diff(syn.ts) <= window;
        let came = |before: &Before| before.zeek.has_syn(self.side.other(), syn.tcp.seq);
        syn.is_syn() && acked <= syn.segment_bytes && is_near && !self.before.as_deref().is_some_and(came)
    }

    /// The memory with the next segment: a copy of the SYN+ACK, or an acknowledgement of the same side. None: another
    /// segment, or no room.
    pub fn extended(mut self, segment: &EarlySegment, side: Side, window: u64) -> Option<Self> {
        let first = self.segments.first()?;
        let goes_on = match segment.tcp.flags & KINDS {
            SYN_ACK => (segment.tcp.seq, segment.tcp.ack) == (first.tcp.seq, first.tcp.ack),
            kind => kind == tcpflag::ACK && (self.before.is_none() || segment.payload_bytes == 0),
        };
        let fits = self.segments.len() < MOST_EARLY && first.ts.abs_diff(segment.ts) <= window;
        if side != self.side || !goes_on || !fits {
            return None;
        }
        self.segments.push(*segment);
        Some(self)
    }

    fn heap_bytes(&self) -> usize {
        let before = self.before.as_ref().map_or(0, |before| size_of::<Before>() + before.zeek.heap_bytes());
        self.segments.capacity() * size_of::<EarlySegment>() + before
    }
}

/// The facts of a segment from which its packet is made again, without addresses and payload.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlySegment {
    /// Capture time, nanoseconds.
    pub ts: i64,
    /// The TCP header.
    pub tcp: Tcp,
    /// Bytes from the IP header on.
    pub ip_bytes: u32,
    /// Bytes above the TCP header.
    pub payload_bytes: u32,
    /// The same of the datagram, as a gateway counts them.
    pub segment_bytes: u32,
    /// IP bytes of the datagram.
    pub datagram_bytes: u32,
    /// The capture cut the payload.
    pub cut: bool,
}

impl EarlySegment {
    /// The facts of a whole, sound segment to one host; None for any other packet.
    pub fn of(packet: &Packet, ts: i64) -> Option<Self> {
        let L4::Tcp(tcp) = packet.l4 else { return None };
        let is_damaged = packet.malformed || packet.bad_checksum || packet.bad_header;
        if is_damaged || packet.fragment || !packet.complete || packet.to_group || packet.packets != 1 {
            return None;
        }
        let Packet { ip_bytes, payload_bytes, segment_bytes, datagram_bytes, cut, .. } = *packet;
        Some(Self { ts, tcp, ip_bytes, payload_bytes, segment_bytes, datagram_bytes, cut })
    }

    /// The packet of a connection with this key, sent by `side`.
    pub fn packet(&self, key: &FlowKey, side: Side) -> Packet {
        let tuple = FiveTuple {
            src: key.addr(side),
            dst: key.addr(side.other()),
            sport: key.port(side),
            dport: key.port(side.other()),
            proto: key.proto,
            family: key.family,
        };
        let Self { ip_bytes, payload_bytes, segment_bytes, datagram_bytes, cut, .. } = *self;
        let (vlan, tunnel, l4) = (key.vlan, key.tunnel, L4::Tcp(self.tcp));
        Packet {
            tuple,
            vlan,
            tunnel,
            packets: 1,
            ip_bytes,
            payload_bytes,
            complete: true,
            segment_bytes,
            datagram_bytes,
            cut,
            l4,
            ..Packet::default()
        }
    }

    /// Test for a SYN alone.
    fn is_syn(&self) -> bool {
        self.tcp.flags & KINDS == tcpflag::SYN
    }
}

/// The part of a connection that a segment may change, as of before the SYN+ACK.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// Capture time of the last packet, nanoseconds.
    pub end: i64,
    /// The originator.
    pub orig: Side,
    /// The evidence for the originator.
    pub evidence: Evidence,
    /// The gateway's entry.
    pub gateway: Option<Gateway>,
    /// The entry was deleted.
    pub closed: bool,
    /// The entry's status, also after its deletion.
    pub status: Status,
    /// Zeek's view.
    pub zeek: View,
    /// The first window of each side.
    pub first_window: [u16; 2],
    /// Capture time at which the connection expires, nanoseconds.
    pub deadline: i64,
}
