//! Zeek's connection key: addresses and ports alone, or for ICMP the types.

use crate::flow::{FlowKey, Side};
use conntrack_decode::{Family, FiveTuple, L4, Packet, Tunnel, Vlan, ipproto};

/// The key of a tuple from source to destination, and the source's side. VLANs, tunnels and ICMP identifiers do not
/// distinguish connections; protocols that Zeek does not parse have no ports (`unknown_ip_transport`).
pub fn key(tuple: &FiveTuple) -> (FlowKey, Side) {
    let has_ports = matches!(tuple.proto, ipproto::TCP | ipproto::UDP | ipproto::ICMP | ipproto::ICMPV6);
    let tuple = if has_ports { *tuple } else { FiveTuple { sport: 0, dport: 0, ..*tuple } };
    FlowKey::of_tuple(&tuple, 0, Vlan::default(), Tunnel::default())
}

/// Test for a packet without the header of its protocol.
pub fn is_truncated(packet: &Packet) -> bool {
    packet.l4 == L4::Other
        && matches!(packet.tuple.proto, ipproto::TCP | ipproto::UDP | ipproto::ICMP | ipproto::ICMPV6)
}

/// Test for a packet of IPv6 that Zeek reads as the last extension header, and opens no connection for: ESP, mobility
/// (`IPAnalyzer::AnalyzePacket`).
pub fn is_extension(packet: &Packet) -> bool {
    packet.tuple.family == Family::V6 && matches!(packet.tuple.proto, ipproto::ESP | ipproto::MOBILITY)
}

/// Test for a tunnel directly over IP, for which Zeek opens no connection.
pub fn is_ip_tunnel(packet: &Packet) -> bool {
    matches!(packet.tuple.proto, ipproto::IPIP | ipproto::IPV6 | ipproto::GRE)
}
