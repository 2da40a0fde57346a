//! Tunnels: from the outer packet to the inner packet.
//!
//! UDP tunnels are detected by port. Because other protocols may use the port, every field of the tunnel header must
//! be valid, and the inner packet must fit.

pub(super) mod gre;
mod inner;
mod l2tp;
mod overlay;
mod udp;

use super::bytes::{Fields, Span};
use super::ip::{Ip, Net};
use super::{Family, Packet, TunnelKind, ether, ethertype, ipproto};

pub(super) use inner::InnerPacket;

/// True if UDP datagrams of this port may be tunnels. Teredo and GTP-U are possible on every port.
#[inline]
pub(super) fn is_port(port: u16) -> bool {
    udp::is_port(port)
}

/// True if a payload begins with an IPv6 header that has a Teredo address (RFC 4380 section 2.6).
#[inline]
pub(super) fn begins_as_teredo(payload: &[u8]) -> bool {
    udp::begins_as_teredo(payload)
}

/// True if a payload begins with the header of a GTP-U user packet.
#[inline]
pub(super) fn begins_as_gtpu(payload: &[u8]) -> bool {
    udp::begins_as_gtpu(payload)
}

/// Inner packet of `packet`, whose IP header is `ip`; None outside of tunnels and without an inner IP packet. The end of a
/// tunnel drops packets with wrong checksums.
#[inline]
pub(super) fn inner<'a>(ip: &Ip<'a>, packet: &Packet) -> Option<InnerPacket<'a>> {
    match ip.proto {
        _ if packet.bad_checksum => None,
        ipproto::UDP => udp::inner(ip, packet),
        ipproto::IPIP => Some(InnerPacket::new(TunnelKind::IpIp, Net::plain(Family::V4, ip.payload))),
        ipproto::IPV6 => {
            let kind = if ip.family == Family::V4 { TunnelKind::SixInFour } else { TunnelKind::IpIp };
            Some(InnerPacket::new(kind, Net::plain(Family::V6, ip.payload)))
        }
        ipproto::GRE => gre::inner(ip.payload),
        ipproto::L2TP | ipproto::MPLS | ipproto::ETHERIP | ipproto::ETHERNET => rarer(ip),
        _ => None,
    }
}

/// The same for IP protocols that are rarer.
#[inline(never)]
fn rarer<'a>(ip: &Ip<'a>) -> Option<InnerPacket<'a>> {
    if ip.fragment.is_some() {
        return None;
    }
    match ip.proto {
        ipproto::L2TP => l2tp::over_ip(ip.payload),
        ipproto::MPLS => {
            let net = ether::typed(ethertype::MPLS, ip.payload, false).ok()?;
            Some(InnerPacket::fitting(TunnelKind::Mpls, net))
        }
        ipproto::ETHERIP => ethernet_in_ip(ip.payload),
        ipproto::ETHERNET if ip.family == Family::V6 => {
            Some(InnerPacket::fitting(TunnelKind::EtherIp, ether::frame(ip.payload).ok()?))
        }
        _ => None,
    }
}

/// Parse EtherIP, RFC 3378 section 3: version 3 and reserved bits, then a frame.
fn ethernet_in_ip(span: Span<'_>) -> Option<InnerPacket<'_>> {
    const SIZE: usize = 2;
    const VERSION: u8 = 3;
    if span.head::<SIZE>().ok()?.byte::<0>() >> 4 != VERSION {
        return None;
    }
    Some(InnerPacket::fitting(TunnelKind::EtherIp, ether::frame(span.skip(SIZE).ok()?).ok()?))
}
