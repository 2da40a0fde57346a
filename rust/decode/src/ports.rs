//! Ports of a transport header.

use super::bytes::{Fields, Span};
use super::{FiveTuple, Skip};

/// Source and destination port, in the common position of TCP, UDP, UDP-Lite and SCTP.
#[inline]
pub(super) fn ports(payload: Span<'_>, tuple: &mut FiveTuple) -> Result<(), Skip> {
    let header = payload.head::<4>()?;
    tuple.sport = header.be16::<0>();
    tuple.dport = header.be16::<2>();
    Ok(())
}
