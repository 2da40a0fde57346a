//! Tunnels over UDP: Teredo, VXLAN, GENEVE, GTP-U.

use super::super::bytes::{Fields, Span};
use super::super::ether;
use super::super::ip::{Ip, Net};
use super::super::udp::payload;
use super::super::{Family, Packet, Skip, Tunnel, TunnelKind, ethertype};
use super::inner::InnerPacket;

/// Well-known ports, as registered with IANA.
mod port {
    pub const GTPU: u16 = 2152;
    pub const TEREDO: u16 = 3544;
    pub const VXLAN: u16 = 4789;
    pub const VXLAN_GPE: u16 = 4790;
    pub const GENEVE: u16 = 6081;
    /// Port of VXLAN in Linux before the IANA assignment, still the default there.
    pub const VXLAN_LINUX: u16 = 8472;
}

/// Kind, network identifier and inner packet of a tunnel.
type Decapsulation<'a> = Result<(TunnelKind, u32, Net<'a>), Skip>;

/// True for ports of tunnels over UDP.
#[inline]
pub(super) fn is_port(port: u16) -> bool {
    matches!(port, port::GTPU | port::TEREDO | port::VXLAN | port::VXLAN_GPE | port::GENEVE | port::VXLAN_LINUX)
}

/// See [`super::begins_as_teredo`].
#[inline(never)]
pub(super) fn begins_as_teredo(payload: &[u8]) -> bool {
    let addresses = payload.first_chunk::<40>().map(|header| (header.array::<8, 4>(), header.array::<24, 4>()));
    addresses.is_some_and(|(src, dst)| src == TEREDO_PREFIX || dst == TEREDO_PREFIX)
}

#[inline]
pub(super) fn inner<'a>(ip: &Ip<'a>, packet: &Packet) -> Option<InnerPacket<'a>> {
    let (sport, dport) = (packet.tuple.sport, packet.tuple.dport);
    if packet.malformed {
        return None;
    }
    // VXLAN and GENEVE hash flows into the source port, so only the destination port identifies the protocol. GTP-U
    // and Teredo also reply from their port.
    let (kind, vni, net) = match (sport, dport) {
        (_, port::VXLAN | port::VXLAN_LINUX) => vxlan(payload(ip).ok()?),
        (_, port::VXLAN_GPE) => vxlan_gpe(payload(ip).ok()?),
        (_, port::GENEVE) => geneve(payload(ip).ok()?),
        (_, port::GTPU) | (port::GTPU, _) => gtpu(payload(ip).ok()?),
        (_, port::TEREDO) | (port::TEREDO, _) if ip.family == Family::V4 => teredo(payload(ip).ok()?),
        _ if ip.family == Family::V4 && ip.fragment.is_none() => teredo_relay(payload(ip).ok()?),
        _ => return None,
    }
    .ok()?;
    Some(InnerPacket { net, tunnel: Tunnel { kind, vni }, must_fit: ip.fragment.is_none() })
}

/// Common header of VXLAN and VXLAN-GPE: flags, two reserved bytes and a protocol or group, VNI, reserved.
mod vxlan_field {
    pub const FLAGS: usize = 0;
    /// Next protocol, in VXLAN-GPE only.
    pub const NEXT_PROTOCOL: usize = 3;
    pub const VNI: usize = 4;
    pub const SIZE: usize = 8;
    /// Flag I: the VNI is valid.
    pub const I: u8 = 0x08;
}

/// The 24-bit VNI, in the common position of VXLAN and GENEVE, and the reserved byte behind the VNI.
fn network_identifier([high, middle, low, reserved]: [u8; 4]) -> (u32, u8) {
    (u32::from_be_bytes([0, high, middle, low]), reserved)
}

/// Parse VXLAN, RFC 7348 section 5.
fn vxlan(span: Span<'_>) -> Decapsulation<'_> {
    use vxlan_field::{FLAGS, I, SIZE, VNI};
    /// Flag of the group policy extension, which writes a group into reserved bytes.
    const GROUP_POLICY: u8 = 0x80;
    let header = span.head::<SIZE>()?;
    let flags = header.byte::<FLAGS>();
    let reserved = header.be32::<FLAGS>() & 0x00ff_ffff;
    let (vni, vni_reserved) = network_identifier(header.array::<VNI, 4>());
    let possible = flags & !GROUP_POLICY == I && (reserved == 0 || flags & GROUP_POLICY != 0) && vni_reserved == 0;
    if !possible {
        return Err(Skip::NotIp);
    }
    Ok((TunnelKind::Vxlan, vni, ether::frame(span.skip(SIZE)?)?))
}

/// Parse VXLAN-GPE, draft-ietf-nvo3-vxlan-gpe section 3.
fn vxlan_gpe(span: Span<'_>) -> Decapsulation<'_> {
    use vxlan_field::{FLAGS, I, NEXT_PROTOCOL, SIZE, VNI};
    /// Version, B and O bits, reserved bits: control messages of the overlay, or another protocol.
    const NO_PAYLOAD_MASK: u8 = 0xf3;
    const HAS_PROTOCOL: u8 = 0x04;
    let header = span.head::<SIZE>()?;
    let flags = header.byte::<FLAGS>();
    if flags & (I | NO_PAYLOAD_MASK) != I {
        return Err(Skip::NotIp);
    }
    let payload = span.skip(SIZE)?;
    let net = match header.byte::<NEXT_PROTOCOL>() {
        _ if flags & HAS_PROTOCOL == 0 => ether::frame(payload)?,
        1 => Net::plain(Family::V4, payload),
        2 => Net::plain(Family::V6, payload),
        3 => ether::frame(payload)?,
        4 => ether::typed(ethertype::NSH, payload, false)?,
        5 => ether::typed(ethertype::MPLS, payload, false)?,
        _ => return Err(Skip::NotIp),
    };
    let (vni, _) = network_identifier(header.array::<VNI, 4>());
    Ok((TunnelKind::Vxlan, vni, net))
}

/// Parse GENEVE, RFC 8926 section 3.4.
fn geneve(span: Span<'_>) -> Decapsulation<'_> {
    const VERSION_LENGTH: usize = 0;
    const OPTIONS_LENGTH_MASK: u8 = 0x3f;
    const FLAGS: usize = 1;
    const CONTROL: u8 = 0x80;
    const PROTOCOL: usize = 2;
    const VNI: usize = 4;
    const SIZE: usize = 8;
    let header = span.head::<SIZE>()?;
    let first = header.byte::<VERSION_LENGTH>();
    let (vni, vni_reserved) = network_identifier(header.array::<VNI, 4>());
    if first & !OPTIONS_LENGTH_MASK != 0 || header.byte::<FLAGS>() & CONTROL != 0 || vni_reserved != 0 {
        return Err(Skip::NotIp);
    }
    let payload = span.skip(SIZE + usize::from(first & OPTIONS_LENGTH_MASK) * 4)?;
    let net = match header.be16::<PROTOCOL>() {
        kind @ (ethertype::BRIDGED | ethertype::IPV4 | ethertype::IPV6) => ether::typed(kind, payload, false)?,
        _ => return Err(Skip::NotIp),
    };
    Ok((TunnelKind::Geneve, vni, net))
}

/// Parse GTP-U version 1, 3GPP TS 29.281 section 5: user packets (G-PDU) only.
fn gtpu(span: Span<'_>) -> Decapsulation<'_> {
    const FLAGS: usize = 0;
    const TYPE: usize = 1;
    const LENGTH: usize = 2;
    const SIZE: usize = 8;
    /// Version 1, protocol type GTP, spare bit 0.
    const VERSION_MASK: u8 = 0xf8;
    const VERSION_1: u8 = 0x30;
    /// Any of E, S, PN: sequence number, N-PDU number and next extension type are present, valid or not.
    const OPTIONAL_MASK: u8 = 0x07;
    const HAS_EXTENSIONS: u8 = 0x04;
    const OPTIONAL_SIZE: usize = 4;
    const NEXT_EXTENSION: usize = 3;
    const G_PDU: u8 = 255;
    const NO_EXTENSION: u8 = 0;
    const MOST_EXTENSIONS: usize = 8;

    let header = span.head::<SIZE>()?;
    let flags = header.byte::<FLAGS>();
    if flags & VERSION_MASK != VERSION_1 || header.byte::<TYPE>() != G_PDU {
        return Err(Skip::NotIp);
    }
    let length = usize::from(header.be16::<LENGTH>());
    let mut payload = span.skip(SIZE)?;
    if length < payload.wire() {
        payload = payload.limit(length);
    }
    if flags & OPTIONAL_MASK != 0 {
        let optional = payload.head::<OPTIONAL_SIZE>()?;
        payload = payload.skip(OPTIONAL_SIZE)?;
        let mut next = if flags & HAS_EXTENSIONS != 0 { optional.byte::<NEXT_EXTENSION>() } else { NO_EXTENSION };
        for _ in 0..MOST_EXTENSIONS {
            if next == NO_EXTENSION {
                break;
            }
            // Section 5.2.1: length in four-byte words, contents, type of the next header.
            let size = usize::from(payload.head::<1>()?.byte::<0>()) * 4;
            if size == 0 {
                return Err(Skip::NotIp);
            }
            next = payload.at::<1>(size - 1)?.byte::<0>();
            payload = payload.skip(size)?;
        }
        if next != NO_EXTENSION {
            return Err(Skip::TooDeep);
        }
    }
    Ok((TunnelKind::Gtpu, 0, Net::by_version(payload)?))
}

/// Parse Teredo, RFC 4380 section 5.1.1: authentication and origin indications may precede the packet.
fn teredo(span: Span<'_>) -> Decapsulation<'_> {
    const AUTHENTICATION: [u8; 2] = [0, 1];
    const ORIGIN: [u8; 2] = [0, 0];
    const ORIGIN_SIZE: usize = 8;
    /// Size of the fixed parts: indicator and two length fields, nonce and confirmation.
    const AUTHENTICATION_SIZE: usize = 4 + 8 + 1;
    let mut payload = span;
    if *payload.head::<2>()? == AUTHENTICATION {
        let [_, _, identifier, value] = *payload.head::<4>()?;
        payload = payload.skip(AUTHENTICATION_SIZE + usize::from(identifier) + usize::from(value))?;
    }
    if *payload.head::<2>()? == ORIGIN {
        payload = payload.skip(ORIGIN_SIZE)?;
    }
    Ok((TunnelKind::Teredo, 0, Net::plain(Family::V6, payload)))
}

/// Prefix of Teredo addresses, RFC 4380 section 2.6.
const TEREDO_PREFIX: [u8; 4] = [0x20, 0x01, 0, 0];

/// Parse Teredo between clients and relays, which use any port. The IPv6 packet must fill the datagram exactly, and
/// one end must have a Teredo address.
fn teredo_relay(span: Span<'_>) -> Decapsulation<'_> {
    const PAYLOAD_LENGTH: usize = 4;
    const SRC: usize = 8;
    const DST: usize = 24;
    const SIZE: usize = 40;
    const VERSION_6: u8 = 6;
    let header = span.head::<SIZE>()?;
    let fits = SIZE + usize::from(header.be16::<PAYLOAD_LENGTH>()) == span.wire();
    let has_address = header.array::<SRC, 4>() == TEREDO_PREFIX || header.array::<DST, 4>() == TEREDO_PREFIX;
    if header.byte::<0>() >> 4 == VERSION_6 && fits && has_address {
        Ok((TunnelKind::Teredo, 0, Net::plain(Family::V6, span)))
    } else {
        Err(Skip::NotIp)
    }
}
