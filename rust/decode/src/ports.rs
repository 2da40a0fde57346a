//! Ports of a transport header.

use super::bytes::{Fields, Span};
use super::{FiveTuple, Skip};

/// Source and destination port, which TCP, UDP, UDP-Lite and SCTP have in the same place.
#[inline]
pub(super) fn ports(payload: Span<'_>, tuple: &mut FiveTuple) -> Result<(), Skip> {
    let header = payload.head::<4>()?;
    tuple.sport = header.be16::<0>();
    tuple.dport = header.be16::<2>();
    Ok(())
}
