//! Tunnels: from the outer packet to the inner packet.
//!
//! UDP tunnels are detected by port. Because other protocols may use the port, every field of the tunnel header must
//! be valid, and the inner packet must fit.

pub(super) mod gre;
mod inner;
mod udp;

use super::ip::{Ip, Net};
use super::{Family, Packet, TunnelKind, ipproto};

pub(super) use inner::InnerPacket;

/// True if UDP datagrams of this port may be tunnels. Teredo is possible on every port.
#[inline]
pub(super) fn is_port(port: u16) -> bool {
    udp::is_port(port)
}

/// True if a payload begins with an IPv6 header that has a Teredo address (RFC 4380 section 2.6).
#[inline]
pub(super) fn begins_as_teredo(payload: &[u8]) -> bool {
    udp::begins_as_teredo(payload)
}

/// Inner packet of `packet`, whose IP header is `ip`; None outside of tunnels and without an inner IP packet.
#[inline]
pub(super) fn inner<'a>(ip: &Ip<'a>, packet: &Packet) -> Option<InnerPacket<'a>> {
    match ip.proto {
        ipproto::UDP => udp::inner(ip, packet),
        ipproto::IPIP => Some(InnerPacket::new(TunnelKind::IpIp, Net::plain(Family::V4, ip.payload))),
        ipproto::IPV6 => {
            let kind = if ip.family == Family::V4 { TunnelKind::SixInFour } else { TunnelKind::IpIp };
            Some(InnerPacket::new(kind, Net::plain(Family::V6, ip.payload)))
        }
        ipproto::GRE => gre::inner(ip.payload),
        _ => None,
    }
}
