//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, extension headers included.

use super::bytes::{Fields, Span};
use super::{Addr, Family, Skip, Vlan, checksum};

/// IP header behind a link layer or tunnel, with the facts of the layers around the header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Net<'a> {
    /// IP version by the layer below.
    pub family: Family,
    /// Bytes from the IP header on.
    pub span: Span<'a>,
    /// VLAN tags around the packet.
    pub vlan: Vlan,
    /// True if the frame was sent to a group address of the link layer.
    pub to_group: bool,
    /// Number of aggregated subframes that are passed over.
    pub passed_over: u16,
}

impl<'a> Net<'a> {
    /// IP header behind a layer that names no version; the first nibble is the version.
    pub fn by_version(span: Span<'a>) -> Result<Self, Skip> {
        let family = match span.head::<1>()?.byte::<0>() >> 4 {
            4 => Family::V4,
            6 => Family::V6,
            _ => return Err(Skip::NotIp),
        };
        Ok(Self::plain(family, span))
    }

    /// IP header without layers around.
    #[inline]
    pub fn plain(family: Family, span: Span<'a>) -> Self {
        Self { family, span, vlan: Vlan::default(), to_group: false, passed_over: 0 }
    }
}

/// Position of a fragment in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Identification.
    pub id: u32,
    /// Offset of this fragment's data in bytes; 0: the first fragment.
    pub offset: u32,
    /// True if further fragments follow.
    pub more: bool,
}

/// Decoded IP header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip<'a> {
    pub family: Family,
    pub src: Addr,
    pub dst: Addr,
    /// Protocol above, behind IPv6 extension headers.
    pub proto: u8,
    /// Bytes of the datagram, header included, without padding of the link layer.
    pub length: u32,
    /// Payload: length by the header, bytes as captured.
    pub payload: Span<'a>,
    /// Set for fragments; a datagram in a single fragment counts as unfragmented.
    pub fragment: Option<Fragment>,
    /// True if a routing header lists further addresses, so that the transport checksum uses another `dst`.
    pub rerouted: bool,
    /// True if the IPv4 header checksum is wrong.
    pub bad_checksum: bool,
    /// Identification of the IPv4 header; 0 for IPv6.
    pub identification: u16,
}

/// Decode the IP header at `net`.
#[inline]
pub(super) fn read<'a>(net: &Net<'a>, verify: bool) -> Result<Ip<'a>, Skip> {
    match net.family {
        Family::V4 => v4(net.span, verify),
        Family::V6 => v6(net.span),
    }
}

/// IPv4 header, RFC 791 section 3.1.
pub(super) mod v4_field {
    pub const VERSION_IHL: usize = 0;
    pub const TOTAL_LENGTH: usize = 2;
    pub const ID: usize = 4;
    pub const FLAGS_OFFSET: usize = 6;
    pub const PROTOCOL: usize = 9;
    pub const SRC: usize = 12;
    pub const DST: usize = 16;
    pub const SIZE: usize = 20;

    pub const MORE_FRAGMENTS: u16 = 0x2000;
    pub const OFFSET_MASK: u16 = 0x1fff;
}

/// IPv6 header, RFC 8200 section 3.
pub(super) mod v6_field {
    pub const VERSION: usize = 0;
    pub const PAYLOAD_LENGTH: usize = 4;
    pub const NEXT_HEADER: usize = 6;
    pub const SRC: usize = 8;
    pub const DST: usize = 24;
    pub const SIZE: usize = 40;
}

/// IPv6 extension headers, RFC 8200 section 4.
mod next_header {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const NONE: u8 = 59;
    pub const DESTINATION: u8 = 60;

    /// Maximum number of extension headers: all that a packet of 65,535 bytes has room for. Linux has no other bound
    /// (`ipv6_skip_exthdr`): Linux 6.18 forwards a datagram behind 8,180 destination options, and tracks the datagram.
    pub const MOST: usize = 8192;
}

/// Size of the header in bytes, if version and length are valid.
#[inline]
fn v4_header_length(header: &[u8; v4_field::SIZE]) -> Result<usize, Skip> {
    let first = header.byte::<{ v4_field::VERSION_IHL }>();
    let length = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || length < v4_field::SIZE {
        return Err(Skip::BadIpHeader);
    }
    Ok(length)
}

#[inline]
fn v4(span: Span<'_>, verify: bool) -> Result<Ip<'_>, Skip> {
    use v4_field::{DST, FLAGS_OFFSET, ID, MORE_FRAGMENTS, OFFSET_MASK, PROTOCOL, SIZE, SRC, TOTAL_LENGTH};
    let header = span.head::<SIZE>()?;
    let header_length = v4_header_length(header)?;
    let total = match header.be16::<TOTAL_LENGTH>() {
        // Segmentation offload: the length did not fit, or the network card fills in the length.
        0 => span.wire(),
        total => usize::from(total),
    };
    if total < header_length {
        return Err(Skip::BadIpHeader);
    }
    let flags_offset = header.be16::<FLAGS_OFFSET>();
    let fragment = (flags_offset & (MORE_FRAGMENTS | OFFSET_MASK) != 0).then(|| Fragment {
        id: u32::from(header.be16::<ID>()),
        offset: u32::from(flags_offset & OFFSET_MASK) * 8,
        more: flags_offset & MORE_FRAGMENTS != 0,
    });
    Ok(Ip {
        family: Family::V4,
        src: Addr::v4(header.array::<SRC, 4>()),
        dst: Addr::v4(header.array::<DST, 4>()),
        proto: header.byte::<PROTOCOL>(),
        length: total as u32,
        payload: span.limit(total).skip(header_length)?,
        fragment,
        rerouted: false,
        identification: header.be16::<ID>(),
        bad_checksum: verify && span.bytes().get(..header_length).is_some_and(|header| !checksum::verify(header)),
    })
}

fn v6(span: Span<'_>) -> Result<Ip<'_>, Skip> {
    /// Size in bytes of a TCP header.
    const SMALLEST_SEGMENT: usize = 20;
    use v6_field::{DST, NEXT_HEADER, PAYLOAD_LENGTH, SIZE, SRC, VERSION};
    let header = span.head::<SIZE>()?;
    if header.byte::<VERSION>() >> 4 != 6 {
        return Err(Skip::BadIpHeader);
    }
    let next = header.byte::<NEXT_HEADER>();
    let behind = span.skip(SIZE)?;
    let payload_length = match header.be16::<PAYLOAD_LENGTH>() {
        0 if next == next_header::NONE => 0,
        // A jumbogram has its length in an option; without the option, segmentation offload left the length at 0.
        0 if next == next_header::HOP_BY_HOP => jumbo_length(behind).unwrap_or(behind.wire()),
        // Less than a TCP header is padding of the link layer.
        0 if behind.wire() < SMALLEST_SEGMENT => 0,
        0 => behind.wire(),
        length => usize::from(length),
    };
    let chain = extensions(next, behind.limit(payload_length))?;
    if chain.proto == next_header::NONE {
        return Err(Skip::NoNextHeader);
    }
    // The reassembled datagram has no fragment header.
    let dropped = if chain.fragment.is_some() { FRAGMENT_HEADER } else { 0 };
    Ok(Ip {
        family: Family::V6,
        src: Addr::v6(header.array::<SRC, 16>()),
        dst: Addr::v6(header.array::<DST, 16>()),
        proto: chain.proto,
        length: (SIZE + payload_length).saturating_sub(dropped).try_into().unwrap_or(u32::MAX),
        payload: chain.rest,
        fragment: chain.fragment,
        rerouted: chain.rerouted,
        identification: 0,
        bad_checksum: false,
    })
}

/// Length in a jumbo payload option (RFC 2675 section 2), which must be the first hop-by-hop option.
fn jumbo_length(hop_by_hop: Span<'_>) -> Option<usize> {
    const OPTION: usize = 2;
    const LENGTH: usize = 4;
    const JUMBO_PAYLOAD: u16 = 0xc204;
    let header = hop_by_hop.head::<8>().ok()?;
    (header.be16::<OPTION>() == JUMBO_PAYLOAD).then(|| header.be32::<LENGTH>() as usize)
}

const FRAGMENT_HEADER: usize = 8;

/// Payload behind a chain of extension headers.
struct Chain<'a> {
    proto: u8,
    rest: Span<'a>,
    fragment: Option<Fragment>,
    rerouted: bool,
}

/// Walk the chain that begins with header `next`. Authentication headers are skipped, as in Linux.
fn extensions(next: u8, span: Span<'_>) -> Result<Chain<'_>, Skip> {
    use next_header::{AUTHENTICATION, DESTINATION, FRAGMENT, HOP_BY_HOP, MOST, ROUTING};
    // Common fields of extension headers (RFC 8200 section 4), and fields of routing and fragment headers.
    const NEXT: usize = 0;
    const LENGTH: usize = 1;
    const SEGMENTS_LEFT: usize = 3;
    const OFFSET_MORE: usize = 2;
    const ID: usize = 4;
    const OFFSET_MASK: u16 = 0xfff8;
    const MORE: u16 = 1;

    let mut chain = Chain { proto: next, rest: span, fragment: None, rerouted: false };
    for _ in 0..MOST {
        if !matches!(chain.proto, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION) {
            return Ok(chain);
        }
        if chain.rest.wire() < 8 {
            return Err(Skip::BadIpHeader);
        }
        let header = chain.rest.head::<8>()?;
        let size = match chain.proto {
            FRAGMENT => FRAGMENT_HEADER,
            // RFC 4302 section 2.2: in 4-byte words, less two.
            AUTHENTICATION => (usize::from(header.byte::<LENGTH>()) + 2) * 4,
            _ => (usize::from(header.byte::<LENGTH>()) + 1) * 8,
        };
        if size > chain.rest.wire() {
            return Err(Skip::BadIpHeader);
        }
        match chain.proto {
            ROUTING => chain.rerouted |= header.byte::<SEGMENTS_LEFT>() > 0,
            FRAGMENT => {
                let offset_more = header.be16::<OFFSET_MORE>();
                // Offset 0 without further fragments is an atomic fragment (RFC 6946): a whole packet.
                if offset_more & (OFFSET_MASK | MORE) != 0 {
                    if chain.fragment.is_some() {
                        return Err(Skip::BadIpHeader);
                    }
                    let offset = u32::from(offset_more & OFFSET_MASK);
                    chain.fragment = Some(Fragment { id: header.be32::<ID>(), offset, more: offset_more & MORE != 0 });
                }
            }
            _ => {}
        }
        chain.proto = header.byte::<NEXT>();
        chain.rest = chain.rest.skip(size)?;
        // A later fragment continues with data, whatever its next header says.
        if chain.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return Ok(chain);
        }
    }
    Err(Skip::TooDeep)
}

/// Decode the header of a packet quoted in an ICMP error. Its length fields are ignored, because routers rewrite and
/// truncate quotes. None for later fragments, which have no ports.
pub(super) fn quoted(family: Family, span: Span<'_>) -> Option<Ip<'_>> {
    let (src, dst, chain) = match family {
        Family::V4 => {
            use v4_field::{DST, FLAGS_OFFSET, OFFSET_MASK, PROTOCOL, SIZE, SRC};
            let header = span.head::<SIZE>().ok()?;
            let rest = span.skip(v4_header_length(header).ok()?).ok()?;
            if header.be16::<FLAGS_OFFSET>() & OFFSET_MASK != 0 {
                return None;
            }
            let chain = Chain { proto: header.byte::<PROTOCOL>(), rest, fragment: None, rerouted: false };
            (Addr::v4(header.array::<SRC, 4>()), Addr::v4(header.array::<DST, 4>()), chain)
        }
        Family::V6 => {
            use v6_field::{DST, NEXT_HEADER, SIZE, SRC, VERSION};
            let header = span.head::<SIZE>().ok()?;
            if header.byte::<VERSION>() >> 4 != 6 {
                return None;
            }
            let chain = extensions(header.byte::<NEXT_HEADER>(), span.skip(SIZE).ok()?).ok()?;
            (Addr::v6(header.array::<SRC, 16>()), Addr::v6(header.array::<DST, 16>()), chain)
        }
    };
    let later = chain.fragment.is_some_and(|fragment| fragment.offset > 0);
    (!later).then_some(Ip {
        family,
        src,
        dst,
        proto: chain.proto,
        length: span.wire() as u32,
        payload: chain.rest,
        fragment: chain.fragment,
        rerouted: chain.rerouted,
        identification: 0,
        bad_checksum: false,
    })
}
