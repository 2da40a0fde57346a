//! ICMP (RFC 792, RFC 950, RFC 8335) and ICMPv6 (RFC 4443, RFC 4620).

use super::bytes::{Fields, Span};
use super::ip::{self, Ip};
use super::ports::ports;
use super::{Family, FiveTuple, L4, Packet, Skip, ipproto, link};
use conntrack_capture::Record;

/// Common header of all messages; queries have an identifier in the rest.
mod field {
    pub const TYPE: usize = 0;
    pub const CODE: usize = 1;
    pub const ID: usize = 4;
    pub const SEQUENCE: usize = 6;
    pub const SIZE: usize = 8;
}

/// Class of a message type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Request or reply with an identifier.
    Query,
    /// Error that quotes the offending packet.
    Error,
    Other,
}

fn class(family: Family, kind: u8) -> Class {
    match family {
        Family::V4 => match kind {
            // Echo, timestamp, information, address mask, extended echo.
            0 | 8 | 13..=18 | 42 | 43 => Class::Query,
            // Unreachable, source quench, redirect, time exceeded, parameter problem.
            3 | 4 | 5 | 11 | 12 => Class::Error,
            _ => Class::Other,
        },
        Family::V6 => match kind {
            // RFC 4443 section 2.1: errors have the high bit clear.
            0..=127 => Class::Error,
            // Echo, node information (its qtype stands for an identifier, as in Linux), extended echo.
            128 | 129 | 139 | 140 | 160 | 161 => Class::Query,
            _ => Class::Other,
        },
    }
}

pub(super) fn read(ip: &Ip<'_>, packet: &mut Packet) -> Result<(), Skip> {
    let message = ip.payload;
    let [kind, code] = *message.head::<2>()?;
    packet.tuple.sport = u16::from(kind);
    packet.tuple.dport = u16::from(code);
    packet.payload_bytes = message.wire().saturating_sub(field::SIZE) as u32;
    packet.malformed = message.wire() < field::SIZE && ip.fragment.is_none();
    packet.l4 = match message.head::<{ field::SIZE }>() {
        Err(_) => L4::Other,
        Ok(header) => match class(ip.family, kind) {
            Class::Query => {
                packet.flow_id = header.be16::<{ field::ID }>();
                L4::Icmp { kind, code, id: packet.flow_id }
            }
            Class::Other => L4::Icmp { kind, code, id: 0 },
            Class::Error => {
                let quote = message.skip(field::SIZE).ok().and_then(|quote| quoted(ip.family, quote));
                let (quoted, quoted_id) = quote.map_or((None, 0), |(tuple, id)| (Some(tuple), id));
                L4::IcmpError { kind, code, quoted, quoted_id }
            }
        },
    };
    Ok(())
}

/// Sequence number of an ICMP or ICMPv6 query or reply, and the captured bytes above its header; None for fragments and
/// other messages. Reads the outermost IP packet of a record.
pub fn query<'a>(record: &Record, bytes: &'a [u8]) -> Option<(u16, &'a [u8])> {
    let net = link::open(record.linktype, Span::new(bytes, record.len as usize)).ok()?;
    let ip = ip::read(&net, false).ok()?;
    if ip.fragment.is_some() || !matches!(ip.proto, ipproto::ICMP | ipproto::ICMPV6) {
        return None;
    }
    let header = ip.payload.head::<{ field::SIZE }>().ok()?;
    let content = ip.payload.skip(field::SIZE).ok()?;
    let is_query = class(ip.family, header.byte::<{ field::TYPE }>()) == Class::Query;
    is_query.then(|| (header.be16::<{ field::SEQUENCE }>(), content.bytes()))
}

/// Tuple of the quoted packet, and the identifier of an ICMP query.
fn quoted(family: Family, quote: Span<'_>) -> Option<(FiveTuple, u16)> {
    let ip = ip::quoted(family, quote)?;
    let mut tuple = FiveTuple { src: ip.src, dst: ip.dst, proto: ip.proto, family, ..FiveTuple::default() };
    match (ip.proto, family) {
        (ipproto::TCP | ipproto::UDP | ipproto::UDPLITE | ipproto::SCTP, _) => {
            ports(ip.payload, &mut tuple).ok()?;
            Some((tuple, 0))
        }
        (ipproto::ICMP, Family::V4) | (ipproto::ICMPV6, Family::V6) => {
            let header = ip.payload.head::<{ field::SIZE }>().ok()?;
            let kind = header.byte::<{ field::TYPE }>();
            tuple.sport = u16::from(kind);
            tuple.dport = u16::from(header.byte::<{ field::CODE }>());
            let id = if class(family, kind) == Class::Query { header.be16::<{ field::ID }>() } else { 0 };
            Some((tuple, id))
        }
        _ => Some((tuple, 0)),
    }
}
