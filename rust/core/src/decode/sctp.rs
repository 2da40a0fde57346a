//! SCTP, RFC 9260.

use super::bytes::{Fields, Span};
use super::ip::Ip;
use super::transport::ports;
use super::{L4, Packet, Skip, checksum};

/// Common header, RFC 9260 section 3.1.
mod field {
    pub const VTAG: usize = 4;
    pub const CHECKSUM: usize = 8;
    pub const SIZE: usize = 12;
}

/// Chunk header, RFC 9260 section 3.2.
mod chunk {
    pub const TYPE: usize = 0;
    pub const LENGTH: usize = 2;
    pub const SIZE: usize = 4;
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    /// INIT and INIT ACK: the tag that the other side shall use (section 3.3.2).
    pub const INITIATE_TAG: usize = 4;
}

pub(super) fn read(ip: &Ip<'_>, packet: &mut Packet) -> Result<(), Skip> {
    let segment = ip.payload;
    ports(segment, &mut packet.tuple)?;
    packet.payload_bytes = segment.wire().saturating_sub(field::SIZE) as u32;
    packet.malformed = segment.wire() < field::SIZE + chunk::SIZE && ip.piece.is_none();
    if let Ok(common) = segment.head::<{ field::SIZE }>()
        && let Ok(chunks) = segment.skip(field::SIZE)
        && let Some(found) = walk(chunks)
    {
        packet.malformed |= found.impossible;
        packet.l4 = L4::Sctp {
            chunk: found.first,
            chunks: found.set,
            vtag: common.be32::<{ field::VTAG }>(),
            init_tag: found.init_tag,
        };
    }
    Ok(())
}

/// The chunks of a packet.
struct Chunks {
    first: u8,
    set: u32,
    init_tag: u32,
    /// A length below the chunk header's own.
    impossible: bool,
}

/// None where no chunk header was captured.
fn walk(mut rest: Span<'_>) -> Option<Chunks> {
    let first = rest.head::<{ chunk::SIZE }>().ok()?.byte::<{ chunk::TYPE }>();
    let mut found = Chunks { first, set: 0, init_tag: 0, impossible: false };
    // Each turn takes at least the four bytes of a chunk header.
    while let Ok(header) = rest.head::<{ chunk::SIZE }>() {
        let kind = header.byte::<{ chunk::TYPE }>();
        found.set |= 1_u32.checked_shl(u32::from(kind)).unwrap_or(0);
        if matches!(kind, chunk::INIT | chunk::INIT_ACK)
            && let Ok(tag) = rest.at(chunk::INITIATE_TAG)
        {
            found.init_tag = u32::from_be_bytes(*tag);
        }
        let length = usize::from(header.be16::<{ chunk::LENGTH }>());
        if length < chunk::SIZE {
            found.impossible = true;
            break;
        }
        match rest.skip(length.next_multiple_of(4)) {
            Ok(behind) => rest = behind,
            Err(_) => break,
        }
    }
    Some(found)
}

/// Whether the CRC32c of a whole packet, taken with zeros in its own place, is right.
pub(super) fn is_right(packet: &[u8]) -> bool {
    let Some((header, chunks)) = packet.split_first_chunk::<{ field::SIZE }>() else { return true };
    let Some(before) = header.first_chunk::<{ field::CHECKSUM }>() else { return true };
    // RFC 9260 appendix A: the only field that travels lowest byte first.
    let sent = u32::from_le_bytes(header.array::<{ field::CHECKSUM }, 4>());
    checksum::crc32c(&[before, &[0; 4], chunks]) == sent
}
