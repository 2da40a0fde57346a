//! SCTP, RFC 9260.

use super::bytes::{Fields, Span};
use super::ip::Ip;
use super::ports::ports;
use super::{L4, Packet, Sctp, Skip, checksum, sctp_chunk as chunk};

/// Common header, RFC 9260 section 3.1.
mod field {
    pub const VTAG: usize = 4;
    pub const CHECKSUM: usize = 8;
    pub const SIZE: usize = 12;
}

/// Chunk header, RFC 9260 section 3.2.
mod chunk_field {
    pub const TYPE: usize = 0;
    pub const FLAGS: usize = 1;
    pub const LENGTH: usize = 2;
    pub const SIZE: usize = 4;
    pub const T: u8 = 1;
    pub const DATA: u8 = 0;
    /// INIT and INIT ACK: the tag for the receiver's packets, and the fixed part of the chunk (section 3.3.2).
    pub const INITIATE_TAG: usize = 4;
    pub const INIT_SIZE: usize = 20;
}

pub(super) fn read(ip: &Ip<'_>, packet: &mut Packet) -> Result<(), Skip> {
    let segment = ip.payload;
    ports(segment, &mut packet.tuple)?;
    packet.payload_bytes = segment.wire().saturating_sub(field::SIZE) as u32;
    packet.malformed = segment.wire() < field::SIZE + chunk_field::SIZE && ip.fragment.is_none();
    if let Ok(common) = segment.head::<{ field::SIZE }>()
        && let Ok(chunks) = segment.skip(field::SIZE)
        && chunks.head::<{ chunk_field::SIZE }>().is_ok()
    {
        packet.l4 = L4::Sctp(Sctp { vtag: common.be32::<{ field::VTAG }>(), ..walk(chunks) });
    }
    Ok(())
}

fn walk(mut rest: Span<'_>) -> Sctp {
    use chunk::{COOKIE_ACK, COOKIE_ECHO, INIT, INIT_ACK, SHUTDOWN_COMPLETE};
    use chunk_field::{DATA, FLAGS, INIT_SIZE, INITIATE_TAG, LENGTH, SIZE, T, TYPE};
    let mut found = Sctp { well_formed: true, ..Sctp::default() };
    let (mut shift, mut first, mut must_be_alone) = (0, true, false);
    // Each iteration consumes at least the four bytes of a chunk header.
    while let Ok(header) = rest.head::<SIZE>() {
        let kind = header.byte::<TYPE>();
        match kind {
            INIT..=INIT_ACK | chunk::HEARTBEAT..=COOKIE_ACK | SHUTDOWN_COMPLETE => {
                let reflected = u64::from(header.byte::<FLAGS>() & T);
                found.order |= (u64::from(kind) | reflected << 4).checked_shl(shift).unwrap_or(0);
                shift += 5;
            }
            _ => found.has_others = true,
        }
        found.has_data |= kind == DATA;
        must_be_alone |= matches!(kind, INIT | INIT_ACK | SHUTDOWN_COMPLETE);
        found.well_formed &= first || !(must_be_alone || matches!(kind, COOKIE_ECHO | COOKIE_ACK));
        if matches!(kind, INIT | INIT_ACK) && rest.wire() >= INIT_SIZE {
            found.init_tag = rest.at(INITIATE_TAG).ok().map(|tag| u32::from_be_bytes(*tag));
        }
        let length = usize::from(header.be16::<LENGTH>());
        if length == 0 {
            found.well_formed = false;
            break;
        }
        first = false;
        match rest.skip(length.next_multiple_of(4)) {
            Ok(behind) => rest = behind,
            Err(_) => break,
        }
    }
    found
}

/// Verify the CRC32c of a whole packet, computed with zeros in the checksum field.
pub(super) fn is_valid(packet: &[u8]) -> bool {
    let Some((header, chunks)) = packet.split_first_chunk::<{ field::SIZE }>() else { return true };
    let Some(before) = header.first_chunk::<{ field::CHECKSUM }>() else { return true };
    // RFC 9260 appendix A: the only little-endian field.
    let sent = u32::from_le_bytes(header.array::<{ field::CHECKSUM }, 4>());
    checksum::crc32c(&[before, &[0; 4], chunks]) == sent
}
