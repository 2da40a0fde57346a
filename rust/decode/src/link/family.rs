//! Address families in headers of capturing systems.

use crate::{Family, Skip};

/// IP version of an address family, as numbered by the capturing systems.
pub(super) fn family(number: u32) -> Result<Family, Skip> {
    match number {
        // Some writers put the EtherType there.
        2 | 0x0800 => Ok(Family::V4),
        // Linux, NetBSD and OpenBSD, FreeBSD, Darwin.
        10 | 24 | 28 | 30 | 0x86dd => Ok(Family::V6),
        _ => Err(Skip::NotIp),
    }
}

/// IP version of a 32-bit address family in the writer's byte order: family numbers are at most 65,535.
pub(super) fn family_in_either_order(bytes: [u8; 4]) -> Result<Family, Skip> {
    family(u32::from_be_bytes(bytes)).or_else(|_| family(u32::from_le_bytes(bytes)))
}
