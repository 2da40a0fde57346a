//! Rules and groups as passed by the caller.

use ipnet::IpNet;

/// The peer of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Any address.
    Any,
    /// The members of the group with this number.
    Group(usize),
    /// The addresses of a network.
    Network(IpNet),
}

/// A rule: peers, protocol and services that may be initiated.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The peers, in any of these.
    pub peers: Vec<Peer>,
    /// IP protocol; None: any.
    pub proto: Option<u8>,
    /// The responder's ports, or the ICMP query types, as first and last of ranges; empty: all.
    pub services: Vec<(u16, u16)>,
}

/// The two directions of rules, seen from the members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Way {
    /// Peers initiate connections to members.
    Ingress = 0,
    /// Members initiate connections.
    Egress = 1,
}

/// Addresses with common rules.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Networks.
    pub members: Vec<IpNet>,
    /// The rules of each [`Way`].
    pub rules: [Vec<Rule>; 2],
    /// The default of each [`Way`] without a rule: open or refused.
    pub open: [bool; 2],
}
