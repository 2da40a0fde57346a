//! EtherTypes, as registered with the IEEE.

/// IPv4.
pub(super) const IPV4: u16 = 0x0800;
/// IPv6.
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const ARP: u16 = 0x0806;
/// 802.1Q.
pub(super) const CUSTOMER_VLAN: u16 = 0x8100;
/// 802.1ad.
pub(super) const SERVICE_VLAN: u16 = 0x88a8;
/// Service tags from before 802.1ad.
pub(super) const OLD_VLAN: u16 = 0x9100;
/// Older service tags from before 802.1ad.
pub(super) const OLDER_VLAN: u16 = 0x9200;
/// 802.1ah, provider backbone bridges.
pub(super) const BACKBONE: u16 = 0x88e7;
/// Cisco VN-Tag, the predecessor of 802.1BR.
pub(super) const VN_TAG: u16 = 0x8926;
/// Cisco MetaData (TrustSec security group tags).
pub(super) const CISCO_METADATA: u16 = 0x8909;
/// Cisco FabricPath: a whole Ethernet frame behind a second header.
pub(super) const FABRIC_PATH: u16 = 0x8903;
/// TRILL, RFC 6325.
pub(super) const TRILL: u16 = 0x22f3;
/// HSR, IEC 62439-3.
pub(super) const HSR: u16 = 0x892f;
/// Redundancy tag of 802.1CB.
pub(super) const REDUNDANCY: u16 = 0xf1c1;
/// E-TAG of 802.1BR.
pub(super) const E_TAG: u16 = 0x893f;
/// MACsec, IEEE 802.1AE.
pub(super) const MACSEC: u16 = 0x88e5;
/// Realtek switch tags.
pub(super) const REALTEK: u16 = 0x8899;
/// Marvell switch tags with an EtherType.
pub(super) const MARVELL: u16 = 0xdada;
/// Arista vendor header; subtype 1 has a time.
pub(super) const ARISTA: u16 = 0xd28b;
pub(super) const MPLS: u16 = 0x8847;
/// MPLS with an upstream-assigned label (RFC 5332).
pub(super) const MPLS_UPSTREAM: u16 = 0x8848;
pub(super) const PPPOE_SESSION: u16 = 0x8864;
/// PPP in GRE (RFC 2637).
pub(super) const PPP: u16 = 0x880b;
/// Transparent Ethernet bridging, in GRE and GENEVE.
pub(super) const BRIDGED: u16 = 0x6558;
/// Network service header, RFC 8300.
pub(super) const NSH: u16 = 0x894f;
/// Linux pseudo-EtherType of a frame that begins with its LLC header.
pub(super) const LINUX_LLC: u16 = 0x0004;
/// Linux pseudo-EtherType of a whole Ethernet frame in cooked captures.
pub(super) const LINUX_ALL: u16 = 0x0003;
/// Linux pseudo-EtherType of a PPP frame.
pub(super) const LINUX_PPP: u16 = 0x0007;
