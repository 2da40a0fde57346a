//! Protocols of frames without IP, for the account of a run.

use super::bytes::{Fields, Span};
use super::{ether, ethertype, ppp};
use conntrack_capture::LinkType;

/// Protocol of a frame without IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// EtherType, behind all tags.
    EtherType(u16),
    /// Destination service access point of an LLC header (IEEE 802.2).
    Sap(u8),
    /// Protocol of a SNAP header with an organization's code.
    Snap(u16),
    /// Protocol number of PPP.
    Ppp(u16),
    /// Type of an 802.11 frame: 0 management, 1 control, 2 data.
    Wireless(u8),
    /// Link type without a field that names the protocol.
    Link(u16),
}

impl Unread {
    /// The protocol of a frame that is [`super::Skip::NotIp`].
    pub fn of(linktype: LinkType, frame: &[u8]) -> Self {
        let span = Span::new(frame, frame.len());
        let typed = |at: usize, size: usize| {
            let kind = span.at::<2>(at).map(|kind| u16::from_be_bytes(*kind)).ok()?;
            Some(behind_tags(kind, span.skip(size).ok()?))
        };
        let found = match linktype {
            LinkType::ETHERNET => typed(12, 14),
            LinkType::LINUX_SLL => typed(14, 16),
            LinkType::LINUX_SLL2 => typed(0, 20),
            LinkType::C_HDLC => typed(2, 4),
            LinkType::PPP | LinkType::PPP_HDLC => match ppp::cisco_hdlc(span) {
                Ok((kind, behind)) if ppp::is_cisco(span) => Some(behind_tags(kind, behind)),
                _ => ppp_protocol(span),
            },
            LinkType::IEEE802_11 => wireless(span),
            LinkType::IEEE802_11_RADIOTAP => {
                let size = span.at::<2>(2).map_or(0, |size| u16::from_le_bytes(*size));
                span.skip(size.into()).ok().and_then(wireless)
            }
            _ => None,
        };
        found.unwrap_or(Self::Link(linktype.0))
    }

    /// The protocol's name, or its number.
    pub fn name(self) -> String {
        let known = match self {
            Self::EtherType(kind) => named(ETHERTYPES, kind),
            Self::Sap(sap) => named(SAPS, sap.into()),
            Self::Snap(protocol) => named(SNAPS, protocol),
            Self::Ppp(protocol) => named(PPP_PROTOCOLS, protocol),
            Self::Wireless(kind) => named(WIRELESS, kind.into()),
            Self::Link(_) => None,
        };
        match (known, self) {
            (Some(name), _) => name.to_owned(),
            (None, Self::EtherType(kind)) => format!("EtherType {kind:#06x}"),
            (None, Self::Sap(sap)) => format!("LLC {sap:#04x}"),
            (None, Self::Snap(protocol)) => format!("SNAP {protocol:#06x}"),
            (None, Self::Ppp(protocol)) => format!("PPP {protocol:#06x}"),
            (None, Self::Wireless(kind)) => format!("802.11 type {kind}"),
            (None, Self::Link(number)) => LinkType(number).name().to_owned(),
        }
    }
}

/// The protocol behind VLAN tags and other layers that name the next one.
fn behind_tags(kind: u16, span: Span<'_>) -> Unread {
    let (kind, span) = ether::innermost(kind, span);
    let found = match kind {
        ethertype::PPPOE_SESSION => span.skip(6).ok().and_then(ppp_protocol),
        ethertype::PPP => ppp_protocol(span),
        0..=1500 => logical_link(span),
        _ => None,
    };
    found.unwrap_or(Unread::EtherType(kind))
}

fn logical_link(span: Span<'_>) -> Option<Unread> {
    const SNAP: u8 = 0xaa;
    match *span.head::<2>().ok()? {
        [SNAP, SNAP] => Some(Unread::Snap(u16::from_be_bytes(*span.at(6).ok()?))),
        [sap, _] => Some(Unread::Sap(sap)),
    }
}

fn ppp_protocol(span: Span<'_>) -> Option<Unread> {
    ppp::protocol(span).ok().map(|(protocol, _)| Unread::Ppp(protocol))
}

fn wireless(span: Span<'_>) -> Option<Unread> {
    Some(Unread::Wireless(span.head::<1>().ok()?.byte::<0>() >> 2 & 3))
}

/// Names of numbers, in numeric order.
type Names = &'static [(u16, &'static str)];

fn named(names: Names, number: u16) -> Option<&'static str> {
    names.binary_search_by_key(&number, |&(known, _)| known).ok().map(|at| names[at].1)
}

const ETHERTYPES: Names = &[
    (0x0806, "ARP"),
    (0x0842, "wake-on-LAN"),
    (0x22f0, "AVTP"),
    (0x22f3, "TRILL"),
    (0x22f4, "TRILL IS-IS"),
    (0x4305, "B.A.T.M.A.N."),
    (0x6003, "DECnet"),
    (0x8035, "RARP"),
    (0x809b, "AppleTalk"),
    (0x80f3, "AppleTalk ARP"),
    (0x8137, "IPX"),
    (0x8808, "Ethernet flow control"),
    (0x8809, "slow protocols (LACP)"),
    (0x8847, "MPLS"),
    (0x8848, "MPLS"),
    (0x8863, "PPPoE discovery"),
    (0x887b, "HomePlug"),
    (0x888e, "EAPOL"),
    (0x8892, "PROFINET"),
    (0x8899, "Realtek"),
    (0x88a2, "ATA over Ethernet"),
    (0x88a4, "EtherCAT"),
    (0x88ab, "Ethernet POWERLINK"),
    (0x88b8, "GOOSE"),
    (0x88ba, "IEC 61850 sampled values"),
    (0x88bf, "MikroTik RoMON"),
    (0x88c7, "802.11 pre-authentication"),
    (0x88cc, "LLDP"),
    (0x88cd, "SERCOS III"),
    (0x88d9, "LLTD"),
    (0x88dc, "WAVE"),
    (0x88e1, "HomePlug AV"),
    (0x88e3, "MRP"),
    (0x88f5, "MVRP"),
    (0x88f7, "PTP"),
    (0x88fb, "PRP supervision"),
    (0x8902, "802.1ag"),
    (0x8906, "FCoE"),
    (0x8914, "FCoE initialization"),
    (0x8915, "RoCE"),
    (0x894f, "NSH"),
    (0x9000, "loopback test"),
    (0xd28b, "Arista"),
    (0xdada, "Marvell"),
];

const SAPS: Names = &[(0x42, "STP"), (0xe0, "IPX"), (0xf0, "NetBIOS"), (0xfe, "ISO (IS-IS)"), (0xff, "IPX")];

const SNAPS: Names = &[
    (0x010b, "PVST+"),
    (0x0111, "UDLD"),
    (0x2000, "CDP"),
    (0x2003, "VTP"),
    (0x2004, "DTP"),
    (0x809b, "AppleTalk"),
    (0x80f3, "AppleTalk ARP"),
];

const PPP_PROTOCOLS: Names = &[
    (0x003d, "PPP multilink"),
    (0x00fd, "PPP compression"),
    (0x8021, "IPCP"),
    (0x8057, "IPv6CP"),
    (0x80fd, "PPP CCP"),
    (0xc021, "PPP LCP"),
    (0xc023, "PPP PAP"),
    (0xc025, "PPP LQR"),
    (0xc223, "PPP CHAP"),
];

const WIRELESS: Names = &[(0, "802.11 management"), (1, "802.11 control"), (2, "802.11 data")];

#[cfg(test)]
mod tests {
    use super::super::testkit::*;
    use super::*;

    #[test]
    fn names_are_in_order() {
        for names in [ETHERTYPES, SAPS, SNAPS, PPP_PROTOCOLS, WIRELESS] {
            assert!(names.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn the_protocol_behind_all_tags() {
        let frames = [
            (ETHERNET, ethernet(0x0806, &[0; 28]), "ARP"),
            (ETHERNET, ethernet(0x8100, &hex("0005 8926 00000001 88cc 0207")), "LLDP"),
            (ETHERNET, ethernet(0x1234, &[0; 28]), "EtherType 0x1234"),
            (ETHERNET, ethernet(38, &hex("4242 03 0000")), "STP"),
            (ETHERNET, ethernet(38, &hex("1818 03 0000")), "LLC 0x18"),
            (ETHERNET, ethernet(38, &hex("aaaa03 00000c 2000 0000")), "CDP"),
            (ETHERNET, ethernet(38, &hex("aaaa03 00000c 1234 0000")), "SNAP 0x1234"),
            (ETHERNET, ethernet(0x8864, &hex("1100 0001 0004 c021 0100")), "PPP LCP"),
            (ETHERNET, ethernet(0x8847, &hex("000101ff 10000000 0000 0000")), "MPLS"),
            (ETHERNET, ethernet(0x8100, &hex("00")), "EtherType 0x8100"),
            (ETHERNET, vec![0; 3], "ETHERNET"),
            (9, hex("ff03 8021 0101"), "IPCP"),
            (104, hex("8f00 8035 0000"), "RARP"),
            (9, hex("8f00 8035 0000"), "RARP"),
            (105, hex("8000 0000"), "802.11 management"),
            (113, hex("0000 0001 0006 0200000000010000 888e 0000"), "EAPOL"),
            (127, hex("0000 0800 00000000 d400 0000"), "802.11 control"),
            (276, hex("0806 0000 00000002 0001 00 06 0200000000010000"), "ARP"),
            (240, vec![0; 60], "NETANALYZER"),
        ];
        for (linktype, frame, name) in frames {
            assert_eq!(Unread::of(LinkType(linktype), &frame).name(), name);
        }
    }
}
