//! Tunnels: from the packet that carries to the one that is carried.
//!
//! UDP tunnels are recognised by their port, which anybody may use for something else: their headers must be possible
//! in every field, and the packet inside must fit.

mod carried;
pub(super) mod gre;
mod udp;

use super::ip::{Ip, Net};
use super::{Family, Packet, TunnelKind, ipproto};

pub(super) use carried::Carried;

/// Whether UDP datagrams from or to this port may carry a packet, beside Teredo's on any port.
#[inline]
pub(super) fn is_port(port: u16) -> bool {
    udp::is_port(port)
}

/// Whether a payload begins with an IPv6 header that has an address of Teredo's (RFC 4380 section 2.6).
#[inline]
pub(super) fn begins_as_teredo(payload: &[u8]) -> bool {
    udp::begins_as_teredo(payload)
}

/// What `packet`, whose IP header is `ip`, carries; None where it is no tunnel, or one that carries no IP.
#[inline]
pub(super) fn carried<'a>(ip: &Ip<'a>, packet: &Packet) -> Option<Carried<'a>> {
    match ip.proto {
        ipproto::UDP => udp::carried(ip, packet),
        ipproto::IPIP => Some(Carried::new(TunnelKind::IpIp, Net::plain(Family::V4, ip.payload))),
        ipproto::IPV6 => {
            let kind = if ip.family == Family::V4 { TunnelKind::SixInFour } else { TunnelKind::IpIp };
            Some(Carried::new(kind, Net::plain(Family::V6, ip.payload)))
        }
        ipproto::GRE => gre::carried(ip.payload),
        _ => None,
    }
}
