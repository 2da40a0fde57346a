//! Ethernet and the layers with an EtherType: LLC/SNAP, VLAN tags, MPLS, PPPoE, provider bridges.

use super::bytes::{Fields, Span};
use super::ip::Net;
use super::{Family, Skip, Vlan, ethertype, ppp};

/// Maximum value that is a length with an LLC header behind (IEEE 802.3 section 3.2.6).
const LONGEST_LENGTH: u16 = 1500;

/// Maximum number of consecutive layers, above every real network's.
const MOST_TAGS: usize = 16;

/// Ethernet II and 802.3 header.
mod field {
    /// Destination; the lowest bit of the first byte marks groups.
    pub const DST: usize = 0;
    pub const ETHERTYPE: usize = 12;
    pub const SIZE: usize = 14;
}

/// The group bit of a MAC address, in its first byte.
pub(super) const GROUP_BIT: u8 = 1;

/// Parse an Ethernet frame.
pub(super) fn frame(span: Span<'_>) -> Result<Net<'_>, Skip> {
    let header = span.head::<{ field::SIZE }>()?;
    let to_group = header.byte::<{ field::DST }>() & GROUP_BIT != 0;
    typed(header.be16::<{ field::ETHERTYPE }>(), span.skip(field::SIZE)?, to_group)
}

/// Parse an Ethernet frame with IPv4 directly behind its header; None for other frames.
#[inline]
pub(super) fn plain_ipv4(span: Span<'_>) -> Option<Net<'_>> {
    let header = span.head::<{ field::SIZE }>().ok()?;
    if header.be16::<{ field::ETHERTYPE }>() != ethertype::IPV4 {
        return None;
    }
    let to_group = header.byte::<{ field::DST }>() & GROUP_BIT != 0;
    Some(Net { to_group, ..Net::plain(Family::V4, span.skip(field::SIZE).ok()?) })
}

/// Parse the payload of an EtherType (or of an 802.3 length).
pub(super) fn typed(kind: u16, span: Span<'_>, to_group: bool) -> Result<Net<'_>, Skip> {
    let mut layer = Layer { kind, span, to_group, vlan: Vlan::default() };
    for _ in 0..MOST_TAGS {
        if let Some(family) = layer.open()? {
            return Ok(Net { family, span: layer.span, vlan: layer.vlan, to_group: layer.to_group, passed_over: 0 });
        }
    }
    Err(Skip::TooDeep)
}

/// EtherType (or 802.3 length) and payload of the innermost layer that names one, in a frame without IP.
pub(super) fn innermost(kind: u16, span: Span<'_>) -> (u16, Span<'_>) {
    let mut layer = Layer { kind, span, to_group: false, vlan: Vlan::default() };
    for _ in 0..MOST_TAGS {
        if !matches!(layer.open(), Ok(None)) {
            break;
        }
    }
    (layer.kind, layer.span)
}

/// Parse an LLC header and its payload.
pub(super) fn llc(span: Span<'_>, to_group: bool) -> Result<Net<'_>, Skip> {
    typed(ethertype::LINUX_LLC, span, to_group)
}

/// Layer on the path to the IP header.
struct Layer<'a> {
    /// EtherType or 802.3 length of the layer at `span`.
    kind: u16,
    span: Span<'a>,
    to_group: bool,
    vlan: Vlan,
}

impl Layer<'_> {
    /// Open this layer: Some for IP, None if another EtherType follows.
    fn open(&mut self) -> Result<Option<Family>, Skip> {
        match self.kind {
            ethertype::IPV4 => return Ok(Some(Family::V4)),
            ethertype::IPV6 => return Ok(Some(Family::V6)),
            ethertype::CUSTOMER_VLAN | ethertype::SERVICE_VLAN | ethertype::OLD_VLAN | ethertype::OLDER_VLAN => {
                self.vlan_tag()?;
            }
            ethertype::BACKBONE => self.backbone()?,
            ethertype::VN_TAG | ethertype::HSR | ethertype::REDUNDANCY => {
                // HSR and 802.1CB: path, size and sequence number.
                const TAG: usize = 4;
                self.continue_at::<TAG>()?;
            }
            ethertype::E_TAG | ethertype::MARVELL => {
                // Marvell: two reserved bytes, then the switch tag.
                const TAG: usize = 6;
                self.continue_at::<TAG>()?;
            }
            ethertype::FABRIC_PATH => {
                // Tree, 10 bits, and time to live, 6 bits.
                const TAG: usize = 2;
                self.span = self.span.skip(TAG)?;
                self.bridged()?;
            }
            ethertype::TRILL => self.trill()?,
            ethertype::MACSEC => self.secured()?,
            ethertype::REALTEK => self.realtek()?,
            ethertype::ARISTA => self.arista()?,
            ethertype::CISCO_METADATA => {
                // Version, length, option, tag.
                const METADATA: usize = 6;
                self.continue_at::<METADATA>()?;
            }
            ethertype::MPLS | ethertype::MPLS_UPSTREAM => self.mpls()?,
            ethertype::PPPOE_SESSION => {
                (self.kind, self.span) = ppp::session(self.span)?;
            }
            ethertype::PPP => {
                (self.kind, self.span) = ppp::frame(self.span)?;
            }
            ethertype::BRIDGED => self.bridged()?,
            ethertype::NSH => self.service_header()?,
            0..=LONGEST_LENGTH => self.logical_link()?,
            _ => return Err(Skip::NotIp),
        }
        Ok(None)
    }

    /// Continue with the EtherType at offset `AT` and its payload directly behind.
    fn continue_at<const AT: usize>(&mut self) -> Result<(), Skip> {
        self.kind = u16::from_be_bytes(*self.span.at(AT)?);
        self.span = self.span.skip(AT + 2)?;
        Ok(())
    }

    /// Open an 802.1Q tag or a related tag; the first two VIDs are kept.
    fn vlan_tag(&mut self) -> Result<(), Skip> {
        const CONTROL: usize = 0;
        const VID_MASK: u16 = 0x0fff;
        let vid = self.span.head::<4>()?.be16::<CONTROL>() & VID_MASK;
        match (vid, self.vlan) {
            // A priority without a VLAN (802.1Q section 9.6).
            (0, _) => {}
            (_, Vlan { outer: 0, .. }) => self.vlan.outer = vid + 1,
            (_, Vlan { inner: 0, .. }) => self.vlan.inner = vid + 1,
            _ => {}
        }
        self.continue_at::<2>()
    }

    /// Open an 802.1ah header: an I-TAG, then the customer's frame.
    fn backbone(&mut self) -> Result<(), Skip> {
        const I_TAG: usize = 4;
        self.span = self.span.skip(I_TAG)?;
        self.bridged()
    }

    /// Open a TRILL header (RFC 6325 section 3.2): options in words, then the customer's frame.
    fn trill(&mut self) -> Result<(), Skip> {
        const OPTIONS: usize = 0;
        const OPTIONS_MASK: u16 = 0x07c0;
        const SIZE: usize = 6;
        let words = (self.span.head::<SIZE>()?.be16::<OPTIONS>() & OPTIONS_MASK) >> 6;
        self.span = self.span.skip(SIZE + usize::from(words) * 4)?;
        self.bridged()
    }

    /// Open a MACsec tag (IEEE 802.1AE section 9.3) without encryption. The trailing integrity check value lies behind
    /// the IP packet.
    fn secured(&mut self) -> Result<(), Skip> {
        const CONTROL: usize = 0;
        const HAS_CHANNEL: u8 = 0x20;
        /// E and C: encrypted, or changed by the cipher.
        const CHANGED: u8 = 0x0c;
        let control = self.span.head::<6>()?.byte::<CONTROL>();
        if control & CHANGED != 0 {
            return Err(Skip::Encrypted);
        }
        if control & HAS_CHANNEL == 0 { self.continue_at::<6>() } else { self.continue_at::<14>() }
    }

    /// Open a Realtek switch tag (Linux, `net/dsa/tag_rtl4_a.c` and `tag_rtl8_4.c`); other protocols share the
    /// EtherType.
    fn realtek(&mut self) -> Result<(), Skip> {
        const RTL4_A: u8 = 0xa0;
        const RTL8_4: u8 = 0x04;
        match self.span.head::<1>()?.byte::<0>() {
            RTL8_4 => self.continue_at::<6>(),
            protocol if protocol & 0xf0 == RTL4_A => self.continue_at::<2>(),
            _ => Err(Skip::NotIp),
        }
    }

    /// Open an Arista header with a time (tcpdump, `print-arista.c`): subtype, version, and 64 or 48 bits.
    fn arista(&mut self) -> Result<(), Skip> {
        const SUBTYPE: usize = 0;
        const VERSION: usize = 2;
        const TIME: u16 = 1;
        let header = self.span.head::<4>()?;
        match (header.be16::<SUBTYPE>(), header.be16::<VERSION>()) {
            (TIME, 0x0010 | 0x0110) => self.continue_at::<12>(),
            (TIME, 0x0020 | 0x0120) => self.continue_at::<10>(),
            _ => Err(Skip::NotIp),
        }
    }

    /// Open a whole Ethernet frame.
    fn bridged(&mut self) -> Result<(), Skip> {
        self.to_group = self.span.head::<1>()?.byte::<{ field::DST }>() & GROUP_BIT != 0;
        self.continue_at::<{ field::ETHERTYPE }>()
    }

    /// Open a network service header (RFC 8300 section 2.2): length in words and next protocol.
    fn service_header(&mut self) -> Result<(), Skip> {
        const LENGTH: usize = 1;
        const LENGTH_MASK: u8 = 0x3f;
        const NEXT_PROTOCOL: usize = 3;
        const SIZE: usize = 8;
        let header = self.span.head::<SIZE>()?;
        self.kind = match header.byte::<NEXT_PROTOCOL>() {
            1 => ethertype::IPV4,
            2 => ethertype::IPV6,
            3 => ethertype::BRIDGED,
            4 => ethertype::NSH,
            5 => ethertype::MPLS,
            _ => return Err(Skip::NotIp),
        };
        self.span = self.span.skip(SIZE.max(usize::from(header.byte::<LENGTH>() & LENGTH_MASK) * 4))?;
        Ok(())
    }

    /// Open a label stack (RFC 3032), which does not name its payload; the first nibble decides (RFC 4928).
    fn mpls(&mut self) -> Result<(), Skip> {
        const BOTTOM: u32 = 0x100;
        const MOST_LABELS: usize = 32;
        for _ in 0..MOST_LABELS {
            let label = self.span.head::<4>()?.be32::<0>();
            self.span = self.span.skip(4)?;
            if label & BOTTOM == 0 {
                continue;
            }
            match self.span.head::<1>()?.byte::<0>() >> 4 {
                4 => self.kind = ethertype::IPV4,
                6 => self.kind = ethertype::IPV6,
                nibble => self.pseudowire(nibble)?,
            }
            return Ok(());
        }
        Err(Skip::TooDeep)
    }

    /// Open an Ethernet pseudowire (RFC 4448). The control word is optional and begins with a zero nibble, as most
    /// MAC addresses do. The position of a known EtherType decides.
    fn pseudowire(&mut self, nibble: u8) -> Result<(), Skip> {
        const CONTROL_WORD: usize = 4;
        self.span.head::<{ CONTROL_WORD + field::SIZE }>()?;
        let known_at = |at: usize| self.span.at(at).is_ok_and(|kind| is_known(u16::from_be_bytes(*kind)));
        if nibble == 0 && known_at(CONTROL_WORD + field::ETHERTYPE) {
            self.span = self.span.skip(CONTROL_WORD)?;
        } else if !known_at(field::ETHERTYPE) {
            return Err(Skip::NotIp);
        }
        self.bridged()
    }

    /// Open LLC (IEEE 802.2) and SNAP (RFC 1042).
    fn logical_link(&mut self) -> Result<(), Skip> {
        const SNAP: [u8; 3] = [0xaa, 0xaa, 0x03];
        const IP: [u8; 3] = [0x06, 0x06, 0x03];
        /// Routed ISO protocols (RFC 2684 section 5.1).
        const ROUTED: [u8; 3] = [0xfe, 0xfe, 0x03];
        const RFC_1042: [u8; 3] = [0, 0, 0];
        /// SNAP code of 802.1H, for protocols that bridges must distinguish.
        const BRIDGE_TUNNEL: [u8; 3] = [0, 0, 0xf8];
        /// Bridged Ethernet (RFC 2684 section 5.2), with and without a frame check sequence, behind two bytes of
        /// padding.
        const BRIDGED: [u8; 4] = [0, 0x80, 0xc2, 0];
        match *self.span.head::<3>()? {
            SNAP if matches!(*self.span.at::<3>(3)?, RFC_1042 | BRIDGE_TUNNEL) => {
                self.continue_at::<6>()?;
                // A length here would announce a second LLC header, which is invalid.
                if self.kind <= LONGEST_LENGTH { Err(Skip::NotIp) } else { Ok(()) }
            }
            SNAP if *self.span.at::<4>(3)? == BRIDGED && matches!(self.span.at::<1>(7)?, [1 | 7]) => {
                const BEFORE_FRAME: usize = 10;
                self.span = self.span.skip(BEFORE_FRAME)?;
                self.bridged()
            }
            ROUTED => {
                (self.kind, self.span) = ppp::network_layer(self.span.skip(ROUTED.len())?)?;
                Ok(())
            }
            IP => {
                self.kind = ethertype::IPV4;
                self.span = self.span.skip(IP.len())?;
                Ok(())
            }
            _ => Err(Skip::NotIp),
        }
    }
}

/// True for plausible EtherTypes of a customer's frame in a pseudowire.
fn is_known(kind: u16) -> bool {
    matches!(
        kind,
        ethertype::IPV4
            | ethertype::IPV6
            | ethertype::ARP
            | ethertype::CUSTOMER_VLAN
            | ethertype::SERVICE_VLAN
            | ethertype::OLD_VLAN
            | ethertype::OLDER_VLAN
            | ethertype::MPLS
            | ethertype::PPPOE_SESSION
    )
}
