//! LINKTYPE_ numbers and names, as registered at <https://www.tcpdump.org/linktypes.html>.

/// A LINKTYPE_ number: what the first byte of a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback, address family in host byte order.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
}
