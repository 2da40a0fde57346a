//! Tunnels over UDP without a link layer of their own: LISP, AYIYA, and MPLS.

use super::inner::{Decapsulation, network_identifier};
use crate::bytes::{Fields, Span};
use crate::ip::Net;
use crate::{Family, Skip, TunnelKind, ether, ethertype, ipproto};

/// Parse LISP, RFC 9300 section 5.3.
pub(super) fn lisp(span: Span<'_>) -> Decapsulation<'_> {
    const FLAGS: usize = 0;
    const INSTANCE: usize = 4;
    const SIZE: usize = 8;
    const HAS_INSTANCE: u8 = 0x08;
    /// Kind of encryption (RFC 8061 section 6).
    const ENCRYPTED: u8 = 0x03;
    let header = span.head::<SIZE>()?;
    let flags = header.byte::<FLAGS>();
    if flags & ENCRYPTED != 0 {
        return Err(Skip::Encrypted);
    }
    let instance = if flags & HAS_INSTANCE != 0 { network_identifier(header.array::<INSTANCE, 4>()) } else { 0 };
    Ok((TunnelKind::Lisp, instance, Net::by_version(span.skip(SIZE)?)?))
}

/// Parse AYIYA, draft-massar-v6ops-ayiya-02 section 4.
pub(super) fn ayiya(span: Span<'_>) -> Decapsulation<'_> {
    const IDENTITY: usize = 0;
    const SIGNATURE: usize = 1;
    const OPERATION: usize = 2;
    const OPERATION_MASK: u8 = 0x0f;
    const FORWARD: u8 = 1;
    const NEXT_HEADER: usize = 3;
    /// Size in bytes of the fixed part, with the time.
    const SIZE: usize = 8;
    let header = span.head::<SIZE>()?;
    if header.byte::<OPERATION>() & OPERATION_MASK != FORWARD {
        return Err(Skip::NotIp);
    }
    // The identity has a power of two bytes, the signature a number of words.
    let identity = 1_usize << (header.byte::<IDENTITY>() >> 4);
    let signature = usize::from(header.byte::<SIGNATURE>() >> 4) * 4;
    let family = match header.byte::<NEXT_HEADER>() {
        ipproto::IPIP => Family::V4,
        ipproto::IPV6 => Family::V6,
        _ => return Err(Skip::NotIp),
    };
    Ok((TunnelKind::Ayiya, 0, Net::plain(family, span.skip(SIZE + identity + signature)?)))
}

/// Parse MPLS in UDP, RFC 7510.
pub(super) fn mpls(span: Span<'_>) -> Decapsulation<'_> {
    Ok((TunnelKind::Mpls, 0, ether::typed(ethertype::MPLS, span, false)?))
}
