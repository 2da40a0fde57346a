//! Pure state machines: an entry and a packet in, a verdict out. No table, no threads, no clock but the packet's.
//!
//! The rules are those of Linux nf_conntrack; each protocol's file cites their source.

mod entry;
mod memory;
mod sctp;
mod simple;
mod state;
pub mod tcp;
pub mod tcp_window;

use crate::config::{Rules, Timeout};
use crate::flow::{Side, icmp};
use conntrack_decode::{L4, Packet, ipproto};

pub use entry::{Gateway, Track};
pub use memory::{Offer, SctpTrack, TcpClass, TcpEnd, TcpTrack};
pub use simple::udp_step;
pub use state::{CtDir, CtState, State, Status, Verdict};

/// Make the entry that this packet opens; None where the packet may not open one.
pub fn open(packet: &Packet, side: Side, ts: i64, rules: &Rules) -> Option<Gateway> {
    if packet.malformed || packet.bad_checksum {
        return None;
    }
    let track = match packet.l4 {
        L4::Tcp(ref segment) => Track::Tcp(tcp::open(segment, packet.segment_bytes, rules)?),
        L4::Sctp(_) => Track::Sctp(sctp::open(packet)?),
        L4::Icmp { kind, .. } if !creates_icmp(packet.tuple.proto, kind) => return None,
        L4::IcmpError { .. } => return None,
        L4::Other if matches!(packet.tuple.proto, ipproto::TCP | ipproto::SCTP) => return None,
        _ => Track::None,
    };
    Some(Gateway {
        orig: side,
        state: State::None,
        seen_reply: false,
        assured: false,
        timeout: Timeout::Generic,
        created: ts,
        deadline: ts,
        counted: [(0, 0); 2],
        track,
    })
}

/// The ICMP and ICMPv6 types that may create an entry: queries that the kernel pairs.
fn creates_icmp(proto: u8, kind: u8) -> bool {
    match proto {
        ipproto::ICMP => matches!(kind, 8 | 13 | 15 | 17),
        _ => matches!(kind, 128 | 139),
    }
}

/// Neighbour discovery and multicast listener messages, which the kernel does not track.
pub fn untracked(packet: &Packet) -> bool {
    matches!(packet.l4, L4::Icmp { kind: 130..=136 | 143, .. }) && packet.tuple.proto == ipproto::ICMPV6
}

/// Judge a packet against its entry. The caller sets `seen_reply` afterwards: the handler of the first reply still sees
/// "no reply yet", as in the kernel.
pub fn step(entry: &mut Gateway, dir: CtDir, packet: &Packet, ts: i64, rules: &Rules) -> Verdict {
    if packet.malformed || packet.bad_checksum {
        return Verdict::Invalid;
    }
    match (packet.l4, packet.tuple.proto) {
        (L4::Tcp(segment), _) => tcp::step(entry, dir, &segment, packet.segment_bytes, ts, rules),
        (L4::Sctp(_), _) => sctp::step(entry, dir, packet),
        // The header after the ports was cut off by the snaplen: nothing to judge, and nothing against the packet.
        (L4::Other, ipproto::TCP | ipproto::SCTP) => Verdict::Ignore,
        (L4::Icmp { kind, .. }, proto) if dir == CtDir::Reply && !icmp::is_reply(proto, kind) => Verdict::Invalid,
        (_, proto) => Verdict::Accept(Some(simple::step(entry, dir, proto, ts, rules))),
    }
}

/// The timeout of a connection without an entry until its next packet: the kernel's timeout of an unreplied entry of
/// that protocol.
pub fn linger(proto: u8, closed: bool) -> Timeout {
    match proto {
        ipproto::TCP if closed => Timeout::TcpClose,
        ipproto::TCP => Timeout::TcpUnacknowledged,
        ipproto::UDP | ipproto::UDPLITE => Timeout::Udp,
        ipproto::ICMP => Timeout::Icmp,
        ipproto::ICMPV6 => Timeout::Icmpv6,
        ipproto::SCTP => Timeout::SctpClosed,
        ipproto::GRE => Timeout::Gre,
        _ => Timeout::Generic,
    }
}
