//! From an IP header to a [`Packet`]: ports, lengths and transport header.

use super::bytes::Fields;
use super::ip::{Ip, Net};
use super::{
    Addr, Family, FiveTuple, L4, Packet, Skip, Tunnel, checksum, ethertype, icmp, ipproto, sctp, tcp, tunnel, udp,
};

/// The packet of an IP header; the tuple has no ports yet.
#[inline]
pub(super) fn begin(net: &Net<'_>, ip: &Ip<'_>, tunnel: Tunnel) -> Packet {
    Packet {
        tuple: FiveTuple { src: ip.src, dst: ip.dst, sport: 0, dport: 0, proto: ip.proto, family: ip.family },
        vlan: net.vlan,
        tunnel,
        packets: 1,
        ip_bytes: ip.length,
        payload_bytes: 0,
        to_group: net.to_group || is_group(ip.family, ip.dst),
        fragment: ip.fragment.is_some(),
        complete: ip.fragment.is_none(),
        segment_bytes: 0,
        datagram_bytes: ip.length,
        malformed: false,
        bad_checksum: ip.bad_checksum,
        bad_header: ip.bad_checksum,
        cut: false,
        identification: ip.identification,
        flow_id: 0,
        l4: L4::Other,
        payload: (0, 0),
    }
}

/// True for multicast (RFC 5771, RFC 4291 section 2.7) and limited broadcast addresses.
#[inline]
pub(super) fn is_group(family: Family, dst: Addr) -> bool {
    match family {
        Family::V4 => dst.0 as u32 >> 28 == 0xe || dst.0 as u32 == u32::MAX,
        Family::V6 => dst.0 >> 120 == 0xff,
    }
}

/// Decode the transport header of a whole datagram or a first fragment into `packet`.
#[inline]
pub(super) fn read(ip: &Ip<'_>, verify: bool, packet: &mut Packet) -> Result<(), Skip> {
    match ip.proto {
        ipproto::TCP => tcp::read(ip, packet)?,
        ipproto::UDP => udp::read(ip, packet)?,
        _ => read_other(ip, packet)?,
    }
    packet.segment_bytes = packet.payload_bytes;
    if verify && ip.fragment.is_none() && !ip.rerouted && !packet.malformed && ip.payload.is_complete() {
        packet.bad_checksum |= !is_valid(&packet.tuple, ip.payload.bytes());
    }
    Ok(())
}

fn read_other(ip: &Ip<'_>, packet: &mut Packet) -> Result<(), Skip> {
    match (ip.proto, ip.family) {
        (ipproto::ICMP, Family::V4) | (ipproto::ICMPV6, Family::V6) => icmp::read(ip, packet),
        (ipproto::SCTP, _) => sctp::read(ip, packet),
        (ipproto::UDPLITE, _) => udp::read_lite(ip, packet),
        (ipproto::GRE, _) => {
            gre(ip, packet);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// True if the protocol's payload is counted; see [`Packet::payload_bytes`].
pub(super) fn has_payload(tuple: &FiveTuple) -> bool {
    match tuple.proto {
        ipproto::TCP | ipproto::UDP | ipproto::UDPLITE | ipproto::SCTP => true,
        ipproto::ICMP => tuple.family == Family::V4,
        ipproto::ICMPV6 => tuple.family == Family::V6,
        _ => false,
    }
}

fn gre(ip: &Ip<'_>, packet: &mut Packet) {
    if let Some(gre) = tunnel::gre::header(ip.payload) {
        // Version 1 is PPTP (RFC 2637), whose payload is PPP.
        packet.malformed = gre.version == 1 && gre.protocol != ethertype::PPP;
        packet.l4 = L4::Gre { version: gre.version, key: gre.key };
        packet.flow_id = if gre.version == 1 { gre.key } else { 0 };
    }
}

/// Verify the checksum of a whole transport segment; true for protocols without a checksum.
fn is_valid(tuple: &FiveTuple, segment: &[u8]) -> bool {
    let with_pseudo_header = |covered: &[u8]| {
        let mut sum = checksum::Sum::pseudo(tuple, segment.len());
        sum.add(covered);
        sum.is_valid()
    };
    let header = segment.first_chunk::<{ udp::field::SIZE }>();
    match (tuple.proto, tuple.family, header) {
        (ipproto::TCP, ..) | (ipproto::ICMPV6, Family::V6, _) => with_pseudo_header(segment),
        (ipproto::ICMP, Family::V4, _) => checksum::verify(segment),
        (ipproto::SCTP, ..) => sctp::is_valid(segment),
        (ipproto::UDP, family, Some(header)) => {
            if header.be16::<{ udp::field::CHECKSUM }>() == 0 {
                // Tunnels may go without over IPv6 (RFC 6935 section 5).
                return family == Family::V4 || tunnel::is_port(tuple.dport);
            }
            let length = usize::from(header.be16::<{ udp::field::LENGTH }>());
            let datagram = if length == 0 { segment } else { segment.get(..length).unwrap_or(segment) };
            let mut sum = checksum::Sum::pseudo(tuple, datagram.len());
            sum.add(datagram);
            sum.is_valid()
        }
        (ipproto::UDPLITE, _, Some(header)) => {
            let coverage = usize::from(header.be16::<{ udp::field::LENGTH }>());
            let covered = if coverage == 0 { segment } else { segment.get(..coverage).unwrap_or(segment) };
            header.be16::<{ udp::field::CHECKSUM }>() != 0 && with_pseudo_header(covered)
        }
        _ => true,
    }
}
