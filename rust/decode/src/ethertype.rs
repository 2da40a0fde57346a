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
