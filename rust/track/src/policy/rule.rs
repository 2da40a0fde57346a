//! Rules and groups as they are handed over.

use ipnet::IpNet;

/// The other end of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Everybody.
    Any,
    /// The members of the group of this number.
    Group(usize),
    /// The addresses of a network.
    Network(IpNet),
}

/// Who may initiate what.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The other end: any of these.
    pub peers: Vec<Peer>,
    /// IP protocol; None: any.
    pub proto: Option<u8>,
    /// The responder's ports, or the ICMP types that ask, as first and last of ranges; none: all.
    pub services: Vec<(u16, u16)>,
}

/// The two directions of rules, seen from the members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Way {
    /// Others initiate towards them.
    Ingress = 0,
    /// They initiate.
    Egress = 1,
}

/// Addresses to which the same rules apply.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Networks.
    pub members: Vec<IpNet>,
    /// The rules of each [`Way`].
    pub rules: [Vec<Rule>; 2],
    /// A way without a rule is open.
    pub open: [bool; 2],
}
