//! The ladder of evidence for the originator: a packet may raise a connection on the ladder; only contradicting
//! messages lower one.
//!
//! The rungs are the variants of [`Evidence`] in their order. Rungs that a packet can name are found here, packet by
//! packet ([`infer`]). Rungs that need the whole capture are found in `hindsight`. A rung is declared in
//! [`crate::evidence`]; its rule is here or there.

use crate::connection::{Connection, Evidence, READ_UDP, take_claim};
use crate::flow::descriptor::{Arrival, kind};
use crate::flow::{Side, icmp};
use crate::proto::State;
use conntrack_decode::{L4, Packet, Tcp, ipproto, sctp_chunk, tcpflag};

use super::payload::{self, Message, Speaker};

/// The originator that the headers of a packet of this connection name. `first`: the packet is the connection's first.
fn claim(connection: &Connection, packet: &Packet, from: Side, first: bool) -> Option<(Side, Evidence)> {
    const KINDS: u8 = tcpflag::SYN | tcpflag::ACK | tcpflag::RST | tcpflag::FIN;
    const SYN_ACK: u8 = tcpflag::SYN | tcpflag::ACK;
    const RST_ACK: u8 = tcpflag::RST | tcpflag::ACK;
    match packet.l4 {
        L4::Tcp(segment) => match segment.flags & KINDS {
            tcpflag::SYN if opens(connection, packet) => Some((from, Evidence::Syn)),
            SYN_ACK if opens(connection, packet) => Some((from.other(), Evidence::SynAck)),
            // RFC 9293 section 3.10.7.1: the answer to a SYN to a closed port has the sequence number 0.
            RST_ACK if first && segment.seq == 0 => Some((from.other(), Evidence::Refused)),
            0 | tcpflag::FIN if first => Some((from, Evidence::Scan)),
            _ => None,
        },
        L4::Icmp { kind, .. } if icmp::is_request(packet.tuple.proto, kind) => Some((from, Evidence::IcmpRequest)),
        L4::Icmp { kind, .. } if icmp::is_reply(packet.tuple.proto, kind) => Some((from.other(), Evidence::IcmpReply)),
        L4::Sctp(sctp) => match sctp.chunks().next() {
            Some((sctp_chunk::INIT, _)) => Some((from, Evidence::Init)),
            Some((sctp_chunk::INIT_ACK, _)) => Some((from.other(), Evidence::InitAck)),
            _ => None,
        },
        _ => None,
    }
}

/// Test whether a SYN or SYN+ACK may open the connection: no data was exchanged yet. Within a conversation, a SYN is
/// stray or forged, unless a gateway takes the segment for the opening. Openings are a SYN+ACK that brings the entry to
/// SYN_RECV, and a SYN that makes an entry.
fn opens(connection: &Connection, packet: &Packet) -> bool {
    let said: u64 = connection.ends.iter().map(|end| end.payload_bytes).sum();
    let is_handshake = matches!(connection.state(), State::SynSent | State::SynSent2 | State::SynRecv);
    said <= u64::from(packet.payload_bytes) || is_handshake
}

/// Choose the originator again, if this packet has better evidence than all before. The packet is already counted, and
/// judged by a gateway.
#[inline]
pub fn infer(connection: &mut Connection, packet: &Packet, record: &[u8], from: Side) {
    if connection.evidence < Evidence::Syn {
        infer_unseen(connection, packet, record, from);
    }
}

/// Choose the originator again where the opening was not seen.
fn infer_unseen(connection: &mut Connection, packet: &Packet, record: &[u8], from: Side) {
    let packets: u64 = connection.ends.iter().map(|end| end.packets).sum();
    if let Some((orig, evidence)) = claim(connection, packet, from, packets == 1)
        && evidence > connection.evidence
    {
        connection.orig = orig;
        connection.evidence = evidence;
    }
    if let L4::Tcp(segment) = packet.l4 {
        note_segment(connection, segment, from);
    }
    let worth_reading = packet.payload_bytes > 0 && (packet.tuple.proto == ipproto::TCP || packets <= READ_UDP);
    // Multicast and broadcast packets answer nobody.
    if worth_reading
        && connection.evidence <= Evidence::Payload
        && !packet.to_group
        && let Some(orig) = read(packet, packet.payload_in(record), from)
    {
        (connection.orig, connection.evidence) = take_claim(&mut connection.claims, orig, connection.first);
    }
}

/// Keep the evidence of a segment for the end of the connection, in case of nothing better.
fn note_segment(connection: &mut Connection, segment: Tcp, from: Side) {
    let window = &mut connection.first_window[from as usize];
    if *window == 0 && segment.timestamps && segment.flags & (tcpflag::SYN | tcpflag::RST) == 0 {
        *window = segment.window;
    }
}

/// The originator that the payload of an ordinary packet names.
pub fn payload_originator(arrival: &Arrival<'_>) -> Option<Side> {
    let one = arrival.descriptor;
    let proto = if one.is(kind::UDP) { ipproto::UDP } else { ipproto::TCP };
    let message = Message::new(one.ports(), arrival.payload(), one.payload_bytes.into(), !one.is(kind::CUT));
    Some(if payload::speaker(proto, &message)? == Speaker::Client { one.side() } else { one.side().other() })
}

/// The originator that a payload names.
fn read(packet: &Packet, payload: &[u8], from: Side) -> Option<Side> {
    let tuple = &packet.tuple;
    let message = Message::new([tuple.sport, tuple.dport], payload, packet.payload_bytes as usize, !packet.cut);
    Some(match payload::speaker(tuple.proto, &message)? {
        Speaker::Client => from,
        Speaker::Server => from.other(),
    })
}
