//! Policy: groups of addresses, rules, and the decision on a connection.
//!
//! A new connection passes if the groups of the originator allow the connection as egress and those of the responder
//! as ingress. A group without a rule for a direction follows its default. An address belongs to the groups with the
//! longest member prefix that contains the address; an address in no group is outside and unrestricted. [`Combine`] says
//! how several groups of one address decide.

mod bits;
mod rule;
mod services;

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use crate::direction::Ranges;
use crate::flow::icmp::is_icmp;
use conntrack_decode::FiveTuple;

use bits::Rows;
use services::Services;

pub use rule::{Group, Peer, Rule, Way};

/// The way in which several groups of one address decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combine {
    /// Every group has to allow the connection.
    #[default]
    All,
    /// The groups add up, as in Kubernetes and AWS: one has to allow the connection. A group whose direction is open
    /// counts only where the direction of all groups is open.
    Any,
}

/// The decision of the groups of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndDecision {
    /// The deciding group: that of the rule, or the one that refuses; None: the address is in no group.
    pub group: Option<u32>,
    /// The decision.
    pub rule: Ruling,
}

/// The decision of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// No rule applies: there is no group, or its way is open.
    Free,
    /// Allowed by this rule.
    By(u32),
    /// Allowed by no rule.
    Refused,
}

/// The decision of a policy on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The groups of the responder.
    pub ingress: EndDecision,
    /// The groups of the originator.
    pub egress: EndDecision,
}

impl Decision {
    /// Test whether both ends allow the connection.
    pub fn passes(&self) -> bool {
        self.ingress.rule != Ruling::Refused && self.egress.rule != Ruling::Refused
    }
}

/// A compiled policy. Rules are numbered group by group, ingress before egress.
///
/// Addresses are in classes: addresses of one class share groups and are peers of equal rules. A rule is a bit. The
/// first common bit of three rows (the peer's class, the service, the rules of the group) is the first match.
pub struct Policy {
    classes: Ranges<u32>,
    /// The groups of each class.
    groups: Vec<Vec<u32>>,
    /// The rules whose peers have the addresses of each class.
    peers: Rows,
    services: Services,
    /// The range of each group's rule numbers, by way.
    numbers: Vec<[(u32, u32); 2]>,
    open: Vec<[bool; 2]>,
    combine: Combine,
}

impl Policy {
    /// The most rules of a policy: tables grow with the square of the number.
    pub const MOST_RULES: usize = 20_000;

    /// Compile groups and their rules.
    pub fn new(groups: &[Group], combine: Combine) -> Self {
        let rules: Vec<&Rule> = groups.iter().flat_map(|group| group.rules.iter().flatten()).collect();
        let mut numbers = Vec::with_capacity(groups.len());
        let mut next = 0;
        for group in groups {
            numbers.push([0, 1].map(|way: usize| {
                let first = next;
                next += group.rules[way].len() as u32;
                (first, next)
            }));
        }
        let members = members(groups);
        let (everybody, named, networks) = peers_of(&rules, groups.len());
        let mut known: HashMap<(Vec<u32>, Vec<u64>), u32> = HashMap::new();
        let (mut in_groups, mut peers) = (Vec::new(), Rows::new(rules.len()));
        let borders: Vec<_> = members.keys().chain(networks.keys()).collect();
        let classes = Ranges::of(borders.into_iter(), |addr| {
            let host = IpNet::from(addr);
            let own = members.get_lpm(&host).map_or_else(Vec::new, |(_, groups)| groups.clone());
            let of_groups = own.iter().filter_map(|group| named.get(*group as usize)).flatten();
            let of_networks = networks.cover_values(&host).flatten();
            let row = peers.row(everybody.iter().chain(of_groups).chain(of_networks).copied());
            *known.entry((own, row)).or_insert_with_key(|(own, row)| {
                in_groups.push(own.clone());
                peers.push(row)
            })
        });
        let services = Services::new(&rules);
        let open = groups.iter().map(|group| [0, 1].map(|way: usize| group.open[way] && group.rules[way].is_empty()));
        Self { classes, groups: in_groups, peers, services, numbers, open: open.collect(), combine }
    }

    /// The number of rules.
    pub fn rules(&self) -> usize {
        self.numbers.last().map_or(0, |[_, (_, next)]| *next as usize)
    }

    /// The groups of an address, by number.
    pub fn groups_of(&self, addr: IpAddr) -> &[u32] {
        &self.groups[self.classes.find(addr) as usize]
    }

    /// Decide on a connection. `service`: the responder's port, or the ICMP query type; 0 without either.
    #[inline]
    pub fn decide(&self, [orig, resp]: [IpAddr; 2], proto: u8, service: u16) -> Decision {
        let (orig, resp) = (self.classes.find(orig), self.classes.find(resp));
        let services = self.services.row(proto, service);
        Decision {
            ingress: self.ask(resp, Way::Ingress, orig, services, |_, _| {}),
            egress: self.ask(orig, Way::Egress, resp, services, |_, _| {}),
        }
    }

    /// Test whether a gateway would let this packet open an entry.
    #[inline]
    pub fn passes(&self, tuple: &FiveTuple) -> bool {
        let ends = [tuple.src, tuple.dst].map(|addr| addr.ip(tuple.family));
        self.decide(ends, tuple.proto, if is_icmp(tuple.proto) { tuple.sport } else { tuple.dport }).passes()
    }

    /// Call `used` with every rule that allows a connection: one for each group with a decision.
    pub fn used(&self, [orig, resp]: [IpAddr; 2], proto: u8, service: u16, mut used: impl FnMut(u32)) {
        let (orig, resp) = (self.classes.find(orig), self.classes.find(resp));
        let services = self.services.row(proto, service);
        for (own, way, peer) in [(resp, Way::Ingress, orig), (orig, Way::Egress, resp)] {
            self.ask(own, way, peer, services, |_, rule| used(rule));
        }
    }

    /// The decision of the groups of one end: of `All` the first that refuses, of `Any` the first that allows by a rule
    /// or else the first that refuses; where none of these is, the first group. `on_rule` is called with every rule.
    #[inline]
    fn ask(&self, own: u32, way: Way, peer: u32, services: &[u64], mut on_rule: impl FnMut(u32, u32)) -> EndDecision {
        let mut word = EndDecision { group: None, rule: Ruling::Free };
        for group in &self.groups[own as usize] {
            let rule = self.rule(*group, way, peer, services);
            if let Ruling::By(rule) = rule {
                on_rule(*group, rule);
            }
            let decides = match (self.combine, rule) {
                (Combine::All, Ruling::Refused) => return EndDecision { group: Some(*group), rule },
                (Combine::Any, Ruling::By(_)) => !matches!(word.rule, Ruling::By(_)),
                (Combine::Any, Ruling::Refused) => word.rule == Ruling::Free,
                _ => false,
            };
            if word.group.is_none() || decides {
                word = EndDecision { group: Some(*group), rule };
            }
        }
        word
    }

    #[inline]
    fn rule(&self, group: u32, way: Way, peer: u32, services: &[u64]) -> Ruling {
        let (first, next) = self.numbers[group as usize][way as usize];
        if self.open[group as usize][way as usize] {
            return Ruling::Free;
        }
        bits::first_of_both(self.peers.get(peer), services, first, next).map_or(Ruling::Refused, Ruling::By)
    }
}

/// The groups that name a network.
fn members(groups: &[Group]) -> JointPrefixMap<IpNet, Vec<u32>> {
    let mut members = JointPrefixMap::<IpNet, Vec<u32>>::new();
    for (group, number) in groups.iter().zip(0..) {
        for net in &group.members {
            let named = members.entry(net.trunc()).or_default();
            if named.last() != Some(&number) {
                named.push(number);
            }
        }
    }
    members
}

/// The rules by peer: everybody, each group, and each network.
#[expect(clippy::type_complexity, reason = "three of a kind")]
fn peers_of(rules: &[&Rule], groups: usize) -> (Vec<usize>, Vec<Vec<usize>>, JointPrefixMap<IpNet, Vec<usize>>) {
    let (mut everybody, mut named, mut networks) = (Vec::new(), vec![Vec::new(); groups], JointPrefixMap::new());
    for (rule, number) in rules.iter().zip(0..) {
        for peer in &rule.peers {
            match peer {
                Peer::Any => everybody.push(number),
                Peer::Group(group) => named[*group].push(number),
                Peer::Network(net) => networks.entry(net.trunc()).or_insert_with(Vec::new).push(number),
            }
        }
    }
    (everybody, named, networks)
}

#[cfg(test)]
mod tests;
