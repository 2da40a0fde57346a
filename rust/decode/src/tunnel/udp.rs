//! Tunnels over UDP: Teredo, VXLAN, GENEVE, GTP-U. Others are in [`super::overlay`] and [`super::l2tp`].

use super::super::bytes::{Fields, Span};
use super::super::ether;
use super::super::ip::{self, Ip, Net};
use super::super::udp::payload;
use super::super::{Family, Packet, Skip, Tunnel, TunnelKind, ethertype};
use super::inner::{Decapsulation, InnerPacket, fills, fits, network_identifier};
use super::{gre, l2tp, overlay};

/// Well-known ports, as registered with IANA.
mod port {
    pub const L2TP: u16 = 1701;
    pub const GTPU: u16 = 2152;
    pub const TEREDO: u16 = 3544;
    pub const LISP: u16 = 4341;
    pub const GRE: u16 = 4754;
    /// GRE with DTLS; some senders use the port without DTLS.
    pub const GRE_DTLS: u16 = 4755;
    pub const VXLAN: u16 = 4789;
    pub const VXLAN_GPE: u16 = 4790;
    pub const AYIYA: u16 = 5072;
    pub const GENEVE: u16 = 6081;
    pub const MPLS: u16 = 6635;
    /// Port of VXLAN in Linux before the IANA assignment, still the default there.
    pub const VXLAN_LINUX: u16 = 8472;
}

/// True for ports of tunnels over UDP.
#[inline]
pub(super) fn is_port(port: u16) -> bool {
    matches!(
        port,
        port::L2TP
            | port::GTPU
            | port::TEREDO
            | port::LISP
            | port::GRE
            | port::GRE_DTLS
            | port::VXLAN
            | port::VXLAN_GPE
            | port::AYIYA
            | port::GENEVE
            | port::MPLS
            | port::VXLAN_LINUX
    )
}

/// See [`super::begins_as_teredo`].
#[inline(never)]
pub(super) fn begins_as_teredo(payload: &[u8]) -> bool {
    let addresses = payload.first_chunk::<40>().map(|header| (header.array::<8, 4>(), header.array::<24, 4>()));
    addresses.is_some_and(|(src, dst)| src == TEREDO_PREFIX || dst == TEREDO_PREFIX)
}

/// See [`super::begins_as_gtpu`].
#[inline(never)]
pub(super) fn begins_as_gtpu(payload: &[u8]) -> bool {
    matches!(payload, [flags, G_PDU, ..] if flags & VERSION_MASK == VERSION_1)
}

#[inline]
pub(super) fn inner<'a>(ip: &Ip<'a>, packet: &Packet) -> Option<InnerPacket<'a>> {
    let (sport, dport) = (packet.tuple.sport, packet.tuple.dport);
    if packet.malformed {
        return None;
    }
    // Most hash flows into the source port, so only the destination port identifies the protocol. GTP-U, Teredo, AYIYA
    // and L2TP also reply from their port.
    let (kind, vni, net) = match (sport, dport) {
        (_, port::VXLAN | port::VXLAN_LINUX) => vxlan(payload(ip).ok()?),
        (_, port::VXLAN_GPE) => vxlan_gpe(payload(ip).ok()?),
        (_, port::GENEVE) => geneve(payload(ip).ok()?),
        (_, port::GRE | port::GRE_DTLS) => {
            let inner = gre::over_udp(payload(ip).ok()?)?;
            return Some(InnerPacket { must_fit: ip.fragment.is_none(), ..inner });
        }
        (_, port::MPLS) => overlay::mpls(payload(ip).ok()?),
        (_, port::LISP) => overlay::lisp(payload(ip).ok()?),
        (_, port::GTPU) | (port::GTPU, _) => gtpu(payload(ip).ok()?),
        (_, port::AYIYA) | (port::AYIYA, _) => overlay::ayiya(payload(ip).ok()?),
        (_, port::L2TP) | (port::L2TP, _) => l2tp::over_udp(payload(ip).ok()?).map(|net| (TunnelKind::L2tp, 0, net)),
        (_, port::TEREDO) | (port::TEREDO, _) if ip.family == Family::V4 => teredo(payload(ip).ok()?),
        _ if ip.fragment.is_none() => on_any_port(ip, sport == dport),
        _ => return None,
    }
    .ok()?;
    let is_vague =
        matches!(kind, TunnelKind::Ayiya | TunnelKind::L2tp | TunnelKind::Lisp | TunnelKind::Mpls | TunnelKind::Teredo);
    if is_vague && ip.fragment.is_none() && !fills(&net) {
        return None;
    }
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
    /// Flag P of VXLAN-GPE: the next protocol is valid.
    pub const HAS_PROTOCOL: u8 = 0x04;
}

/// Parse VXLAN, RFC 7348 section 5, whose reserved bits are ignored. Some senders of VXLAN-GPE use this port: without
/// a frame that fits, the protocol in the header counts.
fn vxlan(span: Span<'_>) -> Decapsulation<'_> {
    use vxlan_field::{FLAGS, HAS_PROTOCOL, I, SIZE, VNI};
    let header = span.head::<SIZE>()?;
    let flags = header.byte::<FLAGS>();
    if flags & I == 0 {
        return Err(Skip::NotIp);
    }
    let frame = ether::frame(span.skip(SIZE)?);
    if flags & HAS_PROTOCOL != 0 && !frame.as_ref().is_ok_and(fits) {
        return vxlan_gpe(span);
    }
    Ok((TunnelKind::Vxlan, network_identifier(header.array::<VNI, 4>()), frame?))
}

/// Parse VXLAN-GPE, draft-ietf-nvo3-vxlan-gpe section 3.
fn vxlan_gpe(span: Span<'_>) -> Decapsulation<'_> {
    use vxlan_field::{FLAGS, HAS_PROTOCOL, I, NEXT_PROTOCOL, SIZE, VNI};
    /// Version and O bit: another protocol, or control messages of the overlay.
    const NO_PAYLOAD_MASK: u8 = 0x31;
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
    Ok((TunnelKind::Vxlan, network_identifier(header.array::<VNI, 4>()), net))
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
    if first & !OPTIONS_LENGTH_MASK != 0 || header.byte::<FLAGS>() & CONTROL != 0 {
        return Err(Skip::NotIp);
    }
    let payload = span.skip(SIZE + usize::from(first & OPTIONS_LENGTH_MASK) * 4)?;
    let net = match header.be16::<PROTOCOL>() {
        // A number below the EtherTypes would parse as an LLC length.
        kind if kind > 1500 => ether::typed(kind, payload, false)?,
        _ => return Err(Skip::NotIp),
    };
    Ok((TunnelKind::Geneve, network_identifier(header.array::<VNI, 4>()), net))
}

/// Parse the tunnels that use any port: Teredo over IPv4, and GTP-U between ends that agreed on one port.
fn on_any_port<'a>(ip: &Ip<'a>, same_port: bool) -> Decapsulation<'a> {
    const LENGTH: usize = 2;
    let span = payload(ip)?;
    if !same_port || !begins_as_gtpu(span.bytes()) {
        return if ip.family == Family::V4 { teredo_relay(span) } else { Err(Skip::NotIp) };
    }
    // Both lengths must be exact.
    let length = usize::from(u16::from_be_bytes(*span.at(LENGTH)?));
    let (kind, vni, net) = gtpu(span)?;
    let is_exact = ip::read(&net, false).is_ok_and(|inner| inner.length as usize == net.span.wire());
    if length + GTPU_SIZE == span.wire() && is_exact { Ok((kind, vni, net)) } else { Err(Skip::NotIp) }
}

/// GTP-U: version 1, protocol type GTP, spare bit 0.
const VERSION_MASK: u8 = 0xf8;
const VERSION_1: u8 = 0x30;
/// User packet.
const G_PDU: u8 = 255;
/// Size in bytes of the mandatory header.
const GTPU_SIZE: usize = 8;

/// Parse GTP-U version 1, 3GPP TS 29.281 section 5: user packets (G-PDU) only.
fn gtpu(span: Span<'_>) -> Decapsulation<'_> {
    const FLAGS: usize = 0;
    const TYPE: usize = 1;
    const LENGTH: usize = 2;
    const SIZE: usize = 8;
    /// Any of E, S, PN: sequence number, N-PDU number and next extension type are present, valid or not.
    const OPTIONAL_MASK: u8 = 0x07;
    const HAS_EXTENSIONS: u8 = 0x04;
    const OPTIONAL_SIZE: usize = 4;
    const NEXT_EXTENSION: usize = 3;
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
