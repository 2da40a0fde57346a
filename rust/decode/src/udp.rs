//! UDP, RFC 768, and UDP-Lite, RFC 3828.

use super::bytes::{Fields, Span, payload_place};
use super::ip::Ip;
use super::ports::ports;
use super::{L4, Packet, Skip, ipproto};

/// UDP header (RFC 768); UDP-Lite (RFC 3828) has a coverage in place of the length.
pub(super) mod field {
    pub const LENGTH: usize = 4;
    pub const CHECKSUM: usize = 6;
    pub const SIZE: usize = 8;
}

#[inline]
pub(super) fn read(ip: &Ip<'_>, packet: &mut Packet) -> Result<(), Skip> {
    ports(ip.payload, &mut packet.tuple)?;
    let wire = ip.payload.wire();
    let rest = wire.saturating_sub(field::SIZE);
    let (payload, malformed) = match ip.payload.head::<{ field::SIZE }>() {
        Ok(header) => match usize::from(header.be16::<{ field::LENGTH }>()) {
            // A jumbogram's length does not fit (RFC 2675 section 4).
            0 if wire > usize::from(u16::MAX) => (rest, false),
            length @ 0..field::SIZE => (rest, length < field::SIZE),
            // The length covers the whole datagram: each fragment adds its own bytes.
            _ if ip.fragment.is_some() => (rest, false),
            length if length > wire => (rest, true),
            length => (length - field::SIZE, false),
        },
        Err(_) => (rest, wire < field::SIZE && ip.fragment.is_none()),
    };
    packet.payload_bytes = payload as u32;
    packet.malformed = malformed;
    packet.cut = !ip.payload.is_complete();
    packet.l4 = L4::Udp;
    packet.payload = payload_place(ip.payload, field::SIZE);
    Ok(())
}

pub(super) fn read_lite(ip: &Ip<'_>, packet: &mut Packet) -> Result<(), Skip> {
    ports(ip.payload, &mut packet.tuple)?;
    let wire = ip.payload.wire();
    packet.malformed = match ip.payload.head::<{ field::SIZE }>() {
        // RFC 3828 section 3.1: a checksum of zero is not allowed, a coverage of zero covers everything.
        Ok(header) if header.be16::<{ field::CHECKSUM }>() == 0 => true,
        Ok(header) => match usize::from(header.be16::<{ field::LENGTH }>()) {
            0 => false,
            coverage => coverage < field::SIZE || (coverage > wire && ip.fragment.is_none()),
        },
        Err(_) => wire < field::SIZE && ip.fragment.is_none(),
    };
    packet.payload_bytes = wire.saturating_sub(field::SIZE) as u32;
    packet.l4 = L4::Udp;
    Ok(())
}

/// Length field of a UDP header, in fragments too.
pub(super) fn length(ip: &Ip<'_>) -> Option<u32> {
    let header = ip.payload.head::<{ field::SIZE }>().ok().filter(|_| ip.proto == ipproto::UDP)?;
    Some(u32::from(header.be16::<{ field::LENGTH }>()))
}

/// Payload of a UDP header in a packet that is not malformed.
pub(super) fn payload<'a>(ip: &Ip<'a>) -> Result<Span<'a>, Skip> {
    let length = usize::from(ip.payload.head::<{ field::SIZE }>()?.be16::<{ field::LENGTH }>());
    let datagram = match (length, ip.fragment) {
        (0, _) | (_, Some(_)) => ip.payload,
        (length, None) => ip.payload.limit(length),
    };
    datagram.skip(field::SIZE)
}
