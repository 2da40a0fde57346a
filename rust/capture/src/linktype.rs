//! LINKTYPE_ numbers and names, as registered at <https://www.tcpdump.org/linktypes.html>.

/// LINKTYPE_ number: type of a packet's outermost header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: 4 bytes of address family in the byte order of the capturing host.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// IEEE 802.5 Token Ring.
    pub const IEEE802_5: Self = Self(6);
    /// ARCNET as BSD captures it.
    pub const ARCNET_BSD: Self = Self(7);
    /// SLIP with a 16-byte header of direction and connection.
    pub const SLIP: Self = Self(8);
    /// PPP, with or without the HDLC address and control bytes.
    pub const PPP: Self = Self(9);
    /// FDDI.
    pub const FDDI: Self = Self(10);
    /// PPP in HDLC-like framing (RFC 1662), or Cisco HDLC.
    pub const PPP_HDLC: Self = Self(50);
    /// PPPoE from the session header on (RFC 2516).
    pub const PPP_ETHER: Self = Self(51);
    /// Symantec Enterprise Firewall.
    pub const SYMANTEC_FIREWALL: Self = Self(99);
    /// ATM adaptation layer 5 with the encapsulation of RFC 2684, which replaced RFC 1483.
    pub const ATM_RFC1483: Self = Self(100);
    /// An IPv4 or IPv6 packet without a link layer; the first nibble is the version.
    pub const RAW: Self = Self(101);
    /// Cisco PPP with HDLC framing (RFC 1547, 4.3.1).
    pub const C_HDLC: Self = Self(104);
    /// IEEE 802.11.
    pub const IEEE802_11: Self = Self(105);
    /// Classical IP over ATM in Linux.
    pub const ATM_CLIP: Self = Self(106);
    /// Frame Relay (Q.922).
    pub const FRELAY: Self = Self(107);
    /// OpenBSD loopback: 4 bytes of address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// OpenBSD encapsulated IP.
    pub const ENC: Self = Self(109);
    /// LAN emulation over ATM in Linux.
    pub const LANE8023: Self = Self(110);
    /// Linux cooked capture, version 1.
    pub const LINUX_SLL: Self = Self(113);
    /// OpenBSD pflog.
    pub const PFLOG: Self = Self(117);
    /// IEEE 802.11 behind a Prism monitor header.
    pub const IEEE802_11_PRISM: Self = Self(119);
    /// IP over Fibre Channel (RFC 2625).
    pub const IP_OVER_FC: Self = Self(122);
    /// ATM as Solaris captures it.
    pub const SUNATM: Self = Self(123);
    /// IEEE 802.11 behind a radiotap header.
    pub const IEEE802_11_RADIOTAP: Self = Self(127);
    /// ARCNET as Linux captures it.
    pub const ARCNET_LINUX: Self = Self(129);
    /// Juniper multilink PPP.
    pub const JUNIPER_MLPPP: Self = Self(130);
    /// Juniper multilink frame relay (FRF.15).
    pub const JUNIPER_MLFR: Self = Self(131);
    /// Juniper GGSN.
    pub const JUNIPER_GGSN: Self = Self(133);
    /// Juniper multilink frame relay (FRF.16).
    pub const JUNIPER_MFR: Self = Self(134);
    /// Juniper ATM2 card.
    pub const JUNIPER_ATM2: Self = Self(135);
    /// Juniper ATM1 card.
    pub const JUNIPER_ATM1: Self = Self(137);
    /// IP over FireWire on Darwin.
    pub const APPLE_IP_OVER_IEEE1394: Self = Self(138);
    /// IEEE 802.11 behind an AVS header.
    pub const IEEE802_11_AVS: Self = Self(163);
    /// PPP with a direction byte in place of the HDLC address.
    pub const PPP_PPPD: Self = Self(166);
    /// Juniper PPPoE card.
    pub const JUNIPER_PPPOE: Self = Self(167);
    /// Juniper PPPoE over ATM.
    pub const JUNIPER_PPPOE_ATM: Self = Self(168);
    /// Juniper Ethernet.
    pub const JUNIPER_ETHER: Self = Self(178);
    /// Juniper PPP.
    pub const JUNIPER_PPP: Self = Self(179);
    /// Juniper Frame Relay.
    pub const JUNIPER_FRELAY: Self = Self(180);
    /// Juniper Cisco HDLC.
    pub const JUNIPER_CHDLC: Self = Self(181);
    /// Multilink frame relay (FRF.16).
    pub const MFR: Self = Self(182);
    /// Per-packet information, a wrapper that names another link type.
    pub const PPI: Self = Self(192);
    /// Endace's extensible record format.
    pub const ERF: Self = Self(197);
    /// PPP behind a direction byte.
    pub const PPP_WITH_DIR: Self = Self(204);
    /// Cisco HDLC behind a direction byte.
    pub const C_HDLC_WITH_DIR: Self = Self(205);
    /// Frame Relay behind a direction byte.
    pub const FRELAY_WITH_DIR: Self = Self(206);
    /// MPLS, beginning with a label stack.
    pub const MPLS: Self = Self(219);
    /// Solaris ipnet.
    pub const IPNET: Self = Self(226);
    /// IPv4 without a link layer.
    pub const IPV4: Self = Self(228);
    /// IPv6 without a link layer.
    pub const IPV6: Self = Self(229);
    /// Linux netfilter log messages.
    pub const NFLOG: Self = Self(239);
    /// Ethernet behind a netANALYZER header.
    pub const NETANALYZER: Self = Self(240);
    /// Ethernet behind a netANALYZER header, preamble and start of frame.
    pub const NETANALYZER_TRANSPARENT: Self = Self(241);
    /// IP over InfiniBand (RFC 4391).
    pub const IPOIB: Self = Self(242);
    /// Apple PKTAP, a wrapper that names another link type.
    pub const PKTAP: Self = Self(258);
    /// Ethernet behind a preamble, of frames that may be interrupted (802.3br).
    pub const ETHERNET_MPACKET: Self = Self(274);
    /// Linux cooked capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
    /// Ethernet with a Broadcom switch tag behind the addresses.
    pub const DSA_TAG_BRCM: Self = Self(281);
    /// Ethernet behind a Broadcom switch tag.
    pub const DSA_TAG_BRCM_PREPEND: Self = Self(282);
    /// Ethernet with a Marvell switch tag behind the addresses.
    pub const DSA_TAG_DSA: Self = Self(284);
    /// Ethernet with a Marvell switch tag and its EtherType.
    pub const DSA_TAG_EDSA: Self = Self(285);

    /// Decode the link type field of a file header. A pcap header has the length of the frame check sequence in the
    /// upper 16 bits. System-specific numbers of raw IP (`DLT_RAW` 12, and 14 on OpenBSD) become [`Self::RAW`].
    pub fn from_header(field: u32) -> Self {
        match field as u16 {
            12 | 14 => Self::RAW,
            number => Self(number),
        }
    }

    /// Registered name without `LINKTYPE_`; `unknown` for unregistered numbers.
    pub fn name(self) -> &'static str {
        NAMES.binary_search_by_key(&self.0, |&(number, _)| number).map_or("unknown", |i| NAMES[i].1)
    }
}

/// The registry, in numeric order.
const NAMES: &[(u16, &str)] = &[
    (0, "NULL"),
    (1, "ETHERNET"),
    (2, "EXP_ETHERNET"),
    (3, "AX25"),
    (4, "PRONET"),
    (5, "CHAOS"),
    (6, "IEEE802_5"),
    (7, "ARCNET_BSD"),
    (8, "SLIP"),
    (9, "PPP"),
    (10, "FDDI"),
    (50, "PPP_HDLC"),
    (51, "PPP_ETHER"),
    (99, "SYMANTEC_FIREWALL"),
    (100, "ATM_RFC1483"),
    (101, "RAW"),
    (102, "SLIP_BSDOS"),
    (103, "PPP_BSDOS"),
    (104, "C_HDLC"),
    (105, "IEEE802_11"),
    (106, "ATM_CLIP"),
    (107, "FRELAY"),
    (108, "LOOP"),
    (109, "ENC"),
    (110, "LANE8023"),
    (111, "HIPPI"),
    (112, "NETBSD_HDLC"),
    (113, "LINUX_SLL"),
    (114, "LTALK"),
    (115, "ECONET"),
    (116, "IPFILTER"),
    (117, "PFLOG"),
    (118, "CISCO_IOS"),
    (119, "IEEE802_11_PRISM"),
    (120, "IEEE802_11_AIRONET"),
    (121, "HHDLC"),
    (122, "IP_OVER_FC"),
    (123, "SUNATM"),
    (124, "RIO"),
    (125, "PCI_EXP"),
    (126, "AURORA"),
    (127, "IEEE802_11_RADIOTAP"),
    (128, "TZSP"),
    (129, "ARCNET_LINUX"),
    (130, "JUNIPER_MLPPP"),
    (131, "JUNIPER_MLFR"),
    (132, "JUNIPER_ES"),
    (133, "JUNIPER_GGSN"),
    (134, "JUNIPER_MFR"),
    (135, "JUNIPER_ATM2"),
    (136, "JUNIPER_SERVICES"),
    (137, "JUNIPER_ATM1"),
    (138, "APPLE_IP_OVER_IEEE1394"),
    (139, "MTP2_WITH_PHDR"),
    (140, "MTP2"),
    (141, "MTP3"),
    (142, "SCCP"),
    (143, "DOCSIS"),
    (144, "LINUX_IRDA"),
    (145, "IBM_SP"),
    (146, "IBM_SN"),
    (147, "USER0"),
    (148, "USER1"),
    (149, "USER2"),
    (150, "USER3"),
    (151, "USER4"),
    (152, "USER5"),
    (153, "USER6"),
    (154, "USER7"),
    (155, "USER8"),
    (156, "USER9"),
    (157, "USER10"),
    (158, "USER11"),
    (159, "USER12"),
    (160, "USER13"),
    (161, "USER14"),
    (162, "USER15"),
    (163, "IEEE802_11_AVS"),
    (164, "JUNIPER_MONITOR"),
    (165, "BACNET_MS_TP"),
    (166, "PPP_PPPD"),
    (167, "JUNIPER_PPPOE"),
    (168, "JUNIPER_PPPOE_ATM"),
    (169, "GPRS_LLC"),
    (170, "GPF_T"),
    (171, "GPF_F"),
    (172, "GCOM_T1E1"),
    (173, "GCOM_SERIAL"),
    (174, "JUNIPER_PIC_PEER"),
    (175, "ERF_ETH"),
    (176, "ERF_POS"),
    (177, "LINUX_LAPD"),
    (178, "JUNIPER_ETHER"),
    (179, "JUNIPER_PPP"),
    (180, "JUNIPER_FRELAY"),
    (181, "JUNIPER_CHDLC"),
    (182, "MFR"),
    (183, "JUNIPER_VP"),
    (184, "A429"),
    (185, "A653_ICM"),
    (186, "USB_FREEBSD"),
    (187, "BLUETOOTH_HCI_H4"),
    (188, "IEEE802_16_MAC_CPS"),
    (189, "USB_LINUX"),
    (190, "CAN20B"),
    (191, "IEEE802_15_4_LINUX"),
    (192, "PPI"),
    (193, "IEEE802_16_MAC_CPS_RADIO"),
    (194, "JUNIPER_ISM"),
    (195, "IEEE802_15_4_WITHFCS"),
    (196, "SITA"),
    (197, "ERF"),
    (198, "RAIF1"),
    (199, "IPMB_KONTRON"),
    (200, "JUNIPER_ST"),
    (201, "BLUETOOTH_HCI_H4_WITH_PHDR"),
    (202, "AX25_KISS"),
    (203, "LAPD"),
    (204, "PPP_WITH_DIR"),
    (205, "C_HDLC_WITH_DIR"),
    (206, "FRELAY_WITH_DIR"),
    (207, "LAPB_WITH_DIR"),
    (209, "IPMB_LINUX"),
    (210, "FLEXRAY"),
    (211, "MOST"),
    (212, "LIN"),
    (213, "X2E_SERIAL"),
    (214, "X2E_XORAYA"),
    (215, "IEEE802_15_4_NONASK_PHY"),
    (216, "LINUX_EVDEV"),
    (217, "GSMTAP_UM"),
    (218, "GSMTAP_ABIS"),
    (219, "MPLS"),
    (220, "USB_LINUX_MMAPPED"),
    (221, "DECT"),
    (222, "AOS"),
    (223, "WIHART"),
    (224, "FC_2"),
    (225, "FC_2_WITH_FRAME_DELIMS"),
    (226, "IPNET"),
    (227, "CAN_SOCKETCAN"),
    (228, "IPV4"),
    (229, "IPV6"),
    (230, "IEEE802_15_4_NOFCS"),
    (231, "DBUS"),
    (232, "JUNIPER_VS"),
    (233, "JUNIPER_SRX_E2E"),
    (234, "JUNIPER_FIBRECHANNEL"),
    (235, "DVB_CI"),
    (236, "MUX27010"),
    (237, "STANAG_5066_D_PDU"),
    (238, "JUNIPER_ATM_CEMIC"),
    (239, "NFLOG"),
    (240, "NETANALYZER"),
    (241, "NETANALYZER_TRANSPARENT"),
    (242, "IPOIB"),
    (243, "MPEG_2_TS"),
    (244, "NG40"),
    (245, "NFC_LLCP"),
    (246, "PFSYNC"),
    (247, "INFINIBAND"),
    (248, "SCTP"),
    (249, "USBPCAP"),
    (250, "RTAC_SERIAL"),
    (251, "BLUETOOTH_LE_LL"),
    (252, "WIRESHARK_UPPER_PDU"),
    (253, "NETLINK"),
    (254, "BLUETOOTH_LINUX_MONITOR"),
    (255, "BLUETOOTH_BREDR_BB"),
    (256, "BLUETOOTH_LE_LL_WITH_PHDR"),
    (257, "PROFIBUS_DL"),
    (258, "PKTAP"),
    (259, "EPON"),
    (260, "IPMI_HPM_2"),
    (261, "ZWAVE_R1_R2"),
    (262, "ZWAVE_R3"),
    (263, "WATTSTOPPER_DLM"),
    (264, "ISO_14443"),
    (265, "RDS"),
    (266, "USB_DARWIN"),
    (267, "OPENFLOW"),
    (268, "SDLC"),
    (269, "TI_LLN_SNIFFER"),
    (270, "LORATAP"),
    (271, "VSOCK"),
    (272, "NORDIC_BLE"),
    (273, "DOCSIS31_XRA31"),
    (274, "ETHERNET_MPACKET"),
    (275, "DISPLAYPORT_AUX"),
    (276, "LINUX_SLL2"),
    (277, "SERCOS_MONITOR"),
    (278, "OPENVIZSLA"),
    (279, "EBHSCR"),
    (280, "VPP_DISPATCH"),
    (281, "DSA_TAG_BRCM"),
    (282, "DSA_TAG_BRCM_PREPEND"),
    (283, "IEEE802_15_4_TAP"),
    (284, "DSA_TAG_DSA"),
    (285, "DSA_TAG_EDSA"),
    (286, "ELEE"),
    (287, "Z_WAVE_SERIAL"),
    (288, "USB_2_0"),
    (289, "ATSC_ALP"),
    (290, "ETW"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(LinkType::ETHERNET.name(), "ETHERNET");
        assert_eq!(LinkType(162).name(), "USER15");
        assert_eq!(LinkType(276).name(), "LINUX_SLL2");
        assert_eq!(LinkType(11).name(), "unknown");
        assert_eq!(LinkType(u16::MAX).name(), "unknown");
    }

    #[test]
    fn header_field() {
        assert_eq!(LinkType::from_header(0x5400_0001), LinkType::ETHERNET);
        assert_eq!(LinkType::from_header(12), LinkType::RAW);
        assert_eq!(LinkType::from_header(14), LinkType::RAW);
        assert_eq!(LinkType::from_header(101), LinkType::RAW);
    }
}
