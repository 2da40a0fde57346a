//! 802.11 data frames, and the headers of monitor-mode captures.

use super::Skip;
use super::bytes::{Fields, Span};
use super::ether::{self, GROUP_BIT};
use super::ip::Net;

/// Frame control field, IEEE 802.11-2020 section 9.2.4.1.
mod frame_control {
    pub const VERSION_MASK: u8 = 0x03;
    pub const TYPE_MASK: u8 = 0x0c;
    pub const TYPE_DATA: u8 = 0x08;
    /// Subtype bit of frames without a body.
    pub const NO_DATA: u8 = 0x40;
    /// Subtype bit of QoS frames.
    pub const QOS: u8 = 0x80;
    // Second byte.
    pub const TO_DS: u8 = 0x01;
    pub const FROM_DS: u8 = 0x02;
    pub const PROTECTED: u8 = 0x40;
    pub const ORDER: u8 = 0x80;
}

/// MAC header fields.
mod field {
    pub const ADDRESS_1: usize = 4;
    pub const ADDRESS_3: usize = 16;
    pub const SEQUENCE: usize = 22;
    /// Size without fourth address, QoS and HT control.
    pub const SIZE: usize = 24;
    pub const ADDRESS_4_SIZE: usize = 6;
    pub const QOS_SIZE: usize = 2;
    pub const HT_CONTROL_SIZE: usize = 4;
}

/// Parse an 802.11 frame; `padded` where the capture aligned the body to four bytes.
pub(super) fn frame(span: Span<'_>, padded: bool) -> Result<Net<'_>, Skip> {
    use frame_control::{FROM_DS, NO_DATA, ORDER, PROTECTED, QOS, TO_DS, TYPE_DATA, TYPE_MASK, VERSION_MASK};
    const FRAGMENT_NUMBER: u8 = 0x0f;
    const AGGREGATE: u8 = 0x80;

    let [control, flags] = *span.head::<2>()?;
    if control & (VERSION_MASK | TYPE_MASK | NO_DATA) != TYPE_DATA {
        return Err(Skip::NotIp);
    }
    if flags & PROTECTED != 0 {
        return Err(Skip::Encrypted);
    }
    let header = span.head::<{ field::SIZE }>()?;
    if header.byte::<{ field::SEQUENCE }>() & FRAGMENT_NUMBER != 0 {
        // A later fragment of a frame: the LLC header is in the first fragment.
        return Err(Skip::NotIp);
    }
    let destination = match flags & TO_DS {
        0 => header.byte::<{ field::ADDRESS_1 }>(),
        _ => header.byte::<{ field::ADDRESS_3 }>(),
    };
    let to_group = destination & GROUP_BIT != 0;

    let mut size = field::SIZE;
    if flags & (TO_DS | FROM_DS) == TO_DS | FROM_DS {
        size += field::ADDRESS_4_SIZE;
    }
    let mut aggregate = false;
    if control & QOS != 0 {
        aggregate = span.at::<1>(size)?.byte::<0>() & AGGREGATE != 0;
        size += field::QOS_SIZE;
        if flags & ORDER != 0 {
            size += field::HT_CONTROL_SIZE;
        }
    }
    let body = span.skip(if padded { size.next_multiple_of(4) } else { size })?;
    if aggregate { first_of_aggregate(body) } else { ether::llc(body, to_group) }
}

/// Parse an A-MSDU (section 9.3.2.2): the first subframe with IP. A record has one packet, so other subframes are counted.
fn first_of_aggregate(body: Span<'_>) -> Result<Net<'_>, Skip> {
    /// Destination, source, length; padding in front of a later subframe aligns its header to four bytes.
    const SUBFRAME: usize = 14;
    const LENGTH: usize = 12;
    let (mut found, mut subframes, mut rest) = (Err(Skip::NotIp), 0_u16, Some(body));
    while let Some(subframe) = rest.filter(|rest| rest.wire() >= SUBFRAME) {
        let Ok(header) = subframe.head::<SUBFRAME>() else {
            found = found.or(Err(Skip::Truncated));
            break;
        };
        let size = SUBFRAME + usize::from(header.be16::<LENGTH>());
        if size == SUBFRAME {
            break;
        }
        if found.is_err() {
            let to_group = header.byte::<0>() & GROUP_BIT != 0;
            found = subframe.limit(size.min(subframe.wire())).skip(SUBFRAME).and_then(|llc| ether::llc(llc, to_group));
        }
        subframes = subframes.saturating_add(1);
        rest = subframe.skip(size.next_multiple_of(4)).ok();
    }
    found.map(|net| Net { passed_over: subframes.saturating_sub(1), ..net })
}

/// Parse a radiotap header (<https://www.radiotap.org>): little-endian, with its length in the third and fourth byte.
pub(super) fn radiotap(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const VERSION: usize = 0;
    const LENGTH: usize = 2;
    const SIZE: usize = 8;
    let header = span.head::<SIZE>()?;
    if header.byte::<VERSION>() != 0 {
        return Err(Skip::NotIp);
    }
    let length = usize::from(u16::from_le_bytes(header.array::<LENGTH, 2>()));
    frame(span.skip(length.max(SIZE))?, is_padded(span.limit(length)).unwrap_or(false))
}

/// True if the flags field of a radiotap header reports padding behind the 802.11 header.
fn is_padded(header: Span<'_>) -> Result<bool, Skip> {
    const PRESENT: usize = 4;
    const HAS_TSFT: u32 = 1;
    const HAS_FLAGS: u32 = 1 << 1;
    const HAS_MORE: u32 = 1 << 31;
    const DATA_PAD: u8 = 0x20;
    let first = u32::from_le_bytes(*header.at(PRESENT)?);
    if first & HAS_FLAGS == 0 {
        return Ok(false);
    }
    let mut present = first;
    let mut at = PRESENT + 4;
    while present & HAS_MORE != 0 {
        present = u32::from_le_bytes(*header.at(at)?);
        at += 4;
    }
    if first & HAS_TSFT != 0 {
        at = at.next_multiple_of(8) + 8;
    }
    Ok(header.at::<1>(at)?.byte::<0>() & DATA_PAD != 0)
}

/// Version in the first word of an AVS header; the lowest bits are a revision.
const AVS_MAGIC: u32 = 0x8021_1000;
const AVS_REVISION_MASK: u32 = 0xfff;

/// Parse an AVS header: version and length, both big-endian.
pub(super) fn avs(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const VERSION: usize = 0;
    const LENGTH: usize = 4;
    let header = span.head::<8>()?;
    if header.be32::<VERSION>() & !AVS_REVISION_MASK != AVS_MAGIC {
        return Err(Skip::NotIp);
    }
    frame(span.skip(header.be32::<LENGTH>() as usize)?, false)
}

/// Parse a Prism header: message code and length in the byte order of the capturing host. The link type also covers
/// AVS headers.
pub(super) fn prism(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const CODE: usize = 0;
    const LENGTH: usize = 4;
    /// Message codes of the drivers: 0x41 and 0x44.
    const CODES: [u32; 2] = [0x41, 0x44];
    let header = span.head::<8>()?;
    let length = if CODES.contains(&u32::from_le_bytes(header.array::<CODE, 4>())) {
        u32::from_le_bytes(header.array::<LENGTH, 4>())
    } else if CODES.contains(&header.be32::<CODE>()) {
        header.be32::<LENGTH>()
    } else {
        return avs(span);
    };
    frame(span.skip(length as usize)?, false)
}
